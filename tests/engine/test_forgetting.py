"""Tasks leave: wherever something is kept of one, it is gone, and what comes of its tag again is a new task's."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from streammeta.engine import Engine, EngineSettings, Outcome, Signal
from streammeta.engine.snapshot import read_snapshot, write_snapshot
from streammeta.event import Event, Label, Origin

LinearTasks = Callable[..., list[Event]]
SMALL = {"hidden": 12, "encoded": 8}
SYNC = {"every_events": 10, "tasks": 2, "length": 16}
OFF = {"mode": "off"}


def settings(meta: dict[str, object] | None = None, **memory: object) -> EngineSettings:
    return EngineSettings.model_validate({"learner": SMALL, "meta": meta or OFF, "memory": {"window": 32} | memory})


def run(engine: Engine, events: Sequence[Event | Label], poll: int) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for i in range(0, len(events), poll):
        outcomes += engine.step(events[i : i + poll])
    return outcomes


def visits(linear_tasks: LinearTasks) -> list[Event | Label]:
    """Tasks that come in bursts and stay away for a while, some of whose labels come late or never."""
    stream: list[Event | Label] = []
    late: list[Label] = []
    for i, event in enumerate(linear_tasks(500, tasks=6, seed=5)):
        tag = f"task-{i // 9 % 7}" if i % 4 else event.task
        stream.append(replace(event, task=tag, y=None if i % 5 == 0 else event.y))
        if i % 5 == 0 and i % 3:
            late.append(Label(str(event.id), event.y or 0, tag, Origin("test", 0, i)))
        if len(late) > 6:
            stream.append(late.pop(0))
    return stream


@pytest.mark.parametrize("meta", [SYNC, OFF], ids=["sync", "off"])
@pytest.mark.parametrize("memory", [{"forget_after": 12}, {"max_known_tasks": 3}, {"forget_after": "20s"}], ids=str)
def test_what_is_forgotten_does_not_depend_on_poll_size(
    linear_tasks: LinearTasks, memory: dict[str, object], meta: dict[str, object]
) -> None:
    """To the bit: a task that returns just when it is forgotten is new or known in every replay, not in some."""
    events, chosen = visits(linear_tasks), settings(meta, max_tasks=2, **memory)

    one_by_one = run(Engine(chosen), events, 1)

    for poll in (3, 16, 1000):
        assert run(Engine(chosen), events, poll) == one_by_one
    new = [outcome for outcome in one_by_one if outcome.signal is Signal.NEW_TASK]
    assert len(new) > 7 + 3
    assert all(outcome.age == 0 for outcome in new)


def test_a_forgotten_task_begins_as_a_new_one_does(linear_tasks: LinearTasks) -> None:
    """With θ fixed it predicts what a tag that was never there predicts, from its first event to its last."""
    events = linear_tasks(120, tasks=1)
    absent = [replace(event, task="another") for event in linear_tasks(30, tasks=1, seed=1)]
    forgetful, fresh = Engine(settings(forget_after=30)), Engine(settings())
    run(forgetful, [*events, *absent], 16)
    run(fresh, absent, 16)

    assert [task.task for task in forgetful.tasks()] == ["another"]
    again = [replace(event, task="task-0") for event in linear_tasks(60, tasks=1, seed=2)]
    first, second = run(forgetful, again, 16), run(fresh, again, 16)

    assert first[0].signal is Signal.NEW_TASK
    assert [one.age for one in first] == [one.age for one in second]


@pytest.mark.parametrize("memory", [{"forget_after": 12}, {"max_known_tasks": 3}], ids=str)
@pytest.mark.parametrize("stop", [60, 233, 491])
def test_a_snapshot_goes_on_as_if_nothing_had_happened(
    linear_tasks: LinearTasks, tmp_path: Path, memory: dict[str, object], stop: int
) -> None:
    """Also where a task is forgotten and its row not given back yet."""
    events, chosen = visits(linear_tasks), settings(SYNC, max_tasks=2, **memory)
    undisturbed = run(Engine(chosen), events, 7)

    before = Engine(chosen)
    found = run(before, events[:stop], 7)
    write_snapshot(tmp_path / "state", before.snapshot(), {})
    saved = read_snapshot(tmp_path / "state")
    assert saved is not None
    after = Engine.restore(chosen, saved[0])
    known = {task.task for task in before.tasks()}

    assert {task.task for task in after.tasks()} == known
    assert found + run(after, events[stop:], 7) == undisturbed


@pytest.mark.parametrize("memory", [{"forget_after": 12}, {"max_known_tasks": 3}], ids=str)
def test_the_changelog_is_emptied_and_a_restore_goes_on_alike(
    linear_tasks: LinearTasks, memory: dict[str, object]
) -> None:
    """What a topic keeps of a task that is gone it keeps for ever, and a restore would bring the task back."""
    events, chosen = visits(linear_tasks), settings(max_tasks=2, **memory)
    engine, log, found = Engine(chosen), dict[bytes, bytes](), list[Outcome]()
    handover = engine.handover()
    for i in range(0, len(events), 10):
        found += engine.step(events[i : i + 10])
        for _, key, value in handover.changes():
            log.pop(key, None)
            if value is not None:
                log[key] = value
        known = {task.task for task in engine.tasks()}
        kept = {key.decode().rpartition(":")[2] for key in log if not key.startswith((b"schema", b"part"))}
        assert kept <= known

        engine = Engine(chosen)  # another process takes over after each commit
        handover = engine.handover()
        list(handover.take(0, log, "state/0"))
        assert {task.task for task in engine.tasks()} == known

    assert [(one.age, one.signal) for one in found] == [
        (one.age, one.signal) for one in run(Engine(chosen), events, 1000)
    ]


def test_a_task_that_came_back_in_the_same_commit_leaves_nothing_of_its_former_life(linear_tasks: LinearTasks) -> None:
    """Else pages of a window that is gone stay in the topic, and are read as the new one's."""
    engine = Engine(settings())
    handover, log = engine.handover(), dict[bytes, bytes]()

    def commit() -> None:
        for _, key, value in handover.changes():
            log.pop(key, None)
            if value is not None:
                log[key] = value

    engine.step(linear_tasks(80, tasks=1))
    commit()
    assert engine.forget(0, "task-0")
    engine.step(linear_tasks(20, tasks=1, seed=1))
    commit()

    assert {key for key in log if key.startswith(b"page")} == {b"page:0:task-0"}
    restored = Engine(settings())
    list(restored.handover().take(0, log, "state/0"))
    assert [(task.events, task.labelled) for task in restored.tasks()] == [(20, 20)]
    assert engine.forget(0, "task-0")
    assert not engine.forget(0, "task-0")
    commit()
    assert [key for key in log if not key.startswith(b"schema")] == []


