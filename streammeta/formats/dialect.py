"""How a text file of rows and columns is written, found out by its first bytes.

Its encoding (UTF-8; UTF-16 and UTF-32 by a byte order mark, UTF-16 by its zero bytes too; else Windows-1252 where UTF-8
does not fit), its separator (of comma, semicolon, tab and bar the one that the header has most of), whether numbers
have decimal commas, how quotes inside of quotes are written, which columns are dates or codes, whether the first column
is the index that pandas writes without a name, and what is beside the rows: titles, remarks, a row of units.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from streammeta.formats.moment import ORDERS, Order, order_of
from streammeta.formats.number import CODE, MISSING, as_number, is_plain, parse_written

__all__ = ["HEAD", "SEPARATORS", "UTF_8", "Dialect", "encoding_of", "has_units", "read_csv", "sniff"]

HEAD = 65_536  # bytes by which the dialect is decided
UTF_8 = "utf-8-sig"  # with a byte order mark or without
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
_HEAD_ROWS = 200
_SHORTEST_CODE = 3  # digits; 05 is an hour or a month
_PADDED = re.compile(r"[^,;\t|\s][^,;\t|]*([,;\t|])\1+")
_TITLES = 10  # lines before a header, at most
_GIVEN = re.compile(r"sep=(.)")
_FRACTION = re.compile(r"-\d+(\.\d+)?|\d+\.\d+")


@dataclass(frozen=True)
class Dialect:
    """How a file of rows and columns is written."""

    encoding: str = UTF_8
    separator: str = ","
    has_decimal_commas: bool = False
    has_index: bool = False  # the first column has no name and counts rows
    passed_over: int = 0  # lines before the header
    example: str = ""  # a number with a sign or with thousands, as "$1,234.50" or "12 %"
    times: tuple[tuple[str, Order], ...] = ()  # columns of dates or times, and how they are written
    has_backslashes: bool = False  # before quotes inside of quotes, where others double the quote
    has_remarks: bool = False  # lines after a #, before the header and so perhaps after it
    remarks: int = 0  # of these below the header, as far as was looked
    has_units: bool = False  # the first row after the header says what columns are measured in
    codes: tuple[str, ...] = ()  # columns with numbers such as 01067, which are none
    warning: str = ""  # what looks wrong with the header

    @property
    def description(self) -> str:
        """What was taken for what, in one line; "" for plain CSV."""
        remarks = ", and lines after a # below it" if self.remarks else ""
        times = (f"{name} ({ORDERS[order]})" if ORDERS[order] else name for name, order in self.times)
        found = {
            f"columns separated by {SEPARATORS[self.separator]}s": self.separator != ",",
            "decimal commas": self.has_decimal_commas,
            f"encoding {self.encoding}": self.encoding != UTF_8,
            "the first column, which has no name and counts rows, left out": self.has_index,
            f"{self.passed_over} line(s) before the header passed over{remarks}": self.passed_over,
            "a row of units after the header passed over": self.has_units,
            f"numbers such as {self.example!r}": self.example,
            "quotes inside of quotes after a backslash": self.has_backslashes,
            f"times in {', '.join(times)}": self.times,
            f"codes with leading zeros, which are text, in {', '.join(self.codes)}": self.codes,
            self.warning: self.warning,
        }
        return ", ".join(text for text, is_so in found.items() if is_so)


def sniff(head: bytes) -> Dialect:
    """The dialect that the first bytes of a file show."""
    encoding = encoding_of(head)
    # ends of lines as the csv module has them; `splitlines` knows others, as U+2028, which stand in cells
    text = io.StringIO(head.decode(encoding, errors="replace"), newline=None)
    lines = [line.rstrip("\n") for line in text]
    if len(head) >= HEAD and len(lines) > 1:
        lines = lines[:-1]  # it may be cut
    passed_over = _before_header(lines)
    before, lines = lines[:passed_over], lines[passed_over:]
    separator = _separator(before, lines)
    rows, escaped = (_split(lines, separator, has_backslashes=one) for one in (False, True))
    has_backslashes = _misfits(rows) > 0 and _misfits(escaped) == 0 and any('\\"' in line for line in lines)
    rows = escaped if has_backslashes else rows
    units = has_units(rows)
    if units:
        del rows[1]
    has_commas, example = _numbers([cell.strip() for row in rows[1:] for cell in row], separator)
    return Dialect(
        encoding,
        separator,
        has_commas,
        _has_index(rows),
        passed_over,
        example,
        tuple(_times(rows)),
        has_backslashes,
        has_remarks=any(map(_begins_with_hash, before)),
        remarks=sum(map(_begins_with_hash, lines[1:])) if any(map(_begins_with_hash, before)) else 0,
        has_units=units,
        codes=tuple(_codes(rows)),
        warning=_warning(rows[0] if rows else ()),
    )


def read_csv(lines: Iterable[str], separator: str, *, has_backslashes: bool) -> Iterator[list[str]]:
    """The csv module's reader of such lines."""
    escape = "\\" if has_backslashes else None
    return csv.reader(
        lines, delimiter=separator, skipinitialspace=True, doublequote=not has_backslashes, escapechar=escape
    )


