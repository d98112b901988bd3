"""Events and labels in two topics of a real Kafka, each with names of its own: every label is learned once."""

import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest
from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from streammeta.app.inspection import inspect_service
from streammeta.config import Settings
from streammeta.service.avro_results import PREDICTION
from streammeta.transport.kafka.progress import GroupProgress
from streammeta.transport.kafka.settings import KafkaSettings
from tests.broker.registry import RunningRegistry, registry
from tests.broker.running import RunningBroker
from tests.broker.test_service import PATIENCE, Running
from tests.formats.test_objects import avro, framed

COUNT = 900
__all__ = ["registry"]


@pytest.fixture
def members(broker: RunningBroker, topic: str, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def begin(**settings: str) -> Running:
        directory = tmp_path / str(len(running))
        directory.mkdir()
        running.append(Running(broker, topic, directory, **settings))
        return running[-1]

    yield begin
    for one in running:
        if one.process.poll() is None:
            one.kill()


STORE = {"type": "record", "name": "Store", "fields": [{"name": "id", "type": "int"}]}
ORDER = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "order", "type": "string"},
        {"name": "store", "type": STORE},
        {"name": "price", "type": "int"},
        {"name": "width", "type": "int"},
    ],
}
COLOUR = {"name": "colour", "type": "string", "default": "red"}
NEWER = {**ORDER, "fields": [*ORDER["fields"], COLOUR]}  # type: ignore[misc]
BACK = {
    "type": "record",
    "name": "Return",
    "fields": [
        {"name": "of", "type": "string"},
        {"name": "shop", "type": "int"},
        {"name": "returned", "type": ["null", "string"]},
    ],
}


