"""Labels corrected later, with `on_second = "relearn"`: the task becomes what it would be with the right label."""

from collections.abc import Callable, Sequence

import pytest
from msgspec.structs import replace

from streammeta.engine import Engine, EngineSettings, MetaSettings, Outcome
from streammeta.engine.outcome import Correction
from streammeta.engine.tasks import MemorySettings
from streammeta.event import Event, Label, LabelValue, Origin
from streammeta.meta.settings import LearnerSettings
from tests.engine.handover.test_handover import Log, moved, same, write

Stream = Callable[..., list[Event]]
ALONE = EngineSettings.model_validate(
    {
        "learner": LearnerSettings(hidden=8, encoded=4, memories=(20.0,), members=2, experts=()).model_dump(),
        "meta": MetaSettings(mode="off").model_dump(),
        "memory": MemorySettings(window=40).model_dump(),
        "drift": {"detector": "none"},
        "on_second": "relearn",
    }
)
BESIDE = ALONE.model_copy(
    update={"learner": LearnerSettings(hidden=8, encoded=4, memories=(20.0,), members=2), "meta": MetaSettings()}
)


def wrong(event: Event) -> Event:
    return replace(event, y=1 - int(event.y or 0))


def corrected(event: Event, y: LabelValue | None = None) -> Label:
    assert event.id is not None
    assert event.y is not None
    return Label(event.id, event.y if y is None else y, event.task, event.origin)


def in_order(engine: Engine, given: Sequence[Event | Label], poll: int = 1_000) -> list[Outcome]:
    return [one for begin in range(0, len(given), poll) for one in engine.step(given[begin : begin + poll])]


def test_a_stream_whose_labels_were_wrong_at_first_ends_like_one_with_right_labels(linear_tasks: Stream) -> None:
    """To the bit, within the window's reach: φ is made of the corrected window by the code that learns."""
    events = linear_tasks(120, tasks=4)
    first = [wrong(one) if i % 3 == 0 else one for i, one in enumerate(events[:100])]
    right, mended, never = Engine(ALONE), Engine(ALONE), Engine(ALONE)
    in_order(right, events[:100])
    in_order(never, first)
    in_order(mended, first)

    fates = in_order(mended, [corrected(one) for one, said in zip(events, first, strict=False) if one.y != said.y])
    # φ of who never erred is made of the window too, as after a change of θ; else sums differ in their last bits
    in_order(right, [corrected(one, 1 - int(one.y or 0)) for one in events[96:100]])
    in_order(right, [corrected(one) for one in events[96:100]])

    assert all(isinstance(one, Correction) and one.rejected is None for one in fates)
    assert mended.stats().corrected == len(fates) == 34
    assert mended.stats().labelled == 100
    after = [in_order(engine, events[100:]) for engine in (right, mended, never)]
    differ = [abs(_p(a) - _p(b)) for a, b in zip(after[0], after[1], strict=True)]
    assert max(differ) < 1e-6
    assert max(abs(_p(a) - _p(b)) for a, b in zip(after[0], after[2], strict=True)) > 0.05


def _p(one: Outcome) -> float:
    assert one.probabilities is not None
    return one.probabilities.get(1, 0.0)


@pytest.mark.parametrize("settings", [ALONE, BESIDE])
def test_corrections_do_not_hang_on_polls(linear_tasks: Stream, settings: EngineSettings) -> None:
    """A poll may end anywhere: before the event, between it and its label, or between that and the correction."""
    given: list[Event | Label] = []
    for i, event in enumerate(linear_tasks(300, tasks=3)):
        late = replace(event, y=None) if i % 2 else event
        given.append(late)
        if i % 2:
            given.append(corrected(event, 1 - int(event.y or 0)))
        if i % 3 == 0:
            given.append(corrected(event, 1 - int(event.y or 0) if i % 2 == 0 else None))
    runs = [in_order(Engine(settings), given, poll) for poll in (1, 3, 16, 1_000)]

    assert sum(isinstance(one, Correction) for one in runs[0]) == 100
    for other in runs[1:]:
        assert all(map(same, runs[0], other))


