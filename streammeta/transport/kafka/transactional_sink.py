"""Kafka's transactions, by kafka-python: results, state and offsets together, or nothing.

Why every wait here is ours: the client's own ``commit_transaction`` waits without end. Why a transaction of unknown end
leads to a new producer: Kafka before its second transaction protocol, which this client does not speak, can commit or
tear a transaction whose end was asked for, lost and asked for again; a new producer under the same name first aborts
what the old one left, and then nothing of it can come through any more.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import structlog
from kafka import KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.errors import (
    AuthorizationError,
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnsupportedVersionError,
)
from kafka.structs import ConsumerGroupMetadata

from streammeta.errors import TransactionError, TransportError
from streammeta.transport.base import Message, Partition, Positions
from streammeta.transport.kafka.batches import append_many, check_size
from streammeta.transport.kafka.client import connect
from streammeta.transport.kafka.eviction import BACKOFF_MS, end_producer, evict, transactional_id
from streammeta.transport.kafka.input_log import metadata_of
from streammeta.transport.kafka.settings import KafkaSettings

__all__ = ["KafkaTransactionalSink"]

_log = structlog.get_logger(__name__)
_FATAL: Final = (
    AuthorizationError,
    InvalidTopicError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    UnsupportedVersionError,
)


class KafkaTransactionalSink:
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
        self._wait_ms = settings.milliseconds
        self._timeout_ms = round(timeout_seconds * 1000)
        self._sent = False  # a transaction is open
        self._producer: Any = None
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
        producer = self._begun()
        try:
            groups: dict[TopicPartition, list[Message]] = {}
            for message in messages:
                topic = self._topics[message.channel]
                if message.partition is None or message.channel in self._by_key:
                    producer.send(topic, message.value, message.key, list(message.headers))
                else:
                    groups.setdefault(TopicPartition(topic, message.partition), []).append(message)
            for at, group in groups.items():
                self._append(at, group)
            producer._sender.wakeup()
        except KafkaError as err:
            raise self._failure(err) from err
        except ValueError as err:  # a partition that the topic does not have
            raise TransportError(f"{self._where}: {err}; topics must have as many partitions as the input") from err

    def _append(self, at: TopicPartition, messages: Sequence[Message]) -> None:
        """As the producer's own ``send``, for many messages to one partition at a third of the cost."""
        producer, now, stamp = self._producer, time.monotonic(), int(time.time() * 1000)
        if at.partition not in (producer.partitions_for(at.topic) or ()):
            raise ValueError(f"topic {at.topic!r} has no partition {at.partition}")
        producer._transaction_manager.maybe_add_partition_to_transaction(at)
        accumulator, most = producer._accumulator, self._settings.max_message_bytes
        done = 0
        while done < len(messages):
            message = messages[done]  # beginning a batch, where the last one is full, is the client's business
            check_size(message, most)
            accumulator.append(at, stamp, message.key, message.value, list(message.headers), now=now)
            done += 1
            with accumulator._tp_lock(at):
                batches = accumulator._batches[at]
                if batches:
                    done += append_many(batches[-1], messages, done, stamp, now, most)

    def commit(self, positions: Positions, member: object) -> None:
        """End the transaction, with the offsets, and wait until it is known how.

        Raises:
            TransactionError: it did not commit, or nobody knows.
            TransportError: the broker refuses for good.
        """
        if member is None and not positions:
            self._complete("commit", self._begun()._transaction_manager.begin_commit)
            self._sent = False
            return
        if not isinstance(member, ConsumerGroupMetadata) or member.generation_id < 0 or not member.member_id:
            raise TransactionError(f"{self._where}: not a member of group {self._group!r} any more")
        logs: Mapping[Partition, str] = getattr(member, "logs", {})
        offsets = {
            TopicPartition(*partition): OffsetAndMetadata(offset, metadata_of(logs.get(partition, "")), -1)
            for partition, offset in positions.items()
        }
        manager = self._begun()._transaction_manager
        self._complete("offsets", lambda: manager.send_offsets_to_transaction(offsets, member))
        self._complete("commit", manager.begin_commit)
        self._sent = False

    def reset(self) -> None:
        """Drop the producer, and make another one under the same name, which aborts what the old one left.

        Raises:
            TransactionError: not in time.
            TransportError: the broker refuses for good.
        """
        self._drop()
        try:
            self._producer = connect(
                KafkaProducer,
                self._settings,
                acks="all",
                enable_idempotence=True,
                transactional_id=self._id,
                transaction_timeout_ms=self._timeout_ms,
                linger_ms=round(self._settings.linger_seconds * 1000),
                batch_size=256 * 1024,
                retry_backoff_ms=BACKOFF_MS,
                max_request_size=self._settings.max_message_bytes,
                max_block_ms=self._wait_ms,
                allow_auto_create_topics=False,
            )
            self._producer.init_transactions()
            self._by_key = {channel for channel, topic in self._topics.items() if self._is_other(channel, topic)}
        except KafkaError as err:
            self._drop()
            raise self._failure(err) from err
        except TransportError as err:
            raise TransactionError(str(err)) from err

    def evict(self) -> None:
        """Abort what is open of our application's producers whose members are not in the group (any more).

        Without it, everybody would wait for the broker to do so, which takes a minute. Failing, it only costs that.
        """
        evict(self._settings, self._name, self._group, own=self._id, timeout_ms=self._timeout_ms)

    def close(self) -> None:
        """Abort what is open, within a few seconds, and let go; may be called twice."""
        if self._producer is not None and self._sent:
            manager = self._producer._transaction_manager
            try:
                self._complete("abort", manager.begin_abort)
            except TransportError as err:
                _log.warning("an open transaction was left to the broker to abort", reason=str(err))
        self._drop()

    def _is_other(self, channel: str, topic: str) -> bool:
        """Whether a topic for results has another number of partitions than the input: then the key decides."""
        return channel not in self._tables and len(self._producer.partitions_for(topic)) != self._partitions

    def _begun(self) -> Any:  # noqa: ANN401 (kafka-python has no types)
        """The producer, in a transaction."""
        if not self._sent:
            try:
                self._producer.begin_transaction()
            except KafkaError as err:
                raise self._failure(err) from err
            self._sent = True
        return self._producer

    def _complete(self, what: str, request: Callable[[], Any]) -> None:
        """Ask for something, and wait until it is done."""
        begun = time.monotonic()
        try:
            asked = request()
            self._producer._sender.wakeup()
            done = asked.wait(self._wait_ms)
        except KafkaError as err:
            raise self._failure(err) from err
        if not done:
            waited = f"{time.monotonic() - begun:.1f} s"
            raise TransactionError(f"{self._where}: {what}: no answer within {waited}; nobody knows how it ended")

    def _failure(self, err: KafkaError) -> TransportError:
        cause: BaseException | None = err
        while cause is not None:
            if isinstance(cause, _FATAL):
                hint = "check the topics' settings and our rights (ACLs) on topics, group and transactional id"
                return TransportError(f"{self._where}: refused: {cause}; {hint}")
            nested = next((arg for arg in getattr(cause, "args", ()) if isinstance(arg, BaseException)), None)
            cause = nested or cause.__cause__
        return TransactionError(f"{self._where}: {err}")

    def _drop(self) -> None:
        producer, self._producer, self._sent = self._producer, None, False
        if producer is not None:
            end_producer(producer)
