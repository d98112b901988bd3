"""Benchmarks of intervals, of first events and of decisions a second, on the shortest stream that there is."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import coverage, decision_rate, first_events, regret
from benchmarks.suite.catalogue import STREAMS
from streammeta.event import Event, Label


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


def test_every_decision_of_the_rate_has_its_reward(tmp_path: Path) -> None:
    """A stream without rewards would be decided faster: each comes once, for its own event and task."""
    records = decision_rate.stream(300, tasks=7, late=20)
    asked = {one.id: one.task for one in records if isinstance(one, Event)}
    rewards = [one for one in records if isinstance(one, Label)]

    assert len(asked) == 300
    assert len(rewards) == 280
    assert all(asked.pop(one.id) == one.task for one in rewards)
    assert all(one.y is not None for one in decision_rate.stream(50, tasks=7, late=0))
    assert decision_rate.main(["--quick", "--tasks", "5", "--json", str(tmp_path / "rates.json")]) == 0
    assert min(json.loads((tmp_path / "rates.json").read_text()).values()) > 0


def test_regret_is_what_the_best_action_would_have_earned_more() -> None:
    """By hand: none where the best action is always taken, and of a fixed one the gap, without the noise."""
    world, learned = regret.World.draw(12, seed=0), list[float]()
    best = [[int(world.means(task, i).argmax()) for i in range(50)] for task in range(12)]
    gaps = [sum(world.means(task, i).max() - world.means(task, i)[2] for i in range(50)) for task in range(12)]

    none = regret.regrets(world, lambda tasks, i: [best[task][i] for task in tasks], lambda *_: None)
    fixed = regret.regrets(world, lambda tasks, _: [2] * len(tasks), lambda *given: learned.extend(given[3]))

    assert none.tolist() == [0.0] * 12
    assert fixed == pytest.approx(gaps)
    assert len(learned) == 12 * 50
