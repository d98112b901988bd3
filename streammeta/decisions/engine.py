"""The engine that decides: events in, actions out; rewards in, learned once.

What an action earns in a task is a regression of its own: a task of the engine, called TASK→ACTION, with exact heads
on the encoder and the prior that all of them share. So everything that holds of tasks holds here: θ, drift, memory,
the changelog, exactly once. A decision is an event of the task of the action that was chosen; it waits there under its
`id`, and the reward is its late label. There is no state beside the engine's, and none to restore.

**The same decision after any crash.** Propensities depend on what was committed before the event, and the draw on
(seed, topic, partition, offset). Decisions are made several at once, as far as none depends on another: a part ends
before a decision of a task that has a reward in it, and where what tasks share may change. So a decision does not
depend, to the bit, on how records came together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import msgspec
import numpy as np

from streammeta.decisions.choice import Actions, Choice, actions_of, named_action, own_features, tags_of
from streammeta.decisions.crossing import Crossed, crossed
from streammeta.decisions.exploration import Doubles, drawn, explore, stable_uniform
from streammeta.decisions.outcome import DecisionOutcome, joined, parted
from streammeta.decisions.scoring import Scores, score
from streammeta.engine import Engine, EngineSettings, Outcome, Signal
from streammeta.engine.features import Filled
from streammeta.engine.looks import is_outdated, look
from streammeta.engine.settings import ACTION_OF
from streammeta.engine.spill import TaskKey
from streammeta.engine.staleness import derive_unseen
from streammeta.engine.tasks import IN_SPILL
from streammeta.errors import ConfigError, EventError
from streammeta.event import Event, Label, LabelValue, Origin
from streammeta.meta.base import Ints, Method

__all__ = ["DecisionEngine"]

_SHORTEST, _LONGEST = 16, 1024  # records taken together
_HEADS = frozenset({"A", "B", "logw", "noise"})  # φ of exact heads


@dataclass(slots=True)
class _Part:
    """Records of which no decision depends on another."""

    items: list[tuple[int, Event | Label | Choice]] = field(default_factory=list)  # place in the batch
    came: dict[int, Event | Label] = field(default_factory=dict)  # by their place, as they came
    rewarded: set[TaskKey] = field(default_factory=set)  # tasks with a reward here
    decided: dict[TaskKey, int] = field(default_factory=dict)  # decisions of each task
    learned: set[tuple[int, str, str]] = field(default_factory=set)  # partition, task and id of rewards here
    ids: set[tuple[int, str]] = field(default_factory=set)  # partition and id of decisions here
    latest: float = -math.inf  # time stamp
    spans: dict[int, tuple[float, float]] = field(default_factory=dict)  # of partitions: until a task may be forgotten


class DecisionEngine(Engine):
    """Chooses an action for each event, and learns rewards.

    Args:
        settings: of the engine, of kind "regression", with ``decide``.
        method: exact heads of the caller's own; None: as the settings say.

    Raises:
        ConfigError: the settings are of another kind, or name a learner or experts that cannot do this.

    >>> from streammeta.engine.settings import DecideSettings
    >>> from streammeta.event import Origin
    >>> engine = DecisionEngine(EngineSettings(kind="regression", decide=DecideSettings(actions=("red", "blue"))))
    >>> (found,) = engine.step([Event({"a": 1.0}, "shop", Origin("events", 0, 0), id="7")])
    >>> found.action, found.propensity
    ('blue', 0.5)
    >>> [reward] = engine.step([Label("7", 1.0, "shop", Origin("events", 0, 1))])
    >>> reward.action, reward.reward
    ('blue', 1.0)
    """

    def __init__(self, settings: EngineSettings, method: Method | None = None) -> None:
        if settings.decide is None or settings.kind != "regression":
            raise ConfigError(f"decisions: got {settings.kind=}, {settings.decide=}; wanted a regression with `decide`")
        if settings.learner.experts:
            raise ConfigError('[learner] experts: are not used with [app] kind = "decision"; leave them out')
        self._how = settings.decide
        self._configured: Actions = {name: {} for name in settings.decide.actions}
        self._look_ahead, self._tags = _SHORTEST, dict[str, list[str]]()
        self._action_slots: dict[str, tuple[int, ...]] = {}  # of the feature that is an action's name
        self._crossed: dict[tuple[int, ...], list[Crossed]] = {}  # by an event's slots: of each configured action
        super().__init__(settings, method)
        self.memory.features.max_features += settings.decide.crossed
        if not set(self.memory.method.phi_layout(1, 1)) >= _HEADS:
            raise ConfigError(
                f'[learner] method: {settings.learner.method!r} says no variance of its own; wanted "exact-heads" with '
                '[app] kind = "decision"'
            )

    # -- the cycle -----------------------------------------------------------------------------------------------------

    def step(self, events: Sequence[Event | Label]) -> list[Outcome]:
        """Decide, and learn rewards; one outcome for each event or label, in the same order."""
        if events and events[0].origin.partition < 0:  # another member's episodes: they were decided there
            return super().step(events)
        outcomes: list[Outcome | None] = [None] * len(events)
        begin = 0
        while begin < len(events):
            part, end = self._gather(events, begin, outcomes)
            kept = self._independent(part)
            begin = end if kept == len(part.items) else part.items[kept][0]
            self._look_ahead = min(max(2 * (kept + 1), _SHORTEST), _LONGEST)
            self._read(part, kept, outcomes)
            self._choose(part)
            self._learn(part, outcomes)
        return [outcome for outcome in outcomes if outcome is not None]

    def _gather(self, events: Sequence[Event | Label], begin: int, outcomes: list[Outcome | None]) -> tuple[_Part, int]:
        """Take in events from ``begin`` on as far as none depends on another's reward, and say where that ends."""
        most = min(max(self._cycle.until_change(), 1), self._look_ahead)
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
            part.spans[partition] = self.memory.presence.until_forgetting(partition)
        if ts is not None and ts > part.latest:
            part.latest = ts
        events, time = part.spans[partition]
        return len(part.items) < events and part.latest < time

    def _reward(self, part: _Part, event: Label) -> Label | None:
        """A reward, for the task that learns it; None where the decision has to be made first."""
        partition = event.origin.partition
        waiting = [
            tag
            for tag in self.memory.waiting.tasks_of(partition, event.id)
            if (partition, tag, event.id) not in part.learned
        ]
        shared = self._how.heads == "shared"
        tags = [tag for tag in waiting if not event.task or (tag if shared else parted(tag)[0]) == event.task]
        if not tags and (partition, event.id) in part.ids:
            return None
        if len(tags) != 1:
            raise EventError(_no_decision(event, [tag if shared else parted(tag)[0] for tag in waiting]))
        action = self._action_waiting(partition, tags[0], event.id)
        part.learned.add((partition, tags[0], event.id))
        part.rewarded.add((partition, tags[0] if shared else parted(tags[0])[0]))
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
        if event.action is not None:
            return self._made_elsewhere(part, event)
        if event.y is not None and self._how.rewards == "reward":
            raise EventError(
                f"{event.origin}: a reward `y` without the `action` that earned it; wanted both, or neither and the "
                "reward by `id` once it is there"
            )
        if key in part.rewarded:
            return None
        return self._to_choose(part, event)

    def _to_choose(self, part: _Part, event: Event) -> Choice | None:
        """A decision to make; None where a row of it has to be brought back from the spill first."""
        key, actions = (event.origin.partition, event.task), actions_of(event, self._configured)
        tags = self._tags_of(event.task) if actions is self._configured else tags_of(event.task, actions, self._how)
        rows = self.memory.tasks.find(key[0], tags)
        if IN_SPILL in rows:
            if part.items:
                return None  # when its turn comes: which tasks leave memory depends on the order
            rows = self._recalled(key[0], tags, rows)
        before = part.decided.get(key, 0)
        part.decided[key] = before + 1
        if event.y is not None:
            part.rewarded.add(key)
        if event.id is not None:
            part.ids.add((key[0], event.id))
        return Choice(event, actions, tags, rows, before)

    def _recalled(self, partition: int, tags: Sequence[str], rows: Sequence[int]) -> list[int]:
        """These rows, those in the spill brought back."""
        recall = self.memory.tasks.recall
        return [recall((partition, tag)) if row == IN_SPILL else row for tag, row in zip(tags, rows, strict=True)]

    def _tags_of(self, task: str) -> list[str]:
        """The tasks in which the configured actions of a task are learned: the same objects while it is seen often."""
        found = self._tags.get(task)
        if found is None:
            if len(self._tags) >= _LONGEST:
                self._tags.clear()
            found = self._tags[task] = tags_of(task, self._configured, self._how)
        return found

    def _is_waiting(self, part: _Part, event: Event) -> bool:
        """Whether a decision of this task and id waits for its reward, or will after this part."""
        partition, id_ = event.origin.partition, event.id or ""
        waiting, shared = self.memory.waiting.tasks_of(partition, id_), self._how.heads == "shared"
        return (partition, id_) in part.ids or any((tag if shared else parted(tag)[0]) == event.task for tag in waiting)

    def _made_elsewhere(self, part: _Part, event: Event) -> Event:
        """A decision that its record brings along, as the task that learns its reward sees it."""
        name, key = named_action(event.action, event.origin), (event.origin.partition, event.task)
        actions = {name: {}} if event.actions is None else actions_of(event, self._configured)
        known = actions if event.actions is not None else self._configured
        if known and name not in known:
            raise EventError(f"{event.origin}: `action` is {name[:100]!r}; wanted one of {', '.join(known)[:200]}")
        if event.y is not None:
            part.rewarded.add(key)
        if event.id is not None and event.y is None:
            part.ids.add((key[0], event.id))
        (tag,) = tags_of(event.task, [name], self._how)
        reward = None if event.y is None else self._reward_of(event.y, name, event)
        return msgspec.structs.replace(event, task=tag, y=reward, actions={name: actions[name]})

    def _reward_of(self, y: LabelValue, action: str, event: Event | Label) -> LabelValue:
        """What the action earned: the label itself, or 1 where it is the label."""
        if self._how.rewards == "label":
            return float(str(y) == action)
        self.memory.labels.check(y, event.origin)
        return y

    def _action_waiting(self, partition: int, tag: str, id_: str) -> str:
        """The action of a decision that waits."""
        if self._how.heads == "each":
            return parted(tag)[1]
        waits = self.memory.waiting.find(partition, tag, id_)
        slots = self.memory.features.slots
        return next((str(slots[slot].value) for slot in waits.slots if slots[slot].name == ACTION_OF), "")

    # -- choosing ------------------------------------------------------------------------------------------------------

    def _independent(self, part: _Part) -> int:
        """How many items may be taken at once: what the rows of a decision say must not change by items before it.

        It does where φ becomes stale by events of its own task, and where a look at it would come after the looks
        that rewards bring: what they count together is added up in the order of the log.
        """
        memory = self.memory
        choices = [(i, item) for i, (_, item) in enumerate(part.items) if isinstance(item, Choice)]
        if not choices:
            return len(part.items)
        columns, (owner, rows) = memory.tasks.columns, _flat([choice.rows for _, choice in choices])
        before = np.array([choice.before for _, choice in choices])[owner]
        rest, version = columns["rebuild_cooldown"][rows], columns["version"][rows]
        bad = (rest <= before) & (rest >= 1) & (version != memory.shared.stamp)
        is_late = np.array([i > 0 for i, _ in choices])[owner]
        bad |= is_late & is_outdated(columns, rows, memory.shared.frame.epoch)
        return choices[owner[bad.argmax()]][0] if bad.any() else len(part.items)

    def _read(self, part: _Part, kept: int, outcomes: list[Outcome | None]) -> None:
        """Features into slots, in the order of the events; what cannot be read is refused."""
        memory = self.memory
        items, part.items = part.items[:kept], []
        ignored, shared = memory.features.ignored, memory.features.shared  # counted when they are learned
        for at, item in items:
            event = item.event if isinstance(item, Choice) else item
            try:
                if isinstance(item, Choice):
                    item.filled = self._fill(item.event, item.actions)
                elif isinstance(item, Event):
                    base, (name,) = self._fill(item, item.actions)[0], item.actions
                    self._cycle.admission.prepared[id(item)] = self._with_action(base, name)
            except EventError as err:
                self._refuse(at, event, err, outcomes)
                continue
            part.items.append((at, item))
        memory.features.ignored, memory.features.shared = ignored, shared

    def _fill(self, event: Event, actions: Actions) -> list[Filled]:
        """What heads see of an event [1], or of each action where they have features of their own [K], in slots."""
        memory = self.memory
        for name in actions:
            if name not in self._action_slots:
                slots, _ = memory.features.read({ACTION_OF: name}, event.origin)
                self._action_slots[name] = slots
        base = memory.features.read(event.x, event.origin)
        if not any(actions.values()):
            return self._fill_crossed(base, actions, event.origin)
        own = [memory.features.read(own_features(one), event.origin) for one in actions.values()]
        return [Filled((*base.slots, *one.slots), [*base.values, *one.values]) for one in own]

    def _fill_crossed(self, base: Filled, actions: Actions, at: Origin) -> list[Filled]:
        """An event's features, and beside them each again as a feature of its own for the action [K]; else as they are.

        Without these a unit of the encoder must find for each action what a feature means with it.
        """
        if not self._is_crossed(base, actions):
            return [base]
        found = self._crossed.get(base.slots)
        if found is None:
            if len(self._crossed) >= _LONGEST:
                self._crossed.clear()
            features = self.memory.features
            found = self._crossed[base.slots] = [crossed(features, base.slots, k, at) for k in self._configured]
        if len(actions) < len(found):  # one that was made elsewhere
            found = [one for one, name in zip(found, self._configured, strict=True) if name in actions]
        return [one.beside(base) for one in found]

    def _is_crossed(self, filled: Filled, actions: Actions) -> bool:
        known = len(self._configured)
        return 0 < known * len(filled.slots) <= self._how.crossed and actions.keys() <= self._configured.keys()

    def _with_action(self, filled: Filled, name: str) -> Filled:
        """The same, and the feature that is the action, for the heads."""
        slots = self._action_slots[name]
        return Filled((*filled.slots, *slots), [*filled.values, *(1.0 for _ in slots)])

    def _choose(self, part: _Part) -> None:
        """Draw the action of each decision."""
        choices = [item for _, item in part.items if isinstance(item, Choice)]
        if not choices:
            return
        self.memory.grow()
        self._bring_up_to_date(choices)
        like: dict[tuple[int, int], list[Choice]] = {}
        for choice in choices:
            like.setdefault((len(choice.tags), len(choice.filled)), []).append(choice)
        for group in like.values():
            scores = self._score(group)
            self._draw_actions(group, scores.means, explore(*scores, self._how))

    def _bring_up_to_date(self, choices: Sequence[Choice]) -> None:
        """Bring the rows of these decisions up to what tasks share now, as events of theirs would."""
        memory = self.memory
        owner, rows = _flat([choice.rows for choice in choices])
        changed = dict.fromkeys(rows[is_outdated(memory.tasks.columns, rows, memory.shared.frame.epoch)].tolist())
        for row in changed:
            partition, _ = _key_of(row, owner, rows, choices)
            self._cycle.follow_look(partition, row, look(memory.tasks.columns, row, memory.shared.frame))
        stale = derive_unseen(memory.tasks.columns, rows, memory.shared.stamp)
        if stale.size:
            memory.response.derive(memory.fixed, memory.tasks.columns, stale, memory.labels.outputs)
        for row in (*changed, *stale.tolist()):
            memory.tasks.mark_changed(_key_of(row, owner, rows, choices))

    def _score(self, group: Sequence[Choice]) -> Scores:
        """What each action [N, K] is expected to earn."""
        memory = self.memory
        rows = np.array([choice.rows for choice in group], np.int64)
        base = memory.features.table([filled for choice in group for filled in choice.filled])
        exact = base.reshape(len(group), -1, base.shape[1])
        return score(memory.fixed, memory.tasks.columns, rows, self._in_slots(exact, [one.actions for one in group]))

    def _in_slots(self, exact: Doubles, actions: Sequence[Actions]) -> Doubles:
        """Features [N, 1 or K, D] and which action it is, for all of them [N, K, D]."""
        found = np.broadcast_to(exact, (len(actions), len(actions[0]), exact.shape[2])).copy()
        if all(one is self._configured for one in actions):
            for k, name in enumerate(self._configured):
                found[:, k, self._action_slots[name]] = 1.0
        else:
            for own, names in zip(found, actions, strict=True):
                for k, name in enumerate(names):
                    own[k, self._action_slots[name]] = 1.0
        return found

    def _draw_actions(self, group: Sequence[Choice], means: Doubles, propensities: Doubles) -> None:
        seed, origins = self.settings.seed, [choice.event.origin for choice in group]
        uniform = np.array([stable_uniform(seed, at.topic, at.partition, at.offset) for at in origins])
        taken = drawn(propensities, uniform)
        for choice, k, p, said in zip(group, taken.tolist(), propensities.tolist(), means.tolist(), strict=True):
            choice.taken, choice.propensities, choice.scores = k, p, said

    # -- learning ------------------------------------------------------------------------------------------------------

    def _learn(self, part: _Part, outcomes: list[Outcome | None]) -> None:
        """Let the engine's tasks learn what happened, and say what it was."""
        inner = [self._as_event(item) if isinstance(item, Choice) else item for _, item in part.items]
        for (at, item), event, done in zip(part.items, inner, super().step(inner), strict=True):
            outcomes[at] = self._said(item, event, done, part.came[at])
        self._cycle.admission.prepared.clear()

    def _as_event(self, choice: Choice) -> Event:
        """A decision as an event of the task of the action that was chosen."""
        event, k, name = choice.event, choice.taken, self._names(choice)[choice.taken]
        y = None if event.y is None else self._reward_of(event.y, name, event)
        made = Event(event.x, choice.tags[k], event.origin, y, event.id, event.ts, event.source)
        self._cycle.admission.prepared[id(made)] = self._with_action(
            choice.filled[k if len(choice.filled) > 1 else 0], name
        )
        return made

    def _names(self, choice: Choice) -> Sequence[str]:
        return self._how.actions if choice.actions is self._configured else tuple(choice.actions)

    def _said(self, item: Event | Label | Choice, event: Event | Label, done: Outcome, came: Event | Label) -> Outcome:
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
        action = str(item.action) if isinstance(item, Event) else parted(event.task)[1]
        return DecisionOutcome(
            *(came, done.prediction, None, done.variance, signal, *rest, None, None),
            *(action or None, None, None, None, reward),
        )

    # -- looking, forgetting -------------------------------------------------------------------------------------------

    def propensities(self, event: Event) -> tuple[dict[str, float], dict[str, float]]:
        """How likely each action would be chosen for this event now, and what it is expected to earn; nothing changes.

        Raises:
            EventError: the event is none, or brings actions that are none.
        """
        memory = self.memory
        actions = actions_of(event, self._configured)
        tags = tags_of(event.task, actions, self._how)
        features, shared = memory.features.fork(), memory.shared.copy()
        filled = []
        for name, own in actions.items():
            parts = [features.read(x, event.origin) for x in ({ACTION_OF: name}, event.x, own_features(own))]
            if not any(actions.values()) and self._is_crossed(parts[1], actions):
                parts[1] = crossed(features, parts[1].slots, name, event.origin).beside(parts[1])
            filled.append(
                Filled(tuple(chain(*(one.slots for one in parts))), list(chain(*(one.values for one in parts))))
            )
        grown = shared.grow(features.slots, memory.labels.names)
        wider = memory.layout(len(features), len(shared.own)) if grown else None
        columns, known = memory.tasks.copy([(event.origin.partition, tag) for tag in tags], wider)
        rows = np.where(known, np.arange(len(tags)), -1)
        fixed = memory.fixed._replace(weights=shared.weights, frame=shared.frame)
        stale = derive_unseen(columns, rows[rows >= 0], shared.stamp)
        if stale.size:
            memory.response.derive(fixed, columns, stale, memory.labels.outputs)
        scores = score(fixed, columns, rows[None], features.table(filled)[None])
        found = explore(*scores, self._how)[0]
        return dict(zip(actions, found.tolist(), strict=True)), dict(
            zip(actions, scores.means[0].tolist(), strict=True)
        )

    def forget(self, partition: int, task: str) -> bool:
        """Forget all of a task: what was learned of each of its actions."""
        if partition < 0 or self._how.heads == "shared":
            return super().forget(partition, task)
        begin = joined(task, "")
        tags = [tag for (of, tag), _ in self.memory.presence.items() if of == partition and tag.startswith(begin)]
        known = [super(DecisionEngine, self).forget(partition, tag) for tag in tags if parted(tag)[0] == task]
        return any(known)


def _flat(rows: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    """All rows that are there, one after the other, and whose they are."""
    owner = np.repeat(np.arange(len(rows)), [len(one) for one in rows])
    flat = np.fromiter(chain.from_iterable(rows), np.int64)
    known = flat >= 0
    return owner[known], flat[known]


def _key_of(row: int, owner: Ints, rows: Ints, choices: Sequence[Choice]) -> TaskKey:
    """Whose row it is, of those of these choices."""
    choice = choices[owner[(rows == row).argmax()]]
    return choice.event.origin.partition, choice.tags[choice.rows.index(row)]


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
