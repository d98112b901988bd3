"""MetaOptNet: a support vector machine as the head, differentiated through its optimality conditions."""

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
    named,
    part,
    targets,
    task_mean,
)
from streammeta.meta.objective import Outer, begin, descend
from streammeta.meta.quadratic import simplex_program
from streammeta.model import Model

__all__ = ["svm"]


def svm(
    encoder: Model,
    *,
    classes: int,
    slack: float = 0.1,
    ridge: float = 1.0,
    scale: float = 10.0,
    capacity: int = 64,
    outer: Outer | None = None,
) -> Learner:
    """MetaOptNet-SVM: the widest margin between the classes of the support (Crammer & Singer's multi-class machine).

        minimize over α:  ½ Σ_k α_kᵀ (K + ρI) α_k − Σ_n α_n,yₙ      K = Z Zᵀ,  Z = f_θ(support)
        subject to  α_nk ≤ C [k = yₙ],  Σ_k α_nk = 0           W = Zᵀ α        logits = s · Wᵀ f_θ(x)

    With β = C·onehot(y) − α each row of β lies on a simplex: a quadratic program that `simplex_program` solves for all
    tasks at once.

    Args:
        encoder: f.
        classes: number of them.
        slack: C, the price of a violated margin.
        ridge: ρ, which makes the solution unique; the authors' code has 1.
        scale: where s begins.
        capacity: examples of a task that are kept, the newest; more cost more.
        outer: how θ = (f, s) is learned; by default Adam with 0.001.

    Raises:
        ConfigError: a setting is out of range.

    Source:
        Lee, Maji, Ravichandran & Soatto (2019), arXiv:1904.03758, section 3.2.
    """
    if classes < 2 or capacity < 1 or not min(slack, ridge, scale) > 0:
        wanted = "classes >= 2, capacity >= 1, slack, ridge and scale > 0"
        raise ConfigError(f"svm: got {classes=}, {capacity=}, {slack=}, {ridge=}, {scale=}; wanted {wanted}")
    outer = outer or Outer()

    def init(generator: torch.Generator) -> Theta:
        return named("encoder", encoder.init(generator)) | {"log_scale": torch.tensor(scale).log()}

    def start(theta: Theta, tasks: int) -> Phi:
        like = theta["log_scale"]
        return {
            "z": like.new_zeros(tasks, 0, encoder.outputs),
            "y": torch.zeros(tasks, 0, dtype=torch.int64, device=like.device),
            "mask": like.new_zeros(tasks, 0),
            "W": like.new_zeros(tasks, encoder.outputs, classes),
        }

    def adapt(theta: Theta, phi: Phi, support: Examples) -> Phi:
        z = torch.cat([phi["z"], encoder.apply(part(theta, "encoder"), support.x)], 1)
        y, mask = torch.cat([phi["y"], support.y], 1), torch.cat([phi["mask"], support.mask.to(z.dtype)], 1)
        order = torch.argsort(mask, dim=1, stable=True)[:, -capacity:]  # what is there goes last, oldest first
        z, y, mask = z.take_along_dim(order.unsqueeze(-1), 1), y.take_along_dim(order, 1), mask.take_along_dim(order, 1)
        z = z * mask.unsqueeze(-1)
        kernel = z @ z.mT + ridge * torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
        most = slack * targets(y, classes, z.dtype)
        # ½ αᵀKα − Σ α_ny with α = most − β:  ½ βᵀKβ − β·(K most − onehot) + constant
        beta = simplex_program(kernel, kernel @ most - most / slack, total=slack)
        alpha = (most - beta) * mask.unsqueeze(-1)
        return {"z": z, "y": y, "mask": mask, "W": z.mT @ alpha}

    def predict(theta: Theta, phi: Phi, x: torch.Tensor) -> Predictive:
        return Predictive(theta["log_scale"].exp() * (encoder.apply(part(theta, "encoder"), x) @ phi["W"]))

    def loss(theta: Theta, tasks: TaskBatch) -> torch.Tensor:
        phi = adapt(theta, start(theta, tasks.query.x.shape[0]), tasks.support)
        each = cross_entropy(predict(theta, phi, tasks.query.x).output, tasks.query.y)
        return task_mean(each, tasks.query.mask).mean()

    return Learner(init, start, predict, adapt, loss, begin(outer), descend(loss, outer))
