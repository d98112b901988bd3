"""What do a task's first 50 decisions cost, beside an oracle that knows the prior, and a learner that shares nothing?

    python -m benchmarks.regret [--exploration inverse_gap] [--seeds 0] [--json OUT] [--quick]

300 tasks, ten of them at a time, each for 50 decisions among five actions, rewards at once. What an action earns in a
task is linear in three numbers that all tasks share, of the eight that are seen, plus noise; its weights are drawn
for each task from one Gaussian an action, the prior. Regret is what the best action would have earned less what the
action taken does, without the noise. The oracle knows the three numbers, the prior and the noise: exact Bayesian
regression. All draw by the same exploration. "alone" is the same learner, an engine a task; "no meta-updates" shares
the scale of numbers, and an encoder that stays as it began.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from streammeta.decisions import DecisionEngine, DecisionOutcome
from streammeta.decisions.exploration import explore
from streammeta.decisions.scoring import Scores
from streammeta.engine import EngineSettings
from streammeta.engine.settings import DecideSettings
from streammeta.event import Event, Label, Origin

__all__ = ["World", "main", "regrets"]

_ACTIONS, _SEEN, _SHARED, _NOISE = 5, 8, 3, 0.5
_AT_ONCE, _DECISIONS = 10, 50
_SPREAD = 0.6  # of a task's weights around the prior's mean, which has 1
_NAMES = tuple(f"a{k}" for k in range(_ACTIONS))
_Doubles: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """Tasks of one family."""

    basis: _Doubles  # [shared, seen] the numbers that matter, of those that are seen
    prior: _Doubles  # [actions, shared + 1] mean of each action's weights; the last is a constant
    weights: _Doubles  # [tasks, actions, shared + 1]
    x: _Doubles  # [tasks, decisions, seen]
    noise: _Doubles  # [tasks, decisions]

    @classmethod
    def draw(cls, tasks: int, seed: int) -> "World":
        """A family and its tasks."""
        random = np.random.default_rng(seed)
        basis = np.linalg.qr(random.standard_normal((_SEEN, _SHARED)))[0].T
        prior = random.standard_normal((_ACTIONS, _SHARED + 1))
        weights = prior + _SPREAD * random.standard_normal((tasks, _ACTIONS, _SHARED + 1))
        shape = tasks, _DECISIONS
        return cls(
            basis, prior, weights, random.standard_normal((*shape, _SEEN)), _NOISE * random.standard_normal(shape)
        )

    def shared(self, task: int, i: int) -> _Doubles:
        """What matters of the task's i-th event, and 1 [shared + 1]."""
        return np.append(self.basis @ self.x[task, i], 1.0)

    def means(self, task: int, i: int) -> _Doubles:
        """What each action earns there, but for the noise [actions]."""
        found: _Doubles = self.weights[task] @ self.shared(task, i)
        return found


Choose: TypeAlias = Callable[[Sequence[int], int], list[int]]  # tasks, and the how many-th decision → actions
Learn: TypeAlias = Callable[[Sequence[int], int, Sequence[int], Sequence[float]], None]  # … and actions, rewards


def regrets(world: World, choose: Choose, learn: Learn) -> _Doubles:
    """Regret of each task's first decisions, added up [tasks]."""
    found = np.zeros(len(world.weights))
    for first in range(0, len(found), _AT_ONCE):
        tasks = range(first, min(first + _AT_ONCE, len(found)))
        for i in range(_DECISIONS):
            taken = choose(tasks, i)
            earned = [world.means(task, i) for task in tasks]
            rewards = [float(one[a] + world.noise[task, i]) for one, a, task in zip(earned, taken, tasks, strict=True)]
            for task, one, a in zip(tasks, earned, taken, strict=True):
                found[task] += one.max() - one[a]
            learn(tasks, i, taken, rewards)
    return found