@pytest.mark.parametrize(
    ("client", "form", "join"),
    [("kafka-python", "json", "id"), ("confluent", "json", "task"), ("confluent", "avro", "id")],
)
def test_labels_of_another_topic_are_learned_once_each_whoever_dies(
    client: str,
    form: str,
    join: str,
    broker: RunningBroker,
    topic: str,
    create_topic: Callable[[str, int], str],
    read_all: Callable[[str, int], list[ConsumerRecord]],
    members: Callable[..., Running],
    request: pytest.FixtureRequest,
) -> None:
    """Keyed by order, not by task, in partitions that have nothing to do with each other; a backlog of both is there
    at the start, so that labels could overtake; a third of the events, and a tombstone, are in other topics and places;
    each member that was there at the start is killed, the schema evolves between. Avro is read and written by the
    schemas of a real registry, with TLS and a password."""
    labels = f"{topic}-returns"
    create_topic(topic, 3)
    create_topic(labels, 3)
    known: RunningRegistry | None = request.getfixturevalue("registry") if form == "avro" else None
    numbers: dict[tuple[str, int], int] = {}
    begun = int(time.time() * 1000)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, linger_ms=20)

    def written(row: dict[str, Any], schema: dict[str, Any], of: str) -> bytes:
        if known is None:
            return json.dumps(row).encode()
        key = of, len(schema["fields"])
        if key not in numbers:
            numbers[key] = known.add(f"{of}-value", schema)
        return framed(numbers[key], avro(schema, row))

    def send(rows: range, schema: dict[str, Any]) -> None:
        for i in rows:
            order = {"order": f"o{i}", "store": {"id": i % 9}, "price": i % 7, "width": i % 3, "colour": "red"}
            producer.send(
                topic if i % 3 else f"{topic}-eu",
                written(order, schema, topic),
                key=order["order"].encode(),
                timestamp_ms=begun + i,
            )
            back = {"of": f"o{i}", "shop": i % 9, "returned": "yes" if i % 7 > 3 else "no"}
            late = begun + i + 50
            producer.send(labels, written(back, BACK, labels), key=str(i * 31).encode(), timestamp_ms=late)
        producer.flush(PATIENCE)

    create_topic(f"{topic}-eu", 2)
    send(range(COUNT // 2), ORDER)
    nothing = written({"of": "o1", "shop": 1, "returned": None}, BACK, labels)
    producer.send(labels, nothing, timestamp_ms=begun)
    producer.send(topic, None, key=b"o1", timestamp_ms=begun)
    settings = {
        "STREAMMETA_KAFKA__CLIENT": client,
        "STREAMMETA_INPUT__REPARTITION": "true",
        "STREAMMETA_INPUT__TOPICS": json.dumps([f"{topic}-e?"]),
        "STREAMMETA_INPUT__TOMBSTONES": "ignore",
        "STREAMMETA_INPUT__FIELDS": json.dumps({"task": "store.id", "id": "order"}),
        "STREAMMETA_LABELS__TOPIC": labels,
        "STREAMMETA_LABELS__JOIN": join,
        "STREAMMETA_LABELS__FIELDS": json.dumps(
            {"id": "of", "label": "returned"} | ({"task": "shop"} if join == "task" else {})
        ),
    }
    if known is not None:
        for section in ("INPUT", "LABELS", "OUTPUT"):
            settings[f"STREAMMETA_{section}__FORMAT"] = "avro"
            settings[f"STREAMMETA_{section}__REGISTRY"] = json.dumps(known.settings)

    first, second = members(**settings), members(**settings)
    wait_until(lambda: sum(one.metric("streammeta_events_total") for one in (first, second)) >= 100, first)
    second.kill()
    third = members(**settings)
    wait_until(lambda: "partitions restored" in third.log.read_text(), third)
    send(range(COUNT // 2, COUNT), NEWER)
    wait_until(lambda: third.metric("streammeta_events_total") >= 20, third)
    first.kill()
    predictions = read_all(f"{topic}-predictions", COUNT)
    whole = Settings(app={"name": topic}, input={"topic": topic}, kafka={"bootstrap_servers": broker.bootstrap})
    deadline = time.monotonic() + PATIENCE
    while sum(task.labelled for task in inspect_service(whole)) < COUNT and time.monotonic() < deadline:
        time.sleep(0.5)
    assert third.process.poll() is None, third.log.read_text()[-3000:]
    learned = read_all_labels(topic, read_all)
    assert third.stop() == 0
    assert {task.task: task.labelled for task in inspect_service(whole)} == {str(i): COUNT // 9 for i in range(9)}

    assert len({prediction(one.value)["source"] for one in predictions}) == COUNT
    assert {one.value[:1] for one in predictions} == {b"{" if known is None else b"\0"}
    dead = learned["dead-letters"]
    assert [dict(one.headers)["reason"].decode().partition(": ")[2] for one in dead] == [
        f"a label from a topic of its own has no label; wanted label{', id and task' if join == 'task' else ' and id'}: "
        "name their fields in [labels.fields]"
    ]


def wait_until(is_so: Callable[[], bool], member: Running) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, member.log.read_text()[-2000:]
        time.sleep(0.1)


def prediction(value: bytes) -> dict[str, Any]:
    if value[:1] == b"{":
        return json.loads(value)
    return fastavro.schemaless_reader(io.BytesIO(value[5:]), fastavro.parse_schema(PREDICTION), None)


def read_all_labels(
    topic: str, read_all: Callable[[str, int], list[ConsumerRecord]]
) -> dict[str, list[ConsumerRecord]]:
    """The repartition topic has each event and label once; the dead letters only what is no label."""
    everything = read_all(f"{topic}-repartition", 2 * COUNT + 2)
    origins = [dict(one.headers)["streammeta-origin"] for one in everything]
    assert len(set(origins)) == len(origins) == 2 * COUNT + 2
    return {"dead-letters": read_all(f"{topic}-dead-letters", 1)}


def test_how_far_a_group_is_counts_the_ends_of_transactions_for_nothing(
    broker: RunningBroker, topic: str, create_topic: Callable[[str, int], str]
) -> None:
    """The last offset of a producer with transactions is no record: waiting for it would be waiting for ever."""
    create_topic(topic, 1)
    settings = KafkaSettings(bootstrap_servers=broker.bootstrap)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, transactional_id=f"{topic}/p")
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(topic, b"a", timestamp_ms=1_000_000)
    producer.send(topic, b"b", timestamp_ms=2_000_000)
    producer.commit_transaction()
    producer.close()

    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap, group_id=topic, enable_auto_commit=False)
    progress = GroupProgress(settings, topic, topic, 1)
    at = TopicPartition(topic, 0)
    consumer.assign([at])

    consumer.committed(at)  # waits until groups are kept at all, on a broker that has just begun
    before = progress.has_passed(1_500), progress.has_passed(500)
    consumer.commit({at: OffsetAndMetadata(1, "", -1)})
    one = progress.has_passed(1_500), progress.has_passed(2_500)
    consumer.commit({at: OffsetAndMetadata(2, "", -1)})
    both = progress.has_passed(2_500)
    progress.close()
    consumer.close()

    assert before == (False, True)
    assert one == (True, False)
    assert both
