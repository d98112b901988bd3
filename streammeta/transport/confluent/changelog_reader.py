"""Compacted topics of Kafka, read from their beginning by confluent-kafka."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog
from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec  # where it is declared, for type checkers

from streammeta.errors import TransactionError, TransportError
from streammeta.transport.base import Partition, Row
from streammeta.transport.confluent.client import bounded, connect, failure, wake
from streammeta.transport.kafka.settings import KafkaSettings

__all__ = ["ConfluentChangelogReader"]

_log = structlog.get_logger(__name__)
_MOST_RECORDS = 5_000
_CLOSE_SECONDS = 1.0


class ConfluentChangelogReader:
    """Reads committed records only, and knows where the topic ended when reading began.

    The end that counts is that of all records, committed or not: see `KafkaChangelogReader`.

    Args:
        settings: how to reach Kafka.
        topics: the topic of each channel.

    Raises:
        TransportError: no broker answers in time, or it refuses us.
    """

    def __init__(self, settings: KafkaSettings, topics: Mapping[str, str]) -> None:
        self._settings, self._topics = settings, dict(topics)
        self._channels = {topic: channel for channel, topic in topics.items()}
        self._where = f"kafka: tables on {settings.bootstrap_servers}"
        self._seconds = settings.connect_timeout_seconds
        self._ends: dict[Partition, int] = {}
        self._next: dict[Partition, int] = {}
        self._admin: AdminClient | None = connect(AdminClient, settings, {})
        self._consumer = connect(
            Consumer,
            settings,
            {
                "group.id": "streammeta-tables",  # wanted by the client; nothing joins it
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,  # gives the next record's offset, after the end of a transaction
                "allow.auto.create.topics": False,
                "fetch.wait.max.ms": round(settings.fetch_wait_seconds * 1000),
                "max.partition.fetch.bytes": max(settings.fetch_partition_bytes, settings.max_message_bytes),
                "fetch.queue.backoff.ms": 10,
            },
        )

    def begin(self, channel: str, partition: int) -> None:
        """Read this partition from its first record; of one that is being read already, note how far it has grown."""
        at = self._topics[channel], partition
        try:
            end = self._end(at)  # first: a caller refused here has begun nothing, and may try again
            if at not in self._ends:
                self._next[at] = 0
                self._consumer.incremental_assign([TopicPartition(*at, 0)])
                wake(self._consumer, [TopicPartition(*at)])
            self._ends[at] = end
        except KafkaException as err:
            self._drop_admin()
            raise failure(f"{self._where}: cannot be read", err) from err
        except TimeoutError as err:
            self._drop_admin()
            raise TransactionError(f"{self._where}: cannot be read: no answer within {self._seconds:g} s") from err

    def poll(self, timeout_seconds: float) -> Sequence[Row]:
        """The next committed rows of everything begun."""
        if not self._ends:
            return []
        try:
            first = self._consumer.poll(timeout_seconds)
            if first is None:
                return []
            return self._rows([first, *self._consumer.consume(_MOST_RECORDS, 0)])
        except KafkaException as err:
            raise failure(f"{self._where}: cannot be read", err) from err

    def missing(self, channel: str, partition: int) -> int:
        """How many offsets there are to go, to the end that ``begin`` saw."""
        at = self._topics[channel], partition
        return max(0, self._ends[at] - self._next[at])

    def end(self, channel: str, partition: int) -> None:
        """Read no more of it."""
        at = self._topics[channel], partition
        if self._ends.pop(at, None) is not None:
            del self._next[at]
            self._consumer.incremental_unassign([TopicPartition(*at)])

    def close(self) -> None:
        """Let go of everything; may be called twice."""
        self._ends.clear()
        self._consumer.close()

    def _rows(self, messages: Sequence[Any]) -> list[Row]:
        rows, following = [], self._next
        for message in messages:
            error, at = message.error(), (message.topic(), message.partition())
            if error is None:
                if at in following:
                    following[at] = message.offset() + 1
                    key = message.key() or b""
                    rows.append(Row(self._channels[at[0]], at[1], key, message.value(), message.offset()))
            elif error.code() == KafkaError._PARTITION_EOF:
                if at in following:
                    following[at] = max(following[at], message.offset())
            elif error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:  # of a group that nothing joins
                self._on_error(error)
        return rows

    def _on_error(self, error: KafkaError) -> None:
        reason_found = failure(f"{self._where}: cannot be read", error)
        if not isinstance(reason_found, TransactionError):
            raise reason_found
        _log.warning("the client reports trouble", reason=str(reason_found))

    def _end(self, at: Partition) -> int:
        where = TopicPartition(*at)
        if self._admin is None:
            try:
                self._admin = connect(AdminClient, self._settings, {})
            except TransportError as err:
                raise TransactionError(str(err)) from err
        asked: Any = self._admin.list_offsets(
            {where: OffsetSpec.latest()},  # type: ignore[no-untyped-call]
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            request_timeout=self._seconds,
        )
        return int(asked[where].result(self._seconds).offset)

    def _drop_admin(self) -> None:
        """The next question goes by a client that knows nothing yet.

        After a crash of the broker an admin client of librdkafka goes on asking under the leader's old epoch, and is
        refused (FENCED_LEADER_EPOCH), until it reads its metadata again: up to five minutes, which was how long
        restoring could stand still.
        """
        holder, self._admin = [self._admin], None
        with suppress(TimeoutError):
            bounded(holder.clear, _CLOSE_SECONDS)  # its end waits for threads, and has no time limit
