"""Choose an action for each event, and learn from its reward, which may come late: a contextual bandit over many tasks.

Each action of each task has an exact Gaussian head of its own on the encoder that all share, with the prior that θ
holds: meta-Thompson sampling with features (Kveton et al. 2021, arXiv:2102.06129; Basu et al. 2021, arXiv:2107.06196).
So a new task explores less, because others were explored before it.
"""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from streammeta.decisions.exploration import (
    Doubles,
    Exploration,
    best_only,
    epsilon_greedy,
    inverse_gap_weighting,
    probability_of_best,
    upper_confidence,
)
from streammeta.engine import EngineSettings
from streammeta.errors import ConfigError, EventError
from streammeta.estimator import MetaRegressor

__all__ = ["Decision", "MetaDecider", "stable_uniform"]

_TAG = "\x1fstreammeta.decision"  # the feature that names task and action to the regressor
_UNIT = 2.0**-64


@dataclass(frozen=True, slots=True)
class Decision:
    """What was chosen for an event, and how likely everything was: keep it with the event for off-policy evaluation."""

    id: Hashable  # of the event
    action: Hashable
    propensity: float  # the probability with which that action was drawn
    propensities: Mapping[Hashable, float]  # of every action
    scores: Mapping[Hashable, float]  # expected reward of every action


