"""Records as tasks: what another process wrote becomes rows here, checked before compiled code reads it."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from streammeta.bounds import EXACT
from streammeta.engine.columns import is_adaptable
from streammeta.engine.concepts import check_concepts, renumber_concepts
from streammeta.engine.elapsed import COLUMN as ELAPSED
from streammeta.engine.experts import OF_TASKS, POOLED
from streammeta.engine.experts.gaussian import check_gaussian, renumber_gaussian
from streammeta.engine.experts.intercepts import INTERCEPTS, check_intercepts, renumber_intercepts
from streammeta.engine.experts.pool import POOL
from streammeta.engine.extraction import fitted
from streammeta.engine.handover.record import (
    PAGE,
    PART,
    Head,
    Key,
    Page,
    Part,
    Wait,
    WaitPage,
    decode,
    parse_key,
    unpack_rows,
)
from streammeta.engine.handover.schema_mapping import Meaning, Meanings
from streammeta.engine.handover.written import SPARSE, Written, chunks, label_dtype, page_count, row_columns
from streammeta.engine.interval import COLUMNS, Issued, check_intervals
from streammeta.engine.labels import Waiting, said_from
from streammeta.engine.memory import Memory
from streammeta.engine.partitioned import Renumbering
from streammeta.engine.presence import LastSeen
from streammeta.engine.scale import check_scale, renumber_scale
from streammeta.engine.staleness import left_out, mark_left_out, mark_underived
from streammeta.errors import SnapshotError

__all__ = ["Taking"]

_COUNTERS = ("window_count", "events", "labelled", "labels_since_drift", "labels_kept_at_drift", "drifts")
# columns that a setting turns on and off, or that rows of the version before have not: they begin blank
_BY_SETTING = {*COLUMNS, *ELAPSED, *POOLED, *OF_TASKS, "window_id"}
_MOST_BYTES = 2**30
_MEAN_AND_INTERVAL = 32  # bytes


class Taking:
    """Takes in what another process gave, and notes that it is written."""

    def __init__(self, memory: Memory, written: Written) -> None:
        self._memory, self._written = memory, written

    def take(self, partition: int, records: Mapping[bytes, bytes], at: str) -> Iterator[int]:
        """See ``Handover.take``."""
        found = _sorted_out(records, at)
        meanings = Meanings.read(found.schemas, self._memory, at)
        self._written.schemas[partition] = set(meanings.known)
        pages = _Pages(records, meanings, at)
        self._memory.tasks.reserve(found.tasks)
        done, seen = 0, list[tuple[str, LastSeen | None]]()
        for chunk in chunks(key for key in records if parse_key(key, at).kind == "task"):
            heads: dict[bytes, list[tuple[str, Head]]] = {}
            for raw in chunk:
                tag = parse_key(raw, at).tag
                head = decode(Head, records[raw], f"{at}, task {tag[:100]!r}")
                heads.setdefault(head.schema, []).append((tag, head))
                seen.append((tag, None if head.seen is None else LastSeen(*head.seen)))
            for id_, alike in heads.items():
                self._take_heads(partition, meanings.of(id_), alike, pages)
            self._memory.tasks.shrink()
            done += len(chunk)
            yield done
        for key in sorted(found.waits):
            self._take_waits(partition, key, decode(WaitPage, records[key.encode()], at), meanings, at)
        self._take_parts(partition, found.parts, meanings, at)
        for task in self._memory.presence.load(partition, seen):
            self._memory.leave(task)
        yield done

    def _take_parts(self, partition: int, parts: Mapping[tuple[str, int], bytes], meanings: Meanings, at: str) -> None:
        """What experts know of the partition, put together from its pieces."""
        counts: dict[str, int] = {}
        for name, number in parts:
            counts[name] = max(counts.get(name, 0), number + 1)
        self._written.pieces[partition] = counts
        if not parts or not self._memory.partitions:
            return
        arrays: dict[str, npt.NDArray[Any]] = {}
        schemas: dict[str, list[Meaning]] = {}
        for name in sorted(counts):
            pieces = {number: decode(Part, parts[name, number], at) for of, number in parts if of == name}
            arrays[name] = _joined(pieces, f"{at}, {name[:50]!r}")
            schemas[name] = [meanings.of(piece.schema) for piece in pieces.values()]
        every = [meaning for found in schemas.values() for meaning in found]
        widest = max(every, key=lambda meaning: len(meaning.slots) + len(meaning.classes))  # there is a piece
        experts = schemas.get(POOL, every)[0].experts
        here = Renumbering(widest.slots, widest.classes, widest.same, experts)
        self._memory.partitions.take(partition, arrays, here, at)
        if here.same:
            self._written.parts[partition] = arrays

    def _take_heads(self, partition: int, meaning: Meaning, heads: Sequence[tuple[str, Head]], pages: "_Pages") -> None:
        memory = self._memory
        found = self._rows(meaning, heads, pages.at)
        cut = np.array([not head.phi for _, head in heads])
        phi = unpack_rows(meaning.schema.phi, [head.phi for _, head in heads if head.phi], pages.at)
        self._check_shapes(phi, self._memory.response.derived, pages.at)
        has_views = np.array([bool(head.scale) for _, head in heads])
        views = unpack_rows(meaning.schema.scale, [head.scale for _, head in heads if head.scale], pages.at)
        self._check_shapes(views, SPARSE, pages.at)
        check_scale(found, views, has_views, pages.at)
        keys = [(partition, tag) for tag, _ in heads]
        rows = np.array(memory.tasks.place(keys), np.int64)
        columns = memory.tasks.columns
        for part, where in ((found, rows), (phi, rows[~cut]), (views, rows[has_views])):
            for name, values in part.items():
                place: tuple[Any, ...] = (where, *(slice(n) for n in values.shape[1:]))
                columns[name][place] = values
        if self._memory.response.derived:
            mark_left_out(columns, rows[cut])
        pieces: list[_Piece] = []
        for row, pushed, (tag, head) in zip(rows.tolist(), found["window_count"].tolist(), heads, strict=True):
            pieces += self._window(row, pushed, tag, head, meaning, pages)
            memory.detectors.load(row, head.detector)
        memory.recent.add(rows[found["window_count"] > 0])
        self._put(pieces, pages.at)
        if not meaning.same:
            classes = meaning.classes if memory.labels.classify else None
            renumber_concepts(columns, rows, found, (meaning.slots, meaning.own), classes)
            renumber_gaussian(columns, rows, found, meaning.slots, meaning.classes)
            renumber_scale(columns, rows, meaning.slots)
            mark_underived(columns, rows)
            if "last.label" in columns:
                last = columns["last.label"][rows]
                columns["last.label"][rows] = np.where(last < 0, -1, meaning.classes[last])
            if INTERCEPTS in columns and INTERCEPTS in found and classes is not None:
                intercepts = np.zeros_like(columns[INTERCEPTS][rows])
                renumber_intercepts(intercepts, found[INTERCEPTS], classes)
                columns[INTERCEPTS][rows] = intercepts
        for key, pushed, labelled in zip(keys, found["window_count"].tolist(), found["labelled"].tolist(), strict=True):
            self._written.counts[key] = pushed, labelled

    def _rows(self, meaning: Meaning, heads: Sequence[tuple[str, Head]], at: str) -> dict[str, npt.NDArray[Any]]:
        """The columns [N, ...] of these rows, for the experts that there are here; checked."""
        memory = self._memory
        found, names = unpack_rows(meaning.schema.layout, [head.row for _, head in heads], at), row_columns(memory)
        if not meaning.has_our_experts:
            new: set[str] = set()
            if memory.mixture:
                found, new = memory.mixture.adopt(found, meaning.experts, memory.labels.outputs)
            names = [name for name in names if name not in new]  # of those, rows are blank
            found = {name: values for name, values in found.items() if name in names}
        differ = found.keys() ^ set(names)  # kept then and not now, or the other way about
        changed = {name for name in differ if name in _BY_SETTING or is_adaptable(name)}
        found = fitted(found, memory.tasks.columns)
        found, names = _without(found, changed), [name for name in names if name not in changed]
        self._check_rows(found, names, at)
        return found

    def _check_rows(self, found: Mapping[str, npt.NDArray[Any]], names: Sequence[str], at: str) -> None:
        """Refuse rows that this engine has no place for, and numbers that no row has."""
        self._check_shapes(found, names, at)
        for name in _COUNTERS:
            if not ((found[name] >= 0) & (found[name] <= EXACT)).all():
                raise SnapshotError(f"{at}: a row with {name} of {found[name].min()}, wanted a count: it is damaged")
        if (np.maximum(found["window_count"], found["labels_since_drift"]) > found["labelled"]).any():
            raise SnapshotError(f"{at}: a row that remembers more labelled events than it saw: it is damaged")
        if (found["labels_kept_at_drift"] > found["labels_since_drift"]).any():
            raise SnapshotError(f"{at}: a row that kept more events of before a drift than it counts: it is damaged")
        if left_out(found["version"]).any():
            raise SnapshotError(f"{at}: a row of version {found['version'].min()}, wanted -1 or more: it is damaged")
        check_concepts(found, at)
        check_gaussian(found, at)
        check_intercepts(found, at)
        check_intervals(found, at)

    def _check_shapes(self, found: Mapping[str, npt.NDArray[Any]], names: Sequence[str], at: str) -> None:
        columns = self._memory.tasks.columns
        for name in names:
            came, shape = (found[name].shape[1:] if name in found else None), columns[name].shape[1:]
            fits = (
                came is not None and len(came) == len(shape) and all(a <= b for a, b in zip(came, shape, strict=True))
            )
            if not fits or found[name].dtype != columns[name].dtype or len(found) != len(names):
                raise SnapshotError(f"{at}: rows with {name} of shape {came}, wanted {shape}: other settings?")

    def _window(
        self, row: int, pushed: int, tag: str, head: Head, meaning: Meaning, pages: "_Pages"
    ) -> Iterator["_Piece"]:
        """The labelled events that a task remembers: its full pages, and the open one. No two are of one place.

        The oldest page may begin before the window does: those events' places are the newest ones' by now.
        """
        oldest = max(pushed - self._memory.settings.memory.window, 0)
        for number in range(oldest // PAGE, pushed // PAGE):
            page, of = pages.get(tag, number, number % page_count(self._memory))
            yield _Piece(row, number * PAGE, PAGE, page.x, page.y, of, max(oldest - number * PAGE, 0))
        if pushed % PAGE or head.open_x or head.open_y:
            yield _Piece(row, pushed - pushed % PAGE, pushed % PAGE, head.open_x, head.open_y, meaning)

    def _put(self, pieces: Sequence["_Piece"], at: str) -> None:
        """Put labelled events into the windows of their tasks, all of one meaning at once."""
        columns = self._memory.tasks.columns
        for meaning in {id(piece.meaning): piece.meaning for piece in pieces}.values():
            ours = [piece for piece in pieces if piece.meaning is meaning]
            width, dtype = len(meaning.slots) + len(meaning.own), label_dtype(self._memory)
            for piece in ours:
                if len(piece.y) != dtype.itemsize * piece.events or len(piece.x) != 4 * piece.events * width:
                    raise SnapshotError(
                        f"{at}: a page of {len(piece.x)} and {len(piece.y)} bytes, wanted {piece.events} events of "
                        f"{width} features"
                    )
            rows = np.repeat([piece.row for piece in ours], [piece.events - piece.gone for piece in ours])
            where = np.concatenate([np.arange(piece.begin + piece.gone, piece.begin + piece.events) for piece in ours])
            where %= self._memory.settings.memory.window
            xs = np.frombuffer(b"".join([piece.x[4 * width * piece.gone :] for piece in ours]), np.float32)
            xs = xs.reshape(len(rows), width)
            ys = np.frombuffer(b"".join([piece.y[dtype.itemsize * piece.gone :] for piece in ours]), dtype)
            if np.isinf(xs).any():
                raise SnapshotError(f"{at}: a page with features that are infinite: it is damaged")
            xs = np.where(np.isnan(xs), np.float32(np.nan), xs)  # one NaN of them all: some warn where they are read
            high, low = np.split(xs, [len(meaning.slots)], axis=1)
            for name, values, numbers in (("window_x", high, meaning.slots), ("window_low", low, meaning.own)):
                kept = numbers >= 0
                wide = np.full((len(rows), columns[name].shape[2]), np.nan, np.float32)
                wide[:, numbers[kept]] = values[:, kept]
                columns[name][rows, where] = wide
            columns.window_y[rows, where] = meaning.labels(ys, at, classify=self._memory.labels.classify)

    def _take_waits(self, partition: int, key: Key, page: WaitPage, meanings: Meanings, at: str) -> None:
        meaning = meanings.of(page.schema)
        for event in page.events:
            values = np.frombuffer(event.values[: len(event.values) // 8 * 8], np.float64)
            if (
                len(event.values) % 8
                or len(values) != len(event.slots)
                or max(event.slots, default=0) >= max(len(meaning.slots), 1)
            ):
                raise SnapshotError(f"{at}: {key.encode()!r:.100} holds an event whose values do not fit its slots")
            slots = meaning.slots[event.slots]
            mean, interval = self._predicted(event, meaning, at)
            waiting = Waiting(
                (partition, key.tag),
                tuple(slots[slots >= 0].tolist()),
                values[slots >= 0],
                mean,
                event.variance,
                event.theta_version,
                key.number,
                self._said(event, meaning, at),
                interval,
                self._context(event, meaning, at),
                event.ts,
            )
            self._memory.waiting.place(event.id, waiting)

    def _predicted(
        self, event: Wait, meaning: Meaning, at: str
    ) -> tuple[npt.NDArray[np.float64] | None, Issued | None]:
        """What was predicted of an event that waits, and its interval."""
        classify = self._memory.labels.classify
        if event.mean is None:
            return None, None
        if not classify and len(event.mean) == _MEAN_AND_INTERVAL:
            return said_from(event.mean, classify=False)
        return meaning.mean(event.mean, at, classify=classify), None

    def _said(self, event: Wait, meaning: Meaning, at: str) -> npt.NDArray[np.float64] | None:
        """What experts said of an event that waits; None where they or the classes are others: they are asked again."""
        evidence = self._memory.tasks.columns.get("experts.evidence")
        if event.parts is None or evidence is None or not (meaning.same and meaning.has_our_experts):
            return None
        row = 8 * evidence.shape[1]
        if not event.parts or len(event.parts) % row or len(event.parts) > row * max(len(meaning.classes), 2):
            raise SnapshotError(f"{at}: {len(event.parts)} bytes of what experts said, wanted a multiple of {row}")
        return np.frombuffer(event.parts, np.float64).reshape(evidence.shape[1], -1).copy()

    @staticmethod
    def _context(event: Wait, meaning: Meaning, at: str) -> tuple[int, int] | None:
        """The label that was its task's last when an event that waits was predicted, and how often it had come."""
        if event.context is None:
            return None
        last, run = event.context
        if last >= len(meaning.classes):
            raise SnapshotError(
                f"{at}: an event that waits after class {last}, of {len(meaning.classes)}: it is damaged"
            )
        return int(meaning.classes[last]), run


