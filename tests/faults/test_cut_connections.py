"""The one moment in which nobody knows: a transaction's end was asked for, and the answer does not come."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry

from deploy.broker import Broker
from streammeta.engine import Engine
from streammeta.event import Decoder
from streammeta.service.exactly_once import ExactlyOnce
from streammeta.service.http import Health
from streammeta.service.loop import Options
from streammeta.service.metrics import Metrics
from streammeta.transport.base import Message
from streammeta.transport.kafka.changelog_reader import KafkaChangelogReader
from streammeta.transport.kafka.settings import KafkaSettings
from streammeta.transport.kafka.sink import KafkaSink
from streammeta.transport.kafka.source import KafkaSource
from streammeta.transport.kafka.topics import create_topics, ensure_topics
from streammeta.transport.kafka.transactional_sink import KafkaTransactionalSink
from streammeta.transport.memory_log import MemoryLog
from tests.broker.running import broker, topic
from tests.faults.chaos import PATIENCE, SETTINGS, free_port, read_topic, some_events
from tests.faults.proxy import Harm, Proxy
from tests.faults.states import run_to_the_end, tasks_of

__all__ = ["broker", "topic"]
pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.usefixtures("broker"), pytest.mark.timeout(200)]
FROZEN = SETTINGS.model_copy(update={"meta": SETTINGS.meta.model_copy(update={"mode": "off"})})


@dataclass
class Cut:
    """A broker, and the way to it on which harm comes to every third end of a transaction."""

    direct: KafkaSettings
    through: KafkaSettings
    harms: Counter[Harm]


@pytest.fixture
def cut() -> Iterator[Cut]:
    port, harms, source = free_port(), Counter[Harm](), random.Random(4)
    kinds: list[Harm] = ["cut before", "cut after", "silence"]

    def harm() -> Harm:
        chosen: Harm = kinds[harms.total() // 3 % 3] if harms.total() % 3 == source.randrange(3) else "none"
        harms[chosen] += 1
        return chosen

    proxy = Proxy(("127.0.0.1", port), harm)
    settings = {"advertised.listeners": f"PLAINTEXT://127.0.0.1:{proxy.port}"}
    with closing(proxy), Broker(port=port, settings=settings) as own:
        through = KafkaSettings(bootstrap_servers=f"127.0.0.1:{proxy.port}", connect_timeout_seconds=3)
        yield Cut(KafkaSettings(bootstrap_servers=own.bootstrap), through, harms)


def service(kafka: KafkaSettings, topic: str, opened: ExitStack) -> tuple[ExactlyOnce, KafkaSource]:
    topics = {
        channel: f"{topic}-{channel}" for channel in ("predictions", "signals", "dead-letters", "state", "weights")
    }
    ledger = KafkaTransactionalSink(
        kafka, topics, partitions=1, tables=("state", "weights"), name=topic, member="one", group=topic
    )
    running = ExactlyOnce(
        lambda: Engine(FROZEN),
        opened.enter_context(closing(ledger)),
        opened.enter_context(closing(KafkaChangelogReader(kafka, topics))),
        decoder=Decoder(),
        options=Options(poll_records=50, poll_seconds=0.1, save_every_seconds=0.1, name=topic),
        metrics=Metrics(CollectorRegistry()),
        health=Health(time.monotonic),
    )
    source = KafkaSource(
        kafka,
        topic,
        topic,
        on_revoked=running.revoked,
        on_assigned=running.assigned,
        on_coming=running.coming,
        on_lost=running.lost,
        member="one",
    )
    return running, opened.enter_context(closing(source))


def test_a_transaction_whose_end_nobody_knows_is_whole_or_not_there(cut: Cut, topic: str) -> None:
    """The older transaction protocol tears here when its end is asked for again: so we never ask again."""
    create_topics(cut.direct, {topic: 1})
    outputs = [f"{topic}-{channel}" for channel in ("predictions", "signals", "dead-letters")]
    ensure_topics(cut.direct, topic, outputs, {f"{topic}-state": None, f"{topic}-weights": 1})
    with ExitStack() as opened:
        running, source = service(cut.through, topic, opened)
        stop = threading.Event()
        thread = threading.Thread(target=running.run, args=(source, stop))
        thread.start()
        with closing(KafkaSink(cut.direct, {"in": topic})) as sink:
            for i, (value, task) in enumerate(some_events(1500, 6, seed=2)):
                sink._producer.send(topic, value, b"t%d" % task, partition=0)
                if i % 50 == 0:
                    time.sleep(0.2)
            sink.flush(PATIENCE)
        inputs = read_topic(cut.direct.bootstrap_servers, topic, 1)
        deadline = time.monotonic() + PATIENCE
        while sum(source.lag().values()) or running._changed or not running._positions:
            assert time.monotonic() < deadline, "never caught up"
            time.sleep(0.2)
        stop.set()
        thread.join(PATIENCE)

    log, states = MemoryLog(topic), MemoryLog(topic)
    for record in inputs[0]:
        log.append(record.value, 0, record.key)
    run_to_the_end(log, FROZEN)
    for record in read_topic(cut.direct.bootstrap_servers, f"{topic}-state", 1)[0]:
        states.write("state", 0, Message("state", record.value, record.key), None)
    predictions = read_topic(cut.direct.bootstrap_servers, f"{topic}-predictions", 1)[0]

    assert min(cut.harms[kind] for kind in ("cut before", "cut after", "silence")) > 0, cut.harms
    assert [json.loads(record.value) for record in predictions] == list(map(json.loads, log.values("predictions")))
    assert tasks_of(states, FROZEN) == tasks_of(log, FROZEN)
