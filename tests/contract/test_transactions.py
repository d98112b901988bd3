"""What the exactly-once loop relies on, held by the log in memory and by Kafka alike."""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

import confluent_kafka
import pytest
from kafka import OffsetAndMetadata, TopicPartition

from streammeta.errors import TransactionError
from streammeta.event import Record
from streammeta.transport.base import ChangelogReader, GroupSource, Message, Partition, TransactionalSink
from streammeta.transport.choice import adapters
from streammeta.transport.confluent.transactional_sink import ConfluentTransactionalSink
from streammeta.transport.kafka.settings import KafkaSettings
from streammeta.transport.kafka.sink import KafkaSink
from streammeta.transport.kafka.topics import create_topics, ensure_topics
from streammeta.transport.kafka.transactional_sink import KafkaTransactionalSink
from streammeta.transport.memory_log import MemoryChangelogReader, MemoryLog, MemoryMember, MemoryTransactionalSink
from tests.broker.running import CLIENTS, broker, create_topic, kafka, read_all, topic

__all__ = ["broker", "create_topic", "kafka", "read_all", "topic"]  # fixtures
WAIT_SECONDS = 30.0


@dataclass
class RebalanceLog:
    """What a member was told."""

    revoked: list[Partition] = field(default_factory=list)
    assigned: list[Partition] = field(default_factory=list)
    lost: list[Partition] = field(default_factory=list)
    at_revoked: Callable[[], None] = lambda: None
    at_assigned: Callable[[Collection[Partition]], None] = lambda _: None
    at_coming: Callable[[], None] = lambda: None

    def on_revoked(self, partitions: Collection[Partition]) -> None:
        self.at_revoked()
        self.revoked += partitions

    def on_assigned(self, partitions: Collection[Partition]) -> None:
        self.assigned += partitions
        self.at_assigned(partitions)

    def on_lost(self, partitions: Collection[Partition]) -> None:
        self.lost += partitions

    def on_coming(self, _: Collection[Partition]) -> None:
        self.at_coming()


class World:
    """An input topic `in` with records, and a group that reads it."""

    partitions: int
    topic: str

    def fill(self, count: int) -> None:
        raise NotImplementedError

    def source(self, name: str, rebalances: RebalanceLog | None = None) -> GroupSource:
        raise NotImplementedError

    def ledger(self, name: str) -> TransactionalSink:
        raise NotImplementedError

    def tables(self) -> ChangelogReader:
        raise NotImplementedError

    def kill(self, source: GroupSource) -> None:
        """The member is gone without a word."""
        raise NotImplementedError


class MemoryWorld(World):
    def __init__(self, partitions: int) -> None:
        self.partitions, self.topic = partitions, "in"
        self._log = MemoryLog("in", partitions)

    def fill(self, count: int) -> None:
        for i in range(count):
            self._log.append(b"%d" % i, i % self.partitions)

    def source(self, name: str, rebalances: RebalanceLog | None = None) -> GroupSource:
        log = rebalances or RebalanceLog()
        return MemoryMember(
            self._log,
            name,
            on_revoked=log.on_revoked,
            on_assigned=log.on_assigned,
            on_lost=log.on_lost,
            on_coming=log.on_coming,
            closed=False,
        )

    def ledger(self, name: str) -> TransactionalSink:
        return MemoryTransactionalSink(self._log, name)

    def tables(self) -> ChangelogReader:
        return MemoryChangelogReader(self._log)

    def kill(self, source: GroupSource) -> None:
        self._log.leave(source.member()[0])  # type: ignore[index]


