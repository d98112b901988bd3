"""Benchmarks of intervals and of first events, on the shortest stream that there is."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import coverage, first_events
from benchmarks.suite.catalogue import STREAMS


def test_coverage_is_a_line_a_stream(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A share that is computed from another column than it says would pass for a good one."""
    assert coverage.main(["--only", "passengers", "--markdown", str(tmp_path / "table.md")]) == 0

    (line,) = capsys.readouterr().out.splitlines()
    assert "stream passengers" in line
    assert "events 144" in line
    head, _, row = (tmp_path / "table.md").read_text().splitlines()
    cells = dict(zip(head.split(" | "), row.split(" | "), strict=True))
    assert sum(float(cells[f"{name}, %"]) for name in ("inside", "below", "above")) == pytest.approx(100, abs=0.2)


def test_first_events_begin_with_nothing_at_each_place(capsys: pytest.CaptureFixture[str]) -> None:
    """By hand: the error of "last label" over the first 20 and 100 events, from two places."""
    table, found = STREAMS["passengers"].make(144, 0), []
    for at in (0, 44):
        ys = table.ys[at : at + 100]
        errors = np.abs(np.diff(ys, prepend=0.0))
        found.append([errors[:20].mean(), errors.mean()])

    errors = dict(first_events._errors(STREAMS["passengers"], 2))

    assert errors["last label"] == pytest.approx(np.mean(found, axis=0))
    assert first_events.main(["--only", "passengers", "--starts", "1"]) == 0
    assert "ahead of every peer, or equal, on" in capsys.readouterr().out
