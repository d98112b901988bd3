"""Who is ahead where: mean ranks with the distance that is significant, wins, and the worst regret.

A learner's error on a stream is the mean over seeds of its best wiring, which is generous to peers: they need not know
beforehand whether one model for all tasks or one a task is better. Source: Demšar (2006), Statistical comparisons of
classifiers over multiple data sets (Friedman's test, Nemenyi's critical difference).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata, studentized_range

from benchmarks.suite.results import Line

__all__ = ["Ranking", "errors_of", "rank"]

_ALPHA = 0.05
_MOST_ABSENT = 0.25  # of the streams of its kind; a learner with more is left out of ranks
_AHEAD_BY = 1e-9


@dataclass(frozen=True)
class Ranking:
    """Learners on the streams that all of them ran on."""

    learners: list[str]  # the best mean rank first
    streams: list[str]
    mean_ranks: dict[str, float]
    critical: float  # difference of mean ranks that is significant at 5 %
    wins: dict[str, int]  # streams on which nobody is better
    regrets: dict[str, dict[str, float]]  # by learner and stream: distance to the best other one; below 0: ahead


def errors_of(lines: Sequence[Line]) -> Mapping[str, Mapping[str, float]]:
    """By stream and learner, the error of the best wiring."""
    sums: dict[tuple[str, str, str], list[float]] = {}
    for line in lines:
        sums.setdefault((line.stream, line.learner, line.wiring), []).append(line.error)
    found: dict[str, dict[str, float]] = {}
    for (stream, learner, _), errors in sums.items():
        before = found.setdefault(stream, {}).get(learner, float("inf"))
        found[stream][learner] = min(before, float(np.mean(errors)))
    return found


def rank(errors: Mapping[str, Mapping[str, float]], *, relative: bool) -> Ranking | None:
    """Compare all learners over these streams.

    Args:
        errors: by stream and learner.
        relative: regrets are per cent of the best one's error (for targets), not points.

    Returns:
        None where fewer than two learners or no streams are left.
    """
    streams = [stream for stream, of in errors.items() if len(of) > 1]
    counts = Counter(learner for stream in streams for learner in errors[stream])
    learners = [name for name, count in counts.items() if count >= (1 - _MOST_ABSENT) * len(streams)]
    if len(learners) < 2 or not streams:
        return None
    table = np.array([[errors[stream].get(learner, np.inf) for learner in learners] for stream in streams])
    ranks = np.apply_along_axis(rankdata, 1, table).mean(axis=0)
    order = np.argsort(ranks, kind="stable")
    return Ranking(
        [learners[k] for k in order],
        streams,
        dict(zip(learners, ranks.tolist(), strict=True)),
        _critical_difference(len(learners), len(streams)),
        {learner: int((table[:, k] <= table.min(axis=1) + _AHEAD_BY).sum()) for k, learner in enumerate(learners)},
        {
            learner: {stream: _regret(table[i], k, relative=relative) for i, stream in enumerate(streams)}
            for k, learner in enumerate(learners)
        },
    )


def _critical_difference(learners: int, streams: int) -> float:
    quantile = float(studentized_range.ppf(1 - _ALPHA, learners, np.inf)) / np.sqrt(2)
    return float(quantile * np.sqrt(learners * (learners + 1) / (6 * streams)))


def _regret(errors: npt.NDArray[np.float64], k: int, *, relative: bool) -> float:
    best = float(np.delete(errors, k).min())
    if not np.isfinite(errors[k]):
        return float("inf")
    return float(100 * (errors[k] - best) / max(best, 1e-12)) if relative else float(errors[k] - best)
