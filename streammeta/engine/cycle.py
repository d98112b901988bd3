"""The cycle: cut a batch where something shared may change, then predict, learn, judge, detect drift, remember."""

from collections.abc import Sequence

import msgspec
import numpy as np

from streammeta.engine.buffer import keep_low
from streammeta.engine.corrections import correct
from streammeta.engine.elapsed import note_time, with_elapsed
from streammeta.engine.features import Filled
from streammeta.engine.item import Item
from streammeta.engine.labels import Waiting
from streammeta.engine.looks import Look, due_for_look, find_strays, is_outdated, look, until_look
from streammeta.engine.memory import Memory
from streammeta.engine.outcome import Outcome
from streammeta.engine.runs import Runs
from streammeta.engine.scale import Doubles, Seen
from streammeta.engine.spill import TaskKey
from streammeta.engine.staleness import mark_derived, refresh
from streammeta.engine.training import Training
from streammeta.errors import EventError
from streammeta.event import Event, Label
from streammeta.meta.base import Ints

__all__ = ["Cycle"]


class Cycle:
    """Takes batches of events and labels through an engine's memory.

    Args:
        memory: what is remembered.
        training: changes θ in between, where that is due.

    Attributes:
        prepared: features of events to come that were read already, by the events' identity.
        has_backlog: more events wait than can be taken; a run with this set cannot be repeated exactly.
    """

    def __init__(self, memory: Memory, training: Training) -> None:
        self._memory, self._training = memory, training
        self._runs = Runs(memory)
        memory.counts.next_look = training.look_every
        self.has_backlog = False
        self.prepared: dict[int, Filled] = {}

    def step(self, events: Sequence[Event | Label]) -> list[Outcome]:
        """Predict, then learn; one outcome for each event or label, in the same order.

        In meta mode "sync", θ is meta-updated in between, at counts of them that ``Rhythm`` sets. What cannot be used
        comes back with ``rejected`` set to the reason, and changes nothing.
        """
        outcomes: list[Outcome | None] = [None] * len(events)
        begin = 0
        while begin < len(events):
            items, begin = self._take(events, begin, outcomes)
            self._part(items, outcomes)
            self._memory.counts.seen += len(items)
            self._between()
        return [outcome for outcome in outcomes if outcome is not None]

    def _take(
        self, events: Sequence[Event | Label], begin: int, outcomes: list[Outcome | None]
    ) -> tuple[list[Item], int]:
        """Read events on from ``begin`` as far as nothing shared changes, and say where that ends.

        It ends where θ may change next, and before and after a label of a class not seen before. What is refused gets
        its outcome here, and counts for nothing else.
        """
        memory = self._memory
        capacity = self.until_change()
        items: list[Item] = []
        until = min(begin + capacity, len(events))
        ahead = iter(memory.features.read_ahead(events, begin, until) if memory.settings.elapsed is None else ())
        for at in range(begin, len(events)):
            event = events[at]
            brings_class = memory.labels.is_new(event.y)
            if items and (len(items) >= capacity or brings_class or self._begins_again(event)):
                return items, at
            try:
                filled = next(ahead, None)
                items.append(self._admit(at, event, self.prepared.get(id(event), filled) if self.prepared else filled))
            except EventError as err:
                if isinstance(event, Label) and memory.settings.on_second == "relearn":
                    if items:  # they are learned first: what it corrects may be one of them
                        return items, at
                    outcomes[at] = self._correct(event)
                    continue
                memory.counts.refused += 1
                outcomes[at] = Outcome(event, rejected=str(err))
            if brings_class and items:
                return items, at + 1
        return items, len(events)

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

    def until_change(self) -> int:
        """Events and labels until something shared may change."""
        memory = self._memory
        return min(memory.shared.next_scaling - memory.sums.total, memory.counts.next_look - memory.counts.seen)

    def _part(self, items: list[Item], outcomes: list[Outcome | None]) -> None:
        """A stretch in which nothing shared changes; it is cut where a task's φ has to be derived again in between."""
        memory = self._memory
        if not items:
            return
        memory.grow()
        exact = memory.features.table([item.filled for item in items])
        labels = memory.labels.numbers([item.source.y for item in items])
        rows = np.array([item.row for item in items], np.int64)
        brings_class = memory.labels.is_new(items[0].source.y)  # then it came alone
        begin = 0
        while begin < len(items):
            outdated = is_outdated(memory.tasks.columns, rows[begin:], memory.shared.frame.epoch)
            if outdated[0]:
                first = items[begin]
                found = look(memory.tasks.columns, first.row, memory.shared.frame)
                self.follow_look(first.source.origin.partition, first.row, found)
                continue
            seen = Seen.of(memory.tasks.columns, rows[begin:], exact[begin:], labels[begin:], memory.shared.frame)
            strays = find_strays(memory.shared.frame, seen.x, seen.y)
            frame = memory.shared.frame
            until = begin + until_look(memory.tasks.columns, seen.rows, seen.labels, strays, outdated, frame)
            end, stale = refresh(
                memory.tasks.columns, rows[:until], begin, memory.shared.stamp, has_backlog=self.has_backlog
            )
            now, done = items[begin:end], seen if end == len(items) else seen.cut(0, end - begin)
            stale = stale[memory.tasks.columns["window_count"][stale] > 0]
            if stale.size:
                memory.response.derive(memory.fixed, memory.tasks.columns, stale, memory.labels.outputs)
            self._runs.go(now, done, outcomes)
            self._look_at(now, done, strays)
            begin = end
        if brings_class:
            self._learn_class(items[0], rows, exact)
        self._observe(items, exact)
        if memory.exchange.is_writing:
            memory.exchange.note(items, outcomes)
        if memory.settings.meta.mode != "off":
            self._training.observe_outcomes([item.judged for item in items if item.judged is not None])

    def _learn_class(self, item: Item, rows: Ints, exact: Doubles) -> None:
        """Learn an item whose label is a class not seen before, after it was judged: that makes the class known."""
        memory, label = self._memory, item.source.y
        assert label is not None  # it has a class
        memory.labels.learn(label)
        memory.grow()
        seen = Seen.of(memory.tasks.columns, rows, exact, memory.labels.numbers([label]), memory.shared.frame)
        self._runs.learn(item, seen)
        self._look_at([item], seen, find_strays(memory.shared.frame, seen.x, seen.y))

    def _look_at(self, items: Sequence[Item], seen: Seen, strays: Ints) -> None:
        """Look at the tasks whose labels in these events say so, in order; φ follows a scale that changed."""
        memory = self._memory
        for last in due_for_look(memory.tasks.columns, seen.rows, seen.labels, strays):
            row, before = items[last].row, len(memory.shared.own)
            found = look(memory.tasks.columns, row, memory.shared.frame, seen.exact[last])
            if self.follow_look(items[last].source.origin.partition, row, found):
                keep_low(memory.tasks.columns, seen, last + 1, memory.shared.frame.own, before)

    def follow_look(self, partition: int, row: int, found: Look) -> bool:
        """Do what a look at a task asks for, and say whether any feature may have own views that could not before."""
        memory = self._memory
        births = memory.shared.give_own_views(found.births)
        if births:
            memory.widen()
        columns = memory.tasks.columns
        if births or found.has_changed:
            if found.unit_changed:
                memory.response.forget_concepts(columns, row)
            memory.rescale(memory.fixed, columns, row, found)
            mark_derived(columns, row, memory.shared.stamp)
        else:
            memory.method.respread(columns, np.array([row]), 1.0)
        if partition >= 0:  # else the member that has it counts it
            memory.sums.observe_look(partition, found.crowd, found.target_crowd)
        return births

    def _admit(self, at: int, event: Event | Label, filled: Filled | None) -> Item:
        """Find the event's task and, where they were not read ahead, its slots; EventError when it cannot be used."""
        memory = self._memory
        if event.y is not None:
            y = memory.labels.admit(event.y, event.origin)
            # of the type of its class, so that predictions and labels compare
            event = event if type(y) is type(event.y) else msgspec.structs.replace(event, y=y)
        if isinstance(event, Label):
            return self._admit_label(at, event)
        key: TaskKey = (event.origin.partition, event.task)
        elapsed = memory.settings.elapsed
        if elapsed is not None:
            event = self._timed(event, key, elapsed)
        if filled is None:
            filled = memory.features.read(event.x, event.origin)
        if memory.tasks.leaving:
            memory.tasks.release(key)
        row, is_new = memory.tasks.touch(key)
        if elapsed is not None:
            note_time(memory.tasks.columns, row, event.ts)
        for gone in memory.presence.see(key, event.ts):
            memory.leave(gone)
        if not memory.counts.events and not event.task and key[0] >= 0:
            self._training.begin_alone()
        memory.counts.events += 1
        waiting = None
        if event.y is None and event.id is not None:
            waiting = Waiting(key, filled.slots, np.array(filled.values))
            memory.waiting.enter(event.id, waiting)
        return Item(at, event, row, event.task, filled, waiting, is_new)

    def _timed(self, event: Event, key: TaskKey, name: str) -> Event:
        """The event with the time since its task's event before."""
        tasks = self._memory.tasks
        row = -1 if tasks.find(key[0], [key[1]]) == [-1] else tasks.recall(key)
        return with_elapsed(event, name, tasks.columns, row)

    def _admit_label(self, at: int, label: Label) -> Item:
        """Find the event that a late label is for, and its task; EventError when none waits."""
        memory = self._memory
        waits = memory.waiting.leave(label)
        row, _ = memory.tasks.touch(waits.key)
        for gone in memory.presence.see(waits.key, None):  # by this, others of the partition may be forgotten
            memory.leave(gone)
        return Item(at, label, row, waits.key[1], waits.filled, waits, is_new_task=False)

    def _observe(self, items: Sequence[Item], xs: Doubles) -> None:
        """Feed what tasks share with a part's events, in the order of arrival."""
        memory = self._memory
        for item in items:
            if item.source.y is not None:
                memory.recent.add(item.row)
        arrived: dict[int, list[int]] = {}
        for i, item in enumerate(items):
            arrived.setdefault(item.source.origin.partition, []).append(i)
        for partition, places in arrived.items():
            if partition < 0:  # the member that has it counts it
                continue
            events = [i for i in places if isinstance(items[i].source, Event)]
            targets = None
            if not memory.labels.classify:
                targets = np.array([items[i].source.y for i in places if items[i].source.y is not None], np.float64)
            memory.sums.observe(partition, len(places), xs if len(events) == len(items) else xs[events], targets)

    def _between(self) -> None:
        """Between two parts: normalization, meta-update and spill, each at its own count of events."""
        memory = self._memory
        counts = memory.counts
        if self.until_change() > 0:
            return
        if memory.mixture:
            memory.mixture.publish_shared()
        memory.sums.publish_shared()
        memory.shared.rescale(memory.features.categories)
        if counts.seen < counts.next_look:
            return
        self._training.update()
        counts.next_look = counts.seen + self._training.look_every
        memory.tasks.sweep()
        memory.tasks.shrink()
