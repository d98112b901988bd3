"""Whether one θ predicts better than another: on newest labelled events, that neither was learned from.

A candidate is set aside with how many labels each task had then. What comes later is held out from it, and judges it:
the prequential loss of those labels under either θ, after the same earlier events of their tasks, compared in pairs.
"""

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from streammeta.engine.buffer import as_encoded
from streammeta.engine.columns import Columns
from streammeta.engine.scale import FrameScale, seen_window
from streammeta.meta.base import Episodes, Gradient, Ints, Kind, Theta

__all__ = ["LEAST_JUDGED", "Trial", "Verdict", "is_enough", "judged", "newest_episodes", "trial", "verdict"]

LEAST_JUDGED: Final = 64  # newest labels by which a candidate is judged
_PARTS = 8  # into which scored events are cut, for an error of the mean gap
_ERRORS, _LEAST_GAP = 2.0, 0.005  # standard errors and nats; a candidate that is worse by both is worse


class Trial(NamedTuple):
    """What a candidate and the version before lost on the same newest events."""

    scored: int  # events
    lost: npt.NDArray[np.float64]  # [P, 2] mean of each part of them: the candidate's, the other's


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


def is_enough(labels: int, scored: int) -> bool:
    """Whether a candidate can be judged by ``labels`` newest ones, of which ``scored`` count."""
    return labels >= LEAST_JUDGED and scored >= LEAST_JUDGED / 2


def trial(gradient: Gradient, candidate: Theta, before: Theta, episodes: Episodes, members: int) -> Trial:
    """What either θ loses on these episodes [1, N, L, D]; each member judges on all of them."""
    scored = np.flatnonzero(episodes.scored[0])
    losses = np.zeros((min(_PARTS, scored.size), 2))
    for number, part in enumerate(np.array_split(scored, len(losses)) if scored.size else ()):
        mask = np.zeros(episodes.scored[0].size, np.float32)
        mask[part] = 1
        masked = mask.reshape(episodes.scored[0].shape)
        here = np.flatnonzero(masked.any(1))
        shown = (episodes.x[0, here], episodes.y[0, here], episodes.valid[0, here], masked[here])
        one = Episodes(*(np.ascontiguousarray(np.broadcast_to(a, (members, *a.shape))) for a in shown))
        losses[number] = [gradient(theta, one, "cpu")[0] for theta in (candidate, before)]
    return Trial(int(scored.size), losses)


def judged(trials: Sequence[Trial], labels: int) -> Verdict | None:
    """The verdict of trials in several processes, on newest labels; None where there are too few of these."""
    return verdict(trials) if is_enough(labels, sum(one.scored for one in trials)) else None


def verdict(trials: Sequence[Trial]) -> Verdict:
    """Whether a candidate is worse, from what it lost in one process or in several; each part counts by its events.

    Where numbers are not finite, or the candidate's loss is clearly higher, it is worse. The error of the mean gap is
    that of a mean of parts of unequal size (a ratio estimator: Cochran 1977, section 6.4).
    """
    trials = [one for one in trials if one.scored]
    events = np.concatenate([np.full(len(one.lost), one.scored / len(one.lost)) for one in trials])
    weights, lost = events / events.mean(), np.concatenate([one.lost for one in trials])
    loss, loss_before = (float(one) for one in np.mean(lost * weights[:, None], 0))
    gaps = lost[:, 0] - lost[:, 1]
    gap = float(np.mean(gaps * weights))
    off = (gaps - gap) * weights
    error = math.sqrt(float((off**2).sum()) / (len(off) - 1) / len(off)) if len(off) > 1 else math.inf
    is_worse = not math.isfinite(loss) or (gap > _LEAST_GAP and gap > _ERRORS * error)
    return Verdict(loss, loss_before, sum(one.scored for one in trials), is_worse)
