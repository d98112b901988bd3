"""The linear model of all tasks: what it is, that it is saved to the bit, and where it is needed."""

from collections import defaultdict
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from streammeta import MetaClassifier, MetaRegressor
from streammeta.engine import Engine, EngineSettings
from streammeta.engine.columns import Columns
from streammeta.engine.experts.base import Cases
from streammeta.engine.experts.intercepts import INTERCEPTS, renumber_intercepts
from streammeta.engine.experts.linear import Linear
from streammeta.engine.moments import no_sums
from streammeta.engine.partitioned import Renumbering
from streammeta.engine.scale import SharedScale, shared_scale
from streammeta.errors import SnapshotError
from streammeta.event import Event, Label, Origin
from streammeta.meta.base import Ints, Kind
from streammeta.testing.expert import check_expert

Doubles = npt.NDArray[np.float64]
KINDS: list[Kind] = ["classification", "regression"]
CLASSES, TASKS, VALUES = 3, 6, 40


def scale() -> SharedScale:
    """Every feature has mean 1 and spread 2."""
    return shared_scale(no_sums(4), np.zeros(4, np.bool_))._replace(
        shift=np.ones(4), gain=np.full(4, 0.5), y_known=np.ones(1, np.bool_)
    )


class Groups(NamedTuple):
    """Which groups events [N] are in."""

    tasks: list[str]  # "t0" has row 0
    values: Ints  # [N, M]

    def cut(self, begin: int, end: int) -> "Groups":
        return Groups(self.tasks[begin:end], self.values[begin:end])


def untagged(n: int) -> Groups:
    return Groups([""] * n, np.zeros((n, 0), np.int64))


def blank(one: Linear, outputs: int) -> Columns:
    return Columns.blank(one.layout(4, outputs), TASKS)


def run(
    one: Linear, xs: Doubles, ys: Doubles, kind: Kind, groups: Groups | None = None, columns: Columns | None = None
) -> Doubles:
    n, outputs = len(ys), CLASSES if kind == "classification" else 1
    tasks, values = groups or untagged(n)
    rows, ones, zeros = np.array([int(tag[1:] or 0) for tag in tasks], np.int64), np.ones(n), np.zeros(n, np.int64)
    of = xs.astype(np.float32), zeros, ys, ones.astype(np.bool_), 0 * ones, ones, rows, np.arange(n)
    cases = Cases(tasks, *of, np.full((n, 2), -1), values)
    return one.run(columns or blank(one, outputs), cases, outputs)


