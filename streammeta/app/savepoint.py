"""`streammeta savepoint` and `restore`: what an application knows as files, and an application that begins with them.

A savepoint is made beside a running service, by reading its topics. It is of one moment: between two commits, state,
θ, sums and offsets do not change, and a reading that saw none of them change is of between two commits.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from streammeta.app.parts import new_engine
from streammeta.app.savepoint_file import Manifest, begin, finish, read_manifest, read_table, write_table
from streammeta.config import Settings
from streammeta.engine import Engine
from streammeta.engine.handover import Changelog
from streammeta.errors import ConfigError, MissingTopicError, SnapshotError, TransportError
from streammeta.service.published import CLAIM, Published
from streammeta.service.repartition import CHANNEL as REPARTITION
from streammeta.service.result import CHANNELS, EPISODES, STATE, WEIGHTS
from streammeta.transport.base import Partition
from streammeta.transport.kafka.group import Group, InputNow, input_now, log_ids
from streammeta.transport.kafka.input_log import metadata_of
from streammeta.transport.kafka.topic_log import TopicLog
from streammeta.transport.kafka.topics import ensure_topics
from streammeta.transport.kafka.transaction import Offset, Transactions

__all__ = ["Start", "engine_of_service", "restore", "savepoint"]

_QUIET_SECONDS: Final = 60.0  # the longest wait for a moment between two commits, after everything was read once
_TRANSACTION_SECONDS: Final = 900.0  # what Kafka takes at most, unless its broker's settings say otherwise


@dataclass(frozen=True, slots=True)
class Start:
    """Where a restored application begins to read: one of these."""

    saved: bool = False  # where the saved one had come to
    earliest: bool = False  # the first record there is
    latest: bool = False  # what comes from now on
    since: float | None = None  # the first record of this time or later, in seconds since 1970


class _Content:
    """State and weights on their way, checked by an engine of the application's settings.

    Args:
        settings: of the application whose state it is to be.
        partitions: of the input.
    """

    def __init__(self, settings: Settings, partitions: int) -> None:
        self.engine: Engine = new_engine(settings)
        self._handover = self.engine.handover()
        self.state: dict[int, Changelog] = {number: self._handover.collect() for number in range(partitions)}
        self.weights: dict[bytes, bytes] = {}

    def note_weights(self, key: bytes, value: bytes | None) -> None:
        """The last value of a key of the weights' topic; who trained there does not train here."""
        if value is None or key == CLAIM:
            self.weights.pop(key, None)
        else:
            self.weights[key] = value

    def check(self, where: str) -> tuple[int, int | None]:
        """Take all of it, as a service does that begins with it; returns how many tasks there are, and θ's version.

        Raises:
            SnapshotError: something of it is damaged, of another version, or of other settings.
        """
        published = Published(f"{where}, {WEIGHTS}")
        for key, value in self.weights.items():
            published.note(key, value)
        published.kept()  # decoded here, to see that none is damaged
        if published.theta is not None:
            self.engine.adopt(published.theta, train=False)
        sums = {
            number: self.engine.add_sums(number, value, f"{where}, the sums of partition {number}")
            for number, value in published.sums.items()
        }
        tasks = 0
        for number, records in self.state.items():
            done = 0
            for taken in self._handover.take(number, records, f"{where}, state {number}"):
                done = taken
            tasks += done
        self.engine.own_sums(self.state, sums)  # which normalization is in force, as a member that has all goes on
        return tasks, None if published.theta is None else published.theta.version

    def close(self) -> None:
        for records in self.state.values():
            records.close()
        self.engine.close()


@contextmanager
def engine_of_service(settings: Settings, *, quiet_seconds: float = _QUIET_SECONDS) -> Iterator[Engine]:
    """An engine that knows what a service knows, as of one moment between two commits; the service runs on.

    Raises:
        TransportError: the topics cannot be read.
        SnapshotError: what the topics hold is damaged, or of other settings.
    """
    name, kafka = settings.app.name, settings.kafka
    topic = f"{name}-{REPARTITION}" if settings.input.repartition else settings.input.topic
    with ExitStack() as stack:
        group = stack.enter_context(closing(Group(kafka, kafka.group_id or name)))
        log = stack.enter_context(closing(TopicLog(kafka, [f"{name}-{STATE}", f"{name}-{WEIGHTS}"])))
        partitions = sum(of == f"{name}-{STATE}" for of, _ in log.ends)
        content = stack.enter_context(closing(_Content(settings, partitions)))
        _read_a_moment(log, group, topic, content, quiet_seconds)
        content.check(f"{name} on {kafka.bootstrap_servers}")
        yield content.engine


