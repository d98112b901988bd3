"""What the actions of several decisions are expected to earn, all at once: arrays over decisions N and actions K."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from streammeta.engine.scale import SCALE_ROWS, SPREAD, Doubles, Fixed, FrameScale, seen_features, split, units
from streammeta.meta.base import Floats, Ints
from streammeta.meta.exact.event_kernel import score_values

__all__ = ["Scores", "score"]

_Columns: TypeAlias = Mapping[str, npt.NDArray[Any]]


class Scores(NamedTuple):
    """What N decisions' K actions are expected to earn, in the rewards' unit."""

    means: Doubles  # [N, K]
    doubts: Doubles  # [N, K] variances of those means, without the rewards' own noise
    spreads: Doubles  # [N] standard deviation of the rewards; ∞ before it is known


def score(fixed: Fixed, columns: _Columns, rows: Ints, exact: Doubles) -> Scores:
    """Expected rewards.

    Args:
        fixed: θ and the shared scale.
        columns: of the task table.
        rows: of each decision's actions [N, K]; −1: nothing was learned of it yet.
        exact: raw features [N, 1, D] that all actions of a decision share, or [N, K, D].

    """
    seen = _seen(fixed.frame, columns, rows, exact)
    mean, doubt = score_values(fixed.weights, columns, rows, seen)
    shift, spread = units(fixed.frame, _of_rows(columns["scale.y"], rows))
    known = fixed.frame.shared.y_known[0]
    return Scores(
        shift + spread * mean, spread * spread * doubt, spread.max(1) if known else np.full(len(rows), np.inf)
    )


def _of_rows(column: npt.NDArray[Any], rows: Ints) -> npt.NDArray[Any]:
    """A column's values for these rows; zeros for −1."""
    found = np.zeros((*rows.shape, *column.shape[1:]), column.dtype)
    known = rows >= 0
    found[known] = column[rows[known]]
    return found


def _seen(frame: FrameScale, columns: _Columns, rows: Ints, exact: Doubles) -> Floats:
    """Features as the heads see them [N, 1 or K, inputs]: K where a task has views of its own, or actions differ."""
    scale = columns["scale.x"]
    N, K, S, D = *rows.shape, *exact.shape[1:]
    if frame.own.size and scale[rows[rows >= 0], SPREAD].any():
        views, S = _of_rows(scale, rows).reshape(N * K, *scale.shape[1:]), K
        exact = np.broadcast_to(exact, (N, K, D))
    else:
        views = np.zeros((1, SCALE_ROWS, scale.shape[2]), scale.dtype)
    high, low = split(np.ascontiguousarray(exact).reshape(N * S, D), frame.own)
    of = np.arange(N * S) if len(views) > 1 else np.zeros(N * S, np.int64)
    return seen_features(frame, {"scale.x": views}, of, high, low).reshape(N, S, -1)
