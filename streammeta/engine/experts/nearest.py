"""An expert with a long memory: what the nearest of a partition's last thousands of labelled events say.

::

    q(y) = Σ_m v_m q_m(y)                               v_m ∝ exp(ℓ_m)      ℓ_m ← 0.95 ℓ_m + log(q_m(y) + 0.02)
    q_m(y) ∝ Σ_i 1[y_i = y] / (|z_i − z| + 0.001 √D)    over the seven nearest of length m; of targets, a mean
    |z|² = Σ_d w_d z_d²                                 w_d ∝ max(others_d / same_d − 1, 0) + 0.05, 1 in the mean

z is the event in spreads of all tasks, cut off at six; what is missing is at the mean, and D counts what is not, but
for features that none of the events in memory has: they say nothing.

**Lengths of the memory.** Neighbours are looked for in the last 128, 256, 512 and 1,024 events, and in all. Each length
counts by how well it predicted some twenty labels lately: in a steady concept all events help, after a drift those
before it mislead. Of targets v_m ∝ e_m⁻¹⁰, with e_m the sum of its squared errors, forgotten by 0.95.

**Relevance of features.** same_d is the mean squared distance in feature d between a labelled event and those of its
seven neighbours that have its label, others_d to those that have not, over the last 500 events or so and ten more that
speak for neither; the neighbours are those of the best length. Of targets the three whose target is nearest to the
event's stand for the same label, the three farthest for others. So irrelevant features soon count little, however many,
and those of a concept in which none is relevant alone (a board) are found as well.

The memory is that of the forest, the last 4,096 events of all tasks of a partition; of events of more than 32 features
the last 131,072 / D are compared, by the first 128 of all features, so that an event costs no more. The events are not
saved: the memory is made again from the forest's, to the bit; what labels teach is. Smooth heads and trees need many
events for a concept whose classes lie in many small clusters; who remembers them does not (digits, RBF generators,
moving clusters).

Sources: Fix & Hodges (1951); Dudani (1976), the weights of neighbours; Kira & Rendell (1992), Kononenko (1994) and
Robnik-Šikonja & Kononenko (1997), RELIEF, ReliefF and RReliefF, the weights of features; Wettschereck, Aha & Mohri
(1997), that they help neighbours; Losing, Hammer & Wersing (2016), SAM-kNN, that a long memory beside a short one is
worth its cost. Seven was not chosen: it is between that paper's five and River's eleven.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from streammeta.engine.experts.base import ByRuns, Cases, Columns, Doubles
from streammeta.engine.experts.forest import Forest
from streammeta.engine.experts.ring import MOST
from streammeta.engine.partitioned import Arrays, Renumbering
from streammeta.engine.scale import SharedScale
from streammeta.errors import SnapshotError
from streammeta.meta.base import Floats, Ints, Kind
from streammeta.native import _kernels as kernels

__all__ = ["Nearest"]

_FEATURES = 128  # by which events are compared, at most
_BLOCK = 32  # events side by side: as nearest.cpp
_MISSING = -0.0  # of a feature, and of an event: as nearest.cpp
_LEARNED = "nearest.learned"  # [5 + 3 D]: the lengths' evidence, and pairs
_LENGTHS = 5  # of the memory: as nearest.cpp


@dataclass(slots=True)
class _Memory:
    """A partition's events under a scale; see nearest.cpp."""

    scale: SharedScale
    z: Floats  # [4,096 / 32, D, 32]
    y: Floats  # [4,096]
    known: Ints  # [D] of how many of them each feature is known
    count: int


class _Learned(NamedTuple):
    """What a partition's labels teach, beside the events; the arrays change in place."""

    pairs: Doubles  # [3, 128] of each feature: their number, sums of same_d and of others_d
    lengths: Doubles  # [5] ℓ_m; of targets e_m

    @classmethod
    def nothing(cls) -> "_Learned":
        """Before the first label."""
        return cls(np.zeros((3, _FEATURES)), np.zeros(_LENGTHS))


