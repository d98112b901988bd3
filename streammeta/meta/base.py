"""What every meta-learning method offers: a tuple of functions over visible state.

θ (theta) is shared by all tasks and meta-learned: a dict of named tensors. φ (phi) is the fast state of the tasks: a
dict of named arrays whose leading dimension counts task rows. The engine owns φ; a method's ``adapt``, ``restart`` and
``rebuild`` write into the rows they are given, and into nothing else.

Shapes: N rows or events, D features, C outputs (classes, or 1 for regression), L events a segment, B segments.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

__all__ = [
    "Episodes",
    "Floats",
    "Ints",
    "Kind",
    "MetaState",
    "Method",
    "Phi",
    "Response",
    "Scaling",
    "Segment",
    "Theta",
    "Work",
]

Floats: TypeAlias = npt.NDArray[np.float32]
Ints: TypeAlias = npt.NDArray[np.int64]
Kind: TypeAlias = Literal["classification", "regression"]
Response: TypeAlias = Literal["mix", "reset"]
Theta: TypeAlias = dict[str, torch.Tensor]
Phi: TypeAlias = dict[str, npt.NDArray[Any]]


class Scaling(NamedTuple):
    """Affine normalization, fixed between two changes of θ: (value − shift) · gain."""

    shift: Floats  # [D]
    gain: Floats  # [D]; 1 for categories
    y_shift: float  # 0 for classes
    y_spread: float  # 1 for classes


class Episodes(NamedTuple):
    """Segments of consecutive labelled events of one task each, for a meta-update."""

    x: torch.Tensor  # [B, L, D] normalized
    y: torch.Tensor  # [B, L] class index (int64), or normalized target (float32)
    valid: torch.Tensor  # [B, L] 1 where there is an event, 0 where the segment is shorter
    scored: torch.Tensor  # [B, L] 1 where the loss counts; 0 in a burn-in


class Segment(NamedTuple):
    """Labelled events of one task, oldest first."""

    x: Floats  # [n, D] raw
    y: Floats  # [n] class index, or raw target
    since: int  # how many of the last ones came after the task's last drift


class Work(NamedTuple):
    """What ``predict`` found, kept for ``adapt`` so that nothing is computed twice."""

    mean: Floats  # [N, C] class probabilities, or [N, 1] predictive mean
    variance: Floats  # [N] predictive variance; zeros for classes
    kept: tuple[Floats, ...]  # what the method needs again, each [N, ...]

    def of(self, which: Sequence[int]) -> "Work":
        """The same for some of the events."""
        return Work(self.mean[which], self.variance[which], tuple(part[which] for part in self.kept))


class MetaState(NamedTuple):
    """θ with what the outer optimizer remembers; a value, never changed in place."""

    theta: Theta
    first: Theta  # running mean of gradients
    second: Theta  # running mean of squared gradients
    updates: int


class Method(NamedTuple):
    """A meta-learning method for the stream."""

    init: Callable[[], Theta]  # θ for no features and no outputs yet
    grow: Callable[
        [Theta, Sequence[int], int], Theta
    ]  # (θ, fan-in of each feature [D], C) -> θ for so many; the rest as is
    phi_layout: Callable[[int], Mapping[str, tuple[tuple[int, ...], type[np.generic]]]]  # (C) -> name: shape, dtype
    compile: Callable[[Theta, Scaling], Any]  # θ as the event path reads it
    predict: Callable[[Any, Phi, Ints, Floats, int], Work]  # (weights, φ, rows, x [N, D], C)
    adapt: Callable[[Any, Phi, Ints, Work, Floats], None]  # (weights, φ, rows, work, y [N])
    restart: Callable[[Any, Phi, Ints, Response], None]  # the law of these tasks changed
    rebuild: Callable[[Any, Phi, int, Segment, int], None]  # (weights, φ, row, the task's window, C)
    loss: Callable[[Theta, Episodes], torch.Tensor]  # the meta-objective, a differentiable scalar
    gradient: Callable[[Theta, Episodes], tuple[torch.Tensor, Theta]]  # its value and its gradient, as fast as can be
