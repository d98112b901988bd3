"""Text files of rows and columns (CSV and its kin), read into events' JSON.

The head of the file decides how it is read (`dialect`). Each row becomes an event, but for what is none: remarks, a row
of totals, a row of other cells than the header has.
"""

import csv
import io
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from streammeta.errors import EventError, TransportError
from streammeta.formats.dialect import HEAD, UTF_8, Dialect, read_csv, sniff
from streammeta.formats.fields import JOINT, OPTIONS, check_columns
from streammeta.formats.mapping import Mapper, parse_seconds
from streammeta.formats.moment import Order, seconds_of
from streammeta.formats.number import CODE, MISSING, Cell, as_number, as_number_with_comma

__all__ = ["TOTALS", "is_total", "read_rows"]

_TOTALS = frozenset(
    ("total", "totals", "grand total", "sum total", "subtotal", "sub total", "sub-total", "sum", "sums")
)
_TOTALS |= frozenset(("summe", "gesamt", "gesamtsumme", "zwischensumme", "somme", "totale", "totaux", "suma", "totaal"))
TOTALS = "a row of totals, not of data"  # why it is refused
_SHOWN = 100  # characters of a header that a message repeats
_LONGEST_LINE = 16 * 2**20  # characters of a refused row that are handed on

_encode = msgspec.json.Encoder().encode


def read_rows(file: io.BufferedReader, mapper: Mapper, at: str, say: Callable[[str], None]) -> Iterator[bytes]:
    """Each row of a file as an event's JSON; a row that is no event in a form that the decoder refuses.

    Args:
        file: the open file, unpacked.
        mapper: knows which columns are what.
        at: the file's name, for messages.
        say: is given the dialect's description, once.

    Raises:
        TransportError: the header is empty, has a name twice, or lacks a column that the mapping asks for.
    """
    dialect = sniff(file.peek(HEAD)[:HEAD])
    used = {name for option in OPTIONS for name in mapper.columns(option)}  # each has a reader of its own
    dialect = replace(dialect, codes=tuple(name for name in dialect.codes if name not in used))
    say(dialect.description)
    # bad bytes come through as surrogates, so that they cost their row and no more
    text = io.TextIOWrapper(file, encoding=dialect.encoding, errors="surrogateescape", newline="")
    try:
        for _ in range(dialect.passed_over):
            text.readline()
        lines = _Lines(text)
        reader = read_csv(lines, dialect.separator, has_backslashes=dialect.has_backslashes)
        rows = _split(reader, lines)
        header = next(rows, [])
        row_as_json = _row_encoder(header, dialect, mapper, at)
        if dialect.has_units:
            next(rows, None)
        for row, has_totals in _records(rows, len(header), has_remarks=dialect.has_remarks):
            yield _refused(row, TOTALS) if has_totals else row_as_json(row)
    finally:
        if not file.closed:
            text.detach()  # the file is its owner's to close


def _records(rows: Iterator[list[str]], width: int, *, has_remarks: bool) -> Iterator[tuple[list[str], bool]]:
    """Rows that are not empty, and no remarks, each with whether it is a row of totals."""
    ahead: list[str] | None = None
    while True:
        row, ahead = (next(rows, None), None) if ahead is None else (ahead, None)
        if row is None:
            return
        if not any(map(str.strip, row)) or (has_remarks and row[0].startswith("#") and len(row) != width):
            continue
        if _says_total(row[0] or row):
            ahead = next(rows, [])
            yield row, is_total(row, is_last=len(ahead) < width)
        else:
            yield row, False


def _says_total(cells: str | Sequence[object]) -> bool:
    first = cells if isinstance(cells, str) else next((str(cell) for cell in cells if cell not in (None, "")), "")
    return first.strip(" :").lower() in _TOTALS


def is_total(row: Sequence[object], *, is_last: bool) -> bool:
    """Whether this is the sum of the rows before it, as reports have it: it says so, and lacks cells, or is the last.

    >>> is_total(["Total", "", "17"], is_last=False), is_total(["total", "5", "17"], is_last=False)
    (True, False)
    """
    return _says_total(row) and (is_last or any(cell is None or str(cell).strip() in MISSING for cell in row))


