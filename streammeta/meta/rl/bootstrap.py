"""Bootstrapped exploration: several heads, each taught by a resample of what was seen, and a mixture that acts."""

from typing import NamedTuple

import torch

from streammeta.errors import ConfigError
from streammeta.meta.rl.base import Agent, Transition, numpy_generator

__all__ = ["Heads", "bootstrapped"]


class Heads(NamedTuple):
    """What each head remembers of each arm."""

    wins: torch.Tensor  # [T, K, A], weighted; 0 before the first pull
    losses: torch.Tensor  # [T, K, A]
    weight: torch.Tensor  # [T, K] of the pull that is being made


def bootstrapped(arms: int, heads: int = 10, *, concentration: float = 1.0) -> Agent[Heads]:
    """The best arm by a random convex combination of heads that have learned from bootstrapped rewards.

        value_a = Σ_k m_k wins_ka / (wins_ka + losses_ka),     m ~ Dirichlet(ω, …, ω), drawn for each pull

    A pull counts in each head with a weight of its own, Exponential(1); before the first, each has seen a win and a
    loss of every arm, weighted likewise. So a head's value of an arm is distributed as the posterior Beta(1 + wins,
    1 + losses): one head drawn for each pull, ω → 0, is near Thompson sampling, and the mean of all, ω → ∞, greedy.

    Args:
        arms: A.
        heads: K ≥ 2.
        concentration: ω > 0, the same for all heads; 1 draws evenly from all convex combinations.

    Raises:
        ConfigError: a setting is out of range.

    Sources:
        Eckles & Kaptein (2014), arXiv:1410.4009 (on bandits); Osband et al. (2016), arXiv:1602.04621 (heads); Agarwal,
        Schuurmans & Norouzi (2020), arXiv:1907.04543, section 4 (random convex combinations of heads).
    """
    if arms < 2 or heads < 2 or concentration <= 0:
        raise ConfigError(f"bootstrapped: got {arms=}, {heads=}, {concentration=}; wanted >= 2, >= 2, > 0")

    def start(count: int) -> Heads:
        nothing = torch.zeros(count, heads, arms)
        return Heads(nothing, nothing, torch.zeros(count, heads))

    def act(seen: Heads, _observation: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, Heads]:
        if not seen.wins.any():
            wins, losses = (torch.empty_like(seen.wins).exponential_(1.0, generator=generator) for _ in range(2))
            seen = seen._replace(wins=wins, losses=losses)
        random = numpy_generator(generator)
        drawn = random.dirichlet([concentration] * heads, len(seen.wins))
        mixture = torch.from_numpy(drawn).to(seen.wins.dtype).unsqueeze(-1)
        value = (mixture * seen.wins / (seen.wins + seen.losses)).sum(1)
        weight = torch.empty_like(seen.weight).exponential_(1.0, generator=generator)
        return value.argmax(-1), seen._replace(weight=weight)

    def learn(seen: Heads, of: Transition) -> Heads:
        pulled = torch.nn.functional.one_hot(of.action, arms).unsqueeze(1) * seen.weight.unsqueeze(-1)
        reward = of.reward[:, None, None]
        return Heads(seen.wins + pulled * reward, seen.losses + pulled * (1 - reward), seen.weight)

    return Agent(start, act, learn, arms)
