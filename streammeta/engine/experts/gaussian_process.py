"""An expert for few events: Gaussian processes over a partition's last labelled ones, under four kernels.

::

    m_c = 1/C + k^T (K + σ² I)⁻¹ (y_c − 1/C)      q_k(c) ∝ max(m_c, 0.01)                 of classes seen
    m   = k^T (K + σ² I)⁻¹ y,  v = κ + σ² − k^T (K + σ² I)⁻¹ k                           of targets, in their spreads
    q   = Σ_k w_k q_k                             w_k ∝ exp(ℓ_k)    ℓ_k ← 0.97 ℓ_k + log q_k(y), or log N(y; m, v)

A kernel κ is one of the features z plus 0.3, and, where it says so, 0.7 exp(−a / 3) for events of the same task with a
of its events between them and 0.5 for any two of the same task; all divided by what the parts add up to. With Σ_d r_d =
Σ_d e_d = 1, e_d all alike and r_d by relevance::

    κ₁ = exp(−Σ r_d |z_d − z'_d| / 0.6), recent, σ² = 0.3       κ₂ = the same without, σ² = 0.05
    κ₃ = Σ r_d z_d z'_d, recent, of its task, σ² = 0.05         κ₄ = exp(−Σ e_d (z_d − z'_d)² / 0.4), σ² = 0.05

**Exact and cheap.** L L^T = K + σ² I grows by a row with each label, v = L⁻¹ k answers and is that row, u = L⁻¹ y by a
number: an event costs the square of the events that are kept, 128 to 255, for all four kernels in one sweep.

**Features.** z is in spreads of the events kept, cut off at six, 0 where it is missing. r_d is 0.2 e_d and 0.8 the
share of Σ_c of a feature's variance that class means, or a line to the target, explain, against the rest of it and a
tenth; of more than 24 features those with most. After 1, 2, 4 … 128 labels, and every 128 from there, the oldest but
128 are left out, and scales, relevance, factors and evidence are made again from the events that are kept.

So it knows nothing but the last events, which are the forest's: nothing is saved, and it is made again to the bit. Of
20 events of nine classes, or of hundreds of features of which five matter, closed forms under a prior of this kind know
more than what learns by steps, counts in leaves or votes of neighbours. It distinguishes 32 classes.

Sources: Rasmussen & Williams (2006), Gaussian Processes for Machine Learning, section 2.2 and algorithm 2.1 (the
factor), 6.5 (least squares for classes), 4.2 (kernels); Dawid (1984), evidence of predictions in turn. The four were
chosen one after the other among 120 (ten kernels, weights of features, parts for tasks, noises) by the log likelihood
of the first hundred events from ten places of the streams of `benchmarks.suite` that are for tuning, lengths and 0.97
among two or three.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from streammeta.engine.experts.base import ByRuns, Cases, Columns, Doubles
from streammeta.engine.experts.forest import Forest, as_numbers
from streammeta.engine.partitioned import Arrays, Renumbering
from streammeta.meta.base import Kind
from streammeta.native import _kernels as kernels

__all__ = ["GaussianProcess"]


class GaussianProcess(ByRuns):
    """Reads the forest's events; it has to be asked before the forest learns.

    Args:
        kind: of the stream.
        forest: whose rings hold the events.
    """

    name = "gaussian_process"
    doubt = 0.05
    is_saved = True

    def __init__(self, kind: Kind, forest: Forest) -> None:
        self.classify, self._forest = kind == "classification", forest
        self._of: dict[int, kernels.GaussianProcess] = {}  # of partitions

    def run(self, columns: Columns, cases: Cases, outputs: int) -> Doubles:  # noqa: ARG002
        """Predict each event and learn its label, as the forest does after this. See ``OfRuns``."""
        said = np.full((len(cases.tasks), outputs), 0.0 if self.classify else math.nan)
        labels = cases.labels if self.classify else (cases.labels - cases.shift) / cases.spread
        process = self._process(int(cases.partitions[0]))
        process.run(as_numbers(cases.tasks), cases.common, labels, cases.asked, said)
        return said if self.classify else cases.shift[:, None] + cases.spread[:, None] * said

    def _process(self, partition: int) -> kernels.GaussianProcess:
        """A partition's, that knows the events that the forest has."""
        found, trees = self._of.get(partition), self._forest.parts.get(partition)
        count = 0 if trees is None else trees.ring.count
        if found is None or found.count != count:
            found = self._of[partition] = kernels.GaussianProcess(self.classify)
            if trees is not None:
                found.remember(trees.ring.x, trees.ring.y, count)
        return found

    @property
    def partitions(self) -> Sequence[int]:
        """Of which events are read."""
        return sorted(self._of)

    def partition(self, number: int) -> dict[str, npt.NDArray[Any]]:  # noqa: ARG002
        """Nothing: the events are the forest's."""
        return {}

    def take_partition(self, number: int, arrays: Arrays, here: Renumbering, at: str) -> None:  # noqa: ARG002
        """Read the forest's events again."""
        self.forget_partition(number)

    def forget_task(self, partition: int, task: str) -> None:  # noqa: ARG002
        """Read the partition's events again."""
        self.forget_partition(partition)

    def forget_partition(self, number: int) -> None:
        """Its events go with it."""
        self._of.pop(number, None)
