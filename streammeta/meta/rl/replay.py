"""What R2D2 replays: parts of trials, with the hidden state that was stored at the start of each."""

from typing import NamedTuple

import torch

from streammeta.errors import ConfigError
from streammeta.meta.rl.base import Trial

__all__ = ["Replay", "empty_replay", "joined", "rescaled", "restored", "sequences"]

_SLOPE = 1e-3  # of the rescaling, where it no longer bends


class Replay(NamedTuple):
    """Parts of trials, each of W = burn_in + m + n steps."""

    inputs: torch.Tensor  # [W, N, I]
    is_there: torch.Tensor  # [W, N] False before the start of a trial
    action: torch.Tensor  # [W, N]
    reward: torch.Tensor  # [W, N]
    hidden: torch.Tensor  # [N, H] that the policy had before the part's first step, when it was played
    priority: torch.Tensor  # [N]


def empty_replay(steps: int, inputs: int, width: int) -> Replay:
    """No parts yet, of W = ``steps`` steps, I = ``inputs`` numbers of an input, H = ``width``."""
    nothing = torch.zeros(steps, 0)
    return Replay(
        nothing.unsqueeze(-1).repeat(1, 1, inputs),
        nothing.bool(),
        nothing.long(),
        nothing,
        torch.zeros(0, width),
        torch.zeros(0),
    )


def sequences(trial: Trial, inputs: torch.Tensor, parts: tuple[int, int, int], stride: int) -> Replay:
    """A trial cut into parts, with the hidden state stored at the start of each.

    Args:
        trial: with ``kept``, the hidden state before each step.
        inputs: what the policy was fed, [L, T, I].
        parts: steps of burn-in, of learning, and beyond; the burn-in of the first part lies before the trial.
        stride: steps from a part to the next.

    Raises:
        ConfigError: the trial is shorter than a part, or has no hidden states.
    """
    burn_in, steps = parts[0], parts[1] + parts[2]
    count = len(trial.reward)
    if trial.kept is None or count < steps:
        raise ConfigError(f"r2d2: a trial of {count} steps; wanted {steps} or more, and its hidden states kept")
    begins = range(0, count - steps + 1, stride)

    def cut(of: torch.Tensor) -> torch.Tensor:
        padded = torch.cat([of.new_zeros(burn_in, *of.shape[1:]), of])
        return torch.cat([padded[at : at + burn_in + steps] for at in begins], 1)

    hidden = torch.cat([trial.kept[max(0, at - burn_in)] for at in begins])
    is_there = cut(torch.ones_like(trial.reward)) > 0
    return Replay(cut(inputs), is_there, cut(trial.action), cut(trial.reward), hidden, torch.ones(len(hidden)))


def rescaled(x: torch.Tensor) -> torch.Tensor:
    """g(x) = sign(x) (√(|x| + 1) − 1) + x / 1000, which brings large values together; Pohlen et al. (2018)."""
    return x.sign() * ((x.abs() + 1).sqrt() - 1) + _SLOPE * x


def restored(y: torch.Tensor) -> torch.Tensor:
    """g⁻¹, the inverse of ``rescaled``."""
    root = (1 + 4 * _SLOPE * (y.abs() + 1 + _SLOPE)).sqrt()
    return y.sign() * (((root - 1) / (2 * _SLOPE)).square() - 1)


def joined(first: Replay, second: Replay, capacity: int) -> Replay:
    """Both, of which the last ``capacity`` parts are kept."""
    columns = [torch.cat([a, b], 1)[:, -capacity:] for a, b in zip(first[:4], second[:4], strict=True)]
    rows = [torch.cat([a, b])[-capacity:] for a, b in zip(first[4:], second[4:], strict=True)]
    return Replay(*columns, *rows)
