"""Results into topics, by kafka-python, without transactions: each once and in order while the sink lives."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError, UnknownError

from streammeta.errors import TransportError
from streammeta.transport.base import Message
from streammeta.transport.kafka.client import connect
from streammeta.transport.kafka.settings import KafkaSettings

__all__ = ["KafkaSink"]

_CLOSE_SECONDS: Final = 5.0


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
