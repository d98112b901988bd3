"""How soon a server with many tasks predicts by a new θ, on a real Kafka started for it.

    python -m benchmarks.adoption [--tasks N] [--versions N] [--rate EVENTS_PER_SECOND] [--quick] [--json OUT]

A `streammeta run` that follows a trainer takes in two events of each task; then versions of θ are published one after
the other, while events of random tasks come at a steady rate. What counts is the time between two records, by their
own time stamps: the version in NAME-weights, and the first prediction that names it or a later one.
"""

import argparse
import json
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from benchmarks.exactly_once import service
from deploy.broker import Broker
from streammeta.engine import Engine, EngineSettings
from streammeta.engine.weights import About, encode_weights
from streammeta.event import Event, Origin
from streammeta.service.published import THETA
from streammeta.transport.kafka.settings import KafkaSettings
from streammeta.transport.kafka.topics import create_topics

_PATIENCE = 300.0
_PAUSE = 3.0  # seconds between two versions
_NAMES = "abcdefgh"


class _First(NamedTuple):
    """The first prediction by a version, and when it was sent."""

    version: int
    at: float  # seconds since 1970


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adoption", description=__doc__)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--versions", type=int, default=30)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--json", type=Path, help="write the seconds of each version there")
    parser.add_argument("--quick", action="store_true", help="500 tasks, 4 versions")
    options = parser.parse_args(arguments)
    if options.quick:
        options.tasks, options.versions = 500, 4
    with Broker() as broker:
        delays = measured(broker.bootstrap, options.tasks, options.versions, options.rate)
    most, usual = np.percentile(delays, 99), np.median(delays)
    print(
        f"{options.tasks:,} tasks, {options.rate:g} events/s, {len(delays)} versions: adopted after {usual:.2f} s "
        f"(median), {most:.2f} s (p99), {max(delays):.2f} s (most)"
    )
    if options.json:
        options.json.write_text(json.dumps(delays))
    return 0


def measured(bootstrap: str, tasks: int, versions: int, rate: float) -> list[float]:
    """Seconds from each version to the first prediction by it."""
    topic = f"adoption-{uuid.uuid4().hex[:6]}"
    kafka = KafkaSettings(bootstrap_servers=bootstrap)
    create_topics(kafka, {topic: 1})
    environment = {"META__TRAINER": "separate"}
    stop = threading.Event()
    with (
        service(kafka, topic, topic, 1.0, "sync", **environment),
        closing(KafkaProducer(bootstrap_servers=bootstrap, linger_ms=5, batch_size=2**18)) as producer,
    ):
        for value, key in _events(tasks, 2):
            producer.send(topic, value, key, partition=0)
        producer.flush(_PATIENCE)
        predictions = _Predictions(bootstrap, f"{topic}-predictions")
        predictions.wait(lambda: predictions.count >= 2 * tasks)
        load = threading.Thread(target=_keep_on, args=(producer, topic, tasks, rate, stop))
        load.start()
        try:
            published = {}
            for number, value in _versions(versions):
                record = producer.send(f"{topic}-weights", value, THETA, partition=0).get(_PATIENCE)
                published[number] = record.timestamp / 1000
                predictions.wait(lambda number=number: predictions.newest >= number)
                time.sleep(_PAUSE)
        finally:
            stop.set()
            load.join(_PATIENCE)
            predictions.close()
    return [predictions.first(number) - at for number, at in published.items()]


class _Predictions:
    """What is written to the predictions, before it is committed: what a server does, not when it is seen."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._consumer = KafkaConsumer(
            bootstrap_servers=bootstrap, auto_offset_reset="earliest", max_partition_fetch_bytes=2**23
        )
        self._consumer.assign([TopicPartition(topic, 0)])
        self._first: list[_First] = []  # where a version is met for the first time
        self.count, self.newest = 0, -1

    def wait(self, done: Callable[[], bool]) -> None:
        """Read on until then."""
        deadline = time.monotonic() + _PATIENCE
        while not done():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.count} predictions, the newest by version {self.newest}")
            for batch in self._consumer.poll(timeout_ms=50).values():
                for record in batch:
                    self._note(json.loads(record.value)["theta_version"], record.timestamp / 1000)

    def _note(self, version: int, at: float) -> None:
        self.count += 1
        if version > self.newest:
            self.newest = version
            self._first.append(_First(version, at))

    def first(self, version: int) -> float:
        """When the first prediction by this version, or by a later one, was sent."""
        return next(one.at for one in self._first if one.version >= version)

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()


def _events(tasks: int, each: int) -> Iterator[tuple[bytes, bytes]]:
    random = np.random.default_rng(0)
    for _ in range(each):
        for begin in range(0, tasks, 1000):
            rows = np.round(random.normal(size=(min(1000, tasks - begin), len(_NAMES))), 4)
            for i, x in enumerate(rows.tolist(), begin):
                yield _event(i, x, labelled=True)


def _event(task: int, x: list[float], *, labelled: bool) -> tuple[bytes, bytes]:
    fields = {"task": f"t{task}", "x": dict(zip(_NAMES, x, strict=True))} | ({"y": int(x[0] > 0)} if labelled else {})
    return json.dumps(fields, separators=(",", ":")).encode(), fields["task"].encode()


def _keep_on(producer: KafkaProducer, topic: str, tasks: int, rate: float, stop: threading.Event) -> None:
    """Labelled events of random tasks, at a steady rate, until then."""
    random, begun, sent = np.random.default_rng(1), time.monotonic(), 0
    while not stop.is_set():
        while sent < rate * (time.monotonic() - begun):
            value, key = _event(int(random.integers(tasks)), random.normal(size=len(_NAMES)).tolist(), labelled=True)
            producer.send(topic, value, key, partition=0)
            sent += 1
        stop.wait(0.01)


def _versions(count: int) -> Iterator[tuple[int, bytes]]:
    """Versions of θ that learn a stream of the same features, one after the other."""
    random, offset = np.random.default_rng(2), 0
    with closing(Engine(EngineSettings())) as engine:
        for _ in range(count):
            before = engine.stats().theta_version
            while engine.stats().theta_version <= before + 4:
                x = random.normal(size=len(_NAMES))
                event = Event(
                    dict(zip(_NAMES, x.tolist(), strict=True)),
                    f"t{offset % 20}",
                    Origin("s", 0, offset),
                    y=int(x[0] > 0),
                )
                engine.step([event])
                offset += 1
            weights = engine.shared_weights()
            yield weights.version, encode_weights(replace(weights, about=About(by="benchmark", made=time.time())))


if __name__ == "__main__":
    sys.exit(main())
