"""Decisions among the configured actions, and rewards, taken together as arrays: nearly all that comes.

`streammeta/native/decisions.cpp` takes them in as far as none depends on another: tasks may be new, features are known,
and an event brings no actions of its own. What it leaves is taken one by one: see ``single`` beside this file. Both
give the same bits.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from streammeta.decisions.choice import Actions, action_in, tags_of
from streammeta.decisions.choosing import Choosing, Drawn, Rows
from streammeta.decisions.inputs import ActionInputs
from streammeta.decisions.outcome import DecisionOutcome, parted
from streammeta.decisions.scoring import ActionSlots, seen_choices
from streammeta.engine.cycle import Cycle
from streammeta.engine.labels import Waiting
from streammeta.engine.memory import Memory
from streammeta.engine.outcome import Outcome, Signal
from streammeta.engine.part import Part
from streammeta.engine.settings import DecideSettings
from streammeta.engine.spill import TaskKey
from streammeta.event import Event, Label
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
        kept = self._kept(gathered)
        gathered.cut(kept)
        drawn = self._choose(gathered)
        self._learn(gathered, drawn, begin, outcomes)
        return kept

    def _gather(self, events: Sequence[Event | Label], begin: int, most: int) -> "_Gathered | None":
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
        gathered = _Gathered(partition, size, slots)
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

    def _kept(self, gathered: "_Gathered") -> int:
        """How many of the records may be taken at once."""
        choices = np.flatnonzero(gathered.is_choice)
        rows = gathered.rows[choices]
        of = np.repeat(np.arange(len(choices)), rows.shape[1])
        found = Rows(rows.reshape(-1), of, gathered.before[choices], choices > 0)
        count = self._choosing.independent(found)
        return gathered.size if count == len(choices) else int(choices[count])

    def _choose(self, gathered: "_Gathered") -> Drawn:
        """Draw the actions, and add what their heads see to the features."""
        memory, choices = self._memory, np.flatnonzero(gathered.is_choice)
        slots, exact = gathered.slots, gathered.exact
        if not choices.size:
            nothing = np.zeros((0, len(slots.named)))
            return Drawn(np.zeros(0, np.int64), nothing, nothing)
        memory.grow()
        rows, places, K = gathered.rows[choices], choices.tolist(), len(slots.named)
        self._choosing.bring_up_to_date(rows.reshape(-1), lambda i: gathered.keys[places[i // K]][i % K])
        there = ~np.isnan(exact[choices])
        if not self._inputs.are_crossed(there[0]):  # and so are all that were gathered
            slots = slots._replace(crossed=np.full_like(slots.crossed, -1))
        order = np.argsort(rows[:, 0], kind="stable")  # the decisions of a task after one another: they share work
        seen = seen_choices(memory.fixed.frame, memory.tasks.columns, rows[order], exact[choices[order]], slots)
        drawn = self._choosing.draw(rows[order], seen, [gathered.sources[places[i]].origin for i in order.tolist()])
        back = np.argsort(order)
        drawn = Drawn(drawn.taken[back], drawn.propensities[back], drawn.scores[back])
        own = slots.crossed[drawn.taken]
        which, d = np.nonzero(there & (own >= 0))
        exact[choices[which], own[which, d]] = exact[choices[which], d]
        named = slots.named[drawn.taken]
        exact[choices[named >= 0], named[named >= 0]] = 1.0
        return drawn

    # -- learning ------------------------------------------------------------------------------------------------------

    def _learn(self, gathered: "_Gathered", drawn: Drawn, begin: int, outcomes: list[Outcome | None]) -> None:
        """Let the tasks of the actions learn what happened, and say what it was."""
        N, names, taken = gathered.size, self._how.actions, iter(drawn.taken.tolist())
        choices = np.flatnonzero(gathered.is_choice)
        choice = np.full(N, -1)
        choice[choices] = np.arange(choices.size)
        is_known = np.zeros(N, np.bool_)
        is_known[choices] = (gathered.before[choices] > 0) | (gathered.rows[choices] >= 0).any(1)
        keys, actions, waits = list[TaskKey](), list[str | None](), dict[int, Waiting]()
        filled = self._filled(gathered.exact[choices])
        for i, (source, key) in enumerate(zip(gathered.sources, gathered.keys, strict=True)):
            if isinstance(source, Label):
                partition, tag = key
                waits[i] = found = self._memory.waiting.take(partition, tag, source.id)
                keys.append(key)
                actions.append(self._action_of(found))
                continue
            k, (slots, values) = next(taken), next(filled)
            keys.append(key[k])
            actions.append(names[k])
            if source.id is not None and source.y is None:
                waits[i] = found = Waiting(key[k], slots, values.copy())  # not a part of what all of them hold
                self._memory.waiting.enter(source.id, found)
        kernels.fill_rows(gathered.exact, [i for i in waits if choice[i] < 0], waits)
        sources = self._with_rewards(gathered, actions)
        self._cycle.take(self._part(gathered, keys, sources, waits, begin), outcomes)
        kernels.write_decisions(
            *(DecisionOutcome, sources, begin + np.arange(N), names, actions, choice, drawn.taken),
            *(drawn.propensities, drawn.scores, gathered.rewards, is_known, _SIGNALS, outcomes),
        )

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

    def _with_rewards(self, gathered: "_Gathered", actions: Sequence[str | None]) -> list[Event | Label]:
        """What came, with the reward in place of a label that said which action was right."""
        if self._how.rewards == "reward":
            return gathered.sources
        sources = list(gathered.sources)
        for i, (source, action) in enumerate(zip(sources, actions, strict=True)):
            if source.y is not None:
                gathered.rewards[i] = float(str(source.y) == action)
                sources[i] = replace(source, y=float(gathered.rewards[i]))
        return sources

    def _part(
        self,
        gathered: "_Gathered",
        keys: list[TaskKey],
        sources: list[Event | Label],
        waits: dict[int, Waiting],
        begin: int,
    ) -> Part:
        """All of it, as the engine learns it; tasks that are new get their rows."""
        memory, N = self._memory, gathered.size
        part = Part(N, gathered.exact.shape[1])
        touched = [memory.tasks.in_rows.get(key, -1) for key in keys]
        for i, row in enumerate(touched):
            if row < 0:
                part.rows[i], part.is_new_task[i] = memory.tasks.touch(keys[i])
            else:
                part.rows[i] = row
        memory.tasks.touch_all(keys)
        memory.presence.see_all(gathered.partition, keys, gathered.times)
        memory.counts.events += int(np.count_nonzero(gathered.is_choice))
        part.size, part.places, part.sources, part.tasks = (
            N,
            [*range(begin, begin + N)],
            sources,
            [tag for _, tag in keys],
        )
        part.partitions[:], part.labels, part.times, part.exact = (
            gathered.partition,
            gathered.rewards,
            gathered.times,
            gathered.exact,
        )
        part.is_event, part.is_labelled, part.waits = gathered.is_choice, ~np.isnan(gathered.rewards), waits
        return part


class _Gathered:
    """Decisions and rewards [N] of one partition of which none depends on another.

    Attributes:
        partition: theirs.
        slots: of the actions.
        is_choice: [N] a decision; else a reward.
        rows: [N, K] of a decision's actions; −1: nothing was learned of it yet.
        before: [N] decisions of its task before it.
        rewards: [N] NaN: none came, or it depends on the action.
        times: [N] time stamps; NaN is none.
        exact: [N, D] raw features, as far as they are known; NaN is missing.
        sources: what came.
        keys: of each action's task, of a decision; of a reward the one that it is for.
        filling: what ``kernels.gather`` fills.
    """

    def __init__(self, partition: int, most: int, slots: ActionSlots) -> None:
        K, D = slots.crossed.shape
        self.partition, self.slots = partition, slots
        self.is_choice, self.rows, self.before = (
            np.zeros(most, np.bool_),
            np.full((most, K), -1),
            np.zeros(most, np.int64),
        )
        self.rewards, self.times = np.full((2, most), np.nan)
        self.exact = np.full((most, D), np.nan)
        self.sources, self.keys = list[Any](), list[Any]()
        arrays = self.is_choice, self.rows, self.before, self.rewards, self.times, self.exact
        self.filling = (*arrays, self.sources, self.keys)

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.sources)

    def cut(self, size: int) -> None:
        """Only the first ``size`` of them are taken."""
        for name in ("is_choice", "rows", "before", "rewards", "times", "exact", "sources", "keys"):
            setattr(self, name, getattr(self, name)[:size])
