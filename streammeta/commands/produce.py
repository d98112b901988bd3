"""Sends a simulated or recorded stream somewhere: a file, a Kafka topic, standard output."""

import gzip
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, cast
from urllib.parse import urlsplit

from pydantic import ValidationError

from streammeta.errors import ConfigError, TransportError
from streammeta.simulators import LateLabel
from streammeta.transport.base import Message
from streammeta.transport.kafka.settings import KafkaSettings
from streammeta.transport.kafka.sink import KafkaSink
from streammeta.transport.kafka.topics import create_topics

__all__ = ["Pace", "Sendable", "at_own_pace", "at_rate", "produce"]

_CHANNEL = "events"
_SECONDS_AHEAD = 0.05  # with a pace, records go out in bursts of at most that much
_FLUSH_SECONDS = 60.0


class Sendable(Protocol):
    """One record: of an event, or of a label that comes late."""

    @property
    def task(self) -> str:
        """Whose it is; a topic's records are keyed by it."""

    def to_json(self) -> bytes:
        """The record as it goes out."""


_Send = Callable[[Sendable], None]
Pace = Callable[[Sendable], float]  # seconds from the first record to this one


def at_rate(per_second: float) -> Pace:
    """``rate`` events a second; a late label goes with the event before it."""
    sent = 0

    def seconds(one: Sendable) -> float:
        nonlocal sent
        due = max(sent - 1, 0) / per_second if isinstance(one, LateLabel) else sent / per_second
        sent += not isinstance(one, LateLabel)
        return due

    return seconds


def at_own_pace(speed: float) -> Pace:
    """As the time stamps say, ``speed`` times as fast; what has none, or an earlier one, goes with the one before it.

    Raises:
        ConfigError: while sending, when the first record has no time stamp.
    """
    first: float | None = None
    latest = 0.0

    def seconds(one: Sendable) -> float:
        nonlocal first, latest
        ts = getattr(one, "ts", None)
        if first is None and ts is None:
            raise ConfigError("--speed: the first record has no time stamp `ts`; leave --speed out, or give --rate")
        first = ts if first is None else first
        latest = latest if ts is None else max(latest, (ts - first) / speed)
        return latest

    return seconds


def produce(
    stream: Iterable[Sendable],
    to: str,
    *,
    kafka: KafkaSettings,
    partitions: int = 4,
    pace: Pace | None = None,
    stop: threading.Event,
) -> int:
    """Send records until there are no more or ``stop`` is set; returns how many were sent, late labels not counted.

    Args:
        stream: simulated samples with their late labels, or the rows of a recorded file.
        to: "-" for standard output, "kafka://host:port/topic", or a file: JSON lines, packed where it ends in .gz.
        kafka: connection settings; the address in ``to`` wins.
        partitions: of the topic, when it has to be created.
        pace: when each is due; None: as fast as it goes.
        stop: ends it early.

    Raises:
        ConfigError: ``to`` is none of these, or the records do not have what the pace needs.
        TransportError: it cannot be written to.
    """
    begun, sent = time.monotonic(), 0
    with _opened(to, kafka, partitions, at_once=pace is not None) as send:
        for one in stream:
            ahead = 0.0 if pace is None else pace(one) - (time.monotonic() - begun)
            if stop.is_set() or (ahead > _SECONDS_AHEAD and stop.wait(ahead)):
                break
            send(one)
            sent += not isinstance(one, LateLabel)
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
    """With a pace somebody may be reading along: then no line waits in a buffer."""

    def send(one: Sendable) -> None:
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
