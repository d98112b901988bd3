"""Recorded events in files, and results into files.

Read: JSON lines (``.jsonl``, ``.ndjson``, ``.json``: one object a line, as a topic would carry it) and CSV with a
header row (``.csv``), each also with ``.gz``. Written: JSON lines, one file a channel.

In CSV the columns ``task``, ``y``, ``id`` and ``ts`` are the event's fields, every other column is a feature. A cell is
a number when it reads as one, and else a category; empty, ``NA``, ``null``, ``None`` and ``nan`` cells are missing. An
infinite number is handed on as the largest float, which the decoder refuses. A row that is no event (too few cells, bad
text) is handed on in a form that the decoder refuses too, with what is wrong under ``problem``: it costs a row, not
the run.
"""

import base64
import codecs
import csv
import gzip
import io
import math
import os
import sys
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

import msgspec

from streammeta.errors import TransportError
from streammeta.event import Origin, Record
from streammeta.transport.base import Message, Partition, Positions

__all__ = ["FileSink", "FileSource"]

_CHANNELS = ("predictions", "signals", "dead-letters")
_FIELDS = ("task", "y", "id", "ts")
_MISSING = frozenset({"", "NA", "N/A", "null", "None", "nan", "NaN", "NAN", "-nan"})
_LONGEST_LINE = 16 * 2**20  # bytes; the rest of a longer line is passed over
_BUFFER = 2**18
_HUGE = sys.float_info.max  # what an infinite cell becomes: JSON has no infinity, and the decoder refuses this
_DAMAGE = (OSError, EOFError, zlib.error)  # gzip names a cut or damaged file in these three ways

_Cell: TypeAlias = float | str | None
_encode = msgspec.json.Encoder().encode


class FileSource:
    """A recorded stream, read once from front to back in constant memory.

    Args:
        path: the file; its name is the topic of the origins, its only partition is 0, offsets are rows from 0.
        limit: read no row from this number on.

    Raises:
        TransportError: the file is not there, cannot be read, or is of a kind not known.
    """

    def __init__(self, path: Path | str, *, limit: int | None = None) -> None:
        self._path = Path(path)
        self._limit = limit
        self._partition: Partition = (self._path.name, 0)
        self._read_rows = _reader(self._path)
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


def _reader(path: Path) -> Callable[[BinaryIO], Iterator[bytes]]:
    """How to read this kind of file: from the open file to the rows, as the JSON that the decoder wants."""
    suffixes = path.suffixes
    packed = bool(suffixes) and suffixes.pop().lower() == ".gz"
    kind = (suffixes[-1] if packed and suffixes else path.suffix).lower()
    read = {".csv": _csv_rows, ".jsonl": _json_rows, ".ndjson": _json_rows, ".json": _json_rows}.get(kind)
    if read is None:
        raise TransportError(f"{path}: of a kind not known; wanted .csv, .jsonl, .ndjson or .json, each also with .gz")

    def rows(file: BinaryIO) -> Iterator[bytes]:
        unpacked = io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=file)), _BUFFER) if packed else file
        return read(path, cast(io.BufferedReader, unpacked))

    return rows


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


def _csv_rows(path: Path, lines: io.BufferedReader) -> Iterator[bytes]:
    # bad bytes come through as surrogates, so that they cost their row and no more
    text = io.TextIOWrapper(lines, encoding="utf-8-sig", errors="surrogateescape", newline="")
    rows = _without_csv_errors(csv.reader(text))
    try:
        row_as_json = _row_encoder(path, next(rows, []))
        for row in rows:
            if row:
                yield row_as_json(row)
    finally:
        if not lines.closed:
            text.detach()  # the file is its owner's to close


def _without_csv_errors(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    """Rows that the csv module cannot split become rows of one cell."""
    while True:
        try:
            yield next(rows)
        except StopIteration:
            return
        except csv.Error as err:
            yield [str(err)]


def _row_encoder(path: Path, header: Sequence[str]) -> Callable[[list[str]], bytes]:
    """A function from the cells of a row to the event's JSON."""
    names = [name.strip() or f"column_{i}" for i, name in enumerate(header)]
    twice = {name for name in names if names.count(name) > 1}
    if not names or twice:
        found = f"the names {', '.join(sorted(twice))} more than once" if twice else "nothing"
        raise TransportError(f"{path}: the header row has {found}; wanted one name a column, each once")
    fields = [(i, name) for i, name in enumerate(names) if name in _FIELDS]
    places = [i for i, name in enumerate(names) if name not in _FIELDS]
    features = [names[i] for i in places]

    def encode(row: list[str]) -> bytes:
        if len(row) != len(names):
            return _refused(row, f"{len(row)} cells, wanted {len(names)} as in the header")
        event: dict[str, object] = {}
        for i, name in fields:
            cell = row[i]
            if cell not in _MISSING:
                event[name] = cell if name in ("task", "id") else _number(cell)
        event["x"] = dict(zip(features, _numbers([row[i] for i in places]), strict=True))
        try:
            return _encode(event)
        except UnicodeEncodeError:
            return _refused(row, "the row is not UTF-8")

    return encode


def _numbers(cells: list[str]) -> Sequence[_Cell]:
    """All cells at once when all are ordinary numbers, which is the usual case, and else one by one."""
    try:
        numbers = list(map(float, cells))
    except ValueError:
        return [_number(cell) for cell in cells]
    if math.isfinite(sum(numbers)) and "_" not in "".join(cells):
        return numbers
    return [_number(cell) for cell in cells]


def _number(cell: str) -> _Cell:
    try:
        number = float(cell)
    except ValueError:
        return None if cell.strip() in _MISSING else cell
    if "_" in cell:  # Python's own way to write numbers: 1_000
        return cell
    if math.isfinite(number):
        return number
    return None if math.isnan(number) else math.copysign(_HUGE, number)


def _refused(row: Sequence[str], problem: str) -> bytes:
    """A row that the decoder will refuse (it has no `x`), with what is wrong for whoever reads the dead letter."""
    cells = ",".join(row)[:_LONGEST_LINE].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _encode({"problem": problem, "row": cells})


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