class KafkaWorld(World):
    def __init__(self, settings: KafkaSettings, topic: str, partitions: int, opened: ExitStack) -> None:
        self._settings, self.topic, self.partitions, self._opened = settings, topic, partitions, opened
        self._topics = {channel: f"{topic}-{channel}" for channel in ("predictions", "state", "weights")}
        create_topics(settings, {topic: partitions})
        tables = {self._topics["state"]: None, self._topics["weights"]: 1}
        ensure_topics(settings, topic, [self._topics["predictions"]], tables)

    def fill(self, count: int) -> None:
        with closing(KafkaSink(self._settings, {"in": self.topic})) as sink:
            for i in range(count):
                sink._producer.send(self.topic, b"%d" % i, partition=i % self.partitions)
            sink.flush(WAIT_SECONDS)

    def source(self, name: str, rebalances: RebalanceLog | None = None) -> GroupSource:
        log = rebalances or RebalanceLog()
        source = adapters(self._settings).source(
            self._settings,
            self.topic,
            self.topic,
            on_revoked=log.on_revoked,
            on_assigned=log.on_assigned,
            on_lost=log.on_lost,
            on_coming=log.on_coming,
            member=name,
        )
        return self._opened.enter_context(closing(source))

    def ledger(self, name: str) -> TransactionalSink:
        ledger = adapters(self._settings).ledger(
            self._settings,
            self._topics,
            partitions=self.partitions,
            tables=("state", "weights"),
            name=self.topic,
            member=name,
            group=self.topic,
        )
        return self._opened.enter_context(closing(ledger))

    def tables(self) -> ChangelogReader:
        return self._opened.enter_context(closing(adapters(self._settings).tables(self._settings, self._topics)))

    def kill(self, source: GroupSource) -> None:
        source.close()  # leaves at once what a kill leaves after the session timeout


@pytest.fixture(params=["memory", *(pytest.param(client, marks=pytest.mark.broker) for client in CLIENTS)])
def make_world(request: pytest.FixtureRequest) -> Iterator[Callable[[int], World]]:
    with ExitStack() as opened:

        def make(partitions: int = 1) -> World:
            if request.param == "memory":
                return MemoryWorld(partitions)
            settings = request.getfixturevalue("kafka").model_copy(update={"client": request.param})
            return KafkaWorld(settings, request.getfixturevalue("topic"), partitions, opened)

        yield make


def read(source: GroupSource, count: int) -> list[Record]:
    records: list[Record] = []
    deadline = time.monotonic() + WAIT_SECONDS
    while len(records) < count and time.monotonic() < deadline:
        records += source.poll(count - len(records), 0.2)
    assert len(records) == count
    return records


def join(source: GroupSource, partitions: int) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while len(source.assigned()) < partitions and time.monotonic() < deadline:
        source.poll(1, 0.2)
    assert len(source.assigned()) == partitions


def rows(tables: ChangelogReader, channel: str, partition: int = 0) -> list[tuple[bytes, bytes | None]]:
    """Everything up to the end as it is now."""
    tables.begin(channel, partition)
    found: list[tuple[bytes, bytes | None]] = []
    deadline = time.monotonic() + WAIT_SECONDS
    while tables.missing(channel, partition) and time.monotonic() < deadline:
        found += [
            (row.key, row.value) for row in tables.poll(0.2) if (row.channel, row.partition) == (channel, partition)
        ]
    assert tables.missing(channel, partition) == 0
    return found


def after(records: list[Record]) -> dict[Partition, int]:
    return {(record.origin.topic, record.origin.partition): record.origin.offset + 1 for record in records}


def test_what_is_committed_counts_and_nothing_else_does(make_world: Callable[..., World]) -> None:
    """Half a transaction would be a prediction without its state, or an event learned twice."""
    world = make_world()
    world.fill(10)
    source, ledger, tables = world.source("a"), world.ledger("a"), world.tables()
    done = read(source, 4)

    ledger.send([Message("predictions", b"p1", partition=0), Message("state", b"s1", b"task", partition=0)])
    ledger.commit(after(done), source.member())
    read(source, 3)
    ledger.send([Message("predictions", b"p2", partition=0), Message("state", b"s2", b"task", partition=0)])
    ledger.reset()
    source.rewind()

    again = read(source, 6)
    assert [record.value for record in again] == [b"%d" % i for i in range(4, 10)]
    ledger.send([Message("predictions", b"p3", partition=0), Message("state", None, b"task", partition=0)])
    ledger.commit(after(again), source.member())
    assert rows(tables, "predictions") == [(b"", b"p1"), (b"", b"p3")]
    assert rows(tables, "state") == [(b"task", b"s1"), (b"task", None)]


