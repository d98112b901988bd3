"""The tasks in memory: one row each in arrays over all tasks, and a spill to disk for those not seen lately.

A row's bytes are the same wherever they go: in memory, in the spill, in a snapshot. Nothing is pickled.
"""

import shutil
import sqlite3
import tempfile
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from streammeta.errors import ConfigError, SnapshotError

__all__ = ["Column", "MemorySettings", "TaskKey", "TaskTable", "roomy"]

_CHUNK = 256  # rows written to the spill at a time
_PRAGMAS = (  # nothing in the file outlives the process
    "page_size = 16384",
    "journal_mode = OFF",
    "synchronous = OFF",
    "locking_mode = EXCLUSIVE",
    "cache_size = -4096",
)
TaskKey: TypeAlias = tuple[int, str]  # partition, tag: a tag seen in two partitions is two tasks


class MemorySettings(BaseModel, frozen=True, extra="forbid"):
    """How much is kept."""

    max_tasks: int = Field(10_000, ge=1, description="Tasks in memory; the least recently seen go to the spill.")
    window: int = Field(256, ge=8, le=65_536, description="Labelled events remembered of each task.")
    max_features: int = Field(256, ge=1, le=65_536, description="Feature slots; names that come later are ignored.")
    max_classes: int = Field(256, ge=2, le=65_536, description="Classes; events with a further one are refused.")
    max_waiting: int = Field(100_000, ge=0, description="Events kept until their late label comes; oldest go first.")
    spill_directory: Path | None = Field(None, description="Where the spill lives; by default a temporary directory.")


class Column(NamedTuple):
    """One array over all tasks; ``shape`` is that of one row."""

    shape: tuple[int, ...]
    dtype: type[np.generic]
    blank: float = 0.0
    filled: str | None = None  # the column that counts what was put into a row, first place first, blanks and all


def roomy(n: int) -> int:
    """The next power of two: columns that grow by doubling grow seldom."""
    return 1 << max(n - 1, 0).bit_length()


class _StoredRow(msgspec.Struct, array_like=True):
    layout: msgspec.Raw  # of a _Layout: the same bytes for all rows that are stored alike
    sizes: list[int]  # places that are stored of each column that says how many are filled
    data: bytes  # the columns, one after the other
    extra: bytes


_Layout: TypeAlias = list[tuple[str, list[int]]]  # names, and shapes of a row


