"""Recorded events in files, and results into files.

Read: JSON lines (``.jsonl``, ``.ndjson``, ``.json``: one object a line, as a topic would carry it), text of rows and
columns with a header (``.csv``, ``.tsv``: `formats.delimited` finds out how it is written), each also with ``.gz``,
``.bz2``, ``.xz`` or ``.zst``, and tables (``.parquet``, ``.feather``, ``.arrow``, ``.xlsx``). Written: JSON lines, one
file a channel.

The columns ``task``, ``y``, ``id`` and ``ts`` are the event's fields (or those that ``fields`` says), every other
column is a feature. A cell is a number when it reads as one, and else a category; empty, ``NA``, ``-``, ``?``,
``null`` and their like are missing. An infinite number is handed on as the largest float, which the decoder refuses. A
row that is no event (too few cells, bad text) is handed on in a form that the decoder refuses too, with what is wrong
under ``problem``: it costs a row, not the run.
"""

import base64
import os
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from streammeta.errors import ConfigError, TransportError
from streammeta.event import Origin, Record
from streammeta.formats.fields import Fields
from streammeta.formats.mapping import Mapper
from streammeta.formats.recording import DAMAGE, find_files, read_recording
from streammeta.formats.storage import StoredFile
from streammeta.transport.base import Message, Partition, Positions

__all__ = ["STANDARD_INPUT", "FileSink", "FileSource"]

STANDARD_INPUT = "-"
_CHANNELS = ("predictions", "signals", "dead-letters")
_BUFFER = 2**18

_encode = msgspec.json.Encoder().encode


class FileSource:
    """A recorded stream, read once from front to back in constant memory.

    Args:
        path: a file, a folder (its files in the order of their names), a pattern with ``*``, an address of these
            (s3://, gs://, https://, by fsspec), or "-" for standard input. Its name is the topic of the origins, its
            only partition is 0, offsets are rows over all files.
        limit: read no row from this number on.
        fields: which columns or fields are what; None: `task`, `y`, `id`, `ts`, and all others are features.

    Raises:
        TransportError: the file is not there or cannot be read.
        ConfigError: ``fields`` asks for a key or a header, which rows do not have.
    """

    def __init__(self, path: Path | str, *, limit: int | None = None, fields: Fields | None = None) -> None:
        self._stream, self._is_piped = str(path), str(path) == STANDARD_INPUT
        self._files = [] if self._is_piped else find_files(path)
        self.description = ""  # how it is written, where that is not plain CSV or JSON; known once it is read
        self._limit = limit
        self._partition: Partition = ("stdin" if self._is_piped else Path(path).name, 0)
        self._mapper = Mapper(fields or Fields())
        self._mapper.fields.check_rows()
        self._ahead: deque[bytes] = deque()  # read from the file, not yet polled
        self._next = 0
        self._ended = False
        self._failure: TransportError | ConfigError | None = None
        self._file: BinaryIO
        self._bytes_before = 0  # in files that were read to their end
        self._rows: Iterator[bytes]
        self._open(row=0)

    def poll(self, max_records: int, timeout_seconds: float) -> Sequence[Record]:  # noqa: ARG002 (a file never waits)
        """The next rows; empty at the end of the file.

        Raises:
            TransportError: the file is damaged; all rows before the damage were handed out.
        """
        self._fill(max_records)
        if not self._ahead and self._failure is not None:
            raise self._failure
        topic, number = self._partition
        count = min(max_records, len(self._ahead))
        records = [Record(self._ahead.popleft(), Origin(topic, number, self._next + i)) for i in range(count)]
        self._next += count
        return records

    def peek(self, count: int) -> Sequence[Record]:
        """The next rows without consuming them: fewer when the file has fewer.

        Raises:
            TransportError: not even the first of them can be read.
        """
        self._fill(count)
        if not self._ahead and self._failure is not None:
            raise self._failure
        topic, number = self._partition
        return [Record(row, Origin(topic, number, self._next + i)) for i, row in enumerate(islice(self._ahead, count))]

    @property
    def exhausted(self) -> bool:
        """Whether the end was reached and all rows were polled."""
        return self._ended and not self._ahead

    @property
    def fraction_read(self) -> float | None:
        """How much of the bytes was read, from 0 to 1; None where a size makes no sense."""
        if self._ended:
            return 1.0
        if self._is_piped or self._file.closed:
            return None
        size = sum(map(_size, self._files))
        return min(1.0, (self._bytes_before + self._file.tell()) / size) if size else None

    def assigned(self) -> Mapping[Partition, int]:
        """The file's only partition and its next row."""
        return {self._partition: self._next}

    def seek(self, positions: Positions) -> None:
        """Go on from this row, forwards or back; other partitions are passed over."""
        row = positions.get(self._partition)
        if row is not None and row != self._next:
            if self._is_piped:
                raise TransportError(f"standard input: row {row} cannot be gone to; wanted a file")
            self._file.close()
            self._open(row)

    def commit(self, positions: Positions) -> None:
        """Nothing to do: a file does not remember who read it; snapshots do."""

    def lag(self) -> Mapping[Partition, int]:
        """Unknown: rows are not counted ahead."""
        return {}

    def close(self) -> None:
        """Close the file."""
        self._ended = True
        self._ahead.clear()
        if not self._is_piped:
            self._file.close()

    def _open(self, row: int) -> None:
        self._file = self._opened(0)
        self._ahead.clear()
        self._next, self._ended, self._failure = row, False, None
        stop = self._limit if self._limit is None else max(row, self._limit)
        self._rows = islice(self._read_rows(), row, stop)

    def _opened(self, number: int) -> BinaryIO:
        if self._is_piped:
            return cast(BinaryIO, sys.stdin.buffer)
        path = self._files[number]
        if isinstance(path, StoredFile):
            return path.open()
        try:
            return path.open("rb", buffering=_BUFFER)
        except OSError as err:
            raise TransportError(f"{path}: cannot be read ({err.strerror}); wanted an existing file") from err

    def _read_rows(self) -> Iterator[bytes]:
        """The rows of all files, one file after the other."""
        said: dict[str, None] = {}
        self._bytes_before = 0
        files: Sequence[Path | StoredFile] = self._files or [Path(self._partition[0])]
        for number, path in enumerate(files):
            if number:
                self._bytes_before += _size(self._files[number - 1])
                self._file.close()
                self._file = self._opened(number)
            if len(self._files) > 1 and not _size(path):  # as tools that write parts in parallel leave them
                said[f"{path.name} is empty"] = None
                continue
            descriptions: list[str] = [] if len(self._files) < 2 else [f"{len(self._files)} files"]
            for row in read_recording(self._file, path, self._mapper, lambda found: said.update({found: None})):
                self.description = self.description or ", ".join(filter(None, (*descriptions, *said)))
                yield row

    def _fill(self, count: int) -> None:
        """Have ``count`` rows ahead, if the file has them. A failure waits until the rows before it are polled."""
        wanted = count - len(self._ahead)
        if wanted <= 0 or self._ended or self._failure is not None:
            return
        try:
            self._ahead.extend(islice(self._rows, wanted))
        except DAMAGE as err:
            row = self._next + len(self._ahead)
            self._failure = TransportError(
                f"{self._stream}: cannot be read at row {row} ({err}); it is damaged or cut off"
            )
        except (TransportError, ConfigError) as err:
            self._failure = err
        else:
            self._ended = len(self._ahead) < count