class _Lines(Iterator[str]):
    """Lines of a file, those of a row that was none once more."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines, self._again = iter(lines), deque[str]()
        self.row: list[str] = []  # those of the row that is being read
        self.has_ended = False

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines, None)
        if line is None:
            self.has_ended = True
            raise StopIteration
        self.row.append(line)
        return line

    def read_again(self) -> None:
        """Hand out all lines of this row but its first again, as those of rows."""
        self._again.extendleft(reversed(self.row[1:]))
        self.has_ended = False


class _Unsplit(list[str]):
    """Of a row that the csv module cannot split, its first line."""

    problem = ""


class _Tall(list[str]):
    """A row of several lines."""

    lines = 0


def _split(rows: Iterator[list[str]], lines: _Lines) -> Iterator[list[str]]:
    """Rows as the csv module has them; a quote that is never closed costs its own line, not all that follow."""
    problem = "a quote that is opened in this row is never closed"
    while True:
        lines.row = []
        try:
            row = next(rows)
            if len(lines.row) > 1 and not lines.has_ended:
                row = _Tall(row)
                row.lines = len(lines.row)
            is_split = not lines.has_ended  # else the file ended in the middle of the row
        except StopIteration:
            return
        except csv.Error as err:
            is_split, problem = False, f"the row cannot be split into cells: {err}; is a quote never closed?"
        if not is_split:
            row = _Unsplit([lines.row[0].rstrip("\r\n")])
            row.problem = problem
            lines.read_again()
        yield row


def _row_encoder(header: Sequence[str], dialect: Dialect, mapper: Mapper, at: str) -> Callable[[list[str]], bytes]:
    """A function from the cells of a row to the event's JSON."""
    columns = [name.strip() or f"column_{i}" for i, name in enumerate(header)]
    _check_header(columns, at)
    check_columns(columns, mapper.fields, at)
    number = as_number_with_comma if dialect.has_decimal_commas else as_number
    fields = _field_reader(columns, mapper, number, dict(dialect.times), at)
    features = _feature_reader(columns, mapper, dialect)

    def encode(row: list[str]) -> bytes:
        if isinstance(row, _Unsplit):
            return _refused(row, row.problem)
        if len(row) == len(columns) + 1 and not row[-1].strip():
            row.pop()  # a separator after the last cell
        if len(row) != len(columns):
            over = f" over {row.lines} lines (is a quote not closed?)" if isinstance(row, _Tall) else ""
            return _refused(row, f"{len(row)} cells{over}, wanted {len(columns)} as in the header")
        try:
            event = fields(row)
            event["x"] = features(row)
            if mapper.fields.time_features and "ts" in event:
                event["x"] |= mapper.time_features(event["ts"])
            return _encode(event)
        except EventError as err:
            return _refused(row, str(err).removeprefix(f"{at}: "))
        except UnicodeEncodeError:
            encoding = "utf-8" if dialect.encoding == UTF_8 else dialect.encoding
            return _refused(row, f"the row has bytes that are not {encoding}; wanted a file that is saved as UTF-8")

    return encode


def _check_header(columns: Sequence[str], at: str) -> None:
    """Refuse a first row of numbers: it is data, and would be the names of what follows."""
    numbers = [number for name in columns if isinstance(number := as_number(name), float)]
    is_range = len(set(numbers)) == len(numbers) and all(number.is_integer() for number in numbers)
    if len(numbers) == len(columns) > 1 and not is_range:
        raise TransportError(
            f"{at}: the first row has numbers only ({', '.join(columns)[:_SHOWN]}), and would be the names of the "
            "columns; wanted a row with a name for each column before it"
        )


