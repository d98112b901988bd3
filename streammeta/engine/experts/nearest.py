"""An expert with a long memory: what the nearest of a partition's last thousands of labelled events say.

::

    q(y) ∝ Σ_i 1[y_i = y] / (|z_i − z| + 0.001 √D)      over the seven nearest; of targets, a mean

z is the event in spreads of all tasks, cut off at six; what is missing is at the mean, and D counts what is not, but
for features that none of the events in memory has: they say nothing. The memory is that of the forest, the last 4,096
events of all tasks of a partition; of events of more than 32 features the last 131,072 / D are compared, by the first
128 of all features, so that an event costs no more. Nothing is saved: the memory is made again from the forest's, to
the bit. Smooth heads and trees need many events for a concept whose classes lie in many small clusters; who remembers
them does not (digits, RBF generators, moving clusters).

Sources: Fix & Hodges (1951); Dudani (1976), the weights; Losing, Hammer & Wersing (2016), SAM-kNN, that a long memory
beside what adapts fast is worth its cost. Seven was not chosen: it is between that paper's five and River's eleven.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from streammeta.engine.columns import Column
from streammeta.engine.experts.base import Arrays, Case, Cases, Columns, Doubles, Renumbering, ask_alone
from streammeta.engine.experts.forest import Forest
from streammeta.engine.experts.ring import MOST
from streammeta.engine.scale import SharedScale
from streammeta.meta.base import Floats, Ints, Kind
from streammeta.native import _kernels as kernels

__all__ = ["Nearest"]

_FEATURES = 128  # by which events are compared, at most
_BLOCK = 32  # events side by side: as nearest.cpp
_MISSING = -0.0  # of a feature, and of an event: as nearest.cpp


@dataclass(slots=True)
class _Memory:
    """A partition's events under a scale; see nearest.cpp."""

    scale: SharedScale
    z: Floats  # [4,096 / 32, D, 32]
    y: Floats  # [4,096]
    known: Ints  # [D] of how many of them each feature is known
    count: int


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

    def layout(self, width: int, outputs: int) -> Mapping[str, Column]:  # noqa: ARG002
        """Nothing of a task: it is of all."""
        return {}

    def predict(self, columns: Columns, case: Case, outputs: int) -> Doubles | None:
        """Class probabilities [C] or the mean [1]; None before the first labels."""
        return ask_alone(self, columns, case, outputs, classify=self._classify)

    def learn(self, columns: Columns, case: Case, y: float) -> None:
        """Learn nothing: the forest has the event."""

    def run(self, columns: Columns, cases: Cases, outputs: int) -> Doubles:  # noqa: ARG002
        """Predict each event; the forest learns its label after this. See ``OfRuns``."""
        said = np.full((len(cases.tasks), outputs), 0.0 if self._classify else math.nan)
        labels = cases.labels if self._classify else (cases.labels - cases.shift) / cases.spread
        memory = self._memory(int(cases.partitions[0]))
        of = memory.z, memory.y, memory.known, memory.count, cases.common, memory.scale.shift, memory.scale.gain
        memory.count = kernels.ask_nearest(*of, labels, cases.asked, self._classify, said)
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
        """Nothing."""
        return {}

    def load(self, arrays: Arrays) -> None:  # noqa: ARG002
        """Read the forest's events again."""
        self._of = {}

    @property
    def partitions(self) -> Sequence[int]:
        """None: what it knows is the forest's."""
        return ()

    def partition(self, number: int) -> dict[str, npt.NDArray[Any]]:  # noqa: ARG002
        """Nothing."""
        return {}

    def take_partition(self, number: int, arrays: Arrays, here: Renumbering, at: str) -> None:  # noqa: ARG002
        """Read the partition's events again."""
        self._of.pop(number, None)

    def forget_task(self, partition: int, task: str) -> None:  # noqa: ARG002
        """Read the partition's events again."""
        self._of.pop(partition, None)

    def forget_partition(self, number: int) -> None:
        """Its events go with it."""
        self._of.pop(number, None)
