"""Decisions under SIGKILL, on a real Kafka: no action and no propensity may differ from an undisturbed run's.

`python -m tests.faults.decisions --events 50000 --kills 20` runs the long form; a test runs a short one. The undisturbed
run is on a log in memory, with the same records at the same offsets.
"""

import argparse
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from kafka import KafkaProducer

from deploy.broker import Broker
from streammeta.engine import EngineSettings, MetaSettings
from streammeta.engine.settings import DecideSettings
from streammeta.errors import MissingTopicError
from streammeta.testing import Driver, MemoryLog
from streammeta.transport.kafka.settings import KafkaSettings
from streammeta.transport.kafka.topic_log import TopicLog
from streammeta.transport.kafka.topics import create_topics
from tests.faults.states import SMALL_ENVIRONMENT, SMALL_LEARNER, SMALL_MEMORY

__all__ = ["Found", "disturbed"]

SETTINGS = EngineSettings(
    kind="regression",
    decide=DecideSettings(actions=("red", "blue", "green"), cost=0.2),
    learner=SMALL_LEARNER,
    meta=MetaSettings(mode="off"),
    memory=SMALL_MEMORY,
)
_ENVIRONMENT = SMALL_ENVIRONMENT | {
    "APP__KIND": "decision",
    "DECIDE__ACTIONS": '["red", "blue", "green"]',
    "DECIDE__COST": "0.2",
    "STATE__EVERY_SECONDS": "0.1",
    "HTTP__ENABLED": "false",
}
_PATIENCE = 120.0  # seconds without a decision


class Found(NamedTuple):
    """What a disturbed run came to."""

    decisions: int
    kills: int
    differing: int  # records whose action, propensity or scores are others than in the undisturbed run
    missing: int
    doubled: int
    rewards: int  # learned
    rewards_wanted: int
    states_differ: bool