@pytest.mark.parametrize(
    "settings", [ALONE, ALONE.model_copy(update={"memory": MemorySettings(window=40, max_tasks=2)})]
)
def test_corrections_move_with_their_task_to_the_bit(linear_tasks: Stream, settings: EngineSettings) -> None:
    """A corrected label in a page that was written long ago is written again, also of a task that was in the spill."""
    events = linear_tasks(400, tasks=5)
    stays, log = Engine(settings), Log()
    handover = stays.handover()
    for begin in range(0, 240, 30):
        in_order(stays, events[begin : begin + 30])
        write(log, handover)
        in_order(stays, [corrected(one, 1 - int(one.y or 0)) for one in events[max(0, begin - 40) : begin : 7]])
        write(log, handover)
    goes = moved(stays, log, settings)
    rest: list[Event | Label] = [*events[240:260], *(corrected(one) for one in events[200:240:3]), *events[260:]]

    assert all(map(same, in_order(stays, rest), in_order(goes, rest)))
    restored = Engine.restore(settings, stays.snapshot())
    again: list[Event | Label] = [*(corrected(one, 1) for one in events[380:400]), *linear_tasks(40, tasks=5, seed=2)]
    assert all(map(same, in_order(stays, again), in_order(restored, again)))


def test_state_is_taken_where_second_labels_were_or_are_ignored(linear_tasks: Stream) -> None:
    """The setting may be switched on and off; events of before have no id that a correction could name."""
    events = linear_tasks(200, tasks=3)
    for before, after in (("ignore", "relearn"), ("relearn", "ignore")):
        old, log = Engine(ALONE.model_copy(update={"on_second": before})), Log()
        handover = old.handover()
        in_order(old, events[:100])
        write(log, handover)
        new = moved(old, log, ALONE.model_copy(update={"on_second": after}))
        assert all(map(same, in_order(old, events[100:]), in_order(new, events[100:])))


@pytest.mark.parametrize(
    ("label", "says"),
    [
        (Label("e7", 1, "s9", Origin("t", 0, 50)), "no task 's9' is known, and no event of that id waits"),
        (Label("e7", 1, "", Origin("t", 0, 50)), "it names no task; wanted the event's `task`"),
        (Label("e0", 1, "s", Origin("t", 0, 50)), "its event is not among the last 40 labelled ones of its task"),
        (Label("never", 1, "s", Origin("t", 0, 50)), "its event is not among the last 40 labelled ones of its task"),
    ],
)
def test_what_corrects_nothing_says_why(label: Label, says: str) -> None:
    """It goes to the dead letters with this reason, and changes nothing."""
    engine = Engine(ALONE)
    in_order(engine, [Event({"a": float(i)}, "s", Origin("t", 0, i), y=i % 2, id=f"e{i}") for i in range(45)])

    (outcome,) = engine.step([label])

    assert outcome.rejected is not None
    assert outcome.rejected.startswith(f"t/0/50: a second label for id '{label.id}', but ")
    assert says in outcome.rejected
    assert (engine.stats().refused, engine.stats().corrected) == (1, 0)


def test_a_correction_may_bring_a_class_and_the_same_label_again_changes_nothing() -> None:
    """A producer that sends twice must not make φ another one."""
    events = [Event({"a": float(i)}, "s", Origin("t", 0, i), y="no", id=f"e{i}") for i in range(6)]
    once, twice = Engine(ALONE), Engine(ALONE)
    for engine in (once, twice):
        in_order(engine, [*events, Label("e5", "yes", "s", Origin("t", 0, 6))])

    in_order(twice, [Label("e5", "yes", "s", Origin("t", 0, 7)), Label("e4", "no", "s", Origin("t", 0, 8))])

    asked = Event({"a": 5.0}, "s", Origin("t", 0, 9))
    first, second = once.step([asked])[0], twice.step([asked])[0]
    assert same(first, second)
    assert first.probabilities is not None
    assert set(first.probabilities) == {"no", "yes"}