class Nearest(ByRuns):
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
        self.classify, self._forest, self._scale = kind == "classification", forest, scale
        self._of: dict[int, _Memory] = {}  # of partitions
        self._learned: dict[int, _Learned] = {}  # of partitions

    def run(self, columns: Columns, cases: Cases, outputs: int) -> Doubles:  # noqa: ARG002
        """Predict each event and learn its label, as the forest does after this. See ``OfRuns``."""
        said = np.full((len(cases.tasks), outputs), 0.0 if self.classify else math.nan)
        labels = cases.labels if self.classify else (cases.labels - cases.shift) / cases.spread
        partition = int(cases.partitions[0])
        memory, learned = self._memory(partition), self._learned.get(partition) or _Learned.nothing()
        of = memory.z, memory.y, memory.known, memory.count, *learned
        events = cases.common, memory.scale.shift, memory.scale.gain, labels, cases.asked
        memory.count = kernels.ask_nearest(*of, *events, self.classify, said)
        if memory.count:
            self._learned[partition] = learned
        return said if self.classify else cases.shift[:, None] + cases.spread[:, None] * said

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

    @property
    def partitions(self) -> Sequence[int]:
        """Of which labels were learned."""
        return sorted(self._learned)

    def partition(self, number: int) -> dict[str, npt.NDArray[Any]]:
        """What labels taught; the events are the forest's."""
        found = self._learned.get(number)
        if found is None:
            return {}
        features = int(np.flatnonzero(found.pairs[0]).max(initial=-1)) + 1
        return {_LEARNED: np.concatenate([found.lengths, found.pairs[:, :features].ravel()])}

    def take_partition(self, number: int, arrays: Arrays, here: Renumbering, at: str) -> None:
        """Go on with this, and read the forest's events again; raises SnapshotError where it is damaged.

        Where features have other numbers here, what is known of them goes to their places.
        """
        self.forget_partition(number)
        if _LEARNED not in arrays:
            return
        found, slots = self._checked(arrays[_LEARNED], at), here.slots
        if not here.same:
            if found.pairs[0, len(slots) :].any():
                raise SnapshotError(f"{at}: neighbours of features that its schema does not have: it is damaged")
            kept = np.flatnonzero((slots[:_FEATURES] >= 0) & (slots[:_FEATURES] < _FEATURES))
            moved = np.zeros_like(found.pairs)
            moved[:, slots[kept]] = found.pairs[:, kept]
            found = found._replace(pairs=moved)
        self._learned[number] = found

    def forget_task(self, partition: int, task: str) -> None:  # noqa: ARG002
        """Read the partition's events again; what they taught begins again, for sums cannot unlearn."""
        self.forget_partition(partition)

    def forget_partition(self, number: int) -> None:
        """Its events go with it, and what they taught."""
        self._of.pop(number, None)
        self._learned.pop(number, None)

    def _checked(self, array: npt.NDArray[Any], at: str) -> _Learned:
        """What this array holds of a partition; raises SnapshotError, begun with ``at``, where no labels teach it."""
        is_numbers = array.dtype == np.float64 and array.ndim == 1 and bool(np.isfinite(array).all())
        if is_numbers and array.size in range(_LENGTHS, _LENGTHS + 3 * _FEATURES + 1, 3):
            lengths, pairs = array[:_LENGTHS].copy(), array[_LENGTHS:].reshape(3, -1)
            pairs = np.pad(pairs, ((0, 0), (0, _FEATURES - pairs.shape[1])))
            never = pairs[0] == 0
            if (pairs >= 0).all() and not pairs[1:, never].any() and (self.classify or (lengths >= 0).all()):
                return _Learned(pairs, lengths)
        raise SnapshotError(f"{at}: distances of neighbours that no events have: they are damaged")