class MetaDecider:
    """Choose among actions, event by event, for many related tasks.

    Args:
        actions: what can be done, at least two, all different.
        task: the feature that names an event's task; it is not used as a feature. None: one task.
        exploration: "inverse_gap" (SquareCB: exact propensities, γ grows with the task's rewards), "thompson" (with
            exact propensities, too), "upper_confidence", "epsilon_greedy" or "greedy".
        epsilon: of "epsilon_greedy".
        width: of "upper_confidence", in standard deviations.
        gamma: of "inverse_gap": γ is ``gamma`` · √(K · rewards of the task), in units of the rewards' own spread.
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
        gamma: float = 2.0,
        max_waiting: int = 100_000,
        settings: EngineSettings | Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        if len(set(actions)) != len(actions) or len(actions) < 2:
            raise ConfigError(f"MetaDecider: got actions={list(actions)!r}; wanted two or more, all different")
        if exploration not in Exploration.__args__:  # type: ignore[attr-defined]  # of a Literal
            known = ", ".join(Exploration.__args__)  # type: ignore[attr-defined]
            raise ConfigError(f"MetaDecider: got exploration={exploration!r}; wanted one of {known}")
        if not (0 <= epsilon <= 1 and width >= 0 and gamma >= 0 and max_waiting >= 1):
            got = f"{epsilon=}, {width=}, {gamma=}, {max_waiting=}"
            raise ConfigError(f"MetaDecider: got {got}; wanted 0 <= epsilon <= 1, the others not negative")
        self.actions, self.task, self.exploration = tuple(actions), task, exploration
        self.epsilon, self.width, self.gamma, self.max_waiting, self.seed = epsilon, width, gamma, max_waiting, seed
        self.model = MetaRegressor(_TAG, settings=settings, seed=seed)
        self.forgotten = 0  # decisions dropped because too many waited
        self._waiting: OrderedDict[Hashable, tuple[Mapping[Hashable, Any], Hashable]] = OrderedDict()
        self._rewards: dict[str, int] = {}  # of each task
        self._spread = _Spread()

    def choose_one(self, x: Mapping[Hashable, Any], *, id: Hashable) -> Decision:
        """Choose for one event; its reward comes by ``reward_one`` under the same id.

        The choice depends on the seed, the id and what was learned, and on nothing else: a replay of the same
        events makes the same decisions.

        Raises:
            EventError: a decision of that id waits for its reward already, or a feature is not one.
        """
        if id in self._waiting:
            raise EventError(
                f"decision {id!r}: it waits for its reward already; wanted an id of its own for each event"
            )
        means, variances = self._scores(x)
        propensities = self._explore(means, variances, self._rewards.get(self._tag(x), 0))
        chosen = drawn(propensities, stable_uniform(self.seed, id))
        self._wait(id, x, self.actions[chosen])
        return Decision(
            id,
            self.actions[chosen],
            float(propensities[chosen]),
            dict(zip(self.actions, propensities.tolist(), strict=True)),
            dict(zip(self.actions, means.tolist(), strict=True)),
        )

    def reward_one(self, id: Hashable, reward: float) -> None:
        """Learn the reward of a decision, once.

        Raises:
            EventError: nothing of that id waits (it was never chosen, was rewarded before, or was forgotten), or the
                reward is not a finite number; then nothing changes.
        """
        if not math.isfinite(reward):
            raise EventError(f"decision {id!r}: got the reward {reward}; wanted a finite number")
        if id not in self._waiting:
            raise EventError(
                f"decision {id!r}: none of that id waits for a reward; it was never chosen, was rewarded before, or "
                f"was forgotten because more than max_waiting = {self.max_waiting} waited"
            )
        x, action = self._waiting.pop(id)
        self.learn_one(x, action, reward)

    def learn_one(self, x: Mapping[Hashable, Any], action: Hashable, reward: float) -> None:
        """Learn a decision that was made elsewhere: a log, or a rule that ran before."""
        if action not in self.actions:
            raise EventError(f"got the action {action!r}; wanted one of {', '.join(map(repr, self.actions))}")
        tag = self._tag(x)
        self.model.learn_one(self._row(x, tag, action), reward)  # type: ignore[arg-type]  # a float is a Real
        self._rewards[tag] = self._rewards.get(tag, 0) + 1
        self._spread.add(reward)

    def propensities_one(self, x: Mapping[Hashable, Any]) -> dict[Hashable, float]:
        """How likely each action would be chosen now; nothing changes."""
        means, variances = self._scores(x)
        found = self._explore(means, variances, self._rewards.get(self._tag(x), 0))
        return dict(zip(self.actions, found.tolist(), strict=True))

    def _scores(self, x: Mapping[Hashable, Any]) -> tuple[Doubles, Doubles]:
        """Mean and variance of each action's reward [K]."""
        tag = self._tag(x)
        pairs = self.model.predict_with_variance_rows([self._row(x, tag, action) for action in self.actions])
        found = np.array(pairs, np.float64)
        return found[:, 0], found[:, 1]

    def _explore(self, means: Doubles, variances: Doubles, rewards: int) -> Doubles:
        match self.exploration:
            case "inverse_gap":
                scale = self._spread.deviation or 1.0
                return inverse_gap_weighting(means / scale, self.gamma * math.sqrt(len(self.actions) * rewards))
            case "thompson":
                return probability_of_best(means, variances)
            case "upper_confidence":
                return upper_confidence(means, variances, self.width)
            case "epsilon_greedy":
                return epsilon_greedy(means, self.epsilon)
            case _:
                return best_only(means)

    def _wait(self, id: Hashable, x: Mapping[Hashable, Any], action: Hashable) -> None:
        self._waiting[id] = dict(x), action
        if len(self._waiting) > self.max_waiting:
            self._waiting.popitem(last=False)
            self.forgotten += 1

    def _tag(self, x: Mapping[Hashable, Any]) -> str:
        return "" if self.task is None else str(x.get(self.task, ""))

    def _row(self, x: Mapping[Hashable, Any], tag: str, action: Hashable) -> dict[Hashable, Any]:
        """The event as the regressor reads it: every (task, action) is a task of its own."""
        features = {name: value for name, value in x.items() if name != self.task}
        return features | {_TAG: f"{self.actions.index(action)}\x1f{tag}"}


@dataclass(slots=True)
class _Spread:
    """Running variance of the rewards (Welford 1962)."""

    count: int = 0
    mean: float = 0.0
    square: float = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        gap = value - self.mean
        self.mean += gap / self.count
        self.square += gap * (value - self.mean)

    @property
    def deviation(self) -> float:
        return math.sqrt(self.square / self.count) if self.count else 0.0


def stable_uniform(seed: int, *key: Hashable) -> float:
    """A number in [0, 1) that depends on seed and key alone: the same on every machine and after every crash.

    Args:
        seed: of the run.
        key: what the choice is for, as values whose ``repr`` is stable: an id; or topic, partition and offset.
    """
    digest = hashlib.blake2b(repr((seed, *key)).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) * (_UNIT * 2**11)


def drawn(propensities: Doubles, uniform: float) -> int:
    """The action that a number in [0, 1) falls on; never one of probability 0."""
    cumulative = propensities.cumsum()
    index = int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
    return min(index, int(np.flatnonzero(propensities)[-1]))