def disturbed(bootstrap: str, *, events: int, kills: int, seed: int = 0) -> Found:
    """Run a service over decisions and rewards, kill it again and again, and hold it against an undisturbed run."""
    topic, draw = f"decisions-{uuid.uuid4().hex[:8]}", random.Random(seed)
    kafka = KafkaSettings(bootstrap_servers=bootstrap)
    create_topics(kafka, {topic: 1})
    values = list(_records(events, seed))
    cuts = [len(values) * i // (kills + 1) for i in range(kills + 2)]
    process, made = _start(topic, bootstrap), _Made(kafka, topic)
    try:
        with closing(KafkaProducer(bootstrap_servers=bootstrap, linger_ms=20)) as producer:
            for i, (begin, end) in enumerate(itertools.pairwise(cuts)):
                decided = len(made.read())
                for value in values[begin:end]:
                    producer.send(topic, value, partition=0)
                producer.flush()
                is_last = i == kills
                made.wait_for(events if is_last else decided + 1)
                if not is_last:  # in the middle of what has just come, as likely as not
                    time.sleep(draw.random() / 5)
                    process.kill()
                    process.wait()
                    process = _start(topic, bootstrap)
        time.sleep(0.5)  # rewards after the last decision
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        return _compared(kafka, topic, values, made.read(), kills)
    finally:
        process.kill()
        made.close()


class _Made:
    """The decisions that a reader of committed records has seen; each is read once."""

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        self._kafka, self._topic = kafka, f"{topic}-predictions"
        self._log: TopicLog | None = None
        self._found: list[dict[str, Any]] = []

    def read(self) -> list[dict[str, Any]]:
        """All of them until now, in order."""
        try:
            self._log = self._log or TopicLog(self._kafka, [self._topic])
        except MissingTopicError:  # the service makes it only now
            return []
        self._log.extend()
        self._found += [json.loads(record.value or b"{}") for record in self._log.records()]
        return self._found

    def wait_for(self, count: int) -> None:
        """Until there are ``count``, as long as more and more come."""
        until, before = time.monotonic() + _PATIENCE, 0
        while (found := len(self.read())) < count:
            if found > before:
                until, before = time.monotonic() + _PATIENCE, found
            assert time.monotonic() < until, f"only {found:,} of {count:,} decisions came"
            time.sleep(0.1)

    def close(self) -> None:
        """Let go of the connection."""
        if self._log is not None:
            self._log.close()


def _compared(kafka: KafkaSettings, topic: str, values: list[bytes], made: list[dict[str, Any]], kills: int) -> Found:
    log = MemoryLog(topic, 1)
    for value in values:
        log.append(value, 0)
    member = Driver(log, "undisturbed", SETTINGS, poll_records=500)
    member.finish()
    wanted = {one["source"]: one for one in member.predictions()}
    found = {one["source"]: one for one in made}
    return Found(
        len(made),
        kills,
        sum(found[source] != one for source, one in wanted.items() if source in found),
        len(wanted.keys() - found.keys()),
        len(made) - len(found),
        sum(_labelled(kafka, topic)),
        sum(b'"y"' in value for value in values),
        states_differ=_labelled(kafka, topic) != sorted(one.labelled for one in _tasks(log)),
    )


def _tasks(log: MemoryLog) -> Any:
    reader = Driver(log, "reader", SETTINGS)
    reader.rounds(5)
    return reader.engine.tasks()


def _labelled(kafka: KafkaSettings, topic: str) -> list[int]:
    """Rewards that each task of the service has learned, by its changelog."""
    from streammeta.app.inspection import inspect_service  # noqa: PLC0415  what a reader of the state uses
    from streammeta.config import Settings  # noqa: PLC0415

    settings = Settings(
        app={"name": topic, "kind": "decision"},
        decide={"actions": ("red", "blue", "green")},
        kafka=kafka.model_dump(),
        learner=SETTINGS.learner.model_dump(),
        memory={"window": 64},
    )
    return sorted(one.labelled for one in inspect_service(settings))


def _records(events: int, seed: int) -> Iterator[bytes]:
    """Events of twenty tasks, and the reward of each some events later."""
    source, late = np.random.default_rng(seed), list[bytes]()
    for i in range(events):
        task, x = int(source.integers(20)), {name: float(source.standard_normal()) for name in "abc"}
        yield json.dumps({"id": f"e{i}", "task": f"t{task}", "ts": float(i), "x": x}).encode()
        late.append(json.dumps({"id": f"e{i}", "y": float(x["a"] > 0) + task / 10, "task": f"t{task}"}).encode())
        if len(late) > 30:
            yield late.pop(int(source.integers(30)))
    yield from late


def _start(topic: str, bootstrap: str) -> subprocess.Popen[bytes]:
    mine = _ENVIRONMENT | {
        "APP__NAME": topic,
        "INPUT__TOPIC": topic,
        "KAFKA__BOOTSTRAP_SERVERS": bootstrap,
        "KAFKA__GROUP_INSTANCE_ID": "one",  # so that the group lets it in again at once
    }
    environment = os.environ | {f"STREAMMETA_{name}": value for name, value in mine.items()}
    log = Path(tempfile.gettempdir()) / f"{topic}.log"
    with log.open("ab") as out:
        return subprocess.Popen([sys.executable, "-m", "streammeta", "run"], env=environment, stdout=out, stderr=out)


def main() -> int:
    """Run it against a broker of its own; exit status 1 where anything differed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    broker = Broker().start()
    try:
        found = disturbed(broker.bootstrap, events=options.events, kills=options.kills, seed=options.seed)
    finally:
        broker.stop()
    sys.stdout.write(f"{found}\n")
    whole = found.decisions == options.events and found.rewards == found.rewards_wanted
    return int(not whole or bool(found.differing or found.missing or found.doubled or found.states_differ))


if __name__ == "__main__":
    raise SystemExit(main())
