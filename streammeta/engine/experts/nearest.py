"""An expert with a long memory: what the nearest of a partition's last thousands of labelled events say.

::

    q(y) ∝ Σ_i 1[y_i = y] / (|z_i − z| + 0.001 √D)      over the seven nearest; of targets, a mean
    |z|² = Σ_d w_d z_d²       w_d ∝ max(others_d / same_d − 1, 0) + 0.05, 1 in the mean

z is the event in spreads of all tasks, cut off at six; what is missing is at the mean, and D counts what is not, but
for features that none of the events in memory has: they say nothing.

A feature's weight is its relevance to labels: same_d is the mean squared distance in it between a labelled event and
those of its seven neighbours that have its label, others_d to those that have not, over the last 500 events or so and
ten more that speak for neither. Of targets the three whose target is nearest to the event's stand for the same label,
the three farthest for others. So irrelevant features soon count little, however many, and those of a concept in which
none is relevant alone (a board) are found as well.

The memory is that of the forest, the last 4,096 events of all tasks of a partition; of events of more than 32 features
the last 131,072 / D are compared, by the first 128 of all features, so that an event costs no more. The events are not
saved: the memory is made again from the forest's, to the bit; relevance is. Smooth heads and trees need many
events for a concept whose classes lie in many small clusters; who remembers them does not (digits, RBF generators,
moving clusters).

Sources: Fix & Hodges (1951); Dudani (1976), the weights of neighbours; Kira & Rendell (1992), Kononenko (1994) and
Robnik-Šikonja & Kononenko (1997), RELIEF, ReliefF and RReliefF, the weights of features; Wettschereck, Aha & Mohri
(1997), that they help neighbours; Losing, Hammer & Wersing (2016), SAM-kNN, that a long memory beside what adapts fast
is worth its cost. Seven was not chosen: it is between that paper's five and River's eleven.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from streammeta.engine.columns import Column
from streammeta.engine.experts.base import Arrays, Case, Cases, Columns, Doubles, Renumbering, alone, ask_alone
from streammeta.engine.experts.forest import Forest
from streammeta.engine.experts.ring import MOST
from streammeta.engine.partitioned import of_partitions, together
from streammeta.engine.scale import SharedScale
from streammeta.errors import SnapshotError
from streammeta.meta.base import Floats, Ints, Kind
from streammeta.native import _kernels as kernels

__all__ = ["Nearest"]

_FEATURES = 128  # by which events are compared, at most
_BLOCK = 32  # events side by side: as nearest.cpp
_MISSING = -0.0  # of a feature, and of an event: as nearest.cpp
_PAIRS = "nearest.pairs"


@dataclass(slots=True)
class _Memory:
    """A partition's events under a scale; see nearest.cpp."""

    scale: SharedScale
    z: Floats  # [4,096 / 32, D, 32]
    y: Floats  # [4,096]
    known: Ints  # [D] of how many of them each feature is known
    count: int


def _wide(pairs: Doubles | None, features: int) -> Doubles:
    """Pairs [3, ...], if there are any, and of more features, of which there are none: [3, features]."""
    known = np.zeros((3, 0)) if pairs is None else pairs
    return np.pad(known, ((0, 0), (0, features - known.shape[1])))


