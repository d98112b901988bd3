"""A topic read from its beginning to where it ends now, by a consumer that is in no group: for tools, not for the loop.

Done by kafka-python for every client, as what is read is little and no time matters.
"""

import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import AuthorizationError, KafkaError

from streammeta.errors import MissingTopicError, TransportError
from streammeta.event import Origin, Record
from streammeta.transport.base import Partition
from streammeta.transport.kafka.client import codec_advice, connect
from streammeta.transport.kafka.settings import KafkaSettings

__all__ = ["TopicLog"]

_POLL_MILLISECONDS: Final = 200
_MOST_RECORDS: Final = 2_000
_PATIENCE_SECONDS: Final = 60.0  # without a record: the broker aborts what a lost member left open after about that


class TopicLog:
    """Committed records of a topic, up to its end as it was when this was made, or last `extend`-ed.

    The end is that of all records, committed or not: a transaction that is still open hides what follows it, also what
    is committed already, so it is waited for.

    Args:
        settings: how to reach Kafka.
        topics: what to read.
        patience_seconds: the longest wait for the next record.

    Raises:
        MissingTopicError: a topic does not exist, or we may not see it.
        TransportError: no broker answers in time, or it refuses us.
    """

    def __init__(
        self, settings: KafkaSettings, topics: Collection[str], *, patience_seconds: float = _PATIENCE_SECONDS
    ) -> None:
        self._where = f"kafka: {', '.join(topics)} on {settings.bootstrap_servers}"
        self._wait_ms, self._patience = settings.milliseconds, patience_seconds
        self._admin: Any = connect(KafkaAdminClient, settings, request_timeout_ms=self._wait_ms)
        try:
            self._consumer: Any = connect(
                KafkaConsumer,
                settings,
                group_id=None,
                isolation_level="read_committed",
                auto_offset_reset="earliest",
                enable_auto_commit=False,
                allow_auto_create_topics=False,
                max_poll_records=_MOST_RECORDS,
                max_partition_fetch_bytes=max(settings.fetch_partition_bytes, settings.max_message_bytes),
            )
        except TransportError:
            self._admin.close()
            raise
        try:
            found = self._partitions(topics)
            self._consumer.assign(found)
            self._ends = self._ends_now(found)
        except TransportError:
            self.close()
            raise

    @property
    def ends(self) -> Mapping[Partition, int]:
        """Where each partition ends, in offsets: the offset of the record that will come next."""
        return {(at.topic, at.partition): end for at, end in self._ends.items()}

    def rewind(self) -> None:
        """Begin again at the first record of each partition; the ends stay."""
        self._consumer.seek_to_beginning(*self._ends)

    def extend(self) -> bool:
        """Let the ends be where they are now; whether any has moved."""
        before, self._ends = self._ends, self._ends_now(self._ends)
        return before != self._ends

    def records(self) -> Iterator[Record]:
        """The records up to the ends; a second call goes on after them.

        Raises:
            TransportError: the topic cannot be read, or a transaction before its end stays open.
        """
        deadline = time.monotonic() + self._patience
        while left := self._left():
            try:
                fetched = self._consumer.poll(timeout_ms=_POLL_MILLISECONDS, max_records=_MOST_RECORDS)
            except KafkaError as err:
                raise self._failure(err) from err
            for at, found in fetched.items():
                for one in found:
                    yield Record(
                        one.value,
                        Origin(at.topic, at.partition, one.offset),
                        one.key,
                        tuple((name, content or b"") for name, content in one.headers or ()),
                        None if one.timestamp is None or one.timestamp < 0 else one.timestamp / 1000,
                    )
                deadline = time.monotonic() + self._patience
            if time.monotonic() > deadline:
                raise TransportError(
                    f"{self._where}: partition {left[0].partition} of {left[0].topic} is read up to offset "
                    f"{self._position(left[0])} of {self._ends[left[0]]}, and nothing came for {self._patience:g} s: a "
                    "transaction may be open there; start the service again, which ends those of lost members"
                )

    def close(self) -> None:
        """Let go of everything; may be called twice."""
        self._consumer.close(autocommit=False)
        self._admin.close()

    def _left(self) -> list[TopicPartition]:
        """Partitions that are not read to their end."""
        try:
            return [at for at, end in self._ends.items() if self._position(at) < end]
        except KafkaError as err:
            raise self._failure(err) from err

    def _position(self, at: TopicPartition) -> int:
        position = self._consumer.position(at, timeout_ms=0)  # not known before the first poll
        return 0 if position is None else int(position)

    def _partitions(self, topics: Collection[str]) -> list[TopicPartition]:
        try:
            described = {one["name"]: len(one["partitions"]) for one in self._admin.describe_topics(list(topics))}
        except KafkaError as err:
            raise self._failure(err) from err
        for topic in topics:
            if not described.get(topic):
                raise MissingTopicError(
                    f"{self._where}: topic {topic!r} does not exist, or we may not see it; check [app] name, whether "
                    "`streammeta run` was ever started under it, and our rights (ACLs)"
                )
        return [TopicPartition(topic, number) for topic in topics for number in range(described[topic])]

    def _ends_now(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        try:
            found = self._admin.list_partition_offsets(dict.fromkeys(partitions, -1), timeout_ms=self._wait_ms)
        except (KafkaError, AssertionError) as err:
            raise self._failure(err) from err
        return {at: found[at].offset for at in partitions}

    def _failure(self, err: Exception) -> TransportError:
        if isinstance(err, AuthorizationError):
            return TransportError(f"{self._where}: refused: {err}; check our rights (ACLs) on the topics")
        return TransportError(f"{self._where}: cannot be read: {codec_advice(err) or err}")