def _size(file: Path | StoredFile) -> int:
    if isinstance(file, StoredFile):
        return file.size
    return file.stat().st_size if file.exists() else 0


class FileSink:
    """Writes results as JSON lines: ``predictions.jsonl``, ``signals.jsonl`` and ``dead-letters.jsonl`` in a folder.

    A value that is JSON is written as it is. What JSON lines cannot hold (headers, bytes that are no JSON) is
    written as an object with ``value`` (``value_base64`` when it is no text), ``key`` and ``headers``.

    Args:
        path: the folder, made when it is not there; or a file ``NAME.jsonl`` for the predictions, then the other
            channels go beside it, to ``NAME-signals.jsonl`` and so on.
        append: keep what earlier runs wrote.

    Raises:
        TransportError: the folder or a file cannot be written.
    """

    def __init__(self, path: Path | str, *, append: bool = False) -> None:
        self._path = Path(path)
        self._append = append
        self._files: dict[str, BinaryIO] = {}
        try:
            (self._path.parent if self._path.suffix else self._path).mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise TransportError(f"{self._path}: cannot be made ({err.strerror})") from err
        try:
            for channel in _CHANNELS:
                self._file(channel)
        except TransportError:
            self.close()  # those that were opened before the one that cannot be
            raise

    def send(self, messages: Sequence[Message]) -> None:
        """Write them; they may still be in a buffer afterwards."""
        try:
            for message in messages:
                self._file(message.channel).write(_line(message) + b"\n")
        except OSError as err:
            raise TransportError(f"{self._path}: cannot be written ({err.strerror})") from err

    def flush(self, timeout_seconds: float) -> None:  # noqa: ARG002 (the operating system gives no bound)
        """Return when the operating system has everything on disk."""
        try:
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())
        except OSError as err:
            raise TransportError(f"{self._path}: cannot be written ({err.strerror})") from err

    def close(self) -> None:
        """Flush and close the files."""
        files, self._files = self._files, {}
        failures = []
        for file in files.values():
            try:
                file.close()
            except OSError as err:
                failures.append(err)
        if failures:
            raise TransportError(f"{self._path}: cannot be written ({failures[0].strerror})") from failures[0]

    def _file(self, channel: str) -> BinaryIO:
        if channel not in self._files:
            path = self._file_of(channel)
            try:
                self._files[channel] = path.open("ab" if self._append else "wb")
            except OSError as err:
                raise TransportError(f"{path}: cannot be written ({err.strerror})") from err
        return self._files[channel]

    def _file_of(self, channel: str) -> Path:
        if not self._path.suffix:
            return self._path / f"{channel}.jsonl"
        return self._path if channel == _CHANNELS[0] else self._path.with_stem(f"{self._path.stem}-{channel}")


def _line(message: Message) -> bytes:
    value = message.value or b""
    if not message.headers:
        try:
            msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        else:
            return msgspec.json.format(value, indent=-1) if b"\n" in value else value
    line: dict[str, object] = {}
    try:
        line["value"] = value.decode()
    except UnicodeDecodeError:
        line["value_base64"] = base64.b64encode(value).decode()
    if message.key is not None:
        line["key"] = message.key.decode(errors="backslashreplace")
    if message.headers:
        line["headers"] = {name: content.decode(errors="backslashreplace") for name, content in message.headers}
    return _encode(line)
