"""Choose an action for each event, and learn from its reward, which may come late: a contextual bandit over many tasks.

Each action of each task has an exact Gaussian head of its own on the encoder that all share, with the prior that θ
holds: meta-Thompson sampling with features (Kveton et al. 2021, arXiv:2102.06129; Basu et al. 2021, arXiv:2107.06196).
So a new task explores less, because others were explored before it.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from streammeta.decisions.engine import DecisionEngine
from streammeta.decisions.outcome import DecisionOutcome
from streammeta.engine import EngineSettings, EngineStats, Outcome
from streammeta.engine.settings import Exploration
from streammeta.errors import ConfigError, EventError
from streammeta.event import Event, Feature, Label, Origin
from streammeta.formats.value import flatten, tag, target

__all__ = ["Decision", "MetaDecider"]

_PLAIN = frozenset((bool, int, float, str))


@dataclass(frozen=True, slots=True)
class Decision:
    """What was chosen for an event, and how likely everything was: keep it with the event for off-policy evaluation."""

    id: Hashable  # of the event
    action: Hashable
    propensity: float  # the probability with which that action was drawn
    propensities: Mapping[Hashable, float]  # of every action
    scores: Mapping[Hashable, float]  # expected reward of every action


class _PortableEngine(DecisionEngine):
    """An engine that can be copied and pickled, by way of its snapshot."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).restore, (self.settings, self.snapshot(), None)


