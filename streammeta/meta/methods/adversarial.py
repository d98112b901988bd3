"""Adversarial meta-learning: adapt so that small, well-chosen changes of the input do not change the answer."""

from typing import Literal

import torch

from streammeta.errors import ConfigError
from streammeta.meta.learner import Examples, Learner, Phi, TaskBatch, Theta, negative_log_likelihood
from streammeta.meta.objective import Outer, begin, descend

__all__ = ["adversarial", "attacked"]


def adversarial(
    base: Learner,
    *,
    radius: float,
    arms: Literal["query", "crossed"] = "query",
    steps: int = 1,
    outer: Outer | None = None,
) -> Learner:
    """Any learner, meta-trained on attacked examples.

        query (AQ):      minimize  L(adapt(support), attacked query)
        crossed (ADML):  minimize  ½ L(adapt(support), attacked query) + ½ L(adapt(attacked support), query)

    Args:
        base: the learner; its ``loss`` is what is made robust, how it adapts and predicts stays as it is.
        radius: ε, the largest change of a number in x.
        arms: which of the two.
        steps: 1 is FGSM, more are PGD.
        outer: how θ is learned; by default Adam with 0.001. (The base's own ``update`` is not used.)

    Raises:
        ConfigError: a setting is out of range.

    Sources:
        AQ: Goldblum, Fowl & Goldstein (2020), arXiv:1910.00982, Algorithm 3; ADML: Yin, Tang, Xu & Wang (2018),
        arXiv:1806.03316, Algorithm 1, its two arms crossed.
    """
    if not radius > 0 or steps < 1:
        raise ConfigError(f"adversarial: got {radius=}, {steps=}; wanted radius > 0, steps >= 1")
    outer = outer or Outer()

    def loss(theta: Theta, tasks: TaskBatch) -> torch.Tensor:
        frozen = {name: p.detach() for name, p in theta.items()}  # the attacker's moves are data, not a path to θ
        fresh = base.start(frozen, tasks.query.x.shape[0])
        adapted = {name: p.detach() for name, p in base.adapt(frozen, fresh, tasks.support).items()}
        hard_query = attacked(base, frozen, adapted, tasks.query, radius=radius, steps=steps)
        robust = base.loss(theta, tasks._replace(query=hard_query))
        if arms == "query":
            return robust
        hard_support = attacked(base, frozen, fresh, tasks.support, radius=radius, steps=steps)
        return 0.5 * robust + 0.5 * base.loss(theta, tasks._replace(support=hard_support))

    return base._replace(loss=loss, begin=begin(outer), update=descend(loss, outer))


def attacked(base: Learner, theta: Theta, phi: Phi, of: Examples, *, radius: float, steps: int) -> Examples:
    """The examples, moved within ``radius`` (each number of x) to where the learner's loss is larger.

    One step is FGSM, x + ε sign ∇ₓ L; more are PGD, each of length 2ε/steps and cut back to the radius.
    """

    def harm(x: torch.Tensor) -> torch.Tensor:
        return (negative_log_likelihood(base.predict(theta, phi, x), of.y) * of.mask).sum()

    size = radius if steps == 1 else 2 * radius / steps
    x = of.x
    for _ in range(steps):
        uphill = torch.func.grad(harm)(x).sign()
        x = of.x + (x + size * uphill - of.x).clamp(-radius, radius)
    return of._replace(x=x.detach())
