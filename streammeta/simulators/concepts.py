"""Which concept holds for each task, and when it changes.

The k-th concept of a task has a generator of its own, seeded by (seed, task, k), or by its cluster's or the pool's
number; so which concepts there are does not depend on the order in which tasks send events.
"""

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray

from streammeta.simulators.world import Floats, Ints, StreamSettings, World

__all__ = ["Concepts"]

_NEVER = np.iinfo(np.int64).max
_SWITCHES, _POOL = 1, 2  # second number of every seed: what the generator is for
_CLUSTER, _CLUSTER_POOL, _OWN = 4, 5, 6


class Concepts:
    """Arrays over tasks, moved on by `advance`."""

    def __init__(self, world: World, settings: StreamSettings, seed: int) -> None:
        self.world, self.settings = world, settings
        self._seed = seed
        width = len(world.concept(default_rng(0), 0))
        self._seen = np.zeros(settings.tasks, np.int64)  # events of the task so far
        self._begun = np.zeros(settings.tasks, np.int64)  # the task's event with which its present concept began
        self._next = np.zeros(settings.tasks, np.int64)  # and the one with which the next concept begins
        self._switches = np.full(settings.tasks, -1, np.int64)  # concepts had before this one; -1: never spoke
        self._concept_id = np.zeros((settings.tasks, 2), np.int64)  # previous, present
        self._concept = np.zeros((settings.tasks, 2, width))  # previous, present

    def advance(self, tasks: Ints, uniform: Floats) -> tuple[Floats, Ints, NDArray[np.bool_]]:
        """Concept [N, L], its id [N] and whether it begins here [N], of the next N events, given their tasks [N]."""
        order = np.argsort(tasks, kind="stable")
        present, starts, counts = np.unique(tasks[order], return_index=True, return_counts=True)
        age = np.empty(len(tasks), np.int64)
        age[order] = np.arange(len(tasks)) - np.repeat(starts - self._seen[present], counts)
        begun, concept_id, concept = self._begun[tasks], self._concept_id[tasks], self._concept[tasks]
        drifted = np.zeros(len(tasks), np.bool_)
        for i in np.flatnonzero(self._next[present] < self._seen[present] + counts):
            task, mine = int(present[i]), order[starts[i] : starts[i] + counts[i]]
            while self._next[task] < self._seen[task] + counts[i]:
                self._switch(task)
                rest = mine[self._begun[task] - self._seen[task] :]
                begun[rest], concept_id[rest], concept[rest] = (
                    self._begun[task],
                    self._concept_id[task],
                    self._concept[task],
                )
                drifted[rest[0]] = self._switches[task] > 0
        self._seen[present] += counts
        return *self._blend(age - begun, concept_id, concept, uniform), drifted

    def _blend(self, since: Ints, concept_id: Ints, concept: Floats, uniform: Floats) -> tuple[Floats, Ints]:
        """Previous and present concept [N, 2, L] made one, `since` events [N] after the switch."""
        if self.settings.drift in ("abrupt", "none"):
            return concept[:, 1], concept_id[:, 1]
        weight = np.minimum((since + 1) / (self.settings.drift_width + 1), 1.0)
        if self.settings.drift == "incremental":
            return concept[:, 0] + weight[:, None] * (concept[:, 1] - concept[:, 0]), concept_id[:, 1]
        new = uniform < weight
        return np.where(new[:, None], concept[:, 1], concept[:, 0]), np.where(new, concept_id[:, 1], concept_id[:, 0])

    def _switch(self, task: int) -> None:
        """Give the task its next concept, and say when the one after it begins."""
        self._switches[task] += 1
        number = int(self._switches[task])
        rng = default_rng((self._seed, _SWITCHES, task, number))
        length = _length(self.settings, rng)
        before = int(self._concept_id[task, 1]) if number else None
        concept_id, concept = self._choose(rng, task, number, before)
        self._begun[task] = self._next[task]
        self._next[task] = _NEVER if self.settings.drift == "none" else self._next[task] + length
        self._concept_id[task] = (concept_id if before is None else before, concept_id)
        self._concept[task, 0] = concept if before is None else self._concept[task, 1]
        self._concept[task, 1] = concept

    def _choose(self, rng: Generator, task: int, number: int, before: int | None) -> tuple[int, Floats]:
        """The id and the parameters of the next concept: the task's own, or its cluster's, or between the two."""
        clusters, spread = self.settings.clusters, self.settings.cluster_spread
        if clusters is None:
            return self._draw(rng, (self._seed, _POOL), number, before)
        cluster = task % clusters
        shared = default_rng((self._seed, _CLUSTER, cluster, number))
        concept_id, center = self._draw(shared, (self._seed, _CLUSTER_POOL, cluster), number, before)
        if spread == 0:
            return concept_id, center
        own = self.world.concept(default_rng((self._seed, _OWN, task, concept_id)), concept_id)
        return concept_id, center + spread * (own - center)

    def _draw(self, rng: Generator, pool_seed: tuple[int, ...], number: int, before: int | None) -> tuple[int, Floats]:
        """A fresh concept, or one of the pool other than the present one."""
        pool = self.settings.concepts
        if pool is None:
            return number, self.world.concept(rng, number)
        concept_id = int(rng.integers(pool)) if before is None else int(before + 1 + rng.integers(pool - 1)) % pool
        return concept_id, self.world.concept(default_rng((*pool_seed, concept_id)), concept_id)


def _length(settings: StreamSettings, rng: Generator) -> int:
    """Events until the next switch: at least as many as the change itself takes."""
    mean, draw = settings.concept_events, float(rng.random())
    least = settings.drift_width if settings.drift in ("gradual", "incremental") else 1
    if settings.schedule == "fixed":
        return max(mean, least)
    if settings.schedule == "uniform":
        return max(round(mean * (0.75 + 0.5 * draw)), least)
    return least + int(np.log1p(-draw) / np.log1p(-1 / (mean + 1)))
