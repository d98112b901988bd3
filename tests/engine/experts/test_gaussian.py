"""The expert for many classes."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from msgspec.structs import replace
from scipy import stats

from streammeta.engine import Engine, EngineSettings
from streammeta.engine.columns import Columns
from streammeta.engine.experts import Case
from streammeta.engine.experts.gaussian import Gaussian, check_gaussian, renumber_gaussian
from streammeta.engine.sums import PartitionSums
from streammeta.errors import ConfigError, SnapshotError
from streammeta.event import Event, Feature, Origin
from streammeta.meta.base import Scaling
from streammeta.simulators import simulate

SMALL = {"hidden": 12, "encoded": 8, "members": 2}
UNIT = Scaling(np.zeros(2, np.float32), np.ones(2, np.float32), 0.0, 1.0)


def crowd(events: int, classes: int = 60, tasks: int = 1) -> list[Event]:
    """Clusters, a class each."""
    settings = {"centroids": classes, "classes": classes, "tasks": tasks, "drift": "none"}
    samples = simulate("random-rbf", events=events, seed=0, **settings)
    return [Event(s.x, s.task, Origin("crowd", 0, i), y=s.y) for i, s in enumerate(samples)]


def settings(**learner: object) -> EngineSettings:
    changes = {"learner": SMALL | {"experts": []} | learner, "meta": {"every_events": 32}, "memory": {"max_tasks": 2}}
    return EngineSettings.model_validate(changes)


def error(chosen: EngineSettings, events: list[Event]) -> float:
    outcomes = Engine(chosen).step(events)[len(events) // 2 :]
    return sum(outcome.error or 0.0 for outcome in outcomes) / len(outcomes)


def test_many_classes_are_told_apart_by_it_and_it_needs_no_setting() -> None:
    """Least squares on one-hot labels masks classes where they are more than the encoder's features."""
    events = crowd(1_600)

    assert error(settings(), events) < 0.75 * error(settings(many_classes=0), events)


def test_with_few_classes_it_sleeps() -> None:
    """Most streams have few classes, and must not pay for it, nor predict anything else."""
    events = crowd(400, classes=6)
    asleep, never = Engine(settings()), Engine(settings(many_classes=0))

    assert asleep.step(events) == never.step(events)
    assert asleep.memory.tasks.columns["gaussian.mean"].size == 0


def test_polls_spills_and_restarts_change_nothing() -> None:
    """What it counts lies in rows and in a snapshot, also where it wakes up in between. To the bit."""
    events = crowd(360, classes=30, tasks=4)
    whole, engine, cut = Engine(settings()), Engine(settings()), []

    for at in range(0, 360, 60):
        cut += [one for i in range(at, at + 60, 5) for one in engine.step(events[i : i + 5])]
        engine = Engine.restore(settings(), engine.snapshot())

    assert cut == whole.step(events)
    assert whole.memory.tasks.columns["gaussian.count"].any()


def test_a_restore_knows_no_more_of_a_feature_that_came_late() -> None:
    """Its squares count from a moment that all parts know; a restore counted it at once, as one that says nothing."""
    events = [replace(event, x=dict(event.x) | {"late": float(i % 7)}) for i, event in enumerate(crowd(300, 12))]
    events = [replace(event, x=without(event.x, "late")) if i < 200 else event for i, event in enumerate(events)]
    whole, cut = Engine(settings()).step(events), []

    engine = Engine(settings())
    for at in range(0, 300, 10):
        cut += engine.step(events[at : at + 10])
        engine = Engine.restore(settings(), engine.snapshot())

    assert cut == whole


def without(x: Mapping[str, Feature] | Sequence[float | None], name: str) -> dict[str, Feature]:
    return {key: value for key, value in dict(x).items() if key != name}  # type: ignore[arg-type]


def test_it_says_what_the_posterior_predictive_of_normal_gamma_says() -> None:
    """By the textbook: Student's t about the shrunken mean, its variance between the class's own and the pooled one."""
    sums = PartitionSums()
    expert = Gaussian(lambda _columns, _row: UNIT, sums)
    columns = Columns.blank(expert.layout(2, 2), 1)
    random = np.random.default_rng(0)
    for i in range(12):
        expert.learn(columns, Case(0, "t", random.normal(i % 2, 0.3, 2).astype(np.float32)), i % 2)
        sums.publish_shared()
    columns["gaussian.heat"][0] = 0.0, -1e9, -1e9  # no tempering
    x = np.array([0.4, math.nan], np.float32)

    said = expert.predict(columns, Case(0, "t", x), 2)

    total, count = sums.within
    inside, scores = total[0] / count[0], []
    for c in range(2):
        n, mean, square = (columns[f"gaussian.{name}"][0, c] for name in ("count", "mean", "square"))
        variance = (square[0] + 4 * inside) / (n + 4) * (1 + 1 / (n + inside))
        density = stats.t(n + 4, loc=n * mean[0] / (n + inside), scale=math.sqrt(variance))
        scores.append(
            n
            * density.pdf(float(x[0]))
            * math.sqrt(n + 4)
            / math.exp(math.lgamma((n + 5) / 2) - math.lgamma((n + 4) / 2))
        )
    assert said is not None
    np.testing.assert_allclose(said, np.array(scores) / sum(scores), rtol=1e-6)


def test_rows_from_another_process_get_the_numbers_of_this_one() -> None:
    """A rebalance must not turn one class into another; what is damaged is refused."""
    layout = Gaussian(lambda _columns, _row: UNIT, PartitionSums()).layout(2, 2)
    found = {name: np.arange(np.prod((1, *c.shape)), dtype=c.dtype).reshape(1, *c.shape) for name, c in layout.items()}
    here = {name: np.zeros((3, *(2 * n for n in c.shape)), c.dtype) for name, c in layout.items()}

    renumber_gaussian(here, np.array([1]), found, np.array([3, -1]), np.array([2, 0]))

    assert here["gaussian.count"][1].tolist() == [1, 0, 0, 0]
    assert here["gaussian.square"][1, 2, 3] == found["gaussian.square"][0, 0, 0]
    assert here["gaussian.mean"][1, 0, 3] == found["gaussian.mean"][0, 1, 0]
    assert np.isnan(here["gaussian.mean"][1, 1]).all()
    asleep = {name: array[:, :0] for name, array in found.items()}
    renumber_gaussian(here, np.array([2]), asleep, np.array([3, -1]), np.array([2, 0]))
    assert not here["gaussian.count"][2].any()
    check_gaussian(found, "state/0")
    with pytest.raises(SnapshotError, match=r"state/0: a row with gaussian\.square"):
        check_gaussian(found | {"gaussian.square": -found["gaussian.square"]}, "state/0")


def test_targets_are_no_classes() -> None:
    """Better told at the start."""
    with pytest.raises(ConfigError, match="'gaussian' is about classes"):
        Engine(EngineSettings.model_validate({"kind": "regression", "learner": {"experts": ["gaussian"]}}))
