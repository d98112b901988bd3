"""The registry's wire format, which is Confluent's: a zero byte, four bytes with the schema's id, the data."""

import struct

from streammeta.errors import EventError
from streammeta.event import Record

__all__ = ["framed_id", "unframed"]

_HEAD = struct.Struct(">bI")


def unframed(record: Record) -> tuple[int, bytes]:
    """The schema's id, and the data.

    Raises:
        EventError: the record does not begin so.
    """
    value = record.value or b""
    if len(value) < _HEAD.size or value[0]:
        raise EventError(
            f"{record.origin}: begins with {value[: _HEAD.size].hex(' ') or 'nothing'}, wanted 00 and the four bytes "
            "of a schema's id: is this topic in the registry's wire format? If not, set [input] format"
        )
    return _HEAD.unpack_from(value)[1], value[_HEAD.size :]


def framed_id(record: Record) -> int:
    """The schema's id, of a record that begins with one."""
    number: int = _HEAD.unpack_from(record.value or b"")[1]
    return number
