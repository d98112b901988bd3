"""Whether one θ predicts better than another: on newest labelled events, that neither was learned from.

A candidate is set aside with how many labels each task had then. What comes later is held out from it, and judges it:
the prequential loss of those labels under either θ, after the same earlier events of their tasks, compared in pairs.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from streammeta.engine.buffer import as_encoded
from streammeta.engine.columns import Columns
from streammeta.engine.scale import FrameScale, seen_window
from streammeta.meta.base import Episodes, Gradient, Ints, Kind, Theta

__all__ = ["Verdict", "compare", "newest_episodes"]

_PARTS = 8  # into which scored events are cut, for an error of the mean gap
_ERRORS, _LEAST_GAP = 2.0, 0.005  # standard errors and nats; a candidate that is worse by both is worse


class Verdict(NamedTuple):
    """How a candidate did beside the version before, on the same events."""

    loss: float  # mean negative log-likelihood
    loss_before: float
    events: int  # scored
    is_worse: bool


def newest_episodes(
    columns: Columns,
    rows: Ints,
    fresh: Sequence[int],
    frame: FrameScale,
    *,
    length: int,
    kind: Kind,
) -> Episodes:
    """The last events of each of these tasks, of which only those that came last are scored.

    Args:
        columns: of the task table.
        rows: of the tasks [N].
        fresh: of each, how many of its last labelled events are to be scored [N].
        frame: the scale.
        length: L, labelled events in a segment.
        kind: of prediction.

    Returns:
        Episodes [1, N, L, D].
    """
    size = columns.window_size
    kept = np.minimum(np.minimum(columns.window_count[rows], size), length)
    scored_from = np.maximum(kept - np.array(fresh, np.int64), 0)
    at = np.arange(length)
    places = (columns.window_count[rows, None] - kept[:, None] + at) % size
    seen, each = seen_window(columns, rows, frame), np.arange(rows.size)[:, None]
    xs, ys = as_encoded(seen.x[each, places]), seen.y[each, places]
    is_there = (at < kept[:, None]) & ~np.isnan(ys)
    xs[~is_there], ys[~is_there] = 0, 0
    valid = is_there.astype(np.float32)
    targets: npt.NDArray[Any] = ys.astype(np.int64) if kind == "classification" else ys
    scored = (valid * (at >= scored_from[:, None])).astype(np.float32)
    return Episodes(xs[None], targets[None], valid[None], scored[None])


def compare(gradient: Gradient, candidate: Theta, before: Theta, episodes: Episodes, members: int) -> Verdict:
    """Judge a candidate on these episodes [1, N, L, D], beside the version before; each member judges on all of them.

    Where numbers are not finite, or the candidate's loss is clearly higher, it is worse.
    """
    scored = np.flatnonzero(episodes.scored[0])
    gaps, losses = [], []
    for part in np.array_split(scored, min(_PARTS, scored.size)):
        mask = np.zeros(episodes.scored[0].size, np.float32)
        mask[part] = 1
        masked = mask.reshape(episodes.scored[0].shape)
        here = np.flatnonzero(masked.any(1))
        shown = (episodes.x[0, here], episodes.y[0, here], episodes.valid[0, here], masked[here])
        one = Episodes(*(np.ascontiguousarray(np.broadcast_to(a, (members, *a.shape))) for a in shown))
        ours, theirs = (gradient(theta, one, "cpu")[0] for theta in (candidate, before))
        losses.append((ours, theirs))
        gaps.append(ours - theirs)
    loss, loss_before = (float(one) for one in np.mean(losses, 0))
    gap = float(np.mean(gaps))
    error = float(np.std(gaps, ddof=1)) / math.sqrt(len(gaps)) if len(gaps) > 1 else math.inf
    is_worse = not math.isfinite(loss) or (gap > _LEAST_GAP and gap > _ERRORS * error)
    return Verdict(loss, loss_before, int(scored.size), is_worse)
