"""`streammeta forget`: have a task forgotten, by a running service or in the state that a replay keeps.

A service is asked by a record in its input, one in each partition, all or none: as it stands in the log of the task's
own partition, it is done exactly once, together with its offset, whichever member has it and whatever happens
meanwhile. So nobody writes into the state topic but the member that owns the partition.
"""

import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from streammeta.app.inspection import settings_of, snapshot_path, state_held
from streammeta.config import Settings
from streammeta.decisions.factory import engine_class
from streammeta.engine.snapshot import read_snapshot, write_snapshot
from streammeta.errors import ConfigError, EventError, SnapshotError, TransportError
from streammeta.event import FORGET_HEADER, Origin, Record, task_to_forget
from streammeta.service.repartition import CHANNEL as REPARTITION
from streammeta.transport.kafka.client import connect, patiently
from streammeta.transport.kafka.settings import KafkaSettings
from streammeta.transport.kafka.topic_log import TopicLog
from streammeta.transport.kafka.transaction import Transactions

__all__ = ["Asked", "ask_to_forget", "forget_in_snapshot"]

_LOOK_SECONDS: Final = 0.25
_EVERY_TASK: Final = 2**31  # as many as there may be: nothing else is to be forgotten


class Asked(NamedTuple):
    """What became of a request."""

    topic: str
    partitions: int
    waiting: Mapping[int, int]  # by partition, offsets that the service has to go to the request; empty: done


def ask_to_forget(settings: Settings, task: str, *, wait_seconds: float) -> Asked:
    """Ask the service with these settings to forget a task, and wait until it has come so far.

    Args:
        settings: the service's.
        task: its tag.
        wait_seconds: the longest wait; a service that does not run will do it when it runs again.

    Raises:
        ConfigError: no task can have this tag.
        TransportError: no broker answers, the topic does not exist, or it does not take the record: nothing was asked.
    """
    tag, kafka = _checked(task).encode(), settings.kafka
    topic = f"{settings.app.name}-{REPARTITION}" if settings.input.repartition else settings.input.topic
    with Transactions(kafka, f"{settings.app.name}/forget") as transactions:
        partitions = transactions.partitions(topic)
        if not partitions:
            raise TransportError(
                f"kafka: topic {topic!r} does not exist on {kafka.bootstrap_servers}; nothing is asked"
            )
        for number in range(partitions):
            transactions.send(topic, None, key=tag, headers=((FORGET_HEADER, tag),), partition=number)
        transactions.commit()
    with closing(TopicLog(kafka, [topic])) as log:
        # the last offset is the transaction's own end, unless somebody wrote after it
        wanted = {number: end - 1 for (_, number), end in log.ends.items()}
    return Asked(topic, partitions, _wait(kafka, kafka.group_id or settings.app.name, topic, wanted, wait_seconds))


def _wait(kafka: KafkaSettings, group: str, topic: str, wanted: Mapping[int, int], seconds: float) -> dict[int, int]:
    """Until the group has committed these offsets, or so long; what is missing then, by partition."""
    begun = time.monotonic()
    admin: Any = connect(KafkaAdminClient, kafka, request_timeout_ms=kafka.milliseconds)
    try:
        while True:
            found = patiently(lambda: admin.list_group_offsets(group).get(group, {}), kafka.connect_timeout_seconds)
            committed = {at.partition: one.offset for at, one in found.items() if at.topic == topic}
            missing = {number: end - max(committed.get(number, 0), 0) for number, end in wanted.items()}
            waiting = {number: count for number, count in missing.items() if count > 0}
            if not waiting or time.monotonic() >= begun + seconds:
                return waiting
            time.sleep(_LOOK_SECONDS)
    except KafkaError as err:
        raise TransportError(
            f"kafka: the task will be forgotten, but how far the group {group!r} is cannot be seen: {err}"
        ) from err
    finally:
        admin.close()


def forget_in_snapshot(directory: Path, task: str) -> int:
    """Forget a task in the state that `replay --state` keeps there; returns in how many partitions it was known.

    Raises:
        ConfigError: no task can have this tag, or a replay that runs keeps its state there.
        SnapshotError: there is no state, or it cannot be read or written; then it stays as it was.
    """
    file, tag = snapshot_path(directory), _checked(task)
    if not file.exists():
        raise SnapshotError(f"{file}: no state there; wanted the folder of `streammeta replay --state`")
    with state_held(directory):
        return _forget_in(file, tag)


def _forget_in(file: Path, task: str) -> int:
    found = read_snapshot(file)
    if found is None:  # it was there a moment ago
        return 0
    snapshot, positions = found
    settings = settings_of(snapshot)
    memory = settings.memory.model_copy(update={"max_known_tasks": _EVERY_TASK, "forget_after": "never"})
    settings = settings.model_copy(update={"memory": memory})
    with closing(engine_class(settings).restore(settings, snapshot)) as engine:
        partitions = sorted({one.partition for one in engine.tasks()})
        forgotten = sum(engine.forget(partition, task) for partition in partitions)
        if forgotten:
            write_snapshot(file, engine.snapshot(), positions)
    return forgotten


def _checked(task: str) -> str:
    """The tag, if a task can have it."""
    try:
        task_to_forget(Record(None, Origin("forget", 0, 0), headers=((FORGET_HEADER, task.encode()),)))
    except (EventError, UnicodeEncodeError) as err:
        raise ConfigError(f"forget: no task can have this tag: {err}") from err
    return task
