"""Cells of text as numbers: with signs of money, with thousands and decimals as different countries write them.

`as_number` reads `$1,234.50`, `1'234.50`, `₹1,00,000`, `(12)` and `12.5 %`; `as_number_with_comma` reads `1.234,50 €`,
`1 234,5` and `0,84-`, in files where `sniff` found decimal commas. What is no number stays text.
"""

import math
import re
import sys
from typing import NamedTuple, TypeAlias

__all__ = ["CODE", "MISSING", "Cell", "Written", "as_number", "as_number_with_comma", "is_plain", "parse_written"]

MISSING = frozenset(
    (
        "",
        ".",
        "..",
        "--",
        "\u2013",
        "\u2014",
        "(null)",
        "NA",
        "N/A",
        "n/a",
        "#N/A",
        "#NA",
        "<NA>",
        "NaT",
        "-",
        "?",
        "\\N",
    )  # spreadsheets', pandas', databases'
) | frozenset(("null", "NULL", "None", "none", "nan", "NaN", "NAN", "-nan"))
MISSING |= frozenset(("#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#NULL!"))  # a spreadsheet's failed formulas
CODE = re.compile(r"[+-]?0[0-9]+")  # no number is written so: 01 is another class than 1, as it is in JSON

Cell: TypeAlias = float | str | None

_HUGE = sys.float_info.max  # what an infinite cell becomes: JSON has no infinity, and the decoder refuses this
_MONEY = (
    r"[$€£¥₹₽₩₺₴₫₪₦%‰]|R\$|kr\.?|zł|Kč|Fr\.|USD|EUR|GBP|CHF|JPY|CNY|INR|SEK|NOK|DKK|PLN|CZK|HUF|RUB|TRY|BRL|MXN|ZAR|KRW|"
    "CAD|AUD|NZD"
)
_GAP = r"[ \u00a0\u202f]"  # a space, also one that does not break, also a narrow one
_WRITTEN = re.compile(
    rf"(?:(?:{_MONEY}){_GAP}?(?=\())?(?P<open>\()?(?P<sign>[-+\u2212])?{_GAP}?(?:{_MONEY})?{_GAP}?(?P<second>[-+\u2212])?"
    rf"(?P<digits>\d[\d.,'\u2019 \u00a0\u202f]*(?<=\d)|\d|\.\d+){_GAP}?(?:{_MONEY})?{_GAP}?(?P<after>-)?"
    rf"(?P<close>\){_GAP}?(?:{_MONEY})?)?"
)
_DIGIT = re.compile(r"\d")
_POINTED = re.compile(
    r"([1-9]\d{0,2}([,'\u2019 \u00a0\u202f]\d{3})+|\d{1,2}(,\d\d)+,\d{3}|\d+)?(\.\d+)?"
)  # India: 1,00,000
_COMMA = re.compile(r"([1-9]\d{0,2}([.'\u2019 \u00a0\u202f]\d{3})+|\d+),\d+")
_SPACED = re.compile(r"[1-9]\d{0,2}([.'\u2019 \u00a0\u202f]\d{3})+")
_GROUPED = re.compile(r"[1-9]\d{0,2}(,\d{3})+|[1-9]\d?(,\d\d)+,\d{3}")  # 0,078 has decimals
_POINT = re.compile(r"\d*\.\d+|\d{1,3}(,\d\d\d?)*,\d{3}\.\d+")
_THOUSANDS = re.compile(r"\d{1,3}(\.\d{3})+")
_DIGITS_ONLY = {ord(sign): None for sign in ",'\u2019 \u00a0\u202f"}
_POINTS = {ord(sign): None for sign in ".'\u2019 \u00a0\u202f"} | {ord(","): "."}


class Written(NamedTuple):
    """A number as it is written, without its sign and what it is of."""

    is_negative: bool
    digits: str

    @property
    def has_decimal_comma(self) -> bool:
        """Whether its comma can only, or may, stand before decimals."""
        return _COMMA.fullmatch(self.digits) is not None

    @property
    def has_grouping_comma(self) -> bool:
        """Whether its commas may stand between thousands, as in 1,234."""
        return _GROUPED.fullmatch(self.digits) is not None

    @property
    def has_decimal_point(self) -> bool:
        """Whether its point can only stand before decimals."""
        return _POINT.fullmatch(self.digits) is not None and not _THOUSANDS.fullmatch(self.digits)


def parse_written(cell: str) -> Written | None:
    """A number with signs and separators in its parts; None where the cell is none.

    >>> parse_written("-$1,234.50"), parse_written("(1 234,50 €)"), parse_written("12 kg")
    (Written(is_negative=True, digits='1,234.50'), Written(is_negative=True, digits='1 234,50'), None)
    """
    match = _WRITTEN.fullmatch(cell.strip()) if _DIGIT.search(cell) else None
    if match is None or (match["open"] is None) != (match["close"] is None):
        return None
    if match["after"] is not None and match["digits"].isdecimal():
        return None  # a grade, as 4-
    signs = [sign for sign in (match["sign"], match["second"], match["after"], match["open"]) if sign is not None]
    return Written(bool(signs) and signs[0] != "+", match["digits"]) if len(signs) < 2 else None


def is_plain(cell: str) -> bool:
    """Whether Python reads this as a number as it stands, or it is empty."""
    try:
        float(cell)
    except ValueError:
        return not cell
    return True


def as_number(cell: str) -> Cell:
    """A cell as a number where it is one, None where it stands for a missing value, and else as it is."""
    try:
        number = float(cell)
    except ValueError:
        written = parse_written(cell)
        if written is not None and _POINTED.fullmatch(written.digits):
            return _signed(written, written.digits.translate(_DIGITS_ONLY))
        return None if cell.strip() in MISSING else cell
    if "_" in cell:  # Python's own way to write numbers: 1_000
        return cell
    if math.isfinite(number):
        return number
    return None if math.isnan(number) else math.copysign(_HUGE, number)


def as_number_with_comma(cell: str) -> Cell:
    """As `as_number`, of a file whose numbers have decimal commas, and points between thousands."""
    written = parse_written(cell)
    if written is not None and (_COMMA.fullmatch(written.digits) or _SPACED.fullmatch(written.digits)):
        return _signed(written, written.digits.translate(_POINTS))
    return as_number(cell)


def _signed(written: Written, digits: str) -> float:
    return -float(digits) if written.is_negative else float(digits)
