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

from collections.abc import Sequence

import numpy as np

from streammeta.decisions.alike import Alike
from streammeta.decisions.choice import Actions, actions_of, tags_of
from streammeta.decisions.choosing import Choosing
from streammeta.decisions.exploration import explore
from streammeta.decisions.inputs import ActionInputs
from streammeta.decisions.outcome import joined, parted
from streammeta.decisions.scoring import blend, score, seen_table
from streammeta.decisions.single import Single
from streammeta.engine import Engine, EngineSettings, Outcome
from streammeta.engine.staleness import derive_unseen
from streammeta.errors import ConfigError
from streammeta.event import Event, Label
from streammeta.meta.base import Method

__all__ = ["DecisionEngine"]

_SHORTEST, _LONGEST = 16, 1024  # records taken together
_HEADS = frozenset({"A", "B", "logw", "noise"})  # φ of exact heads


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
        self._look_ahead = _SHORTEST
        super().__init__(settings, method)
        self.memory.features.max_features += settings.decide.crossed
        if not set(self.memory.method.phi_layout(1, 1)) >= _HEADS:
            raise ConfigError(
                f'[learner] method: {settings.learner.method!r} says no variance of its own; wanted "exact-heads" with '
                '[app] kind = "decision"'
            )
        how, memory, cycle = settings.decide, self.memory, self._cycle
        self._inputs = ActionInputs(memory.features, self._configured, how.crossed)
        choosing = Choosing(memory, cycle, how)
        self._alike = Alike(memory, cycle, choosing, self._inputs, how)
        self._single = Single(memory, cycle, choosing, self._inputs, how)

    # -- the cycle -----------------------------------------------------------------------------------------------------

    def step(self, events: Sequence[Event | Label]) -> list[Outcome]:
        """Decide, and learn rewards; one outcome for each event or label, in the same order."""
        if events and events[0].origin.partition < 0:  # another member's episodes: they were decided there
            return super().step(events)
        outcomes: list[Outcome | None] = [None] * len(events)
        begin = 0
        while begin < len(events):
            most = min(max(self._cycle.until_change(), 1), self._look_ahead)
            taken = self._alike.take(events, begin, most, outcomes)
            begin += taken
            if not taken:
                begin, taken = self._single.take(events, begin, most, outcomes)
            was_cut = taken < most and begin < len(events)  # then so will the next be, as likely as not
            self._look_ahead = min(max(2 * (taken + 1), _SHORTEST) if was_cut else 2 * self._look_ahead, _LONGEST)
        return [outcome for outcome in outcomes if outcome is not None]

    # -- looking, forgetting -------------------------------------------------------------------------------------------

    def propensities(self, event: Event, *, extracted: bool = False) -> tuple[dict[str, float], dict[str, float]]:
        """How likely each action would be chosen for this event now, and what it is expected to earn; nothing changes.

        Args:
            event: as it came.
            extracted: it has the features already that are made of others: see ``extracted``.

        Raises:
            EventError: the event is none, or brings actions that are none.
        """
        memory = self.memory
        actions = actions_of(event, self._configured)
        tags = tags_of(event.task, actions, self._how)
        event = event if extracted else self.extracted(event)
        features, shared = memory.features.fork(), memory.shared.copy()
        filled = self._inputs.seen_by(features, event, actions)
        grown = shared.grow(features.slots, memory.labels.names)
        wider = memory.layout(len(features), len(shared.own)) if grown else None
        columns, known = memory.tasks.copy([(event.origin.partition, tag) for tag in tags], wider)
        rows = np.where(known, np.arange(len(tags)), -1)
        fixed = memory.fixed._replace(weights=shared.weights, frame=shared.frame)
        stale = derive_unseen(columns, rows[rows >= 0], shared.stamp)
        if stale.size:
            memory.response.derive(fixed, columns, stale, memory.labels.outputs)
        exact = features.table(filled)
        scores = score(fixed, columns, rows[None], seen_table(fixed.frame, columns, rows, exact))
        if memory.rewards:
            scores = blend(scores, memory.rewards.expect_each(event.origin.partition, exact[:1], [list(actions)]))
        found = explore(scores, self._how)[0]
        return dict(zip(actions, found.tolist(), strict=True)), dict(
            zip(actions, scores.means[0].tolist(), strict=True)
        )

    def extracted(self, event: Event) -> Event:
        """The event with the features that are made of others, were it the next one; nothing changes.

        Raises:
            EventError: they cannot be made.
        """
        memory = self.memory
        if memory.extractor is None:
            return event
        tag = event.task if self._how.heads == "shared" else joined(event.task, "")
        columns, (known,) = memory.tasks.copy([(event.origin.partition, tag)])
        return memory.extracted(event, columns, 0 if known else -1)

    def forget(self, partition: int, task: str) -> bool:
        """Forget all of a task: what was learned of each of its actions."""
        if partition < 0 or self._how.heads == "shared":
            return super().forget(partition, task)
        begin = joined(task, "")
        tags = [tag for (of, tag), _ in self.memory.presence.items() if of == partition and tag.startswith(begin)]
        known = [super(DecisionEngine, self).forget(partition, tag) for tag in tags if parted(tag)[0] == task]
        return any(known)
