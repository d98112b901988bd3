"""Tasks as records: what changed since it was last written."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from streammeta.engine.factory import fingerprint
from streammeta.engine.handover.record import (
    FORMAT,
    PAGE,
    PART,
    Head,
    Key,
    Page,
    Part,
    encode,
    schema_id,
)
from streammeta.engine.handover.written import SPARSE, Written, chunks, page_count, row_columns
from streammeta.engine.labels import Waiting
from streammeta.engine.memory import Memory
from streammeta.engine.row_codec import pack_rows
from streammeta.engine.spill import TaskKey
from streammeta.engine.staleness import can_be_omitted, left_out, mark_left_out
from streammeta.meta.base import Floats

__all__ = ["Change", "Giving"]

_Sizes: TypeAlias = tuple[int, int, int | None, int]


class Change(NamedTuple):
    """One record for the changelog."""

    partition: int
    key: bytes
    value: bytes | None  # None: forget what this key said


class Giving:
    """Returns what changed, and notes that it is written."""

    def __init__(self, memory: Memory, written: Written) -> None:
        self._memory, self._written = memory, written
        self._schema: tuple[_Sizes, bytes, bytes] | None = None  # the current one: of what sizes, its id, encoded

    def changes(self) -> Iterator[Change]:
        """See ``Handover.changes``."""
        memory = self._memory
        forgotten = memory.tasks.take_forgotten()
        touched, waits = sorted(memory.tasks.take_touched()), memory.waiting.take_changed()
        for key in forgotten:  # before what came of its tag since
            yield from self._tombstones(key)
        if not (touched or waits or forgotten):
            return
        id_, encoded = self._current_schema()
        counted = sorted({key[0] for key in (*touched, *forgotten)})  # what experts know of them may have changed
        for partition in sorted({*counted} | {key[0] for key, _ in waits}):
            known = self._written.schemas.setdefault(partition, set())
            if id_ not in known:
                known.add(id_)
                yield Change(partition, Key("schema", 0, id_.hex()).encode(), encoded)
        for chunk in chunks(touched):
            yield from self._heads(chunk, id_)
            memory.tasks.shrink()
        for (key, number), events in waits.items():
            value = encode((FORMAT, id_, [_wait(*one) for one in events.items()])) if events else None
            yield Change(key[0], Key("wait", number, key[1]).encode(), value)
        for partition in counted:
            yield from self._pieces(partition, id_)

    def _tombstones(self, key: TaskKey) -> Iterator[Change]:
        """What makes compaction forget a task; nothing where the changelog never had it. Its waits are in ``waits``."""
        written = self._written.counts.pop(key, None)
        if written is None:
            return
        yield Change(key[0], Key("task", 0, key[1]).encode(), None)
        for number in range(min(page_count(self._memory), max(written) // PAGE)):
            yield Change(key[0], Key("page", number, key[1]).encode(), None)

    def _pieces(self, partition: int, id_: bytes) -> Iterator[Change]:
        """Those pieces of what experts and intervals know of a partition that are not what the changelog has."""
        written, found = self._written, self._memory.partitions.of(partition)
        known = written.parts.get(partition, {})
        for name, array in found.items():
            before = known.get(name)
            if array is before:
                continue
            now = array.reshape(-1).view(np.uint8)
            pieces = np.arange(_piece_count(array))
            if before is not None and before.shape == array.shape:
                differ = np.flatnonzero(now != before.reshape(-1).view(np.uint8))
                pieces = np.unique(differ // PART)
            for number in pieces.tolist():
                data = memoryview(now[number * PART : (number + 1) * PART].tobytes())
                part = Part(FORMAT, id_, array.dtype.str, list(array.shape), data)  # type: ignore[arg-type]  # one of four
                yield Change(partition, Key("part", number, name).encode(), encode(part))
        counts = {name: _piece_count(array) for name, array in found.items()}
        for name, count in written.pieces.get(partition, {}).items():  # what is beyond, or no more
            for number in range(counts.get(name, 0), count):
                yield Change(partition, Key("part", number, name).encode(), None)
        written.pieces[partition] = counts
        written.parts[partition] = {
            name: array.copy() if array.flags.writeable and array is not known.get(name) else array
            for name, array in found.items()
        }

    def _current_schema(self) -> tuple[bytes, bytes]:
        memory = self._memory
        own = memory.shared.own
        sizes = (len(memory.features), len(memory.labels.classes), memory.features.width, len(own))
        if self._schema is None or self._schema[0] != sizes:
            columns = memory.tasks.columns
            layout, phi, scale = (
                [(name, columns[name].dtype.str, list(columns[name].shape[1:])) for name in names]
                for names in (row_columns(memory), memory.response.derived, SPARSE)
            )
            slots = memory.features.slots
            schema = (
                FORMAT,
                fingerprint(memory.settings),
                layout,
                phi,
                scale,
                slots,
                own,
                sizes[2],
                memory.labels.classes,
            )
            encoded = encode(schema)
            self._schema = sizes, schema_id(encoded), encoded
        return self._schema[1:]

    def _heads(self, keys: Sequence[TaskKey], id_: bytes) -> Iterator[Change]:
        """The rows of some tasks, and those pages of their windows that have become full."""
        tasks, detectors = self._memory.tasks, self._memory.detectors
        rows = np.array([tasks.recall(key) for key in keys], np.int64)
        columns = tasks.columns
        phi_of = self._phi(rows)
        packed = self._packed(rows)
        counts = zip(columns.window_count[rows].tolist(), columns.labelled[rows].tolist(), strict=True)
        for key, row, data, phi, scale, (pushed, labelled) in zip(
            keys, rows.tolist(), packed, phi_of, self._scale(rows), counts, strict=True
        ):
            if key in self._memory.corrected:  # labels in pages that were written
                self._memory.corrected.discard(key)
                self._written.counts.pop(key, None)
            for number in self._full_pages(key, pushed, labelled):
                x, y = self._events(row, number * PAGE, (number + 1) * PAGE)
                page = Page(FORMAT, id_, number, _bytes(x), _bytes(y))
                yield Change(key[0], Key("page", number % page_count(self._memory), key[1]).encode(), encode(page))
            self._written.counts[key] = pushed, labelled
            x, y = self._events(row, pushed - pushed % PAGE, pushed)
            seen = self._memory.presence.last_seen(key)
            head = Head(FORMAT, id_, data.data, phi, scale, _bytes(x), _bytes(y), detectors.dump(row), seen)
            yield Change(key[0], Key("task", 0, key[1]).encode(), encode(head))

    def _packed(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """The columns of these rows that are written of every task; also of those that were in the spill without φ."""
        columns = self._memory.tasks.columns
        marked = rows[left_out(columns.version[rows])]
        mark_left_out(columns, marked)
        packed = pack_rows(columns, row_columns(self._memory), rows)
        mark_left_out(columns, marked)
        return packed

    def _phi(self, rows: npt.NDArray[np.int64]) -> list[memoryview]:
        """φ of these rows as bytes; nothing of those whose windows make the same again."""
        names, columns = self._memory.response.derived, self._memory.tasks.columns
        found = [memoryview(b"")] * rows.size
        needed = np.flatnonzero(~can_be_omitted(columns, rows, self._memory.shared.stamp))
        if names and needed.size:
            for place, data in zip(needed.tolist(), pack_rows(columns, names, rows[needed]), strict=True):
                found[place] = data.data
        return found

    def _scale(self, rows: npt.NDArray[np.int64]) -> list[memoryview]:
        """The own views of these rows as bytes; nothing where they are all zeros."""
        columns, names = self._memory.tasks.columns, SPARSE
        packed = pack_rows(columns, names, rows)
        return [data.data if data.any() else memoryview(b"") for data in packed]

    def _full_pages(self, key: TaskKey, pushed: int, labelled: int) -> range:
        """The pages that the changelog does not have yet, of those that the window reaches into."""
        before, labelled_before = self._written.counts.get(key, (0, 0))
        if pushed - before != labelled - labelled_before:  # the window began again in between
            before = 0
        first = max(before // PAGE, (pushed - self._memory.settings.memory.window) // PAGE, 0)
        return range(first, pushed // PAGE)

    def _events(self, row: int, begin: int, end: int) -> tuple[Floats, npt.NDArray[Any]]:
        """Labelled events of a task by number, as its window has them; what it has no more are its newer ones."""
        columns = self._memory.tasks.columns
        at = np.arange(begin, end) % self._memory.settings.memory.window
        high = columns.window_x[row, at, : len(self._memory.features)]
        low = columns.window_low[row, at, : len(self._memory.shared.own)]
        return np.concatenate([high, low], axis=1), columns.window_y[row, at]


def _bytes(values: npt.NDArray[Any]) -> memoryview:
    return memoryview(values.tobytes())


def _wait(id_: str, w: Waiting) -> tuple[Any, ...]:
    """A ``Wait``; without a context and a time as the version before wrote it, which does not read them."""
    parts = None if w.parts is None else w.parts.tobytes()
    said = w.said, float(w.variance), int(w.theta_version), parts
    rest: tuple[Any, ...] = () if w.context is None else (w.context,)
    if w.ts is not None:
        rest = w.context, w.ts
    return id_, list(w.slots), w.values.tobytes(), *said, *rest


def _piece_count(array: npt.NDArray[Any]) -> int:
    """In how many records an array lies."""
    return -(-array.nbytes // PART)
