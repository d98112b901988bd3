"""Whether an event or label can be used, and what it is of: its task's row, its features' slots, its label's number.

Events of tasks, features and classes that are known, which nearly all are, are admitted together by
`streammeta/native/admission.cpp`; what it does not know it leaves, and that is admitted one by one.
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from streammeta.engine.corrections import correct
from streammeta.engine.elapsed import note_time
from streammeta.engine.features import Filled
from streammeta.engine.labels import Waiting
from streammeta.engine.memory import Memory
from streammeta.engine.outcome import Outcome
from streammeta.engine.part import Part
from streammeta.engine.spill import TaskKey
from streammeta.engine.training import Training
from streammeta.errors import EventError
from streammeta.event import Event, Label
from streammeta.native import _kernels as kernels

__all__ = ["Admission"]


class Admission:
    """Takes events and labels from a batch.

    Args:
        memory: what is known.
        training: begins otherwise where a stream has no tasks.

    Attributes:
        prepared: features of events to come that were read already, by the events' identity.
    """

    def __init__(self, memory: Memory, training: Training) -> None:
        self._memory, self._training = memory, training
        self._makes_features = memory.settings.elapsed is not None or memory.extractor is not None
        self.prepared: dict[int, Filled] = {}

    def take(
        self, events: Sequence[Event | Label], begin: int, most: int, outcomes: list[Outcome | None]
    ) -> tuple[Part, int]:
        """Read events on from ``begin`` as far as nothing shared changes, and say where that ends.

        It ends after ``most`` of them, or after one, and before and after a label of a class not seen before. What is
        refused gets its outcome here, and counts for nothing else.
        """
        memory, most = self._memory, max(most, 1)
        part = Part(min(most, len(events) - begin), len(memory.features.pattern.slot_of))
        at = begin + self._admit_known(part, events, begin, most)
        while at < len(events):
            event = events[at]
            brings_class = memory.labels.is_new(event.y)
            if part.size and (part.size >= most or brings_class or self._begins_again(event)):
                break
            try:
                self._admit(part, at, event)
            except EventError as err:
                if isinstance(event, Label) and memory.settings.on_second == "relearn":
                    if part.size:  # it is learned first: what this corrects may be in it
                        break
                    outcomes[at] = self._correct(event)
                else:
                    memory.counts.refused += 1
                    outcomes[at] = Outcome(event, rejected=str(err))
            at += 1
            if brings_class and part.size:
                break
            at += self._admit_known(part, events, at, most)
        part.close(memory.features)
        return part, at

    def _correct(self, label: Label) -> Outcome:
        """Take a label for which no event waits as a correction."""
        try:
            return correct(self._memory, label)
        except EventError as err:
            self._memory.counts.refused += 1
            return Outcome(label, rejected=str(err))

    def _begins_again(self, event: Event | Label) -> bool:
        """Whether this is of a task that is forgotten and still has its row, which earlier events may be using."""
        leaving = self._memory.tasks.leaving
        return bool(leaving) and isinstance(event, Event) and (event.origin.partition, event.task) in leaving

    def _admit_known(self, part: Part, events: Sequence[Event | Label], at: int, most: int) -> int:
        """Admit events of what is known, from ``at`` on, as long as they are; returns how many these are."""
        memory, begin = self._memory, part.size
        if self.prepared or memory.tasks.leaving or self._makes_features or not memory.counts.events:
            return 0
        if at == len(events) or begin >= most:
            return 0
        partition, keys = events[at].origin.partition, list[TaskKey]()
        calls, before = memory.presence.until_forgetting(partition)
        end = at + int(min(len(events) - at, most - begin, max(calls, 0)))
        pattern, labels, rows = memory.features.pattern, memory.labels.known, memory.tasks.in_rows
        kernels.admit(events, at, end, Event, pattern, labels, rows, partition, before, part.filling, keys)
        part.size += len(keys)
        if keys:
            memory.tasks.touch_all(keys)
            memory.presence.see_all(partition, keys, part.times[begin : part.size])
            memory.counts.events += len(keys)
        return len(keys)

    def _admit(self, part: Part, at: int, event: Event | Label) -> None:
        """Admit one; raises EventError, and has changed nothing, where it cannot be used."""
        memory, filled = self._memory, self.prepared.get(id(event))
        if event.y is not None:
            y = memory.labels.admit(event.y, event.origin)
            # of the type of its class, so that predictions and labels compare
            event = event if type(y) is type(event.y) else msgspec.structs.replace(event, y=y)
        if isinstance(event, Label):
            self._admit_label(part, at, event)
            return
        key: TaskKey = (event.origin.partition, event.task)
        has_past = self._makes_features and key[0] >= 0
        if has_past and filled is None:  # else it has these features already, as episodes have
            event = self.extracted(event, key)
        filled = filled or memory.features.read(event.x, event.origin)
        if memory.tasks.leaving:
            memory.tasks.release(key)
        row, is_new = memory.tasks.touch(key)
        for gone in memory.presence.see(key, event.ts):
            memory.leave(gone)
        if has_past:
            self._note_past(event, self._row_of_past(key, row, event.ts))
        if not memory.counts.events and not event.task and key[0] >= 0:
            self._training.begin_alone()
        memory.counts.events += 1
        i = part.add(at, event, key, row, memory.labels.number(event.y), filled)
        part.is_new_task[i] = is_new
        if event.y is None and event.id is not None:
            part.waits[i] = Waiting(key, filled.slots, np.array(filled.values, np.float64))
            if memory.extractor and memory.extractor.needs_label_times:
                part.waits[i].ts = event.ts
            memory.waiting.enter(event.id, part.waits[i])

    def extracted(self, event: Event, key: TaskKey) -> Event:
        """The event with the features that are made of the past in this task's row, and of others of its own.

        Raises:
            EventError: they cannot be made.
        """
        tasks = self._memory.tasks
        row = -1 if tasks.find(key[0], [key[1]]) == [-1] else tasks.recall(key)
        return self._memory.extracted(event, tasks.columns, row)

    def _row_of_past(self, key: TaskKey, row: int, ts: float | None) -> int:
        """Where the past of a task is, which has this row and was just seen."""
        memory, past = self._memory, self._memory.past_of(key)
        if past == key or memory.extractor is None or not memory.extractor.has_past:
            return row
        memory.tasks.release(past)
        row, _ = memory.tasks.touch(past)
        for gone in memory.presence.see(past, ts):
            memory.leave(gone)
        return row

    def _note_past(self, event: Event, row: int) -> None:
        """An event was admitted: later ones of its task have features made of it."""
        memory = self._memory
        if memory.settings.elapsed is not None:
            note_time(memory.tasks.columns, row, event.ts)
        if memory.extractor:
            memory.extractor.remember(memory.tasks.columns, row, event)
            if event.came is not None and not isinstance(event.came, Mapping):
                memory.features.fix_width(len(event.came))

    def _admit_label(self, part: Part, at: int, label: Label) -> None:
        """Find the event that a late label is for, and its task; EventError when none waits."""
        memory = self._memory
        waits = memory.waiting.leave(label)
        row, _ = memory.tasks.touch(waits.key)
        for gone in memory.presence.see(waits.key, None):  # by this, others of the partition may be forgotten
            memory.leave(gone)
        if memory.extractor and waits.key[0] >= 0:
            past = self._row_of_past(waits.key, row, None)
            memory.extractor.remember_label(memory.tasks.columns, past, label.y, waits.ts)
        i = part.add(at, label, waits.key, row, memory.labels.number(label.y), waits.filled)
        part.waits[i] = waits
