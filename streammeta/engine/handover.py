"""Tasks on the move: what changed in each partition as records, and a partition's records as tasks again.

A task's row goes as it is, but for φ where the window makes the same again (``staleness``): then it stays behind, most
of the bytes with it. Where another process numbered features or classes otherwise, the numbers are translated and φ,
which was derived under the other numbering, is derived again from the window when the task is next touched.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from streammeta.engine.buffer import RecentRows
from streammeta.engine.checkpoint import check_fingerprint
from streammeta.engine.concepts import check_concepts, renumber_concepts
from streammeta.engine.drift import Detectors
from streammeta.engine.experts.gaussian import check_gaussian, renumber_gaussian
from streammeta.engine.features import FeatureSpace
from streammeta.engine.labels import LabelSpace, Waiting, WaitingRoom
from streammeta.engine.staleness import leave_out, left_out, may_stay_behind
from streammeta.engine.taskrecord import (
    FORMAT,
    PAGE,
    Head,
    Key,
    Page,
    Schema,
    Wait,
    WaitPage,
    decode,
    encode,
    pack_rows,
    parse_key,
    schema_id,
    unpack_rows,
)
from streammeta.engine.tasks import TaskKey, TaskTable
from streammeta.errors import SnapshotError
from streammeta.meta.base import Floats

__all__ = ["Change", "Handover", "TaskParts"]

_CHUNK = 256  # tasks written, or taken in, at a time
_WINDOW = ("window_x", "window_y")  # saved in pages, not in the row
_COUNTERS = ("pushed", "events", "labelled", "since", "kept", "drifts")
_MOST = 2**53
_T = TypeVar("_T")
_Sizes: TypeAlias = tuple[int, int, int | None]


class Change(NamedTuple):
    """One record for the changelog."""

    partition: int
    key: bytes
    value: bytes | None  # None: forget what this key said


@dataclass(frozen=True, slots=True)
class TaskParts:
    """The engine's parts that hold tasks."""

    fingerprint: Mapping[str, Any]
    window: int
    tasks: TaskTable
    features: FeatureSpace
    labels: LabelSpace
    waiting: WaitingRoom
    detectors: Detectors
    recent: RecentRows
    derived: tuple[str, ...]  # columns that windows make again, to the bit
    version: Callable[[], int]  # of θ
    widen: Callable[[], None]  # make room in every row for features and classes that came from elsewhere


