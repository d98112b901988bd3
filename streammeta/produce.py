"""Sends a simulated stream somewhere: a file, a Kafka topic, standard output."""

import gzip
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, cast
from urllib.parse import urlsplit

from pydantic import ValidationError

from simulators import LateLabel, Sample, with_late_labels
from streammeta.errors import ConfigError, TransportError
from streammeta.transport.base import Message
from streammeta.transport.kafka import KafkaSettings, KafkaSink, create_topics

__all__ = ["produce"]

_CHANNEL = "events"
_SECONDS_AHEAD = 0.05  # with a rate, records go out in bursts of at most that much
_FLUSH_SECONDS = 60.0
_Send = Callable[[Sample | LateLabel], None]


def produce(
    samples: Iterable[Sample],
    to: str,
    *,
    kafka: KafkaSettings,
    partitions: int = 4,
    rate: float | None = None,
    stop: threading.Event,
) -> int:
    """Send samples until there are no more or ``stop`` is set; returns how many were sent.

    A label that comes late is sent as a record of its own, after the events that its sample says; those still due at
    the end are sent there.

    Args:
        samples: a simulated stream.
        to: "-" for standard output, "kafka://host:port/topic", or a file: JSON lines, packed where it ends in .gz.
        kafka: connection settings; the address in ``to`` wins.
        partitions: of the topic, when it has to be created.
        rate: records a second; None: as fast as it goes.
        stop: ends it early.

    Raises:
        ConfigError: ``to`` is none of these.
        TransportError: it cannot be written to.
    """
    begun, sent = time.monotonic(), 0
    with _opened(to, kafka, partitions, at_once=rate is not None) as send:
        for one in with_late_labels(samples):
            ahead = 0.0 if rate is None else sent / rate - (time.monotonic() - begun)
            if stop.is_set() or (ahead > _SECONDS_AHEAD and stop.wait(ahead)):
                break
            send(one)
            sent += isinstance(one, Sample)
    return sent


@contextmanager
def _opened(to: str, kafka: KafkaSettings, partitions: int, *, at_once: bool) -> Iterator[_Send]:
    if to.startswith("kafka:"):
        with _topic(to, kafka, partitions) as send:
            yield send
    elif to == "-":
        yield _lines(sys.stdout.buffer, at_once=at_once)
        sys.stdout.buffer.flush()
    elif "://" in to or to.removesuffix(".gz").endswith(".csv"):
        raise ConfigError(
            f"--to {to}: wanted a .jsonl or .jsonl.gz file, kafka://host:port/topic, or - for standard output"
        )
    else:
        try:
            with _file(Path(to)) as file:
                yield _lines(file, at_once=at_once)
        except OSError as err:
            raise TransportError(f"--to {to}: cannot be written ({err})") from err


def _file(path: Path) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return cast("BinaryIO", gzip.open(path, "wb")) if path.suffix == ".gz" else path.open("wb")


def _lines(file: BinaryIO, *, at_once: bool) -> _Send:
    """With a rate somebody may be reading along: then no line waits in a buffer."""

    def send(one: Sample | LateLabel) -> None:
        file.write(one.to_json() + b"\n")
        if at_once:
            file.flush()

    return send


@contextmanager
def _topic(to: str, kafka: KafkaSettings, partitions: int) -> Iterator[_Send]:
    """Records keyed by their task, so that a task lives in one partition."""
    address = urlsplit(to)
    topic = address.path.strip("/")
    if not address.netloc or not topic or "/" in topic or "@" in address.netloc:
        raise ConfigError(f"--to {to}: wanted kafka://host:port/topic (user names and secrets belong into --config)")
    try:
        settings = KafkaSettings.model_validate({**dict(kafka), "bootstrap_servers": address.netloc})
    except ValidationError as err:
        raise ConfigError(f"--to {to}: {err.errors()[0]['msg'].removeprefix('Value error, ')}") from err
    create_topics(settings, {topic: partitions})
    with closing(KafkaSink(settings, {_CHANNEL: topic})) as sink:
        yield lambda one: sink.send([Message(_CHANNEL, one.to_json(), one.task.encode())])
        sink.flush(_FLUSH_SECONDS)
