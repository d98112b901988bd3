"""A topic that is deleted and created again, or changed, under those who read it, on a real Kafka, by both clients."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaProducer

from streammeta.errors import TransportError
from streammeta.event import Record
from streammeta.transport.base import GroupSource, Message
from streammeta.transport.choice import adapters
from streammeta.transport.kafka.input_log import log_of
from streammeta.transport.kafka.settings import KafkaSettings, OnLostOffset
from streammeta.transport.kafka.topics import create_topics
from tests.broker.running import CLIENTS, RunningBroker
from tests.broker.test_service import ReadAll, Running, produce, start

__all__ = ["start"]  # a fixture
CreateTopic = Callable[[str, int], str]
WAIT_SECONDS = 30.0
SERVICE_SECONDS = 100.0  # a start takes half a minute where many work on one machine


@pytest.fixture(params=CLIENTS)
def kafka(request: pytest.FixtureRequest, kafka: KafkaSettings) -> KafkaSettings:
    """One after the other, by each client."""
    return kafka.model_copy(update={"client": request.param})


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def fill(kafka: KafkaSettings, topic: str, count: int, partitions: int, word: str) -> None:
    """So many records in each partition."""
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
    for i in range(count):
        for number in range(partitions):
            producer.send(topic, f"{word}-{number}-{i}".encode(), partition=number)
    producer.flush(WAIT_SECONDS)
    producer.close()


def replace(kafka: KafkaSettings, topic: str, count: int, partitions: int = 2) -> None:
    """Delete the topic, create it again, and fill it."""
    with closing(KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)) as admin:
        admin.delete_topics([topic])
    create_topics(kafka, {topic: partitions})
    fill(kafka, topic, count, partitions, "new")


def read(source: GroupSource, count: int) -> list[Record]:
    records: list[Record] = []
    deadline = time.monotonic() + WAIT_SECONDS
    while len(records) < count and time.monotonic() < deadline:
        records += source.poll(100, 0.2)
    return records


def after(records: list[Record]) -> dict[tuple[str, int], int]:
    return {(record.origin.topic, record.origin.partition): record.origin.offset + 1 for record in records}


def words(records: list[Record]) -> list[str]:
    return sorted((record.value or b"").decode() for record in records)


@pytest.mark.parametrize("count", [40, 20, 7, 0])  # longer, as long as what was read, shorter, empty at first
def test_a_topic_created_again_under_a_running_member_is_read_from_its_begin(
    kafka: KafkaSettings, topic: str, create_topic: CreateTopic, opened: ExitStack, count: int
) -> None:
    """A client goes on where it was in the old log: the first records of the new one would never be predicted."""
    create_topic(topic, 2)
    fill(kafka, topic, 20, 2, "old")
    source = opened.enter_context(
        closing(adapters(kafka).source(kafka, topic, topic, on_lost_offset="earliest", member="a"))
    )
    first = read(source, 40)
    source.poll(100, 0.5)
    source.commit(after(first))

    replace(kafka, topic, count)
    if not count:
        source.poll(100, 0.5)
        fill(kafka, topic, 3, 2, "new")
    wanted = 2 * (count or 3)
    found = read(source, wanted)
    found += source.poll(100, 1.0)

    assert len(first) == 40
    assert words(found) == sorted(f"new-{number}-{i}" for number in range(2) for i in range(count or 3))
    source.commit(after(found))
    assert source.assigned() == after(found)


@pytest.mark.parametrize("count", [40, 7])
def test_a_topic_created_again_under_a_running_member_stops_it_where_that_is_wanted(
    kafka: KafkaSettings, topic: str, create_topic: CreateTopic, opened: ExitStack, count: int
) -> None:
    """The default: somebody must say whether what is there now is to be read from its begin, or not at all."""
    create_topic(topic, 2)
    fill(kafka, topic, 20, 2, "old")
    source = opened.enter_context(closing(adapters(kafka).source(kafka, topic, topic, member="a")))
    first = read(source, 40)
    source.poll(100, 0.5)
    source.commit(after(first))

    replace(kafka, topic, count)

    came: list[Record] = []
    with pytest.raises(TransportError, match=r"deleted and created again since.*on_lost_offset.*earliest"):
        came += read(source, 1)
    assert came == []


@pytest.mark.parametrize("on_lost", ["stop", "earliest"])
def test_offsets_that_were_committed_for_the_old_topic_are_known_after_a_restart(
    kafka: KafkaSettings, topic: str, create_topic: CreateTopic, opened: ExitStack, on_lost: OnLostOffset
) -> None:
    """A commit that was under way while the topic was deleted stands in the group for the new one."""
    create_topic(topic, 1)
    fill(kafka, topic, 20, 1, "old")
    with closing(adapters(kafka).source(kafka, topic, topic, on_lost_offset="earliest", member="a")) as source:
        first = read(source, 20)
        source.commit(after(first))
        replace(kafka, topic, 40, 1)
        source._log._unsure = False  # as if the topic was deleted right after we looked
        source.commit(after(first))

    again = opened.enter_context(
        closing(adapters(kafka).source(kafka, topic, topic, on_lost_offset=on_lost, member="a"))
    )

    if on_lost == "stop":
        with pytest.raises(
            TransportError, match=r"deleted and created again since partition 0 was read up to offset 20"
        ):
            read(again, 1)
    else:
        assert words(read(again, 40)) == sorted(f"new-0-{i}" for i in range(40))


def test_a_ledger_commits_offsets_with_the_log_that_they_are_of(
    kafka: KafkaSettings, topic: str, create_topic: CreateTopic, opened: ExitStack
) -> None:
    """Exactly once goes by the ledger: what it commits must tell as much as what the source commits."""
    create_topic(topic, 1)
    create_topics(kafka, {f"{topic}-out": 1})
    fill(kafka, topic, 5, 1, "old")
    source = opened.enter_context(closing(adapters(kafka).source(kafka, topic, topic, member="a")))
    ledger = opened.enter_context(
        closing(
            adapters(kafka).ledger(
                kafka, {"out": f"{topic}-out"}, partitions=1, tables=(), name=topic, member="a", group=topic
            )
        )
    )
    records = read(source, 5)
    ledger.send([Message("out", b"x", partition=0)])
    ledger.commit(after(records), source.member())

    with closing(KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)) as admin:
        deadline = time.monotonic() + WAIT_SECONDS
        while not (offsets := admin.list_group_offsets(topic).get(topic)) and time.monotonic() < deadline:
            time.sleep(0.05)  # the broker makes them count a moment after the transaction
        (committed,) = offsets.values()
        (described,) = admin.describe_topics([topic])

    assert (committed.offset, log_of(committed.metadata)) == (5, described["topic_id"])


def _values(count: int, word: str) -> list[bytes]:
    return [
        json.dumps({"id": f"{word}-{i}", "task": f"t{i % 5}", "x": [i % 7, i % 3], "y": int(i % 7 > 3)}).encode()
        for i in range(count)
    ]


@pytest.mark.timeout(300)
def test_the_service_predicts_all_of_a_topic_that_was_created_again_once(
    kafka: KafkaSettings,
    broker: RunningBroker,
    topic: str,
    create_topic: CreateTopic,
    read_all: ReadAll,
    start: Callable[..., Running],
) -> None:
    """Records of the new topic that come while results of the old one are not committed yet must not be doubled."""
    create_topic(topic, 2)
    produce(broker, topic, _values(40, "old"), 2)
    service = start(topic, STREAMMETA_KAFKA__CLIENT=kafka.client, STREAMMETA_INPUT__ON_LOST_OFFSET="earliest")
    read_all(f"{topic}-predictions", 40) if _wait_for_topic(kafka, f"{topic}-predictions") else None

    with closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap)) as admin:
        admin.delete_topics([topic])
    create_topics(kafka, {topic: 2})
    produce(broker, topic, _values(80, "new"), 2)

    predicted = [json.loads(record.value)["id"] for record in read_all(f"{topic}-predictions", 120)]
    assert Counter(predicted) == Counter([*(f"old-{i}" for i in range(40)), *(f"new-{i}" for i in range(80))])
    assert service.stop() == 0


@pytest.mark.timeout(300)
def test_the_service_stops_with_the_reason_when_its_topic_was_created_again(
    kafka: KafkaSettings,
    broker: RunningBroker,
    topic: str,
    create_topic: CreateTopic,
    start: Callable[..., Running],
) -> None:
    """By default nothing of a log that took the place of ours is taken for what comes next in ours."""
    create_topic(topic, 1)
    produce(broker, topic, _values(40, "old"), 1)
    service = start(topic, STREAMMETA_KAFKA__CLIENT=kafka.client)
    service.wait_for("streammeta_transactions_total", 1)

    with closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap)) as admin:
        admin.delete_topics([topic])
    create_topics(kafka, {topic: 1})
    produce(broker, topic, _values(80, "new"), 1)

    assert service.process.wait(SERVICE_SECONDS) == 1
    assert _error(service.log).count("deleted and created again") == 1


@pytest.mark.timeout(300)
def test_partitions_added_while_running_end_the_service_with_the_sentence_of_a_start(
    kafka: KafkaSettings,
    broker: RunningBroker,
    topic: str,
    create_topic: CreateTopic,
    start: Callable[..., Running],
) -> None:
    """Tasks would come in other partitions than their state is in; both clients see new partitions after minutes."""
    create_topic(topic, 2)
    produce(broker, topic, _values(40, "old"), 2)
    service = start(topic, STREAMMETA_KAFKA__CLIENT=kafka.client)
    service.wait_for("streammeta_transactions_total", 1)

    with closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap)) as admin:
        admin.create_partitions({topic: 3})

    assert service.process.wait(SERVICE_SECONDS) == 1
    running = _error(service.log)
    service.restart()
    assert service.process.wait(SERVICE_SECONDS) == 1
    starting = _error(service.log)
    for said in (running, starting):
        assert "Tasks would not find their state. Begin again under another [app] name" in said
    assert "it has 3 partitions now, and had 2 when we started" in running


@pytest.mark.timeout(300)
def test_a_state_topic_that_is_deleted_under_the_service_ends_it(
    kafka: KafkaSettings,
    broker: RunningBroker,
    topic: str,
    create_topic: CreateTopic,
    start: Callable[..., Running],
) -> None:
    """It would go on and write what changed only: a changelog from which no restart can restore."""
    create_topic(topic, 1)
    produce(broker, topic, _values(40, "old"), 1)
    service = start(topic, STREAMMETA_KAFKA__CLIENT=kafka.client)
    service.wait_for("streammeta_transactions_total", 1)

    with closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap)) as admin:
        admin.delete_topics([f"{topic}-state"])

    assert service.process.wait(SERVICE_SECONDS) == 1
    assert f"'{topic}-state', which holds our state, was deleted while we run" in _error(service.log)


def _error(log: Path) -> str:
    """The last line that says why the service ended."""
    return [line for line in log.read_text().splitlines() if line.startswith("streammeta: error:")][-1]


def _wait_for_topic(kafka: KafkaSettings, name: str) -> bool:
    deadline = time.monotonic() + SERVICE_SECONDS
    with closing(KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)) as admin:
        while name not in admin.list_topics():
            assert time.monotonic() < deadline
            time.sleep(0.2)
    return True
