"""Decisions and rewards of any kind, taken in one by one: with actions of their own, made elsewhere, of new features.

What is nearly always there is taken as arrays: see ``alike`` beside this file.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import msgspec
import numpy as np

from streammeta.decisions.choice import Actions, Choice, action_in, actions_of, named_action, tags_of
from streammeta.decisions.choosing import Choosing, Rows
from streammeta.decisions.inputs import ActionInputs
from streammeta.decisions.outcome import DecisionOutcome, joined, parted
from streammeta.decisions.scoring import seen_table
from streammeta.engine.cycle import Cycle
from streammeta.engine.features import Filled
from streammeta.engine.memory import Memory
from streammeta.engine.outcome import Outcome, Signal
from streammeta.engine.settings import DecideSettings
from streammeta.engine.spill import TaskKey
from streammeta.engine.tasks import IN_SPILL
from streammeta.errors import EventError
from streammeta.event import Event, Label, LabelValue

__all__ = ["Single"]

_REMEMBERED = 1024  # tasks whose tags are kept


@dataclass(slots=True)
class _Part:
    """Records of which no decision depends on another."""

    items: list[tuple[int, Event | Label | Choice]] = field(default_factory=list)  # place in the batch
    came: dict[int, Event | Label] = field(default_factory=dict)  # by their place, as they came
    rewarded: set[TaskKey] = field(default_factory=set)  # tasks with a reward here
    decided: dict[TaskKey, int] = field(default_factory=dict)  # decisions of each task
    learned: dict[tuple[int, str, str], str] = field(default_factory=dict)  # by partition, tag and id: actions rewarded
    rewards: Counter[int] = field(default_factory=Counter)  # by partition: rewards here
    ids: set[tuple[int, str]] = field(default_factory=set)  # partition and id of decisions here
    latest: float = -math.inf  # time stamp
    spans: dict[int, tuple[float, float]] = field(default_factory=dict)  # of partitions: until a task may be forgotten


class Single:
    """Takes decisions and rewards whatever they are like.

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
        self._configured: Actions = {name: {} for name in how.actions}
        self._has_past = memory.extractor is not None and memory.extractor.has_past
        self._tags = dict[str, list[str]]()

    def take(
        self, events: Sequence[Event | Label], begin: int, most: int, outcomes: list[Outcome | None]
    ) -> tuple[int, int]:
        """Take events on from ``begin``, at most so many: where that ends, and how many were taken together."""
        part, end = self._gather(events, begin, most, outcomes)
        kept = self._independent(part)
        end = end if kept == len(part.items) else part.items[kept][0]
        self._read(part, kept, outcomes)
        self._choose(part)
        self._learn(part, outcomes)
        return end, kept

    def _gather(
        self, events: Sequence[Event | Label], begin: int, most: int, outcomes: list[Outcome | None]
    ) -> tuple[_Part, int]:
        """Take in events from ``begin`` on as far as none depends on another's reward, and say where that ends."""
        part, end = _Part(), min(begin + most, len(events))
        for at in range(begin, end):
            event = events[at]
            if part.items and not self._remembers_all(part, event):
                return part, at
            try:
                item = self._reward(part, event) if isinstance(event, Label) else self._event(part, event)
            except EventError as err:
                self._refuse(at, event, err, outcomes)
                continue
            if item is None:
                return part, at
            part.items.append((at, item))
            part.came[at] = event
        return part, end

    def _refuse(self, at: int, event: Event | Label, err: EventError, outcomes: list[Outcome | None]) -> None:
        outcomes[at] = DecisionOutcome(event, rejected=str(err))

    def _remembers_all(self, part: _Part, event: Event | Label) -> bool:
        """Whether no task is forgotten in this part, were this event in it: tasks begin again at their own event."""
        partition, ts = event.origin.partition, event.ts if isinstance(event, Event) else None
        if partition not in part.spans:
            part.spans[partition] = self._memory.presence.until_forgetting(partition)
        if ts is not None and ts > part.latest:
            part.latest = ts
        events, time = part.spans[partition]
        seen = 2 if self._has_past else 1  # tasks by each event: that of the action, and the one with the past
        return seen * (len(part.items) + 1) <= events and part.latest < time

    def _reward(self, part: _Part, event: Label) -> Label | None:
        """A reward, for the task that learns it; None where the decision has to be made first."""
        partition = event.origin.partition
        waiting = [
            tag
            for tag in self._memory.waiting.tasks_of(partition, event.id)
            if (partition, tag, event.id) not in part.learned
        ]
        shared = self._how.heads == "shared"
        tags = [tag for tag in waiting if not event.task or (tag if shared else parted(tag)[0]) == event.task]
        if not tags and (partition, event.id) in part.ids:
            return None
        if len(tags) != 1:
            raise EventError(_no_decision(event, [tag if shared else parted(tag)[0] for tag in waiting]))
        action = self._action_waiting(partition, tags[0], event.id)
        part.learned[partition, tags[0], event.id] = action
        part.rewarded.add((partition, tags[0] if shared else parted(tags[0])[0]))
        part.rewards[partition] += 1
        reward = self._reward_of(event.y, action, event)
        return msgspec.structs.replace(event, task=tags[0], y=reward)

    def _event(self, part: _Part, event: Event) -> Event | Choice | None:
        """A decision to make, or one that was made elsewhere; None where something comes first."""
        key = event.origin.partition, event.task
        if event.id is not None and self._is_waiting(part, event):
            if (event.origin.partition, event.id) in part.ids:
                return None
            raise EventError(
                f"{event.origin}: a decision with the id {event.id[:100]!r} waits for its reward already; wanted an id "
                "of its own for each event"
            )
        if self._has_past and part.items and not self._past_is_known(part, key):
            return None
        if event.action is not None:
            return self._made_elsewhere(part, event)
        if event.y is not None and self._how.rewards == "reward":
            raise EventError(
                f"{event.origin}: a reward `y` without the `action` that earned it; wanted both, or neither and the "
                "reward by `id` once it is there"
            )
        if key in part.rewarded or part.rewards[key[0]] >= self._choosing.until_published(key[0]):
            return None
        return self._to_choose(part, event)

    def _past_is_known(self, part: _Part, key: TaskKey) -> bool:
        """Whether nothing in this part comes between a task's past, in memory, and an event of it."""
        partition, tag = self._memory.past_of((key[0], joined(key[1], "")) if self._how.heads == "each" else key)
        here = key in part.decided or key in part.rewarded
        return not here and self._memory.tasks.find(partition, [tag]) != [IN_SPILL]

    def _to_choose(self, part: _Part, event: Event) -> Choice | None:
        """A decision to make; None where a row of it has to be brought back from the spill first."""
        key, actions = (event.origin.partition, event.task), actions_of(event, self._configured)
        tags = self._tags_of(event.task) if actions is self._configured else tags_of(event.task, actions, self._how)
        rows = self._memory.tasks.find(key[0], tags)
        if IN_SPILL in rows:
            if part.items:
                return None  # when its turn comes: which tasks leave memory depends on the order
            rows = self._recalled(key[0], tags, rows)
        before = part.decided.get(key, 0)
        part.decided[key] = before + 1
        if event.y is not None:
            part.rewarded.add(key)
            part.rewards[key[0]] += 1
        if event.id is not None:
            part.ids.add((key[0], event.id))
        return Choice(event, actions, tags, rows, before)

    def _recalled(self, partition: int, tags: Sequence[str], rows: Sequence[int]) -> list[int]:
        """These rows, those in the spill brought back."""
        recall = self._memory.tasks.recall
        return [recall((partition, tag)) if row == IN_SPILL else row for tag, row in zip(tags, rows, strict=True)]

    def _tags_of(self, task: str) -> list[str]:
        """The tasks in which the configured actions of a task are learned: the same objects while it is seen often."""
        found = self._tags.get(task)
        if found is None:
            if len(self._tags) >= _REMEMBERED:
                self._tags.clear()
            found = self._tags[task] = tags_of(task, self._configured, self._how)
        return found

    def _is_waiting(self, part: _Part, event: Event) -> bool:
        """Whether a decision of this task and id waits for its reward, or will after this part."""
        partition, id_ = event.origin.partition, event.id or ""
        waiting, shared = self._memory.waiting.tasks_of(partition, id_), self._how.heads == "shared"
        return (partition, id_) in part.ids or any((tag if shared else parted(tag)[0]) == event.task for tag in waiting)

    def _made_elsewhere(self, part: _Part, event: Event) -> Event:
        """A decision that its record brings along, as the task that learns its reward sees it."""
        name, key = named_action(event.action, event.origin), (event.origin.partition, event.task)
        actions = {name: {}} if event.actions is None else actions_of(event, self._configured)
        known = actions if event.actions is not None else self._configured
        if known and name not in known:
            raise EventError(f"{event.origin}: `action` is {name[:100]!r}; wanted one of {', '.join(known)[:200]}")
        if self._has_past:
            part.decided[key] = part.decided.get(key, 0) + 1
        if event.y is not None:
            part.rewarded.add(key)
            part.rewards[key[0]] += 1
        if event.id is not None and event.y is None:
            part.ids.add((key[0], event.id))
        (tag,) = tags_of(event.task, [name], self._how)
        reward = None if event.y is None else self._reward_of(event.y, name, event)
        return msgspec.structs.replace(event, task=tag, y=reward, actions={name: actions[name]})

    def _reward_of(self, y: LabelValue, action: str, event: Event | Label) -> LabelValue:
        """What the action earned: the label itself, or 1 where it is the label."""
        if self._how.rewards == "label":
            return float(str(y) == action)
        self._memory.labels.check(y, event.origin)
        return y

    def _action_waiting(self, partition: int, tag: str, id_: str) -> str:
        """The action of a decision that waits."""
        if self._how.heads == "each":
            return parted(tag)[1]
        memory = self._memory
        return action_in(memory.waiting.find(partition, tag, id_).slots, memory.features) or ""

    def _independent(self, part: _Part) -> int:
        """How many items may be taken at once."""
        choices = [(i, item) for i, (_, item) in enumerate(part.items) if isinstance(item, Choice)]
        rows = np.fromiter(chain.from_iterable(choice.rows for _, choice in choices), np.int64)
        of = np.repeat(np.arange(len(choices)), [len(choice.rows) for _, choice in choices])
        before, is_late = [choice.before for _, choice in choices], [i > 0 for i, _ in choices]
        found = Rows(rows, of, np.array(before, np.int64), np.array(is_late, np.bool_))
        count = self._choosing.independent(found)
        return len(part.items) if count == len(choices) else choices[count][0]

    def _read(self, part: _Part, kept: int, outcomes: list[Outcome | None]) -> None:
        """Features into slots, in the order of the events; what cannot be read is refused."""
        memory = self._memory
        items, part.items = part.items[:kept], []
        ignored, shared = memory.features.ignored, memory.features.shared  # counted when they are learned
        for at, item in items:
            event = item.event if isinstance(item, Choice) else item
            try:
                if isinstance(item, Choice):
                    item.event = self._extracted(item.event, item.tags[0])
                    item.filled = self._inputs.fill(item.event, item.actions)
                elif isinstance(item, Event):
                    item = self._extracted(item, item.task)  # noqa: PLW2901 with all its features
                    base, (name,) = self._inputs.fill(item, item.actions)[0], item.actions
                    self._cycle.admission.prepared[id(item)] = self._inputs.with_action(base, name)
            except EventError as err:
                self._refuse(at, event, err, outcomes)
                continue
            part.items.append((at, item))
        memory.features.ignored, memory.features.shared = ignored, shared

    def _extracted(self, event: Event, tag: str) -> Event:
        """The event with the features that are made of others, of a task by which one of its actions is learned."""
        if self._memory.extractor is None:
            return event
        return self._cycle.admission.extracted(event, self._memory.past_of((event.origin.partition, tag)))

    def _choose(self, part: _Part) -> None:
        """Draw the action of each decision."""
        choices = [item for _, item in part.items if isinstance(item, Choice)]
        if not choices:
            return
        self._memory.grow()
        keys = [(choice.event.origin.partition, tag) for choice in choices for tag in choice.tags]
        rows = np.fromiter(chain.from_iterable(choice.rows for choice in choices), np.int64)
        self._choosing.bring_up_to_date(rows, keys.__getitem__)
        like: dict[tuple[int, int], list[Choice]] = {}
        for choice in choices:
            like.setdefault((len(choice.tags), choice.event.origin.partition), []).append(choice)
        for group in like.values():
            self._draw(group)

    def _draw(self, group: Sequence[Choice]) -> None:
        """Draw the action of decisions of one partition among as many actions."""
        memory, filled = self._memory, list[Filled]()
        rows = np.array([choice.rows for choice in group], np.int64)
        for choice in group:
            each = choice.filled if len(choice.filled) > 1 else [*choice.filled] * len(choice.tags)
            filled += map(self._inputs.with_action, each, choice.actions)
        exact = memory.features.table(filled)
        seen = seen_table(memory.fixed.frame, memory.tasks.columns, rows.reshape(-1), exact)
        rewards, expected = memory.rewards, None
        if rewards:
            of_each = [list(choice.actions) for choice in group]
            expected = rewards.expect_each(group[0].event.origin.partition, exact[:: rows.shape[1]], of_each)
        drawn = self._choosing.draw(rows, seen, [choice.event.origin for choice in group], expected)
        numbers = drawn.taken.tolist(), drawn.propensities.tolist(), drawn.scores.tolist()
        for choice, k, chances, scores in zip(group, *numbers, strict=True):
            choice.taken, choice.propensities, choice.scores = k, chances, scores

    def _learn(self, part: _Part, outcomes: list[Outcome | None]) -> None:
        """Let the engine's tasks learn what happened, and say what it was."""
        inner = [self._as_event(item) if isinstance(item, Choice) else item for _, item in part.items]
        filled = [self._filled_by(event) for event in inner] if self._memory.rewards else []
        for (at, item), event, done in zip(part.items, inner, self._cycle.step(inner), strict=True):
            outcomes[at] = self._said(part, item, event, done, part.came[at])
        for event, one, (at, _) in zip(inner, filled, part.items, strict=False):
            self._learn_in_common(event, one, outcomes[at])
        self._cycle.admission.prepared.clear()

    def _filled_by(self, event: Event | Label) -> Filled:
        """What the head sees of a decision, or saw of the one that has its reward now."""
        if isinstance(event, Event):
            return self._cycle.admission.prepared[id(event)]
        return self._memory.waiting.find(event.origin.partition, event.task, event.id).filled

    def _learn_in_common(self, event: Event | Label, filled: Filled, outcome: Outcome | None) -> None:
        """Let what tasks have in common learn one record, in the order of the log."""
        rewards, exact, partition = self._memory.rewards, self._memory.features.table([filled]), event.origin.partition
        assert rewards is not None
        assert isinstance(outcome, DecisionOutcome)
        if isinstance(event, Event):
            rewards.observe(partition, exact)
        if outcome.rejected is None and outcome.reward is not None:
            rewards.learn(partition, exact, [outcome.action], np.array([outcome.reward]))

    def _as_event(self, choice: Choice) -> Event:
        """A decision as an event of the task of the action that was chosen."""
        event, k, name = choice.event, choice.taken, self._names(choice)[choice.taken]
        y = None if event.y is None else self._reward_of(event.y, name, event)
        made = Event(event.x, choice.tags[k], event.origin, y, event.id, event.ts, event.source, came=event.came)
        self._cycle.admission.prepared[id(made)] = self._inputs.with_action(
            choice.filled[k if len(choice.filled) > 1 else 0], name
        )
        return made

    def _names(self, choice: Choice) -> Sequence[str]:
        return self._how.actions if choice.actions is self._configured else tuple(choice.actions)

    def _said(
        self, part: _Part, item: Event | Label | Choice, event: Event | Label, done: Outcome, came: Event | Label
    ) -> Outcome:
        if done.rejected is not None:
            return DecisionOutcome(came, rejected=done.rejected)
        signal, reward = done.signal, None if event.y is None else float(event.y)
        if came.y is not None and self._how.rewards == "label":
            came = msgspec.structs.replace(came, y=reward)
        rest = done.theta_version, done.loss, done.error, done.age, done.since_drift
        if isinstance(item, Choice):
            k, names = item.taken, self._names(item)
            if signal is Signal.NEW_TASK and (item.before or max(item.rows) >= 0):
                signal = Signal.STEADY  # of a task that is known, an action that was not tried yet
            propensities, scores = (dict(zip(names, one, strict=True)) for one in (item.propensities, item.scores))
            return DecisionOutcome(
                *(came, done.prediction, None, done.variance, signal, *rest, None, None),
                *(names[k], item.propensities[k], propensities, scores, reward),
            )
        if isinstance(event, Label):
            action = part.learned[event.origin.partition, event.task, event.id]
        else:
            action = next(iter(event.actions))
        return DecisionOutcome(
            *(came, done.prediction, None, done.variance, signal, *rest, None, None),
            *(action or None, None, None, None, reward),
        )


def _no_decision(event: Label, tasks: Sequence[str]) -> str:
    said = f"{event.origin}: a reward for id {event.id[:100]!r}"
    if tasks and event.task:
        return f"{said} of task {event.task[:100]!r}, but the decision of that id that waits is of {tasks[0][:100]!r}"
    if tasks:
        return f"{said} without a task, but decisions of that id wait in {len(tasks)} tasks; name the `task` with it"
    return (
        f"{said}, but no decision of that id waits in its partition: it was never made, had its reward already, waited "
        "too long ([memory] max_waiting), or its task was forgotten ([memory] forget_after, max_known_tasks)"
    )