def savepoint(settings: Settings, folder: Path, *, quiet_seconds: float = _QUIET_SECONDS) -> Manifest:
    """Write what an application knows, as of one moment between two commits, into a folder; the service runs on.

    Args:
        settings: of the application.
        folder: it must not be there yet.
        quiet_seconds: the longest wait for such a moment.

    Raises:
        ConfigError: the application sends records on by task: its offsets are of a topic of its own.
        TransportError: the topics cannot be read, or the folder cannot be written.
        SnapshotError: what the topics hold is damaged, or of other settings.
    """
    _refuse_repartition(settings)
    name, topic = settings.app.name, settings.input.topic
    partial = begin(folder)
    with ExitStack() as stack:
        stack.callback(_discard, partial)
        group = stack.enter_context(closing(Group(settings.kafka, settings.kafka.group_id or name)))
        log = stack.enter_context(closing(TopicLog(settings.kafka, [f"{name}-{STATE}", f"{name}-{WEIGHTS}"])))
        partitions = sum(of == f"{name}-{STATE}" for of, _ in log.ends)
        content = stack.enter_context(closing(_Content(settings, partitions)))
        offsets = _read_a_moment(log, group, topic, content, quiet_seconds)
        tasks, theta = content.check(f"{name} on {settings.kafka.bootstrap_servers}")
        ids = log_ids(offsets)
        if len(ids) > 1:
            raise TransportError(
                f"kafka: the offsets of {name!r} are of {len(ids)} logs: {topic!r} was deleted and created again; let "
                "the service commit in all partitions first"
            )
        manifest = Manifest(
            1,
            version("streammeta"),
            name,
            settings.app.kind,
            datetime.now(UTC).isoformat(timespec="seconds"),
            topic,
            next(iter(ids), ""),
            {number: one.next for (_, number), one in sorted(offsets.items())},
            tasks,
            theta,
            {n: write_table(partial, f"{STATE}-{n}", records.items()) for n, records in content.state.items()},
            write_table(partial, WEIGHTS, content.weights.items()),
        )
        return finish(partial, folder, manifest)


def restore(
    settings: Settings, folder: Path, start: Start, *, write: bool = True
) -> tuple[Manifest, Mapping[int, int]]:
    """Let a new application begin with a savepoint: its topics get what the savepoint holds, in one transaction.

    Args:
        settings: of the new application, with another name, or on another broker.
        folder: the savepoint.
        start: where it begins to read.
        write: False: only check everything.

    Returns:
        What the savepoint is, and the next offset by partition; partitions that are not there begin at their first
        record.

    Raises:
        ConfigError: it sends records on by task.
        SnapshotError: the savepoint is damaged, or of other settings.
        TransportError: the application is not new, its input is not what was saved, or the broker refuses.
    """
    _refuse_repartition(settings)
    manifest, name, kafka = read_manifest(folder), settings.app.name, settings.kafka
    if manifest.kind != settings.app.kind:
        raise SnapshotError(
            f"{folder}: is of kind {manifest.kind!r}, and [app] kind is {settings.app.kind!r}; set it so"
        )
    now = input_now(kafka, settings.input.topic, since=start.since)
    if len(now.ends) != len(manifest.state):
        raise TransportError(
            f"kafka: topic {settings.input.topic!r} has {len(now.ends)} partitions, and the savepoint has "
            f"{len(manifest.state)}; tasks would not find their state: wanted an input with as many"
        )
    offsets = _starts(manifest, now, start, settings.input.topic)
    with ExitStack() as stack:
        content = stack.enter_context(closing(_Content(settings, len(manifest.state))))
        for number, table in manifest.state.items():
            read_table(folder, f"{STATE}-{number}", table, content.state[number].put)
        read_table(folder, WEIGHTS, manifest.weights, content.note_weights)
        content.check(str(folder))
        _check_new(settings)
        if write:
            outputs = [f"{name}-{channel}" for channel in CHANNELS]
            tables = {f"{name}-{STATE}": None, f"{name}-{WEIGHTS}": 1}
            ensure_topics(kafka, settings.input.topic, outputs, tables, rings=[f"{name}-{EPISODES}"])
            _write(settings, content, offsets, now)
    return manifest, offsets