def has_units(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row after the header is no record, but says what columns are measured in.

    It has no number, a text where all others of the column are numbers or times, and that text nowhere else.
    """
    if len(rows) < 4 or len(rows[1]) != len(rows[0]):
        return False
    columns = [
        (first.strip(), {row[i].strip() for row in rows[2:] if i < len(row)} - MISSING)
        for i, first in enumerate(rows[1])
    ]
    if any(_is_number(first) for first, _ in columns):
        return False
    measured = [(first, rest) for first, rest in columns if first not in MISSING and rest and _are_measured(rest)]
    others = [(first, rest) for first, rest in columns if first not in MISSING and (first, rest) not in measured]
    return len(measured) > len(others) and not any(first in rest for first, rest in others)


def _are_measured(cells: set[str]) -> bool:
    return all(map(_is_number, cells)) or order_of([*cells, *cells]) is not None


def _is_number(cell: str) -> bool:
    return (is_plain(cell) and bool(cell)) or parse_written(cell) is not None


def _separator(before: Sequence[str], lines: Sequence[str]) -> str:
    """The one that a line before the header says, else the one that the header has most of."""
    given = _GIVEN.fullmatch(before[-1].removeprefix("\ufeff").strip()) if before else None
    header = re.sub(r'"[^"]*"', "", lines[0]) if lines else ""
    return given[1] if given and given[1] in SEPARATORS else max(SEPARATORS, key=header.count)


def _numbers(cells: Sequence[str], separator: str) -> tuple[bool, str]:
    """Whether numbers have decimal commas, and one with a sign or with thousands, "" where that needs no word."""
    written = [(cell, number) for cell in cells if (number := parse_written(cell)) is not None]
    commas = any(one.has_decimal_comma and (separator != "," or not one.has_grouping_comma) for _, one in written)
    points = any(one.has_decimal_point for _, one in written)
    example = next((cell for cell, _ in written if not is_plain(cell) and isinstance(as_number(cell), float)), "")
    return commas and not points, "" if commas and not points else example


def _codes(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns in which a number begins with a zero: postal codes, article numbers."""
    for i, name in enumerate(rows[0] if rows else ()):
        cells = [row[i].strip() for row in rows[1:] if i < len(row)]
        if any(len(cell) >= _SHORTEST_CODE and CODE.fullmatch(cell) for cell in cells):
            yield name.strip()


def _warning(header: Sequence[str]) -> str:
    """What looks as if the first row were no header, or its separator another one; "" for nothing."""
    numbers = [name.strip() for name in header if _FRACTION.fullmatch(name.strip())]
    if numbers and len(numbers) < len(header):
        return f"the first row, taken for names, has {', '.join(numbers[:3])}: is it data?"
    if len(header) == 1 and re.search(r"\w[ ^:~/&!#]+\w", header[0]):
        return f"one column, {header[0].strip()[:60]!r}: no comma, semicolon, tab or bar separates others"
    return ""


def _begins_with_hash(line: str) -> bool:
    return line.removeprefix("\ufeff").lstrip().startswith("#")


def _split(lines: Sequence[str], separator: str, *, has_backslashes: bool) -> list[list[str]]:
    try:
        return list(islice(read_csv(lines, separator, has_backslashes=has_backslashes), _HEAD_ROWS))
    except csv.Error:
        return []


def _misfits(rows: Sequence[Sequence[str]]) -> int:
    """Rows that have other cells than the header; all, where there are none."""
    return sum(bool(row) and len(row) != len(rows[0]) for row in rows) if rows else 1


def _before_header(lines: Sequence[str]) -> int:
    """Lines that are empty, titles, remarks after a #, or say the separator, as spreadsheets do."""
    for count, line in enumerate(lines):
        bare = line.removeprefix("\ufeff").strip()
        is_empty = not bare.strip("".join(SEPARATORS) + " ")
        if not is_empty and not _GIVEN.fullmatch(bare) and not _is_remark(bare, lines[count + 1 :]):
            return count
    return 0


def _is_remark(line: str, following: Sequence[str]) -> bool:
    """Whether this is no header: a title without a separator, or after a # with others than what follows."""
    rest = [one for one in following if one.strip()]
    after = ([one for one in rest if not one.lstrip().startswith("#")] if line.startswith("#") else rest)[:2]
    most = max(SEPARATORS, key=after[0].count) if after else ","
    counts = {one.count(most) for one in after}
    if line.startswith("#"):
        return line.count(most) != after[0].count(most) if after else False
    if _PADDED.fullmatch(line):  # a title in the first cell, and the rest of the row empty, as a spreadsheet saves it
        return any(len([cell for cell in one.split(line[-1]) if cell.strip()]) > 1 for one in rest[:_TITLES])
    return not any(one in line for one in SEPARATORS) and len(after) > 1 and len(counts) == 1 and 0 not in counts


def _times(rows: Sequence[Sequence[str]]) -> Iterator[tuple[str, Order]]:
    """Columns in which all cells that are not missing are dates or times, written one way."""
    for i, name in enumerate(rows[0] if rows else ()):
        order = order_of([row[i].strip() for row in rows[1:] if i < len(row) and row[i].strip() not in MISSING])
        if order is not None:
            yield name.strip(), order


def encoding_of(head: bytes) -> str:
    """The encoding of a text file that begins with these bytes."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):  # the one begins as UTF-16's does
        return "utf-32"
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    zeros = [head[i::2].count(0) for i in (0, 1)]
    if max(zeros) > len(head) // 5 and min(zeros) <= max(zeros) // 10:  # text has no zero bytes, and this every second
        return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    whole = re.split(rb"\r\n?|\n", head)[:-1]
    lines = [line for line in whole if not line.isascii()]
    bad = [line for line in lines if not _is_utf8(line)]
    is_one_row = len(bad) == 1 and bad != whole[:1]  # which costs that row; a bad header would cost them all
    return "cp1252" if bad and len(bad) == len(lines) and not is_one_row else UTF_8


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
