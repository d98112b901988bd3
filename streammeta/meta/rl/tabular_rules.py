"""The rules that tabular MDPs are played by, with the family's own prior: what a learned policy is compared with.

Rewards have the prior N(1, 1) and noise of variance 1, transitions the prior Dirichlet(1, …, 1): those that
`streammeta.meta.rl.tabular` draws from. A rule plans at the start of each episode, for the rest of its steps.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch

from streammeta.errors import ConfigError
from streammeta.meta.rl.base import Agent, Environment, Transition, numpy_generator
from streammeta.meta.rl.tabular import optimal_values

__all__ = ["Counts", "greedy_model", "posterior_sampling", "random_actions"]


class Counts(NamedTuple):
    """What a rule remembers of T tasks, and what it has planned."""

    seen: torch.Tensor  # [T, S, A, S] transitions
    earned: torch.Tensor  # [T, S, A] sum of rewards
    plan: torch.Tensor  # [H, T, S] the action for each step of the episode
    step: int  # of the episode

    @property
    def tried(self) -> torch.Tensor:
        """How often each action was chosen in each state: [T, S, A]."""
        return self.seen.sum(-1)

    @property
    def mean(self) -> torch.Tensor:
        """The posterior's mean of rewards, (1 + Σ r) / (1 + n): [T, S, A]."""
        return (1 + self.earned) / (1 + self.tried)


Plan: TypeAlias = Callable[[Counts, torch.Generator], torch.Tensor]


def random_actions(environment: Environment) -> Agent[Counts]:
    """Every action with the same chance."""
    return greedy_model(environment, epsilon=1.0)


def greedy_model(environment: Environment, *, epsilon: float = 0.0, bonus: float = 0.0) -> Agent[Counts]:
    """The best plan for the posterior's mean MDP: greedy, ε-greedy, or with a bonus for what is seldom tried.

    Args:
        environment: as ``tabular`` makes it.
        epsilon: the chance of any action in place of the planned one, each step.
        bonus: β ≥ 0 of the Bayesian exploration bonus β / (1 + n), added to mean rewards.

    Raises:
        ConfigError: a setting is out of range.

    Source:
        Kolter & Ng (2009), "Near-Bayesian exploration in polynomial time" (BEB).
    """
    if not 0 <= epsilon <= 1 or bonus < 0:
        raise ConfigError(f"greedy_model: got {epsilon=}, {bonus=}; wanted 0 <= epsilon <= 1, bonus >= 0")

    def plan(counts: Counts, _generator: torch.Generator) -> torch.Tensor:
        chances = (counts.seen + 1) / (counts.seen + 1).sum(-1, keepdim=True)
        return _planned(counts.mean + bonus / (1 + counts.tried), chances, environment.horizon)[0]

    return _by_plan(environment, plan, epsilon)


def posterior_sampling(environment: Environment, draws: int = 1) -> Agent[Counts]:
    """PSRL: the best plan for an MDP that is drawn from the posterior; of several draws, the one that promises most.

    Args:
        environment: as ``tabular`` makes it.
        draws: 1 is PSRL; more of them are optimistic PSRL.

    Raises:
        ConfigError: less than one draw.

    Sources:
        Osband, Russo & Van Roy (2013), arXiv:1306.0940; several draws: Fonteneau, Korda & Munos (2013), "An optimistic
        posterior sampling strategy for Bayesian reinforcement learning".
    """
    if draws < 1:
        raise ConfigError(f"posterior_sampling: got {draws=}; wanted 1 or more")

    def plan(counts: Counts, generator: torch.Generator) -> torch.Tensor:
        random = numpy_generator(generator)
        best, promised = None, None
        for _ in range(draws):
            noise = torch.randn(counts.earned.shape, generator=generator)
            mean = counts.mean + noise / (1 + counts.tried).sqrt()
            weights = torch.from_numpy(random.standard_gamma(counts.seen.numpy() + 1)).to(mean.dtype)
            made, value = _planned(mean, weights / weights.sum(-1, keepdim=True), environment.horizon)
            if best is None or promised is None:
                best, promised = made, value
                continue
            better = value > promised
            best, promised = torch.where(better[None, :, None], made, best), torch.maximum(promised, value)
        assert best is not None
        return best

    return _by_plan(environment, plan, 0.0)


def _planned(mean: torch.Tensor, chances: torch.Tensor, horizon: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The best actions [H, T, S], and what they are worth from state 0: [T]."""
    value, action = optimal_values(mean, chances, horizon).max(-1)
    return action.transpose(0, 1), value[:, 0, 0]


def _by_plan(environment: Environment, plan: Plan, epsilon: float) -> Agent[Counts]:
    states, actions, horizon = environment.observations, environment.actions, environment.horizon

    def start(count: int) -> Counts:
        empty = torch.zeros(count, states, actions)
        nothing = torch.zeros(horizon, count, states, dtype=torch.int64)
        return Counts(empty.unsqueeze(-1).repeat(1, 1, 1, states), empty, nothing, 0)

    def act(counts: Counts, observation: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, Counts]:
        if counts.step == 0:
            counts = counts._replace(plan=plan(counts, generator))
        planned = counts.plan[counts.step].gather(1, observation.argmax(-1, keepdim=True)).squeeze(-1)
        if not epsilon:
            return planned, counts
        explores = torch.rand(len(planned), generator=generator) < epsilon
        return torch.where(explores, torch.randint(actions, planned.shape, generator=generator), planned), counts

    def learn(counts: Counts, of: Transition) -> Counts:
        where = (torch.arange(len(of.action)), of.observation.argmax(-1), of.action)
        seen, earned = counts.seen.clone(), counts.earned.clone()
        seen[(*where, of.following.argmax(-1))] += 1
        earned[where] += of.reward
        return Counts(seen, earned, counts.plan, 0 if of.done else counts.step + 1)

    return Agent(start, act, learn, actions)
