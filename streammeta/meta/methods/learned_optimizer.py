"""Learning to learn by gradient descent by gradient descent: the optimizer itself is a small network."""

import math

import torch

from streammeta.errors import ConfigError
from streammeta.meta.learner import (
    Examples,
    Learner,
    Phi,
    Predictive,
    TaskBatch,
    TaskLoss,
    Theta,
    expand,
    gradient,
    named,
    part,
    task_mean,
)
from streammeta.meta.objective import Outer, begin, descend
from streammeta.model import Model

__all__ = ["learned_optimizer"]

_P = 10.0  # gradients smaller than e^-p count as e^-p


def learned_optimizer(
    model: Model,
    task_loss: TaskLoss,
    *,
    steps: int = 5,
    width: int = 20,
    scale: float = 0.1,
    second_order: bool = False,
    outer: Outer | None = None,
) -> Learner:
    """An LSTM, the same for every weight with a state of its own for each, turns gradients into steps.

        g = ∇ L(φₖ, support)        (uₖ, hₖ₊₁) = LSTM_θ(log|g|/p, sign g; hₖ)        φₖ₊₁ = φₖ + s · uₖ
        minimize over θ:  mean over tasks of (1/K) Σₖ L(φₖ, query), φ₀ learned with θ

    Args:
        model: the network that is optimized.
        task_loss: (outputs, y) -> [T, N].
        steps: K ≥ 1 of each ``adapt``; the LSTM's state begins with the task and lasts.
        width: hidden units a weight.
        scale: s, of a step.
        second_order: also differentiate how the gradients depend on θ; the paper, and the default, do not.
        outer: how θ is learned; by default Adam with 0.001.

    Raises:
        ConfigError: a setting is out of range.

    Source:
        Andrychowicz et al. (2016), arXiv:1606.04474, equations 3 to 5 and appendix A; φ₀ learned too, as in Ravi &
        Larochelle (2017). One layer instead of two; the query judges, as everywhere here.
    """
    if min(steps, width) < 1 or not scale > 0:
        raise ConfigError(f"learned optimizer: got {steps=}, {width=}, {scale=}; wanted steps, width >= 1, scale > 0")
    outer = outer or Outer()

    def init(generator: torch.Generator) -> Theta:
        def uniform(*shape: int) -> torch.Tensor:
            return torch.empty(shape).uniform_(-(width**-0.5), width**-0.5, generator=generator)

        bias = torch.cat([torch.ones(1, width), torch.zeros(3, width)])  # remember by default
        own = {"gates": uniform(4, 2 + width, width), "bias": bias, "read": 0.1 * uniform(width)}
        return named("weight", model.init(generator)) | named("lstm", own)

    def start(theta: Theta, tasks: int) -> Phi:
        weights = expand(part(theta, "weight"), tasks)
        count = sum(p[0].numel() for p in weights.values())  # P
        empty = theta["lstm.read"].new_zeros(tasks, count, width)
        return named("weight", weights) | {"h": empty, "c": empty.clone()}

    def losses(weights: Phi, of: Examples) -> torch.Tensor:
        return task_mean(task_loss(model.apply(weights, of.x), of.y), of.mask)  # [T]

    slope = gradient(lambda weights, of: losses(weights, of).sum())

    def stepped(theta: Theta, phi: Phi, support: Examples) -> Phi:
        weights, lstm = part(phi, "weight"), part(theta, "lstm")
        at = weights if second_order else {name: p.detach() for name, p in weights.items()}
        g = torch.cat([p.flatten(1) for p in slope(at, support).values()], 1)  # [T, P]
        seen = torch.cat([_preprocessed(g), phi["h"]], -1).flatten(0, 1)  # [T·P, 2 + width]
        gates = [torch.addmm(lstm["bias"][k], seen, lstm["gates"][k]).view_as(phi["c"]) for k in range(4)]
        keep, write, show, new = gates
        c = keep.sigmoid() * phi["c"] + write.sigmoid() * new.tanh()
        h = show.sigmoid() * c.tanh()
        moves = torch.split(scale * (h @ lstm["read"]), [p[0].numel() for p in weights.values()], 1)
        there = (support.mask.sum(1) > 0).view(-1, 1, 1)
        moved = {
            n: p + torch.where(there[..., 0], u, 0).view_as(p) for (n, p), u in zip(weights.items(), moves, strict=True)
        }
        return named("weight", moved) | {"h": torch.where(there, h, phi["h"]), "c": torch.where(there, c, phi["c"])}

    def adapt(theta: Theta, phi: Phi, support: Examples) -> Phi:
        for _ in range(steps):
            phi = stepped(theta, phi, support)
        return phi

    def predict(_theta: Theta, phi: Phi, x: torch.Tensor) -> Predictive:
        return Predictive(model.apply(part(phi, "weight"), x))

    def loss(theta: Theta, tasks: TaskBatch) -> torch.Tensor:
        phi = start(theta, tasks.query.x.shape[0])
        total = torch.zeros((), dtype=tasks.query.x.dtype, device=tasks.query.x.device)
        for _ in range(steps):
            phi = stepped(theta, phi, tasks.support)
            total = total + losses(part(phi, "weight"), tasks.query).mean() / steps
        return total

    return Learner(init, start, predict, adapt, loss, begin(outer), descend(loss, outer))


def _preprocessed(g: torch.Tensor) -> torch.Tensor:
    """(log|g|/p, sign g) where |g| ≥ e^−p, else (−1, e^p g): gradients of any size look alike. [..., 2]."""
    tiny = math.exp(-_P)
    large = g.abs() >= tiny
    size = torch.where(large, g, torch.ones_like(g)).abs().log() / _P
    small = g / tiny
    return torch.stack([torch.where(large, size, -torch.ones_like(g)), torch.where(large, g.sign(), small)], -1)
