"""What the in-memory transport does beyond the common contract."""

import threading
from itertools import count

import pytest

from streammeta.errors import TransportError
from streammeta.event import Origin, Record
from streammeta.transport.base import Message
from streammeta.transport.memory import MemorySink, MemorySource


def test_records_of_one_key_share_a_partition_and_keep_their_order() -> None:
    """A task lives in one partition: were it split, two halves would be learned as two tasks."""
    records = [Record(b"%d" % i, Origin("elsewhere", 9, 99), key=b"task-%d" % (i % 5)) for i in range(50)]

    polled = MemorySource(records, partitions=3, topic="t").poll(100, 0)

    homes: dict[bytes | None, set[int]] = {}
    for record in polled:
        homes.setdefault(record.key, set()).add(record.origin.partition)
    assert all(len(partitions) == 1 for partitions in homes.values())
    assert [record.value for record in polled] == [b"%d" % i for i in range(50)]
    assert {record.origin.topic for record in polled} == {"t"}


def test_records_without_a_key_go_round() -> None:
    """Tests of several partitions would silently test one."""
    origins = [record.origin for record in MemorySource([b"a", b"b", b"c", b"d"], partitions=2).poll(9, 0)]

    assert [(origin.partition, origin.offset) for origin in origins] == [(0, 0), (1, 0), (0, 1), (1, 1)]


def test_what_is_appended_while_a_poll_waits_is_returned_by_that_poll() -> None:
    """A live feed would otherwise lag by a whole poll timeout at every record."""
    source = MemorySource(closed=False)
    feeder = threading.Timer(0.05, source.append, [b"late"])
    feeder.start()

    polled = source.poll(10, timeout_seconds=30)

    feeder.join()
    assert [record.value for record in polled] == [b"late"]


def test_an_open_source_is_exhausted_only_after_finish() -> None:
    """The service would stop at the first lull of a live feed."""
    source = MemorySource(closed=False)
    source.append(b"one")
    source.poll(10, 0)
    assert not source.exhausted
    assert source.poll(10, 0) == []

    source.finish()

    assert source.exhausted
    with pytest.raises(TransportError, match="append"):
        source.append(b"two")


def test_an_endless_generator_is_drawn_only_as_it_is_polled() -> None:
    """The demo and the memory benchmark feed from generators: drawing ahead would never end."""
    numbers = count()
    source = MemorySource(b"%d" % i for i in numbers)

    source.poll(10, 0)

    assert next(numbers) == 10


def test_committed_records_are_forgotten_when_asked_for() -> None:
    """A million simulated events would otherwise all stay in memory."""
    source = MemorySource((b"%d" % i for i in range(100)), forget_committed=True)
    source.poll(60, 0)

    source.commit({("memory", 0): 50})

    with pytest.raises(TransportError, match="49"):
        source.seek({("memory", 0): 49})
    source.seek({("memory", 0): 50})
    assert source.poll(1, 0)[0].value == b"50"
    assert source.committed == {("memory", 0): 50}


def test_seeking_ahead_draws_what_lies_between() -> None:
    """After a restart the offsets of a generated stream must mean the same records as before."""
    source = MemorySource(b"%d" % i for i in range(10))

    source.seek({("memory", 0): 7})

    assert [record.value for record in source.poll(10, 0)] == [b"7", b"8", b"9"]


def test_a_sink_shows_what_was_sent_by_channel() -> None:
    """Tests look at results through it."""
    sink = MemorySink()

    sink.send([Message("predictions", b"1"), Message("signals", b"2"), Message("predictions", b"3")])
    sink.close()

    assert [message.value for message in sink["predictions"]] == [b"1", b"3"]
    assert sink["dead-letters"] == []


def test_no_partitions_are_refused() -> None:
    """A division by zero later would not say what was wrong."""
    with pytest.raises(TransportError, match="at least 1"):
        MemorySource(partitions=0)
