"""A topic whose records are single rows of CSV, without a header: the configuration names the columns."""

import csv
import io
import re
from collections.abc import Mapping
from typing import Literal, Self, TypeAlias

from pydantic import BaseModel, Field, model_validator

from streammeta.errors import EventError
from streammeta.event import Record
from streammeta.formats.number import CODE, MISSING, as_number, as_number_with_comma

__all__ = ["CsvSettings", "RowReader"]

_MOST_DIGITS = 300  # of a whole number: more are text
_LARGE = 1e300
_SPECIAL = re.compile('["\r\n\0]')
_WHOLE = re.compile(r"[-+]?\d+")
_Cell: TypeAlias = int | float | str | None


class CsvSettings(BaseModel, frozen=True, extra="forbid"):
    """How rows of a topic are written, with format = "csv"."""

    columns: tuple[str, ...] = Field((), description="The names of a row's cells, in their order; wanted.")
    separator: str = Field(",", min_length=1, max_length=1, description="What stands between two cells.")
    decimal: Literal[".", ","] = Field(".", description="What stands before the decimals of a number.")

    @model_validator(mode="after")
    def _is_possible(self) -> Self:
        if len(set(self.columns)) < len(self.columns) or not all(self.columns):
            raise ValueError(
                f"columns: are {', '.join(map(repr, self.columns))}; wanted a name for each, and each once"
            )
        if self.separator == self.decimal or self.separator in '"\r\n':
            raise ValueError(
                f"separator: is {self.separator!r}, which stands in numbers, or around cells, or ends a row"
            )
        return self


class RowReader:
    """Reads a record's value as one row.

    Args:
        settings: with columns.
    """

    def __init__(self, settings: CsvSettings) -> None:
        self._settings = settings
        self._has_points = settings.decimal == "."
        self._number = as_number if settings.decimal == "." else as_number_with_comma

    def __call__(self, record: Record) -> Mapping[str, _Cell]:
        """The row's cells by their columns; numbers as numbers, but a code such as 007 as text.

        Raises:
            EventError: it is not UTF-8, or not one row of as many cells.
        """
        columns = self._settings.columns
        cells = self._split(record)
        if len(cells) != len(columns):
            raise EventError(
                f"{record.origin}: {len(cells)} cells, wanted {len(columns)} as in [input.csv] columns; is the "
                f"separator {self._settings.separator!r}?"
            )
        return dict(zip(columns, map(self._cell, cells), strict=True))

    def _split(self, record: Record) -> list[str]:
        """The cells of one row; without quotes and ends of lines inside, the separator alone says where they end."""
        try:
            text = (record.value or b"").decode().removeprefix("\ufeff")
            line = text.rstrip("\r\n")
            if line and not _SPECIAL.search(line):
                return line.split(self._settings.separator)
            rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=self._settings.separator))
        except (UnicodeDecodeError, csv.Error) as err:
            raise EventError(f"{record.origin}: not a row of CSV: {str(err)[:200]}") from err
        if len(rows) != 1:
            raise EventError(f"{record.origin}: holds {len(rows)} rows of CSV, wanted one a record")
        return rows[0]

    def _cell(self, cell: str) -> _Cell:
        if self._has_points and "." in cell:  # this and the next are most cells
            try:
                number = float(cell)
            except ValueError:
                pass
            else:
                if -_LARGE < number < _LARGE and "_" not in cell:
                    return number
        if cell.isdecimal() and cell[0] != "0" and len(cell) < _MOST_DIGITS:
            return int(cell)
        bare = cell.strip()
        if bare in MISSING:
            return None
        if CODE.fullmatch(bare):
            return bare
        return int(bare) if _WHOLE.fullmatch(bare) and len(bare) < _MOST_DIGITS else self._number(cell)