def test_many_long_messages_all_arrive_in_order(make_world: Callable[..., World]) -> None:
    """More than a batch of the client holds, at once: none may be lost where one batch ends and the next begins."""
    world = make_world()
    world.fill(1)
    source, ledger = world.source("a"), world.ledger("a")
    done = read(source, 1)
    values = [b"%d " % i * (1 + 397 * i % 5000) for i in range(600)]

    ledger.send([Message("predictions", value, partition=0) for value in values])
    ledger.commit(after(done), source.member())

    assert [value for _, value in rows(world.tables(), "predictions")] == values


def test_whoever_goes_on_begins_at_the_committed_offset(make_world: Callable[..., World]) -> None:
    """Offsets that did not go with the results lose or repeat events at the next restart."""
    world = make_world()
    world.fill(10)
    first, ledger = world.source("a"), world.ledger("a")
    done = read(first, 4)
    ledger.send([Message("predictions", b"p", partition=0)])
    ledger.commit(after(done), first.member())
    read(first, 2)
    world.kill(first)

    assert [record.value for record in read(world.source("b"), 6)] == [b"%d" % i for i in range(4, 10)]


def test_two_of_one_name_do_not_both_commit(make_world: Callable[..., World]) -> None:
    """A process thought dead may wake up in the middle of its transaction."""
    world = make_world()
    world.fill(10)
    source, zombie = world.source("a"), world.ledger("a")
    done = read(source, 4)
    zombie.send([Message("predictions", b"zombie", partition=0)])

    heir = world.ledger("a")
    heir.send([Message("predictions", b"heir", partition=0)])
    heir.commit(after(done), source.member())
    with pytest.raises(TransactionError):
        zombie.commit(after(done), source.member())

    assert rows(world.tables(), "predictions") == [(b"", b"heir")]


def test_who_is_no_member_any_more_commits_nothing(make_world: Callable[..., World]) -> None:
    """Its partitions are somebody else's, who has perhaps done the same events already."""
    world = make_world()
    world.fill(10)
    source, ledger = world.source("a"), world.ledger("a")
    done, before = read(source, 4), source.member()
    world.kill(source)
    heir = world.source("b")
    join(heir, 1)

    ledger.send([Message("predictions", b"late", partition=0)])
    with pytest.raises(TransactionError):
        ledger.commit(after(done), before)
    ledger.reset()

    assert rows(world.tables(), "predictions") == []


def test_a_table_is_not_at_its_end_before_an_open_transaction_has_ended(make_world: Callable[..., World]) -> None:
    """What is committed behind an open transaction is hidden: who took it for the end would lose state."""
    world = make_world()
    world.fill(10)
    source, dead, alive = world.source("alive"), world.ledger("dead"), world.ledger("alive")
    done, tables = read(source, 2), world.tables()
    dead.send([Message("state", b"dead", b"a", partition=0), Message("predictions", b"dead", partition=0)])
    flush(dead)
    alive.send([Message("state", b"alive", b"b", partition=0)])
    alive.commit(after(done), source.member())

    tables.begin("state", 0)
    for _ in range(5):
        assert tables.poll(0.1) == []
    assert tables.missing("state", 0) > 0

    alive.evict()
    assert rows(tables, "state") == [(b"b", b"alive")]
    with pytest.raises(TransactionError):
        dead.commit(after(done), source.member())


