"""Applications whose names begin alike run beside each other on one Kafka, and never touch what is not theirs."""

import json
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, closing

import pytest
from kafka import KafkaAdminClient

from streammeta.event import Record
from streammeta.transport.base import GroupSource, Message, Partition, TransactionalSink
from streammeta.transport.choice import adapters
from streammeta.transport.kafka.settings import KafkaSettings
from streammeta.transport.kafka.topics import create_topics
from tests.broker.running import CLIENTS, RunningBroker
from tests.broker.test_service import ReadAll, Running, produce, start

__all__ = ["start"]  # a fixture
WAIT_SECONDS = 30.0


@pytest.fixture(params=CLIENTS)
def kafka(request: pytest.FixtureRequest, kafka: KafkaSettings) -> KafkaSettings:
    """One after the other, by each client."""
    return kafka.model_copy(update={"client": request.param})


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


class Application:
    """One member of an application, with its input, and a transaction that it can leave open."""

    def __init__(self, kafka: KafkaSettings, opened: ExitStack, name: str, *, group: str, member: str) -> None:
        self.topic = f"{group}-input"
        create_topics(kafka, {self.topic: 1, f"{group}-predictions": 1})
        with closing(adapters(kafka).sink(kafka, {"in": self.topic})) as sink:
            sink.send([Message("in", b"event")])
            sink.flush(WAIT_SECONDS)
        self.source: GroupSource = opened.enter_context(
            closing(adapters(kafka).source(kafka, self.topic, group, member=member))
        )
        self.ledger: TransactionalSink = opened.enter_context(
            closing(
                adapters(kafka).ledger(
                    kafka,
                    {"predictions": f"{group}-predictions"},
                    partitions=1,
                    tables=(),
                    name=name,
                    member=member,
                    group=group,
                )
            )
        )

    def begin(self) -> dict[Partition, int]:
        """Read the event and open a transaction at the broker; returns the next offsets."""
        records = _read(self.source, 1)
        self.ledger.send([Message("predictions", b"prediction", partition=0)])
        self.ledger._producer.flush(WAIT_SECONDS)  # type: ignore[attr-defined]
        return {(self.topic, 0): records[0].origin.offset + 1}


def _read(source: GroupSource, count: int) -> Collection[Record]:
    records: list[Record] = []
    deadline = time.monotonic() + WAIT_SECONDS
    while len(records) < count and time.monotonic() < deadline:
        records += source.poll(count - len(records), 0.2)
    assert len(records) == count
    return records


@pytest.mark.parametrize(
    ("ours", "other"),
    [
        ("{}", "{}-eu"),  # the name of one begins with the name of the other
        ("{}-eu", "{}"),
        ("{}", "{}/repartition"),  # the producer that sends records on, of the same application
        ("{}.a", "{}-a"),  # a dot is a dot
    ],
)
def test_lost_members_of_one_application_are_evicted_and_no_others(
    kafka: KafkaSettings, topic: str, opened: ExitStack, read_all: ReadAll, ours: str, other: str
) -> None:
    """Whoever ends another application's transaction costs it a restoration each time a partition moves here."""
    name, theirs = ours.format(topic), other.format(topic)
    alive = Application(kafka, opened, theirs, group=theirs.replace("/", "-"), member="a")
    done = alive.begin()
    evicting = Application(kafka, opened, name, group=f"{topic}-ours", member="b")

    evicting.ledger.evict()
    alive.ledger.commit(done, alive.source.member())

    assert read_all(f"{theirs.replace('/', '-')}-predictions", 1)[0].value == b"prediction"


def test_a_lost_member_is_evicted_though_a_living_ones_name_ends_like_its_own(
    kafka: KafkaSettings, topic: str, opened: ExitStack
) -> None:
    """Taken for alive, what it left open would keep everybody waiting until the broker ends it."""
    living = Application(kafka, opened, topic, group=topic, member="a")
    living.begin()
    ghost = opened.enter_context(
        closing(
            adapters(kafka).ledger(
                kafka, {"out": living.topic}, partitions=1, tables=(), name=topic, member="x-a", group=topic
            )
        )
    )
    ghost.send([Message("out", b"ghost", partition=0)])
    ghost._producer.flush(WAIT_SECONDS)  # type: ignore[attr-defined]

    living.ledger.evict()

    assert _ongoing(kafka, topic) == {f"{topic}/a"}


def _ongoing(kafka: KafkaSettings, topic: str) -> set[str]:
    with closing(KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)) as admin:
        listed = admin.list_transactions(state_filters=["Ongoing"])
    names = {one.transactional_id for listings in listed.values() for one in listings}
    return {name for name in names if name.split("/")[0] == topic}


@pytest.mark.timeout(400)
def test_two_services_whose_names_begin_alike_come_through_kills_and_restores_of_each_other(
    kafka: KafkaSettings,
    broker: RunningBroker,
    topic: str,
    create_topic: Callable[[str, int], str],
    read_all: ReadAll,
    start: Callable[..., Running],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`fraud` beside `fraud-eu`, the first with repartition: the second must not notice that the first dies."""
    monkeypatch.setattr("tests.broker.test_service.PATIENCE", 120.0)
    count = 300
    values = [
        json.dumps({"task": f"t{i % 5}", "x": [i % 7, i % 3], "y": int(i % 7 > 3)}).encode() for i in range(count)
    ]
    european = create_topic(f"{topic}-eu", 2)
    create_topic(topic, 2)
    settings = {"STREAMMETA_KAFKA__CLIENT": kafka.client, "STREAMMETA_STATE__EVERY_SECONDS": "0.3"}
    steady = start(european, **settings)
    shaken = start(topic, STREAMMETA_INPUT__REPARTITION="true", **settings)
    predicted = 'streammeta_events_total{fate="predicted"}'

    for turn in range(2):
        part = values[turn * count // 2 : (turn + 1) * count // 2]
        produce(broker, european, part, 2)
        produce(broker, topic, part, 2)
        shaken.wait_for(predicted, 1)  # in the middle of its work
        shaken.kill()
        shaken.restart()
    steady.wait_for(predicted, count)

    read_all(f"{european}-predictions", count)
    assert steady.metric('streammeta_transactions_total{result="failed"}') == 0
    read_all(f"{topic}-predictions", count)
    assert (steady.stop(), shaken.stop()) == (0, 0)
