"""A record that asks to forget a task: it is done where it stands in the log, and counts with the offsets."""

import json

import pytest

from streammeta.engine import EngineSettings
from streammeta.event import FORGET_HEADER, EventError, Origin, Record, task_to_forget
from streammeta.testing import Driver, MemoryLog


def filled(partitions: int = 1) -> MemoryLog:
    """Four tasks a partition, of which one is asked to be forgotten in the middle, and comes again."""
    log = MemoryLog("events", partitions=partitions)
    for i in range(120):
        number = i % partitions
        event = {"id": str(i), "task": f"t{i % 4}", "x": {"a": float(i % 7)}, "y": int(i % 7 > 3)}
        log.append(json.dumps(event).encode(), number, event["task"].encode())
        if i == 63:
            for each in range(partitions):
                log.append(None, each, b"t1", headers=((FORGET_HEADER, b"t1"),))
    return log


def new_tasks(driver: Driver) -> list[str]:
    return [one["task"] for one in driver.signals() if one["signal"] == "new_task"]


def test_a_task_that_is_asked_to_be_forgotten_begins_again() -> None:
    """What was learned of it is gone from the engine, and nothing else is."""
    log = filled()
    driver = Driver(log)
    driver.rounds(60)

    assert new_tasks(driver) == ["t0", "t1", "t2", "t3", "t1"]
    assert {task.task: task.events for task in driver.engine.tasks()} == {"t0": 30, "t1": 14, "t2": 30, "t3": 30}
    assert len(driver.predictions()) == 120
    assert driver.dead_letters() == []
    assert driver.metrics.registry.get_sample_value("streammeta_events_total", {"fate": "rejected"}) == 0.0
    assert driver.engine.stats().tasks_forgotten == {"age": 0, "limit": 0, "asked": 1}


def test_a_task_that_does_not_come_again_leaves_tombstones() -> None:
    """Whoever asks wants it gone from the topic, not from memory alone."""
    log = MemoryLog("events")
    for i in range(40):
        log.append(json.dumps({"task": f"t{i % 2}", "x": {"a": 1.0}, "y": i % 3 % 2, "id": str(i)}).encode(), 0)
    log.append(json.dumps({"task": "t1", "x": {"a": 1.0}, "id": "waits"}).encode(), 0)
    driver = Driver(log)
    driver.rounds(20)
    log.append(None, 0, b"t1", headers=((FORGET_HEADER, b"t1"),))
    driver.rounds(20)

    newest = {entry.key: entry.value for _, entry in log.read("state", 0)}
    of_it = {key: value for key, value in newest.items() if key is not None and key.endswith(b":t1")}
    assert set(of_it) == {b"task:t1", b"page:0:t1", b"wait:0:t1"}
    assert set(of_it.values()) == {None}


@pytest.mark.parametrize("memory", [{}, {"max_known_tasks": 2}, {"forget_after": 3}], ids=str)
def test_members_that_are_killed_forget_the_same(memory: dict[str, object]) -> None:
    """Exactly once: a crash between the record and the commit, or after it, changes no prediction."""
    settings = EngineSettings.model_validate({"meta": {"mode": "off"}, "memory": memory})
    undisturbed = Driver(filled(), settings=settings)
    undisturbed.rounds(100)

    log = filled()
    for i in range(12):
        member = Driver(log, f"m{i}", settings=settings, poll_records=5)
        member.rounds(3 + i % 4 * 2)
        log.leave(f"m{i}")
    last = Driver(log, "last", settings=settings)
    last.finish()

    assert last.predictions() == undisturbed.predictions()
    assert new_tasks(last) == new_tasks(undisturbed)


def test_each_partition_has_its_own_task_of_a_tag() -> None:
    """A tag seen in two partitions is two tasks, and the request is for one partition."""
    log = filled(2)
    driver = Driver(log)
    driver.rounds(80)

    assert [(task.partition, task.task, task.events) for task in driver.engine.tasks() if task.task == "t1"] == [
        (1, "t1", 14)
    ]


def test_a_request_that_cannot_be_read_is_set_aside() -> None:
    """Nothing is forgotten by guessing."""
    record = Record(None, Origin("events", 0, 7), headers=((FORGET_HEADER, b"\xff"),))

    with pytest.raises(EventError, match="events/0/7: the tag in the header streammeta-forget"):
        task_to_forget(record)
