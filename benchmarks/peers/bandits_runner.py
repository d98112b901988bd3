"""Runs Vowpal Wabbit's contextual bandits and coba's linear ones."""

import random
from typing import Any

import vowpalwabbit
from coba.learners import LinTSLearner, LinUCBLearner

from benchmarks.peers.bandit_loop import Bandit, Decider, Event, run

__all__ = ["make"]

_EXPLORATIONS = {  # each with the defaults that Vowpal Wabbit gives it
    "squarecb": "--squarecb",
    "regcb": "--regcbopt",
    "cover": "--cover 4",
    "first": "--first 100",
    "epsilon": "--epsilon 0.05",
}


class _VowpalWabbit:
    """`--cb_explore_adf`: features crossed with actions, and task tags with both."""

    def __init__(self, job: Bandit, actions: int) -> None:
        options = _EXPLORATIONS[job.learner.removeprefix("vw ")]
        self._workspace: Any = vowpalwabbit.Workspace(
            f"--cb_explore_adf {options} -q sa -q ta --cubic sta --quiet --random_seed {job.seed + 1}"
        )
        self._random, self._actions = random.Random(job.seed), actions
        self._said: dict[int, tuple[str, float]] = {}  # the event as text, and the propensity, until the reward

    def choose(self, event: Event) -> int:
        x = " ".join(f"{k}:{value:.6g}" for k, value in enumerate(event.scaled.tolist()) if value)
        shared = f"shared |s {x} |t {''.join(c if c.isalnum() else '_' for c in event.task) or 'none'}"
        said = self._workspace.predict([shared, *(f"|a {k}" for k in range(self._actions))])
        (action,) = self._random.choices(range(self._actions), said)
        self._said[event.number] = shared, max(said[action], 1e-6)
        return action

    def learn(self, event: Event, action: int, reward: float) -> None:
        shared, p = self._said.pop(event.number)
        lines = [f"0:{-reward}:{p:.6g} |a {k}" if k == action else f"|a {k}" for k in range(self._actions)]
        self._workspace.learn([shared, *lines])


class _Coba:
    """One linear model over features crossed with actions; it knows no tasks."""

    def __init__(self, job: Bandit, actions: int) -> None:
        kind = LinUCBLearner if job.learner == "coba LinUCB" else LinTSLearner
        self._model: Any = kind(seed=job.seed + 1)
        self._actions = [tuple(float(k == one) for k in range(actions)) for one in range(actions)]
        self._random = random.Random(job.seed)

    def choose(self, event: Event) -> int:
        said = self._model.predict(event.scaled.tolist(), self._actions)
        action = said[0] if isinstance(said, tuple) else said
        return self._actions.index(tuple(action))

    def learn(self, event: Event, action: int, reward: float) -> None:
        self._model.learn(event.scaled.tolist(), self._actions[action], reward, 1.0)


def make(job: Bandit, actions: int) -> Decider:
    """The decider that the job names."""
    return (_VowpalWabbit if job.learner.startswith("vw ") else _Coba)(job, actions)


if __name__ == "__main__":
    run(make)
