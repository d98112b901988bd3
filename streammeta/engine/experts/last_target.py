"""An expert for targets that persist: the task's last target is said again, where that has come near.

It speaks of a partition's tasks while their last target was nearer to the next one than their mean (over some 50
labels) was, more often than not: v / (n + 4) > 1/2, of v such among n labels, both forgetting 0.995. In any order of
targets the mean is nearer, and it says nothing; in a walk or a slow curve the last one is, of a new task as well. It
counts labels and not squares, so neither a unit nor an absurd number decides. How far its word is trusted, in each
task, is the mixture's: its variance is that of its own errors.

A late label is counted after the label before it; the mixture judges what was said when the event came. Source: the
naive forecast, against which others are scaled (Hyndman & Koehler 2006, MASE), as an expert under a sign test.
"""

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from streammeta.engine.columns import Column
from streammeta.engine.experts.base import ByRuns, Cases, Columns, Doubles
from streammeta.engine.partitioned import Arrays, Renumbering
from streammeta.errors import SnapshotError
from streammeta.native import _kernels as kernels

__all__ = ["LastTarget"]

# the share of labels to which the last one has to be nearer; labels that count for the mean before any has come; what
# a partition's counts keep with each label; labels that a task's mean looks back on
_RULE = np.array([0.5, 4.0, 0.995, 50.0])
_NEARER, _LAST = "persistence.nearer", "last.target"


class LastTarget(ByRuns):
    """How often the last target was near is a partition's; the last target and the mean lie in the task's row."""

    name = "persistence"
    doubt = 0.0
    is_saved = True
    classify = False

    def __init__(self) -> None:
        self._parts: dict[int, Doubles] = {}  # [2]: labels to which the last one was nearer, labels; forgetting

    def layout(self, width: int, outputs: int) -> Mapping[str, Column]:  # noqa: ARG002
        """How many targets a task had, the last one, and their mean."""
        return {_LAST: Column((3,), np.float64)}

    def run(self, columns: Columns, cases: Cases, outputs: int) -> Doubles:  # noqa: ARG002
        """Predict each event and learn its target; see ``OfRuns``."""
        said, number = np.empty(len(cases.tasks)), int(cases.partitions[0])
        known = self._parts.get(number, np.zeros(2))
        if not np.isnan(cases.labels).all():
            self._parts[number] = known
        kernels.follow_targets(known, _RULE, columns[_LAST], cases.rows, cases.labels, cases.asked, said)
        return said[:, None]

    @property
    def partitions(self) -> list[int]:
        """Of which it has counts."""
        return sorted(self._parts)

    def partition(self, number: int) -> dict[str, npt.NDArray[np.float64]]:
        """What is known of a partition, as arrays from which ``take_partition`` makes the same."""
        known = self._parts.get(number)
        return {} if known is None else {_NEARER: known.copy()}

    def take_partition(self, number: int, arrays: Arrays, here: Renumbering, at: str) -> None:  # noqa: ARG002
        """Go on with these counts; raises SnapshotError where they are damaged."""
        if _NEARER in arrays:
            self._parts[number] = _counts(arrays[_NEARER], at)

    def forget_task(self, partition: int, task: str) -> None:  # noqa: ARG002
        """Begin the partition's counts again: they have no task in them by name, and are soon as good."""
        self._parts.pop(partition, None)

    def forget_partition(self, number: int) -> None:
        """Its counts go with it."""
        self._parts.pop(number, None)


def _counts(found: npt.NDArray[np.generic], at: str) -> Doubles:
    """A partition's counts from elsewhere; raises SnapshotError where they are none."""
    counts = np.array(found, np.float64)
    if found.dtype != np.float64 or counts.shape != (2,) or not 0 <= counts[0] <= counts[1] < math.inf:
        raise SnapshotError(f"{at}: {counts.tolist()!r:.100} labels to which the last one was nearer: it is damaged")
    return counts
