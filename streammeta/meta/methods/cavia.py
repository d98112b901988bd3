"""CAVIA: the network is shared; what a task adapts is a short vector of context, fed as extra input."""

import torch

from streammeta.errors import ConfigError
from streammeta.meta.learner import Examples, Learner, Phi, Predictive, TaskBatch, TaskLoss, Theta, gradient, task_mean
from streammeta.meta.objective import Outer, begin, descend
from streammeta.model import Model

__all__ = ["cavia"]


def cavia(
    model: Model,
    task_loss: TaskLoss,
    *,
    context: int = 5,
    inner_rate: float = 1.0,
    inner_steps: int = 1,
    outer: Outer | None = None,
) -> Learner:
    """CAVIA: less to adapt, so little to overfit, and a step size of 1 does.

        φ = 0        φ ← φ − α ∇_φ L(f_θ([φ; x]), support), K times        minimize over θ:  L(f_θ([φ; x]), query)

    Args:
        model: a network whose inputs are the context and then the D features of an example (flattened).
        task_loss: (outputs, y) -> [T, N].
        context: length of φ.
        inner_rate: α.
        inner_steps: K ≥ 1.
        outer: how θ is learned; by default Adam with 0.001.

    Raises:
        ConfigError: a setting is out of range.

    Source:
        Zintgraf, Shiarlis, Kurin, Hofmann & Whiteson (2019), arXiv:1810.03642, Algorithm 1.
    """
    if context < 1 or inner_steps < 1 or not inner_rate > 0:
        wanted = "context >= 1, inner_steps >= 1, inner_rate > 0"
        raise ConfigError(f"cavia: got {context=}, {inner_steps=}, {inner_rate=}; wanted {wanted}")
    outer = outer or Outer()

    def start(theta: Theta, tasks: int) -> Phi:
        like = next(iter(theta.values()))
        return {"context": torch.zeros(tasks, context, dtype=like.dtype, device=like.device)}

    def outputs(theta: Theta, phi: Phi, x: torch.Tensor) -> torch.Tensor:
        context = phi["context"].unsqueeze(1).expand(-1, x.shape[1], -1)  # the same for every example of a task
        return model.apply(theta, torch.cat([context, x.flatten(2)], -1))

    def losses(phi: Phi, theta: Theta, of: Examples) -> torch.Tensor:
        return task_mean(task_loss(outputs(theta, phi, of.x), of.y), of.mask)  # [T]

    slope = gradient(lambda phi, theta, of: losses(phi, theta, of).sum())

    def adapt(theta: Theta, phi: Phi, support: Examples) -> Phi:
        for _ in range(inner_steps):
            phi = {"context": phi["context"] - inner_rate * slope(phi, theta, support)["context"]}
        return phi

    def predict(theta: Theta, phi: Phi, x: torch.Tensor) -> Predictive:
        return Predictive(outputs(theta, phi, x))

    def loss(theta: Theta, tasks: TaskBatch) -> torch.Tensor:
        phi = adapt(theta, start(theta, tasks.query.x.shape[0]), tasks.support)
        return losses(phi, theta, tasks.query).mean()

    return Learner(model.init, start, predict, adapt, loss, begin(outer), descend(loss, outer))
