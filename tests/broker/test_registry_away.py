"""A real registry that hangs under a service on a real Kafka: what needs it waits, and is predicted once when it is back."""

import json
import time
from collections.abc import Callable

from kafka import KafkaProducer
from kafka.consumer.fetcher import ConsumerRecord

from tests.broker.registry import RunningRegistry, registry
from tests.broker.running import RunningBroker
from tests.broker.test_label_topic import wait_until
from tests.broker.test_service import PATIENCE, Running, start
from tests.formats.test_objects import avro, framed

COUNT = 120
SCHEMA = {
    "type": "record",
    "name": "Away",
    "fields": [
        {"name": "shop", "type": "string"},
        {"name": "price", "type": "double"},
        {"name": "sold", "type": "int"},
    ],
}
NEWER = {**SCHEMA, "fields": [*SCHEMA["fields"], {"name": "size", "type": "double", "default": 0.0}]}  # type: ignore[misc]
__all__ = ["registry", "start"]


def test_records_wait_for_a_registry_that_hangs(
    broker: RunningBroker,
    topic: str,
    create_topic: Callable[[str, int], str],
    read_all: Callable[[str, int], list[ConsumerRecord]],
    registry: RunningRegistry,
    start: Callable[..., Running],
) -> None:
    """Dead letters of a registry's bad hour would be a hole in what was learned; so would records that were passed over."""
    create_topic(topic, 2)
    old, new = registry.add(f"{topic}-value", SCHEMA), registry.add(f"{topic}-value", NEWER)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)

    def send(rows: range, number: int, schema: object) -> None:
        for i in rows:
            row = {"shop": f"s{i % 3}", "price": float(i % 7), "sold": i % 2, "size": 1.0}
            producer.send(topic, framed(number, avro(schema, row)), key=f"s{i % 3}".encode())
        producer.flush(PATIENCE)

    def fails() -> bool:
        return "schema registry" in member.log.read_text()

    send(range(COUNT // 2), old, SCHEMA)
    member = start(
        topic,
        STREAMMETA_META__MODE="off",
        STREAMMETA_INPUT__FORMAT="avro",
        STREAMMETA_INPUT__REGISTRY=json.dumps(registry.settings | {"timeout_seconds": 1.0}),
        STREAMMETA_INPUT__FIELDS=json.dumps({"task": "shop", "label": "sold"}),
    )
    member.wait_for("streammeta_events_total", COUNT // 2)
    read_all(f"{topic}-predictions", COUNT // 2)  # committed
    registry.process.pause(on=True)
    try:
        send(range(COUNT // 2, COUNT), new, NEWER)
        wait_until(fails, member)
        time.sleep(2.0)  # it is asked again meanwhile
        waiting = read_all(f"{topic}-predictions", COUNT // 2)
    finally:
        registry.process.pause(on=False)
    predictions = read_all(f"{topic}-predictions", COUNT)

    assert len(waiting) == COUNT // 2
    assert len({json.loads(one.value)["source"] for one in predictions}) == COUNT
    assert read_all(f"{topic}-dead-letters", 0) == []
    assert member.process.poll() is None, "it waits, and does not end"
    assert member.stop() == 0
