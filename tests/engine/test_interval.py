"""Intervals of targets: they hold as many labels as was said, whatever the stream does, and go on after a restore."""

import json
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from streammeta.engine import Engine, EngineSettings, MetaSettings, Outcome
from streammeta.engine.interval import Intervals
from streammeta.engine.partitioned import Renumbering
from streammeta.errors import SnapshotError
from streammeta.event import Event, Label, Origin
from streammeta.meta.settings import LearnerSettings
from streammeta.testing import Driver, MemoryLog

LEVEL = 0.9


def settings(level: float | None = LEVEL, **more: object) -> EngineSettings:
    """A small learner, which is quick."""
    learner = LearnerSettings(members=1, hidden=8, encoded=4)
    return EngineSettings(kind="regression", learner=learner, meta=MetaSettings(mode="off"), interval=level, **more)


def stream(events: int, *, tasks: int = 1, factor: float = 1.0, drifts: bool = False, seed: int = 1) -> list[Event]:
    """Linear tasks, each on a scale of its own, with heavy tails (Student's t, 3 degrees) and, if wanted, drifts."""
    random = np.random.default_rng(seed)
    slopes, found = random.normal(size=(tasks, 3)), []
    for i in range(events):
        task = int(random.integers(tasks))
        if drifts and i % 500 == 0:
            slopes = random.normal(size=(tasks, 3))
        x = random.normal(size=3)
        noise = (1 + 3 * (drifts and i // 1000 % 2)) * random.standard_t(3)
        y = float(factor * 10.0 ** (task % 5) * (slopes[task] @ x + 0.5 * noise))
        found.append(Event(dict(zip("abc", x.tolist(), strict=True)), f"t{task}", Origin("e", 0, i), y=y, id=str(i)))
    return found


def late(events: Sequence[Event], delay: int) -> Iterator[Event | Label]:
    """The same events, whose labels come ``delay`` events later."""
    for i, event in enumerate(events):
        yield Event(event.x, event.task, event.origin, id=event.id)
        if i >= delay:
            known = events[i - delay]
            yield Label(known.id or "", known.y or 0.0, known.task, known.origin)


def run(engine: Engine, events: Sequence[Event | Label], poll: int = 128) -> list[Outcome]:
    """The outcomes of events that come in polls."""
    return [one for at in range(0, len(events), poll) for one in engine.step(events[at : at + poll])]


def coverage(outcomes: Sequence[Outcome], begin: int = 1_000) -> float:
    """The share of labels inside, from a label on."""
    labelled = [one for one in outcomes if one.event.y is not None][begin:]
    return float(np.mean([one.interval[0] <= one.event.y <= one.interval[1] for one in labelled]))  # type: ignore[index,operator]


@pytest.mark.parametrize("level", [0.8, 0.9])
@pytest.mark.parametrize(
    "events",
    [
        pytest.param(stream(6_000), id="one-task"),
        pytest.param(stream(6_000, tasks=40), id="many-scales"),
        pytest.param(stream(8_000, tasks=5, drifts=True), id="drifts"),
    ],
)
def test_as_many_labels_lie_inside_as_was_said(events: list[Event], level: float) -> None:
    """Tails are heavy and concepts change, so a Gaussian's own interval holds another share."""
    outcomes = run(Engine(settings(level)), events)

    assert coverage(outcomes) == pytest.approx(level, abs=0.02)


@pytest.mark.parametrize("delay", [40, 300])
def test_late_labels_are_held_against_the_interval_that_was_said(delay: int) -> None:
    """Held against the interval of now, what was written would hold fewer labels; and widths would swing."""
    outcomes = run(Engine(settings()), [*late(stream(8_000, tasks=5), delay)])

    said = {one.event.id: one.interval for one in outcomes if isinstance(one.event, Event)}
    labels = [one for one in outcomes if isinstance(one.event, Label)]
    assert all(one.interval == said[one.event.id] for one in labels)
    assert coverage(labels) == pytest.approx(LEVEL, abs=0.02)


def test_the_same_in_each_task() -> None:
    """One interval for all would hold everything of one task and little of another whose variance is misjudged."""
    outcomes = run(Engine(settings()), stream(12_000, tasks=6))

    for task in range(6):
        assert coverage([one for one in outcomes if one.event.task == f"t{task}"], 500) == pytest.approx(
            LEVEL, abs=0.04
        )


def test_as_many_labels_lie_above_as_below_where_the_noise_is_skewed() -> None:
    """A central interval has as much left out on either side; around the mean it would miss on one side only."""
    random, events = np.random.default_rng(3), stream(6_000)
    skewed = [Event(e.x, e.task, e.origin, y=float(random.exponential())) for e in events]

    outcomes = run(Engine(settings()), skewed)[1_000:]

    below = np.mean([one.event.y < one.interval[0] for one in outcomes])  # type: ignore[index,operator]
    above = np.mean([one.event.y > one.interval[1] for one in outcomes])  # type: ignore[index,operator]
    assert below == pytest.approx(0.05, abs=0.02)
    assert above == pytest.approx(0.05, abs=0.02)


def test_predictions_a_thousand_times_as_large_have_intervals_a_thousand_times_as_wide() -> None:
    """Somewhere a unit would be hidden."""
    random, found = np.random.default_rng(5), []
    mean, variance, labels = random.normal(size=300), random.uniform(0.5, 2.0, 300), random.standard_t(3, 300)
    for factor in (1.0, 1_000.0):
        bounds, columns = np.full((300, 3), np.nan), {"interval.task": np.zeros((4, 2))}
        predicted = factor * mean, factor**2 * variance
        Intervals(LEVEL).run(columns, np.arange(300) % 4, [0] * 300, predicted, factor * labels, bounds)
        found.append(bounds[:, :2])

    np.testing.assert_allclose(found[1], 1_000 * found[0], rtol=1e-9)


@pytest.mark.parametrize("poll", [1, 7, 1_000])
def test_intervals_do_not_depend_on_polls(poll: int) -> None:
    """A replay would say other ones than the service did."""
    events = [*late(stream(400, tasks=4, drifts=True), 30)]

    assert run(Engine(settings()), events, poll) == run(Engine(settings()), events)


def test_a_restored_engine_goes_on_with_the_same_intervals() -> None:
    """What was learned about widths would be lost at each restart, or come back different."""
    events = [*late(stream(600, tasks=4), 30)]
    engine = Engine(settings())
    run(engine, events[:700])

    again = Engine.restore(settings(), engine.snapshot())

    assert run(again, events[700:]) == run(engine, events[700:])


def test_what_a_step_would_say_is_what_predict_says() -> None:
    """River's `predict_one` would give another interval than the service."""
    engine, events = Engine(settings()), stream(300, tasks=3)
    run(engine, events[:-1])

    (predicted,) = engine.predict(events[-1:])
    before = engine.predict([Event({"a": 1.0}, "new", Origin("e", 0, 0))])

    assert before == engine.predict([Event({"a": 1.0}, "new", Origin("e", 0, 0))])  # nothing has changed
    assert predicted.interval == engine.step(events[-1:])[0].interval


def test_intervals_can_be_turned_on_and_off_under_a_state_that_is_there() -> None:
    """Who turned them on in a running service would have to throw away what it learned."""
    events = stream(400, tasks=3)
    plain = Engine(settings(None))
    run(plain, events)

    turned_on = Engine.restore(settings(), plain.snapshot())
    outcomes = run(turned_on, events)
    turned_off = Engine.restore(settings(None), turned_on.snapshot())

    assert outcomes[0].interval is not None
    assert [one.prediction for one in run(turned_off, events)] == [one.prediction for one in run(turned_on, events)]


def test_one_label_moves_the_interval_by_hand() -> None:
    """By hand: w of the partition is 1 · 0.9 after one label outside, of the task 0.05 · 0.9; l is 0.01 and 0.02."""
    intervals, columns = Intervals(LEVEL), {"interval.task": np.zeros((1, 2))}
    labels, bounds = np.array([9.0, 5.0]), np.full((2, 3), np.nan)  # the first was predicted before any was known
    intervals.run(columns, np.zeros(2, np.int64), [0, 0], (np.zeros(2), np.full(2, 4.0)), labels, bounds)

    lower, upper = intervals.predict(columns, 0, 0, 1.0, 4.0)

    half = 2 * 1.6448536269514722
    assert bounds.tolist() == [pytest.approx([-half, half, before]) for before in (0.0, 1.0)]
    assert lower == pytest.approx(1 - half * math.exp(0.945 - 0.03))
    assert upper == pytest.approx(1 + half * math.exp(0.945 + 0.03))


def served(log: MemoryLog, stops: Sequence[int], level: float | None = LEVEL) -> list[dict[str, object]]:
    """The predictions of a service that is stopped, and begun again by another member, after so many rounds each."""
    for number, rounds in enumerate(stops):
        member = Driver(log, f"m{number}", settings(level))
        member.rounds(rounds)
        member.leave()
    last = Driver(log, "last", settings(level))
    last.finish()
    return last.predictions()


def recorded() -> MemoryLog:
    """A topic of two partitions, with labels that come late."""
    log = MemoryLog("events", partitions=2)
    for one in late(stream(300, tasks=6), 20):
        record = {"id": one.id, "task": one.task}
        record |= {"x": one.x} if isinstance(one, Event) else {"y": one.y}
        log.append(json.dumps(record).encode(), int(one.task[1:]) % 2, one.task.encode())
    return log


def test_a_service_that_crashes_writes_the_same_intervals() -> None:
    """What a partition and the waiting events know of intervals goes through the changelog."""
    whole, stopped = served(recorded(), []), served(recorded(), [17, 9])

    assert {one["source"]: (one["lower"], one["upper"]) for one in whole} == {
        one["source"]: (one["lower"], one["upper"]) for one in stopped
    }
    assert len(whole) == 300


def test_a_service_takes_over_a_state_without_intervals_and_gives_one_back() -> None:
    """The changelog of a running service has rows of both kinds after the setting was changed."""
    log = recorded()
    member = Driver(log, "without", settings(None))
    member.rounds(20)
    member.leave()

    found = served(log, [10])
    other = Driver(log, "off", settings(None))
    other.finish()

    assert "lower" not in found[0]
    assert "lower" in found[-1]


def test_a_damaged_state_is_refused() -> None:
    """A width that is no number would make every interval of the partition one."""
    intervals, here = Intervals(LEVEL), Renumbering(np.arange(0), np.arange(0), same=True)

    for wrong in (
        np.array([np.nan, 0, 0, 0, 0]),
        np.array([99.0, 0, 0, 0, 0]),
        np.array([0, 0, -1.0, 0, 0]),
        np.zeros(3),
    ):
        with pytest.raises(SnapshotError, match="events/0: intervals of a partition"):
            intervals.take_partition(0, {"interval.partition": wrong}, here, "events/0")


def test_classes_have_no_intervals() -> None:
    """A setting that is ignored looks like one that works."""
    with pytest.raises(ValueError, match="interval: is of a predicted target"):
        EngineSettings(kind="classification", interval=0.9)
