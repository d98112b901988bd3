"""Tabular MDPs: a few states and actions, another table of rewards and transitions in each task."""

import torch

from streammeta.errors import ConfigError
from streammeta.meta.rl.base import Environment, State, Tasks

__all__ = ["optimal_values", "tabular"]


def tabular(states: int = 10, actions: int = 5, horizon: int = 10) -> Environment:
    """MDPs with rewards N(m_sa, 1), m_sa ~ N(1, 1), and transitions P_sa ~ Dirichlet(1, …, 1); each begins in state 0.

    The state is observed, one-hot. Tasks have "mean", [T, S, A], "next", [T, S, A, S], the distribution of s',
    and "best", [T, H, S, A], the value Q* of each step of an episode.

    Raises:
        ConfigError: a size below 1.

    Source:
        Duan et al. (2016), arXiv:1611.02779, section 3.2; the distribution is Osband et al.'s (2013), arXiv:1306.0940.
    """
    if min(states, actions, horizon) < 1:
        raise ConfigError(f"tabular: got {states=}, {actions=}, {horizon=}; wanted 1 or more")

    def draw(generator: torch.Generator, count: int) -> Tasks:
        mean = 1 + torch.randn(count, states, actions, generator=generator)
        weights = -torch.rand(count, states, actions, states, generator=generator).clamp(min=1e-30).log()
        chances = weights / weights.sum(-1, keepdim=True)  # of exponentials: Dirichlet(1, …, 1)
        return {"mean": mean, "next": chances, "best": optimal_values(mean, chances, horizon)}

    def begin(tasks: Tasks, _generator: torch.Generator) -> State:
        return torch.zeros(len(tasks["mean"]), dtype=torch.int64)

    def observe(tasks: Tasks, state: State) -> torch.Tensor:
        return torch.nn.functional.one_hot(state, states).to(tasks["mean"].dtype)

    def step(
        tasks: Tasks, state: State, action: torch.Tensor, generator: torch.Generator
    ) -> tuple[State, torch.Tensor]:
        every = torch.arange(len(state))
        reward = tasks["mean"][every, state, action] + torch.randn(len(state), generator=generator)
        following = torch.multinomial(tasks["next"][every, state, action], 1, generator=generator)
        return following.squeeze(-1), reward

    def regret(tasks: Tasks, state: State, action: torch.Tensor, step: int) -> torch.Tensor:
        value = tasks["best"][torch.arange(len(state)), step, state]  # [T, A]
        return value.max(1).values - value.gather(1, action.unsqueeze(1)).squeeze(1)

    return Environment(states, actions, horizon, draw, begin, observe, step, regret)


def optimal_values(mean: torch.Tensor, chances: torch.Tensor, horizon: int) -> torch.Tensor:
    """Q*, by backward induction: [T, H, S, A], of each step of an episode.

    Args:
        mean: rewards, [T, S, A].
        chances: transitions, [T, S, A, S].
        horizon: H.
    """
    value, found = torch.zeros_like(mean[..., 0]), []
    for _ in range(horizon):
        found.append(mean + (chances @ value[:, None, :, None]).squeeze(-1))
        value = found[-1].max(-1).values
    return torch.stack(found[::-1], 1)
