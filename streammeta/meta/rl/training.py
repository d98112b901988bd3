"""Play trials in tasks drawn for it, improve θ, repeat; a resumed run is the run that went on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import torch

from streammeta.errors import ConfigError
from streammeta.meta.learner import Theta
from streammeta.meta.rl.base import Agent, Data, Environment, PolicyLearner, play

__all__ = ["Returns", "TrialSchedule", "evaluate", "train"]


class Progress(Protocol):
    """What every method's training state has."""

    @property
    def theta(self) -> Theta:
        """What is taught."""
        ...

    @property
    def updates(self) -> int:
        """Steps of θ that were made."""
        ...


Learned = TypeVar("Learned", bound=Progress)
Watch: TypeAlias = Callable[[Learned, Data], bool]  # called with what was just learned from; True ends there

_PRIME = 1_000_003  # between the seeds of two runs


@dataclass(frozen=True, slots=True)
class TrialSchedule:
    """How much to train, on what."""

    updates: int  # steps of θ in all; an improvement makes passes times batches of them
    tasks: int  # drawn and played for an improvement
    episodes: int  # of a trial
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.updates, self.tasks, self.episodes) < 1 or self.seed < 0:
            raise ConfigError(f"training: got {self}; wanted whole numbers of at least 1, seed of at least 0")


class Returns(NamedTuple):
    """What a trial earns, over the episodes that count."""

    mean: float
    half_width: float  # of the 95 % interval of the mean, over tasks
    tasks: int

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.half_width:.2f}"


def train(
    learner: PolicyLearner[Learned, Data],
    environment: Environment,
    schedule: TrialSchedule,
    state: Learned | None = None,
    watch: Watch[Learned, Data] | None = None,
) -> Learned:
    """Improve θ until ``schedule.updates`` steps are made.

    Args:
        learner: the method.
        environment: where tasks come from.
        schedule: how much of what.
        state: where an earlier run stopped; None begins.
        watch: called after each improvement.
    """
    generator = torch.Generator().manual_seed(schedule.seed)
    state = learner.begin(learner.init(generator)) if state is None else state
    while state.updates < schedule.updates:
        generator.manual_seed(schedule.seed * _PRIME + state.updates + 1)
        tasks = environment.draw(generator, schedule.tasks)
        data = learner.gather(state, tasks, schedule.episodes, generator)
        state = learner.improve(state, data, generator)
        if watch is not None and watch(state, data):
            break
    return state


def evaluate(
    environment: Environment, agent: Agent[Any], episodes: int, *, skip: int = 0, tasks: int = 1000, seed: int = 1
) -> Returns:
    """What an agent earns in fresh tasks.

    Args:
        environment: where tasks come from.
        agent: a rule, or a policy with its θ.
        episodes: of a trial.
        skip: episodes at its start that do not count, as those that a policy adapts on.
        tasks: how many.
        seed: the same for every agent that is compared: all meet the same tasks.

    Raises:
        ConfigError: no episode counts, or there are too few tasks for an interval.
    """
    if not 0 <= skip < episodes or tasks < 2:
        raise ConfigError(f"evaluate: got {episodes=}, {skip=}, {tasks=}; wanted 0 <= skip < episodes, tasks >= 2")
    drawn = environment.draw(torch.Generator().manual_seed(seed), tasks)
    trial = play(environment, agent, drawn, episodes, torch.Generator().manual_seed(seed + _PRIME))
    earned = trial.reward[skip * environment.horizon :].sum(0)
    return Returns(float(earned.mean()), float(1.96 * earned.std() / tasks**0.5), tasks)
