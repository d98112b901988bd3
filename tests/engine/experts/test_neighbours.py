"""The expert that asks the nearest events of a task's own window."""

import numpy as np
import pytest

from streammeta.engine import Engine, EngineSettings, Outcome
from streammeta.engine.columns import Columns
from streammeta.engine.experts import Case
from streammeta.engine.experts.neighbours import Neighbours
from streammeta.event import Event, Origin
from streammeta.meta.base import Kind, Scaling

UNSCALED = Scaling(np.zeros(1, np.float32), np.ones(1, np.float32), 0.0, 1.0)


def window(xs: list[float], ys: list[float]) -> Columns:
    """One task that remembers these events of one feature, in a ring of sixteen."""
    columns = Columns({"window_x": np.full((1, 16, 1), np.nan, np.float32), "window_y": np.zeros((1, 16), np.float32)})
    columns["window_x"][0, : len(xs), 0], columns["window_y"][0, : len(ys)] = xs, ys
    columns["window_count"] = np.array([len(xs)])
    return columns


def ask(kind: Kind, columns: Columns, x: float, outputs: int) -> np.ndarray | None:
    return Neighbours(kind, lambda _columns, _row: UNSCALED).predict(
        columns, Case(0, "t", np.array([x], np.float32)), outputs
    )


def islands(n: int, seed: int) -> list[Event]:
    """Forty small clusters in the plane, each of one of two classes by lot: no smooth concept."""
    random = np.random.default_rng(seed)
    centres, classes = random.uniform(-2, 2, (40, 2)), random.integers(0, 2, 40)
    events = []
    for i in range(n):
        k = int(random.integers(40))
        a, b = centres[k] + 0.05 * random.normal(size=2)
        events.append(Event({"a": float(a), "b": float(b)}, "t", Origin("islands", 0, i), y=int(classes[k])))
    return events


def errors(outcomes: list[Outcome]) -> float:
    return sum(outcome.error or 0.0 for outcome in outcomes) / len(outcomes)


def test_the_nearest_count_by_a_kernel_as_wide_as_they_are_far() -> None:
    """By hand: squared distances 1, 1, 4 have mean 2, so weights e^-½, e^-½, e^-2; what lies at 5 is not asked."""
    said = ask("classification", window([-1.0, 1.0, 2.0, 5.0], [0, 1, 1, 2]), 0.0, 3)

    near, far = np.exp(-0.5), np.exp(-2.0)
    assert said is not None
    np.testing.assert_allclose(said, np.array([near, near + far, 0.0]) / (2 * near + far), atol=1e-6)


def test_a_target_is_the_weighted_mean_of_ten() -> None:
    """Ten at one distance weigh the same; the eleventh, far away, would pull the mean if it were asked."""
    said = ask("regression", window([1.0, -1.0] * 5 + [4.0], [float(y) for y in range(10)] + [1000.0]), 0.0, 1)

    assert said is not None
    assert said[0] == pytest.approx(4.5)


def test_it_has_no_opinion_on_two_events() -> None:
    """What one or two events say of a new task is mostly chance."""
    assert ask("classification", window([1.0, 2.0], [0, 1]), 0.0, 2) is None


def test_a_missing_feature_lies_at_the_mean() -> None:
    """As for the learner; a NaN among the distances would make all comparisons false and every event the nearest."""
    columns = window([np.nan, 0.1, -0.1, 3.0, 4.0], [1, 1, 1, 0, 0])

    said = ask("classification", columns, float("nan"), 2)

    assert said is not None
    np.testing.assert_allclose(said, [0.0, 1.0])


def test_it_helps_where_classes_are_many_small_islands() -> None:
    """The reason why it is there: smooth heads draw one border, neighbours forty."""
    events = islands(1500, seed=1)

    with_it, without = (
        errors(Engine(EngineSettings.model_validate({"learner": {"experts": experts}})).step(events)[500:])
        for experts in (["neighbours"], [])
    )

    assert with_it < 0.7 * without


def test_a_drift_that_resets_a_task_takes_its_neighbours_too(linear_tasks) -> None:
    """With response "reset" the old concept is forgotten; an expert that still quoted it would be the old concept's voice."""
    events = linear_tasks(600, tasks=1, switch_at=400)
    settings = EngineSettings.model_validate({"learner": {"experts": ["neighbours"]}, "drift": {"response": "reset"}})
    engine = Engine(settings)
    outcomes = engine.step(events)

    drifts = [i for i, outcome in enumerate(outcomes) if outcome.signal == "drift"]
    after = [outcome for i, outcome in enumerate(outcomes) if drifts and i > drifts[-1] + 60]

    assert any(400 <= drift < 500 for drift in drifts)
    assert errors(after) < 0.2
