"""Batches that are filled many messages at a time are those that the client itself would make, to the byte."""

import random

import pytest
from kafka import TopicPartition
from kafka.errors import MessageSizeTooLargeError
from kafka.producer.producer_batch import ProducerBatch
from kafka.record import MemoryRecords
from kafka.record.memory_records import MemoryRecordsBuilder

from streammeta.transport.base import Message
from streammeta.transport.kafka.batches import append_many

MOST = 4 * 2**20


def empty(size: int = 256 * 1024) -> ProducerBatch:
    return ProducerBatch(TopicPartition("out", 0), MemoryRecordsBuilder(magic=2, compression_type=0, batch_size=size))


def some_messages(count: int, longest: int) -> list[Message]:
    source = random.Random(7)
    return [
        Message(
            "out",
            None if i % 11 == 3 else source.randbytes(source.randint(0, longest)),
            None if i % 7 == 2 else b"task-%d" % i,
            (("reason", b"no JSON"), ("größe", b"")) if i % 5 == 4 else (),
        )
        for i in range(count)
    ]


@pytest.mark.parametrize("later", [0, 70, -70, 5_000_000])
@pytest.mark.parametrize("longest", [0, 300, 40_000])
def test_a_batch_is_the_same_to_the_byte_however_it_was_filled(longest: int, later: int) -> None:
    """A byte wrong in a length, and the broker refuses the batch, or readers see other records in it."""
    messages, at = some_messages(400, longest), 1_763_000_000_000
    slow, fast = empty(), empty()
    for batch in (slow, fast):
        batch.try_append(at, b"first", b"first", [])

    done = append_many(fast, messages, 0, at + later, 1.0, MOST)
    for message in messages[:done]:
        assert slow.try_append(at + later, message.key, message.value, list(message.headers)) is not None

    assert 0 < done <= len(messages)
    if done < len(messages):  # full, by the client's own measure too
        following = messages[done]
        assert slow.try_append(at + later, following.key, following.value, list(following.headers)) is None
    assert fast.max_record_size == slow.max_record_size
    for batch in (slow, fast):
        batch.records.close()
    assert fast.records.buffer() == slow.records.buffer()


def test_what_was_appended_can_be_read() -> None:
    """The client reads it as it reads what a broker sends."""
    messages, batch = some_messages(50, 100), empty()
    batch.try_append(1_000, b"first", b"first", [])
    assert append_many(batch, messages, 0, 1_000, 1.0, MOST) == 50

    batch.records.close()
    found = [record for part in MemoryRecords(batch.records.buffer()) for record in part]

    assert [(record.key, record.value) for record in found[1:]] == [(one.key, one.value) for one in messages]
    assert [tuple(record.headers) for record in found[1:]] == [one.headers for one in messages]
    assert [record.offset for record in found] == list(range(51))


def test_a_batch_that_is_closed_or_full_takes_nothing_more() -> None:
    """What it does not take must begin the next one, or it is lost."""
    full, closed = empty(1_000), empty()
    for batch in (full, closed):
        batch.try_append(1_000, b"first", b"x" * 900, [])
    closed.records.close()

    assert append_many(full, [Message("out", b"x" * 200)], 0, 1_000, 1.0, MOST) == 0
    assert append_many(closed, [Message("out", b"x")], 0, 1_000, 1.0, MOST) == 0


def test_a_message_longer_than_may_be_sent_is_refused_with_its_size() -> None:
    """The broker would refuse the whole transaction, again and again."""
    batch = empty()
    batch.try_append(1_000, b"first", b"first", [])

    with pytest.raises(MessageSizeTooLargeError, match=r"a message of 5003 bytes; raise \[kafka\] max_message_bytes"):
        append_many(batch, [Message("out", b"fits"), Message("out", b"x" * 5_000, b"key")], 0, 1_000, 1.0, 6_000)
