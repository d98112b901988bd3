"""What is known of each partition, beyond its tasks: it goes where the partition goes, and lies in a snapshot.

Experts, the pool of their opinions, intervals and common rewards each know something of partitions. Each offers
``OfPartitions``; ``Partitions`` has them all, and is the only one who asks them one after the other.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

__all__ = ["Arrays", "OfPartitions", "Partitions", "Renumbering"]

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]  # as saved, or from elsewhere


class Renumbering(NamedTuple):
    """The numbers here of features and classes that were numbered elsewhere, and which experts there were."""

    slots: npt.NDArray[np.int64]  # -1: no capacity
    classes: npt.NDArray[np.int64]
    same: bool  # all are what they were
    experts: Sequence[str] = ()


@runtime_checkable
class OfPartitions(Protocol):
    """Knows something of each partition, of all its tasks."""

    @property
    def partitions(self) -> Sequence[int]:
        """Of which it knows something."""

    def partition(self, number: int) -> dict[str, npt.NDArray[Any]]:
        """What it knows of a partition, as arrays from which ``take_partition`` makes the same; nothing: no arrays."""

    def take_partition(self, number: int, arrays: Arrays, here: Renumbering, at: str) -> None:
        """Know this of a partition.

        Args:
            number: of the partition.
            arrays: as of ``partition``; of others, too.
            here: what the engine that gave them numbered otherwise.
            at: where they come from.

        Raises:
            SnapshotError: they are damaged; the text begins with ``at``.
        """

    def forget_task(self, partition: int, task: str) -> None:
        """Know nothing of a task's events any more."""

    def forget_partition(self, number: int) -> None:
        """The partition is another process's."""


class Partitions:
    """All that is known of partitions, as one.

    Args:
        parts: who knows something; no two have an array of the same name.
    """

    def __init__(self, parts: Sequence[OfPartitions]) -> None:
        self.parts = tuple(parts)

    def __bool__(self) -> bool:
        """Whether anything can be known."""
        return bool(self.parts)

    def of(self, number: int) -> dict[str, npt.NDArray[Any]]:
        """What is known of a partition, as arrays from which ``take`` makes the same."""
        return {name: array for part in self.parts for name, array in part.partition(number).items()}

    def take(self, number: int, arrays: Arrays, here: Renumbering, at: str) -> None:
        """Know this of a partition; see ``OfPartitions.take_partition``."""
        for part in self.parts:
            part.take_partition(number, arrays, here, at)

    def forget_task(self, partition: int, task: str) -> None:
        """Let what is known of a partition hold nothing of a task's events."""
        for part in self.parts:
            part.forget_task(partition, task)

    def forget(self, number: int) -> None:
        """The partition is another process's."""
        for part in self.parts:
            part.forget_partition(number)

    def dump(self) -> dict[str, npt.NDArray[Any]]:
        """What is known of all partitions, as arrays NAME@NUMBER from which ``load`` makes the same."""
        numbers = sorted({number for part in self.parts for number in part.partitions})
        return {f"{name}@{number}": array for number in numbers for name, array in self.of(number).items()}

    def load(self, arrays: Arrays, here: Renumbering, at: str) -> None:
        """Know nothing but what ``dump`` described, which may lie among other arrays; raises SnapshotError."""
        for part in self.parts:
            for number in tuple(part.partitions):
                part.forget_partition(number)
        for number, found in _by_partition(arrays).items():
            self.take(number, found, here, at)


def _by_partition(arrays: Arrays) -> dict[int, dict[str, npt.NDArray[Any]]]:
    """The arrays NAME@NUMBER of each partition by their names; others are left.

    >>> _by_partition({"a.x@2": [1], "b.y@2": [2], "b.x@13": [3], "a.z": [4], "theta.@w": [5]})
    {2: {'a.x': [1], 'b.y': [2]}, 13: {'b.x': [3]}}
    """
    found: dict[int, dict[str, npt.NDArray[Any]]] = {}
    for name, array in arrays.items():
        own, _, number = name.rpartition("@")
        if own and number.isascii() and number.isdigit():
            found.setdefault(int(number), {})[own] = array
    return found
