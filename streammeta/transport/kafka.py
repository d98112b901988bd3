"""Kafka, by kafka-python: a source that is a member of a consumer group, and a sink with an idempotent producer.

Who moves partitions, and when: the client joins the group inside ``poll``, on a network thread of its own. What it
learns there is only noted down; between two rounds of the same ``poll``, on the caller's thread, the source acts on it.
``on_revoked`` has returned before the member asks for its next assignment, and the group waits for that before anyone
else gets the partitions: so what is committed in ``on_revoked`` is what the next owner starts from.
"""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import FencedInstanceIdError, KafkaError, KafkaTimeoutError, UnknownError
from kafka.structs import MemberState

from streammeta.errors import TransportError
from streammeta.event import Origin, Record
from streammeta.transport.base import Message, Partition, Positions
from streammeta.transport.kafka_client import KafkaSettings, connect, create_topics, ensure_topics

__all__ = ["KafkaSettings", "KafkaSink", "KafkaSource", "OnPartitions", "create_topics", "ensure_topics"]

OnPartitions: TypeAlias = Callable[[Collection[Partition]], None]
_Move: TypeAlias = tuple[Literal["assigned", "revoked"], frozenset[Partition]]
_CLOSE_SECONDS: Final = 5.0


class KafkaSource:
    """Reads one topic as a member of a consumer group; only committed records, from the earliest on.

    Where reading starts in a partition: at the later one of its committed offset and the offset given to :meth:`seek`
    beforehand; at its first record when there is neither. Not thread-safe: one thread polls, seeks and commits.

    Args:
        settings: how to reach Kafka.
        topic: what to read; it must exist.
        group_id: the consumer group, unless ``settings.group_id`` names one.
        on_revoked: told, inside ``poll``, which partitions go to another member (or went already, after a silence
            longer than the session timeout; then :meth:`commit` raises). It may commit them.
        on_assigned: told, inside ``poll``, which partitions came, before any of their records. It may :meth:`seek`.

    Raises:
        TransportError: no broker answers in time, or it refuses us.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        group_id: str,
        *,
        on_revoked: OnPartitions | None = None,
        on_assigned: OnPartitions | None = None,
    ) -> None:
        self._settings = settings
        self._group = settings.group_id or group_id
        self._where = f"kafka: topic {topic!r} on {settings.bootstrap_servers}, group {self._group!r}"
        self._on_revoked, self._on_assigned = on_revoked, on_assigned
        self._timeout_ms = round(settings.connect_timeout_seconds * 1000)
        self._kept: dict[Partition, int] = {}  # sought, not assigned yet
        self._next: dict[Partition, int] = {}  # assigned, with what comes next
        self._moves: deque[_Move] = deque()  # told by the group, not acted on yet
        self._closed = False
        self._consumer: Any = connect(_Consumer, settings, **self._options())
        self._consumer.between_rounds = self._act
        self._consumer.subscribe([topic], listener=_Listener(self._note))

    def poll(self, max_records: int, timeout_seconds: float) -> Sequence[Record]:
        """The next records. A change of partitions can make it longer than ``timeout_seconds``, never endless.

        Raises:
            TransportError: the broker refuses us for good; a broker that is away only means no records.
        """
        count = min(max_records, self._settings.max_poll_records)
        try:
            fetched = self._consumer.poll(timeout_ms=round(timeout_seconds * 1000), max_records=count)
        except FencedInstanceIdError as err:
            name = self._settings.group_instance_id
            raise TransportError(f"{self._where}: another member runs under group_instance_id {name!r}") from err
        except KafkaError as err:
            raise TransportError(f"{self._where}: cannot be read: {err}") from err
        records: list[Record] = []
        for (topic, number), batch in fetched.items():
            if (topic, number) in self._next:
                self._next[topic, number] = batch[-1].offset + 1
                records += map(_record, batch)
        if not records:
            self._pass_markers()
        return records

    @property
    def exhausted(self) -> bool:
        """Never: a topic has no end."""
        return False

    def assigned(self) -> Mapping[Partition, int]:
        """Partitions that are ours, each with its next offset."""
        return dict(self._next)

    def seek(self, positions: Positions) -> None:
        """Go on from these offsets, forwards or back, in partitions that are ours; keep the others for when they are.

        A kept offset is used once, and only if the committed one is not later.
        """
        for partition, offset in positions.items():
            if partition in self._next:
                self._consumer.seek(TopicPartition(*partition), offset)
                self._next[partition] = offset
            else:
                self._kept[partition] = offset

    def commit(self, positions: Positions) -> None:
        """Commit these next offsets, and wait until the broker has them, ``connect_timeout_seconds`` at most.

        Raises:
            TransportError: a partition is not ours, or the broker does not take the commit in time.
        """
        foreign = sorted(f"{topic}/{number}" for topic, number in positions.keys() - self._next.keys())
        if foreign:
            raise TransportError(f"{self._where}: cannot commit {', '.join(foreign)}: not ours (any more)")
        if not positions:
            return
        if self._consumer.group_metadata().state is MemberState.REBALANCING:  # the client would wait in vain
            raise TransportError(f"{self._where}: offsets not committed: partitions are being shared out; poll first")
        offsets = {
            TopicPartition(*partition): OffsetAndMetadata(offset, "", -1) for partition, offset in positions.items()
        }
        try:
            self._consumer.commit(offsets, timeout_ms=self._timeout_ms)
        except KafkaTimeoutError as err:
            seconds = self._timeout_ms / 1000
            raise TransportError(f"{self._where}: offsets not committed: no answer within {seconds:g} s") from err
        except KafkaError as err:
            raise TransportError(f"{self._where}: offsets not committed: {err}") from err

    def lag(self) -> Mapping[Partition, int]:
        """Records behind the end of each partition, as far as the last fetch saw it."""
        ends = {partition: self._consumer.highwater(TopicPartition(*partition)) for partition in self._next}
        return {partition: max(0, end - self._next[partition]) for partition, end in ends.items() if end is not None}

    def close(self) -> None:
        """Leave the group; calls neither ``on_revoked`` nor ``commit``."""
        if self._closed:
            return
        self._closed = True
        try:
            self._consumer.close(autocommit=False, timeout_ms=round(_CLOSE_SECONDS * 1000))
        except KafkaError as err:
            raise TransportError(f"{self._where}: not left cleanly: {err}") from err
        finally:
            self._next.clear()

    def _options(self) -> dict[str, Any]:
        settings = self._settings
        session_ms = round(settings.session_timeout_seconds * 1000)
        return {
            "group_id": self._group,
            "group_instance_id": settings.group_instance_id,
            "isolation_level": "read_committed",
            "auto_offset_reset": "earliest",
            "enable_auto_commit": False,
            "allow_auto_create_topics": False,
            "partition_assignment_strategy": [CooperativeStickyAssignor()],
            "session_timeout_ms": session_ms,
            "heartbeat_interval_ms": min(1000, session_ms // 4),  # how soon a member learns that others came or went
            "max_poll_interval_ms": round(settings.max_poll_interval_seconds * 1000),
            "max_poll_records": settings.max_poll_records,
            "fetch_max_wait_ms": round(settings.fetch_wait_seconds * 1000),
            "fetch_min_bytes": settings.fetch_min_bytes,
            "max_partition_fetch_bytes": settings.fetch_partition_bytes,
        }

    def _note(self, what: Literal["assigned", "revoked"], partitions: Collection[TopicPartition]) -> None:
        """Called by the client on its network thread, while the thread that polls waits for it."""
        if what == "assigned":  # nothing of them may come out before `on_assigned` has returned
            self._consumer.pause(*partitions)
        self._moves.append((what, frozenset((topic, number) for topic, number in partitions)))

    def _act(self) -> None:
        """Act on what the group told, in its order, on the thread that polls."""
        while self._moves and not self._closed:
            what, partitions = self._moves[0]
            if what == "revoked":
                self._moves.popleft()
                self._let_go(partitions & self._next.keys())
            elif self._place(partitions):
                self._moves.popleft()
                self._take(partitions & self._next.keys())
            else:
                return  # the broker did not say in time where they start: they stay paused until the next round

    def _take(self, partitions: Collection[Partition]) -> None:
        if partitions and self._on_assigned is not None:
            self._on_assigned(partitions)
        self._consumer.resume(*(TopicPartition(*partition) for partition in partitions))

    def _let_go(self, partitions: Collection[Partition]) -> None:
        try:
            if partitions and self._on_revoked is not None:
                self._on_revoked(partitions)
        finally:
            for partition in partitions:
                self._next.pop(partition, None)

    def _place(self, partitions: Collection[Partition]) -> bool:
        """Set where reading starts in new partitions; False: not known yet."""
        ours = [TopicPartition(*partition) for partition in partitions]
        ours = [partition for partition in ours if partition in self._consumer.assignment()]  # not gone again
        starts = {(p.topic, p.partition): self._consumer.position(p, timeout_ms=self._timeout_ms) for p in ours}
        known = {partition: start for partition, start in starts.items() if start is not None}
        if len(known) < len(starts):
            return False
        for partition, start in known.items():
            kept = self._kept.pop(partition, start)
            if kept > start:
                self._consumer.seek(TopicPartition(*partition), kept)
            self._next[partition] = max(kept, start)
        return True

    def _pass_markers(self) -> None:
        """Step over what is no record, such as the end of a transaction, so that it does not look like lag."""
        for partition in self._next:
            position = self._consumer.position(TopicPartition(*partition), timeout_ms=0)
            if position is not None:
                self._next[partition] = max(position, self._next[partition])


class _Consumer(KafkaConsumer):  # type: ignore[misc]  # kafka-python has no types
    """A consumer that lets its owner act between two rounds of a poll, and that takes up every join it began.

    kafka-python (3.0.12) leaves a join running when a poll's time is over, and the next poll should take up its result.
    It does not where the join ends between two polls: it joins again, which makes every other member join again too,
    so that a group whose members work between their polls can go on like that for minutes. And where the join was
    asked for by new metadata, it forgets the join altogether: the member stays without partitions, and without a word.
    """

    between_rounds: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, **configs: Any) -> None:  # noqa: ANN401 (kafka-python has no types)
        super().__init__(**configs)
        coordinator = self._coordinator
        join: Callable[[], Awaitable[bytes]] = coordinator._do_join_and_sync_async
        finished: list[bytes] = []  # what the last join brought, unless it failed

        async def join_once() -> bytes:
            if not (finished and coordinator.rebalance_in_progress()):  # in progress until a poll takes it up
                finished.clear()
                finished.append(await join())
            return finished[0]

        coordinator._do_join_and_sync_async = join_once

    def _poll_once(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 (kafka-python has no types)
        if self._coordinator.rebalance_in_progress():
            self._coordinator.request_rejoin()  # do not forget it
        records = super()._poll_once(*args, **kwargs)
        self.between_rounds()
        return records


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    def __init__(self, note: Callable[[Literal["assigned", "revoked"], Collection[TopicPartition]], None]) -> None:
        self._note = note

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        self._note("revoked", revoked)

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._note("assigned", assigned)


def _record(fetched: Any) -> Record:  # noqa: ANN401 (kafka-python has no types)
    return Record(
        value=fetched.value,
        origin=Origin(fetched.topic, fetched.partition, fetched.offset),
        key=fetched.key,
        headers=tuple((name, value or b"") for name, value in fetched.headers),
        timestamp=None if fetched.timestamp is None or fetched.timestamp < 0 else fetched.timestamp / 1000,
    )


class KafkaSink:
    """Sends results to topics, each once and in order as long as this sink lives (idempotent producer, all replicas).

    Args:
        settings: how to reach Kafka.
        topics: the topic of each channel; a message's key (the task) chooses the partition.

    Raises:
        TransportError: no broker answers in time, or it refuses us.
    """

    def __init__(self, settings: KafkaSettings, topics: Mapping[str, str]) -> None:
        self._topics = dict(topics)
        self._where = f"kafka: {settings.bootstrap_servers}"
        self._failures: deque[tuple[str, Exception]] = deque(maxlen=1000)
        self._note_failure = {topic: self._failure_of(topic) for topic in self._topics.values()}
        self._producer: Any = connect(
            KafkaProducer,
            settings,
            acks="all",
            enable_idempotence=True,
            linger_ms=round(settings.linger_seconds * 1000),
            batch_size=128 * 1024,
            retry_backoff_ms=20,
            max_request_size=settings.max_message_bytes,
            max_block_ms=round(settings.connect_timeout_seconds * 1000),
            allow_auto_create_topics=False,
        )

    def send(self, messages: Sequence[Message]) -> None:
        """Hand over results; waits, ``connect_timeout_seconds`` at most, when the broker does not keep up.

        Raises:
            TransportError: a channel has no topic, a topic does not exist, or a message is too long.
        """
        for message in messages:
            topic = self._topics.get(message.channel)
            if topic is None:
                channels = ", ".join(self._topics)
                raise TransportError(
                    f"{self._where}: no topic for channel {message.channel!r}; wanted one of {channels}"
                )
            try:
                sent = self._producer.send(topic, message.value, message.key, list(message.headers))
            except KafkaTimeoutError as err:
                hint = "is the topic there, and the broker up?"
                raise TransportError(f"{self._where}: topic {topic!r} took no message in time; {hint} ({err})") from err
            except KafkaError as err:
                raise TransportError(f"{self._where}: topic {topic!r} does not take a message: {err}") from err
            sent.add_errback(self._note_failure[topic])

    def flush(self, timeout_seconds: float) -> None:
        """Wait until the broker has all that was sent.

        Raises:
            TransportError: it has not, in time; or a message was refused. A refused message is lost, so that every
                later flush fails too.
        """
        deadline = time.monotonic() + timeout_seconds
        while not self._flushed(max(0.0, deadline - time.monotonic())):
            if time.monotonic() >= deadline:
                raise TransportError(f"{self._where}: results not acknowledged within {timeout_seconds:g} s")
        self._raise_failures()

    def _flushed(self, timeout_seconds: float) -> bool:
        try:
            self._producer.flush(timeout_seconds)
        except (KafkaTimeoutError, UnknownError):  # the second: a batch too long for the topic is being sent in halves
            return False
        except KafkaError as err:
            raise TransportError(f"{self._where}: results not acknowledged: {err}") from err
        return True

    def close(self) -> None:
        """Flush, within a few seconds, and let go.

        Raises:
            TransportError: not all that was sent is safe.
        """
        if self._producer is None:
            return
        producer, self._producer = self._producer, None
        try:
            producer.close(timeout=_CLOSE_SECONDS)
        except KafkaError as err:
            producer._sender.force_close()  # close() leaves its thread when it cannot flush
            raise TransportError(f"{self._where}: results not acknowledged within {_CLOSE_SECONDS:g} s") from err
        self._raise_failures()

    def _failure_of(self, topic: str) -> Callable[[Exception], None]:
        return lambda err: self._failures.append((topic, err))

    def _raise_failures(self) -> None:
        if self._failures:
            topic, err = self._failures[0]
            raise TransportError(
                f"{self._where}: {len(self._failures)} messages refused, the first by topic {topic!r}: {err}"
            ) from err
