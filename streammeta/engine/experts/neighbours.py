"""An expert that asks the nearest events in the task's own window: attention, with a kernel as wide as they are far.

    q(y) ∝ Σ_i exp(−d_i² / h) [y_i = y]        h = mean of d_i² over the three nearest, in normalized features

For targets it is the weighted mean of ten. It is right where smooth heads are not: where classes are many small
clusters. Its only state is the window, which is there anyway; an event costs a sweep over it.

Sources: Losing, Hammer & Wersing (2016), SAM-kNN (why a short memory of neighbours is hard to beat on drifting
streams); Nadaraya (1964) (the kernel).
"""

from collections.abc import Mapping

import numpy as np

from streammeta.engine.columns import Column
from streammeta.engine.experts.base import Case, Columns, Doubles, ScalingOf
from streammeta.meta.base import Kind
from streammeta.native import _kernels as kernels

__all__ = ["Neighbours"]

_NEAREST = 3
_NEAREST_TARGETS = 10  # a mean of few targets is mostly noise


class Neighbours:
    """The nearest events of the same task.

    Args:
        kind: of the stream.
        scaling: the normalization of a task's row.
    """

    name = "neighbours"
    doubt = 0.15
    is_saved = True

    def __init__(self, kind: Kind, scaling: ScalingOf) -> None:
        self._classify, self._scaling = kind == "classification", scaling

    def layout(self, width: int, outputs: int) -> Mapping[str, Column]:  # noqa: ARG002
        """Nothing of a task that is not there anyway."""
        return {}

    def predict(self, columns: Columns, case: Case, outputs: int) -> Doubles | None:
        """Class probabilities [C] or the mean [1]; None while the window holds too few."""
        pushed, most = columns.window_count, _NEAREST if self._classify else _NEAREST_TARGETS
        if pushed[case.row] < most:
            return None
        scaling, said = self._scaling(columns, case.row), np.empty(outputs)
        shift, gain = scaling.shift, scaling.gain
        if case.x.size > shift.size:  # asked about features that nobody has learned of
            fresh = case.x.size - shift.size
            shift, gain = np.pad(shift, (0, fresh)), np.pad(gain, (0, fresh), constant_values=1.0)
        window = columns.window_x, columns.window_y, pushed, case.row
        kernels.ask_neighbours(*window, case.x, shift, gain, most, self._classify, said)
        return said

    def learn(self, columns: Columns, case: Case, y: float) -> None:
        """The window has it."""
