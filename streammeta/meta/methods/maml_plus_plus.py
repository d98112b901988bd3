"""MAML++: MAML with the repairs that make it train steadily."""

from collections.abc import Callable
from itertools import pairwise

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
    named,
    part,
    task_mean,
)
from streammeta.meta.objective import Outer, begin, descend_in_stages
from streammeta.meta.optimizer import adam, cosine
from streammeta.model import Model

__all__ = ["maml_plus_plus"]


def maml_plus_plus(
    model: Model,
    task_loss: TaskLoss,
    *,
    inner_rate: float = 0.01,
    inner_steps: int = 5,
    multi_step_updates: int = 1_500,
    first_order_updates: int = 0,
    updates: int = 15_000,
    outer: Outer | None = None,
) -> Learner:
    """MAML whose query loss counts after every inner step, with a learned rate for each layer and step.

        φ₀ = θ        φₖ = φₖ₋₁ − α[layer, k] ∇ L(φₖ₋₁, support)        minimize  mean over tasks of Σₖ wₖ L(φₖ, query)

    w begins uniform and moves to (0, …, 0, 1) over the first ``multi_step_updates``. The paper's batch statistics per
    step are left out: networks here normalize each example by itself.

    Args:
        model: the network; θ is its weights and the rates α.
        task_loss: (outputs, y) -> [T, N].
        inner_rate: where every α begins.
        inner_steps: K ≥ 1.
        multi_step_updates: meta-updates until only the last step's loss counts.
        first_order_updates: meta-updates at the start without second derivatives (derivative-order annealing).
        updates: meta-updates in all, for the cosine of the default outer rate.
        outer: how θ is learned; by default Adam with a rate that falls from 0.001 to 0.00001 along a cosine.

    Raises:
        ConfigError: a setting is out of range.

    Source:
        Antoniou, Edwards & Storkey (2019), arXiv:1810.09502, section 4.
    """
    if inner_steps < 1 or not inner_rate > 0:
        raise ConfigError(f"maml++: got {inner_steps=}, {inner_rate=}; wanted inner_steps >= 1, inner_rate > 0")
    outer = outer or Outer(adam(cosine(1e-3, 1e-5, updates)))

    def init(generator: torch.Generator) -> Theta:
        weights = model.init(generator)
        rates = {name: torch.full((inner_steps,), inner_rate) for name in weights}
        return named("weight", weights) | named("rate", rates)

    def losses(phi: Phi, of: Examples) -> torch.Tensor:
        return task_mean(task_loss(model.apply(phi, of.x), of.y), of.mask)  # [T]

    slope = gradient(lambda phi, of: losses(phi, of).sum())

    def path(theta: Theta, phi: Phi, support: Examples, *, first_order: bool = False) -> list[Phi]:
        """φ after each of the K steps."""
        rates, steps = part(theta, "rate"), [phi]
        for k in range(inner_steps):
            at = {name: p.detach() for name, p in steps[-1].items()} if first_order else steps[-1]
            slopes = slope(at, support)
            steps.append({name: p - rates[name][k] * slopes[name] for name, p in steps[-1].items()})
        return steps[1:]

    def loss_at(made: int) -> Callable[[Theta, TaskBatch], torch.Tensor]:
        progress = min(made / multi_step_updates, 1.0) if multi_step_updates else 1.0
        early = (1 - progress) / inner_steps  # the weight of every step but the last

        def loss(theta: Theta, tasks: TaskBatch) -> torch.Tensor:
            phi = start(theta, tasks.query.x.shape[0])
            steps = path(theta, phi, tasks.support, first_order=made < first_order_updates)
            total = (1 - early * (inner_steps - 1)) * losses(steps[-1], tasks.query).mean()
            for earlier, _ in pairwise(steps) if early else ():
                total = total + early * losses(earlier, tasks.query).mean()
            return total

        return loss

    def start(theta: Theta, tasks: int) -> Phi:
        return expand(part(theta, "weight"), tasks)

    def predict(_theta: Theta, phi: Phi, x: torch.Tensor) -> Predictive:
        return Predictive(model.apply(phi, x))

    def adapt(theta: Theta, phi: Phi, support: Examples) -> Phi:
        return path(theta, phi, support)[-1]

    at_the_end = max(multi_step_updates, first_order_updates)
    update = descend_in_stages(loss_at, outer)
    return Learner(init, start, predict, adapt, loss_at(at_the_end), begin(outer), update)
