"""The tasks in memory: one row each in arrays over all tasks, and a spill to disk for those not seen lately.

A row's bytes are the same wherever they go: in memory, in the spill, in a snapshot. Nothing is pickled.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field, field_validator

from streammeta.engine.columns import Column, Columns
from streammeta.engine.presence import ForgetAfter, parse_forget_after
from streammeta.engine.row_codec import RowCodec
from streammeta.engine.spill import Spill, TaskKey

__all__ = ["IN_SPILL", "MemorySettings", "TaskTable"]


IN_SPILL = -2  # in place of a row
_KNOWN_TASKS = 100_000  # of a partition, 1 kB of spill each where they are young


class MemorySettings(BaseModel, frozen=True, extra="forbid"):
    """How much is kept."""

    max_tasks: int = Field(10_000, ge=1, description="Tasks in memory; the least recently seen go to the spill.")
    max_known_tasks: int | None = Field(
        None,
        ge=1,
        description="Tasks known of each partition, in memory, in the spill and in the state topic; of more, those "
        "seen least recently are forgotten. By default 100,000, or max_tasks where that is more.",
    )
    forget_after: int | str = Field(
        "never",
        description="A task is forgotten after so many events of its partition without one of it (1000000), or after "
        'so long by their time stamps ("12h", "30d"); "never": not before there are more than max_known_tasks.',
    )
    window: int = Field(256, ge=8, le=65_536, description="Labelled events remembered of each task.")
    max_features: int = Field(256, ge=1, le=65_536, description="Feature slots; names that come later are ignored.")
    max_classes: int = Field(256, ge=2, le=65_536, description="Classes; events with a further one are refused.")
    max_waiting: int = Field(100_000, ge=0, description="Events kept until their late label comes; oldest go first.")
    spill_directory: Path | None = Field(None, description="Where the spill lives; by default a temporary directory.")

    @field_validator("forget_after")
    @classmethod
    def _is_a_span(cls, value: int | str) -> int | str:
        parse_forget_after(value)
        return value

    @property
    def known_tasks(self) -> int:
        """``max_known_tasks``, with its default."""
        return max(_KNOWN_TASKS, self.max_tasks) if self.max_known_tasks is None else self.max_known_tasks

    @property
    def forgotten_after(self) -> ForgetAfter:
        """``forget_after`` as numbers."""
        return parse_forget_after(self.forget_after)


class TaskTable:
    """Rows for tasks, by key, least recently seen first.

    Args:
        columns: the arrays to keep, by name.
        settings: how many rows stay in memory, and where the others go.
        dump_extra: what else belongs to a row (its drift detector), as bytes.
        load_extra: give a row back what ``dump_extra`` returned; empty bytes for a new task.
        on_release: called with the number of each row that stops holding its task.
        derived: columns that some rows can do without, because they are derived again when the task is next seen.
        leave_out_derived: say which of these rows [n] go to the spill without them, and mark those.
        unsure: columns that a saved row may have and we not, or we and it not.

    Attributes:
        in_rows: the row of each task that has one.
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        settings: MemorySettings,
        *,
        dump_extra: Callable[[int], bytes],
        load_extra: Callable[[int, bytes], None],
        on_release: Callable[[int], None],
        derived: Sequence[str] = (),
        leave_out_derived: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.bool_]] | None = None,
        unsure: Mapping[str, Column] | None = None,
    ) -> None:
        self._codec = RowCodec(columns, optional=derived, unsure=unsure)
        self._leave_out_derived = leave_out_derived
        self._max_tasks = settings.max_tasks
        self._dump_extra, self._load_extra, self._on_release = dump_extra, load_extra, on_release
        self._rows: OrderedDict[TaskKey, int] = OrderedDict()
        self.in_rows: Mapping[TaskKey, int] = self._rows
        self._free: list[int] = []
        self._used: set[int] = set()  # rows that held a task; the others are all zeros
        self._spill = Spill(settings.spill_directory)
        self._touched: set[TaskKey] = set()
        self.leaving: dict[TaskKey, None] = {}  # forgotten, in this order; ``sweep`` gives their rows back
        self._forgotten: list[TaskKey] = []  # since this was last asked
        self.spilled = 0  # tasks sent to the spill since this process began
        self.columns = Columns.blank(columns, 0)

    def __len__(self) -> int:
        """All tasks, in memory and spilled, but for those that are forgotten."""
        return len(self._rows) + len(self._spill) - len(self.leaving)

    @property
    def in_memory(self) -> int:
        """Tasks that have a row now."""
        return len(self._rows)

    @property
    def all_in_memory(self) -> bool:
        """Whether no task is in the spill: one without a row is not known."""
        return not len(self._spill)

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

    def touch_all(self, keys: Sequence[TaskKey]) -> None:
        """As ``touch`` of each of these tasks, all of one partition and each with a row, in this order."""
        if keys and keys[0][0] >= 0:
            self._touched.update(keys)
        deque(map(self._rows.move_to_end, keys), maxlen=0)

    def copy(self, keys: Sequence[TaskKey], kinds: Mapping[str, Column] | None = None) -> tuple[Columns, list[bool]]:
        """Columns of their own with a row for each of these tasks, and whether it is known; nothing here is touched.

        Args:
            keys: the tasks; the row of one that is not known is blank.
            kinds: what the copies are to be like, where that is wider than the columns here.
        """
        columns = Columns.blank(self._codec.kinds if kinds is None else kinds, len(keys))
        known = []
        for i, key in enumerate(keys):
            row, stored = self._rows.get(key), None
            if key in self.leaving:
                row = None
            elif row is None:
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
        rows = [row for _, row in over]
        light = self._leave_out_derived(np.array(rows, np.int64)) if self._leave_out_derived else None
        self._spill.put([key for key, _ in over], self._codec.pack(self.columns, rows, self._dump_extra, light))
        for key, row in over:
            del self._rows[key]
            self._let_go(row)

    def take_touched(self) -> set[TaskKey]:
        """The tasks touched since this was last asked."""
        touched, self._touched = self._touched, set()
        return touched

    def leave(self, key: TaskKey) -> None:
        """Forget a task. Its row is given back by ``sweep``, or by ``release`` before an event of it comes again."""
        if key in self._rows or key in self._spill:
            self._touched.discard(key)
            self.leaving[key] = None
            if key[0] >= 0:
                self._forgotten.append(key)

    def release(self, key: TaskKey) -> None:
        """Give back the row of a task that is forgotten; nothing where it is not."""
        if key not in self.leaving:
            return
        del self.leaving[key]
        if key in self._rows:
            self._let_go(self._rows.pop(key))
        else:
            self._spill.drop(key)

    def sweep(self) -> None:
        """Give back the rows of all tasks that are forgotten, in this order."""
        for key in list(self.leaving):
            self.release(key)

    def take_forgotten(self) -> list[TaskKey]:
        """The tasks forgotten since this was last asked; of some there may be new events already."""
        forgotten, self._forgotten = self._forgotten, []
        return forgotten

    def recall(self, key: TaskKey) -> int:
        """The row of a task that is known, brought back from the spill if need be; this does not count as touched."""
        row = self._rows.get(key)
        if row is None:
            was_touched = key in self._touched
            row, _ = self.touch(key)
            if not was_touched:
                self._touched.discard(key)
        return row

    def find(self, partition: int, tags: Sequence[str]) -> list[int]:
        """The rows of tasks of a partition; −1: no such task is known; ``IN_SPILL``: it has none. Nothing changes."""
        found = [self._rows.get((partition, tag), -1) for tag in tags]
        if self.leaving or len(self._spill):
            for i, tag in enumerate(tags):
                key = partition, tag
                if key in self.leaving:
                    found[i] = -1
                elif found[i] < 0 and key in self._spill:
                    found[i] = IN_SPILL
        return found

    def mark_changed(self, key: TaskKey) -> None:
        """The row of a task has other values, though no event of it came."""
        if key[0] >= 0:
            self._touched.add(key)

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
        self.leaving = {key: None for key in self.leaving if key[0] != partition}
        self._forgotten = [key for key in self._forgotten if key[0] != partition]

    def widen(self, name: str, shape: tuple[int, ...]) -> None:
        """Make the rows of a column larger; what was there keeps its place."""
        old, kind = self.columns[name], self._codec.kinds[name]._replace(shape=shape)
        self._codec = RowCodec(self._codec.kinds | {name: kind}, self._codec.optional, self._codec.unsure)
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

    def restore(self, tasks: Sequence[tuple[int, str, bytes]], spilled: int) -> list[int]:
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
