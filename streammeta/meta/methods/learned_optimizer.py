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

        own = {"input": uniform(2, 4 * width), "hidden": uniform(width, 4 * width), "bias": torch.zeros(4 * width)}
        return named("weight", model.init(generator)) | named("lstm", own | {"read": 0.1 * uniform(width)})

    def start(theta: Theta, tasks: int) -> Phi:
        weights = expand(part(theta, "weight"), tasks)
        empty = {name: p.new_zeros(*p.shape, width) for name, p in weights.items()}
        return named("weight", weights) | named("h", empty) | named("c", empty)

    def losses(weights: Phi, of: Examples) -> torch.Tensor:
        return task_mean(task_loss(model.apply(weights, of.x), of.y), of.mask)  # [T]

    slope = torch.func.grad(lambda weights, of: losses(weights, of).sum())

    def stepped(theta: Theta, phi: Phi, support: Examples) -> Phi:
        weights, lstm = part(phi, "weight"), part(theta, "lstm")
        at = weights if second_order else {name: p.detach() for name, p in weights.items()}
        found: Phi = {}
        for name, g in slope(at, support).items():
            h, c = phi[f"h.{name}"], phi[f"c.{name}"]
            gates = _preprocessed(g) @ lstm["input"] + h @ lstm["hidden"] + lstm["bias"]
            keep, write, show, new = gates.chunk(4, -1)
            c = (keep + 1).sigmoid() * c + write.sigmoid() * new.tanh()
            h = show.sigmoid() * c.tanh()
            found |= {f"weight.{name}": weights[name] + scale * (h @ lstm["read"]), f"h.{name}": h, f"c.{name}": c}
        there = support.mask.sum(1) > 0
        return {n: torch.where(there.view(-1, *(1,) * (p.dim() - 1)), p, phi[n]) for n, p in found.items()}

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
