"""Every method of the catalogue as the learner of a stream, in the real engine."""

from contextlib import closing
from itertools import islice

import numpy as np
import pytest
from msgspec.structs import replace
from river import datasets

from streammeta.engine import Engine, EngineSettings
from streammeta.engine.outcome import Signal
from streammeta.errors import ConfigError
from streammeta.event import Event, Origin
from streammeta.meta.base import Episodes, Forget, Scaling, Windows
from streammeta.meta.catalogue import methods_for
from streammeta.meta.names import Slot
from streammeta.meta.outer import outer_step, start_outer
from streammeta.meta.stream import in_stream
from streammeta.simulators import simulate

META = {"every_events": 16, "tasks": 2, "length": 40, "shortest": 8, "stretch": 1}
STREAMED = [(kind, name) for kind in ("regression", "classification") for name in methods_for(kind)]


def _sinusoids(n: int, kind: str = "regression", seed: int = 1) -> list[Event]:
    """Switching sinusoids; as a classification, whether y > 0, and the class is a word."""
    samples = islice(simulate("switching-sinusoids", events=n, seed=seed, tasks="4"), n)
    label = (lambda y: y) if kind == "regression" else (lambda y: "up" if y > 0 else "down")
    return [Event(s.x, s.task, Origin("sinusoids", 0, i), y=label(s.y)) for i, s in enumerate(samples)]


def slots(*fan_in: int) -> list[Slot]:
    return [Slot(f"x{i}", None, n) for i, n in enumerate(fan_in)]


def _engine(name: str, kind: str = "regression", **changes) -> Engine:
    base = {"kind": kind, "learner": {"method": name, "support": 12}, "meta": META, "drift": {"detector": "adwin"}}
    return Engine(EngineSettings.model_validate(base | changes))


def _predictions(outcomes) -> np.ndarray:
    return np.array(
        [o.prediction if o.probabilities is None else next(iter(o.probabilities.values())) for o in outcomes]
    )


@pytest.mark.parametrize(("kind", "name"), STREAMED)
def test_every_method_serves_a_stream_and_goes_on_after_a_restart(kind: str, name: str):
    """By its name in the configuration, with meta-updates swapped in, and from a snapshot as if nothing had happened."""
    events = _sinusoids(160, kind)
    with closing(_engine(name, kind)) as engine:
        outcomes = engine.step(events[:120])
        with closing(Engine.restore(engine.settings, engine.snapshot())) as restored:
            later, again = (each.step(events[120:]) for each in (engine, restored))
        stats = engine.stats()

    assert all(o.rejected is None for o in outcomes)
    assert stats.meta_updates >= 5
    assert stats.refused == 0
    assert outcomes[-1].theta_version > outcomes[40].theta_version
    np.testing.assert_allclose(_predictions(later).astype(float), _predictions(again).astype(float), rtol=1e-5)
    if kind == "classification":
        assert all(abs(sum(o.probabilities.values()) - 1) < 1e-5 for o in later)
    else:
        assert all(o.variance > 0 for o in later)


@pytest.mark.parametrize("name", ["alpaca", "maml"])
def test_predictions_do_not_depend_on_polls(name: str):
    """But for the rounding of float32, as the module says; a label seen too early would be far beyond it."""
    events, found = _sinusoids(300), []
    for poll in (1, 7, 300):
        with closing(_engine(name)) as engine:
            outcomes = [o for i in range(0, 300, poll) for o in engine.step(events[i : i + poll])]
        found.append(_predictions(outcomes).astype(float))

    np.testing.assert_allclose(found[1], found[0], atol=2e-2)
    np.testing.assert_allclose(found[2], found[0], atol=2e-2)
    assert np.median(np.abs(found[2] - found[0])) < 1e-4


@pytest.mark.parametrize(("name", "share"), [("alpaca", 0.5), ("r2d2", 0.7), ("maml", 0.95)])
def test_meta_learning_in_the_stream_helps_on_switching_sinusoids(name: str, share: float):
    """θ is learned while the stream runs: the same learner whose θ stays as it began is worse on the second half.

    Alone: experts do for a θ that knows nothing what they can.
    """
    events, errors, learner = _sinusoids(2_000), {}, {"method": name, "support": 12, "experts": []}
    for mode in ("sync", "off"):
        with closing(_engine(name, learner=learner, meta=META | {"mode": mode})) as engine:
            outcomes = engine.step(events)
        errors[mode] = np.mean([o.error for o in outcomes[1_000:]])

    assert errors["sync"] < share * errors["off"]


