"""Recorded events in files, and results into files.

Read: JSON lines (``.jsonl``, ``.ndjson``, ``.json``: one object a line, as a topic would carry it) and text of rows and
columns with a header (``.csv``, ``.tsv``: `formats.delimited` finds out how it is written), each also with ``.gz``,
``.bz2`` or ``.xz``. Written: JSON lines, one file a channel.

The columns ``task``, ``y``, ``id`` and ``ts`` are the event's fields (or those that ``names`` says), every other column
is a feature. A cell is a number when it reads as one, and else a category; empty, ``NA``, ``-``, ``?``, ``null`` and
their like are missing. An infinite number is handed on as the largest float, which the decoder refuses. A row that is
no event (too few cells, bad text) is handed on in a form that the decoder refuses too, with what is wrong under
``problem``: it costs a row, not the run.
"""

import base64
import bz2
import codecs
import gzip
import io
import lzma
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from streammeta.errors import TransportError
from streammeta.event import Origin, Record
from streammeta.formats.delimited import read_rows
from streammeta.formats.names import Names, reshape
from streammeta.transport.base import Message, Partition, Positions

__all__ = ["FileSink", "FileSource"]

_CHANNELS = ("predictions", "signals", "dead-letters")
_LONGEST_LINE = 16 * 2**20  # bytes; the rest of a longer line is passed over
_BUFFER = 2**18
_DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, UnicodeError)  # how a cut or damaged file shows
_PACKED: Mapping[str, Callable[[BinaryIO], object]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
}
_DELIMITED = (".csv", ".tsv")
_LINES = (".jsonl", ".ndjson", ".json")
_FRAMES = {
    ".parquet": "pandas.read_parquet",
    ".feather": "pandas.read_feather",
    ".arrow": "pandas.read_feather",
    ".xlsx": "pandas.read_excel",
    ".xls": "pandas.read_excel",
}

_encode = msgspec.json.Encoder().encode


class FileSource:
    """A recorded stream, read once from front to back in constant memory.

    Args:
        path: the file; its name is the topic of the origins, its only partition is 0, offsets are rows from 0.
        limit: read no row from this number on.
        names: of the columns or fields with the task, label, id and time; None: `task`, `y`, `id` and `ts`.

    Raises:
        TransportError: the file is not there, cannot be read, or is of a kind not known.
    """

    def __init__(self, path: Path | str, *, limit: int | None = None, names: Names | None = None) -> None:
        self._path = Path(path)
        self.description = ""  # how the file is written, where that is not plain CSV or JSON; known once it is read
        self._limit = limit
        self._partition: Partition = (self._path.name, 0)
        self._read_rows = _reader(self._path, names or Names(), self._say)
        self._ahead: deque[bytes] = deque()  # read from the file, not yet polled
        self._next = 0
        self._ended = False
        self._failure: TransportError | None = None
        self._file: BinaryIO
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
        """How much of the file's bytes were read, from 0 to 1; None where a size makes no sense."""
        if self._ended or self._file.closed:
            return 1.0
        size = os.fstat(self._file.fileno()).st_size
        return min(1.0, self._file.tell() / size) if size else None

    def assigned(self) -> Mapping[Partition, int]:
        """The file's only partition and its next row."""
        return {self._partition: self._next}

    def seek(self, positions: Positions) -> None:
        """Go on from this row, forwards or back; other partitions are passed over."""
        row = positions.get(self._partition)
        if row is not None and row != self._next:
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
        self._file.close()

    def _say(self, description: str) -> None:
        self.description = description

    def _open(self, row: int) -> None:
        try:
            self._file = self._path.open("rb", buffering=_BUFFER)
        except OSError as err:
            raise TransportError(f"{self._path}: cannot be read ({err.strerror}); wanted an existing file") from err
        self._ahead.clear()
        self._next, self._ended, self._failure = row, False, None
        self._rows = islice(
            self._read_rows(self._file), row, self._limit if self._limit is None else max(row, self._limit)
        )

    def _fill(self, count: int) -> None:
        """Have ``count`` rows ahead, if the file has them. A failure waits until the rows before it are polled."""
        wanted = count - len(self._ahead)
        if wanted <= 0 or self._ended or self._failure is not None:
            return
        try:
            self._ahead.extend(islice(self._rows, wanted))
        except _DAMAGE as err:
            row = self._next + len(self._ahead)
            self._failure = TransportError(
                f"{self._path}: cannot be read at row {row} ({err}); it is damaged or cut off"
            )
        except TransportError as err:
            self._failure = err
        else:
            self._ended = len(self._ahead) < count


def _reader(path: Path, names: Names, say: Callable[[str], None]) -> Callable[[BinaryIO], Iterator[bytes]]:
    """How to read this kind of file: from the open file to the rows, as the JSON that the decoder wants."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    unpack = _PACKED.get(suffixes[-1]) if suffixes else None
    kind = suffixes[-2] if unpack and suffixes[1:] else "" if unpack else suffixes[-1] if suffixes else ""
    if kind in _FRAMES:
        remedy = f"streammeta.replay({_FRAMES[kind]}({path.name!r}))"
        raise TransportError(f"{path}: is no text; read it into a data frame: {remedy}")
    if kind == ".zst":
        raise TransportError(f"{path}: cannot be unpacked here; wanted .gz, .bz2 or .xz (`zstd -d` unpacks it)")
    if kind not in _DELIMITED and kind not in _LINES:
        wanted = ", ".join((*_DELIMITED, *_LINES))
        raise TransportError(f"{path}: of a kind not known; wanted {wanted}, each also with .gz, .bz2 or .xz")

    def rows(file: BinaryIO) -> Iterator[bytes]:
        unpacked = file if unpack is None else io.BufferedReader(cast(io.RawIOBase, unpack(file)), _BUFFER)
        lines = cast(io.BufferedReader, unpacked)
        if kind in _DELIMITED:
            return read_rows(lines, names, str(path), say)
        return _json_rows(path, lines) if names == Names() else _renamed(path, lines, names)

    return rows


def _renamed(path: Path, lines: io.BufferedReader, names: Names) -> Iterator[bytes]:
    for number, line in enumerate(_json_rows(path, lines)):
        yield reshape(line, names, f"{path.name}/0/{number}")


def _json_rows(path: Path, lines: io.BufferedReader) -> Iterator[bytes]:
    if lines.peek(3)[:3] == codecs.BOM_UTF8:
        lines.read(3)
    if lines.peek(1)[:1] == b"[":
        raise TransportError(f"{path}: holds one JSON array; wanted one object a line (`jq -c '.[]'` makes them)")
    while line := lines.readline(_LONGEST_LINE):
        text = line.strip()
        while not line.endswith(b"\n") and len(line) == _LONGEST_LINE:
            line = lines.readline(_LONGEST_LINE)
        if text:
            yield text


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
