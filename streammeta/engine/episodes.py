"""Segments of labelled events as records, for a trainer in another process: by name, raw, and a bounded ring a task.

A segment holds up to 16 consecutive labelled events of one task. Its key is TAG#SLOT, and slots count round, so that
compaction keeps the last labelled events of each task and nothing else. A young task's first segment is written early,
and again when it is full. Raw events make a stale θ harmless: only their age matters to who learns from them.
"""

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from streammeta.bounds import Count
from streammeta.engine.spill import TaskKey
from streammeta.errors import SnapshotError
from streammeta.event import LabelValue
from streammeta.meta.settings import Kind

__all__ = [
    "LARGEST",
    "SEGMENT",
    "UPDATE",
    "Circumstance",
    "EpisodeLog",
    "Segment",
    "all_keys",
    "decode_segment",
    "elsewhere",
    "encode_segment",
    "segment_key",
]

SEGMENT = 16  # labelled events
LARGEST = 900_000  # bytes of a segment that is written: a topic takes no more than a million by default
UPDATE: Final = b"update"  # in the place of a segment's key: a change of θ, of a member that keeps its events
_SLOTS = 16  # segments kept of each task: as many labelled events as its window has by default
_EARLY = 8  # labelled events after which a task's first segment is written though it is not full
_MOST_OPEN = 10_000  # tasks whose circumstances are kept until their segment is full
_Text: TypeAlias = Annotated[str, msgspec.Meta(max_length=1_000)]


class Circumstance(NamedTuple):
    """What is known of a labelled event beside its features and label."""

    ts: float  # seconds since 1970; NaN: not known
    offset: int  # of the event or label that brought the label
    version: int  # of θ, by which it was predicted
    loss: float
    drifted: bool  # a drift was signalled at it


_UNKNOWN = Circumstance(float("nan"), -1, -1, float("nan"), drifted=False)