def _without(found: Mapping[str, npt.NDArray[Any]], names: Collection[str]) -> dict[str, npt.NDArray[Any]]:
    return {name: values for name, values in found.items() if name not in names}


def _joined(pieces: Mapping[int, Part], at: str) -> npt.NDArray[Any]:
    """An array from its pieces; raises SnapshotError where they are not of one array, or one is not there."""
    newest = max(pieces.values(), key=lambda piece: int(np.prod(piece.shape, dtype=np.int64)))
    size = int(np.prod(newest.shape, dtype=np.int64)) * np.dtype(newest.dtype).itemsize
    wanted = range(-(-size // PART))
    fits = (
        size <= _MOST_BYTES
        and len(pieces) == len(wanted)
        and all(n in pieces and (pieces[n].dtype, pieces[n].shape) == (newest.dtype, newest.shape) for n in wanted)
    )
    data = b"".join([pieces[n].data for n in wanted]) if fits else b""
    if not fits or len(data) != size:
        raise SnapshotError(f"{at}: its {len(pieces)} pieces do not make an array of {size} bytes: it is damaged")
    return np.frombuffer(data, newest.dtype).reshape(newest.shape).copy()


class _Piece(NamedTuple):
    """Labelled events ``begin`` to ``begin + events`` of a task."""

    row: int
    begin: int
    events: int
    x: memoryview
    y: memoryview
    meaning: Meaning
    gone: int = 0  # events at its beginning that the window has no more


class _Found(NamedTuple):
    """What a partition's records are about; heads and pages of tasks are read when they are needed."""

    schemas: dict[str, bytes]
    tasks: int
    waits: list[Key]
    parts: dict[tuple[str, int], bytes]


def _sorted_out(records: Mapping[bytes, bytes], at: str) -> _Found:
    schemas: dict[str, bytes] = {}
    waits: list[Key] = []
    parts: dict[tuple[str, int], bytes] = {}
    tasks = 0
    for raw in records:
        key = parse_key(raw, at)
        match key.kind:
            case "schema":
                schemas[key.tag] = records[raw]
            case "task":
                tasks += 1
            case "wait":
                waits.append(key)
            case "part":
                parts[key.tag, key.number] = records[raw]
    return _Found(schemas, tasks, waits, parts)


class _Pages(NamedTuple):
    """The full pages of a partition's windows."""

    records: Mapping[bytes, bytes]
    meanings: Meanings
    at: str

    def get(self, tag: str, number: int, key: int) -> tuple[Page, Meaning]:
        data = self.records.get(Key("page", key, tag).encode())
        at = f"{self.at}, page {key} of task {tag[:100]!r}"
        if data is None:
            raise SnapshotError(f"{at}: is not there; was the topic cleaned by hand? It must be compacted, not deleted")
        page = decode(Page, data, at)
        if page.number != number:
            raise SnapshotError(f"{at}: holds events from {page.number * PAGE} on, wanted from {number * PAGE} on")
        return page, self.meanings.of(page.schema)
