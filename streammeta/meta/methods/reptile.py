"""Reptile: move the initialization towards where each task's own training ends."""

import torch

from streammeta.errors import ConfigError
from streammeta.meta.learner import (
    Examples,
    Learner,
    OuterState,
    Phi,
    Predictive,
    TaskBatch,
    TaskLoss,
    Theta,
    expand,
    gradient,
    joined,
    task_mean,
)
from streammeta.meta.optimizer import Optimizer, Rate, sgd
from streammeta.model import Model

__all__ = ["reptile"]


def reptile(
    model: Model,
    task_loss: TaskLoss,
    *,
    inner: Optimizer | None = None,
    inner_steps: int = 5,
    meta_rate: Rate = 1.0,
) -> Learner:
    """Reptile: no query set, no second derivatives, no backward pass through the adapting.

        θ ← θ + ε · mean over tasks i of (φᵢ − θ),        φᵢ = K steps from θ on all examples of task i

    Args:
        model: the network; θ is its weights.
        task_loss: (outputs, y) -> [T, N].
        inner: the optimizer of the inner loop, begun afresh for every task; by default SGD with 0.01.
        inner_steps: K ≥ 1; with K = 1 this is joint training and learns no fast adaptation.
        meta_rate: ε in (0, 1], or a schedule of it, as ``linear(1.0, 0.0, updates)``; 1 forgets θ.

    Raises:
        ConfigError: a setting is out of range.

    Source:
        Nichol, Achiam & Schulman (2018), arXiv:1803.02999, Algorithm 2 (batched version).
    """
    if inner_steps < 1 or not (callable(meta_rate) or 0 < meta_rate <= 1):
        raise ConfigError(f"reptile: got {inner_steps=}, {meta_rate=}; wanted inner_steps >= 1, 0 < meta_rate <= 1")
    inner = inner or sgd(0.01)

    def losses(phi: Phi, of: Examples) -> torch.Tensor:
        return task_mean(task_loss(model.apply(phi, of.x), of.y), of.mask)  # [T]

    slope = gradient(lambda phi, of: losses(phi, of).sum())

    def adapt(_theta: Theta, phi: Phi, support: Examples) -> Phi:
        memory = inner.start(phi)
        for k in range(inner_steps):
            phi, memory = inner.step(phi, slope(phi, support), memory, k)
        return phi

    def predict(_theta: Theta, phi: Phi, x: torch.Tensor) -> Predictive:
        return Predictive(model.apply(phi, x))

    def loss(theta: Theta, tasks: TaskBatch) -> torch.Tensor:
        """What is left after adapting; to be looked at, the update does not descend it."""
        phi = adapt(theta, expand(theta, tasks.query.x.shape[0]), tasks.support)
        return losses(phi, tasks.query).mean()

    def begin(theta: Theta) -> OuterState:
        zero = torch.zeros((), device=next(iter(theta.values())).device)
        return OuterState(theta, {}, {}, 0, zero, zero)

    @torch.no_grad()
    def update(state: OuterState, tasks: TaskBatch) -> OuterState:
        every = joined(tasks.support, tasks.query)
        ends = adapt(state.theta, expand(state.theta, every.x.shape[0]), every)
        pull = {name: phi.mean(0) - state.theta[name] for name, phi in ends.items()}
        accepted = torch.stack([p.isfinite().all() for p in pull.values()]).all()
        step = meta_rate(state.updates) if callable(meta_rate) else meta_rate
        theta = {name: p + torch.where(accepted, step * pull[name], 0) for name, p in state.theta.items()}
        after = losses(ends, every).mean()
        return OuterState(theta, {}, {}, state.updates + 1, state.refused + ~accepted, after)

    return Learner(model.init, expand, predict, adapt, loss, begin, update)