class Nearest:
    """Reads the forest's events; it has to be asked before the forest learns.

    Args:
        kind: of the stream.
        forest: whose rings hold the events.
        scale: the scale of all tasks in force.
    """

    name = "nearest"
    doubt = 0.05
    is_saved = True

    def __init__(self, kind: Kind, forest: Forest, scale: Callable[[], SharedScale]) -> None:
        self._classify, self._forest, self._scale = kind == "classification", forest, scale
        self._of: dict[int, _Memory] = {}  # of partitions
        self._pairs: dict[
            int, Doubles
        ] = {}  # of partitions, [3, D]: of each feature their number, and sums of same_d, others_d

    def layout(self, width: int, outputs: int) -> Mapping[str, Column]:  # noqa: ARG002
        """Nothing of a task: it is of all."""
        return {}

    def predict(self, columns: Columns, case: Case, outputs: int) -> Doubles | None:
        """Class probabilities [C] or the mean [1]; None before the first labels."""
        return ask_alone(self, columns, case, outputs, classify=self._classify)

    def learn(self, columns: Columns, case: Case, y: float) -> None:
        """Learn a class index or a target, before the forest does."""
        self.run(columns, alone(case, y, is_asked=False), 1)

    def run(self, columns: Columns, cases: Cases, outputs: int) -> Doubles:  # noqa: ARG002
        """Predict each event and learn its label, as the forest does after this. See ``OfRuns``."""
        said = np.full((len(cases.tasks), outputs), 0.0 if self._classify else math.nan)
        labels = cases.labels if self._classify else (cases.labels - cases.shift) / cases.spread
        partition = int(cases.partitions[0])
        memory, pairs = self._memory(partition), self._pairs.get(partition)
        if pairs is None or pairs.shape[1] < len(memory.known):
            pairs = _wide(pairs, len(memory.known))
        of = memory.z, memory.y, memory.known, memory.count, pairs
        events = cases.common, memory.scale.shift, memory.scale.gain, labels, cases.asked
        memory.count = kernels.ask_nearest(*of, *events, self._classify, said)
        if pairs[0].any():
            self._pairs[partition] = pairs
        return said if self._classify else cases.shift[:, None] + cases.spread[:, None] * said

    def _memory(self, partition: int) -> _Memory:
        """A partition's events as the forest has them, in the scale of now."""
        known, scale, trees = self._of.get(partition), self._scale(), self._forest.parts.get(partition)
        count, D = (0 if trees is None else trees.ring.count), min(scale.shift.size, _FEATURES)
        if known is not None and known.count == count and known.scale is scale:
            return known
        z, y = np.full((MOST // _BLOCK, D, _BLOCK), _MISSING, np.float32), np.zeros(MOST, np.float32)
        found = self._of[partition] = _Memory(scale, z, y, np.zeros(D, np.int64), count)
        if trees is not None:
            of = trees.ring.x, trees.ring.y, count, scale.shift, scale.gain
            kernels.remember_nearest(*of, found.z, found.y, found.known)
        return found

    def publish_shared(self) -> None:
        """The scale is asked for when it is needed."""

    def dump(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays from which ``load`` makes the same, with the forest's."""
        return together({number: self.partition(number) for number in self.partitions})

    def load(self, arrays: Arrays) -> None:
        """Become what ``dump`` described; the forest's events are read when they are needed."""
        found = of_partitions(arrays, "nearest.")
        self._of, self._pairs = {}, {number: _checked(part[_PAIRS], "a snapshot") for number, part in found.items()}

    @property
    def partitions(self) -> Sequence[int]:
        """Of which something is known of the features' relevance."""
        return sorted(self._pairs)

    def partition(self, number: int) -> dict[str, npt.NDArray[Any]]:
        """What the features' relevance is made of; the events are the forest's."""
        found = self._pairs.get(number)
        return {} if found is None else {_PAIRS: found.copy()}

    def take_partition(self, number: int, arrays: Arrays, here: Renumbering, at: str) -> None:
        """Go on with this, and read the forest's events again; raises SnapshotError where it is damaged.

        Where features have other numbers here, what is known of them goes to their places.
        """
        self.forget_partition(number)
        if _PAIRS not in arrays:
            return
        found = _checked(arrays[_PAIRS], at)
        if not here.same:
            if found.shape[1] > len(here.slots):
                raise SnapshotError(f"{at}: neighbours of {found.shape[1]} features: its schema has {len(here.slots)}")
            slots = here.slots[: found.shape[1]]
            kept = np.flatnonzero((slots >= 0) & (slots < _FEATURES))
            moved = np.zeros((3, int(slots[kept].max(initial=-1)) + 1))
            moved[:, slots[kept]] = found[:, kept]
            found = moved
        self._pairs[number] = found

    def forget_task(self, partition: int, task: str) -> None:  # noqa: ARG002
        """Read the partition's events again; relevance begins again, for sums cannot unlearn."""
        self.forget_partition(partition)

    def forget_partition(self, number: int) -> None:
        """Its events go with it, and the features' relevance."""
        self._of.pop(number, None)
        self._pairs.pop(number, None)


def _checked(pairs: npt.NDArray[Any], at: str) -> Doubles:
    """Pairs [3, D]; raises SnapshotError, which begins with ``at``, where no neighbours make them."""
    fits = pairs.dtype == np.float64 and pairs.ndim == 2 and pairs.shape[0] == 3 and pairs.shape[1] <= _FEATURES
    if not fits or not np.isfinite(pairs).all() or (pairs < 0).any() or (pairs[1:, pairs[0] == 0] > 0).any():
        raise SnapshotError(f"{at}: distances of neighbours that no events have: they are damaged")
    return pairs.copy()
