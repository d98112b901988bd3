"""What every source and every sink keeps, whatever is behind it: memory, files, Kafka."""

import gzip
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from streammeta.event import Record
from streammeta.transport.base import GroupSource, Message, Sink, Source
from streammeta.transport.choice import adapters
from streammeta.transport.file import FileSink, FileSource
from streammeta.transport.kafka.settings import KafkaSettings
from streammeta.transport.kafka.topics import create_topics
from streammeta.transport.memory import MemorySink, MemorySource
from tests.broker.running import CLIENTS, broker, create_topic, kafka, read_all, topic

__all__ = ["broker", "create_topic", "kafka", "read_all", "topic"]  # fixtures

VALUES = [b'{"x": [%d], "y": 0}' % i for i in range(23)]
WAIT_SECONDS = 30.0
BY_KAFKA = [pytest.param(client, marks=pytest.mark.broker) for client in CLIENTS]
KINDS = ["memory", "memory of 3 partitions", "jsonl", "csv.gz", *BY_KAFKA]

Open = Callable[[], Source]
Sent = Callable[[str], Sequence[bytes]]


def in_kafka(request: pytest.FixtureRequest, values: Sequence[bytes]) -> tuple[KafkaSettings, str]:
    settings: KafkaSettings = (
        request.getfixturevalue("kafka")
        .model_copy(update={"client": request.param})
        .model_copy(update={"client": request.param})
    )
    name: str = request.getfixturevalue("topic")
    create_topics(settings, {name: 2})
    with closing(adapters(settings).sink(settings, {"in": name})) as sink:
        sink.send([Message("in", value, key=b"task-%d" % (i % 5)) for i, value in enumerate(values)])
        sink.flush(WAIT_SECONDS)
    return settings, name


