"""Transactions of a tool: records of any topic, and offsets of a group in which nobody is, together or not at all.

Unlike `transactional_sink`, whose transactions are those of a group's member. By kafka-python for every client.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from kafka import KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.errors import KafkaError

from streammeta.errors import TransportError
from streammeta.transport.base import Partition
from streammeta.transport.kafka.client import connect
from streammeta.transport.kafka.eviction import BACKOFF_MS, end_producer
from streammeta.transport.kafka.settings import KafkaSettings

__all__ = ["Offset", "Transactions"]

_ABORT_MILLISECONDS: Final = 5_000
_TIMEOUT_SECONDS: Final = 60.0  # of one transaction; after it the broker aborts


class Offset(NamedTuple):
    """What a group has committed for a partition."""

    next: int  # to read
    metadata: str = ""  # beside it; see `input_log`


class Transactions:
    """One transaction after the other, each begun by its first record; use it as a context manager.

    Who makes one under a name ends what others of that name left open, and keeps them from committing: so of two that
    run at a time, one fails, and nothing is done twice.

    Args:
        settings: how to reach Kafka.
        name: the transactional id.
        timeout_seconds: the longest time that one may take.

    Raises:
        TransportError: no broker answers in time, or it refuses us.
    """

    def __init__(self, settings: KafkaSettings, name: str, *, timeout_seconds: float = _TIMEOUT_SECONDS) -> None:
        self._where = f"kafka: transactions of {name!r} on {settings.bootstrap_servers}"
        self._timeout_seconds, self._open = timeout_seconds, False
        self._producer: Any = connect(
            KafkaProducer,
            settings,
            acks="all",
            enable_idempotence=True,
            transactional_id=name,
            transaction_timeout_ms=round(timeout_seconds * 1000),
            batch_size=256 * 1024,
            linger_ms=10,
            retry_backoff_ms=BACKOFF_MS,
            max_request_size=settings.max_message_bytes,
            max_block_ms=settings.milliseconds,
            allow_auto_create_topics=False,
        )
        try:
            self._producer.init_transactions()
        except KafkaError as err:
            self.close()
            raise self._failure(err) from err

    def partitions(self, topic: str) -> int:
        """How many a topic has."""
        try:
            return len(self._producer.partitions_for(topic) or ())
        except KafkaError as err:
            raise self._failure(err) from err

    def send(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: tuple[tuple[str, bytes], ...] = (),
        partition: int | None = None,
        timestamp: float | None = None,
    ) -> None:
        """Hand over a record.

        Args:
            topic: where it goes.
            value: what it says.
            key: of the record.
            headers: of the record.
            partition: where in the topic; None: the key decides.
            timestamp: seconds since 1970; None: now.

        Raises:
            TransportError: the topic does not take it.
        """
        stamp = None if timestamp is None else round(timestamp * 1000)
        try:
            if not self._open:
                self._producer.begin_transaction()
                self._open = True
            self._producer.send(topic, value, key, list(headers), partition, stamp)
        except (KafkaError, AssertionError) as err:
            raise self._failure(err) from err

    def commit(self, group: str = "", offsets: Mapping[Partition, Offset] | None = None) -> None:
        """Make everything since the last commit count, with these next offsets of a group, and wait until it does.

        Raises:
            TransportError: it does not, or nobody knows.
        """
        if not self._open:
            return
        manager = self._producer._transaction_manager
        if offsets:
            committed = {
                TopicPartition(*partition): OffsetAndMetadata(offset.next, offset.metadata, -1)
                for partition, offset in offsets.items()
            }
            self._complete("offsets", lambda: manager.send_offsets_to_transaction(committed, group))
        self._complete("commit", manager.begin_commit)
        self._open = False

    def close(self) -> None:
        """Abort what was not committed, and let go; may be called twice."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        if self._open:
            with suppress(KafkaError):  # fenced, or its time is over: the broker has aborted it, or will
                producer._transaction_manager.begin_abort().wait(_ABORT_MILLISECONDS)
        end_producer(producer)

    def __enter__(self) -> Self:
        """Return itself: it is open already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _complete(self, what: str, request: Callable[[], Any]) -> None:
        begun = time.monotonic()
        try:
            asked = request()
            self._producer._sender.wakeup()
            done = asked.wait(round(self._timeout_seconds * 1000))
        except (KafkaError, AssertionError) as err:
            raise self._failure(err) from err
        if not done:
            raise TransportError(
                f"{self._where}: {what}: no answer within {time.monotonic() - begun:.1f} s; nobody knows how it ended"
            )

    def _failure(self, err: Exception) -> TransportError:
        return TransportError(
            f"{self._where}: {err!r}; nothing of this transaction counts. Does somebody else run the same command? "
            "Check our rights (ACLs) on topics, group and transactional id"
        )
