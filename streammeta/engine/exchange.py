"""Labelled events on their way to a trainer in another process, and those of others on their way into an engine.

A process publishes segments of its tasks' labelled events (``episodes``). Who trains also learns those of partitions
that others have: as tasks under partition numbers below zero, which no changelog, sum or list knows.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from streammeta.engine.episodes import (
    LARGEST,
    Circumstance,
    EpisodeLog,
    all_keys,
    decode_segment,
    elsewhere,
    encode_segment,
    segment_key,
)
from streammeta.engine.features import FeatureSpace
from streammeta.engine.labels import LabelSpace
from streammeta.engine.outcome import Outcome, Signal
from streammeta.engine.part import Part
from streammeta.engine.presence import Presence
from streammeta.engine.scale import exact_window
from streammeta.engine.spill import TaskKey
from streammeta.engine.tasks import TaskTable
from streammeta.errors import SnapshotError
from streammeta.event import Event, Origin
from streammeta.meta.settings import Kind

__all__ = ["Exchange"]


class Exchange:
    """Writes and reads episodes.

    Args:
        kind: of prediction.
        window: labelled events that are kept of each task.
        tasks: the engine's.
        features: likewise.
        labels: likewise.
        presence: when tasks were last seen.
    """

    def __init__(
        self,
        kind: Kind,
        window: int,
        tasks: TaskTable,
        features: FeatureSpace,
        labels: LabelSpace,
        presence: Presence,
    ) -> None:
        self._kind: Kind = kind
        self._presence = presence
        self._window, self._tasks, self._features, self._labels = window, tasks, features, labels
        self._log = EpisodeLog(window)
        self._forgotten: list[TaskKey] = []  # tasks of ours whose segments are to be forgotten, too
        self._known: dict[TaskKey, int] = {}  # of tasks elsewhere, the labelled events that we have learned
        self.is_writing = False

    @property
    def tasks_elsewhere(self) -> int:
        """Tasks of other processes' partitions."""
        return len(self._known)

    @property
    def known(self) -> dict[TaskKey, int]:
        """How many labelled events of each of those we know, in the order in which they spoke last; a copy."""
        return dict(self._known)

    def note(self, part: Part, outcomes: Sequence[Outcome | None]) -> None:
        """Note the circumstances of labels that were just learned, the last first: so their numbers are known."""
        counts, later = self._tasks.columns.window_count, dict[int, int]()
        rows, partitions, times = part.rows.tolist(), part.partitions.tolist(), part.times.tolist()
        for i in range(part.size - 1, -1, -1):
            outcome, row = outcomes[part.places[i]], rows[i]
            if outcome is None or outcome.loss is None or partitions[i] < 0:
                continue
            later[row] = later.get(row, 0) + 1
            number = int(counts[row]) - later[row]
            if number >= 0:
                drifted, offset = outcome.signal is Signal.DRIFT, part.sources[i].origin.offset
                about = Circumstance(times[i], offset, outcome.theta_version, outcome.loss, drifted)
                self._log.note((partitions[i], part.tasks[i]), number, about)

    def changed(self, own: Sequence[int]) -> Iterator[tuple[int, bytes, bytes | None]]:
        """Segments that are complete since this was last asked: partition, key, record; None: of a forgotten task.

        Args:
            own: the slots that have a second float32.
        """
        forgotten, self._forgotten = self._forgotten, []
        for partition, tag in forgotten:  # before what came of its tag since
            yield from ((partition, key, None) for key in all_keys(tag))
        tasks, names = self._tasks, [(slot.name, slot.value) for slot in self._features.slots]
        for task in self._log.changed:
            row = tasks.recall(task)
            for numbers, known in self._log.due(task, int(tasks.columns.window_count[row])):
                at = np.array(numbers) % self._window
                x = exact_window(tasks.columns, row, at, len(names), own)
                y = tasks.columns.window_y[row, at].tolist()
                labels = [self._labels.classes[int(one)] for one in y] if self._labels.classify else y
                record = encode_segment(self._kind, numbers.start, names, x, labels, known)
                if len(record) <= LARGEST:
                    yield task[0], segment_key(task[1], numbers.start), record
        tasks.shrink()

    def read(self, partition: int, key: bytes, value: bytes, at: str) -> list[Event]:
        """The events of a segment that are not known yet, as events of a partition elsewhere.

        Raises:
            SnapshotError: the segment is damaged, or of another kind of prediction.
        """
        tag, segment = decode_segment(key, value, at)
        if segment.kind != self._kind:
            raise SnapshotError(f"{at}: a segment of a {segment.kind}, wanted {self._kind}: other settings?")
        task, end = (elsewhere(partition), tag), segment.begin + len(segment.y)
        known = self._known.pop(task, 0)  # and back to the end: in the order in which tasks spoke last
        first = known - segment.begin if segment.begin <= known < end else 0  # else it began again, or some are missing
        self._known[task] = end
        events = zip(segment.xs(), segment.y, np.frombuffer(segment.ts).tolist(), strict=True)
        return [
            Event(x, tag, Origin("episodes", task[0], segment.begin + i), y=y, ts=None if math.isnan(ts) else ts)
            for i, (x, y, ts) in enumerate(events)
            if i >= first
        ]

    def forget_task(self, key: TaskKey) -> None:
        """A task is forgotten, of ours or elsewhere."""
        self._log.forget_task(key)
        self._known.pop(key, None)

    def unwrite(self, key: TaskKey) -> None:
        """What was written of a task is to be forgotten, too; else it is for as long as the topic keeps it."""
        if self.is_writing and key[0] >= 0:
            self._forgotten.append(key)

    def forget(self, partition: int) -> None:
        """Drop what came of a partition, and what is to be written of it."""
        self._log.forget(partition)
        number = elsewhere(partition)
        self._tasks.forget(number)
        self._presence.forget(number)
        self._known = {task: known for task, known in self._known.items() if task[0] != number}