def test_no_record_of_the_partition_holds_a_number_of_a_forgotten_task(linear_tasks: LinearTasks) -> None:
    """The forest remembers events of all tasks; it is grown again without those that were to be forgotten."""
    engine, log = Engine(settings()), dict[bytes, bytes]()
    handover = engine.handover()
    odd = [Event({"a": 12345.678 + i, "b": 0.5}, "odd", Origin("in", 0, i), y=i % 2) for i in range(40)]
    bytes_of = [np.float32(12345.678 + i).tobytes() for i in range(40)]

    def commit() -> None:
        for _, key, value in handover.changes():
            log.pop(key, None)
            if value is not None:
                log[key] = value

    engine.step([*odd, *linear_tasks(60, tasks=2)])
    commit()
    assert all(any(found in value for value in log.values()) for found in bytes_of)
    assert engine.forget(0, "odd")
    commit()

    assert not any(found in value for value in log.values() for found in bytes_of)
    restored = Engine(settings())
    list(restored.handover().take(0, log, "state/0"))
    one, other = (each.memory.partitions.of(0) for each in (engine, restored))
    assert {name: array.tobytes() for name, array in one.items()} == {
        name: array.tobytes() for name, array in other.items()
    }


def test_a_label_of_a_forgotten_task_is_refused_and_counted() -> None:
    """Its event is gone; to learn it as another task's would be worse than to say so."""
    engine = Engine(settings(forget_after=3))
    engine.step([Event({"a": 1.0}, "gone", Origin("in", 0, 0), id="1")])
    engine.step([Event({"a": 1.0}, "busy", Origin("in", 0, i), y=1) for i in range(1, 4)])

    (outcome,) = engine.step([Label("1", 1, "gone", Origin("in", 0, 4))])

    assert "its task was forgotten" in str(outcome.rejected)
    stats = engine.stats()
    assert (stats.tasks, stats.pending_labels, stats.waiting_forgotten) == (1, 0, 1)
    assert stats.tasks_forgotten == {"age": 1, "limit": 0, "asked": 0}


