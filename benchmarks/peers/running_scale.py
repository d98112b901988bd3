"""A running StandardScaler over arrays, for learners that River's own does not fit."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["RunningScale"]

Floats: TypeAlias = NDArray[np.float64]


class RunningScale:
    """Mean and variance of each column so far (Welford)."""

    def __init__(self, width: int) -> None:
        self._count = 0
        self._mean: Floats = np.zeros(width)
        self._squares: Floats = np.zeros(width)

    @property
    def spread(self) -> Floats:
        """Standard deviations; 1 where nothing varied yet."""
        spread = np.sqrt(self._squares / max(self._count, 1))
        return np.where(spread > 0, spread, 1.0)

    def learn(self, x: Floats) -> None:
        """Take in one row."""
        self._count += 1
        step = x - self._mean
        self._mean = self._mean + step / self._count
        self._squares = self._squares + step * (x - self._mean)

    def scaled(self, x: Floats) -> Floats:
        """The row in units of its spread."""
        return (x - self._mean) / self.spread

    def unscaled(self, z: Floats) -> Floats:
        """The row that scales to this."""
        return z * self.spread + self._mean
