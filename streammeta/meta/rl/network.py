"""A recurrent network as three functions over explicit weights, batched over tasks."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from streammeta.errors import ConfigError
from streammeta.meta.learner import Theta
from streammeta.meta.rl.base import Agent, Transition, Trial

__all__ = ["Recurrent", "RecurrentMemory", "fed", "gru", "recurrent_agent", "trial_inputs"]


class Recurrent(NamedTuple):
    """A network with a hidden state h [T, H], which is what it remembers."""

    width: int  # H
    init: Callable[[torch.Generator], Theta]
    step: Callable[[Theta, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    """(θ, inputs [T, I], h [T, H]) → (outputs [T, U], h)."""
    unroll: Callable[[Theta, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    """(θ, inputs [L, T, I], h [T, H]) → (outputs [L, T, U], h after the last step)."""


class RecurrentMemory(NamedTuple):
    """What a recurrent policy remembers of T tasks."""

    hidden: torch.Tensor  # [T, H]
    before: torch.Tensor  # [T, A + 2]: the step before, as ``fed`` has it


def recurrent_agent(
    network: Recurrent,
    theta: Theta,
    actions: int,
    choose: Callable[[torch.Tensor, torch.Generator], torch.Tensor],
) -> Agent[RecurrentMemory]:
    """A policy fed observation, previous action, reward and done; ``choose`` makes actions [T] of outputs [T, U]."""

    def start(count: int) -> RecurrentMemory:
        return RecurrentMemory(torch.zeros(count, network.width), torch.zeros(count, actions + 2))

    @torch.no_grad()
    def act(
        memory: RecurrentMemory, observation: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, RecurrentMemory]:
        outputs, hidden = network.step(theta, torch.cat([observation, memory.before], -1), memory.hidden)
        return choose(outputs, generator), memory._replace(hidden=hidden)

    def learn(memory: RecurrentMemory, seen: Transition) -> RecurrentMemory:
        done = torch.full_like(seen.reward, float(seen.done))
        return memory._replace(before=fed(seen.action, seen.reward, done, actions))

    return Agent(start, act, learn, actions)


def gru(inputs: int, width: int, outputs: int, *, output_scale: float = 1.0) -> Recurrent:
    """A gated recurrent unit with a linear readout: h ← GRU(x, h), output = V h + v.

    Args:
        inputs: I, numbers of an input.
        width: H, of the hidden state.
        outputs: U.
        output_scale: V begins this many times as large as usual; small for a policy that begins nearly uniform.

    Raises:
        ConfigError: a size below 1.

    Source:
        Cho et al. (2014), arXiv:1406.1078; the reset gate after the product, as cuDNN and torch have it.
    """
    if min(inputs, width, outputs) < 1:
        raise ConfigError(f"gru: got {inputs=}, {width=}, {outputs=}; wanted 1 or more")

    def init(generator: torch.Generator) -> Theta:
        def uniform(*shape: int) -> torch.Tensor:
            return torch.empty(shape).uniform_(-(width**-0.5), width**-0.5, generator=generator)

        square = [torch.linalg.qr(torch.randn(width, width, generator=generator))[0] for _ in range(3)]
        return {
            "cell.input": uniform(3 * width, inputs),
            "cell.hidden": torch.cat(square),  # orthogonal: what is remembered is neither lost nor blown up at first
            "cell.input_bias": torch.zeros(3 * width),
            "cell.hidden_bias": torch.zeros(3 * width),
            "read.weight": output_scale * uniform(outputs, width),
            "read.bias": torch.zeros(outputs),
        }

    def read(theta: Theta, h: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(h, theta["read.weight"], theta["read.bias"])

    def step(theta: Theta, x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = torch.gru_cell(x, h, *_cell(theta))
        return read(theta, h), h

    def unroll(theta: Theta, x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        every, last = torch.gru(x, h.unsqueeze(0), _cell(theta), True, 1, 0.0, False, False, False)
        return read(theta, every), last.squeeze(0)

    return Recurrent(width, init, step, unroll)


def _cell(theta: Theta) -> tuple[torch.Tensor, ...]:
    return tuple(theta[f"cell.{name}"] for name in ("input", "hidden", "input_bias", "hidden_bias"))


def fed(action: torch.Tensor, reward: torch.Tensor, done: torch.Tensor, actions: int) -> torch.Tensor:
    """What the next step is fed of this one: action (one-hot), reward, whether it ended an episode; [..., A + 2]."""
    one_hot = torch.nn.functional.one_hot(action, actions).to(reward.dtype)
    return torch.cat([one_hot, reward.unsqueeze(-1), done.unsqueeze(-1)], -1)


def trial_inputs(trial: Trial, actions: int) -> torch.Tensor:
    """A trial as a recurrent policy was fed it, observation and the step before: [L, T, O + A + 2]."""
    done = trial.done.unsqueeze(1).expand_as(trial.reward)
    before = fed(trial.action, trial.reward, done, actions)
    return torch.cat([trial.observation, torch.cat([torch.zeros_like(before[:1]), before[:-1]])], -1)
