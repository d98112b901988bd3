"""Benchmarks of intervals, of first events and of decisions a second, on the shortest stream that there is."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import compression, coverage, decision_rate, extraction, federated, first_events, regret
from benchmarks.suite.catalogue import STREAMS
from streammeta.event import Event


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


@pytest.mark.parametrize(("rewards", "due"), [("late", 500), ("in turns", 512)])
def test_every_decision_of_the_rate_has_its_reward(rewards: decision_rate.Rewards, due: int) -> None:
    """A stream without rewards would be decided faster: each comes once, after its own event, for its task."""
    asked, seen = dict[str, str](), 0
    for one in decision_rate.stream(600, 7, rewards):
        if isinstance(one, Event):
            asked[str(one.id)] = one.task
        else:
            seen += 1
            assert asked.pop(one.id) == one.task

    assert (seen, len(asked)) == (due, 600 - due)


def test_rates_are_of_every_kind_of_stream(tmp_path: Path) -> None:
    """With the event, too, where a label says which action is right."""
    assert all(one.y is not None for one in decision_rate.stream(50, 7, "with the event"))
    assert decision_rate.main(["--quick", "--tasks", "5", "--json", str(tmp_path / "rates.json")]) == 0
    rates = json.loads((tmp_path / "rates.json").read_text())
    assert len(rates) == 9
    assert min(rates.values()) > 0


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


def test_what_extraction_costs_is_a_line_for_each_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes by hand: 16 a value of the longest window or lag, 32 a lag of what may be text."""
    assert extraction.main(["--quick", "--json", str(tmp_path / "found.json")]) == 0

    found = json.loads((tmp_path / "found.json").read_text())
    sizes = {name: one["bytes_a_task"] for name, one in found.items()}
    assert sizes["one lag"] == 16 + 32
    assert sizes["six of 10, of each of two"] == 2 * (16 * 10 + 32)
    assert sizes["six of 100"] == 16 * 100 + 32
    assert sizes["nothing"] == sizes["text, 64 numbers"] == 0
    assert found["nothing"]["us_beside"] == 0
    assert len(capsys.readouterr().out.splitlines()) == len(extraction.MADE)


def test_compression_compares_with_full_on_the_same_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By hand: heads of 6 features beside those of 16, and a window of 64 events beside 256, in memory."""
    given = ["--only", "passengers", "--events", "144", "--variants", "quarter", "--json", str(tmp_path / "found.json")]
    assert compression.main(given) == 0

    found = json.loads((tmp_path / "found.json").read_text())["passengers"]
    full, quarter = (dict(zip(compression.Found._fields, found[name], strict=True)) for name in ("full", "quarter"))
    sums = 4 * 16 * (17 * 18 // 2 + 17 * 2 - 7 * 8 // 2 - 7 * 2)  # A and B, of 16 lanes
    assert full["memory"] - quarter["memory"] > sums + 192 * (4 + 8)  # a feature and a target at least
    assert quarter["topic"] < full["topic"]
    stream, of_full, of_quarter = capsys.readouterr().out.splitlines()
    assert stream.startswith(f"passengers (judge, regression): error full {full['error']:.4f}, quarter ")
    assert of_full == "full, error of values × 1.000, time × 1.00, topic × 1.00, memory × 1.00"
    assert f"error of values × {quarter['error'] / full['error']:.3f}" in of_quarter


def test_a_private_way_stays_within_its_budget(tmp_path: Path) -> None:
    """A curve of accuracy against ε whose ε is not what was spent would be a lie."""
    pytest.importorskip("dp_accounting")

    assert federated.main(["--quick", "--json", str(tmp_path / "found.json")]) == 0

    nothing, episodes, updates, private = json.loads((tmp_path / "found.json").read_text())
    assert [one["epsilon"] for one in (nothing, episodes, updates)] == [None] * 3
    assert 0 < private["epsilon"] <= 50
    assert all(0 < one["wrong"] < 1 for one in (nothing, episodes, updates, private))