class TaskTable:
    """Rows for tasks, by key, least recently seen first.

    Args:
        columns: the arrays to keep, by name.
        settings: how many rows stay in memory, and where the others go.
        dump_extra: what else belongs to a row (its drift detector), as bytes.
        load_extra: give a row back what ``dump_extra`` returned; empty bytes for a new task.
        on_release: told the number of each row that stops holding its task.
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        settings: MemorySettings,
        *,
        dump_extra: Callable[[int], bytes],
        load_extra: Callable[[int, bytes], None],
        on_release: Callable[[int], None],
    ) -> None:
        self._kinds = dict(columns)
        self._max_tasks = settings.max_tasks
        self._dump_extra, self._load_extra, self._on_release = dump_extra, load_extra, on_release
        self._rows: OrderedDict[TaskKey, int] = OrderedDict()
        self._free: list[int] = []
        self._used: set[int] = set()  # rows that held a task; the others are all zeros
        self._spill = _Spill(settings.spill_directory)
        self._touched: set[TaskKey] = set()
        self.columns = {name: np.zeros((0, *kind.shape), kind.dtype) for name, kind in self._kinds.items()}

    def __len__(self) -> int:
        """All tasks, in memory and spilled."""
        return len(self._rows) + len(self._spill)

    @property
    def in_memory(self) -> int:
        """Tasks that have a row now."""
        return len(self._rows)

    def touch(self, key: TaskKey) -> tuple[int, bool]:
        """The row of a task, and whether the task is new; the row is now the most recently seen one."""
        self._touched.add(key)
        row = self._rows.get(key)
        if row is not None:
            self._rows.move_to_end(key)
            return row, False
        row = self._rows[key] = self._take_row()
        stored = self._spill.pop(key)
        if stored is None:
            self._load_extra(row, b"")
            return row, True
        self._load(row, stored)
        return row, False

    def copy(
        self, keys: Sequence[TaskKey], kinds: Mapping[str, Column] | None = None
    ) -> tuple[dict[str, npt.NDArray[Any]], list[bool]]:
        """Columns of their own with a row for each of these tasks, and whether it is known; nothing here is touched.

        Args:
            keys: the tasks; the row of one that is not known is blank.
            kinds: what the copies are to be like, where that is wider than the columns here.
        """
        wanted = self._kinds if kinds is None else kinds
        columns = {name: np.full((len(keys), *kind.shape), kind.blank, kind.dtype) for name, kind in wanted.items()}
        known = []
        for i, key in enumerate(keys):
            row, stored = self._rows.get(key), None
            if row is None:
                stored = self._spill.get(key)
            known.append(row is not None or stored is not None)
            if stored is not None:
                found: Mapping[str, npt.NDArray[Any]] = _unpack(_decode(stored), self._kinds)
            elif row is not None:
                found = {name: column[row] for name, column in self.columns.items()}
            else:
                continue
            for name, array in found.items():
                here: tuple[int | slice, ...] = (i, *(slice(n) for n in array.shape))
                columns[name][here] = array
        return columns, known

    def shrink(self) -> None:
        """Send the least recently seen tasks to the spill until at most ``max_tasks`` are in memory."""
        over = [*islice(self._rows.items(), max(0, len(self._rows) - self._max_tasks))]
        for begin in range(0, len(over), _CHUNK):
            chunk = over[begin : begin + _CHUNK]
            self._spill.put([key for key, _ in chunk], self._dump([row for _, row in chunk]))
            for key, row in chunk:
                del self._rows[key]
                self._let_go(row)

    def take_touched(self) -> set[TaskKey]:
        """The tasks touched since this was last asked."""
        touched, self._touched = self._touched, set()
        return touched

    def recall(self, key: TaskKey) -> int:
        """The row of a task that is known, brought back from the spill if need be; this does not count as touched."""
        row = self._rows.get(key)
        if row is None:
            row, _ = self.touch(key)
            self._touched.discard(key)
        return row

    def reserve(self, count: int) -> None:
        """Make room for so many more tasks at once, or for as many as stay in memory."""
        missing = min(count, self._max_tasks) - len(self._free)
        if missing > 0:
            self._grow(missing)

    def place(self, keys: Sequence[TaskKey]) -> list[int]:
        """Blank rows for tasks that come from elsewhere; not touched, and most recently seen in this order."""
        rows = [self._free_row() for _ in keys]
        used = [row for row in rows if row in self._used]
        for name, kind in self._kinds.items():
            if kind.filled:
                continue
            not_blank = used if kind.blank == 0 else rows  # memory that was never written to costs nothing
            if not_blank:
                self.columns[name][not_blank] = kind.blank
        self._used.update(rows)
        self._rows.update(zip(keys, rows, strict=True))
        return rows

    def forget(self, partition: int) -> None:
        """Drop every task of a partition: another process has it now."""
        for key in [key for key in self._rows if key[0] == partition]:
            self._let_go(self._rows.pop(key))
        self._spill.forget(partition)
        self._touched = {key for key in self._touched if key[0] != partition}

    def widen(self, name: str, shape: tuple[int, ...]) -> None:
        """Make the rows of a column larger; what was there keeps its place."""
        kind = self._kinds[name]._replace(shape=shape)
        old, self._kinds[name] = self.columns[name], kind
        self.columns[name] = np.zeros((len(old), *shape), kind.dtype)
        if kind.blank != 0:
            self.columns[name][list(self._rows.values())] = kind.blank
        self.columns[name][tuple(slice(n) for n in old.shape)] = old

    def rows(self) -> Iterator[tuple[TaskKey, int]]:
        """Tasks in memory with their rows, least recently seen first."""
        return iter(self._rows.items())

    def stored(self) -> Iterator[tuple[TaskKey, Mapping[str, npt.NDArray[Any]]]]:
        """Spilled tasks with their columns."""
        for key, data in self._spill.items():
            yield key, _unpack(_decode(data), self._kinds)

    def dump(self) -> tuple[list[tuple[int, str, bytes]], dict[int, int]]:
        """Every task with its bytes, least recently seen first, the spilled before all others; and each row's place."""
        tasks = [(*key, data) for key, data in self._spill.items()]
        place = {row: len(tasks) + i for i, row in enumerate(self._rows.values())}
        stored = self._dump([*self._rows.values()])
        return tasks + [(*key, data) for key, data in zip(self._rows, stored, strict=True)], place

    def restore(self, tasks: list[tuple[int, str, bytes]], spilled: int) -> list[int]:
        """Hold these tasks, the first ``spilled`` of them in the spill; returns the row of each one, or -1."""
        found = []
        for i, (partition, tag, data) in enumerate(tasks):
            key = (partition, tag)
            if i < spilled:
                self._spill.put([key], [data])
                found.append(-1)
                continue
            row = self._rows[key] = self._take_row()
            self._load(row, data)
            found.append(row)
        return found

    def close(self) -> None:
        """Let go of the spill."""
        self._spill.close()

    def _let_go(self, row: int) -> None:
        self._on_release(row)
        self._free.append(row)

    def _take_row(self) -> int:
        row = self._free_row()
        used = row in self._used
        for name, kind in self._kinds.items():
            if not kind.filled and (used or kind.blank != 0):
                self.columns[name][row] = kind.blank
        self._used.add(row)
        return row

    def _free_row(self) -> int:
        if not self._free:
            self._grow(max(16, len(next(iter(self.columns.values())))))
        return self._free.pop()

    def _grow(self, more: int) -> None:
        old = len(next(iter(self.columns.values())))
        for name, kind in self._kinds.items():
            grown = np.zeros((old + more, *kind.shape), kind.dtype)  # zeros cost no memory until they are written
            grown[:old] = self.columns[name]
            self.columns[name] = grown
        self._free = [*range(old + more - 1, old - 1, -1), *self._free]

    def _dump(self, rows: Sequence[int]) -> Iterator[bytes]:
        """Rows as bytes, many at once: copying one column of one row at a time costs more than writing them out."""
        layout = msgspec.Raw(msgspec.msgpack.encode([(name, kind.shape) for name, kind in self._kinds.items()]))
        for begin in range(0, len(rows), _CHUNK):
            at = np.array(rows[begin : begin + _CHUNK], np.int64)
            whole = [
                np.ascontiguousarray(self.columns[name][at]) for name, kind in self._kinds.items() if not kind.filled
            ]
            joined = np.concatenate([part.reshape(len(at), -1).view(np.uint8) for part in whole], axis=1)
            cut = [(self.columns[name], self._filled(kind, at)) for name, kind in self._kinds.items() if kind.filled]
            for i, row in enumerate(at.tolist()):
                parts = [column[row, : sizes[i]].tobytes() for column, sizes in cut]
                data = b"".join((joined[i].tobytes(), *parts))
                sizes = [sizes[i] for _, sizes in cut]
                yield msgspec.msgpack.encode(_StoredRow(layout, sizes, data, self._dump_extra(row)))

    def _filled(self, kind: Column, rows: npt.NDArray[np.int64]) -> list[int]:
        counts: list[int] = np.minimum(self.columns[kind.filled or ""][rows], kind.shape[0]).tolist()
        return counts

    def _load(self, row: int, data: bytes) -> None:
        stored = _decode(data)
        for name, array in _unpack(stored, self._kinds).items():
            if self._kinds[name].filled:
                self.columns[name][row, : len(array)] = self._kinds[name].blank  # features that came since
            here: tuple[slice, ...] = (slice(row, row + 1), *(slice(n) for n in array.shape))
            self.columns[name][here] = array
        self._load_extra(row, stored.extra)


