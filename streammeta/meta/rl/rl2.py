"""RL²: a recurrent policy whose hidden state is a learner of its own; a policy gradient teaches it how to learn."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias, get_args

import torch

from streammeta.errors import ConfigError
from streammeta.meta.learner import OuterState, Theta
from streammeta.meta.objective import Outer, begin, descend_in_stages
from streammeta.meta.optimizer import Rate, adam
from streammeta.meta.rl.base import Agent, Environment, PolicyLearner, Tasks, Trial, play
from streammeta.meta.rl.network import RecurrentMemory, gru, recurrent_agent, trial_inputs

__all__ = ["Rl2Settings", "advantages", "rl2"]

_LearnsFrom: TypeAlias = Literal["reward", "regret"]


@dataclass(frozen=True, slots=True)
class Rl2Settings:
    """How the policy is learned."""

    width: int = 64  # of the hidden state, H
    discount: float = 0.99  # γ, over the whole trial: an episode's last steps count what is learned for the next
    trace: float = 0.3  # λ of generalized advantage estimation
    clip: float = 0.2  # a probability that has changed by more than this share is not pushed further
    passes: int = 4  # over the same trials, before new ones are played
    batches: int = 4  # steps of a pass, each on a part of the tasks
    entropy: Rate = 0.01  # weight of the policy's entropy, by the count of steps made
    value: float = 0.5  # weight of the value's squared error
    learns_from: _LearnsFrom = "reward"  # regret where the environment knows it: see `rl2`
    outer: Outer = field(default_factory=lambda: Outer(adam(1e-3), largest_norm=0.5), repr=False)

    def __post_init__(self) -> None:
        inside = 0 <= self.discount <= 1 and 0 <= self.trace <= 1 and 0 < self.clip < 1
        if (
            min(self.width, self.passes, self.batches) < 1
            or not inside
            or self.learns_from not in get_args(_LearnsFrom)
        ):
            wanted = "width, passes, batches >= 1, 0 <= discount <= 1, 0 <= trace <= 1, 0 < clip < 1"
            wanted += f", learns_from one of {get_args(_LearnsFrom)}"
            raise ConfigError(f"rl2: got {self}; wanted {wanted}")


class _Lot(NamedTuple):
    """A part of the tasks, and what was estimated of their trials before this θ moved."""

    inputs: torch.Tensor  # [L, T, O + A + 2]
    action: torch.Tensor  # [L, T]
    chosen: torch.Tensor  # [L, T] log-probability that the action had
    advantage: torch.Tensor  # [L, T]
    outcome: torch.Tensor  # [L, T] what the value should be


def rl2(environment: Environment, settings: Rl2Settings | None = None) -> PolicyLearner[OuterState, Trial]:
    """A GRU fed (x, previous action, its reward, done); its hidden state goes on over the episodes of a trial.

        h_t = GRU([x_t; a_{t−1}; r_{t−1}; d_{t−1}], h_{t−1})       (logits, value)_t = V h_t + v       a_t ~ softmax

    One θ for all tasks; nothing but h adapts to one. θ ascends the clipped objective of PPO,

        mean of min(ρ A, clip(ρ, 1 − ε, 1 + ε) A) + β entropy − c (value − R)²,        ρ = π_θ(a) / π_before(a),

    A by generalized advantage estimation over the whole trial, scaled to a standard deviation of 1, R = A + value.
    The paper has TRPO in PPO's place and two networks in place of one with two readouts.

    In simulated tasks whose optimum is known, A may be of the regret in place of the reward: −(V*(s) − Q*(s, a)). Its
    sum has the mean of the return less V*(s_0), which no policy changes, so θ has the same objective (γ = 1); but no
    luck of the environment's is in it, and a step teaches far more. The policy is fed rewards all the same.

    Args:
        environment: discrete actions.
        settings: how θ is learned.

    Raises:
        ConfigError: the environment's actions are continuous, or it does not know the regret that is asked for.

    Sources:
        Duan et al. (2016), arXiv:1611.02779; Wang et al. (2016), arXiv:1611.05763. Schulman et al. (2017),
        arXiv:1707.06347, equation 7 (PPO); Schulman et al. (2016), arXiv:1506.02438, equation 16 (advantages).
    """
    settings = settings or Rl2Settings()
    if environment.is_continuous:
        raise ConfigError("rl2: the environment's actions are continuous; wanted one with a number of actions")
    if settings.learns_from == "regret" and environment.regret is None:
        raise ConfigError("rl2: the environment does not know the regret of an action; wanted learns_from = 'reward'")
    actions = environment.actions
    network = gru(environment.observations + actions + 2, settings.width, actions + 1, output_scale=0.1)

    def drawn(outputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return torch.multinomial(outputs[:, :actions].softmax(-1), 1, generator=generator).squeeze(-1)

    def agent(theta: Theta) -> Agent[RecurrentMemory]:
        return recurrent_agent(network, theta, actions, drawn)

    def prepared(theta: Theta, trial: Trial) -> _Lot:
        inputs = trial_inputs(trial, actions)
        logits, value = outputs_of(theta, inputs)
        earned = trial.reward if trial.regret is None or settings.learns_from == "reward" else -trial.regret
        advantage = advantages(earned, value * unit(trial), settings.discount, settings.trace)
        outcome = advantage / unit(trial) + value
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        return _Lot(inputs, trial.action, _log_chance(logits, trial.action), advantage, outcome)

    def unit(trial: Trial) -> float:
        """What the value is a multiple of: the discounted number of steps left at the start of the trial."""
        steps, discount = len(trial.reward), settings.discount
        return (1 - discount**steps) / (1 - discount) if discount < 1 else float(steps)

    def outputs_of(theta: Theta, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        outputs, _ = network.unroll(theta, inputs, inputs.new_zeros(inputs.shape[1], settings.width))
        return outputs[..., :actions], outputs[..., actions]

    def loss_at(made: int) -> Callable[[Theta, _Lot], torch.Tensor]:
        entropy_weight = settings.entropy(made) if callable(settings.entropy) else settings.entropy

        def loss(theta: Theta, lot: _Lot) -> torch.Tensor:
            logits, value = outputs_of(theta, lot.inputs)
            ratio = (_log_chance(logits, lot.action) - lot.chosen).exp()
            clipped = ratio.clamp(1 - settings.clip, 1 + settings.clip)
            gain = torch.minimum(ratio * lot.advantage, clipped * lot.advantage).mean()
            log_chances = logits.log_softmax(-1)
            entropy = -(log_chances.exp() * log_chances).sum(-1).mean()
            return settings.value * (value - lot.outcome).square().mean() - gain - entropy_weight * entropy

        return loss

    descend = descend_in_stages(loss_at, settings.outer)

    def gather(state: OuterState, tasks: Tasks, episodes: int, generator: torch.Generator) -> Trial:
        return play(environment, agent(state.theta), tasks, episodes, generator)

    def improve(state: OuterState, trial: Trial, _generator: torch.Generator) -> OuterState:
        with torch.no_grad():
            lot = prepared(state.theta, trial)
        parts = [part.chunk(settings.batches, 1) for part in lot]
        for _ in range(settings.passes):
            for each in zip(*parts, strict=True):
                state = descend(state, _Lot(*each))
        return state

    return PolicyLearner(network.init, agent, begin(settings.outer), gather, improve)


def advantages(reward: torch.Tensor, value: torch.Tensor, discount: float, trace: float) -> torch.Tensor:
    """Generalized advantage estimation, A_t = Σ_k (γλ)^k δ_{t+k} with δ_t = r_t + γ V_{t+1} − V_t.

    Args:
        reward: [L, T].
        value: V [L, T], of before each step; after the last it is 0.
        discount: γ.
        trace: λ; 0 looks one step ahead by the value, 1 sums what was earned.

    Returns:
        A [L, T].

    Source:
        Schulman et al. (2016), arXiv:1506.02438, equation 16.
    """
    total, found = torch.zeros_like(reward[0]), []
    following = torch.cat([value[1:], torch.zeros_like(value[:1])])
    surprise = reward + discount * following - value
    for t in reversed(range(len(reward))):
        total = surprise[t] + discount * trace * total
        found.append(total)
    return torch.stack(found[::-1])


def _log_chance(logits: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    return logits.log_softmax(-1).gather(-1, action.unsqueeze(-1)).squeeze(-1)