def test_evicting_leaves_members_alone(make_world: Callable[..., World]) -> None:
    """Whoever aborts a living member's transaction costs it a restoration, each time a partition moves."""
    world = make_world()
    world.fill(10)
    source, ledger, other = world.source("a"), world.ledger("a"), world.ledger("b")
    done = read(source, 2)
    ledger.send([Message("predictions", b"p", partition=0)])
    flush(ledger)

    other.evict()
    ledger.commit(after(done), source.member())

    assert rows(world.tables(), "predictions") == [(b"", b"p")]


def test_who_died_between_offsets_and_commit_holds_nobody_up(make_world: Callable[..., World]) -> None:
    """A broker keeps such offsets from everybody until the transaction times out, a minute: that would be recovery."""
    world = make_world()
    world.fill(10)
    source, dead = world.source("dead"), world.ledger("dead")
    done = read(source, 4)
    dead.send([Message("predictions", b"dead", partition=0)])
    add_offsets(dead, after(done), source.member())
    world.kill(source)

    alive, rebalances = world.ledger("alive"), RebalanceLog()
    rebalances.at_coming = alive.evict
    heir = world.source("alive", rebalances)

    assert [record.value for record in read(heir, 10)] == [b"%d" % i for i in range(10)]


def add_offsets(ledger: TransactionalSink, positions: dict[Partition, int], member: object) -> None:
    """Have the offsets at the broker, and do not commit."""
    if isinstance(ledger, KafkaTransactionalSink):
        offsets = {TopicPartition(*at): OffsetAndMetadata(offset, "", -1) for at, offset in positions.items()}
        manager = ledger._producer._transaction_manager
        ledger._complete("offsets", lambda: manager.send_offsets_to_transaction(offsets, member))
    elif isinstance(ledger, ConfluentTransactionalSink):
        ats = [confluent_kafka.TopicPartition(*at, offset) for at, offset in positions.items()]
        ledger._producer.send_offsets_to_transaction(ats, member)


def flush(ledger: TransactionalSink) -> None:
    """Have what was sent at the broker."""
    if isinstance(ledger, KafkaTransactionalSink | ConfluentTransactionalSink):
        ledger._producer.flush(WAIT_SECONDS)


def test_paused_partitions_hand_out_nothing_until_they_are_resumed(make_world: Callable[..., World]) -> None:
    """An event taken before its task is restored begins that task again."""
    world = make_world()
    world.fill(5)
    rebalances = RebalanceLog()
    source = world.source("a", rebalances)
    rebalances.at_assigned = source.pause
    join(source, 1)
    for _ in range(5):
        assert source.poll(5, 0.1) == []

    source.resume(list(source.assigned()))

    assert len(read(source, 5)) == 5


def test_revoked_partitions_can_be_committed_before_others_have_them(make_world: Callable[..., World]) -> None:
    """Without it every rebalance would throw work away."""
    world = make_world(2)
    world.fill(20)
    rebalances = RebalanceLog()
    first, ledger = world.source("a", rebalances), world.ledger("a")
    done = read(first, 20)
    ledger.send([Message("predictions", b"%d" % i, partition=i % 2) for i in range(20)])
    rebalances.at_revoked = lambda: ledger.commit(after(done), first.member())

    second, deadline = world.source("b"), time.monotonic() + WAIT_SECONDS
    while not rebalances.revoked and time.monotonic() < deadline:
        second.poll(1, 0.05)
        first.poll(1, 0.05)
    join_both(first, second)

    assert len(rebalances.revoked) == 1
    assert list(second.assigned().values()) == [10]
    assert len(rows(world.tables(), "predictions", 0)) == 10


def join_both(first: GroupSource, second: GroupSource) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not (len(first.assigned()) == len(second.assigned()) == 1) and time.monotonic() < deadline:
        assert first.poll(1, 0.05) == []
        assert second.poll(1, 0.05) == []
    assert len(second.assigned()) == 1
