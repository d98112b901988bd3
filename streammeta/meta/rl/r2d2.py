"""R2D2: a recurrent action value, learned from replayed parts of trials that begin with the state stored of them."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias, get_args

import torch

from streammeta.errors import ConfigError
from streammeta.meta.learner import OuterState, Theta
from streammeta.meta.objective import Outer, begin, descend
from streammeta.meta.optimizer import Rate, adam
from streammeta.meta.rl.base import Agent, Environment, PolicyLearner, Tasks, Trial, play
from streammeta.meta.rl.network import RecurrentMemory, gru, recurrent_agent, trial_inputs
from streammeta.meta.rl.replay import Replay, empty_replay, joined, rescaled, restored, sequences

__all__ = ["R2d2Settings", "R2d2State", "r2d2"]

_StartsFrom: TypeAlias = Literal["stored", "zero"]


@dataclass(frozen=True, slots=True)
class R2d2Settings:
    """How the action value is learned."""

    width: int = 32  # of the hidden state, H
    sequence: int = 12  # m: steps of a replayed part that are learned from
    burn_in: int = 12  # steps before them that only bring the hidden state up to date
    starts_from: _StartsFrom = "stored"  # the hidden state at the start of a replayed part
    ahead: int = 3  # n: rewards in a target before the value goes on
    discount: float = 0.95  # γ
    capacity: int = 4000  # parts kept
    batch: int = 64  # parts a step
    steps: int = 8  # after each call of `gather`
    target_every: int = 50  # steps between two copies of θ that targets are made of
    priority: float = 0.9  # exponent of a part's error, when parts are drawn; 0 draws evenly
    correction: float = 0.6  # exponent of the weights that make up for it
    epsilon: Rate = 0.1  # chance of a random action while training, by the count of steps
    outer: Outer = field(default_factory=lambda: Outer(adam(1e-3)), repr=False)

    def __post_init__(self) -> None:
        counts = self.width, self.sequence, self.ahead, self.capacity, self.batch, self.steps, self.target_every
        fractions = 0 < self.discount <= 1 and 0 <= self.priority <= 1 and 0 <= self.correction <= 1
        if min(counts) < 1 or self.burn_in < 0 or not fractions or self.starts_from not in get_args(_StartsFrom):
            wanted = "counts >= 1, burn_in >= 0, 0 < discount <= 1, priority and correction from 0 to 1"
            wanted += f", starts_from one of {get_args(_StartsFrom)}"
            raise ConfigError(f"r2d2: got {self}; wanted {wanted}")


class R2d2State(NamedTuple):
    """θ and what its training remembers."""

    outer: OuterState
    target: Theta  # θ of some steps ago
    replay: Replay

    @property
    def theta(self) -> Theta:
        """What is taught."""
        return self.outer.theta

    @property
    def updates(self) -> int:
        """Steps of θ that were made."""
        return self.outer.updates


class _Lot(NamedTuple):
    inputs: torch.Tensor  # [m, B, I]
    hidden: torch.Tensor  # [B, H]
    action: torch.Tensor  # [m, B]
    target: torch.Tensor  # [m, B]
    weight: torch.Tensor  # [B]


def r2d2(environment: Environment, settings: R2d2Settings | None = None) -> PolicyLearner[R2d2State, Trial]:
    """Q_θ(h_t, a) with h_t = GRU([x_t; a_{t−1}; r_{t−1}; d_{t−1}], h_{t−1}), by double Q-learning from replayed parts.

        y_t = g(Σ_{k<n} γ^k r_{t+k} + γ^n g⁻¹(Q_{θ⁻}(h_{t+n}, a*))),   a* = argmax_a Q_θ(h_{t+n}, a)

    with g(x) = sign(x)(√(|x| + 1) − 1) + x/1000; θ descends the weighted mean of (Q_θ(h_t, a_t) − y_t)². A part begins
    with the hidden state stored when it was played (or with zero), which an older θ made: the burn-in runs today's θ
    over the steps before, without a gradient. Parts are drawn by p^α, p = 0.9 max|δ| + 0.1 mean|δ| over the part.

    What the paper has beside it: actors and learner as processes of their own, a dueling readout, a convolutional
    encoder; here one readout, and playing and learning turn about.

    Args:
        environment: discrete actions. Values go on over the episodes of a trial, as those of `rl2` do.
        settings: how it is learned.

    Raises:
        ConfigError: the environment's actions are continuous.

    Source:
        Kapturowski et al. (2019), "Recurrent experience replay in distributed reinforcement learning", ICLR, sections
        2.3 and 3; double Q-learning: van Hasselt et al. (2016), arXiv:1509.06461.
    """
    settings = settings or R2d2Settings()
    if environment.is_continuous:
        raise ConfigError("r2d2: the environment's actions are continuous; wanted one with a number of actions")
    actions, n = environment.actions, settings.ahead
    inputs = environment.observations + actions + 2
    network = gru(inputs, settings.width, actions)
    parts = settings.burn_in, settings.sequence, n

    def exploring(theta: Theta, epsilon: float) -> Agent[RecurrentMemory]:
        def choose(value: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            explores = torch.rand(len(value), generator=generator) < epsilon
            anything = torch.randint(actions, (len(value),), generator=generator)
            return torch.where(explores, anything, value.argmax(-1))

        return recurrent_agent(network, theta, actions, choose)

    def start(theta: Theta) -> R2d2State:
        replay = empty_replay(sum(parts), inputs, settings.width)
        return R2d2State(begin(settings.outer)(theta), theta, replay)

    def gather(state: R2d2State, tasks: Tasks, episodes: int, generator: torch.Generator) -> Trial:
        epsilon = settings.epsilon(state.updates) if callable(settings.epsilon) else settings.epsilon
        agent = exploring(state.theta, epsilon)
        return play(environment, agent, tasks, episodes, generator, lambda memory: memory.hidden)

    def improve(state: R2d2State, trial: Trial, generator: torch.Generator) -> R2d2State:
        new = sequences(trial, trial_inputs(trial, actions), parts, settings.sequence)
        first = float(state.replay.priority.max()) if len(state.replay.priority) else 1.0
        new = new._replace(priority=torch.full_like(new.priority, first))  # once at least, all the same
        state = state._replace(replay=joined(state.replay, new, settings.capacity))
        for _ in range(settings.steps):
            state = step(state, generator)
        return state

    def step(state: R2d2State, generator: torch.Generator) -> R2d2State:
        chances = state.replay.priority**settings.priority
        drawn = torch.multinomial(chances, settings.batch, replacement=True, generator=generator)
        weight = (chances[drawn] / chances.sum()) ** -settings.correction
        with torch.no_grad():
            lot, error = targets(state, drawn, weight / weight.max())
        outer = descended(state.outer, lot)
        priority = state.replay.priority.clone()
        priority[drawn] = 0.9 * error.max(0).values + 0.1 * error.mean(0) + 1e-6
        target = outer.theta if outer.updates % settings.target_every == 0 else state.target
        return R2d2State(outer, target, state.replay._replace(priority=priority))

    def targets(state: R2d2State, drawn: torch.Tensor, weight: torch.Tensor) -> tuple[_Lot, torch.Tensor]:
        part = Replay(*(each[:, drawn] for each in state.replay[:4]), *(each[drawn] for each in state.replay[4:]))
        hidden = warmed(state.theta, part)
        rest = slice(settings.burn_in, None)
        value, _ = network.unroll(state.theta, part.inputs[rest], hidden)
        later, _ = network.unroll(state.target, part.inputs[rest], warmed(state.target, part))
        best = restored(later[n:].gather(-1, value[n:].argmax(-1, keepdim=True)).squeeze(-1))
        reward, m = part.reward[rest], settings.sequence
        earned = torch.stack([settings.discount**k * reward[k : k + m] for k in range(n)]).sum(0)
        target = rescaled(earned + settings.discount**n * best)
        action = part.action[rest][:m]
        error = (_chosen(value[:m], action) - target).abs()
        return _Lot(part.inputs[rest][:m], hidden, action, target, weight), error

    def warmed(theta: Theta, part: Replay) -> torch.Tensor:
        """The hidden state where learning begins, [B, H]."""
        hidden = part.hidden if settings.starts_from == "stored" else torch.zeros_like(part.hidden)
        for t in range(settings.burn_in):
            _, following = network.step(theta, part.inputs[t], hidden)
            hidden = torch.where(part.is_there[t].unsqueeze(-1), following, hidden)
        return hidden

    def loss(theta: Theta, lot: _Lot) -> torch.Tensor:
        value, _ = network.unroll(theta, lot.inputs, lot.hidden)
        return (lot.weight * (_chosen(value, lot.action) - lot.target).square()).mean()

    descended = descend(loss, settings.outer)
    return PolicyLearner(network.init, lambda theta: exploring(theta, 0.0), start, gather, improve)


def _chosen(value: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    return value.gather(-1, action.unsqueeze(-1)).squeeze(-1)
