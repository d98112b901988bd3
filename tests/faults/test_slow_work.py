"""Slow work never leaves the group: whatever lasts longer than a member may be silent, it must not be silent.

CI runs them small; `make slow-work` takes a meta-update of a minute, 100,000 tasks, and a broker that stands for 30 s.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from deploy.broker import Broker
from streammeta.engine import Engine, MetaResult, MetaSettings
from streammeta.engine.handover import Handover
from streammeta.event import Decoder
from streammeta.service.exactly_once import ExactlyOnce
from streammeta.service.http import Health
from streammeta.service.loop import Options
from streammeta.service.metrics import Metrics
from streammeta.transport.base import GroupSource
from streammeta.transport.choice import adapters
from streammeta.transport.kafka.settings import KafkaSettings
from streammeta.transport.kafka.sink import KafkaSink
from streammeta.transport.kafka.topics import create_topics, ensure_topics
from streammeta.transport.memory_log import MemoryLog
from tests.broker.running import CLIENTS, broker, topic
from tests.faults.chaos import PATIENCE, SETTINGS, read_topic, some_events
from tests.faults.states import run_to_the_end

__all__ = ["broker", "topic"]
pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.usefixtures("broker"), pytest.mark.timeout(600)]

FULL = os.environ.get("STREAMMETA_SLOW_WORK") == "full"
SESSION, POLLED = (10.0, 15.0) if FULL else (2.0, 3.0)  # seconds of silence, and without a poll
META_SECONDS = 60.0 if FULL else 6.0
RESTORED, CHUNK_SECONDS = (100_000, 0.2) if FULL else (2_000, 0.8)
STOPPED = 30.0 if FULL else 5.0
OUTPUTS = ("predictions", "signals", "dead-letters")
FROZEN = SETTINGS.model_copy(update={"meta": MetaSettings(mode="off")})
BACKGROUND = SETTINGS.model_copy(update={"meta": SETTINGS.meta.model_copy(update={"mode": "background"})})


@pytest.fixture(scope="module")
def own() -> Iterator[Broker]:
    with Broker(settings={"group.min.session.timeout.ms": "1000"}) as running:
        yield running


@pytest.fixture(params=CLIENTS)
def kafka(own: Broker, request: pytest.FixtureRequest) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers=own.bootstrap,
        client=request.param,
        session_timeout_seconds=SESSION,
        max_poll_interval_seconds=POLLED,
    )


class Member:
    """A service in this process, and what happens to it in its group."""

    def __init__(self, kafka: KafkaSettings, topic: str, make_engine: Callable[[], Engine], opened: ExitStack) -> None:
        with closing(make_engine()) as engine:
            background = engine.settings.meta.mode == "background"
        channels = {channel: f"{topic}-{channel}" for channel in (*OUTPUTS, "state", "weights")}
        chosen, tables = adapters(kafka), {channel: channels[channel] for channel in ("state", "weights")}
        ledger = chosen.ledger(
            kafka, channels, partitions=1, tables=("state", "weights"), name=topic, member="one", group=topic
        )
        self.registry = CollectorRegistry()
        self.running = ExactlyOnce(
            make_engine,
            opened.enter_context(closing(ledger)),
            opened.enter_context(closing(chosen.tables(kafka, tables))),
            decoder=Decoder(),
            options=Options(
                poll_records=200,
                poll_seconds=0.1,
                save_every_seconds=0.2,
                name=topic,
                batch_events=32 if background else None,
                background_patience=1.0 if background else None,
            ),
            metrics=Metrics(self.registry),
            health=Health(time.monotonic),
        )
        self.source: GroupSource = chosen.source(
            kafka,
            topic,
            topic,
            on_revoked=self.running.revoked,
            on_assigned=self.running.assigned,
            on_coming=self.running.coming,
            on_lost=self.running.lost,
            member="one",
        )
        opened.enter_context(closing(self.source))
        self.generations: set[object] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.running.run, args=(self.source, self._stop))

    def rebalances(self) -> dict[str, float | None]:
        kinds = ("assigned", "revoked", "lost")
        return {kind: self.registry.get_sample_value("streammeta_rebalances_total", {"kind": kind}) for kind in kinds}

    def catch_up(self, ends: int) -> None:
        """Until everything up to this offset is committed, noting the group's generations on the way."""
        deadline = time.monotonic() + PATIENCE
        while self.committed < ends:
            assert self._thread.is_alive(), f"ended at {self.committed} of {ends}"
            assert time.monotonic() < deadline, f"stands at {self.committed} of {ends}"
            self.generations.add(getattr(self.source.member(), "generation_id", None))
            time.sleep(0.05)

    @property
    def committed(self) -> int:
        return 0 if self.running._changed else sum(self.running._positions.values())

    @contextmanager
    def at_work(self) -> Iterator["Member"]:
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._thread.join(PATIENCE)


@contextmanager
def member(kafka: KafkaSettings, topic: str, make_engine: Callable[[], Engine]) -> Iterator[Member]:
    with ExitStack() as opened, Member(kafka, topic, make_engine, opened).at_work() as running:
        yield running


