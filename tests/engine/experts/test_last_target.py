"""The expert for targets that persist."""

from collections.abc import Callable
from contextlib import closing

import numpy as np
import numpy.typing as npt
import pytest

from streammeta.engine import Engine, EngineSettings
from streammeta.engine.columns import Columns
from streammeta.engine.experts.base import Case, Cases
from streammeta.engine.experts.last_target import LastTarget
from streammeta.engine.experts.mixture import Mixture
from streammeta.engine.partitioned import Renumbering
from streammeta.errors import SnapshotError
from streammeta.event import Event, Label, Origin
from streammeta.testing import check_expert
from tests.engine.experts.stopping import stopped

Doubles = npt.NDArray[np.float64]


def walk(n: int, seed: int) -> Doubles:
    return np.cumsum(np.random.default_rng(seed).normal(size=n))


def in_any_order(n: int, seed: int) -> Doubles:
    return np.random.default_rng(seed).normal(size=n)


def cases(ys: Doubles, tasks: int = 1) -> Cases:
    """Targets in turn, of these many tasks in turn, each predicted before it is learned."""
    n, rows = len(ys), np.arange(len(ys)) % tasks
    ones, nothing = np.ones(n), np.zeros((n, 0), np.float32)
    numbers, asked = np.zeros(n, np.int64), np.ones(n, np.bool_)
    return Cases(
        [f"t{row}" for row in rows],
        nothing,
        numbers,
        ys,
        asked,
        0 * ones,
        ones,
        rows,
        np.arange(n),
        np.full((n, 2), -1),
        np.zeros((n, 0), np.int64),
    )


def said(ys: Doubles, tasks: int = 1) -> Doubles:
    expert = LastTarget()
    return expert.run(Columns.blank(expert.layout(0, 1), tasks), cases(ys, tasks), 1)[:, 0]


def errors(ys: Doubles, experts: list[str], **x: Doubles) -> Doubles:
    """Absolute errors of an engine, with one feature that says nothing."""
    noise = np.random.default_rng(5).normal(size=len(ys))
    settings = EngineSettings.model_validate({"kind": "regression", "learner": {"experts": experts}})
    with closing(Engine(settings)) as engine:
        events = [
            Event({"noise": noise[i]} | {name: column[i] for name, column in x.items()}, "t", Origin("in", 0, i), y=y)
            for i, y in enumerate(ys.tolist())
        ]
        return np.array([outcome.error for outcome in engine.step(events)])


def test_it_keeps_the_contract_of_experts() -> None:
    check_expert(LastTarget, "regression")


def test_of_a_walk_it_says_the_last_target_and_of_targets_in_any_order_nothing() -> None:
    ys = walk(400, 0)
    opinions = said(ys)

    assert np.isnan(said(in_any_order(400, 0))).all()
    assert np.isnan(opinions[:5]).all()  # some five times nearer is the least that counts
    spoke = ~np.isnan(opinions)
    assert spoke[20:].mean() > 0.95
    np.testing.assert_array_equal(opinions[spoke], np.append(np.nan, ys[:-1])[spoke])


def test_what_it_learned_of_some_tasks_it_knows_of_one_that_begins() -> None:
    expert = LastTarget()
    columns = Columns.blank(expert.layout(0, 1), 4)
    expert.run(columns, cases(np.repeat(walk(100, 1), 3), tasks=3), 1)

    first, second = (
        expert.run(columns, cases(np.array([y]))._replace(rows=np.array([3])), 1)[0, 0] for y in (7.0, 8.0)
    )

    assert np.isnan(first)
    assert second == 7.0


@pytest.mark.parametrize("change", [lambda y: 1e6 * y, lambda y: 1e9 + y, lambda y: -1e-6 * y], ids=["×", "+", "−"])
def test_units_do_not_decide_when_it_speaks(change: Callable[[Doubles], Doubles]) -> None:
    ys = np.round(walk(300, 2), 3)  # so that they differ by more than 1e9 + y rounds away

    np.testing.assert_array_equal(np.isnan(said(change(ys))), np.isnan(said(ys)))


def test_one_absurd_target_does_not_silence_it() -> None:
    ys = walk(300, 3)
    ys[150] = 1e12

    assert (~np.isnan(said(ys)))[155:].mean() > 0.9