def _decode(data: bytes) -> _StoredRow:
    try:
        return msgspec.msgpack.decode(data, type=_StoredRow)
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise SnapshotError(f"the state of a task cannot be read ({err}); restore it from a copy") from err


def _unpack(stored: _StoredRow, kinds: Mapping[str, Column]) -> dict[str, npt.NDArray[Any]]:
    """Arrays of a stored row, in the shapes they had when they were stored; cut where no more was filled."""
    shapes = _shapes(bytes(stored.layout))
    if shapes.keys() != kinds.keys():
        wanted = ", ".join(sorted(kinds))
        raise SnapshotError(f"the state of a task has columns {sorted(shapes)}, wanted {wanted}: other settings?")
    whole, cut = ([name for name, kind in kinds.items() if bool(kind.filled) is cut] for cut in (False, True))
    for name, filled in zip(cut, stored.sizes, strict=False):
        shapes[name] = (min(filled, *shapes[name][:1]), *shapes[name][1:])
    for name, shape in shapes.items():
        full = kinds[name].shape
        if len(shape) != len(full) or not all(0 <= a <= b for a, b in zip(shape, full, strict=True)):
            raise SnapshotError(f"the state of a task has {name} of shape {shape}, wanted {full}: other settings?")
    wanted_size = sum(prod(shapes[name]) * np.dtype(kind.dtype).itemsize for name, kind in kinds.items())
    if len(stored.sizes) != len(cut) or len(stored.data) != wanted_size:
        raise SnapshotError(f"the state of a task has {len(stored.data)} bytes, wanted {wanted_size}: is it damaged?")
    arrays, begin = {}, 0
    for name in (*whole, *cut):
        dtype, count = np.dtype(kinds[name].dtype), prod(shapes[name])
        arrays[name] = np.frombuffer(stored.data, dtype, count, begin).reshape(shapes[name])
        begin += count * dtype.itemsize
    return arrays


