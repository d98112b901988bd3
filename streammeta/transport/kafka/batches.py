"""Many messages into one batch of kafka-python at once: its own way makes four objects and a buffer of each.

    record: length, attributes 0, time − the batch's first, offset − the batch's first, key, value, headers
    (numbers as zigzag varints; Kafka's message format, version 2)

Only for the open batch of a transactional producer, whose messages have no futures of their own: who commits learns of
the transaction as a whole.
"""

from collections.abc import Sequence
from typing import Any, Final

from kafka.errors import MessageSizeTooLargeError

from streammeta.transport.base import Message

__all__ = ["append_many", "check_size"]

_OVERHEAD: Final = 1024  # of a batch with one message
_NOTHING: Final = b"\x01"  # −1: no key, or no value


def check_size(message: Message, most: int) -> None:
    """Refuse a message that no batch can hold.

    Raises:
        MessageSizeTooLargeError: with its size.
    """
    size = len(message.value or b"") + len(message.key or b"") + sum(len(content) for _, content in message.headers)
    if size > most - _OVERHEAD:
        raise MessageSizeTooLargeError(f"a message of {size} bytes; raise [kafka] max_message_bytes, now {most}")


def append_many(batch: Any, messages: Sequence[Message], begin: int, stamp: int, now: float, most: int) -> int:  # noqa: ANN401 (kafka-python has no types)
    """Append messages from ``begin`` on, as many as fit; returns how many. The batch has one message at least.

    Args:
        batch: a `ProducerBatch`; the caller holds its partition's lock.
        messages: for its partition.
        begin: the first one to append.
        stamp: their time in milliseconds.
        now: monotonic seconds.
        most: bytes of the longest message that may be sent.

    Raises:
        MessageSizeTooLargeError: a message is longer.
    """
    records = batch.records
    if records._closed:
        return 0
    builder = records._builder
    space = builder._batch_size - len(builder._buffer)
    first: int = records._next_offset
    offset = first
    prefix = b"\x00" + _varint(stamp - builder._first_timestamp)
    parts: list[bytes] = []
    for at in range(begin, len(messages)):
        message = messages[at]
        key, value = message.key, message.value
        size = len(value or b"")
        if size + len(key or b"") > most - _OVERHEAD or message.headers:
            check_size(message, most)
        if size > space:
            break
        body = b"".join(
            (
                prefix,
                _varint(offset),
                _NOTHING if key is None else _varint(len(key)) + key,
                _NOTHING if value is None else _varint(size) + value,
                _headers(message.headers) if message.headers else b"\x00",
            )
        )
        length = _varint(len(body))
        space -= len(length) + len(body)
        if space < 0:
            break
        batch.max_record_size = max(batch.max_record_size, len(length) + len(body))
        parts += (length, body)
        offset += 1
    if offset > first:
        builder._buffer += b"".join(parts)
        builder._max_timestamp = max(builder._max_timestamp, stamp)
        builder._num_records += offset - first
        builder._last_offset = offset - 1
        records._next_offset = offset
        batch.last_append = now
    return offset - first


def _headers(headers: Sequence[tuple[str, bytes]]) -> bytes:
    parts = [_varint(len(headers))]
    for name, content in headers:
        encoded = name.encode()
        parts += (_varint(len(encoded)), encoded, _varint(len(content)), content)
    return b"".join(parts)


def _encode(number: int) -> bytes:
    """Zigzag, then seven bits a byte, the lowest first."""
    rest, out = (number << 1) ^ (number >> 63), bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


_SMALL: Final = tuple(map(_encode, range(32_768)))


def _varint(number: int) -> bytes:
    return _SMALL[number] if 0 <= number < len(_SMALL) else _encode(number)
