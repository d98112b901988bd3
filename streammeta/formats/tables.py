"""Tables that are no text, row by row: Parquet and Arrow (Feather) by pyarrow, Excel by openpyxl; both are extras."""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from itertools import chain, islice
from typing import Any, BinaryIO, TypeAlias

import msgspec

from streammeta.errors import ConfigError, TransportError
from streammeta.formats.delimited import TOTALS, is_total
from streammeta.formats.dialect import has_units
from streammeta.formats.fields import OPTIONS, check_columns
from streammeta.formats.mapping import Mapper, encode
from streammeta.formats.number import MISSING
from streammeta.formats.texts import read_texts

__all__ = ["TABLES", "read_table", "require"]

TABLES: Mapping[str, str] = {
    ".parquet": "Parquet",
    ".feather": "Arrow",
    ".arrow": "Arrow",
    ".arrows": "Arrow",
    ".xlsx": "Excel",
    ".xlsm": "Excel",
}
_Reader: TypeAlias = Callable[[BinaryIO, Mapper, str, Callable[[str], None]], Iterator[dict[str, Any] | str]]
_BATCH_ROWS = 4096
_HEAD_ROWS = 20  # of a sheet, in which the header has to be
_TEXT_ROWS = 200  # by which it is decided what texts are
_encode = msgspec.json.Encoder().encode
_PANDAS_INDEX = "__index_level_"


def require(package: str, extra: str, what: str) -> Any:  # noqa: ANN401 a module
    """An optional package.

    Args:
        package: its name, to import.
        extra: of streammeta, that brings it.
        what: it is needed for, which begins the message.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return import_module(package)
    except ImportError as err:
        name = package.partition(".")[0]
        raise ConfigError(
            f"{what} needs the package {name}, which is not installed; pip install 'streammeta[{extra}]'"
        ) from err


def read_table(
    file: BinaryIO, form: str, mapper: Mapper, name: str, at: str, say: Callable[[str], None]
) -> Iterator[bytes]:
    """Each row of a table as an event's JSON.

    Args:
        file: the open file, unpacked and seekable.
        form: "Parquet", "Arrow" or "Excel".
        mapper: knows which columns are what.
        name: the file's, for the origins in messages.
        at: the file's path, for messages.
        say: is given what had to be left out, and what texts were found to be.

    Raises:
        ConfigError: the package that reads it is not installed.
        TransportError: it is damaged, or lacks a column that the mapping asks for.
    """
    readers: Mapping[str, _Reader] = {"Parquet": _parquet, "Arrow": _arrow, "Excel": _excel}
    rows = _read(readers[form](file, mapper, at, say), form, at)
    first = list(islice(rows, _TEXT_ROWS))
    mapper, found = read_texts((row for row in first if isinstance(row, dict)), mapper)
    say(found)
    for number, row in enumerate(chain(first, rows)):
        yield _encode({"problem": row}) if isinstance(row, str) else encode(mapper, row, f"{name}/0/{number}")


def _read(rows: Iterator[dict[str, Any] | str], form: str, at: str) -> Iterator[dict[str, Any] | str]:
    """The same rows; a library's error as one of ours."""
    number = -1
    while True:
        try:
            row = next(rows, None)
        except (TransportError, ConfigError):
            raise
        except Exception as err:  # each library has a dozen of its own for damage
            raise TransportError(
                f"{at}: cannot be read as {form} at row {number + 1} ({str(err)[:200]}); it is damaged, cut off, or "
                "of another kind"
            ) from err
        if row is None:
            return
        number += 1
        yield row


