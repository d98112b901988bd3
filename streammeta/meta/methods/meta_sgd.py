"""Meta-SGD: MAML that also learns, for every weight, how far and in which direction to step."""

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

__all__ = ["meta_sgd"]


def meta_sgd(
    model: Model,
    task_loss: TaskLoss,
    *,
    inner_rate: float = 0.01,
    inner_steps: int = 1,
    outer: Outer | None = None,
) -> Learner:
    """Meta-SGD: an initialization and a vector of rates, learned together.

        φ = θ − α ∘ ∇ L(θ, support)        minimize over θ and α:  mean over tasks of L(φ, query)

    Args:
        model: the network; θ is its weights and as many rates α, which may become negative.
        task_loss: (outputs, y) -> [T, N].
        inner_rate: where every α begins.
        inner_steps: the paper takes one.
        outer: how θ is learned; by default Adam with 0.001.

    Raises:
        ConfigError: a setting is out of range.

    Source:
        Li, Zhou, Chen & Li (2017), arXiv:1707.09835, Algorithm 1.
    """
    if inner_steps < 1 or not inner_rate > 0:
        raise ConfigError(f"meta-sgd: got {inner_steps=}, {inner_rate=}; wanted inner_steps >= 1, inner_rate > 0")
    outer = outer or Outer()

    def init(generator: torch.Generator) -> Theta:
        weights = model.init(generator)
        rates = {name: torch.full_like(p, inner_rate) for name, p in weights.items()}
        return named("weight", weights) | named("rate", rates)

    def start(theta: Theta, tasks: int) -> Phi:
        return expand(part(theta, "weight"), tasks)

    def losses(phi: Phi, of: Examples) -> torch.Tensor:
        return task_mean(task_loss(model.apply(phi, of.x), of.y), of.mask)  # [T]

    slope = gradient(lambda phi, of: losses(phi, of).sum())

    def adapt(theta: Theta, phi: Phi, support: Examples) -> Phi:
        rates = part(theta, "rate")
        for _ in range(inner_steps):
            slopes = slope(phi, support)
            phi = {name: p - rates[name] * slopes[name] for name, p in phi.items()}
        return phi

    def predict(_theta: Theta, phi: Phi, x: torch.Tensor) -> Predictive:
        return Predictive(model.apply(phi, x))

    def loss(theta: Theta, tasks: TaskBatch) -> torch.Tensor:
        phi = adapt(theta, start(theta, tasks.query.x.shape[0]), tasks.support)
        return losses(phi, tasks.query).mean()

    return Learner(init, start, predict, adapt, loss, begin(outer), descend(loss, outer))
