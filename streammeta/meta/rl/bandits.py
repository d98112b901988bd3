"""Bernoulli bandits: each pull of an arm is an episode of one step, and says 0 or 1."""

import torch

from streammeta.errors import ConfigError
from streammeta.meta.rl.base import Environment, State, Tasks

__all__ = ["bandits"]


def bandits(arms: int) -> Environment:
    """Bandits whose arms are independent: p_a ~ U[0, 1], reward ~ Bernoulli(p_a). Nothing is observed: O = 0.

    Tasks have "p", [T, arms].

    Raises:
        ConfigError: less than two arms.

    Source:
        Duan et al. (2016), arXiv:1611.02779, section 3.1.
    """
    if arms < 2:
        raise ConfigError(f"bandits: got {arms=}; wanted 2 or more")

    def draw(generator: torch.Generator, count: int) -> Tasks:
        return {"p": torch.rand(count, arms, generator=generator)}

    def begin(tasks: Tasks, _generator: torch.Generator) -> State:
        return tasks["p"].new_zeros(len(tasks["p"]), 0)

    def step(
        tasks: Tasks, state: State, action: torch.Tensor, generator: torch.Generator
    ) -> tuple[State, torch.Tensor]:
        return state, torch.bernoulli(chance(tasks, action), generator=generator)

    def chance(tasks: Tasks, action: torch.Tensor) -> torch.Tensor:
        return tasks["p"].gather(1, action.unsqueeze(1)).squeeze(1)

    def regret(tasks: Tasks, _state: State, action: torch.Tensor, _step: int) -> torch.Tensor:
        return tasks["p"].max(1).values - chance(tasks, action)

    return Environment(0, arms, 1, draw, begin, lambda _tasks, state: state, step, regret)
