"""The table of drift detectors."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from benchmarks.detectors import main


def test_every_detector_asked_for_has_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A detector that cannot run must not vanish from the table."""
    out = tmp_path / "table.md"
    quick = ["--scenarios", "stagger", "--events", "400", "--seeds", "1", "--set", "concept_events=100"]

    with capture_logs():
        assert main([*quick, "--detectors", "none,page-hinkley", "--markdown", str(out)]) == 0

    lines = out.read_text().splitlines()
    assert lines[0].startswith("stagger: 400 events, ")
    assert [line.split(" | ")[0] for line in lines[4:]] == ["| none", "| page-hinkley"]
    none = lines[4].split(" | ")
    assert (none[1], none[4]) == ("0%", "0.00")
    assert out.read_text().strip() == capsys.readouterr().out.strip()