def _shapes(layout: bytes) -> dict[str, tuple[int, ...]]:
    try:
        return {name: tuple(shape) for name, shape in msgspec.msgpack.decode(layout, type=_Layout)}
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise SnapshotError(f"the layout of a task's state cannot be read ({err}); restore it from a copy") from err


class _Spill:
    """Rows on disk, by key: an SQLite file that belongs to this process alone and goes away with it."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._base: sqlite3.Connection | None = None
        self._discard: Callable[[], object] = bool  # nothing to let go of yet
        self._keys: dict[TaskKey, int] = {}  # in the order they came, each with its number in the file
        self._next = 0

    def __len__(self) -> int:
        return len(self._keys)

    def put(self, keys: Sequence[TaskKey], states: Iterable[bytes]) -> None:
        base = self._open()
        numbers = range(self._next, self._next + len(keys))
        self._next = numbers.stop
        base.executemany("INSERT INTO task VALUES (?, ?)", zip(numbers, states, strict=True))
        self._drop([self._keys.pop(key) for key in keys if key in self._keys])
        self._keys.update(zip(keys, numbers, strict=True))

    def get(self, key: TaskKey) -> bytes | None:
        return self._fetch(self._keys[key]) if key in self._keys else None

    def pop(self, key: TaskKey) -> bytes | None:
        number = self._keys.pop(key, None)
        if number is None:
            return None
        data = self._fetch(number)
        self._drop([number])
        return data

    def forget(self, partition: int) -> None:
        self._drop([self._keys.pop(key) for key in [key for key in self._keys if key[0] == partition]])

    def items(self) -> Iterator[tuple[TaskKey, bytes]]:
        for key, number in list(self._keys.items()):
            yield key, self._fetch(number)

    def close(self) -> None:
        self._discard()

    def _fetch(self, number: int) -> bytes:
        return bytes(self._open().execute("SELECT state FROM task WHERE number = ?", (number,)).fetchone()[0])

    def _drop(self, numbers: Sequence[int]) -> None:
        if numbers:
            self._open().executemany("DELETE FROM task WHERE number = ?", [(number,) for number in numbers])

    def _open(self) -> sqlite3.Connection:
        if self._base is None:
            try:
                if self._directory is not None:
                    self._directory.mkdir(parents=True, exist_ok=True)
                home = tempfile.mkdtemp(prefix="streammeta-spill-", dir=self._directory)
                # one thread at a time has the engine, but any of them may collect it as garbage, and so close this
                self._base = sqlite3.connect(Path(home) / "tasks.sqlite", isolation_level=None, check_same_thread=False)
            except (OSError, sqlite3.Error) as err:
                where = self._directory or tempfile.gettempdir()
                raise ConfigError(f"[memory] spill_directory: {where} cannot be used ({err}); name another") from err
            self._discard = weakref.finalize(self, _discard, self._base, home)
            for setting in _PRAGMAS:
                self._base.execute(f"PRAGMA {setting}")
            self._base.execute("CREATE TABLE task (number INTEGER PRIMARY KEY, state BLOB)")
            self._base.execute("BEGIN")  # and never a commit: the file is nobody else's, and goes away with the process
        return self._base


def _discard(base: sqlite3.Connection, home: str) -> None:
    base.close()
    shutil.rmtree(home, ignore_errors=True)
