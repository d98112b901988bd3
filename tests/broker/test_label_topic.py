"""Events and labels in two topics of a real Kafka, each with names of its own: every label is learned once."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from streammeta.app.inspection import inspect_service
from streammeta.config import Settings
from streammeta.transport.kafka.progress import GroupProgress
from streammeta.transport.kafka.settings import KafkaSettings
from tests.broker.running import CLIENTS, RunningBroker
from tests.broker.test_service import PATIENCE, Running

COUNT = 900


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


@pytest.mark.parametrize("client", CLIENTS)
def test_labels_of_another_topic_are_learned_once_each_whoever_dies(
    client: str,
    broker: RunningBroker,
    topic: str,
    create_topic: Callable[[str, int], str],
    read_all: Callable[[str, int], list[ConsumerRecord]],
    members: Callable[..., Running],
) -> None:
    """Keyed by order, not by task, in partitions that have nothing to do with each other; the backlog of both is there
    at the start, so that labels could overtake; a third of the events, and a tombstone, are in other topics and places;
    a member is killed in the middle."""
    labels = f"{topic}-returns"
    create_topic(topic, 3)
    create_topic(labels, 3)
    create_topic(f"{topic}-eu", 2)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, linger_ms=20)
    for i in range(COUNT):
        order = {"order": f"o{i}", "store": {"id": i % 9}, "price": i % 7, "width": i % 3}
        producer.send(
            topic if i % 3 else f"{topic}-eu",
            json.dumps(order).encode(),
            key=order["order"].encode(),
            timestamp_ms=1_700_000_000_000 + i,
        )
        back = {"of": f"o{i}", "shop": i % 9, "returned": "yes" if i % 7 > 3 else "no"}
        late = 1_700_000_000_000 + i + 50
        producer.send(labels, json.dumps(back).encode(), key=str(i * 31).encode(), timestamp_ms=late)
    producer.send(labels, b'{"of": "o1"}', timestamp_ms=1_700_000_000_000)
    producer.send(topic, None, key=b"o1", timestamp_ms=1_700_000_000_000)
    producer.flush(PATIENCE)
    producer.close()
    settings = {
        "STREAMMETA_KAFKA__CLIENT": client,
        "STREAMMETA_INPUT__REPARTITION": "true",
        "STREAMMETA_INPUT__TOPICS": json.dumps([f"{topic}-e?"]),
        "STREAMMETA_INPUT__TOMBSTONES": "ignore",
        "STREAMMETA_INPUT__FIELDS": json.dumps({"task": "store.id", "id": "order"}),
        "STREAMMETA_LABELS__TOPIC": labels,
        "STREAMMETA_LABELS__FIELDS": json.dumps({"task": "shop", "id": "of", "label": "returned"}),
    }

    first, second = members(**settings), members(**settings)
    deadline = time.monotonic() + PATIENCE
    while first.metric("streammeta_events_total") + second.metric("streammeta_events_total") < 100:
        assert time.monotonic() < deadline, first.log.read_text()[-2000:]
        time.sleep(0.1)
    second.kill()
    predictions = read_all(f"{topic}-predictions", COUNT)
    learned = read_all_labels(topic, read_all)
    whole = Settings(app={"name": topic}, input={"topic": topic}, kafka={"bootstrap_servers": broker.bootstrap})
    deadline = time.monotonic() + PATIENCE
    while sum(task.labelled for task in inspect_service(whole)) < COUNT and time.monotonic() < deadline:
        time.sleep(0.5)
    assert first.stop() == 0
    assert {task.task: task.labelled for task in inspect_service(whole)} == {str(i): COUNT // 9 for i in range(9)}

    assert len({json.loads(one.value)["source"] for one in predictions}) == COUNT
    dead = learned["dead-letters"]
    assert [dict(one.headers)["reason"].decode().partition(": ")[2] for one in dead] == [
        "a label from a topic of its own has no label; wanted label, id and task: name their fields in [labels.fields]"
    ]


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
