"""Train θ on episodes. Every update draws its tasks by its own number, so a resumed run is the run that went on."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from streammeta.episode.family import Family
from streammeta.errors import ConfigError
from streammeta.meta.learner import Learner, OuterState, moved

__all__ = ["Schedule", "Watch", "begin", "train"]

Watch = Callable[[OuterState], bool]  # called after each update; True ends the training there

_PRIME = 1_000_003  # between the seeds of two runs, so that seed 1 does not begin where seed 0 is after one update


@dataclass(frozen=True, slots=True)
class Schedule:
    """How much to train, on what."""

    updates: int = 10_000  # meta-updates in all
    tasks: int = 25  # a meta-update
    support: int = 10  # examples to adapt on, of a task or of each of its classes, as the family counts
    query: int = 10  # examples to be judged by, likewise
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.updates, self.tasks, self.support, self.query) < 1 or self.seed < 0:
            raise ConfigError(f"training: got {self}; wanted whole numbers of at least 1, seed of at least 0")


def begin(learner: Learner, schedule: Schedule, device: torch.device | None = None) -> OuterState:
    """θ as the seed makes it, before any update."""
    theta = learner.init(torch.Generator().manual_seed(schedule.seed))
    return learner.begin({name: p.to(device or "cpu") for name, p in theta.items()})


def train(
    learner: Learner, family: Family, schedule: Schedule, state: OuterState | None = None, watch: Watch | None = None
) -> OuterState:
    """Meta-update until ``schedule.updates`` are made.

    Args:
        learner: the method.
        family: where tasks come from; only its ``train`` is asked.
        schedule: how much of what.
        state: where an earlier run stopped; None begins.
        watch: called after each update.
    """
    state = begin(learner, schedule) if state is None else state
    device = next(iter(state.theta.values())).device
    generator = torch.Generator()
    while state.updates < schedule.updates:
        generator.manual_seed(schedule.seed * _PRIME + state.updates + 1)
        tasks = family.train(generator, schedule.tasks, schedule.support, schedule.query)
        state = learner.update(state, moved(tasks, device))
        if watch is not None and watch(state):
            break
    return state
