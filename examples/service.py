"""The service on a Kafka topic, started from Python: events in, predictions out, exactly once.

    make broker
    .venv/bin/python examples/service.py localhost:9092

In production `streammeta run` does this; here one process sends events, serves them and reads the predictions.
"""

import json
import sys
import threading
import time

from kafka import KafkaConsumer, KafkaProducer

from streammeta.app.serve import serve
from streammeta.config import Settings
from streammeta.simulators import simulate
from streammeta.transport.kafka.topics import create_topics

EVENTS = 500


def send_events(bootstrap: str, topic: str) -> None:
    """As any producer would: JSON with task, features and label, keyed by task."""
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for sample in simulate("shared-representation", events=EVENTS, seed=1, tasks=10):
        producer.send(topic, key=sample.task.encode(), value=sample.to_json())
    producer.flush()
    producer.close()


def read_predictions(bootstrap: str, topic: str, within_seconds: float) -> list[dict[str, object]]:
    """Only what is committed: a reader with any other isolation would see results of failed transactions."""
    consumer = KafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    found: list[dict[str, object]] = []
    until = time.monotonic() + within_seconds
    while len(found) < EVENTS and time.monotonic() < until:
        for records in consumer.poll(500).values():
            found += [json.loads(record.value) for record in records]
    consumer.close()
    return found


def main(bootstrap: str, name: str = "example") -> None:
    """Send, serve, read, stop."""
    settings = Settings(
        app={"name": name},
        input={"topic": f"{name}-events"},
        kafka={"bootstrap_servers": bootstrap},
        http={"port": 0},
    )
    create_topics(settings.kafka, {f"{name}-events": 2})
    send_events(bootstrap, f"{name}-events")

    stop = threading.Event()
    service = threading.Thread(target=serve, args=(settings, stop))
    service.start()
    try:
        predictions = read_predictions(bootstrap, f"{name}-predictions", within_seconds=60)
    finally:
        stop.set()
        service.join()

    print(f"{len(predictions)} predictions; the last one: {json.dumps(predictions[-1])}")


if __name__ == "__main__":
    main(*sys.argv[1:])
