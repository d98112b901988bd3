"""The pool of the mixture: exponents of the learner's and the experts' opinions that a partition's labels teach."""

import math
from collections.abc import Sequence
from contextlib import closing
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from streammeta.engine import Engine, EngineSettings
from streammeta.engine.columns import Columns
from streammeta.engine.experts import Mixture
from streammeta.engine.experts.forest import Forest
from streammeta.engine.experts.persistence import Persistence
from streammeta.engine.partitioned import Renumbering
from streammeta.errors import SnapshotError
from streammeta.event import Event, Label, Origin

Doubles = npt.NDArray[np.float64]
EXPERTS, CLASSES, TASKS = 2, 3, 4
NAMES = ["forest", "persistence"]
HERE = Renumbering(np.arange(0), np.arange(0), same=True, experts=NAMES)


def mixture() -> Mixture:
    return Mixture([Forest("classification", 0), Persistence()], "classification")


def opinions(n: int, seed: int) -> tuple[Doubles, Doubles, Doubles]:
    """The learner's [N, C], the experts' [N, K, C], and labels [N] that the first expert says best."""
    random = np.random.default_rng(seed)
    p, said = random.dirichlet(np.ones(CLASSES), n), random.dirichlet(np.ones(CLASSES), (n, EXPERTS))
    y = np.array([random.choice(CLASSES, p=one) for one in said[:, 0]], np.float64)
    return p, said, y


def run(
    one: Mixture,
    columns: Columns,
    found: tuple[Doubles, Doubles, Doubles],
    partitions: Sequence[int],
    tasks: int = TASKS,
) -> Doubles:
    """The mixed probabilities [N, C] of a run, with the tasks in turn."""
    p, said, y = found
    rows, known = np.arange(len(y)) % tasks, one.no_labels(np.array(partitions), CLASSES)
    known.labels[:] = y
    return one.blend_run(columns, rows, p, np.zeros(len(y)), said, known)[0]


def by_equations(p: Doubles, said: Doubles, doubt: Doubles, y: Doubles) -> tuple[list[Doubles], Doubles]:
    """What the pool says of each event [C], and β after the last: the docstring's equations."""
    beta, start, H = np.eye(1 + EXPERTS)[0], np.eye(1 + EXPERTS)[0], 3 * np.eye(1 + EXPERTS)
    pools = []
    for learner, others, label in zip(p, said, y.astype(int), strict=True):
        own = (learner + 1e-6) / (learner + 1e-6).sum()
        mixed = [doubt[k] * own + (1 - doubt[k]) * other / other.sum() for k, other in enumerate(others)]
        logs = np.log(np.maximum([own, *mixed], 1e-4))
        pool = np.exp(beta @ logs)
        pool /= pool.sum()
        pools.append(pool)
        centred = logs - (logs @ pool)[:, None]
        H = 0.999 * H + (centred * pool) @ centred.T + 0.003 * np.eye(len(beta))
        beta = beta + np.linalg.solve(H, centred[:, label] - 0.003 * (beta - start))
    return pools, beta


def test_it_follows_its_equations() -> None:
    """Where the pool decides alone, the mixture says what it says; evidence of the others is taken away."""
    found, one = opinions(60, 0), mixture()
    columns = Columns.blank(one.layout(4, CLASSES), TASKS)
    expected, beta = by_equations(found[0], found[1], np.array([e.doubt for e in one.experts]), found[2])

    for i in range(60):
        columns["experts.evidence"][:], columns["experts.pooled"][:] = -1e4, 2e4
        said = run(one, columns, tuple(part[i : i + 1] for part in found), [0])
        np.testing.assert_allclose(said[0], expected[i], rtol=1e-9)

    np.testing.assert_allclose(one.partitions.of(0)["pool.exponents"][:, 0], beta, rtol=1e-9)


