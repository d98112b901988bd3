"""A partition's last labelled events, of all its tasks: what an expert with a long memory looks back at.

Column 0 is the task as a number in [0, 1) made from its tag, so that it is the same in every process; then come the raw
features, NaN where one is missing.
"""

from dataclasses import dataclass

import numpy as np

from streammeta.meta.base import Floats

__all__ = ["LEAST", "MOST", "Ring"]

LEAST, MOST = 1024, 4096  # events


@dataclass(slots=True)
class Ring:
    """One partition's."""

    x: Floats  # [N, 1 + D]
    y: Floats  # [N]
    count: int = 0  # events ever learned; the last is in place (count - 1) % N

    @classmethod
    def empty(cls, features: int) -> "Ring":
        """Without an event."""
        return cls(np.full((LEAST, 1 + features), np.nan, np.float32), np.zeros(LEAST, np.float32))

    def lengthen(self) -> None:
        """Have twice the places, when as many events were learned as there are."""
        size = len(self.y)
        self.x = np.pad(self.x, ((0, size), (0, 0)), constant_values=np.nan)
        self.y = np.pad(self.y, (0, size))

    def widen(self, features: int) -> None:
        """Be wide enough for so many features."""
        missing = 1 + features - self.x.shape[1]
        if missing > 0:
            self.x = np.pad(self.x, ((0, 0), (0, missing)), constant_values=np.nan)