def test_a_run_is_the_same_as_its_events_one_by_one_and_as_one_cut_anywhere() -> None:
    ys, whole, parts = walk(200, 4), LastTarget(), LastTarget()
    of_whole, of_parts = (Columns.blank(whole.layout(0, 1), 3) for _ in range(2))
    every = cases(ys, tasks=3)

    found = whole.run(of_whole, every, 1)
    cut = [parts.run(of_parts, every.at(np.arange(a, b)), 1) for a, b in ((0, 1), (1, 80), (80, 81), (81, 200))]

    np.testing.assert_array_equal(found, np.concatenate(cut))
    np.testing.assert_array_equal(of_whole["last.target"], of_parts["last.target"])
    np.testing.assert_array_equal(whole.partition(0)["persistence.nearer"], parts.partition(0)["persistence.nearer"])


@pytest.mark.parametrize("experts", [["persistence"], ["forest", "persistence"]], ids="+".join)
def test_the_engine_is_better_with_it_on_a_walk_and_the_same_to_the_bit_on_targets_in_any_order(
    experts: list[str],
) -> None:
    others = [one for one in experts if one != "persistence"]
    ys = walk(600, 6)
    with_it, without = errors(ys, experts), errors(ys, others)
    naive = np.abs(np.diff(ys, prepend=0.0))

    assert with_it[100:].mean() < 0.9 * without[100:].mean()
    assert with_it[100:].mean() < 1.1 * naive[100:].mean()

    x = in_any_order(400, 7)
    np.testing.assert_array_equal(errors(3 * x + 1, experts, x=x), errors(3 * x + 1, others, x=x))


def test_late_labels_are_learned_in_turn_and_a_restore_goes_on_as_if_nothing_happened() -> None:
    ys = walk(300, 8)
    events = [Event({"a": float(i % 5)}, f"t{i % 2}", Origin("in", 0, i), id=str(i)) for i in range(300)]
    labels = [Label(str(i), ys[i], f"t{i % 2}", Origin("labels", 0, i)) for i in range(300)]
    turns = [one for i in range(300) for one in ([events[i]] if i < 3 else [events[i], labels[i - 3]])]
    settings = EngineSettings.model_validate({"kind": "regression"})
    expected, found = stopped(settings, turns, after=401)

    assert [one.error for one in found] == [one.error for one in expected]
    late = np.array([one.error for one in expected if one.error is not None])
    assert (
        late[50:].mean() < 1.1 * np.abs(ys[4:] - ys[:-4])[46:].mean()
    )  # the task's last target that was known by then


@pytest.mark.parametrize(
    "counts", [[3.0, 2.0], [-1.0, 2.0], [0.0, np.inf], [np.nan, 1.0], [1.0], [1.0, 2.0, 3.0]], ids=str
)
def test_damaged_counts_are_refused(counts: list[float]) -> None:
    here = Renumbering(np.arange(0), np.arange(0), same=True)
    with pytest.raises(SnapshotError, match=r"state/0: .* it is damaged"):
        LastTarget().take_partition(0, {"persistence.nearer": np.array(counts)}, here, "state/0")


def test_an_expert_that_says_nothing_is_not_held_to_the_learners_errors() -> None:
    """The first prediction, before any target's unit is known, is far off: experts that had not spoken yet were given

    its error for their own, and the forest, too, was not believed for the first hundred labels of each stream.
    """
    mixture = Mixture([LastTarget()], "regression")
    columns = Columns.blank(mixture.layout(1, 1), 1)

    parts = mixture.no_labels(np.zeros(1, np.int64), 1).parts[0]
    parts[:] = 0.0, 1.0  # as where the learner alone has spoken
    mixture.learn(columns, _case(), parts, 1000.0)
    assert columns["experts.noise"][0, 0].tolist() == [0.0, 0.0]

    parts[1] = 999.0, 1.0
    mixture.learn(columns, _case(), parts, 1000.0)
    assert columns["experts.noise"][0, 0].tolist() == [1.0, 1.0]


def _case() -> Case:
    return Case(0, "t", np.zeros(1, np.float32))