def test_predict_says_what_step_would_say_of_a_forgotten_task() -> None:
    """An estimator asks before it learns."""
    engine = Engine(settings(forget_after=3))
    engine.step([Event({"a": 1.0}, "gone", Origin("in", 0, 0), y=0)])
    engine.step([Event({"a": 1.0}, "busy", Origin("in", 0, i), y=1) for i in range(1, 4)])
    event = Event({"a": 1.0}, "gone", Origin("in", 0, 4))

    (asked,), (stepped,) = engine.predict([event]), engine.step([event])

    assert asked == stepped
    assert asked.signal is Signal.NEW_TASK


def test_a_million_tags_would_leave_nothing_in_any_part_of_the_engine() -> None:
    """Every dictionary by task or row stays as small as the tasks that are known."""
    engine = Engine(settings(max_tasks=4, max_known_tasks=20))
    engine.write_episodes()
    handover = engine.handover()
    for i in range(0, 3_000, 10):
        events: list[Event | Label] = [
            Event({"a": float(j)}, f"t{j}", Origin("in", 0, j), y=j % 2 if j % 3 else None, id=str(j))
            for j in range(i, i + 10)
        ]
        engine.step(events)
        list(handover.changes())
        list(engine.changed_episodes())
    for name, size in sizes(engine):
        assert size <= 20 + 1024 + 10, name  # rows are given back each 1,024 events
    assert engine.stats().tasks == 20


def sizes(thing: object, name: str = "engine", depth: int = 4) -> Iterator[tuple[str, int]]:
    """Every collection of a part of ours, and how much it holds."""
    if depth == 0:
        return
    attributes = [*getattr(thing, "__dict__", {}).items()]
    attributes += [(slot, getattr(thing, slot, None)) for slot in getattr(type(thing), "__slots__", ())]
    for attribute, value in attributes:
        where = f"{name}.{attribute}"
        if isinstance(value, dict | set | list):
            yield where, len(value)
        elif type(value).__module__.startswith("streammeta."):
            yield from sizes(value, where, depth - 1)


def test_who_trains_forgets_tasks_of_other_members_too(linear_tasks: LinearTasks) -> None:
    """A trainer sees the tags of all partitions: what it keeps of them must be as bounded as its own."""
    gives, trains = Engine(settings()), Engine(settings(SYNC, max_tasks=3, max_known_tasks=5))
    gives.write_episodes()
    for i in range(40):
        gives.step([replace(event, task=f"t{i}") for event in linear_tasks(32, tasks=1, seed=i)])
    segments = list(gives.changed_episodes())
    for partition, key, value in segments:
        trains.observe_episode(partition, key, value, "episodes/0")

    assert len({key for _, key, _ in segments}) >= 40
    assert trains.memory.exchange.tasks_elsewhere == 5
    assert trains.stats().tasks == 0
    assert trains.stats().forgotten_by_limit == 0  # whoever has them counts them
    assert len(trains.memory.tasks) == 5
