"""Conjugate gradient for many tasks at once: what an implicit gradient and a Newton step ask for.

A vector is a dict of tensors whose leading dimension counts tasks, like the weights it belongs to; a matrix is the
function that multiplies by it, and no task's vector may touch another's.

Source: Hestenes & Stiefel (1952); stopped where the matrix bends downwards, as Steihaug (1983) does.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch

from streammeta.meta.learner import Phi

__all__ = ["Linear", "beside", "conjugate_gradient"]

Linear: TypeAlias = Callable[[Phi], Phi]


def conjugate_gradient(matrix: Linear, b: Phi, steps: int) -> Phi:
    """x with matrix(x) ≈ b, for each task by itself: the leading dimension of all tensors counts tasks."""

    def dot(a: Phi, c: Phi) -> torch.Tensor:
        return torch.stack([(a[n] * c[n]).flatten(1).sum(1) for n in a]).sum(0)  # [T]

    def along(a: Phi, size: torch.Tensor, c: Phi) -> Phi:
        return {n: a[n] + beside(size, c[n]) * c[n] for n in a}

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


def beside(each: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """One number a task [T], so shaped that it goes with p [T, ...]."""
    return each.view(-1, *(1,) * (p.dim() - 1))
