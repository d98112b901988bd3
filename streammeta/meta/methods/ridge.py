"""R2-D2: ridge regression in closed form on meta-learned features."""

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
    named,
    part,
    targets,
    task_mean,
)
from streammeta.meta.objective import Outer, begin, descend
from streammeta.model import Model

__all__ = ["ridge"]


def ridge(
    encoder: Model,
    task_loss: TaskLoss,
    *,
    outputs: int,
    strength: float = 1.0,
    scale: float = 1.0,
    outer: Outer | None = None,
) -> Learner:
    """R2-D2: the head that fits the support best, solved and differentiated exactly.

        z = [f_θ(x); 1]        A = Σ z zᵀ,  B = Σ z yᵀ        W = (A + λI)⁻¹ B        output = s · Wᵀ z + b

    The paper writes W by the support's Gram matrix (Woodbury), which is cheaper where features outnumber examples; it
    is the same W, and sums take one event at a time. Classes are regressed on as one-hot rows; λ, s, b are learned.

    Args:
        encoder: f; its outputs are the features.
        task_loss: (outputs, y) -> [T, N].
        outputs: classes, or targets of a regression.
        strength: where λ begins.
        scale: where s begins; one-hot rows make small logits, so that 10 saves many updates with classes.
        outer: how θ is learned; by default Adam with 0.001.

    Raises:
        ConfigError: a setting is out of range.

    Source:
        Bertinetto, Henriques, Torr & Vedaldi (2019), arXiv:1805.08136, equations 4 to 6.
    """
    if outputs < 1 or not min(strength, scale) > 0:
        wanted = "outputs >= 1, strength and scale > 0"
        raise ConfigError(f"ridge: got {outputs=}, {strength=}, {scale=}; wanted {wanted}")
    outer = outer or Outer()
    width = encoder.outputs + 1

    def init(generator: torch.Generator) -> Theta:
        logs = {"log_strength": torch.tensor(strength).log(), "log_scale": torch.tensor(scale).log()}
        head = logs | {"bias": torch.zeros(outputs)}
        return named("encoder", encoder.init(generator)) | head

    def features(theta: Theta, x: torch.Tensor) -> torch.Tensor:
        z = encoder.apply(part(theta, "encoder"), x)
        return torch.cat([z, torch.ones_like(z[..., :1])], -1)  # [T, N, m]

    def start(theta: Theta, tasks: int) -> Phi:
        like = theta["bias"]
        return {"A": like.new_zeros(tasks, width, width), "B": like.new_zeros(tasks, width, outputs)}

    def adapt(theta: Theta, phi: Phi, support: Examples) -> Phi:
        z = features(theta, support.x)
        seen = z * support.mask.unsqueeze(-1)
        y = targets(support.y, outputs, z.dtype)
        return {"A": phi["A"] + seen.mT @ z, "B": phi["B"] + seen.mT @ y}

    def predict(theta: Theta, phi: Phi, x: torch.Tensor) -> Predictive:
        prior = theta["log_strength"].exp() * torch.eye(width, dtype=x.dtype, device=x.device)
        w = torch.linalg.solve(phi["A"] + prior, phi["B"])
        return Predictive(theta["log_scale"].exp() * (features(theta, x) @ w) + theta["bias"])

    def loss(theta: Theta, tasks: TaskBatch) -> torch.Tensor:
        phi = adapt(theta, start(theta, tasks.query.x.shape[0]), tasks.support)
        each = task_loss(predict(theta, phi, tasks.query.x).output, tasks.query.y)
        return task_mean(each, tasks.query.mask).mean()

    return Learner(init, start, predict, adapt, loss, begin(outer), descend(loss, outer))
