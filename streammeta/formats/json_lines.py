"""Files of JSON: an object a line, as a topic would carry them, or one array of objects, or objects over several lines.

One object of objects is read, too: of events by their keys, or of columns by theirs, as pandas writes frames.

Where objects have no `x`, their fields are features, and the first of them decide what a text is: a date or time is
seconds since 1970, and a number with a fraction that is written as text is that number. What was found is said.
"""

import codecs
import io
import json
import re
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any

import msgspec

from streammeta.errors import TransportError
from streammeta.formats.mapping import Mapper, reshape
from streammeta.formats.texts import read_texts
from streammeta.json_text import standard

__all__ = ["looks_like_json", "read_json"]

_LONGEST_LINE = 16 * 2**20  # bytes; the rest of a longer line is passed over
_HEAD = 65_536  # bytes by which it is decided what texts are
_HEAD_ROWS = 200
_README = frozenset(("x", "y", "task", "id", "ts"))  # what an event or a late label has
_WRAPPED = re.compile(rb"\s*\{.*?:\s*\[\s*\{", re.DOTALL)
_BY_KEY = re.compile(rb'\s*\{\s*"[^"]+"\s*:\s*\{')
_FLAT = "JSON objects without `x`: their fields beside task, y, id and ts are features"
_read = msgspec.json.Decoder(dict[str, Any]).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def looks_like_json(begin: bytes) -> bool:
    """Whether a file's first bytes are the begin of a JSON object with a name, or of an array of such."""
    return re.match(rb'\[?\s*\{\s*("[^"]*"\s*:|\})', begin) is not None


def read_json(
    lines: io.BufferedReader, mapper: Mapper, name: str, at: str, say: Callable[[str], None]
) -> Iterator[bytes]:
    """Each object of a file as an event's JSON.

    Args:
        lines: the open file, unpacked.
        mapper: knows which fields are what.
        name: the file's, for the origins in messages.
        at: the file's path, for messages.
        say: is given what had to be found out, once.

    Raises:
        TransportError: it is an array that ends too soon or has other values than objects, or no JSON.
    """
    if lines.peek(3)[:3] == codecs.BOM_UTF8:
        lines.read(3)
    head = lines.peek(_HEAD)[:_HEAD]
    if _is_whole(head) or _is_wrapped(head) or _is_by_key(head):
        rows = _values(_standard(lines.read()), at)
        first = list(islice(rows, _HEAD_ROWS))
    else:  # what a pipe or a damaged file has is handed out as it comes
        rows, first = map(_standard, _rows(lines)), []
    objects = [one for row in first or _head_rows(head) if (one := _object(row)) is not None]
    is_flat = mapper.fields.is_default and _is_flat(objects)
    if not is_flat and mapper.fields.is_default:
        say("")
        yield from chain(first, rows)
        return
    mapper, found = (mapper, "") if any("x" in one for one in objects) else read_texts(objects, mapper)
    say(", ".join(filter(None, (_FLAT if is_flat else "", found))))
    for number, row in enumerate(chain(first, rows)):
        yield reshape(row, mapper, f"{name}/0/{number}")


def _is_whole(head: bytes) -> bool:
    """Whether this begins an array, or an object that goes on in the next line: no object a line."""
    begin = head.lstrip()
    return begin[:1] == b"[" or begin.split(b"\n", 1)[0].strip() == b"{"


def _is_wrapped(head: bytes) -> bool:
    """Whether this begins one object with a list of objects in it, as services answer, and no object a line."""
    return _WRAPPED.match(head) is not None and len(head.strip().split(b"\n{", 1)) == 1


def _is_by_key(head: bytes) -> bool:
    """Whether this may be one object of objects, and no object a line."""
    return _BY_KEY.match(head) is not None and len(head.strip().split(b"\n{", 1)) == 1


def _head_rows(head: bytes) -> list[bytes]:
    rows = head.splitlines()
    whole = rows[:-1] if len(head) >= _HEAD and len(rows) > 1 else rows  # the last one may be cut
    return [_standard(row.strip()) for row in whole[:_HEAD_ROWS] if row.strip()]


def _object(row: bytes) -> dict[str, Any] | None:
    try:
        return _read(row)
    except _UNREADABLE:
        return None


def _is_flat(objects: list[dict[str, Any]]) -> bool:
    """Whether the first object has no `x`, and more than what an event or a late label has beside it."""
    return bool(objects) and bool(objects[0].keys() - _README) and "x" not in objects[0]


def _standard(row: bytes) -> bytes:
    """As standard JSON; a comma after an object, as lines of an array have it, is passed over."""
    return standard(row[:-1] if row.endswith(b"},") else row)


def _rows(lines: io.BufferedReader) -> Iterator[bytes]:
    while line := lines.readline(_LONGEST_LINE):
        text = line.strip()
        while not line.endswith(b"\n") and len(line) == _LONGEST_LINE:
            line = lines.readline(_LONGEST_LINE)
        if text:
            yield text


def _inner(content: bytes) -> list[bytes] | None:
    """The objects of the only list of objects that one object has; None where it has none or several."""
    try:
        values = msgspec.json.decode(content, type=dict[str, msgspec.Raw]).values()
        lists = [one for one in map(bytes, values) if one[:1] == b"[" and one[1:].lstrip()[:1] == b"{"]
        rows = [list(map(bytes, msgspec.json.decode(one, type=list[msgspec.Raw]))) for one in lists]
    except (*_UNREADABLE, ValueError):
        return None
    return rows[0] if len(rows) == 1 and (len(rows[0]) > 1 or len(values) == 1) else None


def _by_key(content: bytes) -> list[bytes] | None:
    """The objects of one object of objects that have the same names: events, or columns by the same row numbers."""
    try:
        found = msgspec.json.decode(content, type=dict[str, dict[str, msgspec.Raw]])
    except (*_UNREADABLE, ValueError):
        return None
    names = list(next(iter(found.values()), {}))
    if len(found) < 2 or not names or any(one.keys() != found[next(iter(found))].keys() for one in found.values()):
        return None
    if not all(name.isdecimal() for name in names):
        return [msgspec.json.encode(one) for one in found.values()]
    return [msgspec.json.encode({column: one[number] for column, one in found.items()}) for number in names]


def _values(content: bytes, at: str) -> Iterator[bytes]:
    """The objects of an array, or one after the other; the whole file is in memory for it."""
    is_array = content.lstrip()[:1] == b"["
    try:
        if is_array:
            yield from map(bytes, msgspec.json.decode(content, type=list[msgspec.Raw]))
            return
        rows = _inner(content) or _by_key(content)
        if rows is not None or not _is_whole(content[:_HEAD]):
            yield from filter(bytes.strip, content.splitlines()) if rows is None else rows
            return
        text, decoder, place = content.decode(), json.JSONDecoder(), 0
        while place < len(text):
            if text[place].isspace():
                place += 1
                continue
            begin = place
            _, place = decoder.raw_decode(text, begin)
            yield text[begin:place].encode()
    except (*_UNREADABLE, ValueError) as err:
        what = "one array of objects" if is_array else "objects over several lines"
        raise TransportError(
            f"{at}: begins as {what}, and cannot be read so ({str(err)[:200]}); wanted that, or one object a line "
            "(`jq -c` makes them)"
        ) from err
