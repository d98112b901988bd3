"""Labels that are corrected later, on a real Kafka, while members are killed: each event ends with its right label, once."""

import json
import time
from collections.abc import Callable

import pytest
from kafka import KafkaProducer
from kafka.consumer.fetcher import ConsumerRecord

from streammeta.app.inspection import engines_of_service
from streammeta.config import Settings
from tests.broker.running import RunningBroker
from tests.broker.test_label_topic import members, wait_until
from tests.broker.test_service import PATIENCE, Running

COUNT, TASKS, PER_TASK, SLOWLY = 540, 6, 90, 1_000
WRONG = -7.0
RIGHT = {float(i): 2.0 * i for i in range(COUNT)}  # of an event, which is known by its only feature
__all__ = ["members"]


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_each_event_ends_with_its_right_label_whoever_dies(
    client: str,
    broker: RunningBroker,
    topic: str,
    create_topic: Callable[[str, int], str],
    read_all: Callable[[str, int], list[ConsumerRecord]],
    members: Callable[..., Running],
) -> None:
    """Every order has a wrong label and then its right one, keyed by the order and without its task. A correction that is
    lost leaves a wrong number in the window; one that overtakes the first label does, too; one learned twice would be a
    second label in it. The windows are read back from what the service wrote."""
    labels = create_topic(f"{topic}-labels", 3)
    create_topic(topic, 3)
    begun = int(time.time() * 1000) - 1_000_000
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, linger_ms=20)

    def say(name: str, i: int, at: int, **row: object) -> None:
        producer.send(
            name, json.dumps({"order": f"o{i}", **row}).encode(), key=f"o{i}".encode(), timestamp_ms=begun + at
        )

    def send(rows: range) -> None:
        for i in rows:
            say(topic, i, i, store={"id": i % TASKS}, n=float(i))
        for i in rows:
            say(labels, i, SLOWLY + i, was=WRONG)
        for i in rows:
            say(labels, i, 2 * SLOWLY + i, was=RIGHT[i])
        producer.flush(PATIENCE)

    settings = {
        "APP__KIND": "regression",
        "META__MODE": "off",
        "KAFKA__CLIENT": client,
        "INPUT__REPARTITION": "true",
        "INPUT__FIELDS": json.dumps({"task": "store.id", "id": "order"}),
        "LABELS__TOPIC": labels,
        "LABELS__JOIN": "id",
        "LABELS__ON_SECOND": "relearn",
        "LABELS__FIELDS": json.dumps({"id": "order", "label": "was"}),
    }
    environment = {f"STREAMMETA_{name}": value for name, value in settings.items()}
    whole = Settings(
        app={"name": topic, "kind": "regression"},
        input={"topic": topic, "repartition": True},
        labels={"on_second": "relearn"},
        kafka={"bootstrap_servers": broker.bootstrap},
    )

    send(range(COUNT // 2))
    first, second = members(**environment), members(**environment)
    wait_until(
        lambda: sum(one.metric('streammeta_events_total{fate="corrected"}') for one in (first, second)) >= 40, first
    )
    second.kill()
    third = members(**environment)
    wait_until(lambda: "partitions restored" in third.log.read_text(), third)
    send(range(COUNT // 2, COUNT))
    wait_until(lambda: third.metric("streammeta_events_total") >= 20, third)
    first.kill()
    found: list[tuple[float, float]] = []
    deadline = time.monotonic() + PATIENCE
    while sorted(found) != sorted(RIGHT.items()) and time.monotonic() < deadline:
        time.sleep(1.0)
        found = windows(whole)

    assert sorted(found) == sorted(RIGHT.items())
    assert third.process.poll() is None, third.log.read_text()[-3000:]
    assert third.stop() == 0
    assert sorted(windows(whole)) == sorted(RIGHT.items())
    assert len({json.loads(one.value)["source"] for one in read_all(f"{topic}-predictions", COUNT)}) == COUNT
    everything = read_all(f"{topic}-repartition", 3 * COUNT)
    assert len({dict(one.headers)["streammeta-origin"] for one in everything}) == 3 * COUNT
    assert read_all(f"{topic}-dead-letters", 0) == []


def windows(settings: Settings) -> list[tuple[float, float]]:
    """The feature and the label of each labelled event that the service remembers."""
    found: list[tuple[float, float]] = []
    for engine in engines_of_service(settings):
        columns = engine.memory.tasks.columns
        for row, count in enumerate(columns["window_count"].tolist()):
            pairs = zip(
                columns["window_x"][row, :count, 0].tolist(), columns["window_y"][row, :count].tolist(), strict=True
            )
            found += pairs
    return found
