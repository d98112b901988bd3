"""Kafka's transactions, by confluent-kafka: results, state and offsets together, or nothing.

As with the other client, a transaction of unknown end leads to a new producer under the same name, which aborts what
the old one left: see `transport.kafka.transactional_sink`.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from streammeta.errors import TransactionError, TransportError
from streammeta.transport.base import Message, Partition, Positions
from streammeta.transport.confluent.client import bounded, connect, failure, is_member
from streammeta.transport.kafka.eviction import BACKOFF_MS, abort_leftover, evict, transactional_id
from streammeta.transport.kafka.input_log import metadata_of
from streammeta.transport.kafka.settings import KafkaSettings

__all__ = ["ConfluentTransactionalSink", "queue"]

_log = structlog.get_logger(__name__)
_CLOSE_SECONDS: Final = 5.0
_ANY_PARTITION: Final = -1
_FULL_SECONDS: Final = 0.05
_QUEUE_MESSAGES: Final = 500_000
_REPORT_SECONDS: Final = 1.0  # after a refused transaction, for the report of the message that was refused


class ConfluentTransactionalSink:
    """A transactional producer that is replaced whenever it is not known what became of a transaction.

    Args:
        settings: how to reach Kafka.
        topics: the topic of each channel.
        partitions: of the input; where a topic for results has as many, results go to the partition of their event.
        tables: channels of which each message names its partition.
        name: the application's; its members' producers are called NAME/MEMBER.
        member: who we are: the same as the client id under which our source is a member of the group.
        group: the consumer group.
        timeout_seconds: after so long without an end the broker aborts a transaction by itself.

    Raises:
        TransportError: no broker answers in time, or it refuses us.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Mapping[str, str],
        *,
        partitions: int,
        tables: Collection[str],
        name: str,
        member: str,
        group: str,
        timeout_seconds: float = 60.0,
    ) -> None:
        self._settings, self._topics, self._name, self._group = settings, dict(topics), name, group
        self._partitions, self._tables = partitions, tables
        self._by_key: set[str] = set()
        self._id = transactional_id(name, member)
        self._where = f"kafka: transactions of {self._id!r} on {settings.bootstrap_servers}"
        self._seconds = settings.connect_timeout_seconds
        self._timeout_ms = round(timeout_seconds * 1000)
        self._sent = False  # a transaction is open
        self._failures: deque[tuple[str | None, KafkaError]] = deque(maxlen=10)  # topics that took no message, and why
        self._producer: Producer | None = None
        abort_leftover(settings, self._id, self._timeout_ms)
        try:
            self.reset()
        except TransactionError as err:
            raise TransportError(str(err)) from err

    def send(self, messages: Sequence[Message]) -> None:
        """Hand over messages, in the order in which they come for each partition.

        Raises:
            TransactionError: this transaction cannot be committed any more.
            TransportError: nor can any other: a topic is missing or closed to us, or a message is too long.
        """
        if not messages:
            return
        producer, topics, by_key = self._begun(), self._topics, self._by_key
        topic: str | None = None
        try:
            for message in messages:
                topic = topics[message.channel]
                partition = message.partition
                if partition is None or message.channel in by_key:
                    partition = _ANY_PARTITION
                queue(producer, topic, message, partition, self._seconds)
            topic = None
            producer.poll(0)
        except KafkaException as err:
            if topic is not None:  # refused at once, which the client says without the topic's name
                self._failures.append((topic, err.args[0]))
            raise self._failure(err) from err
        except TimeoutError as err:
            raise TransactionError(f"{self._where}: the broker does not keep up") from err

    def commit(self, positions: Positions, member: object) -> None:
        """End the transaction, with the offsets, and wait until it is known how.

        Raises:
            TransactionError: it did not commit, or nobody knows.
            TransportError: the broker refuses for good.
        """
        if member is None and not positions:
            begun = self._begun()
            self._complete("commit", lambda: begun.commit_transaction(self._seconds))
            self._sent = False
            return
        if not is_member(member):
            raise TransactionError(f"{self._where}: not a member of group {self._group!r} any more")
        logs: Mapping[Partition, str] = getattr(member, "logs", {})
        offsets = [
            TopicPartition(*partition, offset, metadata_of(logs.get(partition, "")))
            for partition, offset in positions.items()
        ]
        producer = self._begun()
        self._complete("offsets", lambda: producer.send_offsets_to_transaction(offsets, member, self._seconds))
        self._complete("commit", lambda: producer.commit_transaction(self._seconds))
        self._sent = False

    def reset(self) -> None:
        """Drop the producer, and make another one under the same name, which aborts what the old one left.

        Raises:
            TransactionError: not in time.
            TransportError: the broker refuses for good.
        """
        self._drop()
        try:
            producer = self._producer = connect(
                Producer,
                self._settings,
                {
                    "transactional.id": self._id,
                    "transaction.timeout.ms": self._timeout_ms,
                    "linger.ms": self._settings.linger_seconds * 1000,
                    "batch.size": 256 * 1024,
                    "retry.backoff.ms": BACKOFF_MS,
                    "message.max.bytes": self._settings.max_message_bytes,
                    "queue.buffering.max.messages": _QUEUE_MESSAGES,
                    "partitioner": "murmur2_random",  # as every other client has it: a task is always in one partition
                    "delivery.report.only.error": True,
                    "on_delivery": self._note_failure,
                },
            )
            self._complete("init", lambda: producer.init_transactions(self._seconds))
            self._by_key = {channel for channel, topic in self._topics.items() if self._is_other(channel, topic)}
        except KafkaException as err:
            self._drop()
            raise self._failure(err) from err
        except TransactionError:
            self._drop()
            raise
        except TransportError as err:
            if self._producer is None:
                raise TransactionError(str(err)) from err
            self._drop()
            raise

    def evict(self) -> None:
        """Abort what is open of our application's producers whose members are not in the group (any more).

        Without it, everybody would wait for the broker to do so, which takes a minute. Failing, it only costs that.
        """
        evict(self._settings, self._name, self._group, own=self._id, timeout_ms=self._timeout_ms)

    def close(self) -> None:
        """Abort what is open, within a few seconds, and let go; may be called twice."""
        producer = self._producer
        if producer is not None and self._sent:
            try:
                self._complete("abort", lambda: producer.abort_transaction(_CLOSE_SECONDS))
            except TransportError as err:
                _log.warning("an open transaction was left to the broker to abort", reason=str(err))
        self._drop()

    def _is_other(self, channel: str, topic: str) -> bool:
        """Whether a topic for results has another number of partitions than the input: then the key decides."""
        if channel in self._tables or self._producer is None:
            return False
        found: Any = self._producer.list_topics(topic, timeout=self._seconds).topics[topic]
        if found.error is not None:
            raise KafkaException(found.error)
        return len(found.partitions) != self._partitions

    def _begun(self) -> Producer:
        """The producer, in a transaction."""
        producer = self._producer
        if producer is None:
            raise TransactionError(f"{self._where}: no producer")
        if not self._sent:
            try:
                producer.begin_transaction()
            except KafkaException as err:
                raise self._failure(err) from err
            self._sent = True
        return producer

    def _complete(self, what: str, request: Callable[[], None]) -> None:
        """Ask for something, and wait until it is done."""
        begun = time.monotonic()
        try:
            request()
        except KafkaException as err:
            if err.args[0].code() == KafkaError._TIMED_OUT:
                waited = f"{time.monotonic() - begun:.1f} s"
                raise TransactionError(
                    f"{self._where}: {what}: no answer within {waited}; nobody knows how it ended"
                ) from err
            raise self._failure(err) from err

    def _failure(self, err: KafkaException) -> TransportError:
        """The reason of the first message that was not taken says more than that of the transaction."""
        found = failure(self._where, err)
        if self._producer is not None:
            with suppress(KafkaException):  # it repeats what was reported already
                self._producer.poll(0)  # what became of messages
                if type(found) is TransportError and not self._failures:
                    self._producer.poll(_REPORT_SECONDS)
        for topic, cause in self._failures:
            reason_found = failure(self._where, cause, f"topic {topic!r}: ")
            if type(reason_found) is TransportError:
                return reason_found
        return found

    def _note_failure(self, error: KafkaError | None, message: Any) -> None:  # noqa: ANN401 (a message of the client)
        if error is not None:
            self._failures.append((message.topic(), error))

    def _drop(self) -> None:
        """Let go of the producer without waiting for what it has not sent: that is not to count."""
        producer, self._producer, self._sent = self._producer, None, False
        self._failures.clear()
        if producer is not None:
            with suppress(KafkaException):
                producer.purge(in_queue=True, in_flight=True, blocking=False)
            holder = [producer]
            del producer
            with suppress(TimeoutError):
                bounded(holder.clear, _CLOSE_SECONDS)  # its end waits for threads, and has no time limit


def queue(producer: Producer, topic: str, message: Message, partition: int, seconds: float) -> None:
    """Hand a message to the client, and wait while it has as many as it can hold.

    Raises:
        KafkaException: it does not take this message.
        TimeoutError: its buffer stays full.
    """
    headers: Any = list(message.headers) or None
    deadline = 0.0
    while True:
        try:
            producer.produce(topic, message.value, message.key, partition, headers=headers)
        except BufferError:
            now = time.monotonic()
            deadline = deadline or now + seconds
            if now > deadline:
                raise TimeoutError from None
            producer.poll(_FULL_SECONDS)
        else:
            return
