"""MAML: an initialization from which a few gradient steps on a few examples already generalize."""

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
    task_mean,
)
from streammeta.meta.objective import Outer, begin, descend
from streammeta.meta.optimizer import Optimizer, sgd
from streammeta.model import Model

__all__ = ["maml"]


def maml(
    model: Model,
    task_loss: TaskLoss,
    *,
    inner: Optimizer | None = None,
    inner_steps: int = 1,
    first_order: bool = False,
    outer: Outer | None = None,
) -> Learner:
    """MAML: descend the loss that is left after adapting, through the adapting.

        φᵢ = θ − α ∇ L(θ, supportᵢ), K times        minimize over θ:  mean over tasks i of L(φᵢ, queryᵢ)

    Args:
        model: the network; θ is its weights.
        task_loss: (outputs, y) -> [T, N], as ``squared_error`` and ``cross_entropy``.
        inner: the optimizer of the inner loop; by default SGD with α = 0.01.
        inner_steps: K ≥ 1.
        first_order: leave out the second derivatives (FOMAML): the outer gradient is the query's at φ.
        outer: how θ is learned; by default Adam with 0.001.

    Raises:
        ConfigError: a setting is out of range.

    Source:
        Finn, Abbeel & Levine (2017), arXiv:1703.03400, Algorithm 2.
    """
    if inner_steps < 1:
        raise ConfigError(f"maml: got {inner_steps=}; wanted 1 or more")
    inner, outer = inner or sgd(0.01), outer or Outer()

    def losses(phi: Phi, of: Examples) -> torch.Tensor:
        return task_mean(task_loss(model.apply(phi, of.x), of.y), of.mask)  # [T]

    slope = gradient(lambda phi, of: losses(phi, of).sum())  # tasks share no φ: the sum's gradient is each one's

    def adapt(_theta: Theta, phi: Phi, support: Examples) -> Phi:
        memory = inner.start(phi)
        for k in range(inner_steps):
            at = {name: p.detach() for name, p in phi.items()} if first_order else phi
            phi, memory = inner.step(phi, slope(at, support), memory, k)
        return phi

    def predict(_theta: Theta, phi: Phi, x: torch.Tensor) -> Predictive:
        return Predictive(model.apply(phi, x))

    def loss(theta: Theta, tasks: TaskBatch) -> torch.Tensor:
        phi = adapt(theta, expand(theta, tasks.query.x.shape[0]), tasks.support)
        return losses(phi, tasks.query).mean()

    return Learner(model.init, expand, predict, adapt, loss, begin(outer), descend(loss, outer))
