"""GeMCL: a Gaussian for each class on meta-learned features, whose posterior is exact and order-free."""

import math

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
from streammeta.model import Model

__all__ = ["gaussian"]


def gaussian(encoder: Model, *, classes: int, outer: Outer | None = None) -> Learner:
    """GeMCL: a learned Normal-Gamma prior for each feature of each class, updated by counting.

        z = f_θ(x),  z_d | class k ~ N(μ_kd, 1/τ_kd),   (μ, τ) ~ NG(μ₀, κ₀, α₀, β₀)
        with n examples of mean z̄ and scatter S:   κ = κ₀ + n,  μ = (κ₀ μ₀ + n z̄)/κ,  α = α₀ + n/2,
        β = β₀ + S/2 + κ₀ n (z̄ − μ₀)²/(2κ)        logit_k = Σ_d log Student-t(z_d; 2α, μ, β(κ+1)/(ακ))

    A new class costs a row, and no order of examples is better than another: nothing is forgotten. A class without
    examples answers by the prior.

    Args:
        encoder: f.
        classes: C.
        outer: how θ = (f, the prior) is learned; by default Adam with 0.001.

    Raises:
        ConfigError: a setting is out of range.

    Source:
        Banayeeanzade, Mirzaiezadeh, Hasani & Soleymani (NeurIPS 2021), "Generative vs. Discriminative: Rethinking the
        Meta-Continual Learning", section 3 (the Bayesian variant; with a proper prior of the mean).
    """
    if classes < 2:
        raise ConfigError(f"gaussian: got {classes=}; wanted 2 or more")
    outer = outer or Outer()
    width = encoder.outputs

    def init(generator: torch.Generator) -> Theta:
        prior = {"mean": torch.zeros(width), "log_kappa": torch.tensor(math.log(0.1))}
        spread = {"log_alpha": torch.tensor(math.log(10.0)), "log_beta": torch.tensor(math.log(10.0))}
        return named("encoder", encoder.init(generator)) | prior | spread

    def start(theta: Theta, tasks: int) -> Phi:
        like = theta["mean"]
        sums = like.new_zeros(tasks, classes, width)
        return {"count": like.new_zeros(tasks, classes), "sum": sums, "squares": sums.clone()}

    def adapt(theta: Theta, phi: Phi, support: Examples) -> Phi:
        z = encoder.apply(part(theta, "encoder"), support.x)
        of_class = (targets(support.y, classes, z.dtype) * support.mask.unsqueeze(-1)).mT  # [T, C, N]
        sums, squares = phi["sum"] + of_class @ z, phi["squares"] + of_class @ z.square()
        return {"count": phi["count"] + of_class.sum(-1), "sum": sums, "squares": squares}

    def predict(theta: Theta, phi: Phi, x: torch.Tensor) -> Predictive:
        z = encoder.apply(part(theta, "encoder"), x).unsqueeze(2)  # [T, N, 1, m]
        n, m0, k0 = phi["count"].unsqueeze(-1), theta["mean"], theta["log_kappa"].exp()
        mean = phi["sum"] / n.clamp(min=1)
        scatter = (phi["squares"] - n * mean.square()).clamp(min=0)
        kappa, alpha = k0 + n, theta["log_alpha"].exp() + n / 2
        mu = (k0 * m0 + n * mean) / kappa
        beta = theta["log_beta"].exp() + scatter / 2 + k0 * n * (mean - m0).square() / (2 * kappa)
        square = beta * (kappa + 1) / (alpha * kappa)  # [T, C, m], the scale of the t, squared
        constant = torch.lgamma(alpha + 0.5) - torch.lgamma(alpha) - 0.5 * (2 * math.pi * alpha * square).log()
        far = torch.log1p((z - mu.unsqueeze(1)).square() / (2 * alpha * square).unsqueeze(1))  # [T, N, C, m]
        return Predictive((constant.unsqueeze(1) - (alpha + 0.5).unsqueeze(1) * far).sum(-1))

    def loss(theta: Theta, tasks: TaskBatch) -> torch.Tensor:
        phi = adapt(theta, start(theta, tasks.query.x.shape[0]), tasks.support)
        each = cross_entropy(predict(theta, phi, tasks.query.x).output, tasks.query.y)
        return task_mean(each, tasks.query.mask).mean()

    return Learner(init, start, predict, adapt, loss, begin(outer), descend(loss, outer))
