"""Changes of episodes, as functions: noise, turns, shifts, another unit. They make few tasks into more."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch

from streammeta.episode.family import Draw, Family
from streammeta.meta.learner import TaskBatch

__all__ = ["Change", "augmented", "noisy", "rescaled", "shifted", "turned"]

Change: TypeAlias = Callable[[torch.Generator, TaskBatch], TaskBatch]


def augmented(family: Family, changes: Sequence[Change]) -> Family:
    """The same family with its training episodes changed, one change after the other; tests stay as they are."""

    def draw(generator: torch.Generator, tasks: int, support: int, query: int) -> TaskBatch:
        batch = family.train(generator, tasks, support, query)
        for change in changes:
            batch = change(generator, batch)
        return batch

    train: Draw = draw
    return family._replace(train=train)


def noisy(spread: float) -> Change:
    """Gaussian noise of that standard deviation on every number of x."""

    def change(generator: torch.Generator, batch: TaskBatch) -> TaskBatch:
        def add(x: torch.Tensor) -> torch.Tensor:
            return x + spread * torch.randn(x.shape, generator=generator)

        return _with_x(batch, add)

    return change


def rescaled(shift: float, gain: float) -> Change:
    """(x − shift) · gain, as a normalization that is known beforehand."""
    return lambda _generator, batch: _with_x(batch, lambda x: (x - shift) * gain)


def turned() -> Change:
    """Images turned by a random number of quarters, the same for the whole of a task: a new task, not a harder one."""

    def change(generator: torch.Generator, batch: TaskBatch) -> TaskBatch:
        quarters = torch.randint(4, (batch.query.x.shape[0],), generator=generator).tolist()
        return _with_x(batch, lambda x: torch.stack([torch.rot90(x[t], q, (-2, -1)) for t, q in enumerate(quarters)]))

    return change


def shifted(most: int) -> Change:
    """Images moved by up to ``most`` pixels in both directions, each task by its own; what comes in is 0."""

    def change(generator: torch.Generator, batch: TaskBatch) -> TaskBatch:
        tasks, side = batch.query.x.shape[0], batch.query.x.shape[-1]
        moves = torch.randint(2 * most + 1, (tasks, 2), generator=generator).tolist()

        def move(x: torch.Tensor) -> torch.Tensor:
            wide = torch.nn.functional.pad(x, (most,) * 4)
            return torch.stack([wide[t, ..., i : i + side, j : j + side] for t, (i, j) in enumerate(moves)])

        return _with_x(batch, move)

    return change


def _with_x(batch: TaskBatch, change: Callable[[torch.Tensor], torch.Tensor]) -> TaskBatch:
    return TaskBatch(*(half._replace(x=change(half.x)) for half in batch))