def test_a_drifted_task_starts_from_theta_again():
    """A concept that turns round: the detector tells, the old events are let go, and the error falls again."""
    random = np.random.default_rng(0)
    xs = random.normal(size=(400, 2))
    turn = np.where(np.arange(400) < 250, 3.0, -3.0)
    events = [
        Event({"a": x[0], "b": x[1]}, "t", Origin("turn", 0, i), y=float(t * x[0]))
        for i, (x, t) in enumerate(zip(xs, turn, strict=True))
    ]
    with closing(_engine("r2d2", learner={"method": "r2d2", "support": 200}, drift={"response": "reset"})) as engine:
        outcomes = engine.step(events)

    drifts = [i for i, o in enumerate(outcomes) if o.signal is Signal.DRIFT and i >= 250]
    assert drifts
    assert np.mean([o.error for o in outcomes[-30:]]) < 0.3 * np.mean([o.error for o in outcomes[250 : drifts[0]]])


def test_what_is_kept_of_a_task_is_its_last_events_and_rebuild_finds_the_same():
    """φ is derived from what lies in the window; the two ways to it must agree."""
    method = in_stream("r2d2", "regression", support=4)
    x, y = np.arange(12, dtype=np.float32).reshape(6, 2), np.arange(6, dtype=np.float32)
    theta = method.grow(method.init(), slots(2, 2), range(1))
    phi, other = (
        {n: np.zeros((1, *shape), dtype) for n, (shape, dtype) in method.phi_layout(2, 1).items()} for _ in range(2)
    )
    weights = method.compile(theta, Scaling(np.zeros(2), np.ones(2), 0.0, 1.0))

    method.run(weights, phi, np.zeros(6, np.int64), x, y, 1)
    method.rebuild(weights, other, np.zeros(1, np.int64), Windows(x[None], y[None], np.array([6]), np.array([6])), 1)

    assert phi["support_y"].tolist() == other["support_y"].tolist() == [[2, 3, 4, 5]]
    assert phi["support_x"].tolist() == other["support_x"].tolist()
    assert phi["support_width"].tolist() == other["support_width"].tolist() == [[2, 2, 2, 2]]
    method.restart(weights, phi, np.zeros(1, np.int64), Forget.PART)
    assert phi["support_width"].tolist() == [[0, 0, 0, 2]]


def test_theta_grows_with_features_and_classes_and_keeps_what_it_was():
    """New columns and classes come in the middle of a stream; how they come together may not matter."""
    method = in_stream("cavia", "classification", seed=3)
    a, b, c = slots(1, 2, 3)

    small = method.grow(method.init(), slots(1), range(2))
    step_by_step = method.grow(method.grow(small, slots(1, 2, 3), range(2)), slots(1, 2, 3), range(3))
    at_once = method.grow(small, slots(1, 2, 3), range(3))

    assert step_by_step["layer0.weight"].shape == (5 + 3, 40)
    assert all((step_by_step[n] == at_once[n]).all() for n in small)
    otherwise = method.grow(method.init(), [c, a, b], [2, 0, 1])
    assert (otherwise["layer0.weight"] == at_once["layer0.weight"][[0, 1, 2, 3, 4, 7, 5, 6]]).all()
    assert (otherwise["layer2.weight"] == at_once["layer2.weight"][:, [2, 0, 1]]).all()
    assert (step_by_step["layer0.weight"][:6] == small["layer0.weight"]).all()
    assert (step_by_step["layer2.weight"][:, :2] == small["layer2.weight"]).all()


def test_names_that_cannot_serve_are_refused_with_those_that_can():
    """At the start, not at the first event."""
    with pytest.raises(ConfigError, match="there is none of that name; there are maml"):
        _engine("mamml")
    with pytest.raises(ConfigError, match="does not do regression; these do: maml"):
        _engine("protonet")


def _far_away(n: int) -> list[Event]:
    """Three tasks whose features and targets are far from 0, in large units, as money and pressures are."""
    random = np.random.default_rng(0)
    laws, found = random.normal(size=(3, 3)), []
    for i in range(n):
        task, x = int(random.integers(3)), random.normal(size=3)
        y = 1e6 + 1e4 * (np.tanh(x @ laws[task]) + 0.3 * task)
        found.append(Event((5_000 + 100 * x).tolist(), str(task), Origin("far", 0, i), y=float(y)))
    return found


