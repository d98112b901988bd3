"""ProtoNet: a class is the mean of its examples, and the nearest class is the answer."""

import torch

from streammeta.errors import ConfigError
from streammeta.meta.learner import (
    Examples,
    Learner,
    Phi,
    Predictive,
    TaskBatch,
    Theta,
    cross_entropy,
    targets,
    task_mean,
)
from streammeta.meta.objective import Outer, begin, descend
from streammeta.model import Model

__all__ = ["prototypes"]


def prototypes(encoder: Model, *, classes: int, outer: Outer | None = None) -> Learner:
    """ProtoNet: adapting is counting.

        c_k = mean of f_θ(x) over the examples of class k        logit_k(x) = −‖f_θ(x) − c_k‖²

    A class without examples stands at the origin.

    Args:
        encoder: f; θ is its weights.
        classes: C.
        outer: how θ is learned; by default Adam with 0.001.

    Raises:
        ConfigError: a setting is out of range.

    Source:
        Snell, Swersky & Zemel (2017), arXiv:1703.05175, Algorithm 1.
    """
    if classes < 2:
        raise ConfigError(f"prototypes: got {classes=}; wanted 2 or more")
    outer = outer or Outer()

    def start(theta: Theta, tasks: int) -> Phi:
        like = next(iter(theta.values()))
        return {"sum": like.new_zeros(tasks, classes, encoder.outputs), "count": like.new_zeros(tasks, classes)}

    def adapt(theta: Theta, phi: Phi, support: Examples) -> Phi:
        z = encoder.apply(theta, support.x)
        of_class = targets(support.y, classes, z.dtype) * support.mask.unsqueeze(-1)  # [T, N, C]
        return {"sum": phi["sum"] + of_class.mT @ z, "count": phi["count"] + of_class.sum(1)}

    def predict(theta: Theta, phi: Phi, x: torch.Tensor) -> Predictive:
        z = encoder.apply(theta, x)
        c = phi["sum"] / phi["count"].clamp(min=1).unsqueeze(-1)
        squares = z.square().sum(-1, keepdim=True) + c.square().sum(-1).unsqueeze(1)
        return Predictive(2 * z @ c.mT - squares)

    def loss(theta: Theta, tasks: TaskBatch) -> torch.Tensor:
        phi = adapt(theta, start(theta, tasks.query.x.shape[0]), tasks.support)
        each = cross_entropy(predict(theta, phi, tasks.query.x).output, tasks.query.y)
        return task_mean(each, tasks.query.mask).mean()

    return Learner(encoder.init, start, predict, adapt, loss, begin(outer), descend(loss, outer))