def test_its_step_is_along_the_gradient_of_the_log_loss() -> None:
    """Against finite differences of −log pool(y), in β, with a curvature so large that a step is the gradient over it."""
    found, one, stiff = opinions(1, 1), mixture(), 1e9
    state = np.column_stack([[0.7, 0.4, -0.2], stiff * np.eye(3)])
    one.partitions.take(0, {"pool.exponents": state}, HERE, "here")
    run(one, Columns.blank(one.layout(4, CLASSES), TASKS), found, [0])
    step = (one.partitions.of(0)["pool.exponents"][:, 0] - state[:, 0]) * stiff

    def log_loss(beta: Doubles) -> float:
        own = (found[0][0] + 1e-6) / (found[0][0] + 1e-6).sum()
        mixed = [e.doubt * own + (1 - e.doubt) * other for e, other in zip(one.experts, found[1][0], strict=True)]
        pool = np.exp(beta @ np.log(np.maximum([own, *mixed], 1e-4)))
        return -float(np.log(pool[int(found[2][0])] / pool.sum()))

    h = 1e-5 * np.eye(3)
    gradient = [(log_loss(state[:, 0] + h[k]) - log_loss(state[:, 0] - h[k])) / 2e-5 for k in range(3)]
    pull = 0.003 * (state[:, 0] - [1, 0, 0])

    np.testing.assert_allclose(0.999 * step, -np.array(gradient) - pull, rtol=2e-3)


def test_it_learns_whom_to_believe() -> None:
    found, one = opinions(2000, 2), mixture()
    run(one, Columns.blank(one.layout(4, CLASSES), TASKS), found, [0] * 2000)
    learner, first, second = one.partitions.of(0)["pool.exponents"][:, 0]

    assert abs(learner) < 0.15
    assert abs(second) < 0.15
    assert first == pytest.approx(1.0, abs=0.15)


def test_a_run_cut_anywhere_and_of_several_partitions_is_the_same_to_the_bit() -> None:
    found, partitions = opinions(300, 3), [0, 1, 1, 0, 2] * 60
    whole, cut, alone = mixture(), mixture(), mixture()
    of_whole, of_cut, of_alone = (Columns.blank(whole.layout(4, CLASSES), 5) for _ in range(3))

    said = run(whole, of_whole, found, partitions, tasks=5)
    ends = [0, 1, 5, 125, 300]  # whole rounds, but for the first: tasks keep their rows
    again = []
    for a, b in pairwise(ends):
        p, others, y = (part[a:b] for part in found)
        rows, known = np.arange(a, b) % 5, cut.no_labels(np.array(partitions[a:b]), CLASSES)
        known.labels[:] = y
        again.append(cut.blend_run(of_cut, rows, p, np.zeros(b - a), others, known)[0])
    np.testing.assert_array_equal(said, np.concatenate(again))

    which = np.flatnonzero(np.array(partitions) == 1)  # what other partitions learn does not matter
    known = alone.no_labels(np.ones(len(which), np.int64), CLASSES)
    known.labels[:] = found[2][which]
    own = alone.blend_run(of_alone, which % 5, found[0][which], np.zeros(len(which)), found[1][which], known)[0]
    np.testing.assert_array_equal(own, said[which])
    for number in (0, 1, 2):
        np.testing.assert_array_equal(
            whole.partitions.of(number)["pool.exponents"], cut.partitions.of(number)["pool.exponents"]
        )


def test_what_is_put_back_is_as_before() -> None:
    """A drift in the middle of a run: what comes after it is mixed again, from where the drift came."""
    found, one = opinions(50, 4), mixture()
    columns = Columns.blank(one.layout(4, CLASSES), TASKS)
    run(one, columns, found, [0] * 50)
    before, rows = one.partitions.of(0)["pool.exponents"].copy(), np.arange(TASKS)
    kept = one.evidence(columns, rows)

    first = run(one, columns, found, [0] * 50)
    one.put_back(columns, rows, kept)

    np.testing.assert_array_equal(one.partitions.of(0)["pool.exponents"], before)
    np.testing.assert_array_equal(run(one, columns, found, [0] * 50), first)


def test_predicting_and_the_events_of_other_members_teach_it_nothing() -> None:
    found, one = opinions(40, 5), mixture()
    columns = Columns.blank(one.layout(4, CLASSES), TASKS)
    run(one, columns, (found[0], found[1], np.full(40, np.nan)), [0] * 40)
    run(one, columns, found, [-2] * 40)

    assert one.partitions.of(0) == {}
    assert one.partitions.dump() == {}


