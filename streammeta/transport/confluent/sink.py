"""Results into topics, by confluent-kafka, without transactions: each once and in order while the sink lives."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from streammeta.errors import TransportError
from streammeta.transport.base import Message
from streammeta.transport.confluent.client import connect, reason
from streammeta.transport.confluent.transactional_sink import queue
from streammeta.transport.kafka.settings import KafkaSettings

__all__ = ["ConfluentSink"]

_CLOSE_SECONDS: Final = 5.0
_ANY_PARTITION: Final = -1


class ConfluentSink:
    """Sends results to topics, each once and in order as long as this sink lives (idempotent producer, all replicas).

    Args:
        settings: how to reach Kafka.
        topics: the topic of each channel; a message's key (the task) chooses the partition.

    Raises:
        TransportError: no broker answers in time, or it refuses us.
    """

    def __init__(self, settings: KafkaSettings, topics: Mapping[str, str]) -> None:
        self._topics, self._seconds = dict(topics), settings.connect_timeout_seconds
        self._where = f"kafka: {settings.bootstrap_servers}"
        self._failures: deque[tuple[str | None, KafkaError]] = deque(maxlen=1000)
        self._found: set[str] = set()  # topics that are there
        self._producer: Producer | None = connect(
            Producer,
            settings,
            {
                "enable.idempotence": True,
                "linger.ms": settings.linger_seconds * 1000,
                "batch.size": 128 * 1024,
                "retry.backoff.ms": 20,
                "message.max.bytes": settings.max_message_bytes,
                "partitioner": "murmur2_random",
                "delivery.report.only.error": True,
                "on_delivery": self._note_failure,
            },
        )

    def send(self, messages: Sequence[Message]) -> None:
        """Hand over results; waits, ``connect_timeout_seconds`` at most, when the broker does not keep up.

        Raises:
            TransportError: a channel has no topic, a topic does not exist, or a message is too long.
        """
        producer = self._producer
        if producer is None:
            raise TransportError(f"{self._where}: the sink is closed")
        for message in messages:
            topic = self._topics.get(message.channel)
            if topic is None:
                channels = ", ".join(self._topics)
                raise TransportError(
                    f"{self._where}: no topic for channel {message.channel!r}; wanted one of {channels}"
                )
            if topic not in self._found:
                self._find(producer, topic)
            try:
                queue(producer, topic, message, _ANY_PARTITION, self._seconds)
            except TimeoutError as err:
                raise TransportError(f"{self._where}: topic {topic!r} took no message in time; is it up?") from err
            except KafkaException as err:
                raise TransportError(f"{self._where}: topic {topic!r} does not take a message: {reason(err)}") from err
        producer.poll(0)

    def flush(self, timeout_seconds: float) -> None:
        """Wait until the broker has all that was sent.

        Raises:
            TransportError: it has not, in time; or a message was refused. A refused message is lost, so that every
                later flush fails too.
        """
        if self._producer is not None and self._producer.flush(timeout_seconds):
            raise TransportError(f"{self._where}: results not acknowledged within {timeout_seconds:g} s")
        if self._failures:
            topic, err = self._failures[0]
            raise TransportError(
                f"{self._where}: {len(self._failures)} messages refused, the first by topic {topic!r}: {reason(err)}"
            )

    def close(self) -> None:
        """Flush, within a few seconds, and let go.

        Raises:
            TransportError: not all that was sent is safe.
        """
        if self._producer is None:
            return
        try:
            self.flush(_CLOSE_SECONDS)
        finally:
            self._producer.purge()
            self._producer = None

    def _find(self, producer: Producer, topic: str) -> None:
        try:
            found: Any = producer.list_topics(topic, timeout=self._seconds).topics[topic]
        except KafkaException as err:
            raise TransportError(f"{self._where}: topic {topic!r} took no message in time ({reason(err)})") from err
        if found.error is not None:
            hint = "is the topic there, and the broker up?"
            raise TransportError(
                f"{self._where}: topic {topic!r} took no message in time; {hint} ({reason(found.error)})"
            )
        self._found.add(topic)

    def _note_failure(self, error: KafkaError | None, message: Any) -> None:  # noqa: ANN401 (a message of the client)
        if error is not None:
            self._failures.append((message.topic(), error))
