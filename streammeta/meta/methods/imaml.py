"""iMAML: the outer gradient from where the inner problem ends, whatever path led there."""

from collections.abc import Callable
from typing import Any

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
    task_mean,
)
from streammeta.meta.objective import Outer, begin, descend
from streammeta.model import Model

__all__ = ["imaml"]


def imaml(
    model: Model,
    task_loss: TaskLoss,
    *,
    strength: float = 2.0,
    inner_rate: float = 0.05,
    inner_steps: int = 16,
    cg_steps: int = 5,
    outer: Outer | None = None,
) -> Learner:
    """iMAML: adapt to the minimum near θ, and differentiate that minimum by the implicit function theorem.

        φ(θ) = argmin over φ of  L(φ, support) + λ/2 ‖φ − θ‖²
        dL(φ, query)/dθ = (I + H/λ)⁻¹ ∇ L(φ, query),      H the Hessian of L(φ, support), by conjugate gradient

    Nothing of the inner path is stored, so the memory does not grow with ``inner_steps``.

    Args:
        model: the network; θ is its weights.
        task_loss: (outputs, y) -> [T, N].
        strength: λ > 0.
        inner_rate: step of the gradient descent that finds φ.
        inner_steps: how many; the gradient is exact where they reach the minimum.
        cg_steps: of the conjugate gradient.
        outer: how θ is learned; by default Adam with 0.001.

    Source:
        Rajeswaran, Finn, Kakade & Levine (2019), arXiv:1909.04630, Algorithms 1 and 2.
    """
    if min(inner_steps, cg_steps) < 1 or not min(strength, inner_rate) > 0:
        found = f"{strength=}, {inner_rate=}, {inner_steps=}, {cg_steps=}"
        raise ConfigError(f"imaml: got {found}; wanted strength, inner_rate > 0 and steps >= 1")
    outer = outer or Outer()

    def losses(phi: Phi, of: Examples) -> torch.Tensor:
        return task_mean(task_loss(model.apply(phi, of.x), of.y), of.mask)  # [T]

    slope = torch.func.grad(lambda phi, of: losses(phi, of).sum())

    def adapt(theta: Theta, phi: Phi, support: Examples) -> Phi:
        for _ in range(inner_steps):
            slopes = slope(phi, support)
            phi = {n: p - inner_rate * (slopes[n] + strength * (p - theta[n])) for n, p in phi.items()}
        return phi

    class Implicit(torch.autograd.Function):  # φ(θ), θ repeated for each task, with its gradient by the theorem
        @staticmethod
        def forward(ctx: Any, support: Examples, names: list[str], *theta: torch.Tensor) -> Any:  # noqa: ANN401  torch's own
            shared = {name: p.detach() for name, p in zip(names, theta, strict=True)}
            phi = adapt(shared, shared, support)
            ctx.support, ctx.phi = support, phi
            return tuple(phi[name] for name in names)

        @staticmethod
        def backward(ctx: Any, *slopes: torch.Tensor) -> Any:  # noqa: ANN401  torch's own
            hessian = torch.func.vjp(lambda phi: slope(phi, ctx.support), ctx.phi)[1]  # symmetric: vᵀH is H v

            def curved(v: Phi) -> Phi:  # (I + H/λ) v
                (bent,) = hessian(v)
                return {name: v[name] + bent[name] / strength for name in v}

            found = _conjugate_gradient(curved, dict(zip(ctx.phi, slopes, strict=True)), cg_steps)
            return None, None, *found.values()

    def loss(theta: Theta, tasks: TaskBatch) -> torch.Tensor:
        each = expand(theta, tasks.query.x.shape[0])
        phi = dict(zip(each, Implicit.apply(tasks.support, list(each), *each.values()), strict=True))
        return losses(phi, tasks.query).mean()

    def predict(_theta: Theta, phi: Phi, x: torch.Tensor) -> Predictive:
        return Predictive(model.apply(phi, x))

    return Learner(model.init, expand, predict, adapt, loss, begin(outer), descend(loss, outer))


def _conjugate_gradient(matrix: Callable[[Phi], Phi], b: Phi, steps: int) -> Phi:
    """x with matrix(x) ≈ b, for each task by itself: the leading dimension of all tensors counts tasks."""

    def dot(a: Phi, c: Phi) -> torch.Tensor:
        return torch.stack([(a[n] * c[n]).flatten(1).sum(1) for n in a]).sum(0)  # [T]

    def along(a: Phi, size: torch.Tensor, c: Phi) -> Phi:
        return {n: a[n] + size.view(-1, *(1,) * (c[n].dim() - 1)) * c[n] for n in a}

    x = {n: torch.zeros_like(p) for n, p in b.items()}
    rest, direction, length = b, b, dot(b, b)
    enough = 1e-12 * length
    for _ in range(steps):
        bent = matrix(direction)
        curvature = dot(direction, bent)
        on = (curvature > 0) & (length > enough)  # a task stops at a saddle's downward bend, and when it is done
        size = torch.where(on, length / curvature, 0)
        x, rest = along(x, size, direction), along(rest, -size, bent)
        longer = dot(rest, rest)
        direction = along(rest, torch.where(on, longer / length, 0), direction)
        length = torch.where(on, longer, 0)
    return x
