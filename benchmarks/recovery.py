"""How long a kill is felt: two members of a group, events all the time, one member killed again and again.

Measured from SIGKILL to the first prediction, committed after it, in the partition that waits longest. Where partitions
go to another member, the session timeout is part of it; a static member gets its own again when it is back, so that the
start of a process is part of it.
"""

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from streammeta.transport.kafka.settings import KafkaSettings
from streammeta.transport.kafka.topics import create_topics, ensure_topics

__all__ = ["recovery"]

_PARTITIONS = 4
_SESSION_SECONDS = 6.0
_STATIC_SESSION_SECONDS = 60.0  # nobody takes over meanwhile
_RATE = 200  # events a second
_PATIENCE = 120.0


def recovery(kafka: KafkaSettings, kills: int) -> dict[str, Any]:
    """Seconds of each kill, of both kinds."""
    found: dict[str, Any] = {"session_timeout_seconds": {"moved": _SESSION_SECONDS, "static": _STATIC_SESSION_SECONDS}}
    for kind in ("moved", "static"):
        seconds = _felt(kafka, kills, static=kind == "static")
        found[kind] = seconds
        half, most = np.percentile(seconds, [50, 95])
        what = "a static member restarts" if kind == "static" else "partitions go to another member"
        print(
            f"{kafka.client}: SIGKILL, {what}: p50 {half:.1f} s, p95 {most:.1f} s, of {kills} "
            f"(session timeout {found['session_timeout_seconds'][kind]:g} s)"
        )
    return found


def _felt(kafka: KafkaSettings, kills: int, *, static: bool) -> list[float]:
    topic = f"recovery-{uuid.uuid4().hex[:6]}"
    create_topics(kafka, {topic: _PARTITIONS})
    ensure_topics(kafka, topic, [f"{topic}-app-predictions"])
    names = ["one", "two"] if static else [None, None]
    members = [_member(kafka, topic, name) for name in names]
    seconds = []
    try:
        with _events(kafka, topic), _predictions(kafka, f"{topic}-app-predictions") as last:
            for i in range(kills):
                _until_steady(last)
                at = time.monotonic()
                members[i % 2].kill()
                members[i % 2].wait(_PATIENCE)
                if static:
                    members[i % 2] = _member(kafka, topic, names[i % 2])
                seconds.append(_longest(last, at))
                if not static:
                    members[i % 2] = _member(kafka, topic, None)
                    _until_steady(last, steady=20.0)  # it takes partitions back, which is no recovery
    finally:
        for member in members:
            member.kill()
            member.wait(_PATIENCE)
    return seconds


def _member(kafka: KafkaSettings, topic: str, name: str | None) -> "subprocess.Popen[bytes]":
    environment = os.environ | {
        "STREAMMETA_APP__NAME": f"{topic}-app",
        "STREAMMETA_INPUT__TOPIC": topic,
        "STREAMMETA_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "STREAMMETA_KAFKA__CLIENT": kafka.client,
        "STREAMMETA_KAFKA__SESSION_TIMEOUT_SECONDS": str(_SESSION_SECONDS if name is None else _STATIC_SESSION_SECONDS),
        "STREAMMETA_STATE__EVERY_SECONDS": "0.2",
        "STREAMMETA_HTTP__ENABLED": "false",
        "STREAMMETA_LOG__LEVEL": "error",
        "STREAMMETA_META__MODE": "off",
    }
    if name is not None:
        environment["STREAMMETA_KAFKA__GROUP_INSTANCE_ID"] = name
    return subprocess.Popen([Path(sys.executable).with_name("streammeta"), "run"], env=environment)


@contextmanager
def _events(kafka: KafkaSettings, topic: str) -> Iterator[None]:
    """Events in every partition, all the time."""
    stop = threading.Event()

    def send() -> None:
        producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, linger_ms=5)
        number = 0
        while not stop.wait(1 / _RATE):
            task = number % 40
            event = {"id": f"e{number}", "task": f"t{task}", "x": {"a": number % 7, "b": number % 3}, "y": number % 2}
            producer.send(topic, json.dumps(event).encode(), b"t%d" % task, partition=task % _PARTITIONS)
            number += 1
        producer.close()

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_PATIENCE)


@contextmanager
def _predictions(kafka: KafkaSettings, topic: str) -> Iterator[dict[int, list[float]]]:
    """When committed predictions were seen, by partition."""
    stop, seen = threading.Event(), {number: [0.0] for number in range(_PARTITIONS)}

    def read() -> None:
        reader = KafkaConsumer(
            bootstrap_servers=kafka.bootstrap_servers, isolation_level="read_committed", fetch_max_wait_ms=20
        )
        with closing(reader):
            reader.assign([TopicPartition(topic, number) for number in range(_PARTITIONS)])
            while not stop.is_set():
                for at, records in reader.poll(timeout_ms=50).items():
                    seen[at.partition].append(time.monotonic())
                    del records

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join(_PATIENCE)


def _until_steady(seen: dict[int, list[float]], steady: float = 2.0) -> None:
    """Until every partition has had predictions, without a gap, for so long."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        now = time.monotonic()
        recent = [[at for at in times if at > now - steady] for times in seen.values()]
        if all(times and times[0] < now - steady / 2 and times[-1] > now - 1.0 for times in recent):
            return
        time.sleep(0.1)
    raise RuntimeError("the members never came to rest")


def _longest(seen: dict[int, list[float]], at: float) -> float:
    """From a kill to the first prediction of what came after it, in the partition that has it last."""
    deadline = at + _PATIENCE
    deadline = at + 2.0  # what was committed just before the kill may still be on its way to the reader
    while time.monotonic() < deadline:
        if time.monotonic() > deadline:
            gaps = {number: [a, b] for number, times in seen.items() for a, b in [_gap(times, at)] if b is not None}
            if len(gaps) == len(seen):
                return max(b - at for _, b in gaps.values())
        time.sleep(0.05)
    raise RuntimeError("no predictions after a kill")


def _gap(times: list[float], at: float) -> tuple[float, float | None]:
    """The longest silence since the kill that has ended, and when: of a partition that went on, a short one."""
    after = [one for one in list(times) if one > at]
    if not after or time.monotonic() - after[-1] > 1.0:
        return at, None  # silent still
    ends = [at, *after]
    return max(pairwise(ends), key=lambda pair: pair[1] - pair[0])
