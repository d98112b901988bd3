"""The cycle: cut a batch where something shared may change, then predict, learn, judge, detect drift, remember."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from streammeta.engine.admission import Admission
from streammeta.engine.buffer import keep_low
from streammeta.engine.looks import Look, due_for_look, find_strays, is_outdated, look, until_look
from streammeta.engine.memory import Memory
from streammeta.engine.outcome import Outcome
from streammeta.engine.part import Part
from streammeta.engine.runs import Runs
from streammeta.engine.scale import Seen
from streammeta.engine.staleness import mark_derived, refresh
from streammeta.engine.training import Training
from streammeta.event import Event, Label
from streammeta.meta.base import Ints

__all__ = ["Cycle"]


class Cycle:
    """Takes batches of events and labels through an engine's memory.

    Args:
        memory: what is remembered.
        training: changes θ in between, where that is due.

    Attributes:
        admission: takes events and labels from a batch.
        has_backlog: more events wait than can be taken; a run with this set cannot be repeated exactly.
    """

    def __init__(self, memory: Memory, training: Training) -> None:
        self._memory, self._training = memory, training
        self.admission, self._runs = Admission(memory, training), Runs(memory)
        memory.counts.next_look = training.look_every
        self.has_backlog = False

    def step(self, events: Sequence[Event | Label]) -> list[Outcome]:
        """Predict, then learn; one outcome for each event or label, in the same order.

        In meta mode "sync", θ is meta-updated in between, at counts of them that ``Rhythm`` sets. What cannot be used
        comes back with ``rejected`` set to the reason, and changes nothing.
        """
        outcomes: list[Outcome | None] = [None] * len(events)
        begin = 0
        while begin < len(events):
            part, begin = self.admission.take(events, begin, self.until_change(), outcomes)
            if part.size:
                self.take(part, outcomes)
                self.finish(part, outcomes)
        return [outcome for outcome in outcomes if outcome is not None]

    def until_change(self) -> int:
        """Events and labels until something shared may change."""
        shared, counts = self._memory.shared, self._memory.counts
        due = shared.next_scaling - self._memory.sums.total, counts.next_look - counts.seen
        return min(*due, shared.until_notice)

    def take(self, part: Part, outcomes: list[Outcome | None]) -> None:
        """Take a part through, of at most ``until_change``, as far as it concerns its tasks alone: then ``finish``.

        It is cut where a task's φ has to be derived in between.
        """
        memory = self._memory
        memory.grow()
        rows, exact, labels = part.rows, part.exact, part.labels
        brings_class = bool(part.is_labelled[0] and np.isnan(labels[0]))  # then it came alone
        begin = 0
        while begin < part.size:
            outdated = is_outdated(memory.tasks.columns, rows[begin:], memory.shared.frame.epoch)
            if outdated[0]:
                row = int(rows[begin])
                self.follow_look(int(part.partitions[begin]), row, look(memory.tasks.columns, row, memory.shared.frame))
                continue
            seen = Seen.of(memory.tasks.columns, rows[begin:], exact[begin:], labels[begin:], memory.shared.frame)
            strays = find_strays(memory.shared.frame, seen.x, seen.y)
            frame = memory.shared.frame
            until = begin + until_look(memory.tasks.columns, seen.rows, seen.labels, strays, outdated, frame)
            end, stale = refresh(
                memory.tasks.columns, rows[:until], begin, memory.shared.stamp, has_backlog=self.has_backlog
            )
            now, done = part.cut(begin, end), seen if end == part.size else seen.cut(0, end - begin)
            stale = stale[memory.tasks.columns.window_count[stale] > 0]
            if stale.size:
                memory.response.derive(memory.fixed, memory.tasks.columns, stale, memory.labels.outputs)
            self._runs.go(now, done, outcomes)
            self._look_at(now, done, strays)
            begin = end
        if brings_class:
            self._learn_class(part)

    def finish(self, part: Part, outcomes: list[Outcome | None]) -> None:
        """Feed what tasks share with a part that was taken; then change it, each at its own count of events.

        These are the normalization, θ by a meta-update, and the spill.
        """
        memory, counts = self._memory, self._memory.counts
        self._observe(part)
        if memory.exchange.is_writing:
            memory.exchange.note(part, outcomes)
        if memory.settings.meta.mode != "off":
            self._training.observe_outcomes(part)
        counts.seen += part.size
        if memory.sums.total < memory.shared.next_scaling and counts.seen < counts.next_look:
            if memory.shared.notices:
                memory.shared.rescale(memory.features.categories)
            return
        memory.sums.publish_shared()
        memory.shared.rescale(memory.features.categories)
        if counts.seen < counts.next_look:
            return
        self._training.update()
        counts.next_look = counts.seen + self._training.look_every
        memory.tasks.sweep()
        memory.tasks.shrink()

    def _learn_class(self, part: Part) -> None:
        """Learn an event whose label is a class not seen before, after it was judged: that makes the class known."""
        memory, label = self._memory, part.sources[0].y
        assert label is not None  # it has a class
        memory.labels.learn(label)
        memory.grow()
        labels = np.array([memory.labels.number(label)])
        seen = Seen.of(memory.tasks.columns, part.rows, part.exact, labels, memory.shared.frame)
        self._runs.learn(part, seen)
        self._look_at(part, seen, find_strays(memory.shared.frame, seen.x, seen.y))

    def _look_at(self, part: Part, seen: Seen, strays: Ints) -> None:
        """Look at the tasks whose labels in these events say so, in order; φ follows a scale that changed."""
        memory = self._memory
        for last in due_for_look(memory.tasks.columns, seen.rows, seen.labels, strays):
            row, before = int(seen.rows[last]), len(memory.shared.own)
            found = look(memory.tasks.columns, row, memory.shared.frame, seen.exact[last])
            if self.follow_look(int(part.partitions[last]), row, found):
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

    def _observe(self, part: Part) -> None:
        """Feed what tasks share with a part's events, in the order of arrival."""
        memory = self._memory
        memory.recent.add(part.rows[part.is_labelled])
        labels, cuts = None if memory.labels.classify else part.labels, {0, part.size}
        if part.size > 1:  # between two cuts no value depends on what another partition had before
            alone = np.flatnonzero(memory.sums.depend_on_others(part.partitions, part.exact, labels))
            cuts.update(alone.tolist(), (alone + 1).tolist())
        for begin, end in pairwise(sorted(cuts)):
            rest = np.zeros(part.size, np.bool_)
            rest[begin:end] = True
            while rest.any():
                partition = int(part.partitions[rest.argmax()])
                here = rest & (part.partitions == partition)
                rest &= ~here
                if partition < 0:  # the member that has it counts it
                    continue
                targets = None if labels is None else labels[here & part.is_labelled]
                events = here & part.is_event
                xs = part.exact if events.all() else part.exact[events]
                memory.sums.observe(partition, int(here.sum()), xs, targets)
