"""JSON that is none: as Python and others write it, read nevertheless; and what bytes are that are no JSON at all."""

import codecs
import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

from streammeta.errors import EventError

__all__ = ["UNREADABLE", "read_again", "standard"]

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError, ValueError)
_Read = TypeVar("_Read")
_LARGEST = b"1.7976931348623157e308"  # stands for infinity, which JSON does not have; the decoder refuses it
_STRINGS_AND_NAN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|(-?)Infinity|NaN', re.DOTALL)
_SHOWN = 200  # characters of a reason that a message repeats
_KINDS = (
    (rb"\0.{4}", 'it begins as a registry\'s wire format does: is [input] format "avro", "protobuf" or "json-schema"?'),
    (rb"\x1f\x8b", "it is packed by gzip; wanted it plain, which a producer's compression.type leaves it"),
    (rb"\xff\xfe|\xfe\xff|.\0.\0|\0.\0.", "it is UTF-16; wanted UTF-8"),
    (rb"[\x80-\x8f\xde\xdf]", 'is [input] format "msgpack"?'),
    (rb"<", "it looks like XML; wanted JSON"),
    (rb"\s*\[", "it holds a list; wanted one object a record"),
    (rb'\s*"', "it is a text, of which JSON may have been made twice; wanted the object itself"),
)  # fmt: skip


def standard(text: bytes) -> bytes:
    """JSON as Python writes it (NaN, Infinity) as JSON: a missing value, and one that the decoder refuses.

    >>> standard(b'{"a": NaN, "b": "NaN"}')
    b'{"a": null, "b": "NaN"}'
    """
    return _STRINGS_AND_NAN.sub(_replaced, text) if b"NaN" in text or b"Infinity" in text else text


def _replaced(match: re.Match[bytes]) -> bytes:
    text = match[0]
    return text if text[:1] == b'"' else b"null" if text == b"NaN" else (match[1] or b"") + _LARGEST


def read_again(read: Callable[[bytes], _Read], value: bytes, at: object, err: Exception) -> _Read:
    """What could not be read, as standard JSON without a byte order mark.

    Args:
        read: raises one of UNREADABLE.
        value: the bytes.
        at: where they stand, for messages.
        err: what was wrong with them.

    Raises:
        EventError: it cannot be read so, either; the message says what the bytes look like.
    """
    plain = standard(value.removeprefix(codecs.BOM_UTF8))
    if plain != value:
        try:
            return read(plain)
        except UNREADABLE as again:
            err = again
    kind = next((f"; {what}" for begin, what in _KINDS if re.match(begin, value, re.DOTALL)), "")
    raise EventError(f"{at}: not an event: {str(err)[:_SHOWN]}{kind}") from err
