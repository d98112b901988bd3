"""ANIL: MAML whose inner loop moves only the last layer. Feature reuse is most of what MAML learns."""

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

__all__ = ["anil"]


def anil(
    model: Model,
    task_loss: TaskLoss,
    *,
    inner: Optimizer | None = None,
    inner_steps: int = 5,
    outer: Outer | None = None,
) -> Learner:
    """ANIL: the body is shared by all tasks, the head is adapted to each.

        θ = (body, head)        φ = head − α ∇_head L(body, head; support), K times

    Args:
        model: the network; its ``head`` names the weights that move.
        task_loss: (outputs, y) -> [T, N].
        inner: the optimizer of the inner loop; by default SGD with 0.01.
        inner_steps: K ≥ 1.
        outer: how body and first head are learned; by default Adam with 0.001.

    Raises:
        ConfigError: a setting is out of range.

    Source:
        Raghu, Raghu, Bengio & Vinyals (2020), arXiv:1909.09157, section 4.
    """
    if inner_steps < 1:
        raise ConfigError(f"anil: got {inner_steps=}; wanted 1 or more")
    inner, outer = inner or sgd(0.01), outer or Outer()

    def start(theta: Theta, tasks: int) -> Phi:
        return expand({name: theta[name] for name in model.head}, tasks)

    def losses(phi: Phi, theta: Theta, of: Examples) -> torch.Tensor:
        return task_mean(task_loss(model.apply(theta | phi, of.x), of.y), of.mask)  # [T]

    slope = gradient(lambda phi, theta, of: losses(phi, theta, of).sum())

    def adapt(theta: Theta, phi: Phi, support: Examples) -> Phi:
        memory = inner.start(phi)
        for k in range(inner_steps):
            phi, memory = inner.step(phi, slope(phi, theta, support), memory, k)
        return phi

    def predict(theta: Theta, phi: Phi, x: torch.Tensor) -> Predictive:
        return Predictive(model.apply(theta | phi, x))

    def loss(theta: Theta, tasks: TaskBatch) -> torch.Tensor:
        phi = adapt(theta, start(theta, tasks.query.x.shape[0]), tasks.support)
        return losses(phi, theta, tasks.query).mean()

    return Learner(model.init, start, predict, adapt, loss, begin(outer), descend(loss, outer))
