"""The rules that bandits are played by, with Beta(1, 1) as every arm's prior: what a learned policy is compared with.

Sources: Thompson (1933); Auer, Cesa-Bianchi & Fischer (2002), UCB1; May et al. (2012), optimistic Thompson sampling;
Gittins (1979) and, for a finite horizon, Niño-Mora (2011), "Computing a classic index for finite-horizon bandits".
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

from streammeta.errors import ConfigError
from streammeta.meta.rl.base import Agent, Transition, numpy_generator

__all__ = ["Pulls", "epsilon_greedy", "gittins", "gittins_indices", "random_arms", "thompson", "ucb1"]


class Pulls(NamedTuple):
    """What a rule remembers of each arm."""

    wins: torch.Tensor  # [T, A]
    losses: torch.Tensor  # [T, A]

    @property
    def mean(self) -> torch.Tensor:
        """Of the posterior: [T, A]."""
        return (self.wins + 1) / (self.wins + self.losses + 2)


def random_arms(arms: int) -> Agent[Pulls]:
    """Every arm with the same chance."""
    return epsilon_greedy(arms, 1.0)


def epsilon_greedy(arms: int, epsilon: float) -> Agent[Pulls]:
    """The arm with the best posterior mean, or with probability ε any; ε = 0 is greedy."""
    if not 0 <= epsilon <= 1:
        raise ConfigError(f"epsilon_greedy: got {epsilon=}; wanted a number from 0 to 1")

    def score(pulls: Pulls, generator: torch.Generator) -> torch.Tensor:
        explores = torch.rand(len(pulls.wins), 1, generator=generator) < epsilon
        return torch.where(explores, torch.rand(pulls.wins.shape, generator=generator), pulls.mean)

    return _by_score(arms, score)


def thompson(arms: int, *, optimistic: bool = False) -> Agent[Pulls]:
    """The arm that is best in one draw from the posterior; optimistic: no draw counts less than the mean."""

    def score(pulls: Pulls, generator: torch.Generator) -> torch.Tensor:
        drawn = numpy_generator(generator).beta(pulls.wins.numpy() + 1, pulls.losses.numpy() + 1)
        p = torch.from_numpy(drawn).to(pulls.wins.dtype)
        return torch.maximum(p, pulls.mean) if optimistic else p

    return _by_score(arms, score)


def ucb1(arms: int, width: float = 1.0) -> Agent[Pulls]:
    """The arm with the highest bound, mean + c √(2 ln t / N); both of the posterior, so that N is never 0.

    Args:
        arms: how many.
        width: c; 1 as in the source, where rewards are known only to lie in [0, 1]. Less is better with few pulls.
    """
    if width < 0:
        raise ConfigError(f"ucb1: got {width=}; wanted 0 or more")

    def score(pulls: Pulls, _generator: torch.Generator) -> torch.Tensor:
        count = pulls.wins + pulls.losses
        log_t = (count.sum(-1, keepdim=True) + 1).log()
        return pulls.mean + width * (2 * log_t / (count + 1)).sqrt()

    return _by_score(arms, score)


def gittins(arms: int, pulls: int, grid: int = 200) -> Agent[Pulls]:
    """The arm with the highest Gittins index of what it has shown and of the pulls that are left.

    Exact where one of two arms is known; else near the optimum, which is out of reach for more than a few pulls.

    Args:
        arms: how many.
        pulls: of a task, in all, 1 or more.
        grid: as in ``gittins_indices``, whose work and memory grow with pulls³ and with grid · pulls².
    """
    table = gittins_indices(pulls, grid)

    def score(seen: Pulls, _generator: torch.Generator) -> torch.Tensor:
        made = int((seen.wins[0] + seen.losses[0]).sum())
        if made >= pulls:
            raise ConfigError(f"gittins: its table ends after {pulls} pulls; wanted one for longer trials")
        return table[pulls - made - 1][seen.wins.long(), seen.losses.long()]

    return _by_score(arms, score)


def gittins_indices(pulls: int, grid: int = 200) -> list[torch.Tensor]:
    """Gittins indices of a Bernoulli arm for each number of pulls that are left.

    The index is the price λ a pull at which playing on is worth nothing: the root of

        W(s, f, h) = p − λ + p max(0, W(s + 1, f, h − 1)) + (1 − p) max(0, W(s, f + 1, h − 1)),

    after s wins and f losses, p = (s + 1) / (s + f + 2), with h pulls left;
    calculated on a grid of λ; W falls with λ and is convex, so a line between two points is near.

    Args:
        pulls: H, the most that can be left.
        grid: intervals of λ in [0, 1].

    Returns:
        For h = 1 … H: indices by (wins, losses), [H − h + 1, H − h + 1]; NaN where there were more pulls than that.
    """
    if min(pulls, grid) < 1:
        raise ConfigError(f"gittins: got {pulls=}, {grid=}; wanted 1 or more")
    price = torch.linspace(0, 1, grid + 1)
    side = torch.arange(pulls + 1, dtype=torch.float32)
    worth = torch.zeros(pulls + 1, pulls + 1, grid + 1)
    tables = []
    for left in range(1, pulls + 1):
        size = pulls - left + 1
        wins, losses = side[:size, None], side[None, :size]
        p = ((wins + 1) / (wins + losses + 2)).unsqueeze(-1)
        on = p * worth[1 : size + 1, :size] + (1 - p) * worth[:size, 1 : size + 1]
        net = p - price + on
        worth = net.clamp(min=0)
        tables.append(_root(net, price).where(wins + losses <= pulls - left, torch.nan))
    return tables


def _root(net: torch.Tensor, price: torch.Tensor) -> torch.Tensor:
    """Where ``net`` [..., G], which falls along ``price`` [G], passes through 0: [...]."""
    last = (net >= 0).sum(-1).clamp(1, len(price) - 1) - 1  # the last price at which it is not negative
    above = net.gather(-1, last.unsqueeze(-1)).squeeze(-1)
    below = net.gather(-1, last.unsqueeze(-1) + 1).squeeze(-1)
    return price[last] + (price[1] - price[0]) * above / (above - below)


def _by_score(arms: int, score: Callable[[Pulls, torch.Generator], torch.Tensor]) -> Agent[Pulls]:
    def start(count: int) -> Pulls:
        return Pulls(torch.zeros(count, arms), torch.zeros(count, arms))

    def act(pulls: Pulls, _observation: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, Pulls]:
        return score(pulls, generator).argmax(-1), pulls

    def learn(pulls: Pulls, seen: Transition) -> Pulls:
        pulled = torch.nn.functional.one_hot(seen.action, arms)
        reward = seen.reward.unsqueeze(-1)
        return Pulls(pulls.wins + pulled * reward, pulls.losses + pulled * (1 - reward))

    return Agent(start, act, learn, arms)
