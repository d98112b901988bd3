"""How often to meta-update: often while θ gains by it or the world changes, seldom while it is steady.

Two things are listened to:

* **The loss of meta-updates**, each of the θ it began with, on segments drawn again. Means over several updates are
  compared with the ones before: where they differ by more than chance, for better or worse, there is something to learn
  and the interval halves; where not, it doubles.
* **The prequential loss of every label.** Where its recent mean jumps above the usual one, a concept that θ served well
  has changed, and the interval is the shortest again. Without that, a stream whose θ had come to rest noticed a new
  concept thousands of events later.

Where the stream has no tags, θ has one task to serve, and it is there: it begins, and goes on after a jump, with some
updates in a hurry, four times as often. With tags that would fit θ to the few tasks that are there. Figures are in
benchmarks/README.md.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from streammeta.engine.snapshot import saved_array

__all__ = ["Rhythm"]

_UPDATES = 48  # losses in a mean
_CHANCE = 2.0  # standard errors that two means may differ by while nothing changes
_HURRY = 4  # times shorter than the shortest interval, if it may stretch so much
_FIRST, _AFTER_JUMP = 100, 60  # meta-updates in a hurry
_NOW, _USUAL = 64, 1000  # labels that the recent mean loss and the usual one look back on
_BASELINE_LABELS = 200  # labels after which the usual loss is known
_JUMP = 4.5  # standard errors of the recent mean by which it must exceed the usual one
_WILDEST = 5.0  # standard deviations beyond which a single loss counts no more
_LEAST_SPREAD = 0.05  # nats; losses that hardly vary are not judged more finely


class Rhythm:
    """The events between two meta-updates, from ``shortest`` to ``stretch`` times that; less in a hurry.

    Args:
        shortest: events, ≥ 1.
        stretch: ≥ 1; 1: the interval is ``shortest``, always.

    >>> rhythm = Rhythm(shortest=4, stretch=8)
    >>> for _ in range(192):
    ...     rhythm.observe_meta_loss(0.5)
    >>> rhythm.interval
    32
    >>> for loss in [0.5] * 1000 + [2.0] * 20:
    ...     rhythm.observe_label_loss(loss)
    >>> rhythm.interval
    4
    """

    def __init__(self, shortest: int, stretch: int) -> None:
        self._shortest, self._longest = shortest, shortest * stretch
        self._hurried = max(shortest // min(stretch, _HURRY), 1)
        self._interval = shortest
        self._losses: list[float] = []
        self._before: tuple[float, float] | None = None  # mean and its variance of the losses before these
        self._alone = False
        self._left = 0  # meta-updates in a hurry to come
        self._rebaseline(0.0, 0.0)

    @property
    def interval(self) -> int:
        """The events until the next meta-update."""
        return self._hurried if self._left else self._interval

    def begin_alone(self) -> None:
        """The first event has come, and it has no tag: all will be of one task."""
        self._alone, self._left = True, _FIRST

    def observe_label_loss(self, loss: float) -> None:
        """A label had this loss; what is not finite is ignored."""
        if not math.isfinite(loss):
            return
        self._observed += 1
        known, variance = self._observed > _BASELINE_LABELS, max(self._variance, _LEAST_SPREAD**2)
        gap = loss - self._usual
        if known and gap * gap > _WILDEST**2 * variance:
            gap = math.copysign(_WILDEST * math.sqrt(variance), gap)
        self._now += (self._usual + gap - self._now) / min(self._observed, _NOW)
        share = 1 / min(self._observed, _USUAL)
        self._usual += share * gap
        self._variance += share * (gap * gap - self._variance)
        excess = self._now - self._usual
        if known and excess > 0 and excess * excess > _JUMP**2 * variance / (2 * _NOW):
            # a mean that forgets over n labels varies as one over 2n
            self._rebaseline(self._now, self._variance)
            self._interval = self._shortest
            self._left = _AFTER_JUMP if self._alone else 0
            self._losses, self._before = [], None

    def observe_meta_loss(self, loss: float) -> None:
        """A meta-update found this loss; what is not finite is ignored."""
        self._left = max(self._left - 1, 0)
        if not math.isfinite(loss):
            return
        self._losses.append(loss)
        if len(self._losses) < _UPDATES:
            return
        mean, variance = _mean(self._losses)
        if self._before is not None:
            gap = abs(mean - self._before[0])
            changed = gap > _CHANCE * math.sqrt(variance + self._before[1])
            interval = self._interval // 2 if changed else self._interval * 2
            self._interval = min(max(interval, self._shortest), self._longest)
        self._before, self._losses = (mean, variance), []

    def dump(self) -> dict[str, npt.NDArray[np.float64]]:
        """Arrays from which ``load`` makes the same."""
        before = [] if self._before is None else [self._before]
        losses = np.array(self._losses, np.float64)
        observed = [
            self._now,
            self._usual,
            self._variance,
            float(self._observed),
            float(self._left),
            float(self._alone),
        ]
        return {
            "rhythm.interval": np.array([float(self._interval)]),
            "rhythm.before": np.array(before, np.float64).reshape(-1, 2),
            "rhythm.losses": losses,
            "rhythm.observed": np.array(observed),
        }

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Become what ``dump`` described, as far as the settings allow; else SnapshotError, and nothing changes."""
        losses = saved_array(arrays, "rhythm.losses", (None,), np.float64)
        before = saved_array(arrays, "rhythm.before", (None, 2), np.float64)
        interval = saved_array(arrays, "rhythm.interval", (1,), np.float64)
        counts = saved_array(arrays, "rhythm.observed", (6,), np.float64)
        self._losses = losses.tolist()
        self._before = (float(before[0, 0]), float(before[0, 1])) if len(before) else None
        self._interval = min(max(int(interval[0]), self._shortest), self._longest)
        self._now, self._usual, self._variance, observed, left, alone = counts.tolist()
        self._observed, self._left, self._alone = int(observed), int(left), bool(alone)

    def _rebaseline(self, usual: float, variance: float) -> None:
        """From now on this is the usual loss, until labels say more."""
        self._now = self._usual = usual
        self._variance = variance
        self._observed = 0


def _mean(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and the variance of that mean."""
    mean = sum(values) / len(values)
    return mean, sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values)
