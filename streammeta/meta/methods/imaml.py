"""iMAML: the outer gradient from where the inner problem ends, whatever path led there."""

from collections.abc import Callable
from typing import Any

import torch

from streammeta.errors import ConfigError
from streammeta.meta.conjugate import Linear, beside, conjugate_gradient
from streammeta.meta.learner import Examples, Learner, Phi, Predictive, TaskBatch, TaskLoss, Theta, expand, task_mean
from streammeta.meta.objective import Outer, begin, descend
from streammeta.model import Model

__all__ = ["imaml"]


def imaml(
    model: Model,
    task_loss: TaskLoss,
    *,
    strength: float = 0.5,
    inner_steps: int = 3,
    cg_steps: int = 5,
    exact: bool = False,
    outer: Outer | None = None,
) -> Learner:
    """iMAML: adapt to the minimum near θ, and differentiate that minimum by the implicit function theorem.

        φ(θ) = argmin over φ of  L(φ, support) + λ/2 ‖φ − θ‖²
        dL(φ, query)/dθ = (I + H/λ)⁻¹ ∇ L(φ, query),      H the curvature of L(φ, support), by conjugate gradient

    φ is found as in the paper's Hessian-free variant, by Newton steps of the same conjugate gradient, of which the
    length in ⅛, ¼, ½, 1 is taken that ends lowest. Nothing of the inner path is stored. H is Gauss and Newton's part of
    the Hessian, Jᵀ L'' J with J = ∂outputs/∂φ: a network's own curvature may bend downwards, where (I + H/λ)⁻¹ has no
    meaning, and on sinusoids it costs most of what is gained.

    Args:
        model: the network; θ is its weights.
        task_loss: (outputs, y) -> [T, N].
        strength: λ > 0.
        inner_steps: Newton steps to φ; the gradient is exact where they reach the minimum.
        cg_steps: of the conjugate gradient; as many as outputs of the support solve it.
        exact: H is the whole Hessian.
        outer: how θ is learned; by default Adam with 0.001.

    Raises:
        ConfigError: a setting is out of range.

    Sources:
        Rajeswaran, Finn, Kakade & Levine (2019), arXiv:1909.04630, Lemma 1, Algorithms 1 and 2; Martens (2010), Deep
        learning via Hessian-free optimization, section 4 (Gauss and Newton's matrix).
    """
    if min(inner_steps, cg_steps) < 1 or not strength > 0:
        found = f"{strength=}, {inner_steps=}, {cg_steps=}"
        raise ConfigError(f"imaml: got {found}; wanted strength > 0 and steps >= 1")
    outer = outer or Outer()

    def losses(phi: Phi, of: Examples) -> torch.Tensor:
        return task_mean(task_loss(model.apply(phi, of.x), of.y), of.mask)  # [T]

    slope = torch.func.grad(lambda phi, of: losses(phi, of).sum())

    def system(phi: Phi, of: Examples) -> Linear:
        """v ↦ (I + H/λ) v at φ."""
        hessian = torch.func.vjp(lambda p: slope(p, of), phi)[1] if exact else _gauss_newton(model, task_loss, phi, of)

        def times(v: Phi) -> Phi:
            (bent,) = hessian(v)
            return {name: v[name] + bent[name] / strength for name in v}

        return times

    def adapt(theta: Theta, phi: Phi, support: Examples) -> Phi:
        def height(phi: Phi) -> torch.Tensor:  # of the inner objective, [T]
            away = torch.stack([(p - theta[n]).square().flatten(1).sum(1) for n, p in phi.items()]).sum(0)
            return losses(phi, support) + strength / 2 * away

        there = support.mask.sum(1) > 0  # a task without examples stays where it is
        rounding = 4 * torch.finfo(support.mask.dtype).eps  # all that heights differ by at the minimum
        for _ in range(inner_steps):
            downhill = {n: theta[n] - phi[n] - s / strength for n, s in slope(phi, support).items()}
            step = conjugate_gradient(system(phi, support), downhill, cg_steps)
            best, lowest = phi, height(phi)
            for length in (0.125, 0.25, 0.5, 1.0):
                tried = {n: p + length * step[n] for n, p in phi.items()}
                found = height(tried)
                better = there & (found <= lowest + rounding * lowest)
                lowest = torch.where(better, found, lowest)
                best = {n: torch.where(beside(better, p), tried[n], p) for n, p in best.items()}
            phi = best
        return phi

    class Implicit(torch.autograd.Function):  # φ(θ), θ repeated for each task, with its gradient by the theorem
        @staticmethod
        def forward(ctx: Any, support: Examples, names: list[str], *theta: torch.Tensor) -> Any:  # noqa: ANN401  torch's own
            shared = {name: p.detach() for name, p in zip(names, theta, strict=True)}
            phi = adapt(shared, shared, support)
            ctx.support, ctx.names = support, names
            ctx.save_for_backward(*phi.values())  # as attributes they would hold ctx, and ctx them: a leak
            return tuple(phi.values())

        @staticmethod
        def backward(ctx: Any, *slopes: torch.Tensor) -> Any:  # noqa: ANN401  torch's own
            phi = dict(zip(ctx.names, ctx.saved_tensors, strict=True))
            query = dict(zip(ctx.names, slopes, strict=True))
            return None, None, *conjugate_gradient(system(phi, ctx.support), query, cg_steps).values()

    def loss(theta: Theta, tasks: TaskBatch) -> torch.Tensor:
        each = expand(theta, tasks.query.x.shape[0])
        phi = dict(zip(each, Implicit.apply(tasks.support, list(each), *each.values()), strict=True))
        return losses(phi, tasks.query).mean()

    def predict(_theta: Theta, phi: Phi, x: torch.Tensor) -> Predictive:
        return Predictive(model.apply(phi, x))

    return Learner(model.init, expand, predict, adapt, loss, begin(outer), descend(loss, outer))


def _gauss_newton(model: Model, task_loss: TaskLoss, phi: Phi, of: Examples) -> Callable[[Phi], tuple[Phi]]:
    """v ↦ Jᵀ L'' J v at φ; J v is the derivative of u ↦ Jᵀ u, which is linear."""
    pulled = torch.func.vjp(lambda p: model.apply(p, of.x), phi)
    outputs, backward = pulled[0], pulled[1]  # u ↦ Jᵀ u
    forward = torch.func.vjp(lambda u: backward(u)[0], torch.zeros_like(outputs))[1]
    loss_slope = torch.func.grad(lambda o: task_mean(task_loss(o, of.y), of.mask).sum())
    bent = torch.func.vjp(loss_slope, outputs)[1]

    def times(v: Phi) -> tuple[Phi]:
        found: tuple[Phi] = backward(*bent(*forward(v)))
        return found

    return times
