"""The wide suite: what it runs on, and how it counts."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.prequential import read_rows
from benchmarks.suite.catalogue import STREAMS, chosen
from benchmarks.suite.page import page
from benchmarks.suite.ranking import errors_of, rank
from benchmarks.suite.results import Line, read, scores
from benchmarks.suite.table import Table, write


def test_every_family_is_in_both_halves_and_the_halves_are_of_one_size() -> None:
    """Or something would be tuned on streams of a kind that nothing judges."""
    halves = {family: {s.half for s in STREAMS.values() if s.family == family} for family in chosen_families()}
    assert halves == {family: {"tune", "judge"} for family in halves}
    assert len(chosen(["tune"])) == len(chosen(["judge"])) == len(STREAMS) / 2 >= 18


def chosen_families() -> set[str]:
    """Every family."""
    return {stream.family for stream in STREAMS.values()}


@pytest.mark.parametrize("name", [name for name, stream in STREAMS.items() if not stream.recorded])
def test_a_stream_is_the_same_again_for_a_seed_and_has_more_than_one_label(name: str) -> None:
    """A comparison whose parts run on different days must be on the same events."""
    first, again = (STREAMS[name].make(300, 3) for _ in range(2))
    np.testing.assert_array_equal(first.xs, again.xs)
    np.testing.assert_array_equal(first.ys, again.ys)
    assert first.tasks == again.tasks
    assert len(set(first.ys.tolist())) > 1
    assert np.isfinite(first.ys).all()


def test_what_is_written_is_what_runners_read(tmp_path: Path) -> None:
    """Missing values, categories and tasks reach every learner."""
    path = tmp_path / "stream.csv"
    table = Table(np.array([[1.5, 2.0], [np.nan, 0.0]]), np.array([1.0, 0.0]), ["a", "b"], ["size", "kind"], (1,))
    write(table, path)
    rows = read_rows(path)
    np.testing.assert_array_equal(rows.xs, table.xs)
    assert (rows.names, rows.categories, rows.tasks) == (["size", "kind"], (1,), ["a", "b"])


def test_a_chosen_name_that_is_not_there_is_refused_with_what_there_is() -> None:
    """A misspelt stream must not make an empty run that looks like a good one."""
    with pytest.raises(SystemExit, match=r"no stream, family or half called 'tres'.*trees"):
        chosen(["tres"])


def test_ranks_wins_and_regrets_are_those_of_a_table_worked_out_by_hand() -> None:
    """Mean ranks with ties, and the regret to the best other learner, which is below 0 where one is ahead."""
    errors = {"s": {"a": 1.0, "b": 2.0, "c": 2.0}, "t": {"a": 5.0, "b": 3.0, "c": 9.0}}
    found = rank(errors, relative=False)
    assert found is not None
    assert found.mean_ranks == {"a": 1.5, "b": 1.75, "c": 2.75}
    assert found.wins == {"a": 1, "b": 1, "c": 0}
    assert found.regrets["a"] == {"s": -1.0, "t": 2.0}
    # Demšar (2006), table 5: q = 2.343 for three classifiers; sqrt(3 · 4 / (6 · 2)) = 1
    assert found.critical == pytest.approx(2.343, abs=2e-3)


def test_the_best_wiring_of_a_peer_counts_and_seeds_are_averaged() -> None:
    """Peers must not lose by a wiring that a user would not choose."""
    lines = [
        Line("s", "peer", wiring, seed, 10, {"error": error})
        for wiring, seed, error in (("tag", 0, 4.0), ("tag", 1, 6.0), ("global", 0, 3.0), ("global", 1, 9.0))
    ]
    assert errors_of(lines) == {"s": {"peer": 5.0}}


def test_sureness_is_held_against_what_happened() -> None:
    """ECE and coverage against numbers that follow from how the predictions were drawn."""
    rng = np.random.default_rng(0)
    right = rng.random(20_000) < 0.7
    found = scores("classification", np.where(right, 1.0, 0.0), [1.0] * right.size, [0.9] * right.size)
    assert found["ece"] == pytest.approx(20, abs=1)
    values = scores("regression", rng.normal(size=20_000), [0.0] * 20_000, [1.0] * 20_000)
    assert [values[f"coverage {share}"] for share in (50, 90)] == [pytest.approx(50, abs=1.5), pytest.approx(90, abs=1)]


def test_events_that_a_learner_did_not_reach_count_as_wrong() -> None:
    """Whoever runs out of time must not be scored on the events it liked."""
    assert scores("classification", np.ones(4), [1.0, 1.0], [None, None])["error"] == 50.0


def test_a_run_is_taken_up_from_its_lines_though_the_last_was_cut_off(tmp_path: Path) -> None:
    """A comparison of hours must survive a crash."""
    path = tmp_path / "lines.jsonl"
    line = Line("sea", "streammeta", "native", 0, 10, {"error": 1.0}, 2.0)
    line.append(path)
    with path.open("a") as lines:
        lines.write('{"stream": "sea", "lea')
    assert read(path) == [line]


def test_the_page_has_ranks_errors_and_failures() -> None:
    """What failed is told, not left out."""
    lines = [
        Line("sea", name, "native", 0, 10, {"error": error}) for name, error in (("streammeta", 1.0), ("peer", 2.0))
    ]
    text = page([*lines, Line("sine", "peer", "global", 0, 10, problem="failed: out of memory")], "command")
    assert "| **streammeta** | 1.00 | 1 |" in text
    assert "- sine, peer (global): failed: out of memory" in text
