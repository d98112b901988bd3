"""What actions are expected to earn, many at once: arrays over decisions N and actions K."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from streammeta.engine.columns import Columns
from streammeta.engine.common_rewards import Expected
from streammeta.engine.scale import SCALE_ROWS, SPREAD, Doubles, Fixed, FrameScale, seen_features, split, units
from streammeta.meta.base import Ints
from streammeta.meta.exact.event_kernel import Few, score_values
from streammeta.native import _kernels as kernels

__all__ = ["ActionSlots", "Scores", "blend", "score", "seen_choices", "seen_table"]


class ActionSlots(NamedTuple):
    """The slots that K actions have beside those of events."""

    named: Ints  # [K] of the action itself; −1: none
    crossed: Ints  # [K, D] of each feature under the action; −1: none


class Scores(NamedTuple):
    """What N decisions' K actions are expected to earn, in the rewards' unit."""

    means: Doubles  # [N, K]
    doubts: Doubles  # [N, K] variances of those means, without the rewards' own noise
    spreads: Doubles  # [N] standard deviation of the rewards; ∞ before it is known
    floors: Doubles  # [N] what any action earns at least, as far as rewards say; −∞ before their unit is known
    ceilings: Doubles  # [N] likewise at most; ∞


def score(fixed: Fixed, columns: Columns, rows: Ints, seen: Few) -> Scores:
    """Expected rewards.

    Args:
        fixed: θ and the shared scale.
        columns: of the task table.
        rows: of each decision's actions [N, K]; −1: nothing was learned of it yet.
        seen: what each of these heads sees [N · K].

    """
    mean, doubt = score_values(fixed.weights, columns, rows.reshape(-1), seen)
    shift, spread = units(fixed.frame, _of_rows(columns["scale.y"], rows))
    means, doubts = shift + spread * mean.reshape(rows.shape), spread * spread * doubt.reshape(rows.shape)
    if not fixed.frame.shared.y_known[0]:
        unknown = np.full(len(rows), np.inf)
        return Scores(means, doubts, unknown, -unknown, unknown)
    least, greatest = np.empty((2, rows.size))
    kernels.target_range(columns["window_y"], columns["window_count"], rows.reshape(-1), least, greatest)
    floors = np.minimum(least.reshape(rows.shape), shift - spread).min(1)
    ceilings = np.maximum(greatest.reshape(rows.shape), shift + spread).max(1)
    return Scores(means, doubts, spread.max(1), floors, ceilings)


def blend(scores: Scores, expected: Expected | None) -> Scores:
    """What heads expect together with what is expected in any task, each by its precision.

        w = v / (v + u + s²)      mean ← (1 − w) mean + w m      v ← (1 − w) v

    v is the variance of a head's mean, u that of the mean m of all tasks, and s² the mean of its squared errors, taken
    for the variance by which a task differs from all of them: so m counts for as much as one reward of the task does.
    Source: Lindley & Smith (1972), Bayes estimates for the linear model. Of s², a third and a tenth of it the whole was
    best.
    """
    if expected is None:
        return scores
    doubts = scores.doubts
    total = doubts + expected.doubts + expected.noise
    weight = np.divide(doubts, total, out=np.zeros_like(doubts), where=total > 0)
    return scores._replace(means=(1 - weight) * scores.means + weight * expected.means, doubts=(1 - weight) * doubts)


def _of_rows(column: npt.NDArray[Any], rows: Ints) -> npt.NDArray[Any]:
    """A column's values for these rows; zeros for −1."""
    if rows.min(initial=0) >= 0:
        return column[rows]
    found = np.zeros((*rows.shape, *column.shape[1:]), column.dtype)
    known = rows >= 0
    found[known] = column[rows[known]]
    return found


def seen_table(frame: FrameScale, columns: Columns, rows: Ints, exact: Doubles) -> Few:
    """What heads see of raw features.

    Args:
        frame: the scale in force.
        columns: of the task table.
        rows: of each head [M]; −1: nothing was learned of it yet.
        exact: raw features [M, D]; NaN is missing.
    """
    scale = columns.scale_x
    if frame.own.size and scale[rows[rows >= 0], SPREAD].any():
        views, of = _of_rows(scale, rows), np.arange(len(rows))
    else:
        views, of = np.zeros((1, SCALE_ROWS, scale.shape[2]), scale.dtype), np.zeros(len(rows), np.int64)
    seen = seen_features(frame, Columns({"scale.x": views}), of, *split(np.ascontiguousarray(exact), frame.own))
    which, column = np.nonzero(~np.isnan(seen))
    starts = np.zeros(len(rows) + 1, np.int64)
    np.cumsum(np.bincount(which, minlength=len(rows)), out=starts[1:])
    return Few(starts, np.ascontiguousarray(column), seen[which, column])


def seen_choices(frame: FrameScale, columns: Columns, rows: Ints, exact: Doubles, slots: ActionSlots) -> Few:
    """What the heads of K actions see of events, each with the action itself and features crossed with it.

    Args:
        frame: the scale in force.
        columns: of the task table.
        rows: of each event's actions [N, K]; −1: nothing was learned of it yet.
        exact: raw features [N, D]; NaN is missing.
        slots: of these actions.

    Returns:
        [N · K] as ``seen_table`` of those features would.
    """
    N, K = rows.shape
    most = (2 * np.count_nonzero(~np.isnan(exact)) + N) * K * (2 if frame.own.size else 1)
    starts, column = np.empty(N * K + 1, np.int64), np.empty(most, np.int64)
    seen, shared = np.empty(most, np.float32), frame.shared
    scale = shared.shift, shared.gain, frame.own, frame.beside
    count = kernels.see_choices(exact, slots.crossed, slots.named, rows, columns.scale_x, *scale, starts, column, seen)
    return Few(starts, column[:count], seen[:count])
