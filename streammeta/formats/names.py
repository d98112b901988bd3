"""Where a recording has what streammeta needs: the names of its task, label, id and time."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from streammeta.errors import EventError
from streammeta.formats.value import flatten, label, tag

__all__ = ["Names", "reshape"]

_read = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class Names(NamedTuple):
    """Names of columns or fields; in JSON a dotted path leads into nested objects."""

    task: str = "task"
    label: str = "y"
    id: str = "id"
    time: str = "ts"

    def fields(self) -> Iterator[tuple[str, str]]:
        """Each field of an event, and the name that it has here."""
        yield from zip(("task", "y", "id", "ts"), self, strict=True)


def reshape(line: bytes, names: Names, at: str) -> bytes:
    """A JSON object with other names, as an event's JSON; what is no object is handed on for the decoder to refuse.

    Args:
        line: the object. What it has beside the named fields is the features: under `x`, or all the rest, flattened.
        names: where it has the task, label, id and time.
        at: where it stands, for messages.
    """
    try:
        given = _read(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return line
    event: dict[str, Any] = {}
    try:
        for ours, theirs in names.fields():
            value = _take(given, theirs)
            if value is not None:
                event[ours] = tag(value) if ours in ("task", "id") else label(value, at) if ours == "y" else value
        inside = given.pop("x", None)
        event["x"] = dict(_features(given if inside is None else inside, at))
    except EventError as err:
        return _encode({"problem": str(err)})
    return _encode(event)


def _features(given: Any, at: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 what JSON holds
    if not isinstance(given, dict | list):
        given = {"x": given}
    for name, value in given.items() if isinstance(given, dict) else enumerate(given):
        yield from flatten(value, str(name), at)


def _take(given: dict[str, Any], path: str) -> Any:  # noqa: ANN401 what JSON holds
    """Remove what a dotted path leads to; None where nothing is there. A name with a dot in it is found first."""
    if path in given:
        return given.pop(path)
    first, dot, rest = path.partition(".")
    inner = given.get(first)
    return _take(inner, rest) if dot and isinstance(inner, dict) else None