class Handover:
    """Gives tasks away and takes them, partition by partition. One an engine: it knows what is written already."""

    def __init__(self, parts: TaskParts) -> None:
        self._parts = parts
        self._pages = parts.window // PAGE + 2  # page numbers count round below it
        self._row = [name for name in parts.tasks.columns if name not in (*_WINDOW, *parts.derived)]
        self._written: dict[TaskKey, tuple[int, int]] = {}  # pushed and labelled, as the changelog has them
        self._schemas: dict[int, set[bytes]] = {}  # by partition, those that its changelog has
        self._schema: tuple[_Sizes, bytes, bytes] | None = None  # the current one: of what sizes, its id, encoded

    def changes(self) -> Iterator[Change]:
        """What changed since this was last asked. Whoever asks must write it, or drop the engine."""
        parts = self._parts
        touched, waits = sorted(parts.tasks.take_touched()), parts.waiting.take_changed()
        if not (touched or waits):
            return
        id_, encoded = self._current_schema()
        for partition in sorted({key[0] for key in touched} | {key[0] for key, _ in waits}):
            known = self._schemas.setdefault(partition, set())
            if id_ not in known:
                known.add(id_)
                yield Change(partition, Key("schema", 0, id_.hex()).encode(), encoded)
        for chunk in _chunks(touched):
            yield from self._heads(chunk, id_)
            parts.tasks.shrink()
        for (key, number), events in waits.items():
            value = encode(WaitPage(FORMAT, id_, [_wait(*one) for one in events.items()])) if events else None
            yield Change(key[0], Key("wait", number, key[1]).encode(), value)

    def forget(self, partition: int) -> None:
        """Drop a partition's tasks: another process has them now."""
        self._parts.tasks.forget(partition)
        self._parts.waiting.forget(partition)
        self._schemas.pop(partition, None)
        for key in [key for key in self._written if key[0] == partition]:
            del self._written[key]

    def take(self, partition: int, records: Mapping[bytes, bytes], at: str) -> Iterator[int]:
        """Take in a partition's tasks from the last value of each key; yields, now and then, how many so far.

        Args:
            partition: whose tasks they are.
            records: everything its changelog holds.
            at: where that is, for messages.

        Raises:
            SnapshotError: a record cannot be read, or was written under other settings.
        """
        found = _sorted_out(records, at)
        meanings = self._meanings(found.schemas, at)
        self._schemas[partition] = set(meanings)
        pages = _Pages(found.pages, meanings, at)
        self._parts.tasks.reserve(len(found.tasks))
        done = 0
        for chunk in _chunks(found.tasks):
            heads: dict[bytes, list[tuple[str, Head]]] = {}
            for tag, value in chunk:
                head = decode(Head, value, f"{at}, task {tag[:100]!r}")
                heads.setdefault(head.schema, []).append((tag, head))
            for id_, alike in heads.items():
                self._take_heads(partition, _meaning(meanings, id_, at), alike, pages)
            self._parts.tasks.shrink()
            done += len(chunk)
            yield done
        for key, value in sorted(found.waits):
            self._take_waits(partition, key, decode(WaitPage, value, at), meanings, at)
        yield done

    # -- giving --------------------------------------------------------------------------------------------------------

    def _current_schema(self) -> tuple[bytes, bytes]:
        parts = self._parts
        sizes = (len(parts.features), len(parts.labels.classes), parts.features.width)
        if self._schema is None or self._schema[0] != sizes:
            columns = parts.tasks.columns
            layout, phi = (
                [(name, columns[name].dtype.str, list(columns[name].shape[1:])) for name in names]
                for names in (self._row, parts.derived)
            )
            schema = (FORMAT, parts.fingerprint, layout, phi, parts.features.slots, sizes[2], parts.labels.classes)
            encoded = encode(schema)
            self._schema = sizes, schema_id(encoded), encoded
        return self._schema[1:]

    def _heads(self, keys: Sequence[TaskKey], id_: bytes) -> Iterator[Change]:
        """The rows of some tasks, and those pages of their windows that have become full."""
        tasks, detectors = self._parts.tasks, self._parts.detectors
        rows = np.array([tasks.recall(key) for key in keys], np.int64)
        columns = tasks.columns
        packed = pack_rows(columns, self._row, rows)
        counts = zip(columns["pushed"][rows].tolist(), columns["labelled"][rows].tolist(), strict=True)
        for key, row, data, phi, (pushed, labelled) in zip(
            keys, rows.tolist(), packed, self._phi(rows), counts, strict=True
        ):
            for number in self._full_pages(key, pushed, labelled):
                x, y = self._events(row, number * PAGE, (number + 1) * PAGE)
                page = Page(FORMAT, id_, number, _bytes(x), _bytes(y))
                yield Change(key[0], Key("page", number % self._pages, key[1]).encode(), encode(page))
            self._written[key] = pushed, labelled
            x, y = self._events(row, pushed - pushed % PAGE, pushed)
            head = Head(FORMAT, id_, data.data, phi, _bytes(x), _bytes(y), detectors.dump(row))
            yield Change(key[0], Key("task", 0, key[1]).encode(), encode(head))

    def _phi(self, rows: npt.NDArray[np.int64]) -> list[memoryview]:
        """What windows could make of these rows again, but not to the bit; of the others nothing."""
        names, columns = self._parts.derived, self._parts.tasks.columns
        found = [memoryview(b"")] * rows.size
        needed = np.flatnonzero(~may_stay_behind(columns, rows, self._parts.version()))
        if names and needed.size:
            for place, data in zip(needed.tolist(), pack_rows(columns, names, rows[needed]), strict=True):
                found[place] = data.data
        return found

    def _full_pages(self, key: TaskKey, pushed: int, labelled: int) -> range:
        """The pages that the changelog does not have yet, of those that the window reaches into."""
        before, labelled_before = self._written.get(key, (0, 0))
        if pushed - before != labelled - labelled_before:  # the window began anew in between
            before = 0
        first = max(before // PAGE, (pushed - self._parts.window) // PAGE, 0)
        return range(first, pushed // PAGE)

    def _events(self, row: int, begin: int, end: int) -> tuple[Floats, Floats]:
        """Labelled events of a task by number, as its window has them; what it has no more are its newer ones."""
        columns = self._parts.tasks.columns
        at = np.arange(begin, end) % self._parts.window
        return columns["window_x"][row, at, : len(self._parts.features)], columns["window_y"][row, at]

    # -- taking --------------------------------------------------------------------------------------------------------

    def _meanings(self, schemas: Mapping[str, bytes], at: str) -> dict[bytes, "_Meaning"]:
        """Read the schemas, and learn the features and classes that are new here."""
        found = []
        for tag, value in schemas.items():
            schema = decode(Schema, value, f"{at}, schema {tag}")
            id_ = schema_id(value)
            if id_.hex() != tag:
                raise SnapshotError(
                    f"{at}: schema {tag[:50]} holds another one ({id_.hex()}); wanted what its key says"
                )
            check_fingerprint(schema.settings, self._parts.fingerprint)
            found.append((len(schema.slots) + len(schema.classes), id_, schema))
        meanings = {}
        for _, id_, schema in sorted(found, key=lambda one: one[:2]):
            slots = self._parts.features.merge(schema.slots, schema.width)
            meanings[id_] = _Meaning(schema, np.array(slots, np.int64), self._classes(schema, at))
        self._parts.widen()
        return meanings

    def _classes(self, schema: Schema, at: str) -> npt.NDArray[np.int64]:
        numbers = self._parts.labels.merge(schema.classes)
        if -1 in numbers:
            raise SnapshotError(f"{at}: holds {len(numbers)} classes; raise [memory] max_classes so that all have room")
        return np.array(numbers, np.int64)

    def _take_heads(
        self, partition: int, meaning: "_Meaning", heads: Sequence[tuple[str, Head]], pages: "_Pages"
    ) -> None:
        parts = self._parts
        found = unpack_rows(meaning.schema.layout, [head.row for _, head in heads], pages.at)
        self._check_rows(found, pages.at)
        cut = np.array([not head.phi for _, head in heads])
        phi = unpack_rows(meaning.schema.phi, [head.phi for _, head in heads if head.phi], pages.at)
        self._check_shapes(phi, self._parts.derived, pages.at)
        keys = [(partition, tag) for tag, _ in heads]
        rows = np.array(parts.tasks.place(keys), np.int64)
        columns = parts.tasks.columns
        for part, where in ((found, rows), (phi, rows[~cut])):
            for name, values in part.items():
                place: tuple[Any, ...] = (where, *(slice(n) for n in values.shape[1:]))
                columns[name][place] = values
        if self._parts.derived:
            columns["version"][rows[cut]] = leave_out(found["version"][cut])
        pieces: list[_Piece] = []
        for row, pushed, (tag, head) in zip(rows.tolist(), found["pushed"].tolist(), heads, strict=True):
            pieces += self._window(row, pushed, tag, head, meaning, pages)
            parts.detectors.load(row, head.detector)
            if pushed:
                parts.recent.add(row)
        self._put(pieces, pages.at)
        if not meaning.same:
            classes = meaning.classes if parts.labels.classify else None
            renumber_concepts(columns, rows, found, meaning.slots, classes)
            renumber_gaussian(columns, rows, found, meaning.slots, meaning.classes)
            columns["version"][rows], columns["rest"][rows] = -1, 0
            if "last.label" in columns:
                last = columns["last.label"][rows]
                columns["last.label"][rows] = np.where(last < 0, -1, meaning.classes[last])
        for key, pushed, labelled in zip(keys, found["pushed"].tolist(), found["labelled"].tolist(), strict=True):
            self._written[key] = pushed, labelled

    def _check_rows(self, found: Mapping[str, npt.NDArray[Any]], at: str) -> None:
        """Refuse rows that this engine has no place for, and numbers that no row has."""
        self._check_shapes(found, self._row, at)
        for name in _COUNTERS:
            if not ((found[name] >= 0) & (found[name] <= _MOST)).all():
                raise SnapshotError(f"{at}: a row with {name} of {found[name].min()}, wanted a count: it is damaged")
        if (np.maximum(found["pushed"], found["since"]) > found["labelled"]).any():
            raise SnapshotError(f"{at}: a row that remembers more labelled events than it saw: it is damaged")
        if (found["kept"] > found["since"]).any():
            raise SnapshotError(f"{at}: a row that kept more events of before a drift than it counts: it is damaged")
        if left_out(found["version"]).any():
            raise SnapshotError(f"{at}: a row of version {found['version'].min()}, wanted -1 or more: it is damaged")
        check_concepts(found, at)
        check_gaussian(found, at)

    def _check_shapes(self, found: Mapping[str, npt.NDArray[Any]], names: Sequence[str], at: str) -> None:
        columns = self._parts.tasks.columns
        for name in names:
            came, shape = (found[name].shape[1:] if name in found else None), columns[name].shape[1:]
            fits = (
                came is not None and len(came) == len(shape) and all(a <= b for a, b in zip(came, shape, strict=True))
            )
            if not fits or found[name].dtype != columns[name].dtype or len(found) != len(names):
                raise SnapshotError(f"{at}: rows with {name} of shape {came}, wanted {shape}: other settings?")

    def _window(
        self, row: int, pushed: int, tag: str, head: Head, meaning: "_Meaning", pages: "_Pages"
    ) -> Iterator["_Piece"]:
        """The labelled events that a task remembers: its full pages, and the open one."""
        for number in range(max((pushed - self._parts.window) // PAGE, 0), pushed // PAGE):
            page, of = pages.get(tag, number, number % self._pages)
            yield _Piece(row, number * PAGE, PAGE, page.x, page.y, of)
        if pushed % PAGE or head.open_x or head.open_y:
            yield _Piece(row, pushed - pushed % PAGE, pushed % PAGE, head.open_x, head.open_y, meaning)

    def _put(self, pieces: Sequence["_Piece"], at: str) -> None:
        """Put labelled events into the windows of their tasks, all of one meaning at once."""
        columns = self._parts.tasks.columns
        for meaning in {id(piece.meaning): piece.meaning for piece in pieces}.values():
            ours = [piece for piece in pieces if piece.meaning is meaning]
            width = len(meaning.slots)
            for piece in ours:
                if len(piece.y) != 4 * piece.events or len(piece.x) != 4 * piece.events * width:
                    raise SnapshotError(
                        f"{at}: a page of {len(piece.x)} and {len(piece.y)} bytes, wanted {piece.events} events of "
                        f"{width} features"
                    )
            rows = np.repeat([piece.row for piece in ours], [piece.events for piece in ours])
            where = np.concatenate([np.arange(piece.begin, piece.begin + piece.events) for piece in ours])
            where %= self._parts.window
            xs = np.frombuffer(b"".join([piece.x for piece in ours]), np.float32).reshape(len(rows), width)
            ys = np.frombuffer(b"".join([piece.y for piece in ours]), np.float32)
            kept = meaning.slots >= 0
            wide = np.full((len(rows), columns["window_x"].shape[2]), np.nan, np.float32)
            wide[:, meaning.slots[kept]] = xs[:, kept]
            columns["window_x"][rows, where] = wide
            columns["window_y"][rows, where] = meaning.labels(ys, at, classify=self._parts.labels.classify)

    def _take_waits(
        self, partition: int, key: Key, page: WaitPage, meanings: Mapping[bytes, "_Meaning"], at: str
    ) -> None:
        meaning = _meaning(meanings, page.schema, at)
        for event in page.events:
            values = np.frombuffer(event.values[: len(event.values) // 4 * 4], np.float32)
            if (
                len(event.values) % 4
                or len(values) != len(event.slots)
                or max(event.slots, default=0) >= max(len(meaning.slots), 1)
            ):
                raise SnapshotError(f"{at}: {key.encode()!r:.100} holds an event whose values do not fit its slots")
            slots = meaning.slots[event.slots]
            mean = None if event.mean is None else meaning.mean(event.mean, at, classify=self._parts.labels.classify)
            waiting = Waiting(
                (partition, key.tag),
                tuple(slots[slots >= 0].tolist()),
                values[slots >= 0],
                mean,
                event.variance,
                event.theta_version,
                key.number,
                self._said(event, meaning, at),
            )
            self._parts.waiting.place(event.id, waiting)

    def _said(self, event: Wait, meaning: "_Meaning", at: str) -> npt.NDArray[np.float64] | None:
        """What experts said of an event that waits; None where classes have other numbers: they are asked again."""
        evidence = self._parts.tasks.columns.get("experts.evidence")
        if event.parts is None or evidence is None or not meaning.same:
            return None
        row = 8 * evidence.shape[1]
        if not event.parts or len(event.parts) % row or len(event.parts) > row * max(len(meaning.classes), 2):
            raise SnapshotError(f"{at}: {len(event.parts)} bytes of what experts said, wanted a multiple of {row}")
        return np.frombuffer(event.parts, np.float64).reshape(evidence.shape[1], -1).copy()


@dataclass(frozen=True, slots=True)
class _Meaning:
    """A schema, with the numbers that its slots and classes have here."""

    schema: Schema
    slots: npt.NDArray[np.int64]  # -1: no room
    classes: npt.NDArray[np.int64]
    same: bool = field(init=False)

    def __post_init__(self) -> None:
        same = all((numbers == np.arange(len(numbers))).all() for numbers in (self.slots, self.classes))
        object.__setattr__(self, "same", same)

    def labels(self, ys: Floats, at: str, *, classify: bool) -> Floats:
        """Labels as this engine numbers them."""
        with np.errstate(invalid="ignore"):  # a damaged record may hold NaNs that signal
            known = (ys >= 0) & (ys < len(self.classes)) & (ys == np.floor(ys)) if classify else np.isfinite(ys)
        if not known.all():
            raise SnapshotError(f"{at}: a window with label {ys[~known][0]}, which its schema does not have")
        return self.classes[ys.astype(np.int64)].astype(np.float32) if classify else ys

    def mean(self, data: bytes, at: str, *, classify: bool) -> Floats:
        """A prediction, in this engine's order of classes."""
        most = len(self.classes) if classify else 1
        if len(data) % 4 or len(data) > 4 * most:
            raise SnapshotError(f"{at}: a prediction of {len(data)} bytes, wanted at most {most} numbers")
        found = np.frombuffer(data, np.float32)
        if not classify or self.same:
            return found
        mean = np.zeros(int(self.classes[: len(found)].max(initial=-1)) + 1, np.float32)
        mean[self.classes[: len(found)]] = found
        return mean


class _Piece(NamedTuple):
    """Labelled events ``begin`` to ``begin + events`` of a task."""

    row: int
    begin: int
    events: int
    x: memoryview
    y: memoryview
    meaning: _Meaning


class _Found(NamedTuple):
    """A partition's records by what they are about; no keys as objects, which the garbage collector would look at."""

    schemas: dict[str, bytes]
    tasks: list[tuple[str, bytes]]
    pages: dict[tuple[str, int], bytes]
    waits: list[tuple[Key, bytes]]


def _sorted_out(records: Mapping[bytes, bytes], at: str) -> _Found:
    found = _Found({}, [], {}, [])
    for raw, value in records.items():
        key = parse_key(raw, at)
        match key.kind:
            case "schema":
                found.schemas[key.tag] = value
            case "task":
                found.tasks.append((key.tag, value))
            case "page":
                found.pages[key.tag, key.number] = value
            case "wait":
                found.waits.append((key, value))
    return found


class _Pages(NamedTuple):
    """The full pages of a partition's windows."""

    records: Mapping[tuple[str, int], bytes]
    meanings: Mapping[bytes, _Meaning]
    at: str

    def get(self, tag: str, number: int, key: int) -> tuple[Page, _Meaning]:
        data = self.records.get((tag, key))
        at = f"{self.at}, page {key} of task {tag[:100]!r}"
        if data is None:
            raise SnapshotError(f"{at}: is not there; was the topic cleaned by hand? It must be compacted, not deleted")
        page = decode(Page, data, at)
        if page.number != number:
            raise SnapshotError(f"{at}: holds events from {page.number * PAGE} on, wanted from {number * PAGE} on")
        return page, _meaning(self.meanings, page.schema, at)


def _meaning(meanings: Mapping[bytes, _Meaning], id_: bytes, at: str) -> _Meaning:
    found = meanings.get(id_)
    if found is None:
        raise SnapshotError(f"{at}: schema {id_.hex()} is not there; was the topic cleaned by hand?")
    return found


def _bytes(values: Floats) -> memoryview:
    return memoryview(values.tobytes())


def _wait(id_: str, w: Waiting) -> Wait:
    mean = None if w.mean is None else w.mean.tobytes()
    parts = None if w.parts is None else w.parts.tobytes()
    return Wait(id_, list(w.slots), w.values.tobytes(), mean, float(w.variance), int(w.theta_version), parts)


def _chunks(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for begin in range(0, len(items), _CHUNK):
        yield items[begin : begin + _CHUNK]