class Segment(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Consecutive labelled events of one task, n of them."""

    format: Literal[1]
    kind: Literal["classification", "regression"]
    begin: Count  # the number of the first, counting the task's labelled events
    features: Annotated[
        list[tuple[_Text, _Text | None]], msgspec.Meta(max_length=65_536)
    ]  # names, values of categories
    x: bytes  # float64 [n, D] raw; NaN: missing
    y: Annotated[list[int | float | _Text], msgspec.Meta(min_length=1, max_length=SEGMENT)]
    ts: bytes  # float64 [n]
    offsets: bytes  # int64 [n]; −1: not known any more, as after a restart
    versions: bytes  # int64 [n]
    losses: bytes  # float32 [n]
    drifted: bytes  # uint8 [n]

    def values(self) -> npt.NDArray[np.float64]:
        """Raw features [n, D]."""
        return np.frombuffer(self.x, np.float64).reshape(len(self.y), len(self.features))

    def xs(self) -> list[dict[str, float | str]]:
        """The features of each event by name, as a producer sends them."""
        found = []
        for row in self.values().tolist():
            one: dict[str, float | str] = {}
            for (name, value), number in zip(self.features, row, strict=True):
                if not math.isnan(number):
                    one[name] = number if value is None else value
            found.append(one)
        return found


@dataclass(slots=True)
class _Open:
    """A task with labelled events that are in no full segment yet."""

    known: dict[int, Circumstance] = field(default_factory=dict)  # of labelled events by number
    written: int | None = None  # labelled events that are in segments; None: not since this process has the task


class EpisodeLog:
    """Which segments are due, and what is known of the events in them.

    Args:
        window: labelled events that the engine keeps of each task.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._open: OrderedDict[TaskKey, _Open] = OrderedDict()
        self._changed: set[TaskKey] = set()

    def note(self, key: TaskKey, number: int, circumstance: Circumstance) -> None:
        """A task has learned its labelled event of this number."""
        found = self._open.setdefault(key, _Open())
        found.known[number] = circumstance
        if len(found.known) > self._window:
            del found.known[min(found.known)]
        self._open.move_to_end(key)
        self._changed.add(key)
        if len(self._open) > _MOST_OPEN:
            self._open.popitem(last=False)

    def due(self, key: TaskKey, count: int) -> Iterator[tuple[range, list[Circumstance]]]:
        """The segments of a task to be written, each with the numbers of its events; they count as written then.

        Args:
            key: of the task.
            count: the labelled events that went into its window, ever.
        """
        self._changed.discard(key)
        task = self._open.get(key, _Open())
        written = task.written if task.written is not None else min(task.known, default=count)
        if written > count:  # its window began again
            written = task.written = 0
            task.known = {number: one for number, one in task.known.items() if number < count}
        oldest = -(-max(count - self._window, 0) // SEGMENT) * SEGMENT  # what the window has no more is left out
        for begin in range(max(written - written % SEGMENT, oldest), count, SEGMENT):
            end = min(begin + SEGMENT, count)
            is_early = begin == 0 and end >= _EARLY > (task.written or 0)
            if end - begin < SEGMENT and not is_early:
                break
            written = end
            yield range(begin, end), [task.known.get(number, _UNKNOWN) for number in range(begin, end)]
        task.written = written
        for number in [number for number in task.known if number < written - written % SEGMENT]:
            del task.known[number]

    @property
    def changed(self) -> list[TaskKey]:
        """The tasks that learned labels since their segments were asked for."""
        return sorted(self._changed)

    def forget_task(self, key: TaskKey) -> None:
        """A task is forgotten: what was not written of it is not written any more."""
        self._open.pop(key, None)
        self._changed.discard(key)

    def forget(self, partition: int) -> None:
        """A partition is another process's now."""
        for key in [key for key in self._open if key[0] == partition]:
            del self._open[key]
        self._changed = {key for key in self._changed if key[0] != partition}


def all_keys(tag: str) -> list[bytes]:
    """The keys of all segments that there may be of a task."""
    return [segment_key(tag, number * SEGMENT) for number in range(_SLOTS)]


def elsewhere(partition: int) -> int:
    """Under what number an engine keeps tasks of another process's partition: below zero. And the other way about."""
    return -1 - partition


def segment_key(tag: str, begin: int) -> bytes:
    """TAG#SLOT."""
    return f"{tag}#{begin // SEGMENT % _SLOTS}".encode()


_DECODER = msgspec.msgpack.Decoder(Segment)


def encode_segment(
    kind: Kind,
    begin: int,
    features: Sequence[tuple[str, str | None]],
    x: npt.NDArray[Any],
    y: Sequence[LabelValue],
    known: Sequence[Circumstance],
) -> bytes:
    """The record of labelled events x [n, D], y [n]; features that none of them has are left out."""
    there = np.flatnonzero(~np.isnan(x).all(0)).tolist()
    ts, offsets, versions, losses, drifted = zip(*known, strict=True)
    segment = Segment(
        1,
        kind,
        begin,
        [features[i] for i in there],
        np.ascontiguousarray(x[:, there], np.float64).tobytes(),
        list(y),
        np.array(ts, np.float64).tobytes(),
        np.array(offsets, np.int64).tobytes(),
        np.array(versions, np.int64).tobytes(),
        np.array(losses, np.float32).tobytes(),
        np.array(drifted, np.uint8).tobytes(),
    )
    return msgspec.msgpack.encode(segment)


def decode_segment(key: bytes, value: bytes, at: str) -> tuple[str, Segment]:
    """What ``encode_segment`` wrote, with its task's tag.

    Raises:
        SnapshotError: it is something else, or damaged; the message begins with ``at``.
    """
    if key == UPDATE:
        raise SnapshotError(
            f'{at}: a change of θ, by a member with [meta] share = "updates", and here it is "episodes"; set one '
            "of the two for all members and the trainer, and delete the topic, which loses nothing but time"
        )
    try:
        tag, between, slot = key.decode().rpartition("#")
        segment = _DECODER.decode(value)
        wrong = _wrong(segment) if between and slot.isdecimal() else f"the key is {key!r:.100}, wanted TAG#SLOT"
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        wrong = str(err)
    if wrong:
        raise SnapshotError(
            f"{at}: {len(value)} bytes that are no segment of format 1 ({wrong}); wanted what this version of "
            "streammeta wrote: choose another [app] name, or delete the topic, which loses nothing but time"
        )
    return tag, segment


def _wrong(segment: Segment) -> str:
    """What cannot be in a segment; nothing where all can."""
    n, width = len(segment.y), len(segment.features)
    sizes = (segment.x, 8 * n * width), (segment.ts, 8 * n), (segment.offsets, 8 * n), (segment.versions, 8 * n)
    for data, size in (*sizes, (segment.losses, 4 * n), (segment.drifted, n)):
        if len(data) != size:
            return f"{len(data)} bytes for {n} events, wanted {size}"
    return "a feature is infinite" if np.isinf(segment.values()).any() else ""
