"""Plays a recorded file: its records, unchanged, with the times at which they were made."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from streammeta.errors import EventError
from streammeta.event import Decoder, Event, Record
from streammeta.formats.fields import Fields
from streammeta.transport.file import FileSource

__all__ = ["Recorded", "play"]

_ROWS = 256  # read at once


@dataclass(frozen=True, slots=True)
class Recorded:
    """One row of a file, as it goes out."""

    value: bytes
    task: str  # "" where the row does not say, or cannot be read
    ts: float | None  # seconds since 1970; None where the row does not say

    def to_json(self) -> bytes:
        """The record; a row of a CSV file as JSON."""
        return self.value


def play(stream: Path | str, *, limit: int | None = None, fields: Fields | None = None) -> Iterator[Recorded]:
    """The rows of a recorded file, in order; what cannot be read is handed on too, for the reader's dead letters.

    Args:
        stream: a file, folder, pattern or "-", as `FileSource` reads it.
        limit: stop after this number of rows.
        fields: which columns or fields are what.

    Raises:
        TransportError: the file cannot be read, or is damaged from some row on.
    """
    decoder = Decoder()
    with closing(FileSource(stream, limit=limit, fields=fields)) as source:
        while not source.exhausted:
            for record in source.poll(_ROWS, 0):
                yield _recorded(decoder, record)


def _recorded(decoder: Decoder, record: Record) -> Recorded:
    value = record.value or b""
    try:
        read = decoder.decode(record)
    except EventError:
        return Recorded(value, task="", ts=None)
    return Recorded(value, read.task, read.ts if isinstance(read, Event) else None)
