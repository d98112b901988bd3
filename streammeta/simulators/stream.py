"""The one generator of every scenario: the next event's task, its features, its label and when the label comes.

A scenario gives a `World`: how features are drawn, what a concept is (a vector of numbers), and how a concept turns
features into a label. `stream` does the rest in blocks of numpy arrays, with memory that grows with tasks and not with
events.

Every kind of choice has a random generator of its own. So a seed gives the same stream whatever the block size is, a
longer stream begins like a shorter one, and an option changes nothing but what it is about.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.random import default_rng
from numpy.typing import NDArray

from streammeta.errors import ConfigError
from streammeta.simulators.concepts import Concepts
from streammeta.simulators.sample import Sample
from streammeta.simulators.world import Floats, Ints, StreamSettings, World

__all__ = ["stream"]

_BLOCK_EVENTS = 4096
_DIGITS = 6  # decimals of features and targets: what is written is what the concept was applied to
_EPOCH = 1_700_000_000.0  # ts of the first event
_EVENTS = 0  # second number of these generators' seeds
_DRAWS = 8  # of an event that should be of class 0


class _Purpose(IntEnum):
    """Third number of the seed: what the generator is for."""

    WHO = 0
    WHAT = 1
    MIXING = 2
    FLIPS = 3
    OTHERS = 4
    IMBALANCE = 5
    MISSING = 6
    DELAY = 7
    LABELLED = 8
    UNITS = 9


def stream(
    world: World, settings: StreamSettings, *, seed: int, events: int | None, block_events: int = _BLOCK_EVENTS
) -> Iterator[Sample]:
    """Generate events one by one; endless when `events` is None.

    Raises:
        ConfigError: before the first event, when the settings do not fit the world.
    """
    if not world.blends and (settings.drift == "incremental" or (settings.clusters and settings.cluster_spread)):
        what = "drift is 'incremental'" if settings.drift == "incremental" else "cluster_spread is above 0"
        raise ConfigError(
            f"simulate: {what}, but these concepts have nothing between them; take 'gradual', or spread 0"
        )
    if world.classes is not None and settings.noise > 1:
        raise ConfigError(f"simulate: noise is {settings.noise}, wanted a share of wrong labels between 0 and 1")
    if world.classes is None and settings.imbalance:
        raise ConfigError(f"simulate: imbalance is {settings.imbalance}, but this scenario has no classes; wanted 0")
    if settings.missing and len(world.features) < 2:
        raise ConfigError(f"simulate: missing is {settings.missing}, but there is one feature only; wanted 0")
    return _samples(_Blocks(world, settings, seed), events=events, block_events=block_events)


def _samples(blocks: "_Blocks", *, events: int | None, block_events: int) -> Iterator[Sample]:
    first, rate = 0, blocks.settings.events_per_second
    while events is None or first < events:
        block = blocks.next(first, block_events if events is None else min(block_events, events - first))
        for number, (x, y, task, concept_id, drifted, after) in enumerate(
            block.rows(blocks.world.features), start=first
        ):
            yield Sample(x, y, f"task-{task}", _EPOCH + number / rate, str(number), concept_id, drifted, after)
        first += len(block.tasks)


@dataclass(frozen=True)
class _Block:
    """N events as arrays."""

    x: Floats  # [N, D]
    y: Floats | Ints  # [N]
    tasks: Ints  # [N]
    concept_id: Ints  # [N]
    drifted: NDArray[np.bool_]  # [N]
    label_after: list[int | None]  # [N]
    gone: NDArray[np.bool_] | None  # [N, D] missing features

    def rows(
        self, names: tuple[str, ...]
    ) -> Iterator[tuple[dict[str, float], int | float, int, int, bool, int | None]]:
        """The events one by one."""
        lists = (one.tolist() for one in (self.y, self.tasks, self.concept_id, self.drifted))
        if self.gone is None:
            seen = [dict(zip(names, values, strict=True)) for values in self.x.tolist()]
        else:
            pairs = zip(self.x.tolist(), self.gone.tolist(), strict=True)
            seen = [
                {name: value for name, value, no in zip(names, values, gone, strict=True) if not no}
                for values, gone in pairs
            ]
        yield from zip(seen, *lists, self.label_after, strict=True)


class _Blocks:
    """The random generators of a stream, and the concepts; each call of `next` gives the next events."""

    def __init__(self, world: World, settings: StreamSettings, seed: int) -> None:
        self.world, self.settings, self._seed = world, settings, seed
        self._concepts = Concepts(world, settings, seed)
        self._rng = {purpose: default_rng((seed, _EVENTS, int(purpose))) for purpose in _Purpose}
        self._units: dict[int, Floats] = {}  # of each task, factors and offsets of features and target [2, D + 1]
        self._share = np.cumsum(np.arange(1, settings.tasks + 1, dtype=np.float64) ** -settings.popularity)

    def next(self, first: int, size: int) -> _Block:
        """Events ``first`` to ``first + size``."""
        world, rng = self.world, self._rng
        tasks = _speakers(self.settings, self._share, rng[_Purpose.WHO].random(size), first)
        concept, concept_id, drifted = self._concepts.advance(tasks, rng[_Purpose.MIXING].random(size))
        z = self._drawn(concept)
        x = z if world.observe is None else np.round(world.observe(z, concept), _DIGITS)
        y = self._noisy(world.answer(z, concept))
        if self.settings.scale_spread or self.settings.offset_spread:
            x, y = self._in_units(tasks, x, y)
        return _Block(x, y, tasks, concept_id, drifted, self._label_after(size), self._gone(size))

    def _drawn(self, concept: Floats) -> Floats:
        """Hidden numbers of each event [N, Z]; of several draws the first of class 0, where imbalance asks for one."""
        size, rng = len(concept), self._rng[_Purpose.WHAT]
        if self.settings.imbalance == 0:
            return np.round(self.world.draw(rng, size), _DIGITS)
        z = np.round(self.world.draw(rng, size * _DRAWS), _DIGITS)
        is_zero = (self.world.answer(z, np.repeat(concept, _DRAWS, axis=0)) == 0).reshape(size, _DRAWS)
        wanted = self._rng[_Purpose.IMBALANCE].random(size) < self.settings.imbalance
        chosen = np.where(wanted, is_zero.argmax(axis=1), 0)
        return z[np.arange(size) * _DRAWS + chosen]

    def _in_units(self, tasks: Ints, x: Floats, y: Floats | Ints) -> tuple[Floats, Floats | Ints]:
        """Features [N, D], and targets [N] that are no classes, as each task measures them."""
        there, place = np.unique(tasks, return_inverse=True)
        units = np.stack([self._units_of(task) for task in there.tolist()])[place]  # [N, 2, D + 1]
        x = x * units[:, 0, :-1] + units[:, 1, :-1]
        return x, y if self.world.classes is not None else y * units[:, 0, -1] + units[:, 1, -1]

    def _units_of(self, task: int) -> Floats:
        if task not in self._units:
            rng = default_rng((self._seed, _EVENTS, int(_Purpose.UNITS), task))
            scale, offset = rng.standard_normal((2, len(self.world.features) + 1))
            factor = 10.0 ** (self.settings.scale_spread * scale)
            self._units[task] = np.stack([factor, factor * self.settings.offset_spread * offset])
        return self._units[task]

    def _noisy(self, y: Floats) -> Floats | Ints:
        flips, noise = self._rng[_Purpose.FLIPS], self.settings.noise
        if self.world.classes is None:
            return np.round(y + noise * flips.standard_normal(len(y)), _DIGITS)
        wrong = flips.random(len(y)) < noise
        return _flip(y, wrong, self._rng[_Purpose.OTHERS].random(len(y)), self.world.classes)

    def _label_after(self, size: int) -> list[int | None]:
        """Further events until each label comes [N]."""
        mean, labelled = self.settings.label_delay, self.settings.labelled
        after: list[int | None] = [mean] * size
        if mean and self.settings.label_delay_schedule == "memoryless":
            hazard = -np.log1p(-self._rng[_Purpose.DELAY].random(size)) * mean
            after = np.maximum(np.rint(hazard), 1).astype(np.int64).tolist()
        if labelled < 1:
            never = self._rng[_Purpose.LABELLED].random(size) >= labelled
            after = [None if no else one for one, no in zip(after, never.tolist(), strict=True)]
        return after

    def _gone(self, size: int) -> NDArray[np.bool_] | None:
        """Which features are missing [N, D]; the one with the largest draw never is, so that an event has one."""
        if self.settings.missing == 0:
            return None
        draw = self._rng[_Purpose.MISSING].random((size, len(self.world.features)))
        gone: NDArray[np.bool_] = (draw < self.settings.missing) & (draw < draw.max(axis=1, keepdims=True))
        return gone


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