@pytest.fixture(params=KINDS)
def open_source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens a source of len(VALUES) records; opened again it holds the same ones."""
    kind: str = request.param
    name = tmp_path / f"events.{kind}"
    if kind == "jsonl":
        name.write_bytes(b"\n".join(VALUES))
    elif kind == "csv.gz":
        name.write_bytes(gzip.compress(b"a,y\n" + b"".join(b"%d,0\n" % i for i in range(len(VALUES)))))
    kafka_topic = in_kafka(request, VALUES) if kind in CLIENTS else None
    with ExitStack() as opened:

        def open_() -> Source:
            source: Source
            if kafka_topic is not None:
                source = adapters(kafka_topic[0]).source(*kafka_topic, group_id=kafka_topic[1])
            elif kind.startswith("memory"):
                source = MemorySource(VALUES, partitions=3 if kind.endswith("partitions") else 1)
            else:
                source = FileSource(name)
            return opened.enter_context(closing(source))

        yield open_


def read(source: Source, count: int = len(VALUES), *, at_once: int = 5) -> list[Record]:
    records: list[Record] = []
    deadline = time.monotonic() + WAIT_SECONDS
    while len(records) < count and time.monotonic() < deadline:
        polled = source.poll(min(at_once, count - len(records)), 0.2)
        assert len(polled) <= at_once
        records += polled
    assert len(records) == count
    return records


def by_partition(records: Sequence[Record]) -> dict[tuple[str, int], list[Record]]:
    found: dict[tuple[str, int], list[Record]] = {}
    for record in records:
        found.setdefault((record.origin.topic, record.origin.partition), []).append(record)
    return found


def test_every_record_comes_once_and_in_order(open_source: Open) -> None:
    """Whatever is learned rests on it."""
    source = open_source()
    assert isinstance(source, Source)

    records = read(source)

    assert source.poll(5, 0.1) == []
    assert len({record.origin for record in records}) == len(VALUES)
    for mine in by_partition(records).values():
        assert [record.origin.offset for record in mine] == list(range(len(mine)))
        numbers = [number(record) for record in mine]
        assert numbers == sorted(numbers)


def number(record: Record) -> float:
    x = json.loads(record.value or b"")["x"]
    return float(x["a"] if isinstance(x, dict) else x[0])


def test_positions_follow_what_was_handed_out(open_source: Open) -> None:
    """They go into snapshots: one too many loses a record, one too few learns it twice."""
    source = open_source()

    done = read(source, 9)

    positions = source.assigned()
    for partition, mine in by_partition(done).items():
        assert positions[partition] == mine[-1].origin.offset + 1
    assert sum(positions.values()) == 9


def test_seeking_back_repeats_exactly_what_came_after(open_source: Open) -> None:
    """A restart from a snapshot must see the same records as the run before saw."""
    source = open_source()
    read(source, 9)
    positions = dict(source.assigned())
    rest = read(source, len(VALUES) - 9)

    source.seek(positions)

    assert dict(source.assigned()) == positions
    assert by_partition(read(source, len(VALUES) - 9)) == by_partition(rest)


def test_seeking_before_the_first_poll_skips_what_was_done(open_source: Open) -> None:
    """The service restores its snapshot before it has any partition."""
    first = open_source()
    done = read(first, 9)
    positions = {p: records[-1].origin.offset + 1 for p, records in by_partition(done).items()}
    first.close()
    source = open_source()

    source.seek(positions | {("no-such-topic", 7): 3})

    again = read(source, len(VALUES) - 9)
    assert not {record.origin for record in done} & {record.origin for record in again}


def test_commits_do_not_disturb_reading(open_source: Open) -> None:
    """A commit goes on every second, in the middle of everything."""
    source = open_source()
    records = []

    for _ in range(len(VALUES)):
        records += read(source, 1)
        source.commit(source.assigned())
        source.lag()

    assert len({record.origin for record in records}) == len(VALUES)


def test_only_a_stream_that_ends_is_ever_exhausted(open_source: Open) -> None:
    """A replay ends by it; a service that took a lull for the end would stop."""
    source = open_source()
    read(source, len(VALUES) - 1)
    assert not source.exhausted

    read(source, 1)
    source.poll(1, 0.1)

    assert source.exhausted == (not isinstance(source, GroupSource))


def test_a_source_can_be_closed_twice(open_source: Open) -> None:
    """Shutdown paths cross: an error while closing hides the error that led there."""
    source = open_source()
    read(source, 3)

    source.close()
    source.close()


@pytest.fixture(params=["memory", "file", *BY_KAFKA])
def sink_and_sent(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Sink, Sent]]:
    """A sink, and a way to see what is safe of a channel."""
    if request.param == "memory":
        memory = MemorySink()
        yield memory, lambda channel: [message.value for message in memory[channel]]
        return
    if request.param == "file":
        with closing(FileSink(tmp_path)) as file:
            yield file, lambda channel: (tmp_path / f"{channel}.jsonl").read_bytes().splitlines()
        return
    settings: KafkaSettings = request.getfixturevalue("kafka").model_copy(update={"client": request.param})
    name: str = request.getfixturevalue("topic")
    read_topic = request.getfixturevalue("read_all")
    topics = {channel: f"{name}-{channel}" for channel in ("predictions", "signals")}
    create_topics(settings, dict.fromkeys(topics.values(), 1))
    with closing(adapters(settings).sink(settings, topics)) as sink:
        yield sink, lambda channel: [record.value for record in read_topic(topics[channel], 3)]


def test_what_was_flushed_is_there_in_order_and_by_channel(sink_and_sent: tuple[Sink, Sent]) -> None:
    """Offsets are committed behind the flush; predictions among signals would be read as signals."""
    sink, sent = sink_and_sent
    assert isinstance(sink, Sink)

    for i in range(3):
        sink.send([Message("predictions", b'{"p": %d}' % i, b"task"), Message("signals", b'{"s": %d}' % i, b"task")])
    sink.flush(WAIT_SECONDS)

    assert list(sent("predictions")) == [b'{"p": 0}', b'{"p": 1}', b'{"p": 2}']
    assert list(sent("signals")) == [b'{"s": 0}', b'{"s": 1}', b'{"s": 2}']


def test_a_sink_can_be_flushed_empty_and_closed_twice(sink_and_sent: tuple[Sink, Sent]) -> None:
    """Most commits of a quiet stream have nothing to flush."""
    sink, _ = sink_and_sent

    sink.send([])
    sink.flush(WAIT_SECONDS)
    sink.flush(WAIT_SECONDS)
    sink.close()
    sink.close()
