import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest

from streammeta.engine import Engine, EngineSettings, MetaSettings
from streammeta.engine.handover.changelog import Changelog, Held
from streammeta.engine.tasks import MemorySettings
from streammeta.event import Event, Origin
from streammeta.meta.settings import LearnerSettings


@pytest.mark.parametrize("most_bytes", [0, 500, 2_000, 10**9])
def test_the_last_value_of_each_key_comes_back_in_the_order_of_last_records(tmp_path: Path, most_bytes: int) -> None:
    """As a compacted topic has it: what is forgotten stays forgotten, wherever it was held meanwhile."""
    held = Held(tmp_path, most_bytes)
    log, plain = Changelog(held), dict[bytes, bytes]()
    for i in range(500):
        key, value = b"key:%d" % (i * 7 % 83), None if i % 5 == 0 else b"%d" % i * 3
        log.put(key, value)
        plain.pop(key, None)
        if value is not None:
            plain[key] = value

    assert list(log.items()) == list(plain.items())
    assert len(log) == len(plain)
    assert log.get(b"key:0") == plain.get(b"key:0")
    assert log.get(b"nobody's") is None
    log.close()
    assert (held.entries, held.bytes) == (0, 0)
    assert list(tmp_path.iterdir()) == []


def test_several_changelogs_hold_a_bounded_part_in_memory_together(tmp_path: Path) -> None:
    """A member that takes over all partitions reads their changelogs side by side: each alone would not be too large."""
    held = Held(tmp_path, 100_000)
    logs = [Changelog(held) for _ in range(8)]
    for i in range(5_000):
        logs[i % 8].put(b"task:%d" % i, bytes(300))
    assert [len(log) for log in logs] == [625] * 8
    for log in logs:
        log.close()

    assert 0 < held.peak_entries <= 100_000 / 500 + 1


def test_a_large_changelog_is_restored_in_little_memory_and_whole(tmp_path: Path) -> None:
    """With many tasks the changelog is much larger than what stays in memory: reading it must not be the peak."""
    settings = EngineSettings(
        learner=LearnerSettings(hidden=8, encoded=4, memories=(20.0,), members=1),
        meta=MetaSettings(mode="off"),
        memory=MemorySettings(window=16, max_tasks=100, max_features=8, max_classes=4, spill_directory=tmp_path),
    )
    count = 6_000
    with closing(Engine(settings)) as engine:
        handover = engine.handover()
        held = Held(tmp_path, 200_000)
        log, size = Changelog(held), 0
        for begin in range(0, count, 500):
            for i in range(begin, begin + 500):
                engine.step(
                    [Event({"a": i % 7, "b": j}, f"t{i}", Origin("in", 0, 20 * i + j), y=j % 2) for j in range(20)]
                )
            for _, key, value in handover.changes():
                log.put(key, value)
                size += len(key) + len(value or b"")
        expected = {(task.partition, task.task): (task.events, task.labelled) for task in engine.tasks()}

    with closing(Engine(settings)) as fresh:
        tracemalloc.start()
        done = list(fresh.handover().take(0, log, "state/0"))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        found = {(task.partition, task.task): (task.events, task.labelled) for task in fresh.tasks()}
        in_memory = fresh.stats().tasks_in_memory
    log.close()

    assert (done[-1], in_memory) == (count, 100)
    assert found == expected
    assert held.peak_entries < count / 5
    assert peak < size / 2, (peak, size)
    assert list(tmp_path.iterdir()) == []
