"""ALPaCA: Bayesian linear regression on meta-learned features, with its predictive variance."""

import torch

from streammeta.errors import ConfigError
from streammeta.meta.learner import (
    Examples,
    Learner,
    Phi,
    Predictive,
    TaskBatch,
    Theta,
    joined,
    named,
    negative_log_likelihood,
    part,
    task_mean,
)
from streammeta.meta.objective import Outer, begin, descend
from streammeta.model import Model

__all__ = ["alpaca"]


def alpaca(encoder: Model, *, outputs: int = 1, noise: float = 0.1, outer: Outer | None = None) -> Learner:
    """ALPaCA: a learned prior over the last layer, conditioned on a task's examples by Bayes' rule.

        y = Kᵀ z + ε,  z = f_θ(x),  ε ~ N(0, S)        prior K ~ MN(K₀, Λ₀⁻¹, S)
        Λ = Λ₀ + Σ z zᵀ,  Q = Λ₀ K₀ + Σ z yᵀ        y | x ~ N(Qᵀ Λ⁻¹ z, (1 + zᵀ Λ⁻¹ z) S)

    The meta-objective is the predictive negative log-likelihood averaged over **all** context lengths 0, 1, 2, … of a
    task, where the paper draws one at random; the sums for all lengths are running sums, one batched solve.

    Args:
        encoder: f; bounded features (tanh) behave best.
        outputs: targets of the regression.
        noise: where the variance S of each target begins; learned.
        outer: how θ = (f, K₀, Λ₀, S) is learned; by default Adam with 0.001.

    Raises:
        ConfigError: a setting is out of range.

    Source:
        Harrison, Sharma & Pavone (2018), arXiv:1807.08912, Algorithms 1 and 2.
    """
    if outputs < 1 or not noise > 0:
        raise ConfigError(f"alpaca: got {outputs=}, {noise=}; wanted outputs >= 1, noise > 0")
    outer = outer or Outer()
    width = encoder.outputs

    def init(generator: torch.Generator) -> Theta:
        return named("encoder", encoder.init(generator)) | {
            "mean": torch.zeros(width, outputs),  # K₀
            "root": torch.eye(width),  # Λ₀ = root rootᵀ
            "log_noise": torch.full((outputs,), noise).log(),  # S, diagonal
        }

    def start(theta: Theta, tasks: int) -> Phi:
        precision = theta["root"] @ theta["root"].mT + 1e-6 * torch.eye(width).to(theta["root"])
        q = precision @ theta["mean"]
        return {"precision": precision.expand(tasks, -1, -1), "Q": q.expand(tasks, -1, -1)}

    def features(theta: Theta, x: torch.Tensor) -> torch.Tensor:
        return encoder.apply(part(theta, "encoder"), x)  # [T, N, m]

    def adapt(theta: Theta, phi: Phi, support: Examples) -> Phi:
        z = features(theta, support.x)
        seen = z * support.mask.unsqueeze(-1)
        return {"precision": phi["precision"] + seen.mT @ z, "Q": phi["Q"] + seen.mT @ support.y}

    def judged(theta: Theta, precision: torch.Tensor, q: torch.Tensor, z: torch.Tensor) -> Predictive:
        """What (Λ, Q) says at z [..., n, m]; one solve gives mean and variance."""
        bent = torch.linalg.solve(precision, z.mT)  # Λ⁻¹ z  [..., m, n]
        spread = 1 + (z.mT * bent).sum(-2)  # [..., n]
        return Predictive(bent.mT @ q, spread.unsqueeze(-1) * theta["log_noise"].exp())

    def predict(theta: Theta, phi: Phi, x: torch.Tensor) -> Predictive:
        return judged(theta, phi["precision"], phi["Q"], features(theta, x))

    def loss(theta: Theta, tasks: TaskBatch) -> torch.Tensor:
        of = joined(tasks.support, tasks.query)
        prior, z = start(theta, of.x.shape[0]), features(theta, of.x)
        seen = (z * of.mask.unsqueeze(-1)).unsqueeze(-1)
        outer_z, outer_y = seen @ z.unsqueeze(-2), seen @ of.y.unsqueeze(-2)  # [T, N, m, m], [T, N, m, C]
        precision = prior["precision"].unsqueeze(1) + outer_z.cumsum(1) - outer_z  # before each example
        q = prior["Q"].unsqueeze(1) + outer_y.cumsum(1) - outer_y
        found = judged(theta, precision, q, z.unsqueeze(-2))
        each = negative_log_likelihood(Predictive(*(part.squeeze(-2) for part in found if part is not None)), of.y)
        return task_mean(each, of.mask).mean()

    return Learner(init, start, predict, adapt, loss, begin(outer), descend(loss, outer))
