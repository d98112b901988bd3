"""Text files of rows and columns (CSV and its kin), read into events' JSON.

The head of the file decides how it is read: its encoding (UTF-8, UTF-16 by its byte order mark or its zero bytes, else
Windows-1252 where UTF-8 does not fit), its separator (of comma, semicolon, tab and bar the one that the header has most
of), whether numbers have decimal commas, how quotes inside of quotes are written, which columns are dates, and whether
the first column is the index that pandas writes without a name. `description` says what was found.
"""

import codecs
import csv
import io
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

import msgspec

from streammeta.errors import EventError, TransportError
from streammeta.formats.fields import JOINT, OPTIONS, check_columns
from streammeta.formats.mapping import Mapper, parse_seconds
from streammeta.formats.moment import ORDERS, Order, order_of, seconds_of

__all__ = ["CODE", "MISSING", "SEPARATORS", "Dialect", "as_number", "as_number_with_comma", "read_rows", "sniff"]

MISSING = frozenset(
    ("", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "NaT", "-", "?", "\\N")  # spreadsheets', pandas', databases'
) | frozenset(("null", "NULL", "None", "none", "nan", "NaN", "NAN", "-nan"))
MISSING |= frozenset(("#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#NULL!"))  # a spreadsheet's failed formulas
_HEAD = 65_536  # bytes by which the dialect is decided
_HEAD_ROWS = 200
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_SHOWN = 100  # characters of a header that a message repeats
_LONGEST_LINE = 16 * 2**20  # characters of a refused row that are handed on
_HUGE = sys.float_info.max  # what an infinite cell becomes: JSON has no infinity, and the decoder refuses this
_COMMA = re.compile(r"[-+]?(\d{1,3}([.'\u2019 \u00a0\u202f]\d{3})+|\d+),\d+")
_SPACED = re.compile(r"[-+]?\d{1,3}([.'\u2019 \u00a0\u202f]\d{3})+")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(\.\d{3})+")
_POINT = re.compile(r"[-+]?\d*\.\d+")
_DECORATED = re.compile(
    r"[-+]?[$€£¥]?[ \u00a0]?[-+]?(\d{1,3}([,'\u2019 \u00a0\u202f]\d{3})+|\d+)(\.\d+)?[ \u00a0]?[$€£¥%]?"
)
_DECORATION = {ord(sign): None for sign in "$€£¥%,'\u2019 \u00a0\u202f"}
_POINTS = {ord(sign): None for sign in ".'\u2019 \u00a0\u202f"} | {ord(","): "."}
_NEGATIVE = re.compile(r"\((.+)\)")  # as accountants write it
_GROUPED = re.compile(r"[-+]?\d{1,3}(,\d{3})+")
_GIVEN = re.compile(r"sep=(.)")

_Cell: TypeAlias = float | str | None
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Dialect:
    """How a file of rows and columns is written."""

    encoding: str = "utf-8-sig"
    separator: str = ","
    has_decimal_commas: bool = False
    has_index: bool = False  # the first column has no name and counts rows
    passed_over: int = 0  # lines before the header
    example: str = ""  # a number with a sign or with thousands, as "$1,234.50" or "12 %"
    times: tuple[tuple[str, Order], ...] = ()  # columns of dates or times, and how they are written
    has_backslashes: bool = False  # before quotes inside of quotes, where others double the quote

    @property
    def description(self) -> str:
        """What was taken for what, in one line; "" for plain CSV."""
        found = []
        if self.separator != ",":
            found.append(f"columns separated by {SEPARATORS[self.separator]}s")
        if self.has_decimal_commas:
            found.append("decimal commas")
        if self.encoding != "utf-8-sig":
            found.append(f"encoding {self.encoding}")
        if self.has_index:
            found.append("the first column, which has no name and counts rows, left out")
        if self.passed_over:
            found.append(f"{self.passed_over} line(s) before the header passed over")
        if self.example:
            found.append(f"numbers such as {self.example!r}")
        if self.has_backslashes:
            found.append("quotes inside of quotes after a backslash")
        if self.times:
            written = (f"{name} ({ORDERS[order]})" if ORDERS[order] else name for name, order in self.times)
            found.append(f"times in {', '.join(written)}")
        return ", ".join(found)


