"""A task's row as bytes, and back: the same bytes in the spill, in a snapshot and in the changelog."""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from streammeta.engine.columns import Column, is_adaptable
from streammeta.errors import SnapshotError

__all__ = ["Arrays", "RowCodec", "pack_rows"]

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]
_CHUNK = 256  # rows packed at a time
_NUMBERS: Final = {"int64": "q", "float64": "d"}  # set as Python's numbers where they are single: arrays cost more


def pack_rows(
    columns: Mapping[str, npt.NDArray[Any]], names: Sequence[str], rows: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint8]:
    """The columns of several rows, one after the other, as bytes [N, size of a row]."""
    parts = [np.ascontiguousarray(columns[name][rows]).reshape(len(rows), -1).view(np.uint8) for name in names]
    return np.concatenate(parts, axis=1)


class _StoredRow(msgspec.Struct, array_like=True):
    layout: msgspec.Raw  # of a _Layout: the same bytes for all rows that are stored alike
    sizes: list[int]  # places that are stored of each column that says how many are filled
    data: bytes  # the columns, one after the other: the whole ones, then those
    extra: bytes


_Layout: TypeAlias = list[tuple[str, list[int]]]  # names, and shapes of a row


class _Part(NamedTuple):
    """A column in the bytes of a row."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int  # of a column that is whole
    here: tuple[slice, ...]  # its place in a row, which may be wider by now, or of adaptable columns narrower
    fits: bool  # it is not narrower

    @property
    def place(self) -> int:
        """Bytes of one place: of what the first axis counts."""
        return prod(self.shape[1:]) * self.dtype.itemsize


class _Plan(NamedTuple):
    """Where everything lies in rows of one layout; made, and checked, once."""

    numbers: struct.Struct
    numbered: list[str]  # the columns of ``numbers``
    whole: list[_Part]
    cut: list[_Part]
    size: int  # of the numbers and whole columns

    def parts(self, stored: _StoredRow) -> Iterator[tuple[_Part, npt.NDArray[Any]]]:
        """The arrays of a row; raises SnapshotError when it has other bytes than its layout says."""
        counts, data = stored.sizes, stored.data
        wanted = self.size + sum(part.place * count for part, count in zip(self.cut, counts, strict=False))
        fits = all(0 <= count <= part.shape[0] for part, count in zip(self.cut, counts, strict=False))
        if len(counts) != len(self.cut) or len(data) != wanted or not fits:
            raise SnapshotError(f"the state of a task has {len(data)} bytes, wanted {wanted}: is it damaged?")
        for part in self.whole:
            array = np.frombuffer(data, part.dtype, prod(part.shape), part.begin).reshape(part.shape)
            yield part, array if part.fits else array[part.here]
        begin = self.size
        for part, count in zip(self.cut, counts, strict=True):
            shape = (count, *part.shape[1:])
            yield part, np.frombuffer(data, part.dtype, prod(shape), begin).reshape(shape)
            begin += part.place * count


class RowCodec:
    """Rows of such columns as bytes, and back. Columns may have become wider since.

    Args:
        kinds: the columns.
        optional: those that a row may do without; none that is cut.
        unsure: whole columns that rows from elsewhere may have and these not, which are left, or that may be only here.
    """

    def __init__(
        self, kinds: Mapping[str, Column], optional: Sequence[str] = (), unsure: Mapping[str, Column] | None = None
    ) -> None:
        self.kinds, self.optional, self.unsure = dict(kinds), tuple(optional), dict(unsure or {})
        self._whole = [name for name, kind in self.kinds.items() if not kind.filled]
        self._light = [name for name in self._whole if name not in self.optional]
        cut = [name for name, kind in self.kinds.items() if kind.filled]
        self._layout, self._light_layout = (_layout(kinds, {*names, *cut}) for names in (self._whole, self._light))
        self._plans: dict[bytes, _Plan] = {}

    def pack(
        self,
        columns: Mapping[str, npt.NDArray[Any]],
        rows: Sequence[int],
        extra: Callable[[int], bytes],
        light: npt.NDArray[np.bool_] | None = None,
    ) -> Iterator[bytes]:
        """Rows as bytes, many at once: copying one column of one row at a time costs more than writing them out.

        Args:
            columns: of the task table.
            rows: [n]
            extra: what else belongs to a row.
            light: which of the rows [n] do without the optional columns; None: none of them.
        """
        for begin in range(0, len(rows), _CHUNK):
            at = np.array(rows[begin : begin + _CHUNK], np.int64)
            is_light = np.zeros(at.size, np.bool_) if light is None else light[begin : begin + _CHUNK]
            whole = iter(() if is_light.all() else pack_rows(columns, self._whole, at[~is_light]))
            short = iter(pack_rows(columns, self._light, at[is_light]) if is_light.any() else ())
            cut = [
                (columns[name], np.minimum(columns[kind.filled][at], kind.shape[0]).tolist())
                for name, kind in self.kinds.items()
                if kind.filled
            ]
            for i, (row, without) in enumerate(zip(at.tolist(), is_light.tolist(), strict=True)):
                sizes = [counts[i] for _, counts in cut]
                parts = [column[row, :size].tobytes() for (column, _), size in zip(cut, sizes, strict=True)]
                data = b"".join((next(short if without else whole).tobytes(), *parts))
                layout = self._light_layout if without else self._layout
                yield msgspec.msgpack.encode(_StoredRow(layout, sizes, data, extra(row)))

    def unpack(self, data: bytes) -> Arrays:
        """The columns of one row, in the shapes they had, those that it has; cut where no more was filled.

        Raises:
            SnapshotError: they are not of these columns, or damaged.
        """
        stored = _decode(data)
        plan = self._plan(bytes(stored.layout))
        found = {part.name: array for part, array in plan.parts(stored)}
        numbers = plan.numbers.unpack_from(stored.data)
        return found | {n: np.array(v, self.kinds[n].dtype) for n, v in zip(plan.numbered, numbers, strict=True)}

    def rewrite(self, data: bytes, changed: Callable[[Arrays], Arrays]) -> bytes:
        """One row with other columns, or others' values; where columns are cut they stay as they are.

        Raises:
            SnapshotError: as ``unpack``.
        """
        stored, found = _decode(data), self.unpack(data)
        cut = {name: array for name, array in found.items() if self.kinds[name].filled}
        shapes = _shapes(bytes(stored.layout))
        whole = changed({name: array for name, array in found.items() if name not in cut})
        layout = {name: array.shape for name, array in whole.items()} | {name: shapes[name] for name in cut}
        values = b"".join(array.tobytes() for array in (*whole.values(), *cut.values()))
        packed = msgspec.Raw(msgspec.msgpack.encode(list(layout.items())))
        return msgspec.msgpack.encode(_StoredRow(packed, stored.sizes, values, stored.extra))

    def load(self, data: bytes, columns: Mapping[str, npt.NDArray[Any]], row: int) -> bytes:
        """Put one row into a row of ``columns`` that is blank but where columns are cut; returns what else it had.

        Raises:
            SnapshotError: as ``unpack``.
        """
        stored = _decode(data)
        plan = self._plan(bytes(stored.layout))
        for part, array in plan.parts(stored):
            into = columns[part.name][row, ...]
            if self.kinds[part.name].filled:
                into = into[: len(array)]
                if array.shape != into.shape:
                    into[:] = self.kinds[part.name].blank  # features that came since
            into[part.here if array.shape != into.shape else ...] = array
        for name, number in zip(plan.numbered, plan.numbers.unpack_from(stored.data), strict=True):
            columns[name][row] = number
        return stored.extra

    def _plan(self, layout: bytes) -> _Plan:
        found = self._plans.get(layout)
        if found is None:
            found = self._plans[layout] = self._made(_shapes(layout))
        return found

    def _made(self, shapes: Mapping[str, tuple[int, ...]]) -> _Plan:
        kinds, unsure = self.kinds, dict(self.unsure)
        unsure |= {name: Column(shape, np.float64) for name, shape in shapes.items() if is_adaptable(name)}
        unsure |= {name: kind for name, kind in kinds.items() if is_adaptable(name)}
        known = kinds.keys() | unsure.keys()
        if not kinds.keys() - set(self.optional) - unsure.keys() <= shapes.keys() <= known:
            wanted = ", ".join(sorted(kinds))
            raise SnapshotError(f"the state of a task has columns {sorted(shapes)}, wanted {wanted}: other settings?")
        whole, cut, numbered, formats, begin = list[_Part](), list[_Part](), list[str](), ["<"], 0
        for name, shape in shapes.items():
            kind = kinds[name] if name in kinds else unsure[name]
            full, dtype = kind.shape, np.dtype(kind.dtype)
            fits = len(shape) == len(full) and all(a >= 0 for a in shape)
            if not fits or not (is_adaptable(name) or all(a <= b for a, b in zip(shape, full, strict=True))):
                raise SnapshotError(f"the state of a task has {name} of shape {shape}, wanted {full}: other settings?")
            here = tuple(slice(min(a, b)) for a, b in zip(shape, full, strict=True))
            part = _Part(name, dtype, shape, begin, here, fits=all(a <= b for a, b in zip(shape, full, strict=True)))
            size = prod(shape) * dtype.itemsize
            if kind.filled:
                cut.append(part._replace(here=(slice(None), *part.here[1:])))
                continue
            if shape == () and dtype.name in _NUMBERS:
                numbered.append(name)
                formats.append(_NUMBERS[dtype.name])
            else:
                if name in kinds:
                    whole.append(part)
                formats.append(f"{size}x")
            begin += size
        return _Plan(struct.Struct("".join(formats)), numbered, whole, cut, begin)


def _layout(kinds: Mapping[str, Column], names: set[str]) -> msgspec.Raw:
    """The layout of rows that have these columns, in the order of ``kinds``."""
    return msgspec.Raw(msgspec.msgpack.encode([(name, kind.shape) for name, kind in kinds.items() if name in names]))


def _decode(data: bytes) -> _StoredRow:
    try:
        return msgspec.msgpack.decode(data, type=_StoredRow)
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise SnapshotError(f"the state of a task cannot be read ({err}); restore it from a copy") from err


def _shapes(layout: bytes) -> dict[str, tuple[int, ...]]:
    try:
        return {name: tuple(shape) for name, shape in msgspec.msgpack.decode(layout, type=_Layout)}
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise SnapshotError(f"the layout of a task's state cannot be read ({err}); restore it from a copy") from err