class _Ours:
    """An engine, for all tasks or for some of them."""

    def __init__(self, world: World, settings: EngineSettings) -> None:
        self._world, self._engine, self._records = world, DecisionEngine(settings), 0

    def choose(self, tasks: Sequence[int], i: int) -> list[int]:
        """The actions of these tasks' i-th events."""
        events = []
        for task in tasks:
            x = {f"x{d}": value for d, value in enumerate(self._world.x[task, i].tolist())}
            events.append(Event(x, f"t{task}", self._origin(), id=f"{task}-{i}"))
        made = self._engine.step(events)
        assert all(isinstance(one, DecisionOutcome) and one.rejected is None for one in made)
        return [_NAMES.index(str(one.action)) for one in made if isinstance(one, DecisionOutcome)]

    def learn(self, tasks: Sequence[int], i: int, _taken: Sequence[int], rewards: Sequence[float]) -> None:
        """What they earned."""
        self._engine.step(
            [Label(f"{task}-{i}", y, f"t{task}", self._origin()) for task, y in zip(tasks, rewards, strict=True)]
        )

    def close(self) -> None:
        """Let go of it."""
        self._engine.close()

    def _origin(self) -> Origin:
        self._records += 1
        return Origin("regret", 0, self._records)


class _Oracle:
    """Exact Bayesian regression for each action of each task, by the prior that they were drawn from."""

    def __init__(self, world: World, how: DecideSettings, seed: int) -> None:
        self._world, self._how, self._random = world, how, np.random.default_rng(seed)
        self._precision = np.tile(np.eye(_SHARED + 1) / _SPREAD**2, (*world.weights.shape[:2], 1, 1))
        self._sums = self._precision @ world.prior[None, :, :, None]
        self._spread, self._endless = np.full(1, np.std(world.weights @ np.ones(_SHARED + 1))), np.full(1, np.inf)

    def choose(self, tasks: Sequence[int], i: int) -> list[int]:
        """The actions of these tasks' i-th events."""
        taken = []
        for task in tasks:
            z, covariance = self._world.shared(task, i), np.linalg.inv(self._precision[task])
            means, doubts = (covariance @ self._sums[task])[..., 0] @ z, np.einsum("i,kij,j->k", z, covariance, z)
            chances = explore(
                Scores(means[None], doubts[None], self._spread, -self._endless, self._endless), self._how
            )[0]
            taken.append(int(self._random.choice(_ACTIONS, p=chances / chances.sum())))
        return taken

    def learn(self, tasks: Sequence[int], i: int, taken: Sequence[int], rewards: Sequence[float]) -> None:
        """What they earned."""
        for task, action, reward in zip(tasks, taken, rewards, strict=True):
            z = self._world.shared(task, i)
            self._precision[task, action] += np.outer(z, z) / _NOISE**2
            self._sums[task, action, :, 0] += z * reward / _NOISE**2


def _settings(how: DecideSettings, seed: int, mode: str) -> EngineSettings:
    tree: dict[str, Any] = {"kind": "regression", "seed": seed, "decide": how, "meta": {"mode": mode}}
    return EngineSettings.model_validate(tree)


def _alone(world: World, settings: EngineSettings) -> _Doubles:
    """As ``regrets``, of one engine a task."""
    found = []
    for task in range(len(world.weights)):
        one = World(world.basis, world.prior, world.weights[[task]], world.x[[task]], world.noise[[task]])
        with closing(_Ours(one, settings)) as ours:
            found.append(regrets(one, ours.choose, ours.learn))
    return np.concatenate(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print regrets and their ratios, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exploration", default="inverse_gap")
    parser.add_argument("--heads", default="each")
    parser.add_argument("--seeds", type=lambda text: [int(one) for one in text.split(",")], default=[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="20 tasks")
    options = parser.parse_args(arguments)
    how = DecideSettings(actions=_NAMES, exploration=options.exploration, heads=options.heads)
    found: dict[str, list[float]] = {}
    for seed in options.seeds:
        world = World.draw(20 if options.quick else 300, seed)
        by_name = {"alone": _alone(world, _settings(how, seed, "off"))}
        for name, mode in (("no meta-updates", "off"), ("streammeta", "sync")):
            with closing(_Ours(world, _settings(how, seed, mode))) as ours:
                by_name[name] = regrets(world, ours.choose, ours.learn)
        oracle = _Oracle(world, how, seed)
        by_name["oracle"] = regrets(world, oracle.choose, oracle.learn)
        for name, one in by_name.items():
            third = len(one) // 3
            found.setdefault(name, []).append(float(one.mean()))
            print(f"seed {seed}, {name}: {one.mean():.2f} a task; last third {one[-third:].mean():.2f}", flush=True)
    ours_ = np.mean(found["streammeta"])
    for name in ("alone", "no meta-updates", "oracle"):
        print(f"streammeta has {ours_ / np.mean(found[name]):.2f} times the regret of {name}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
