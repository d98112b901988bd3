"""Decisions among the configured actions, and rewards, taken together as arrays: nearly all that comes.

`streammeta/native/decisions.cpp` takes them in as far as none depends on another: tasks may be new, features are known,
and an event brings no actions of its own. What it leaves is taken one by one: see ``single`` beside this file. Both
give the same bits.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from streammeta.decisions.choice import Actions, action_in, tags_of
from streammeta.decisions.choosing import Choosing
from streammeta.decisions.gathered import Gathered, Made
from streammeta.decisions.inputs import ActionInputs
from streammeta.decisions.order import Order
from streammeta.decisions.outcome import DecisionOutcome, parted
from streammeta.decisions.scoring import seen_choices
from streammeta.engine.cycle import Cycle
from streammeta.engine.labels import Waiting
from streammeta.engine.memory import Memory
from streammeta.engine.outcome import Outcome, Signal
from streammeta.engine.part import Part
from streammeta.engine.settings import DecideSettings
from streammeta.engine.spill import TaskKey
from streammeta.event import Event, Label
from streammeta.meta.base import Ints
from streammeta.native import _kernels as kernels

__all__ = ["Alike"]

_REMEMBERED = 100_000  # tasks whose keys are kept
_SIGNALS = (Signal.NEW_TASK, Signal.STEADY)


class Alike:
    """Takes decisions and rewards that are like most.

    Args:
        memory: what is known.
        cycle: learns what was decided.
        choosing: draws actions.
        inputs: what heads see.
        how: decisions' settings.
    """

    def __init__(
        self, memory: Memory, cycle: Cycle, choosing: Choosing, inputs: ActionInputs, how: DecideSettings
    ) -> None:
        self._memory, self._cycle, self._choosing, self._inputs, self._how = memory, cycle, choosing, inputs, how
        self._actions: Actions = {name: {} for name in how.actions}
        self._partition = -1  # whose keys these are:
        self._keys_of: dict[str, tuple[TaskKey, ...]] = {}  # by task, of its actions [K]
        self._task_of: dict[str, str] = {}  # by the tag of such a key
        self._slots_of: dict[bytes, tuple[int, ...]] = {}  # that are filled, by the mask of them

    def take(self, events: Sequence[Event | Label], begin: int, most: int, outcomes: list[Outcome | None]) -> int:
        """Take events on from ``begin``, at most so many, and say how many these were; each gets its outcome."""
        gathered = self._gather(events, begin, most)
        if gathered is None:
            return 0
        order = Order(gathered, lambda i: self._owner(gathered, i), self._choosing, self._how)
        gathered.cut(order.until_published())
        kept, in_waves = order.independent()
        gathered.cut(kept)
        made = Made(self._part(gathered, begin), gathered.slots.named.size)
        self._join(gathered, made)
        self._choosing.look_at(*gathered.heads(np.flatnonzero(gathered.is_choice)))
        for wave in order.waves() if in_waves else [np.arange(kept)]:
            self._choose(gathered, wave, made)
            self._learn(gathered, wave, made, outcomes)
        self._finish(gathered, made, outcomes)
        self._learn_in_common(gathered, made, outcomes)
        return kept

    def _gather(self, events: Sequence[Event | Label], begin: int, most: int) -> Gathered | None:
        """Records from ``begin`` on as far as none depends on another's reward; None: the first is not like most."""
        memory, slots = self._memory, self._inputs.slots()
        if slots is None or memory.tasks.leaving or memory.extractor is not None or not memory.counts.events:
            return None
        partition = events[begin].origin.partition
        calls, before = memory.presence.until_forgetting(partition)
        size = int(min(most, len(events) - begin, max(calls, 0)))
        if size <= 0:
            return None
        if partition != self._partition or len(self._keys_of) >= _REMEMBERED:
            self._partition = partition
            self._keys_of.clear()
            self._task_of.clear()
        gathered = Gathered(partition, size, slots)
        known = (
            *(memory.tasks.in_rows, memory.waiting.tasks, self._keys_of, self._make_keys, self._task_of),
            *(self._inputs.is_complete, self._how.crossed, memory.tasks.all_in_memory, memory.waiting.free < size),
            self._how.rewards == "reward",
        )
        pattern, kinds = (memory.features.pattern, memory.labels.known), (Event, Label)
        count = kernels.gather(events, begin, begin + size, kinds, *pattern, known, partition, before, gathered.filling)
        gathered.cut(count)
        return gathered if count else None

    def _make_keys(self, task: str) -> tuple[TaskKey, ...]:
        """The tasks in which the configured actions of a task are learned."""
        tags = tags_of(task, self._actions, self._how)
        found = self._keys_of[task] = tuple((self._partition, tag) for tag in tags)
        self._task_of.update(dict.fromkeys(tags, task))
        return found

    def _owner(self, gathered: Gathered, i: int) -> int:
        """Which task a record is of: the keys of one are one object."""
        keys = gathered.keys[i]
        return id(keys if gathered.is_choice[i] else self._keys_of[self._task_of[keys[1]]])

    def _choose(self, gathered: Gathered, wave: Ints, made: Made) -> None:
        """Draw the actions of this wave's decisions, and add what their heads see to the features."""
        memory, choices = self._memory, wave[gathered.is_choice[wave]]
        if not choices.size:
            return
        slots, exact, rows = gathered.slots, gathered.exact, gathered.rows[choices]
        memory.grow()
        self._choosing.derive(*gathered.heads(choices))
        there = ~np.isnan(exact[choices])
        if not self._inputs.are_crossed(there[0]):  # and so are all that were gathered
            slots = slots._replace(crossed=np.full_like(slots.crossed, -1))
        order = np.argsort(rows[:, 0], kind="stable")  # the decisions of a task after one another: they share work
        seen = seen_choices(memory.fixed.frame, memory.tasks.columns, rows[order], exact[choices[order]], slots)
        origins = [gathered.sources[i].origin for i in choices[order].tolist()]
        at = choices[order]
        expected = memory.rewards.expect(gathered.partition, exact[at]) if memory.rewards else None
        drawn = self._choosing.draw(rows[order], seen, origins, expected)
        made.taken[at], made.propensities[at], made.scores[at] = drawn
        taken = made.taken[choices]
        own, named = slots.crossed[taken], slots.named[taken]
        which, d = np.nonzero(there & (own >= 0))
        exact[choices[which], own[which, d]] = exact[choices[which], d]
        exact[choices[named >= 0], named[named >= 0]] = 1.0

    def _join(self, gathered: Gathered, made: Made) -> None:
        """Find the decisions for which the rewards are, with what their heads saw."""
        late, find = np.flatnonzero(~gathered.is_choice).tolist(), self._memory.waiting.find
        for i in late:
            made.keys[i] = partition, tag = gathered.keys[i]
            made.part.waits[i] = found = find(partition, tag, gathered.sources[i].id)
            made.actions[i] = self._action_of(found)
        kernels.fill_rows(gathered.exact, late, made.part.waits)

    # -- learning ------------------------------------------------------------------------------------------------------

    def _learn(self, gathered: Gathered, wave: Ints, made: Made, outcomes: list[Outcome | None]) -> None:
        """Let the tasks of the actions learn what happened in this wave."""
        part, sources, names = made.part, gathered.sources, self._how.actions
        choices = wave[gathered.is_choice[wave]]
        for i, (slots, values) in zip(choices.tolist(), self._filled(gathered.exact[choices]), strict=True):
            source, key, k = sources[i], gathered.keys[i], int(made.taken[i])
            made.keys[i], made.actions[i] = key[k], names[k]
            if source.id is not None and source.y is None:
                part.waits[i] = Waiting(key[k], slots, values.copy())  # not a part of what all of them hold
        if self._how.rewards == "label":
            self._reward(gathered, wave, made)
        self._find_rows(part, wave, made.keys)
        now = part if wave.size == part.size else part.select(wave)
        self._cycle.take(now, outcomes)
        if now is not part:
            part.take_judged(wave, now)

    def _finish(self, gathered: Gathered, made: Made, outcomes: list[Outcome | None]) -> None:
        """Let what tasks share learn what happened, and say what it was."""
        memory, part, enter, take = self._memory, made.part, self._memory.waiting.enter, self._memory.waiting.take
        for i in sorted(part.waits):
            source = part.sources[i]
            if isinstance(source, Label):
                take(gathered.partition, made.keys[i][1], source.id)
            else:
                enter(str(source.id), part.waits[i])
        memory.tasks.touch_all(made.keys)
        memory.presence.see_all(gathered.partition, made.keys, gathered.times)
        memory.counts.events += int(np.count_nonzero(gathered.is_choice))
        self._cycle.finish(part, outcomes)
        is_known = (gathered.before > 0) | (gathered.rows >= 0).any(1)
        choice = np.where(gathered.is_choice, np.arange(part.size), -1)
        said = made.taken, made.propensities, made.scores, gathered.rewards, is_known
        names, places = self._how.actions, np.array(part.places)
        kernels.write_decisions(
            DecisionOutcome, part.sources, places, names, made.actions, choice, *said, _SIGNALS, outcomes
        )

    def _learn_in_common(self, gathered: Gathered, made: Made, outcomes: list[Outcome | None]) -> None:
        """Let what tasks have in common learn the rewards, in the order of the log."""
        if self._memory.rewards is None:
            return
        self._memory.rewards.observe(gathered.partition, made.part.exact[gathered.is_choice])
        places, part = np.flatnonzero(~np.isnan(gathered.rewards)).tolist(), made.part
        which = [i for i in places if getattr(outcomes[part.places[i]], "rejected", None) is None]
        actions = [made.actions[i] for i in which]
        self._memory.rewards.learn(gathered.partition, part.exact[which], actions, gathered.rewards[which])

    def _filled(self, exact: npt.NDArray[np.float64]) -> Iterator[tuple[tuple[int, ...], npt.NDArray[np.float64]]]:
        """The slots that each event [N, D] fills, by the same tuple where they are the same, and with what."""
        there = ~np.isnan(exact)
        values, ends = exact[there], there.sum(1).cumsum().tolist()
        masks, width, begin = np.packbits(there, axis=1).tobytes(), -(-there.shape[1] // 8), 0
        for i, end in enumerate(ends):
            mask = masks[i * width : (i + 1) * width]
            slots = self._slots_of.get(mask)
            if slots is None:
                if len(self._slots_of) >= _REMEMBERED:
                    self._slots_of.clear()
                slots = self._slots_of[mask] = tuple(np.flatnonzero(there[i]).tolist())
            yield slots, values[begin:end]
            begin = end

    def _action_of(self, waits: Waiting) -> str | None:
        """The action of a decision that waited."""
        if self._how.heads == "each":
            return parted(waits.key[1])[1]
        return action_in(waits.slots, self._memory.features)

    def _reward(self, gathered: Gathered, wave: Ints, made: Made) -> None:
        """Put the reward in place of a label that said which action was right."""
        for i in wave.tolist():
            source = gathered.sources[i]
            if source.y is not None:
                gathered.rewards[i] = float(str(source.y) == made.actions[i])
                made.part.sources[i] = replace(source, y=float(gathered.rewards[i]))
        made.part.is_labelled[wave] = ~np.isnan(gathered.rewards[wave])

    def _find_rows(self, part: Part, wave: Ints, keys: Sequence[TaskKey]) -> None:
        """The rows of this wave's tasks; tasks that are new get theirs."""
        tasks = self._memory.tasks
        for i in wave.tolist():
            key = keys[i]
            part.tasks[i] = key[1]
            row = tasks.in_rows.get(key)
            if row is None:
                row, part.is_new_task[i] = tasks.touch(key)
            part.rows[i] = row

    def _part(self, gathered: Gathered, begin: int) -> Part:
        """All of it, as the engine learns it; it is not known yet by which tasks."""
        N = gathered.size
        part = Part(N, 0)
        part.size, part.places, part.sources, part.tasks = N, [*range(begin, begin + N)], [*gathered.sources], [""] * N
        part.partitions[:], part.is_event = gathered.partition, gathered.is_choice
        part.labels, part.times, part.exact = gathered.rewards, gathered.times, gathered.exact
        part.is_labelled = ~np.isnan(gathered.rewards)
        return part