@pytest.mark.parametrize(
    "pool",
    [
        np.zeros((3, 4)),  # no curvature
        np.full((3, 4), np.nan),
        np.column_stack([np.ones(3), -np.eye(3)]),
        np.column_stack([np.ones(3), np.triu(np.ones((3, 3)))]),
        np.ones(3),
        np.column_stack([np.ones(3), np.eye(3)]).astype(np.float32),
    ],
    ids=["flat", "no numbers", "negative", "lopsided", "a vector", "single"],
)
def test_a_damaged_pool_is_refused(pool: npt.NDArray[np.generic]) -> None:
    with pytest.raises(SnapshotError, match="state/0: exponents of experts' opinions"):
        mixture().partitions.take(0, {"pool.exponents": pool}, HERE, "state/0")


def test_one_of_other_experts_has_the_exponents_of_ours_and_new_ones_begin() -> None:
    """What was learned of two opinions together goes with both of them."""
    one, of = mixture(), np.column_stack([[0.6, 0.3, 0.1, -0.2], np.diag([4.0, 5.0, 6.0, 7.0])])
    of[0, 4] = of[3, 1] = 1.5
    one.partitions.take(
        0, {"pool.exponents": of}, HERE._replace(experts=["nearest", "neighbours", "persistence"]), "state/0"
    )

    found = one.partitions.of(0)["pool.exponents"]
    np.testing.assert_array_equal(found[:, 0], [0.6, 0, -0.2])
    np.testing.assert_array_equal(found[:, 1:], [[4, 0, 1.5], [0, 3, 0], [1.5, 0, 7]])

    with pytest.raises(SnapshotError, match="exponents"):
        one.partitions.take(0, {"pool.exponents": of}, HERE._replace(experts=["forest", "persistence"]), "state/0")


@pytest.mark.parametrize("is_late", [False, True])
def test_the_first_label_of_a_class_says_of_no_part_that_it_was_right(is_late: bool) -> None:
    """Else who spreads probability over everything is believed most where a stream begins with many classes."""
    random = np.random.default_rng(0)
    events: list[Event | Label] = []
    for i, row in enumerate(random.normal(size=(7, 4)).tolist()):
        at, y = Origin("in", 0, i), f"class {i}"
        events.append(Event({f"f{d}": x for d, x in enumerate(row)}, "t", at, y=None if is_late else y, id=str(i)))
        events += [Label(str(i), y, "t", at)] if is_late else []
    with closing(Engine(EngineSettings())) as engine:
        for event in events:
            engine.step([event])
        found = dict(engine.expert_weights())

    learner, pool = found.pop("learner"), found.pop("pool")
    other = next(iter(found.values()))
    assert list(found.values()) == pytest.approx([other] * 10)
    assert (learner, pool) == (pytest.approx(2 * other), pytest.approx(math.e * other))


def test_a_restore_goes_on_as_if_nothing_had_happened() -> None:
    random = np.random.default_rng(6)
    xs = random.normal(size=(500, 3))
    ys = ((xs[:, 0] > 0) ^ (xs[:, 1] > 0)).astype(int) + (xs[:, 2] > 1)
    events = [
        Event({f"f{d}": x for d, x in enumerate(row)}, f"t{i % 3}", Origin("in", i % 2, i), y=int(y))
        for i, (row, y) in enumerate(zip(xs.tolist(), ys.tolist(), strict=True))
    ]
    settings = EngineSettings()
    with closing(Engine(settings)) as whole:
        expected = whole.step(events)
        assert whole.expert_weights()["pool"] > 0
    with closing(Engine(settings)) as before:
        found = before.step(events[:277])
        snapshot = before.snapshot()
    with closing(Engine.restore(settings, snapshot)) as after:
        found += after.step(events[277:])

    assert [one.probabilities for one in found] == [one.probabilities for one in expected]


def test_an_expert_that_says_nothing_changes_no_bit_of_what_the_others_say() -> None:
    """Gaussians sleep where there are few classes: then predictions are as without them."""
    p, said, y = opinions(300, 7)
    alone, beside = Mixture([Persistence()], "classification"), mixture()
    found = []
    for one, others in ((alone, said[:, 1:].copy()), (beside, np.stack([np.zeros_like(p), said[:, 1]], axis=1))):
        columns = Columns.blank(one.layout(4, CLASSES), TASKS)
        found.append(run(one, columns, (p, others, y), [0] * 300))

    np.testing.assert_array_equal(found[0], found[1])
    ours, theirs = (one.partitions.of(0)["pool.exponents"][:, 0] for one in (alone, beside))
    np.testing.assert_array_equal(ours, theirs[[0, 2]])
    assert theirs[1] == 0
