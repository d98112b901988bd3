"""Choose, then learn the reward, one event at a time: the loop that every decider shares. Needs numpy only.

A decider gets its job as JSON on the command line, and writes as JSON the mean reward, and the time that choosing and
learning took.
"""

import argparse
import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from benchmarks.peers.prequential import read_rows
from benchmarks.peers.running_scale import RunningScale

__all__ = ["Bandit", "Decider", "Event", "classes_of", "run"]

_LEVELS = 4  # classes that a target becomes


@dataclass(frozen=True)
class Event:
    """One row."""

    number: int
    names: list[str]  # of the features
    x: np.ndarray  # features [D], raw
    scaled: np.ndarray  # [D], by running means and spreads
    task: str


@dataclass(frozen=True)
class Bandit:
    """What a decider is to do."""

    path: str
    learner: str
    limit: int  # rows
    delay: int  # rows after which a reward comes
    seed: int
    kind: str  # "classification", or "regression", whose target becomes four levels
    seconds: float  # the loop stops after so long
    shuffled: bool = False  # actions are numbered in an order drawn by the seed


class Decider(Protocol):
    """What a runner must bring."""

    def choose(self, event: Event) -> int:
        """The action for an event."""

    def learn(self, event: Event, action: int, reward: float) -> None:
        """Learn what an earlier choice earned."""


Make: TypeAlias = Callable[[Bandit, int], Decider]  # the job, and how many actions there are


def classes_of(ys: np.ndarray, kind: str) -> np.ndarray:
    """Labels as numbers of actions [N]: classes in order, or in which quarter of all a target lies."""
    if kind == "classification":
        found: np.ndarray = np.unique(ys, return_inverse=True)[1]
        return found
    edges = np.quantile(ys, np.arange(1, _LEVELS) / _LEVELS)
    return np.searchsorted(edges, ys, side="right")


def run(make: Make) -> None:
    """Do the job of the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--job", type=json.loads, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.write_text(json.dumps(_play(make, Bandit(**options.job))))


def _play(make: Make, job: Bandit) -> dict[str, Any]:
    rows = read_rows(Path(job.path), job.limit)
    right = classes_of(rows.ys, job.kind)
    if job.shuffled:
        right = np.random.default_rng(job.seed).permutation(int(right.max()) + 1)[right]
    decider, scale = make(job, int(right.max()) + 1), RunningScale(len(rows.names))
    earned, seconds, late = np.zeros(len(rows)), 0.0, deque[tuple[Event, int, float]]()
    for i, x in enumerate(rows.xs):
        event = Event(i, rows.names, x, np.clip(scale.scaled(x), -5, 5), rows.tasks[i])
        scale.learn(x)
        begun = time.process_time()
        action = decider.choose(event)
        earned[i] = float(action == right[i])
        late.append((event, action, earned[i]))
        while len(late) > job.delay:
            decider.learn(*late.popleft())
        seconds += time.process_time() - begun
        if seconds > job.seconds:
            return {"problem": f"{i + 1:,} of {len(rows):,} rows in {job.seconds:.0f} s"}
    return {"reward": float(earned.mean()), "rows": len(rows), "seconds": seconds, "actions": int(right.max()) + 1}
