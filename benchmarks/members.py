"""Whether the error depends on how many members serve, on a real Kafka started for it, with default settings.

    python -m benchmarks.members [--members 1 2 4 8] [--events N] [--rate EVENTS_PER_SECOND] [--quick] [--json OUT]

Eight partitions that differ: each has tasks of its own on a scale and an offset of its own, and words of its own in a
text feature. Printed is the error over the last third of each partition, and over each task's 6th to 20th event, where
what others have learned counts; and how many engines each member made.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from deploy.broker import Broker
from streammeta.transport.kafka.settings import KafkaSettings
from streammeta.transport.kafka.topics import create_topics

_PARTITIONS, _PATIENCE = 8, 300.0
_WORDS = ("red", "green", "blue")
_COUNTERS = "streammeta_engines_made_total", 'streammeta_transactions_total{result="failed"}'


class _Row(NamedTuple):
    """An event as it is sent, and what is to be compared with its prediction."""

    task: str
    value: bytes
    y: int
    age: int  # events of its task before it


class _Errors(NamedTuple):
    """Shares of wrong predictions."""

    partitions: list[float]  # over the last third of each
    young: float  # over the 6th to 20th event of each task


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a line for each number of members."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.members", description=__doc__)
    parser.add_argument("--members", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--events", type=int, default=12_000)
    parser.add_argument("--rate", type=float, default=400.0)
    parser.add_argument("--json", type=Path, help="write the errors there")
    parser.add_argument("--quick", action="store_true", help="one member and two, 1,600 events")
    options = parser.parse_args(arguments)
    if options.quick:
        options.members, options.events = [1, 2], 1_600
    figures: dict[int, dict[str, Any]] = {}
    rows = [list(_partition(number, options.events // _PARTITIONS)) for number in range(_PARTITIONS)]
    with Broker() as broker:
        for count in options.members:
            errors, engines, failed = _served(broker.bootstrap, count, rows, options.rate)
            each = " ".join(f"{100 * one:.1f}" for one in errors.partitions)
            print(
                f"{count} members: {100 * np.mean(errors.partitions):.2f} % wrong in the last third ({each}), "
                f"{100 * errors.young:.2f} % of the 6th to 20th event of a task; engines made: {engines}, "
                f"transactions failed: {failed}",
                flush=True,
            )
            figures[count] = errors._asdict() | {"engines": engines, "failed": failed}
    if options.json:
        options.json.write_text(json.dumps(figures))
    return 0


def _partition(number: int, count: int) -> Iterator[_Row]:
    """Events of a partition: a new task every 60; the concept is one of two, in the unit of the partition."""
    random, seen = np.random.default_rng(number), dict[str, int]()
    scale, offset = 10.0 ** (number - 3), 100.0 * (number % 3)
    words = [f"{word}-{number}" for word in _WORDS]
    for i in range(count):
        newest = i // 60
        task = f"p{number}-{int(random.integers(max(newest - 4, 0), newest + 1))}"
        a, b, word = *random.normal(size=2), int(random.integers(3))
        sign = 1 if int(task.rpartition("-")[2]) % 2 else -1
        y = int(sign * a + 0.5 * b + (word - 1) > 0)
        x = {"a": scale * (a + offset), "b": scale * b, "word": words[word]}
        age = seen[task] = seen.get(task, -1) + 1
        yield _Row(task, json.dumps({"task": task, "x": x, "y": y}).encode(), y, age)


def _served(bootstrap: str, count: int, rows: list[list[_Row]], rate: float) -> tuple[_Errors, list[int], list[int]]:
    """What so many members predicted; the engines that each of them made, and its transactions that failed."""
    topic = f"members-{uuid.uuid4().hex[:6]}"
    create_topics(KafkaSettings(bootstrap_servers=bootstrap), {topic: _PARTITIONS})
    with _group(bootstrap, topic, count) as ports:
        deadline = time.monotonic() + _PATIENCE
        while sum(_metric(port, "streammeta_assigned_partitions") for port in ports) < _PARTITIONS:
            _check(deadline, "the members have not all partitions")
            time.sleep(0.2)
        with closing(KafkaProducer(bootstrap_servers=bootstrap, linger_ms=5)) as producer:
            begun, sent = time.monotonic(), 0
            for each in zip(*rows, strict=True):
                for number, row in enumerate(each):
                    producer.send(topic, row.value, row.task.encode(), partition=number)
                sent += _PARTITIONS
                time.sleep(max(0.0, begun + sent / rate - time.monotonic()))
            producer.flush(_PATIENCE)
        errors = _errors(bootstrap, f"{topic}-predictions", rows)
        engines, failed = ([int(_metric(port, name)) for port in ports] for name in _COUNTERS)
    return errors, engines, failed


@contextmanager
def _group(bootstrap: str, topic: str, count: int) -> Iterator[list[int]]:
    """Members, by the ports of their metrics."""
    ports, running = [9_500 + i for i in range(count)], []
    try:
        for port in ports:
            environment = os.environ | {
                "STREAMMETA_APP__NAME": topic,
                "STREAMMETA_INPUT__TOPIC": topic,
                "STREAMMETA_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
                "STREAMMETA_HTTP__PORT": str(port),
                "STREAMMETA_LOG__LEVEL": "error",
            }
            command = [Path(sys.executable).with_name("streammeta"), "run"]
            running.append(subprocess.Popen(command, env=environment))
        yield ports
    finally:
        for one in running:
            one.terminate()
        for one in running:
            one.wait(_PATIENCE)


def _metric(port: int, name: str) -> float:
    """The sum of a metric's samples; 0 while nothing answers."""
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))
    return 0.0


def _errors(bootstrap: str, topic: str, rows: list[list[_Row]]) -> _Errors:
    """Read the predictions, as committed, and compare them with the truth."""
    count, wrong = len(rows[0]), np.full((_PARTITIONS, len(rows[0])), np.nan)
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    deadline = time.monotonic() + _PATIENCE
    with closing(consumer):
        consumer.assign([TopicPartition(topic, number) for number in range(_PARTITIONS)])
        while np.isnan(wrong).any():
            _check(deadline, f"{int(np.isnan(wrong).sum())} events have no prediction")
            for batch in consumer.poll(timeout_ms=200).values():
                for record in batch:
                    said = json.loads(record.value)
                    number, offset = (int(one) for one in said["source"].split("/")[-2:])
                    wrong[number, offset] = said["prediction"] != rows[number][offset].y
    young = np.array([[5 <= row.age < 20 for row in one] for one in rows])
    return _Errors(wrong[:, 2 * count // 3 :].mean(1).tolist(), float(wrong[young].mean()))


def _check(deadline: float, what: str) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(what)


if __name__ == "__main__":
    sys.exit(main())
