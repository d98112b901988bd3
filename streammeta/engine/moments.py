"""Running moments as sums: each partition keeps its own, and added up they are those of all events that anybody saw.

``Moments`` (counts, mean, sum of squared deviations) are of features [D] or of the target [1]; ``Crowd`` says how wide
features are within one task, over tasks. Both are values: nothing here changes its arguments. ``Sums`` holds them for
one partition. A member keeps ``Sums`` for each of its partitions, publishes them, and reads everybody's::

    total(sums[partition] for partition in sorted(sums))

The order of addition is part of the contract: members that add in the order of the partitions' numbers get the same
bits. Columns are slots of one process: ``renumbered`` turns sums of another order of slots into sums of this one.

Source: Chan, Golub & LeVeque (1983), Algorithms for computing the sample variance, equations 2.1 (the sum of two).
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "Crowd",
    "Moments",
    "Sums",
    "added",
    "mean_and_spread",
    "no_sums",
    "renumbered",
    "total",
    "wider",
]

Doubles: TypeAlias = npt.NDArray[np.float64]
_FLATTEST = 1e-12  # of the mean: a standard deviation below that is rounding


class Moments(NamedTuple):
    """Of D numbers, each observed as often as ``counts`` says (forgotten after 20,000 observations)."""

    counts: Doubles  # [D]
    mean: Doubles  # [D]
    squares: Doubles  # [D] sum of squared deviations from the mean


class Crowd(NamedTuple):
    """How widely D numbers are spread within one task: sums over the tasks looked at, each at its last look."""

    tasks: Doubles  # [D] how many
    log_spread: Doubles  # [D] sum of the natural logarithms of their standard deviations
    misfits: Doubles  # [D] how many of them have a scale that the shared one does not fit


class Sums(NamedTuple):
    """What one partition's events say of the scale of D features and of the target."""

    features: Moments  # [D]
    target: Moments  # [1]
    crowd: Crowd  # [D]
    target_crowd: Crowd  # [1]

    def dump(self) -> dict[str, Doubles]:
        """Four arrays [3, ·] by name, from which ``Sums.load`` makes the same."""
        return {name: np.stack(part) for name, part in self._asdict().items()}

    @classmethod
    def load(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> "Sums":
        """What ``dump`` described; the arrays are copied. Raises KeyError or TypeError for others."""
        copied = {name: np.array(arrays[name], np.float64) for name in cls._fields}
        moments = (Moments(*copied["features"]), Moments(*copied["target"]))
        return cls(*moments, Crowd(*copied["crowd"]), Crowd(*copied["target_crowd"]))


def no_sums(features: int) -> Sums:
    """Of ``features`` slots, before any event."""
    zeros = np.zeros((3, features)), np.zeros((3, 1))
    return Sums(Moments(*zeros[0]), Moments(*zeros[1]), Crowd(*zeros[0]), Crowd(*zeros[1]))


def added(one: Moments, other: Moments) -> Moments:
    """The moments of both sets of values together; exact where either is empty. Both are of D numbers."""
    count = one.counts + other.counts
    share = other.counts / np.maximum(count, 1)
    gap = np.where((one.counts > 0) & (other.counts > 0), other.mean - one.mean, 0.0)
    mean = np.where(one.counts > 0, one.mean + share * gap, other.mean)
    return Moments(count, mean, one.squares + other.squares + gap * gap * one.counts * share)


def total(parts: Iterable[Sums]) -> Sums:
    """All of them added up, in the order given; of as many features as the widest."""
    every = list(parts)
    features = max((one.features.counts.size for one in every), default=0)
    found = no_sums(features)
    for one in (wider(one, features) for one in every):
        found = Sums(
            added(found.features, one.features),
            added(found.target, one.target),
            Crowd(*(a + b for a, b in zip(found.crowd, one.crowd, strict=True))),
            Crowd(*(a + b for a, b in zip(found.target_crowd, one.target_crowd, strict=True))),
        )
    return found


def wider(sums: Sums, features: int) -> Sums:
    """The same for at least ``features`` slots; the new ones have seen nothing."""
    more = features - sums.features.counts.size
    if more <= 0:
        return sums
    crowd = Crowd(*(np.pad(part, (0, more)) for part in sums.crowd))
    return sums._replace(features=Moments(*(np.pad(part, (0, more)) for part in sums.features)), crowd=crowd)


def renumbered(sums: Sums, slots: npt.NDArray[np.int64], features: int) -> Sums:
    """Sums of another order of slots, in ours.

    Args:
        sums: of the other order; slots beyond those that it knows have seen nothing.
        slots: the slot here of each slot there; −1: there is none.
        features: how many there are here.
    """
    wide = wider(sums, slots.size)
    kept = np.flatnonzero(slots >= 0)

    def moved(part: Doubles) -> Doubles:
        found = np.zeros(features)
        found[slots[kept]] = part[kept]
        return found

    features_here, crowd = Moments(*map(moved, wide.features)), Crowd(*map(moved, wide.crowd))
    return sums._replace(features=features_here, crowd=crowd)


def mean_and_spread(moments: Moments) -> tuple[Doubles, Doubles]:
    """Mean [D] and standard deviation [D]; 0 where nothing is known, or where it is no more than rounding."""
    spread = np.sqrt(moments.squares / np.maximum(moments.counts, 1))
    return moments.mean, np.where(spread <= _FLATTEST * np.abs(moments.mean), 0.0, spread)