class MetaDecider:
    """Choose among actions, event by event, for many related tasks: `DecisionEngine`, for Python.

    Args:
        actions: what can be done, at least two, all different.
        task: the feature that names an event's task; it is not used as a feature. None: one task.
        exploration: "inverse_gap" (among the actions that may be the best, the further below the more seldom),
            "thompson" (with exact propensities, too), "upper_confidence", "epsilon_greedy" or "greedy".
        epsilon: of "epsilon_greedy".
        width: in standard errors: of "inverse_gap", within which an action may be the best; of "upper_confidence",
            which are added.
        cost: of "inverse_gap": what a decision may give away by trying another action than the best, as a share of what
            could be gained by it, at most of a standard deviation of the rewards, by what is known.
        heads: "each" (a head for each action) or "shared" (one for all, for actions that are many).
        crossed: features crossed with actions that heads may see, beside those of the event, at most: an event's times
            the actions. 0: none.
        common: a linear model of each action over all tasks is asked, too: the more, the less a head knows.
        max_waiting: decisions whose reward is still to come, at most; the oldest is forgotten then, and counted.
        settings: of the learner, as for `MetaRegressor`.
        seed: fixes the learner and every choice.

    Raises:
        ConfigError: a setting is out of its range.

    Examples:
        >>> from streammeta.decisions import MetaDecider

        >>> decider = MetaDecider(["tea", "coffee"], task="shop", seed=1)
        >>> for i in range(200):
        ...     event = {"shop": f"shop-{i % 4}", "hour": i % 24}
        ...     decision = decider.choose_one(event, id=i)
        ...     decider.reward_one(i, float((event["hour"] < 12) == (decision.action == "coffee")))
        >>> decider.choose_one({"shop": "shop-1", "hour": 9}, id="next").action
        'coffee'
    """

    def __init__(  # noqa: PLR0913
        self,
        actions: Sequence[Hashable],
        task: Hashable | None = None,
        *,
        exploration: Exploration = "inverse_gap",
        epsilon: float = 0.05,
        width: float = 1.0,
        cost: float = 0.003,
        heads: Literal["each", "shared"] = "each",
        crossed: int = 1_024,
        common: bool = True,
        max_waiting: int = 100_000,
        settings: EngineSettings | Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.actions, self.task, self.seed = tuple(actions), task, seed
        self._of = {str(action): action for action in self.actions}
        if len(self._of) != len(self.actions) or len(self.actions) < 2:
            raise ConfigError(f"MetaDecider: got actions={list(actions)!r}; wanted two or more, all different as text")
        tree = settings.model_dump(exclude_unset=True) if isinstance(settings, EngineSettings) else dict(settings or {})
        decide = {"exploration": exploration, "epsilon": epsilon, "width": width, "cost": cost, "heads": heads}
        decide |= {"crossed": crossed, "common": common}
        tree |= {"kind": "regression", "seed": seed, "decide": decide | {"actions": tuple(self._of)}}
        tree["memory"] = {**tree.get("memory", {}), "max_waiting": max_waiting}
        try:
            chosen = EngineSettings.model_validate(tree)
        except ValidationError as err:
            wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}, got {e['input']!r}" for e in err.errors())
            raise ConfigError(f"MetaDecider: {wrong}") from err
        if chosen.meta.mode == "background":
            raise ConfigError("MetaDecider: settings.meta.mode is 'background'; wanted 'sync' or 'off'")
        self._engine: DecisionEngine = _PortableEngine(chosen)
        self._learned = 0  # decisions made elsewhere

    @property
    def stats(self) -> EngineStats:
        """Counts: of `tasks` each is a task and an action, `expired` are decisions that waited too long."""
        return self._engine.stats()

    def choose_one(self, x: Mapping[Hashable, Any], *, id: Hashable) -> Decision:
        """Choose for one event; its reward comes by ``reward_one`` under the same id.

        The choice depends on the seed, the id and what was learned, and on nothing else: a replay of the same
        events makes the same decisions.

        Raises:
            EventError: a decision of that id waits for its reward already, or a feature is not one.
        """
        return self.choose_many([x], ids=[id])[0]

    def choose_many(self, rows: Sequence[Mapping[Hashable, Any]], *, ids: Sequence[Hashable]) -> list[Decision]:
        """Choose for several events: the same decisions as one by one, several times as fast.

        Raises:
            EventError: as ``choose_one``, for the first that is refused; the others were made.
        """
        events = [self._event(x, _id(one)) for x, one in zip(rows, ids, strict=True)]
        made = self._accepted(events)
        return [
            Decision(one, self._of[str(found.action)], *self._by_action(found))
            for one, found in zip(ids, made, strict=True)
        ]

    def reward_one(self, id: Hashable, reward: float) -> None:
        """Learn the reward of a decision, once.

        Raises:
            EventError: nothing of that id waits (it was never chosen, was rewarded before, or was forgotten), or the
                reward is not a finite number; then nothing changes.
        """
        self.reward_many({id: reward})

    def reward_many(self, rewards: Mapping[Hashable, float] | Iterable[tuple[Hashable, float]]) -> None:
        """Learn the rewards of several decisions, by their ids, in this order.

        Raises:
            EventError: as ``reward_one``, for the first that is refused; the others were learned.
        """
        pairs = rewards.items() if isinstance(rewards, Mapping) else rewards
        labels = []
        for one, reward in pairs:
            labels.append(Label(_id(one), _reward(reward, f"decision {_id(one)}"), "", Origin(_id(one), 0, 0)))
        self._accepted(labels)

    def learn_one(self, x: Mapping[Hashable, Any], action: Hashable, reward: float) -> None:
        """Learn a decision that was made elsewhere: a log, or a rule that ran before.

        Raises:
            EventError: the action is none of ours, a feature is not one, or the reward is not a finite number.
        """
        if action not in self.actions:
            raise EventError(f"got the action {action!r}; wanted one of {', '.join(map(repr, self.actions))}")
        event = self._event(x, None)
        earned = _reward(reward, str(event.origin))
        self._learned += 1
        self._accepted([Event(event.x, event.task, event.origin, earned, action=str(action))])

    def propensities_one(self, x: Mapping[Hashable, Any]) -> dict[Hashable, float]:
        """How likely each action would be chosen now; nothing changes."""
        found, _ = self._engine.propensities(self._event(x, None))
        return {self._of[name]: p for name, p in found.items()}

    def _accepted(self, events: Sequence[Event | Label]) -> list[DecisionOutcome]:
        found = [outcome for outcome in self._engine.step(events) if isinstance(outcome, DecisionOutcome)]
        for outcome in found:
            _raise_if_rejected(outcome)
        return found

    def _by_action(self, found: DecisionOutcome) -> tuple[float, dict[Hashable, float], dict[Hashable, float]]:
        propensities, scores = found.propensities or {}, found.scores or {}
        return (
            float(found.propensity or 0.0),
            {self._of[name]: p for name, p in propensities.items()},
            {self._of[name]: score for name, score in scores.items()},
        )

    def _event(self, x: Mapping[Hashable, Any], id_: str | None) -> Event:
        """An event; what it is called is all that its draw depends on, beside the seed."""
        origin = Origin("learned", 0, self._learned) if id_ is None else Origin(id_, 0, 0)
        features: dict[str, Feature] = {}
        for name, value in x.items():
            if name == self.task:
                continue
            if type(value) in _PLAIN and value == value:  # noqa: PLR0124 NaN is missing
                features[str(name)] = value
            else:
                features.update(flatten(value, str(name), origin))
        return Event(features, "" if self.task is None else tag(x.get(self.task), origin), origin, id=id_)


def _raise_if_rejected(outcome: Outcome) -> None:
    if outcome.rejected is not None:
        raise EventError(outcome.rejected)


def _reward(value: object, at: str) -> float:
    """A reward as it is learned; raises EventError where it is none."""
    found = target(value, "the reward", at)
    if found is None:
        raise EventError(f"{at}: the reward is {value!r}, wanted a finite number")
    return found


def _id(one: Hashable) -> str:
    try:
        return repr(one)
    except ValueError as err:  # a number of more digits than Python writes
        raise EventError(f"an id cannot be written ({err}); wanted a shorter one") from err