def _running_mean(ys: np.ndarray) -> np.ndarray:
    """What the mean of all labels so far would have said."""
    return np.concatenate([[0.0], np.cumsum(ys)[:-1] / np.arange(1, ys.size)])


@pytest.mark.parametrize("name", methods_for("regression"))
def test_targets_far_from_zero_are_learned_by_every_method(name: str):
    """Gradient steps on raw targets ran away to errors of 10¹³; to do worse than the mean is to do nothing."""
    events = _far_away(240)
    ys = np.array([e.y for e in events])
    with closing(_engine(name)) as engine:
        errors = np.abs(_predictions(engine.step(events)).astype(float) - ys)

    of_the_mean = np.abs(_running_mean(ys) - ys)
    assert errors[8:].mean() < 1.1 * of_the_mean[8:].mean()  # the engine knows no unit before its eighth event
    assert errors[8:].max() < 2 * np.ptp(ys)


@pytest.mark.parametrize("name", ["maml", "reptile"])
def test_approval_ratings_are_followed_from_the_second_event(name: str):
    """River's TrumpApproval, where the mean absolute error was 10¹³: features and targets in units of their own."""
    found = [(x, y) for x, y in islice(datasets.TrumpApproval(), 300)]
    events = [Event(x, "", Origin("approval", 0, i), y=y) for i, (x, y) in enumerate(found)]
    ys = np.array([y for _, y in found])
    with closing(_engine(name)) as engine:
        errors = np.abs(_predictions(engine.step(events)).astype(float) - ys)

    assert errors[1:].mean() < 0.7 * np.abs(_running_mean(ys) - ys)[1:].mean()
    assert errors[1:].max() < 20  # percentage points


@pytest.mark.parametrize("name", ["maml", "meta-sgd", "cavia", "imaml", "reptile"])
def test_steps_far_too_long_leave_theta_to_answer(name: str):
    """With an inner rate of a thousand every adapting does harm, which its own support tells; nothing runs away."""
    events = _far_away(160)
    ys = np.array([e.y for e in events])
    wild = {"method": name, "support": 12, "inner_rate": 1e3}
    with closing(_engine(name, learner=wild)) as engine:
        errors = np.abs(_predictions(engine.step(events)).astype(float) - ys)

    assert errors[8:].mean() < 2 * np.abs(_running_mean(ys) - ys)[8:].mean()


@pytest.mark.parametrize("name", ["maml", "alpaca", "lstm"])
def test_one_absurd_label_does_not_reach_the_answers_after_it(name: str):
    """A sensor that says 10³⁰ once is in the support for S events, and in the windows that θ is learned from."""
    events = _far_away(240)
    events[120] = replace(events[120], y=1e30)
    ys = np.array([e.y for e in events])
    with closing(_engine(name)) as engine:
        errors = np.abs(_predictions(engine.step(events)).astype(float) - ys)
        updates = engine.stats().meta_updates

    assert updates >= 10
    assert errors[121:].max() < 100 * np.ptp(np.delete(ys, 120))


def test_what_serves_is_the_moving_average_where_the_method_keeps_one():
    """maml-ema learns as MAML does, and answers by θ̄, which lags behind θ: were they one, nothing would be averaged."""
    method = in_stream("maml-ema", "regression", seed=5)
    theta = method.grow(method.init(), slots(1, 2), range(1))
    step = outer_step(method.gradient, start_outer(theta), _episodes(), rate=0.01)

    after, scaling = step.state.theta, Scaling(np.zeros(2), np.ones(2), 0.0, 1.0)
    name = "layer1.weight"
    assert not np.array_equal(after[name], theta[name])
    np.testing.assert_allclose(after[f"average.{name}"], 0.99 * theta[name] + 0.01 * after[name], rtol=1e-5, atol=1e-7)
    assert np.array_equal(method.compile(after, scaling).theta[name], after[f"average.{name}"])
    grown = method.grow(after, slots(1, 2, 3), range(1))
    assert np.array_equal(grown["average.layer0.weight"][:2], after["average.layer0.weight"])
    assert np.array_equal(grown["average.layer0.weight"][2], grown["layer0.weight"][2])


def _episodes() -> Episodes:
    """Two segments of a line."""
    x, ones = np.random.default_rng(0).standard_normal((1, 2, 30, 2), np.float32), np.ones((1, 2, 30), np.float32)
    return Episodes(x, x[..., 0] - x[..., 1], ones, ones)
