"""What a meta-learning method is: a tuple of pure functions over visible state, batched over tasks.

    θ (theta)  what all tasks share and what is meta-learned: a dict of named tensors
    φ (phi)    the fast state of T tasks: a dict of tensors, each with leading dimension T

    init(generator) → θ              start(θ, T) → φ              predict(θ, φ, x) → Predictive
    adapt(θ, φ, examples) → φ        loss(θ, tasks) → scalar      begin(θ) → state      update(state, tasks) → state

No function changes its arguments, keeps anything, or draws a random number; a factory such as ``maml`` closes over the
settings. ``adapt`` takes a whole support set or one event, and may be called again with more. The stream engine has a
row interface of its own (`streammeta.meta.base`), for speed; `streammeta.meta.stream` makes a learner one of those.

Shapes: T tasks, N examples a task, D features, C outputs (classes, or targets of a regression).
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch.nn import functional

__all__ = [
    "Examples",
    "Learner",
    "OuterState",
    "Phi",
    "Predictive",
    "TaskBatch",
    "TaskLoss",
    "Theta",
    "cross_entropy",
    "examples",
    "expand",
    "gradient",
    "huber",
    "joined",
    "moved",
    "named",
    "negative_log_likelihood",
    "part",
    "served",
    "squared_error",
    "targets",
    "task_mean",
]

Theta: TypeAlias = dict[str, torch.Tensor]
Phi: TypeAlias = dict[str, torch.Tensor]
TaskLoss: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (outputs [T, N, C], y) -> [T, N]

_LOG_TWO_PI = 1.8378770664093453


class Examples(NamedTuple):
    """Labelled examples of T tasks."""

    x: torch.Tensor  # [T, N, ...]
    y: torch.Tensor  # [T, N] class index (int64), or [T, N, C] targets
    mask: torch.Tensor  # [T, N] 1 where there is an example, 0 where a task has fewer


class TaskBatch(NamedTuple):
    """Episodes of T tasks: what to adapt on, and what to be judged by."""

    support: Examples
    query: Examples


class Predictive(NamedTuple):
    """What a method says about N examples of T tasks."""

    output: torch.Tensor  # [T, N, C] logits, or the mean of a regression
    variance: torch.Tensor | None = None  # [T, N, C] of a regression, where the method knows it


class OuterState(NamedTuple):
    """θ and what the outer loop remembers; a value, never changed in place."""

    theta: Theta
    memory: dict[str, torch.Tensor]  # of the outer optimizer, and "average.NAME" of an averaged θ
    anchor: Theta  # the earlier θ that a distance penalty pulls to; empty without one
    updates: int
    refused: torch.Tensor  # scalar: updates that were not finite and changed nothing
    loss: torch.Tensor  # scalar: the objective at the last update


class Learner(NamedTuple):
    """A meta-learning method; see the top of this file."""

    init: Callable[[torch.Generator], Theta]
    start: Callable[[Theta, int], Phi]
    predict: Callable[[Theta, Phi, torch.Tensor], Predictive]
    adapt: Callable[[Theta, Phi, Examples], Phi]
    loss: Callable[[Theta, TaskBatch], torch.Tensor]  # the meta-objective, a differentiable scalar
    begin: Callable[[Theta], OuterState]  # θ with an outer loop that has seen nothing
    update: Callable[[OuterState, TaskBatch], OuterState]  # one step of the outer loop


def examples(x: torch.Tensor, y: torch.Tensor) -> Examples:
    """Examples that are all there."""
    return Examples(x, y, torch.ones(x.shape[:2], dtype=torch.get_default_dtype(), device=x.device))


def joined(first: Examples, second: Examples) -> Examples:
    """The examples of both, in that order, along N."""
    return Examples(*(torch.cat([a, b], 1) for a, b in zip(first, second, strict=True)))


def moved(tasks: TaskBatch, where: torch.device | torch.dtype) -> TaskBatch:
    """The same tasks on another device, or as other floats (class indices stay whole numbers)."""

    def move(tensor: torch.Tensor) -> torch.Tensor:
        whole = isinstance(where, torch.dtype) and not tensor.is_floating_point()
        return tensor if whole else tensor.to(where)

    return TaskBatch(*(Examples(*map(move, part)) for part in tasks))


def expand(theta: Theta, tasks: int) -> Phi:
    """θ for each task, without a copy."""
    return {name: p.expand(tasks, *p.shape) for name, p in theta.items()}


def gradient(total: Callable[..., torch.Tensor]) -> Callable[..., Phi]:
    """The gradient of ``total(φ, ...)`` in φ; it can be differentiated in its turn where what it is made of can.

    As torch.func.grad, which takes as long again for networks as small as a sinusoid's; but not inside of torch.func.
    """

    def slope(phi: Phi, *rest: Theta | Examples) -> Phi:
        parts = [phi, *(each for each in rest if isinstance(each, dict))]
        again = torch.is_grad_enabled() and any(p.requires_grad for each in parts for p in each.values())
        with torch.enable_grad():
            at = {n: p if again and p.requires_grad else p.detach().requires_grad_() for n, p in phi.items()}
            slopes = torch.autograd.grad(total(at, *rest), list(at.values()), create_graph=again)
        return dict(zip(phi, slopes, strict=True))

    return slope


def named(prefix: str, parts: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors under PREFIX.NAME."""
    return {f"{prefix}.{name}": p for name, p in parts.items()}


def part(of: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """What stands under PREFIX, by its own names: ``part(named("a", parts), "a") == parts``."""
    return {name.removeprefix(prefix + "."): p for name, p in of.items() if name.startswith(prefix + ".")}


def served(state: OuterState) -> Theta:
    """The θ to use: the average over meta-updates where one is kept, else the last."""
    return part(state.memory, "average") or state.theta


def task_mean(each: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean [T] over a task's examples of ``each`` [T, N]; 0 for a task without any."""
    return (each * mask).sum(1) / mask.sum(1).clamp(min=1)


def targets(y: torch.Tensor, outputs: int, dtype: torch.dtype) -> torch.Tensor:
    """Class indices [T, N] as one-hot rows [T, N, C]; targets of a regression as they are."""
    return y if y.is_floating_point() else functional.one_hot(y, outputs).to(dtype)


def squared_error(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """(output − y)², summed over the outputs of a regression: [T, N]."""
    return (outputs - y).square().sum(-1)


def huber(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """(output − y)², beyond a distance of 1 in a straight line 2|output − y| − 1, summed over the outputs: [T, N]."""
    gap = (outputs - y).abs()
    return torch.where(gap > 1, 2 * gap - 1, gap.square()).sum(-1)


def cross_entropy(outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """−log softmax(logits)[y]: [T, N]."""
    return outputs.logsumexp(-1) - outputs.gather(-1, y.unsqueeze(-1)).squeeze(-1)


def negative_log_likelihood(predictive: Predictive, y: torch.Tensor) -> torch.Tensor:
    """−log p(y): [T, N]. A regression without a variance counts as a Gaussian of variance 1."""
    if not y.is_floating_point():
        return cross_entropy(predictive.output, y)
    variance = torch.ones_like(predictive.output) if predictive.variance is None else predictive.variance
    return 0.5 * ((predictive.output - y).square() / variance + variance.log() + _LOG_TWO_PI).sum(-1)
