"""Seconds since the task's event before, as a feature: part of the state, in the order of arrival."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from streammeta.app.parts import decoder
from streammeta.config import Settings
from streammeta.engine import Engine, EngineSettings, Outcome
from streammeta.engine.tasks import MemorySettings
from streammeta.event import Event, Label, Origin, Record
from streammeta.review.study import Plan, opened, run
from tests.engine.handover.test_handover import SMALL, Log, moved, same, write
from tests.engine.test_corrections import in_order

Stream = Callable[..., list[Event]]
NAME = "ts.elapsed"
ON = SMALL.model_copy(update={"elapsed": NAME})


def said(times: Sequence[float | None], settings: EngineSettings = ON) -> list[float | None]:
    """The feature of events of one task with these times, in this order; each is asked for before, too."""
    engine, found = Engine(settings), []
    for i, ts in enumerate(times):
        event = Event({"a": 1.0}, "s", Origin("t", 0, i), y=i % 2, ts=ts)
        (asked,), (done,) = engine.predict([event]), engine.step([event])
        assert asked.event == done.event, "asked alone it has the same feature"
        assert isinstance(done.event, Event)
        assert isinstance(done.event.x, dict)
        found.append(done.event.x.get(NAME))
    return found


@pytest.mark.parametrize(
    ("times", "wanted"),
    [
        ([10.0, 12.5, 12.5, 20.0], [None, 2.5, 0.0, 7.5]),
        ([10.0, None, 14.0], [None, None, 4.0]),
        ([10.0, 20.0, 15.0, 21.0], [None, 10.0, 0.0, 1.0]),  # late: the next one is counted from the latest
        ([10.0, 1e9, 30.0, 40.0, 45.0], [None, 1e9 - 10, 0.0, 10.0, 5.0]),  # one wrong time stamp
        ([None, 5.0, 6.0], [None, None, 1.0]),
    ],
)
def test_it_is_the_time_since_the_tasks_event_before(times: list[float | None], wanted: list[float | None]) -> None:
    """Nothing where it cannot be known, 0 for what comes late, and one wrong time stamp is soon over."""
    assert said(times) == wanted


def test_it_is_named_for_the_time_and_made_where_records_are_mapped() -> None:
    """Of a topic whose time is another field, by `[input.fields]`; the other time features stay as they are."""
    fields = {"time": "at", "time_features": ["hour", "elapsed"]}
    settings = Settings(input={"fields": fields}, app={"kind": "regression"})
    engine, decode = Engine(settings.engine()), decoder(settings).decode
    texts = [
        b'{"task": "s", "at": "2024-01-01T10:00", "a": 1.0, "y": 2}',
        b'{"task": "s", "at": "2024-01-01T12:30", "a": 1.0}',
    ]

    found = engine.step([decode(Record(text, Origin("t", 0, i))) for i, text in enumerate(texts)])

    wanted = [{"a": 1.0, "at.hour": 10}, {"a": 1.0, "at.hour": 12, "at.elapsed": 9000.0}]
    assert [one.event.x for one in found] == wanted  # type: ignore[union-attr]  # they are events


def test_a_replay_of_a_file_makes_it_as_a_service_does(tmp_path: Path) -> None:
    """A file's columns are brought into the README's shape before: the feature was lost there, and its name with it."""
    file = tmp_path / "rows.csv"
    rows = (f"{i * 60},s,{i % 3}.5,{i * i % 7 / 3}\n" for i in range(40))
    file.write_text("at,task,a,y\n" + "".join(rows))
    settings = Settings(input={"fields": {"time": "at", "time_features": ["elapsed"]}})
    names = set[str]()

    def look(outcomes: Sequence[Outcome], _: int) -> None:
        names.update(*(one.event.x for one in outcomes if isinstance(one.event, Event)))

    with opened(Plan(file), settings, kind="regression") as ready:
        run(ready, observers=[look])

    assert names == {"a", "at.elapsed"}


def test_other_tasks_and_other_partitions_are_not_looked_at() -> None:
    """It is the task's own rhythm that says something of it."""
    engine = Engine(ON)
    tasks = [("a", 0, 1.0), ("b", 0, 2.0), ("a", 1, 3.0), ("a", 0, 5.0), ("b", 0, 9.0)]
    events = [Event({"v": 1.0}, tag, Origin("t", at, i), y=0, ts=ts) for i, (tag, at, ts) in enumerate(tasks)]

    found = [one.event.x.get(NAME) for one in engine.step(events)]  # type: ignore[union-attr]  # they are events

    assert found == [None, None, None, 4.0, 7.0]


@pytest.mark.parametrize("memory", [MemorySettings(window=40), MemorySettings(window=40, max_tasks=2)])
def test_it_is_part_of_the_state_and_polls_do_not_matter(linear_tasks: Stream, memory: MemorySettings) -> None:
    """Across polls, the spill, a move to another process, and a snapshot: to the bit."""
    settings = ON.model_copy(update={"memory": memory})
    events = [replace(one, ts=math.floor(i / 3) * 1.0) for i, one in enumerate(linear_tasks(300, tasks=5))]
    runs = [in_order(Engine(settings), events, poll) for poll in (1, 3, 16, 1_000)]
    stays, log = Engine(settings), Log()
    handover = stays.handover()
    for begin in range(0, 150, 30):
        in_order(stays, events[begin : begin + 30])
        write(log, handover)
    goes, restored = moved(stays, log, settings), Engine.restore(settings, stays.snapshot())

    rest = in_order(stays, events[150:])

    for other in runs[1:]:
        assert all(map(same, runs[0], other))
    assert all(map(same, rest, runs[0][150:]))
    assert all(map(same, rest, in_order(goes, events[150:])))
    assert all(map(same, rest, in_order(restored, events[150:])))


def test_a_label_that_comes_late_and_an_event_refused_change_nothing() -> None:
    """Only events have a time that counts; what is set aside did not happen."""
    engine = Engine(ON)
    given: list[Event | Label] = [
        Event({"a": 1.0}, "s", Origin("t", 0, 0), id="e", ts=10.0),
        Event({"a": math.inf}, "s", Origin("t", 0, 1), ts=50.0),
        Label("e", 1, "s", Origin("t", 0, 2)),
        Event({"a": 1.0}, "s", Origin("t", 0, 3), ts=13.0),
    ]

    last = engine.step(given)[-1]

    assert last.event.x[NAME] == 3.0  # type: ignore[union-attr]  # it is an event


def test_state_of_before_it_was_wanted_is_taken(linear_tasks: Stream) -> None:
    """The setting may be switched on and off; a task's first event afterwards has none."""
    events = linear_tasks(120, tasks=3)
    for before, after in ((SMALL, ON), (ON, SMALL)):
        old, log = Engine(before), Log()
        in_order(old, events[:60])
        write(log, old.handover())
        assert all(one.rejected is None for one in in_order(moved(old, log, after), events[60:]))