def _field_reader(
    columns: Sequence[str], mapper: Mapper, number: Callable[[str], Cell], orders: Mapping[str, Order], at: str
) -> Callable[[list[str]], dict[str, Any]]:
    """What makes task, id, label and time of a row; what is missing is left out."""
    options = zip(("task", "id", "label", "time"), ("task", "id", "y", "ts"), strict=True)
    places = [(ours, [columns.index(c) for c in mapper.columns(o) if c in columns]) for o, ours in options]

    def read(row: list[str]) -> dict[str, Any]:
        event: dict[str, Any] = {}
        for ours, where in places:
            cells = [None if _is_missing(row[i], columns[i], mapper) else row[i] for i in where]
            if not any(cell is not None for cell in cells):
                continue
            if ours in ("task", "id"):
                event[ours] = JOINT.join((cell or "").strip() for cell in cells)
            elif ours == "y":
                cell, order = (cells[0] or "").strip(), orders.get(columns[where[0]])
                seconds = None if order is None else seconds_of(cell, order)
                plain = cell if CODE.fullmatch(cell) else number(cell)
                event[ours] = plain if seconds is None else seconds
            else:
                event[ours] = _as_time(cells[0] or "", columns[where[0]], orders, at)
        return event

    return read


def _feature_reader(columns: Sequence[str], mapper: Mapper, dialect: Dialect) -> Callable[[list[str]], dict[str, Any]]:
    """What makes features of a row."""
    used = {name for option in OPTIONS for name in mapper.columns(option)}
    places = [i for i, name in enumerate(columns) if name not in used and not (i == 0 and dialect.has_index)]
    places = [i for i in places if mapper.takes(columns[i])]
    orders = dict(dialect.times)
    times = [columns[i] for i in places if columns[i] in orders]
    codes = [(i, columns[i]) for i in places if columns[i] in dialect.codes]
    plain = _plain_reader(columns, places, mapper, has_commas=dialect.has_decimal_commas)
    if not times and not codes:
        return plain

    def with_texts(row: list[str]) -> dict[str, Any]:
        x = plain(row)
        for name in times:
            if isinstance(x[name], str):  # what is no date stays text
                x[name] = x[name] if (found := seconds_of(x[name], orders[name])) is None else found
        for i, name in codes:
            x[name] = None if _is_missing(row[i], name, mapper) else row[i].strip()
        return x

    return with_texts


def _as_time(cell: str, name: str, orders: Mapping[str, Order], at: str) -> float | None:
    order = orders.get(name)
    seconds = None if order is None else seconds_of(cell, order)
    return parse_seconds(cell, name, at) if seconds is None else seconds


def _plain_reader(
    columns: Sequence[str], places: Sequence[int], mapper: Mapper, *, has_commas: bool
) -> Callable[[list[str]], dict[str, Any]]:
    names = [columns[i] for i in places]
    if mapper.fields.missing:
        number = as_number_with_comma if has_commas else as_number

        def careful(row: list[str]) -> dict[str, Any]:
            return {columns[i]: None if mapper.is_marker(columns[i], row[i]) else number(row[i]) for i in places}

        return careful
    if has_commas:
        return lambda row: {columns[i]: as_number_with_comma(row[i]) for i in places}
    return lambda row: dict(zip(names, _numbers([row[i] for i in places]), strict=True))


def _is_missing(cell: str, name: str, mapper: Mapper) -> bool:
    return cell.strip() in MISSING or mapper.is_marker(name, cell)


def _numbers(cells: list[str]) -> Sequence[Cell]:
    """All cells at once when all are ordinary numbers, which is the usual case, and else one by one."""
    try:
        numbers = list(map(float, cells))
    except ValueError:
        return [as_number(cell) for cell in cells]
    if math.isfinite(sum(numbers)) and "_" not in "".join(cells):
        return numbers
    return [as_number(cell) for cell in cells]


def _refused(row: Sequence[str], problem: str) -> bytes:
    """A row that the decoder will refuse (it has no `x`), with what is wrong, for the reader of the dead letter."""
    cells = ",".join(row)[:_LONGEST_LINE].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _encode({"problem": problem, "row": cells})
