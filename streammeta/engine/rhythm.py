"""How often to meta-update: often while θ gains by it or the world changes, seldom while it is steady.

Every meta-update tells the loss of the θ it began with, on segments drawn anew. Means over so many updates are
compared with the ones before: where they differ by more than chance, for better or worse, there is something to learn
and the interval halves; where not, it doubles.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Rhythm"]

_UPDATES = 48  # losses in a mean
_CHANCE = 2.0  # standard errors that two means may differ by while nothing changes


class Rhythm:
    """The events between two meta-updates, from ``shortest`` to ``stretch`` times that.

    >>> rhythm = Rhythm(shortest=4, stretch=8)
    >>> for _ in range(192):
    ...     rhythm.tell(0.5)
    >>> rhythm.interval
    32
    """

    def __init__(self, shortest: int, stretch: int) -> None:
        self._shortest, self._longest = shortest, shortest * stretch
        self._losses: list[float] = []
        self._before: tuple[float, float] | None = None  # mean and its variance of the losses before these
        self.interval = shortest

    def tell(self, loss: float) -> None:
        """A meta-update found this loss; what is not finite tells nothing."""
        if not math.isfinite(loss):
            return
        self._losses.append(loss)
        if len(self._losses) < _UPDATES:
            return
        mean, variance = _mean(self._losses)
        if self._before is not None:
            gap = abs(mean - self._before[0])
            changed = gap > _CHANCE * math.sqrt(variance + self._before[1])
            self.interval = self.interval // 2 if changed else self.interval * 2
            self.interval = min(max(self.interval, self._shortest), self._longest)
        self._before, self._losses = (mean, variance), []

    def dump(self) -> dict[str, npt.NDArray[np.float64]]:
        """Arrays from which ``load`` makes the same."""
        before = [] if self._before is None else [self._before]
        losses = np.array(self._losses, np.float64)
        return {
            "rhythm.interval": np.array([float(self.interval)]),
            "rhythm.before": np.array(before, np.float64).reshape(-1, 2),
            "rhythm.losses": losses,
        }

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Become what ``dump`` described, as far as the settings allow."""
        self._losses = arrays["rhythm.losses"].tolist()
        before: list[list[float]] = arrays["rhythm.before"].tolist()
        self._before = (before[0][0], before[0][1]) if before else None
        self.interval = min(max(int(arrays["rhythm.interval"][0]), self._shortest), self._longest)


def _mean(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and the variance of that mean."""
    mean = sum(values) / len(values)
    return mean, sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values)
