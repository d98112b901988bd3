"""The tasks in memory: one row each in arrays over all tasks, and a spill to disk for those not seen lately.

A row's bytes are the same wherever they go: in memory, in the spill, in a snapshot. Nothing is pickled.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field

from streammeta.engine.columns import Column, RowCodec
from streammeta.engine.spill import Spill, TaskKey

__all__ = ["MemorySettings", "TaskTable"]


class MemorySettings(BaseModel, frozen=True, extra="forbid"):
    """How much is kept."""

    max_tasks: int = Field(10_000, ge=1, description="Tasks in memory; the least recently seen go to the spill.")
    window: int = Field(256, ge=8, le=65_536, description="Labelled events remembered of each task.")
    max_features: int = Field(256, ge=1, le=65_536, description="Feature slots; names that come later are ignored.")
    max_classes: int = Field(256, ge=2, le=65_536, description="Classes; events with a further one are refused.")
    max_waiting: int = Field(100_000, ge=0, description="Events kept until their late label comes; oldest go first.")
    spill_directory: Path | None = Field(None, description="Where the spill lives; by default a temporary directory.")


class TaskTable:
    """Rows for tasks, by key, least recently seen first.

    Args:
        columns: the arrays to keep, by name.
        settings: how many rows stay in memory, and where the others go.
        dump_extra: what else belongs to a row (its drift detector), as bytes.
        load_extra: give a row back what ``dump_extra`` returned; empty bytes for a new task.
        on_release: called with the number of each row that stops holding its task.
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
        self._codec = RowCodec(columns)
        self._max_tasks = settings.max_tasks
        self._dump_extra, self._load_extra, self._on_release = dump_extra, load_extra, on_release
        self._rows: OrderedDict[TaskKey, int] = OrderedDict()
        self._free: list[int] = []
        self._used: set[int] = set()  # rows that held a task; the others are all zeros
        self._spill = Spill(settings.spill_directory)
        self._touched: set[TaskKey] = set()
        self.spilled = 0  # tasks sent to the spill since this process began
        self.columns = {name: np.zeros((0, *kind.shape), kind.dtype) for name, kind in columns.items()}

    def __len__(self) -> int:
        """All tasks, in memory and spilled."""
        return len(self._rows) + len(self._spill)

    @property
    def in_memory(self) -> int:
        """Tasks that have a row now."""
        return len(self._rows)

    def touch(self, key: TaskKey) -> tuple[int, bool]:
        """The row of a task, and whether the task is new; the row is now the most recently seen one."""
        if key[0] >= 0:  # below zero are tasks of other processes: they are in their changelogs
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
        self._load_extra(row, self._codec.load(stored, self.columns, row))
        return row, False

    def copy(
        self, keys: Sequence[TaskKey], kinds: Mapping[str, Column] | None = None
    ) -> tuple[dict[str, npt.NDArray[Any]], list[bool]]:
        """Columns of their own with a row for each of these tasks, and whether it is known; nothing here is touched.

        Args:
            keys: the tasks; the row of one that is not known is blank.
            kinds: what the copies are to be like, where that is wider than the columns here.
        """
        wanted = self._codec.kinds if kinds is None else kinds
        columns = {name: np.full((len(keys), *kind.shape), kind.blank, kind.dtype) for name, kind in wanted.items()}
        known = []
        for i, key in enumerate(keys):
            row, stored = self._rows.get(key), None
            if row is None:
                stored = self._spill.get(key)
            known.append(row is not None or stored is not None)
            if stored is not None:
                found: Mapping[str, npt.NDArray[Any]] = self._codec.unpack(stored)
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
        if not over:
            return
        self.spilled += len(over)
        self._spill.put(
            [key for key, _ in over], self._codec.pack(self.columns, [row for _, row in over], self._dump_extra)
        )
        for key, row in over:
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
        """Reserve rows for ``count`` more tasks at once, or for as many as stay in memory."""
        missing = min(count, self._max_tasks) - len(self._free)
        if missing > 0:
            self._grow(missing)

    def place(self, keys: Sequence[TaskKey]) -> list[int]:
        """Blank rows for tasks that come from elsewhere; not touched, and most recently seen in this order."""
        rows = [self._free_row() for _ in keys]
        used = [row for row in rows if row in self._used]
        for name, kind in self._codec.kinds.items():
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
        old, kind = self.columns[name], self._codec.kinds[name]._replace(shape=shape)
        self._codec = RowCodec(self._codec.kinds | {name: kind})
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
            yield key, self._codec.unpack(data)

    def dump(self) -> tuple[list[tuple[int, str, bytes]], dict[int, int]]:
        """Every task with its bytes, least recently seen first, the spilled before all others; and each row's place."""
        tasks = [(*key, data) for key, data in self._spill.items()]
        place = {row: len(tasks) + i for i, row in enumerate(self._rows.values())}
        stored = self._codec.pack(self.columns, [*self._rows.values()], self._dump_extra)
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
            self._load_extra(row, self._codec.load(data, self.columns, row))
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
        for name, kind in self._codec.kinds.items():
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
        for name, kind in self._codec.kinds.items():
            grown = np.zeros((old + more, *kind.shape), kind.dtype)  # zeros cost no memory until they are written
            grown[:old] = self.columns[name]
            self.columns[name] = grown
        self._free = [*range(old + more - 1, old - 1, -1), *self._free]
