"""Central intervals of targets, recalibrated online: after every label they are a little wider, or narrower.

::

    lower = μ − z σ exp(w − l)        w = w_partition + w_task        z: of a standard Gaussian, at the level wanted
    upper = μ + z σ exp(w + l)        l = l_partition + l_task

    w ← w + rate · (outside − (1 − level))        l ← l + rate · (above − below)        a task's own decay towards 0
    rate of a partition's w: the larger of 0.01 and 1 / √n at its n-th label

μ and σ are those of the prediction, so an interval has the target's unit. ``w`` follows the share of labels outside:
over T labels at a steady rate it is within |w_T − w_0| / (rate · T) of what is wanted, whatever the stream does (Gibbs
& Candès 2021, Adaptive conformal inference under distribution shift; here on the logarithm of the width, which has no
unit and keeps it above zero). ``l`` leans the interval until as many labels lie above as below. What a partition
learns, new tasks begin with; what a task learns of its own is kept only as far as its labels insist.

**A late label** is held against the interval as it was written for its event, which waits with it: so the bound holds
for what readers had. Its step is at most 1.5 / d where d events of the partition came since. Else many labels that come
at once, each of an interval that was too narrow, would each widen it again, and its width would swing with the delay.
Intervals of events that were predicted before the first label came are guesses, and teach nothing.
"""

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from streammeta.engine.columns import Column, Columns
from streammeta.engine.partitioned import Arrays, Renumbering
from streammeta.errors import SnapshotError
from streammeta.meta.base import Ints
from streammeta.native import _kernels as kernels

__all__ = ["COLUMNS", "Bounds", "Intervals", "Issued", "check_intervals"]

Bounds: TypeAlias = tuple[float, float]  # lower and upper, in the target's unit
Issued: TypeAlias = tuple[float, float, float]  # the same, and how many events of the partition came before
Doubles: TypeAlias = npt.NDArray[np.float64]

COLUMNS: Final = {"interval.task": Column((2,), np.float64)}  # w and l of a task; where there are intervals only
_OF_TASKS, _OF_PARTITION = "interval.task", "interval.partition"
# Chosen on the suite's half "tune" and on generated streams: coverage hardly depends on them, widths a little
_PARTITION_RATE, _FIRST_RATE, _PARTITION_LEAN = 0.01, 1.0, 0.01
_TASK_RATE, _TASK_LEAN, _TASK_DECAY = 0.05, 0.02, 0.99
_MOST_GAIN = 1.5
_WIDEST = 20.0  # logarithm of the most by which an interval is wider than the Gaussian's


class Intervals:
    """The intervals of one level.

    Args:
        level: the share of labels that are to lie inside, in (0, 1).
    """

    def __init__(self, level: float) -> None:
        self.level = level
        quantile = NormalDist().inv_cdf(0.5 + level / 2)
        self._rule = np.array(
            [
                *(quantile, 1 - level, _PARTITION_RATE, _FIRST_RATE, _PARTITION_LEAN),
                *(_TASK_RATE, _TASK_LEAN, _TASK_DECAY, _MOST_GAIN),
            ]
        )
        self._places: dict[int, int] = {}  # of each partition, in ``_partitions``
        self._partitions = np.zeros((0, 5))  # w, l, labels, events, those before the first label

    def run(
        self,
        columns: Columns,
        rows: Ints,
        partitions: Sequence[int],
        predicted: tuple[Doubles, Doubles],
        labels: Doubles,
        bounds: Doubles,
    ) -> None:
        """Predict the interval of each event and learn its label, in this order.

        Args:
            columns: of the task table; those of these tasks change.
            rows: of each event's task [N].
            partitions: of each event [N]; below zero: another member's, which has no interval here.
            predicted: means and variances [N].
            labels: [N]; NaN: there is none.
            bounds: [N, 3] lower, upper, and the events of the partition before, filled where they are NaN; else they
                were predicted before, as of a late label.
        """
        for number in partitions:
            if number >= 0 and number not in self._places:
                self._add(number, np.zeros(5))
        places = np.array([self._places.get(number, -1) for number in partitions], np.int64)
        mean, variance = (np.ascontiguousarray(one) for one in predicted)
        kernels.run_intervals(
            mean, variance, labels, rows, places, self._rule, columns[_OF_TASKS], self._partitions, bounds
        )

    def predict(self, columns: Columns, row: int, partition: int, mean: float, variance: float) -> Bounds:
        """The interval of one event; nothing changes."""
        place = self._places.get(partition)
        known = np.zeros((1, 5)) if place is None else self._partitions[place : place + 1].copy()
        bounds, one = np.full((1, 3), np.nan), np.array([np.nan])
        prediction = np.array([mean]), np.array([variance])
        at = np.array([row], np.int64), np.zeros(1, np.int64)
        kernels.run_intervals(*prediction, one, *at, self._rule, columns[_OF_TASKS], known, bounds)
        return float(bounds[0, 0]), float(bounds[0, 1])

    # -- what is known of partitions -----------------------------------------------------------------------------------

    @property
    def partitions(self) -> list[int]:
        """Of which it has intervals."""
        return sorted(self._places)

    def partition(self, number: int) -> dict[str, Doubles]:
        """What is known of a partition, as an array from which ``take_partition`` makes the same."""
        place = self._places.get(number)
        return {} if place is None else {_OF_PARTITION: self._partitions[place].copy()}

    def take_partition(self, number: int, arrays: Arrays, here: Renumbering, at: str) -> None:  # noqa: ARG002
        """Know this of a partition; raises SnapshotError, which begins with ``at``, where it cannot be."""
        found = arrays.get(_OF_PARTITION)
        if found is None:
            return
        fits = found.shape == (5,) and found.dtype == np.float64 and bool(np.isfinite(found).all())
        if not fits or (np.abs(found[:2]) > _WIDEST).any() or (found[2:] < 0).any():
            raise SnapshotError(f"{at}: intervals of a partition that has none such: it is damaged")
        self.forget_partition(number)
        self._add(number, found)

    def forget_task(self, partition: int, task: str) -> None:
        """Nothing: the widths of a whole partition hold nothing of a task's events."""

    def forget_partition(self, number: int) -> None:
        """The partition is another process's."""
        place = self._places.pop(number, None)
        if place is not None:
            self._partitions = np.delete(self._partitions, place, axis=0)
            self._places = {one: at - (at > place) for one, at in self._places.items()}

    def _add(self, number: int, known: Doubles) -> None:
        self._places[number] = len(self._partitions)
        self._partitions = np.concatenate([self._partitions, known[None]])


def check_intervals(found: Mapping[str, npt.NDArray[Any]], at: str) -> None:
    """Refuse rows [N, ...] from elsewhere whose intervals cannot be; raises SnapshotError."""
    offsets = found.get(_OF_TASKS)
    if offsets is not None and not (np.isfinite(offsets) & (np.abs(offsets) <= _WIDEST)).all():
        raise SnapshotError(f"{at}: a row with {_OF_TASKS} that no task has: it is damaged")
