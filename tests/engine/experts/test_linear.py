"""The linear model of all tasks: what it is, that it is saved to the bit, and where it is needed."""

from contextlib import closing

import numpy as np
import numpy.typing as npt
import pytest

from streammeta import MetaClassifier, MetaRegressor
from streammeta.engine import Engine, EngineSettings
from streammeta.engine.columns import Columns
from streammeta.engine.experts.base import Cases, Renumbering
from streammeta.engine.experts.linear import Linear
from streammeta.engine.moments import no_sums
from streammeta.engine.scale import SharedScale, shared_scale
from streammeta.errors import SnapshotError
from streammeta.event import Event, Origin
from streammeta.meta.base import Kind
from streammeta.testing.expert import check_expert

Doubles = npt.NDArray[np.float64]
KINDS: list[Kind] = ["classification", "regression"]
CLASSES = 3


def scale() -> SharedScale:
    """Every feature has mean 1 and spread 2."""
    return shared_scale(no_sums(4), np.zeros(4, np.bool_))._replace(
        shift=np.ones(4), gain=np.full(4, 0.5), y_known=np.ones(1, np.bool_)
    )


def run(one: Linear, xs: Doubles, ys: Doubles, kind: Kind) -> Doubles:
    n, outputs = len(ys), CLASSES if kind == "classification" else 1
    rows, ones = np.zeros(n, np.int64), np.ones(n)
    of = xs.astype(np.float32), rows, ys, ones.astype(np.bool_), 0 * ones, ones, rows, np.arange(n)
    return one.run(Columns(), Cases(["t"] * n, *of, np.full((n, 2), -1)), outputs)


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


def by_equations(xs: Doubles, ys: Doubles, kind: Kind) -> Doubles:
    """What the docstring says, in double precision; NaN rows where fewer than ten labels came before."""
    outputs = CLASSES if kind == "classification" else 1
    W, G = np.zeros((outputs, 5)), np.ones((outputs, 5))
    found, labels, known = np.full((len(ys), outputs), np.nan), 0, 0
    for i, y in enumerate(ys):
        z = np.array([1, *np.nan_to_num((xs[i].astype(np.float32) - 1.0) * 0.5).clip(-6, 6)])
        s = W @ z
        if labels >= 10:
            found[i] = np.pad(softmax(s[:known]), (0, CLASSES - known)) if kind == "classification" else s
        if np.isnan(y):
            continue
        if kind == "classification":
            known = max(known, int(y) + 1)
            error = softmax(s[:known]) - np.eye(CLASSES)[int(y)][:known]
        else:
            error = np.clip(s - y, -8, 8)
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
def test_it_keeps_the_contract(kind: Kind) -> None:
    check_expert(lambda: Linear(kind, scale), kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_cut_anywhere_is_the_same_to_the_bit_and_so_is_what_is_restored(kind: Kind) -> None:
    xs, ys = stream(900, kind, 1)
    whole, cut = Linear(kind, scale), Linear(kind, scale)
    expected = run(whole, xs, ys, kind)

    found, random, begin = [], np.random.default_rng(2), 0
    same = Renumbering(np.arange(4), np.arange(CLASSES), same=True)
    while begin < len(ys):
        end = min(begin + int(random.integers(1, 60)), len(ys))
        found.append(run(cut, xs[begin:end], ys[begin:end], kind))
        begin, again = end, Linear(kind, scale)
        again.take_partition(0, cut.partition(0), same, "here")
        cut = again

    np.testing.assert_array_equal(np.concatenate(found), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_features_and_classes_may_have_other_numbers_elsewhere(kind: Kind) -> None:
    xs, ys = stream(300, kind, 3)
    one, there = Linear(kind, scale), Linear(kind, scale)
    run(one, xs, ys, kind)
    slots, classes = np.array([2, 0, 3, 1]), np.array([1, 2, 0])
    there.take_partition(0, one.partition(0), Renumbering(slots, classes, same=False), "here")

    ask, moved, none = xs[:5], np.empty((5, 4)), np.full(5, np.nan)
    moved[:, slots] = ask
    expected, found = run(one, ask, none, kind), run(there, moved, none, kind)
    np.testing.assert_allclose(found[:, classes] if kind == "classification" else found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("place", "value"),
    [((0, 0), -1.0), ((0, 1), 5.0), ((0, 1), 0.5), ((1, 1), 0.0), ((2, 2), np.nan), ((3, 6), -1.0)],
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
    return one.run(Columns(), Cases(["t"] * n, *of, np.full((n, 2), -1)), 40)


def small_tasks(n: int, seed: int) -> list[tuple[dict[str, float], float]]:
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


@pytest.mark.parametrize("kind", KINDS)
def test_a_restore_equals_no_stop(kind: Kind) -> None:
    rows = small_tasks(600, 5)
    events = [
        Event(
            {k: v for k, v in x.items() if k != "t"},
            x["t"],
            Origin("in", i % 2, i),
            y=int(y > 0) if kind == "classification" else y,
        )
        for i, (x, y) in enumerate(rows)
    ]
    settings = EngineSettings.model_validate({"kind": kind, "meta": {"mode": "off"}})
    with closing(Engine(settings)) as whole:
        expected = whole.step(events)
    with closing(Engine(settings)) as before:
        found = before.step(events[:333])
        snapshot = before.snapshot()
    with closing(Engine.restore(settings, snapshot)) as after:
        found += after.step(events[333:])

    assert [one.prediction for one in found] == [one.prediction for one in expected]
    assert [one.probabilities for one in found] == [one.probabilities for one in expected]