def _read_a_moment(
    log: TopicLog, group: Group, topic: str, content: _Content, quiet_seconds: float
) -> Mapping[Partition, Offset]:
    """Read everything; then what came meanwhile, until nothing came: nothing was committed in between."""
    name = next(of for of, _ in log.ends if of.endswith(f"-{STATE}"))
    until: float | None = None
    while True:
        before = group.offsets(topic, len(content.state))
        log.extend()
        for record in log.records():
            if record.origin.topic == name:
                content.state[record.origin.partition].put(record.key or b"", record.value)
            else:
                content.note_weights(record.key or b"", record.value)
        if before == group.offsets(topic, len(content.state)) and not log.extend():
            return before
        until = time.monotonic() + quiet_seconds if until is None else until
        if time.monotonic() > until:
            raise TransportError(
                f"kafka: {name} found no moment without a commit within {quiet_seconds:g} s; try again, or let members "
                "commit more seldom ([state] every_seconds)"
            )


def _starts(manifest: Manifest, now: InputNow, start: Start, topic: str) -> Mapping[int, int]:
    if start.earliest:
        return now.begins
    if start.latest:
        return now.ends
    if start.since is not None:
        return now.found
    other = "begin elsewhere: --from earliest, latest, or a time"
    if manifest.log and now.id and manifest.log != now.id:
        raise TransportError(
            f"kafka: the savepoint's offsets are of another log than topic {topic!r} is now ({manifest.topic!r} with "
            f"id {manifest.log}, and not {now.id}): on another broker, or created again; {other}"
        )
    for number, offset in manifest.offsets.items():
        if not now.begins[number] <= offset <= now.ends[number]:
            raise TransportError(
                f"kafka: the savepoint was read up to offset {offset} of {topic}/{number}, which holds "
                f"{now.begins[number]} to {now.ends[number]}: records were deleted; {other}"
            )
    return manifest.offsets


def _check_new(settings: Settings) -> None:
    """Nothing may be mixed with what is there already."""
    name, kafka = settings.app.name, settings.kafka
    group_name = kafka.group_id or name
    advice = "a savepoint is restored into a new application: take another [app] name, or delete its topics and group"
    with closing(Group(kafka, group_name)) as group:
        if group.members():
            session = f"{kafka.session_timeout_seconds:g} s ([kafka] session_timeout_seconds)"
            raise TransportError(
                f"kafka: group {group_name!r} has members: the application runs, or was killed less than {session} "
                f"ago; {advice}"
            )
        if group.offsets(settings.input.topic, len(input_now(kafka, settings.input.topic).ends)):
            raise TransportError(f"kafka: group {group_name!r} has committed offsets; {advice}")
    for topic in (f"{name}-{STATE}", f"{name}-{WEIGHTS}"):
        try:
            log = TopicLog(kafka, [topic])
        except MissingTopicError:
            continue
        with closing(log):
            if next(log.records(), None) is not None:
                raise TransportError(f"kafka: topic {topic!r} holds records; {advice}")


def _write(settings: Settings, content: _Content, offsets: Mapping[int, int], now: InputNow) -> None:
    """All of it counts, or nothing."""
    name, topic = settings.app.name, settings.input.topic
    group = settings.kafka.group_id or name
    with Transactions(
        settings.kafka, f"{name}/savepoint/restore", timeout_seconds=_TRANSACTION_SECONDS
    ) as transactions:
        for number, records in content.state.items():
            for key, value in records.items():
                transactions.send(f"{name}-{STATE}", value, key=key, partition=number)
        for key, value in content.weights.items():
            transactions.send(f"{name}-{WEIGHTS}", value, key=key, partition=0)
        committed = {(topic, number): Offset(offset, metadata_of(now.id)) for number, offset in offsets.items()}
        transactions.commit(group, committed)


def _refuse_repartition(settings: Settings) -> None:
    if settings.input.repartition:
        raise ConfigError(
            "[input] repartition: the offsets are of NAME-repartition, a topic of the application's own, which another "
            "application does not read; savepoints are for applications without it"
        )


def _discard(partial: Path) -> None:
    """Remove what was not finished."""
    if partial.exists():
        for file in partial.iterdir():
            file.unlink()
        partial.rmdir()