def stream(n: int, kind: Kind, seed: int) -> tuple[Doubles, Doubles]:
    """Some features and labels are missing; the third class comes late."""
    random = np.random.default_rng(seed)
    xs = 1 + 2 * random.normal(size=(n, 4))
    ys = np.where(xs[:, 0] > xs[:, 1], 1.0, 0.0) if kind == "classification" else xs @ [1.0, -2.0, 0.0, 0.5]
    if kind == "classification":
        ys[n // 2 :][xs[n // 2 :, 2] > 3] = 2.0
    xs[random.random(xs.shape) < 0.1] = np.nan
    ys[random.random(n) < 0.2] = np.nan
    return xs, ys


def grouped(n: int, seed: int) -> Groups:
    """Some events are of no task, some have one value that shares a slot, or two."""
    random = np.random.default_rng(seed)
    tasks = [f"t{row}" if row < TASKS else "" for row in random.integers(TASKS + 1, size=n).tolist()]
    values = random.integers(VALUES, size=(n, 2))
    values[random.random((n, 2)) < 0.3] = -1
    return Groups(tasks, values)


def moved(xs: Doubles, ys: Doubles, groups: Groups, kind: Kind, by: float) -> Doubles:
    """Labels that depend on the groups, too."""
    random, n = np.random.default_rng(9), len(ys)
    of_values = random.normal(size=VALUES + 1) * by  # the last is of none
    of_values[-1] = 0
    of_tasks = dict(zip(["", *(f"t{row}" for row in range(TASKS))], random.normal(size=TASKS + 1) * by, strict=True))
    intercept = of_values[groups.values].sum(axis=1) + np.array([of_tasks[tag] for tag in groups.tasks])
    if kind == "regression":
        return ys + intercept
    return np.where(
        np.isnan(ys), np.nan, np.where(xs[:, 0] - xs[:, 1] + intercept + random.normal(size=n) > 0, 1.0, 0.0)
    )


def by_equations(xs: Doubles, ys: Doubles, kind: Kind, groups: Groups | None = None) -> Doubles:
    """What the docstring says, in double precision; NaN rows where fewer than ten labels came before."""
    outputs = CLASSES if kind == "classification" else 1
    W, G = np.zeros((outputs, 5)), np.ones((outputs, 5))
    found, labels, known = np.full((len(ys), outputs), np.nan), 0, 0
    b, H = defaultdict(lambda: np.zeros(outputs)), defaultdict(lambda: np.zeros(outputs))
    share, A = np.zeros(2), np.ones(2)
    for i, y in enumerate(ys):
        z = np.array([1, *np.nan_to_num((xs[i].astype(np.float32) - 1.0) * 0.5).clip(-6, 6)])
        tasks, values = groups or untagged(len(ys))
        kinds = [[tasks[i]] if tasks[i] else [], [int(v) for v in values[i] if v >= 0]]
        total = np.array([sum((b[one] for one in of), np.zeros(outputs)) for of in kinds])
        s = W @ z + share @ total
        if labels >= 10:
            found[i] = np.pad(softmax(s[:known]), (0, CLASSES - known)) if kind == "classification" else s
        if np.isnan(y):
            continue
        if kind == "classification":
            known = max(known, int(y) + 1)
            error = softmax(s[:known]) - np.eye(CLASSES)[int(y)][:known]
        else:
            error = np.clip(s - y, -8, 8)
        K = len(error)
        for k, of in enumerate(kinds):
            if not of:
                continue
            mine, rest = total[k, :K], (1 - share[k]) * total[k, :K]
            if kind == "classification":
                p, full = softmax(s[:K]), softmax(s[:K] + rest)
                A[k] += mine @ (np.diag(p) - np.outer(p, p)) @ mine
                step, h = full - np.eye(CLASSES)[int(y)][:K], full * (1 - full)
            else:
                A[k] += mine @ mine
                step, h = np.clip(s + rest - y, -8, 8), np.ones(1)
            share[k] = np.clip(share[k] - mine @ error / A[k], 0, 1)
            for one in of:
                H[one][:K] = 0.99 * H[one][:K] + h
                b[one][:K] -= step / (H[one][:K] + 0.5) / len(of)
        g = error[:, None] * z
        G[: len(error)] += g**2
        reach = (z**2 / np.sqrt(G[: len(error)])).sum(1)
        W[: len(error)] -= np.minimum(0.5, 1 / reach)[:, None] * g / np.sqrt(G[: len(error)])
        labels += 1
    return found


def softmax(s: Doubles) -> Doubles:
    p = np.exp(s - s.max(initial=-np.inf))
    return p / p.sum()


@pytest.mark.parametrize("kind", KINDS)
def test_it_follows_its_equations(kind: Kind) -> None:
    xs, ys = stream(400, kind, 0)
    said, expected = run(Linear(kind, scale), xs, ys, kind), by_equations(xs, ys, kind)

    spoke = ~np.isnan(expected[:, 0])
    assert spoke.sum() > 300
    np.testing.assert_allclose(said[spoke], expected[spoke], rtol=1e-3, atol=1e-4)
    assert (said[~spoke] == 0).all() if kind == "classification" else np.isnan(said[~spoke]).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by", [0.0, 3.0])
def test_intercepts_of_tasks_and_values_follow_their_equations(kind: Kind, by: float) -> None:
    xs, ys = stream(1500, kind, 0)
    groups = grouped(len(ys), 1)
    ys = moved(xs, ys, groups, kind, by)
    said, expected = run(Linear(kind, scale), xs, ys, kind, groups), by_equations(xs, ys, kind, groups)
    without = run(Linear(kind, scale), xs, ys, kind)

    spoke = ~np.isnan(expected[:, 0])
    np.testing.assert_allclose(said[spoke], expected[spoke], rtol=2e-3, atol=2e-3)
    known = np.flatnonzero(spoke & ~np.isnan(ys))[500:]
    off, off_without = error(said, ys, known, kind), error(without, ys, known, kind)
    assert off < 0.8 * off_without if by else off < 1.03 * off_without


def error(said: Doubles, ys: Doubles, which: Ints, kind: Kind) -> float:
    """Of these events: the mean of 1 − p(label), or absolute."""
    if kind == "classification":
        return float(1 - said[which, ys[which].astype(np.int64)].mean())
    return float(np.abs(said[which, 0] - ys[which]).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_it_keeps_the_contract(kind: Kind) -> None:
    check_expert(lambda: Linear(kind, scale), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_cut_anywhere_is_the_same_to_the_bit_and_so_is_what_is_restored(kind: Kind) -> None:
    xs, ys = stream(900, kind, 1)
    groups, outputs = grouped(len(ys), 2), CLASSES if kind == "classification" else 1
    whole, cut = Linear(kind, scale), Linear(kind, scale)
    expected, columns = run(whole, xs, ys, kind, groups), blank(cut, outputs)

    found, random, begin = [], np.random.default_rng(2), 0
    same = Renumbering(np.arange(4), np.arange(CLASSES), same=True)
    while begin < len(ys):
        end = min(begin + int(random.integers(1, 60)), len(ys))
        found.append(run(cut, xs[begin:end], ys[begin:end], kind, groups.cut(begin, end), columns))
        begin, again = end, Linear(kind, scale)
        again.take_partition(0, cut.partition(0), same, "here")
        cut = again

    np.testing.assert_array_equal(np.concatenate(found), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_features_and_classes_may_have_other_numbers_elsewhere(kind: Kind) -> None:
    xs, ys = stream(300, kind, 3)
    one, there, groups = Linear(kind, scale), Linear(kind, scale), grouped(300, 4)
    columns = blank(one, CLASSES if kind == "classification" else 1)
    run(one, xs, ys, kind, groups, columns)
    slots, classes = np.array([2, 0, 3, 1]), np.array([1, 2, 0])
    there.take_partition(0, one.partition(0), Renumbering(slots, classes, same=False), "here")
    others = Columns({INTERCEPTS: np.zeros_like(columns[INTERCEPTS])})
    renumber_intercepts(
        others[INTERCEPTS], columns[INTERCEPTS], classes if kind == "classification" else np.zeros(1, np.int64)
    )

    ask, moved, none = xs[:5], np.empty((5, 4)), np.full(5, np.nan)
    moved[:, slots] = ask
    first = groups.cut(0, 5)
    expected, found = run(one, ask, none, kind, first, columns), run(there, moved, none, kind, first, others)
    np.testing.assert_allclose(found[:, classes] if kind == "classification" else found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *(((0, 0), -1.0), ((0, 1), 5.0), ((0, 1), 0.5), ((1, 1), 0.0), ((2, 2), np.nan), ((3, 6), -1.0)),
        *(((0, 2), 1.5), ((0, 4), -0.1), ((0, 5), -1.0)),
    ],
)
def test_damage_is_refused(place: tuple[int, int], value: float) -> None:
    one, here = Linear("classification", scale), Renumbering(np.arange(4), np.arange(3), same=True)
    xs, ys = stream(30, "classification", 6)
    run(one, xs, ys, "classification")
    state = one.partition(0)["linear.model"]
    one.take_partition(0, {"linear.model": state}, here, "here")
    damaged = state.copy()
    damaged[place] = value
    for bad in (damaged, state[:1], state[:, :3], state.astype(np.float32), state[None]):
        with pytest.raises(SnapshotError, match="here: a linear model"):
            one.take_partition(0, {"linear.model": bad}, here, "here")


def test_a_damaged_table_of_values_is_refused() -> None:
    one, here = Linear("classification", scale), Renumbering(np.arange(4), np.arange(3), same=True)
    xs, ys = stream(30, "classification", 6)
    run(one, xs, ys, "classification", grouped(30, 6))
    arrays = one.partition(0)
    one.take_partition(0, arrays, here, "here")
    values = arrays["linear.values"]
    assert values[:, 1].any()
    no_number, no_curvature = values.copy(), values.copy()
    no_number[3, 0, 0], no_curvature[3, 1, 0] = np.nan, -1
    for bad in (no_number, no_curvature, values[:-1], values[:, :, :1], values.astype(np.float64)):
        with pytest.raises(SnapshotError, match="here: a linear model"):
            one.take_partition(0, arrays | {"linear.values": bad}, here, "here")


def test_the_state_of_the_version_before_goes_on() -> None:
    """It had no intercepts, and of targets one output."""
    xs, ys = stream(60, "regression", 6)
    one, here = Linear("regression", scale), Renumbering(np.arange(4), np.arange(1), same=True)
    run(one, xs, ys, "regression")
    before = one.partition(0)["linear.model"]
    state = before[:, [0, 1, 2, 4]]
    state[0, 2:] = 0
    expected = run(one, xs[:5], np.full(5, np.nan), "regression")

    one.take_partition(0, {"linear.model": state}, here, "here")

    np.testing.assert_array_equal(run(one, xs[:5], np.full(5, np.nan), "regression"), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scale_that_moves_changes_nothing_that_it_says(kind: Kind) -> None:
    xs, ys = stream(300, kind, 7)
    now = [scale()]
    one = Linear(kind, lambda: now[0])
    run(one, xs, ys, kind)
    ask, none = np.nan_to_num(xs[:20]), np.full(20, np.nan)
    expected = run(one, ask, none, kind)

    now[0] = scale()._replace(
        shift=np.array([1.0, 2.0, -3.0, 0.5]),
        gain=np.array([0.3, 0.5, 0.4, 0.2]),
        y_shift=np.array([3.0]),
        y_gain=np.array([0.01]),
    )
    np.testing.assert_allclose(run(one, ask, none, kind), expected, rtol=1e-9)
    before = one.partition(0)["linear.model"]
    run(one, ask[:1], np.ones(1), kind)
    assert (one.partition(0)["linear.model"] != before).any()
    now[0] = scale()._replace(shift=np.full(4, 1e300), gain=np.full(4, 1e-150), y_gain=np.array([1e-150]))
    run(one, ask[:1], np.ones(1), kind)
    assert np.isfinite(one.partition(0)["linear.model"]).all()


def test_many_features_cost_no_more_than_512_and_classes_beyond_are_learned() -> None:
    one, random = Linear("classification", lambda: plain_scale(600)), np.random.default_rng(4)
    xs, ys = random.normal(size=(50, 600)), np.arange(50) % 40.0
    said = run_wide(one, xs, ys)

    assert one.partition(0)["linear.model"].shape == (514, 130)
    assert np.isfinite(said).all()


def plain_scale(D: int) -> SharedScale:
    return shared_scale(no_sums(D), np.zeros(D, np.bool_))


def run_wide(one: Linear, xs: Doubles, ys: Doubles) -> Doubles:
    n, rows, ones = len(ys), np.zeros(len(ys), np.int64), np.ones(len(ys))
    of = xs.astype(np.float32), rows, ys, ones.astype(np.bool_), 0 * ones, ones, rows, np.arange(n)
    columns, values = Columns.blank(one.layout(600, 40), 1), np.arange(n)[:, None]
    return one.run(columns, Cases(["t"] * n, *of, np.full((n, 2), -1), values), 40)


def small_tasks(n: int, seed: int) -> list[tuple[dict[str, Any], float]]:
    """One rule of all of 500 tasks, each of some six events."""
    random = np.random.default_rng(seed)
    w = random.normal(size=5)
    xs, tasks = random.normal(size=(n, 5)), random.integers(500, size=n)
    noise = 0.3 * random.normal(size=n)
    made = zip(xs, tasks.tolist(), (xs @ w + noise).tolist(), strict=True)
    return [({f"f{d}": v for d, v in enumerate(x.tolist())} | {"t": f"t{task}"}, y) for x, task, y in made]


def test_what_all_tasks_have_in_common_is_known_in_a_task_of_few_events() -> None:
    """By a mean over the others a target is 2.7 off, and half of the classes are wrong; the truth is 0.24 off."""
    events = small_tasks(1200, 3)
    regressor, classifier, off, wrong = MetaRegressor(task="t"), MetaClassifier(task="t"), [], []
    for x, y in events:
        off.append(abs(regressor.predict_one(dict(x)) - y))
        wrong.append(classifier.predict_one(dict(x)) != (y > 0))
        regressor.learn_one(dict(x), y)
        classifier.learn_one(dict(x), y > 0)

    assert np.mean(off[400:]) < 0.4
    assert np.mean(wrong[400:]) < 0.1


def test_an_intercept_of_each_task_is_known_after_few_of_its_labels() -> None:
    """As spread out as a feature; by one linear model 0.84 is missed, noise alone makes 0.24."""
    random, off, model = np.random.default_rng(6), [], MetaRegressor(task="t")
    intercepts = random.normal(size=500)
    for x, y in small_tasks(1800, 3):
        target = y + float(intercepts[int(x["t"][1:])])
        off.append(abs(model.predict_one(dict(x)) - target))
        model.learn_one(dict(x), target)

    assert np.mean(off[900:]) < 0.65


def test_a_category_of_many_values_has_an_intercept_for_each() -> None:
    """Only 64 of 300 have slots of their own: by those alone the mean error was 2.6 where noise makes 0.4."""
    random, off, model = np.random.default_rng(7), [], MetaRegressor()
    effects = 3 * random.normal(size=300)
    for value in random.integers(300, size=2400).tolist():
        x, y = {"place": f"place {value}"}, float(effects[value] + 0.5 * random.normal())
        off.append(abs(model.predict_one(dict(x)) - y))
        model.learn_one(dict(x), y)

    assert np.mean(off[1200:]) < 0.8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("late", [False, True])
def test_a_restore_and_polls_of_any_size_equal_no_stop(kind: Kind, late: bool) -> None:
    rows, places = small_tasks(600, 5), np.random.default_rng(8).integers(200, size=600).tolist()
    ys = [int(y > 0) if kind == "classification" else y for _, y in rows]
    events: list[Event | Label] = []
    for i, ((x, _), place) in enumerate(zip(rows, places, strict=True)):
        features = {k: v for k, v in x.items() if k != "t"} | {"place": f"place {place}"}
        events.append(Event(features, x["t"], Origin("in", i % 2, i), y=None if late else ys[i], id=f"e{i}"))
        j = i - 40
        if late and j >= 0:
            events.append(Label(f"e{j}", ys[j], rows[j][0]["t"], Origin("in", j % 2, j)))
    settings = EngineSettings.model_validate({"kind": kind, "meta": {"mode": "off"}, "memory": {"max_features": 64}})
    with closing(Engine(settings)) as whole:
        expected = whole.step(events)
    with closing(Engine(settings)) as before:
        found = [one for event in events[:333] for one in before.step([event])]
        snapshot = before.snapshot()
    with closing(Engine.restore(settings, snapshot)) as after:
        found += after.step(events[333:])

    assert not any(one.rejected for one in expected)
    assert [one.prediction for one in found] == [one.prediction for one in expected]
    assert [one.probabilities for one in found] == [one.probabilities for one in expected]