def sniff(head: bytes) -> Dialect:
    """The dialect that the first bytes of a file show."""
    encoding = _encoding(head)
    text = head.decode(encoding, errors="replace")
    lines = text.splitlines()
    if len(head) >= _HEAD and len(lines) > 1:
        lines = lines[:-1]  # it may be cut
    passed_over = _before_header(lines)
    given = _GIVEN.fullmatch(lines[passed_over - 1].removeprefix("\ufeff").strip()) if passed_over else None
    lines = lines[passed_over:]
    header = re.sub(r'"[^"]*"', "", lines[0]) if lines else ""
    separator = given[1] if given and given[1] in SEPARATORS else max(SEPARATORS, key=header.count)
    rows, escaped = (_split(lines, separator, has_backslashes=one) for one in (False, True))
    has_backslashes = _misfits(rows) > 0 and _misfits(escaped) == 0 and '\\"' in text
    rows = escaped if has_backslashes else rows
    cells = [cell.strip() for row in rows[1:] for cell in row]
    commas = any(_COMMA.fullmatch(cell) and (separator != "," or not _GROUPED.fullmatch(cell)) for cell in cells)
    points = any(_POINT.fullmatch(cell) and not _THOUSANDS.fullmatch(cell) for cell in cells)
    example = next((cell for cell in cells if _is_decorated(cell) and not cell.isdecimal()), "")
    decorated = "" if _is_bare(example) or (commas and not points) else example
    times = tuple(_times(rows))
    has_commas, has_index = commas and not points, _has_index(rows)
    return Dialect(encoding, separator, has_commas, has_index, passed_over, decorated, times, has_backslashes)


def _split(lines: Sequence[str], separator: str, *, has_backslashes: bool) -> list[list[str]]:
    try:
        return list(islice(_csv_reader(lines, separator, has_backslashes=has_backslashes), _HEAD_ROWS))
    except csv.Error:
        return []


def _csv_reader(lines: Iterable[str], separator: str, *, has_backslashes: bool) -> Iterator[list[str]]:
    escape = "\\" if has_backslashes else None
    return csv.reader(
        lines, delimiter=separator, skipinitialspace=True, doublequote=not has_backslashes, escapechar=escape
    )


def _misfits(rows: Sequence[Sequence[str]]) -> int:
    """Rows that have other cells than the header; all, where there are none."""
    return sum(bool(row) and len(row) != len(rows[0]) for row in rows) if rows else 1


def _before_header(lines: Sequence[str]) -> int:
    """Lines that are empty, titles, remarks after a #, or say the separator, as spreadsheets do."""
    for count, line in enumerate(lines):
        bare = line.removeprefix("\ufeff").strip()
        if bare and not _GIVEN.fullmatch(bare) and not _is_remark(bare, lines[count + 1 :]):
            return count
    return 0


def _is_remark(line: str, following: Sequence[str]) -> bool:
    """Whether this is no header: a title without a separator, or after a # with others than what follows."""
    after = [one for one in following if one.strip()][:2]
    most = max(SEPARATORS, key=after[0].count) if after else ","
    counts = {one.count(most) for one in after}
    if line.startswith("#"):
        return line.count(most) != after[0].count(most) if after else False
    return not any(one in line for one in SEPARATORS) and len(after) > 1 and len(counts) == 1 and 0 not in counts


def _is_decorated(cell: str) -> bool:
    negative = _NEGATIVE.fullmatch(cell)
    return _DECORATED.fullmatch(negative[1] if negative else cell) is not None


