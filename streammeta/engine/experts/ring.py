"""A partition's last labelled events, of all its tasks: what experts with a long memory share.

Column 0 is the task as a number in [0, 1) made from its tag, so that it is the same in every process; then come the raw
features, NaN where one is missing.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from streammeta.engine.experts.base import Case
from streammeta.meta.base import Floats

__all__ = ["Ring", "Rings", "as_number"]

_SIZE = 4096  # events


@dataclass(slots=True)
class Ring:
    """One partition's."""

    x: Floats  # [N, 1 + D]
    y: Floats  # [N]
    count: int = 0  # events ever pushed; the last is in place (count - 1) % N

    def widen(self, features: int) -> None:
        """Be wide enough for so many features."""
        missing = 1 + features - self.x.shape[1]
        if missing > 0:
            self.x = np.pad(self.x, ((0, 0), (0, missing)), constant_values=np.nan)


class Rings:
    """Of all partitions."""

    def __init__(self, size: int = _SIZE) -> None:
        self.size = size
        self.parts: dict[int, Ring] = {}

    def __iter__(self) -> Iterator[int]:
        return iter(self.parts)

    def of(self, case: Case) -> Ring:
        """Of the event's partition, wide enough for its features."""
        ring = self.parts.get(case.partition)
        if ring is None:
            empty = np.full((self.size, 1 + case.x.size), np.nan, np.float32)
            ring = self.parts[case.partition] = Ring(empty, np.zeros(self.size, np.float32))
        ring.widen(case.x.size)
        return ring

    def push(self, case: Case, y: float) -> None:
        """Remember a labelled event."""
        ring = self.of(case)
        at = ring.count % self.size
        ring.x[at] = self.row(case, ring)
        ring.y[at] = y
        ring.count += 1

    def row(self, case: Case, ring: Ring) -> Floats:
        """An event [1 + D] as the ring has it."""
        row = np.full(ring.x.shape[1], np.nan, np.float32)
        row[0] = as_number(case.task)
        width = min(case.x.size, row.size - 1)
        row[1 : 1 + width] = case.x[:width]
        return row


def as_number(task: str) -> float:
    """A tag as a number in [0, 1), the same in every process."""
    return zlib.crc32(task.encode()) / 2.0**32
