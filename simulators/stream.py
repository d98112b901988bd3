"""The one generator behind every scenario: who speaks next, which law holds for them, and when it changes.

A scenario gives a `World`: how features are drawn, what a law is (a vector of numbers), and how a law turns features
into a label. `stream` does the rest in blocks of numpy arrays, with memory that grows with tasks and not with events.

Every kind of choice has a random generator of its own, and the k-th law of a task has a generator seeded by (seed,
task, k). So a seed gives the same stream whatever the block size is, and a longer stream begins like a shorter one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from simulators.sample import Sample
from streammeta.errors import ConfigError

__all__ = ["DriftKind", "StreamSettings", "World", "stream"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
DriftKind: TypeAlias = Literal["abrupt", "gradual", "incremental", "none"]

_BLOCK_EVENTS = 4096
_DIGITS = 6  # decimals of features and targets: what is written is what the law was applied to
_EPOCH = 1_700_000_000.0  # ts of the first event
_NEVER = np.iinfo(np.int64).max
_EVENTS, _SWITCHES, _POOL = 0, 1, 2  # second number of every seed: what the generator is for


class StreamSettings(BaseModel, frozen=True, extra="forbid"):
    """What every scenario lets one set; scenarios add their own."""

    tasks: int = Field(default=100, ge=1, le=1_000_000, description="Number of tasks.")
    start_tasks: int | None = Field(
        default=None, ge=1, description="Tasks there from the first event; all when not set."
    )
    new_task_every: int = Field(
        default=100, ge=1, description="Events between arrivals of the tasks that are not there at first."
    )
    popularity: float = Field(
        default=0.0, ge=0, le=5, description="Zipf exponent of how often tasks speak; 0: all alike."
    )
    noise: float = Field(
        default=0.0, ge=0, description="Share of wrong labels, or standard deviation of the target's noise."
    )
    drift: DriftKind = Field(
        default="abrupt", description="How a task passes from one law to the next, without telling."
    )
    drift_width: int = Field(
        default=40, ge=1, description="Events of the task that a gradual or incremental change takes."
    )
    concept_events: int = Field(default=200, ge=1, description="Mean number of a task's events under one law.")
    schedule: Literal["uniform", "memoryless", "fixed"] = Field(
        default="uniform",
        description="Length of a law's reign: ± 25 % about the mean, by a constant hazard, or exactly the mean.",
    )
    concepts: int | None = Field(
        default=None, ge=2, description="Laws in a pool that come back; when not set each law is new."
    )
    events_per_second: float = Field(default=100.0, gt=0, description="Spacing of the time stamps.")


@dataclass(frozen=True)
class World:
    """A scenario as pure functions: N events, D features, L numbers a law."""

    features: tuple[str, ...]  # their names [D]
    draw: Callable[[Generator, int], Floats]  # (generator, N) -> x [N, D]; event by event, so that blocks do not matter
    law: Callable[[Generator, int], Floats]  # (generator, its number) -> law [L]
    answer: Callable[[Floats, Floats], Floats]  # (x [N, D], law of each event [N, L]) -> label without noise [N]
    classes: int | None  # None: regression
    blends: bool = True  # a point between two laws is a law too, which incremental drift needs


def stream(
    world: World, settings: StreamSettings, *, seed: int, events: int | None, block_events: int = _BLOCK_EVENTS
) -> Iterator[Sample]:
    """Generate events one by one; endless when `events` is None.

    Raises:
        ConfigError: before the first event, when the settings do not fit the world.
    """
    if settings.drift == "incremental" and not world.blends:
        raise ConfigError("simulate: drift is 'incremental', but these laws have nothing between them; take 'gradual'")
    if world.classes is not None and settings.noise > 1:
        raise ConfigError(f"simulate: noise is {settings.noise}, wanted a share of wrong labels between 0 and 1")
    return _samples(_Laws(world, settings, seed), seed=seed, events=events, block_events=block_events)


def _samples(laws: "_Laws", *, seed: int, events: int | None, block_events: int) -> Iterator[Sample]:
    world, settings = laws.world, laws.settings
    who, what, mixing, flips, others = (default_rng((seed, _EVENTS, purpose)) for purpose in range(5))
    share = np.cumsum(np.arange(1, settings.tasks + 1, dtype=np.float64) ** -settings.popularity)
    names = world.features
    first = 0
    while events is None or first < events:
        size = block_events if events is None else min(block_events, events - first)
        tasks = _speakers(settings, share, who.random(size), first)
        x = np.round(world.draw(what, size), _DIGITS)
        law, concept, drifted = laws.advance(tasks, mixing.random(size))
        y = world.answer(x, law)
        if world.classes is None:
            targets = np.round(y + settings.noise * flips.standard_normal(size), _DIGITS).tolist()
        else:
            targets = _flip(y, flips.random(size) < settings.noise, others.random(size), world.classes).tolist()
        rows = zip(x.tolist(), targets, tasks.tolist(), concept.tolist(), drifted.tolist(), strict=True)
        for number, (values, target, task, its_concept, its_drift) in enumerate(rows, start=first):
            ts = _EPOCH + number / settings.events_per_second
            features = dict(zip(names, values, strict=True))
            yield Sample(features, target, f"task-{task}", ts, str(number), its_concept, its_drift)
        first += size


def _speakers(settings: StreamSettings, share: Floats, uniform: Floats, first: int) -> Ints:
    """The task of each event [N]: by popularity, among the tasks that have arrived by then."""
    start = min(settings.start_tasks or settings.tasks, settings.tasks)
    arrived = start + (first + np.arange(len(uniform))) // settings.new_task_every
    there = share[np.minimum(arrived, settings.tasks) - 1]
    tasks: Ints = np.minimum(np.searchsorted(share, uniform * there, side="right"), settings.tasks - 1)
    return tasks


def _flip(y: Floats, wrong: NDArray[np.bool_], uniform: Floats, classes: int) -> Ints:
    """Labels [N] with the wrong ones moved to another class, each other class alike."""
    step = 1 + np.floor(uniform * (classes - 1)).astype(np.int64)
    right: Ints = y.astype(np.int64)
    labels: Ints = np.where(wrong, (right + step) % classes, right)
    return labels


class _Laws:
    """Which law holds for each task: arrays over tasks, moved on by `advance`."""

    def __init__(self, world: World, settings: StreamSettings, seed: int) -> None:
        self.world, self.settings = world, settings
        self._seed = seed
        width = len(world.law(default_rng(0), 0))
        self._seen = np.zeros(settings.tasks, np.int64)  # events of the task so far
        self._begun = np.zeros(settings.tasks, np.int64)  # the task's event with which its present law began
        self._next = np.zeros(settings.tasks, np.int64)  # and the one with which the next law begins
        self._switches = np.full(settings.tasks, -1, np.int64)  # laws had before this one; -1: never spoke
        self._concept = np.zeros((settings.tasks, 2), np.int64)  # previous, present
        self._law = np.zeros((settings.tasks, 2, width))  # previous, present

    def advance(self, tasks: Ints, uniform: Floats) -> tuple[Floats, Ints, NDArray[np.bool_]]:
        """The law [N, L], concept [N] and "a new law begins here" [N] of the next N events, given their tasks [N]."""
        order = np.argsort(tasks, kind="stable")
        present, starts, counts = np.unique(tasks[order], return_index=True, return_counts=True)
        age = np.empty(len(tasks), np.int64)
        age[order] = np.arange(len(tasks)) - np.repeat(starts - self._seen[present], counts)
        begun, concept, law = self._begun[tasks], self._concept[tasks], self._law[tasks]
        drifted = np.zeros(len(tasks), np.bool_)
        for i in np.flatnonzero(self._next[present] < self._seen[present] + counts):
            task, mine = int(present[i]), order[starts[i] : starts[i] + counts[i]]
            while self._next[task] < self._seen[task] + counts[i]:
                self._switch(task)
                rest = mine[self._begun[task] - self._seen[task] :]
                begun[rest], concept[rest], law[rest] = self._begun[task], self._concept[task], self._law[task]
                drifted[rest[0]] = self._switches[task] > 0
        self._seen[present] += counts
        return *self._blend(age - begun, concept, law, uniform), drifted

    def _blend(self, since: Ints, concept: Ints, law: Floats, uniform: Floats) -> tuple[Floats, Ints]:
        """Previous and present law [N, 2, L] made one, `since` events [N] after the switch."""
        if self.settings.drift in ("abrupt", "none"):
            return law[:, 1], concept[:, 1]
        weight = np.minimum((since + 1) / (self.settings.drift_width + 1), 1.0)
        if self.settings.drift == "incremental":
            return law[:, 0] + weight[:, None] * (law[:, 1] - law[:, 0]), concept[:, 1]
        new = uniform < weight
        return np.where(new[:, None], law[:, 1], law[:, 0]), np.where(new, concept[:, 1], concept[:, 0])

    def _switch(self, task: int) -> None:
        """Give the task its next law, and say when the one after it begins."""
        self._switches[task] += 1
        number = int(self._switches[task])
        rng = default_rng((self._seed, _SWITCHES, task, number))
        length = _length(self.settings, rng)
        before = int(self._concept[task, 1]) if number else None
        concept, law = self._choose(rng, number, before)
        self._begun[task] = self._next[task]
        self._next[task] = _NEVER if self.settings.drift == "none" else self._next[task] + length
        self._concept[task] = (concept if before is None else before, concept)
        self._law[task, 0] = law if before is None else self._law[task, 1]
        self._law[task, 1] = law

    def _choose(self, rng: Generator, number: int, before: int | None) -> tuple[int, Floats]:
        """The next concept: a fresh one, or one of the pool other than the present one."""
        pool = self.settings.concepts
        if pool is None:
            return number, self.world.law(rng, number)
        concept = int(rng.integers(pool)) if before is None else int(before + 1 + rng.integers(pool - 1)) % pool
        return concept, self.world.law(default_rng((self._seed, _POOL, concept)), concept)


def _length(settings: StreamSettings, rng: Generator) -> int:
    """Events until the next switch: at least as many as the change itself takes."""
    mean, draw = settings.concept_events, float(rng.random())
    least = settings.drift_width if settings.drift in ("gradual", "incremental") else 1
    if settings.schedule == "fixed":
        return max(mean, least)
    if settings.schedule == "uniform":
        return max(round(mean * (0.75 + 0.5 * draw)), least)
    return least + int(np.log1p(-draw) / np.log1p(-1 / (mean + 1)))
