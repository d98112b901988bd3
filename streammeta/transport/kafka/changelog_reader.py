"""Compacted topics of Kafka, read from their beginning by a consumer that is in no group."""

from collections.abc import Mapping, Sequence
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import AuthorizationError, KafkaError

from streammeta.errors import TransactionError, TransportError
from streammeta.transport.base import Row
from streammeta.transport.kafka.client import codec_advice, connect
from streammeta.transport.kafka.settings import KafkaSettings

__all__ = ["KafkaChangelogReader"]

_MOST_RECORDS = 5_000


class KafkaChangelogReader:
    """Reads committed records only, and knows where the topic ended when reading began.

    The end that counts is that of all records, committed or not: while a transaction is open before it, there may be
    committed records after it, which nobody can see yet. So restoring waits until such a transaction has ended.

    Args:
        settings: how to reach Kafka.
        topics: the topic of each channel.

    Raises:
        TransportError: no broker answers in time, or it refuses us.
    """

    def __init__(self, settings: KafkaSettings, topics: Mapping[str, str]) -> None:
        self._topics = dict(topics)
        self._channels = {topic: channel for channel, topic in topics.items()}
        self._where = f"kafka: tables on {settings.bootstrap_servers}"
        self._wait_ms = settings.milliseconds
        self._ends: dict[TopicPartition, int] = {}
        self._admin: Any = connect(KafkaAdminClient, settings, request_timeout_ms=self._wait_ms)
        self._consumer: Any = connect(
            KafkaConsumer,
            settings,
            group_id=None,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            max_poll_records=_MOST_RECORDS,
            fetch_max_wait_ms=round(settings.fetch_wait_seconds * 1000),
            max_partition_fetch_bytes=max(settings.fetch_partition_bytes, settings.max_message_bytes),
        )

    def begin(self, channel: str, partition: int) -> None:
        """Read this partition from its first record; of one that is being read already, note how far it has grown."""
        at = TopicPartition(self._topics[channel], partition)
        try:
            if at not in self._ends:
                self._consumer.assign([*self._ends, at])
                self._consumer.seek_to_beginning(at)
            self._ends[at] = self._admin.list_partition_offsets({at: -1}, timeout_ms=self._wait_ms)[at].offset
        except (KafkaError, AssertionError) as err:
            raise self._failure(err) from err

    def poll(self, timeout_seconds: float) -> Sequence[Row]:
        """The next committed rows of everything begun."""
        if not self._ends:
            return []
        try:
            fetched = self._consumer.poll(timeout_ms=round(timeout_seconds * 1000), max_records=_MOST_RECORDS)
        except KafkaError as err:
            raise self._failure(err) from err
        return [
            Row(self._channels[at.topic], at.partition, record.key or b"", record.value, record.offset)
            for at, records in fetched.items()
            for record in records
        ]

    def missing(self, channel: str, partition: int) -> int:
        """How many offsets there are to go, to the end that ``begin`` saw."""
        at = TopicPartition(self._topics[channel], partition)
        try:
            position = self._consumer.position(at, timeout_ms=0)  # not known before the first poll
        except KafkaError as err:
            raise self._failure(err) from err
        return self._ends[at] if position is None else max(0, self._ends[at] - position)

    def end(self, channel: str, partition: int) -> None:
        """Read no more of it."""
        at = TopicPartition(self._topics[channel], partition)
        if self._ends.pop(at, None) is not None:
            self._consumer.assign(list(self._ends))

    def close(self) -> None:
        """Let go of everything; may be called twice."""
        self._ends.clear()
        self._consumer.close(autocommit=False)
        self._admin.close()

    def _failure(self, err: Exception) -> TransportError:
        if isinstance(err, AuthorizationError):
            return TransportError(f"{self._where}: refused: {err}; check our rights (ACLs) on the topics")
        advice = codec_advice(err)
        if advice is not None:
            return TransportError(f"{self._where}: cannot be read: {advice}")
        return TransactionError(f"{self._where}: cannot be read: {err}")