def _is_bare(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return not cell
    return True


def _times(rows: Sequence[Sequence[str]]) -> Iterator[tuple[str, Order]]:
    """Columns in which all cells that are not missing are dates or times, written one way."""
    for i, name in enumerate(rows[0] if rows else ()):
        order = order_of([row[i].strip() for row in rows[1:] if i < len(row) and row[i].strip() not in MISSING])
        if order is not None:
            yield name.strip(), order


def _encoding(head: bytes) -> str:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    zeros = [head[i::2].count(0) for i in (0, 1)]
    if max(zeros) > len(head) // 5 and min(zeros) <= max(zeros) // 10:  # text has no zero bytes, and this every second
        return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    lines = [line for line in head.split(b"\n")[:-1] if not line.isascii()]
    bad = sum(not _is_utf8(line) for line in lines)
    return "cp1252" if bad > 1 and bad == len(lines) else "utf-8-sig"  # one bad row costs that row


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _has_index(rows: Sequence[Sequence[str]]) -> bool:
    if len(rows) < 3 or len(rows[0]) < 2 or rows[0][0].strip():
        return False
    first = [row[0] for row in rows[1:] if row]
    return first == [str(number) for number in range(len(first))]


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
    dialect = sniff(file.peek(_HEAD)[:_HEAD])
    say(dialect.description)
    # bad bytes come through as surrogates, so that they cost their row and no more
    text = io.TextIOWrapper(file, encoding=dialect.encoding, errors="surrogateescape", newline="")
    try:
        for _ in range(dialect.passed_over):
            text.readline()
        reader = _csv_reader(text, dialect.separator, has_backslashes=dialect.has_backslashes)
        rows = _without_csv_errors(reader)
        row_as_json = _row_encoder(next(rows, []), dialect, mapper, at)
        for row in rows:
            if row:
                yield row_as_json(row)
    finally:
        if not file.closed:
            text.detach()  # the file is its owner's to close


class _Unsplit(list[str]):
    """Of a row that the csv module cannot split, the reason."""


def _without_csv_errors(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    """Rows that the csv module cannot split say why."""
    while True:
        try:
            yield next(rows)
        except StopIteration:
            return
        except csv.Error as err:
            yield _Unsplit(
                [f"the row cannot be split into cells: {err}; is a quote never closed, or a cell very long?"]
            )


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
            return _refused((), row[0])
        if len(row) == len(columns) + 1 and not row[-1].strip():
            row.pop()  # a separator after the last cell
        if len(row) != len(columns):
            return _refused(row, f"{len(row)} cells, wanted {len(columns)} as in the header")
        try:
            event = fields(row)
            event["x"] = features(row)
            if mapper.fields.time_features and "ts" in event:
                event["x"] |= mapper.time_features(event["ts"])
            return _encode(event)
        except EventError as err:
            return _refused(row, str(err).removeprefix(f"{at}: "))
        except UnicodeEncodeError:
            return _refused(row, "the row is not UTF-8")

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
    columns: Sequence[str], mapper: Mapper, number: Callable[[str], _Cell], orders: Mapping[str, Order], at: str
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
                event[ours] = JOINT.join(cell or "" for cell in cells)
            elif ours == "y":
                cell = (cells[0] or "").strip()
                event[ours] = cell if CODE.fullmatch(cell) else number(cells[0] or "")
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
    if times:
        plain = _plain_reader(columns, places, mapper, has_commas=dialect.has_decimal_commas)

        def with_times(row: list[str]) -> dict[str, Any]:
            x = plain(row)
            for name in times:
                if isinstance(x[name], str):  # what is no date stays text
                    x[name] = x[name] if (found := seconds_of(x[name], orders[name])) is None else found
            return x

        return with_times
    return _plain_reader(columns, places, mapper, has_commas=dialect.has_decimal_commas)


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


def _numbers(cells: list[str]) -> Sequence[_Cell]:
    """All cells at once when all are ordinary numbers, which is the usual case, and else one by one."""
    try:
        numbers = list(map(float, cells))
    except ValueError:
        return [as_number(cell) for cell in cells]
    if math.isfinite(sum(numbers)) and "_" not in "".join(cells):
        return numbers
    return [as_number(cell) for cell in cells]


def as_number(cell: str) -> _Cell:
    """A cell as a number where it is one, None where it stands for a missing value, and else as it is."""
    try:
        number = float(cell)
    except ValueError:
        bare = cell.strip()
        if _DECORATED.fullmatch(bare):
            return float(bare.translate(_DECORATION))
        negative = _NEGATIVE.fullmatch(bare)
        if negative and _DECORATED.fullmatch(negative[1]):
            return -float(negative[1].translate(_DECORATION))
        return None if bare in MISSING else cell
    if "_" in cell:  # Python's own way to write numbers: 1_000
        return cell
    if math.isfinite(number):
        return number
    return None if math.isnan(number) else math.copysign(_HUGE, number)


def as_number_with_comma(cell: str) -> _Cell:
    """As `as_number`, of a file whose numbers have decimal commas, and points between thousands."""
    bare = cell.strip().strip("$€£¥% \u00a0")
    is_number = _COMMA.fullmatch(bare) or _SPACED.fullmatch(bare)
    return as_number(bare.translate(_POINTS) if is_number else cell)


CODE = re.compile(r"[+-]?0[0-9]+")  # no number is written so: 01 is another class than 1, as it is in JSON


def _refused(row: Sequence[str], problem: str) -> bytes:
    """A row that the decoder will refuse (it has no `x`), with what is wrong, for the reader of the dead letter."""
    cells = ",".join(row)[:_LONGEST_LINE].encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return _encode({"problem": problem, "row": cells})
