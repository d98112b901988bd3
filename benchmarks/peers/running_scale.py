"""A running StandardScaler over arrays, for learners that River's own does not fit."""

import numpy as np

__all__ = ["RunningScale"]


class RunningScale:
    """Mean and variance of each column so far (Welford)."""

    def __init__(self, width: int) -> None:
        self._count = 0
        self._mean, self._squares = np.zeros(width), np.zeros(width)

    @property
    def spread(self) -> np.ndarray:
        """Standard deviations; 1 where nothing varied yet."""
        spread = np.sqrt(self._squares / max(self._count, 1))
        return np.where(spread > 0, spread, 1.0)

    def learn(self, x: np.ndarray) -> None:
        """Take in one row."""
        self._count += 1
        step = x - self._mean
        self._mean = self._mean + step / self._count
        self._squares = self._squares + step * (x - self._mean)

    def scaled(self, x: np.ndarray) -> np.ndarray:
        """The row in units of its spread."""
        return (x - self._mean) / self.spread

    def unscaled(self, z: np.ndarray) -> np.ndarray:
        """The row that scales to this."""
        return z * self.spread + self._mean