def _parquet(file: BinaryIO, mapper: Mapper, at: str, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    parquet = require("pyarrow.parquet", "files", f"{at}: Parquet")
    source = parquet.ParquetFile(file)
    kept = _columns(source.schema_arrow, mapper, at, say)
    for batch in source.iter_batches(_BATCH_ROWS, columns=kept):
        yield from _rows(batch)


def _arrow(file: BinaryIO, mapper: Mapper, at: str, say: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    ipc = require("pyarrow.ipc", "files", f"{at}: Arrow")
    start = file.read(6)
    file.seek(0)
    if start == b"ARROW1":
        reader = ipc.open_file(file)
        batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
    else:
        reader = ipc.open_stream(file)
        batches = iter(reader)
    kept = _columns(reader.schema, mapper, at, say)
    for batch in batches:
        yield from _rows(batch.select(kept))


def _columns(schema: Any, mapper: Mapper, at: str, say: Callable[[str], None]) -> list[str]:  # noqa: ANN401 as above
    """The columns but the index that pandas writes along, and bytes, which are no feature."""
    kept = [name for name in schema.names if not name.startswith(_PANDAS_INDEX)]
    check_columns(kept, mapper.fields, at, nested=[name for one in schema for name in _paths(one, one.name)])
    used = {name for option in OPTIONS for name in mapper.columns(option)}
    binary = [one.name for one in schema if one.name in kept and one.name not in used and _is_bytes(one.type)]
    if binary:
        say(f"left out, as bytes are no feature: {', '.join(binary)}")
    return [name for name in kept if name not in binary]


def _paths(field: Any, path: str) -> Iterator[str]:  # noqa: ANN401 as above
    """The dotted names of what is inside of a column of objects."""
    for inner in field.flatten() if str(field.type).startswith("struct<") else ():
        inside = f"{path}.{inner.name.removeprefix(f'{field.name}.')}"
        yield inside
        yield from _paths(inner, inside)


def _is_bytes(kind: Any) -> bool:  # noqa: ANN401 pyarrow has no types
    types = require("pyarrow", "files", "Arrow").types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def _rows(batch: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 pyarrow has no types
    """Python values; times of nanoseconds lose what is below a microsecond, which Python does not have."""
    arrow = require("pyarrow", "files", "Arrow")
    columns = []
    for column in batch.columns:
        kind = column.type
        if arrow.types.is_timestamp(kind) and kind.unit == "ns":
            column = column.cast(arrow.timestamp("us", kind.tz), safe=False)  # noqa: PLW2901
        elif arrow.types.is_duration(kind) and kind.unit == "ns":
            column = column.cast(arrow.duration("us"), safe=False)  # noqa: PLW2901
        columns.append(column)
    yield from arrow.RecordBatch.from_arrays(columns, names=batch.schema.names).to_pylist()


def _excel(file: BinaryIO, mapper: Mapper, at: str, say: Callable[[str], None]) -> Iterator[dict[str, Any] | str]:
    """The first sheet; its first row of several cells has the names, what is before it is a title.

    A row that is none comes as the reason.
    """
    openpyxl = require("openpyxl", "files", f"{at}: Excel")
    book = openpyxl.load_workbook(file, read_only=True, data_only=True)
    try:
        sheet = book.worksheets[0]
        rows = sheet.iter_rows(values_only=True)
        head = list(islice(rows, _HEAD_ROWS))
        widths = [sum(cell is not None for cell in row) for row in head]
        begin = next((i for i, width in enumerate(widths) if width > 1), 0)
        if begin:
            say(f"{begin} row(s) before the header passed over")
        header, rows = list(head[begin]) if head else [], chain(head[begin + 1 :], rows)
        while header and header[-1] is None:
            header.pop()
        names = [f"column_{i}" if one is None else str(one).strip() for i, one in enumerate(header)]
        check_columns(names, mapper.fields, at)
        first = list(islice(rows, _HEAD_ROWS))
        if has_units([names, *([str("" if one is None else one) for one in row[: len(names)]] for row in first)]):
            say("a row of units after the header passed over")
            del first[0]
        begin = int(header[:1] == [None] and len(first) > 1 and [row[0] for row in first] == list(range(len(first))))
        if begin:
            say("the first column, which has no name and counts rows, left out")
        for cells, is_last in _filled(chain(first, rows), len(names)):
            row = dict(zip(names[begin:], cells[begin:], strict=False))
            yield TOTALS if is_total(cells, is_last=is_last) else row
    finally:
        book.close()


def _filled(rows: Iterator[tuple[Any, ...]], width: int) -> Iterator[tuple[list[Any], bool]]:
    """The cells of rows that have any, each with whether no such row follows."""
    before: list[Any] | None = None
    for row in rows:
        cells = [None if isinstance(one, str) and one.strip() in MISSING else one for one in row[:width]]
        if any(one is not None for one in cells):
            if before is not None:
                yield before, False
            before = cells
        elif before is not None:
            yield before, True
            before = None
    if before is not None:
        yield before, True