def make_topics(kafka: KafkaSettings, topic: str) -> None:
    create_topics(kafka, {topic: 1})
    ensure_topics(kafka, topic, [f"{topic}-{out}" for out in OUTPUTS], {f"{topic}-state": None, f"{topic}-weights": 1})


def produce(kafka: KafkaSettings, topic: str, count: int, tasks: int, *, seed: int = 0, seconds: float = 0.0) -> int:
    """Send events, over so many seconds; returns where the topic ends then."""
    with closing(KafkaSink(kafka, {"in": topic})) as sink:
        begun = time.monotonic()
        for i, (value, task) in enumerate(some_events(count, tasks, seed=seed)):
            sink._producer.send(topic, value, b"t%d" % task, partition=0)
            time.sleep(max(0.0, begun + seconds * i / count - time.monotonic()))
        sink.flush(PATIENCE)
    return len(read_topic(kafka.bootstrap_servers, topic, 1)[0])


def read(kafka: KafkaSettings, topic: str) -> tuple[list[Any], list[Any]]:
    """What was predicted, and what one undisturbed worker predicts of the same records."""
    log = MemoryLog(topic)
    for record in read_topic(kafka.bootstrap_servers, topic, 1)[0]:
        log.append(record.value, 0, record.key)
    run_to_the_end(log, FROZEN)
    found = read_topic(kafka.bootstrap_servers, f"{topic}-predictions", 1)[0]
    return [json.loads(record.value) for record in found], list(map(json.loads, log.values("predictions")))


def assert_it_never_left(one: Member) -> None:
    assert one.rebalances() == {"assigned": 1.0, "revoked": 0.0, "lost": 0.0}
    # None: confluent does not tell. -1: not in the group yet; who comes back has another number than before.
    assert len(one.generations - {None, -1}) <= 1, one.generations


def test_a_meta_update_far_longer_than_a_member_may_be_silent(kafka: KafkaSettings, topic: str) -> None:
    """In the step, it would stop polling: the group would take the partitions away, again at each meta-update."""
    make_topics(kafka, topic)
    ended: list[float] = []

    class Slow(Engine):
        def begin_meta_update(self) -> Callable[[], MetaResult] | None:
            job = super().begin_meta_update()

            def slow() -> MetaResult:
                assert job is not None
                time.sleep(META_SECONDS)
                ended.append(time.monotonic())
                return job()

            return None if job is None else slow

    with member(kafka, topic, lambda: Slow(BACKGROUND)) as one:
        ends = produce(kafka, topic, 600, 6, seconds=META_SECONDS + POLLED)
        one.catch_up(ends)
        caught_up = time.monotonic()

        assert_it_never_left(one)
        assert ended
        assert ended[0] < caught_up
    found, wanted = read(kafka, topic)
    assert [one["source"] for one in found] == [one["source"] for one in wanted]


def test_a_restore_of_many_tasks(kafka: KafkaSettings, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without polls in between, who restores is thrown out before it has finished, and so is the next, for ever."""
    make_topics(kafka, topic)
    first = produce(kafka, topic, 3 * RESTORED, RESTORED)
    with member(kafka, topic, lambda: Engine(FROZEN)) as one:
        one.catch_up(first)
    take, begun = Handover.take, time.monotonic()

    def slowly(self: Handover, *given: Any) -> Iterator[int]:
        for done in take(self, *given):
            time.sleep(CHUNK_SECONDS)
            yield done

    monkeypatch.setattr(Handover, "take", slowly)
    with member(kafka, topic, lambda: Engine(FROZEN)) as one:
        ends = produce(kafka, topic, 200, RESTORED, seed=7)
        one.catch_up(ends)

        assert time.monotonic() - begun > POLLED + SESSION
        assert_it_never_left(one)
    found, wanted = read(kafka, topic)
    assert found == wanted


def test_a_broker_that_stands_still(own: Broker, kafka: KafkaSettings, topic: str) -> None:
    """Shorter than the session lasts, it is no reason to leave; and nothing is lost or learned twice."""
    patient = kafka.model_copy(
        update={"session_timeout_seconds": 2 * STOPPED, "max_poll_interval_seconds": 3 * STOPPED}
    )
    make_topics(patient, topic)
    assert own.pid is not None
    with member(patient, topic, lambda: Engine(FROZEN)) as one:
        one.catch_up(produce(patient, topic, 300, 6))
        feeding = threading.Thread(target=produce, args=(patient, topic, 300, 6), kwargs={"seed": 1, "seconds": 2.0})
        feeding.start()
        time.sleep(1.0)  # in the middle of polls and commits
        os.kill(own.pid, signal.SIGSTOP)
        try:
            time.sleep(STOPPED)
        finally:
            os.kill(own.pid, signal.SIGCONT)
        feeding.join(PATIENCE)
        one.catch_up(len(read_topic(own.bootstrap, topic, 1)[0]))

        assert_it_never_left(one)
    found, wanted = read(patient, topic)
    assert found == wanted
