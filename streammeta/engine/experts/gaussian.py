"""An expert for many classes: a Gaussian with a diagonal covariance for each class of a task, by counting.

    mean_c, S_c ← of the features of class c's labels, each forgotten by 0.98 per label of that class
    log q(c) = log n_c + Σ_d log t_{n_c + ν}(x_d; m_cd, v_cd (1 + 1 / (n_c + κ_d)))        v = (S + ν w) / (n_c + ν)

w is the variance within classes over all tasks, κ = w over the variance of all events: both priors are thus learned
across tasks, and a class is known from one label on. Least squares on one-hot labels, as the learner's heads are, has
too few directions for more classes than the encoder has features; here a class costs D numbers and masks no other.
How sure to be is found out in each task: a mixture of q, √q and ⁴√q, normalized, by recent evidence.

Sources: Banayeeanzade et al. (2021), GeMCL (Gaussian heads with Normal-Gamma posteriors, prior learned across
episodes); Harrison et al. (2020), MOCA's PCOC; Murphy (2007), Conjugate Bayesian analysis of the Gaussian (the t).
"""

import math
from collections.abc import Mapping

import numpy as np

from streammeta.engine.columns import Column, next_power_of_two
from streammeta.engine.experts.base import Case, Columns, Doubles, ScalingOf
from streammeta.engine.partitioned import Arrays
from streammeta.engine.sums import PartitionSums
from streammeta.errors import SnapshotError
from streammeta.meta.base import Ints
from streammeta.native import _kernels as kernels
from streammeta.native.elementary import exp, log

__all__ = ["Gaussian", "check_gaussian", "renumber_gaussian"]

_FEWEST = 5.0  # labels of known classes, in all tasks, before it says anything
_HEATS = 3  # q, √q, ⁴√q
_STATE = ("gaussian.mean", "gaussian.square")


class Gaussian:
    """What a task's classes are like lies in its row; the squares within classes of all tasks are in ``PartitionSums``.

    Args:
        scaling: the normalization of a task's row.
        sums: what tasks share by counting; squares within classes are kept there.
    """

    name = "gaussian"
    doubt = 0.05
    is_saved = True

    def __init__(self, scaling: ScalingOf, sums: PartitionSums) -> None:
        self._scaling, self._sums = scaling, sums

    def layout(self, width: int, outputs: int) -> Mapping[str, Column]:
        """Counts, means and sums of squares of each class."""
        size = next_power_of_two(outputs)
        return {
            "gaussian.count": Column((size,), np.float64),
            "gaussian.mean": Column((size, width), np.float64, math.nan),
            "gaussian.square": Column((size, width), np.float64),
            "gaussian.heat": Column((_HEATS,), np.float64),
        }

    def predict(self, columns: Columns, case: Case, outputs: int) -> Doubles | None:
        """Class probabilities [C]; None before the first labels."""
        row, labels = case.row, self._sums.within[1, : case.x.size]
        if outputs < 2 or labels.max(initial=0) < _FEWEST or not columns["gaussian.count"][row].any():
            return None
        weights, said = _softmax(columns["gaussian.heat"][row]), self._said(columns, case, outputs)
        found: Doubles = (weights[:, None] * said).sum(0)
        return found

    def learn(self, columns: Columns, case: Case, y: float) -> None:
        """Learn a task's label; what it says of all tasks counts from the sums' next ``publish_shared`` on."""
        row, label = case.row, int(y)
        if self._sums.within[1, : case.x.size].any() and columns["gaussian.count"][row, label] > 0:
            said = self._said(columns, case, columns["gaussian.count"].shape[1])
            columns["gaussian.heat"][row] = 0.95 * columns["gaussian.heat"][row] + log(said[:, label] + 1e-6)
        squares, gain = np.full(case.x.size, np.nan), self._scaling(columns, row).gain.astype(np.float64)
        count, mean, square = (columns[name][row] for name in ("gaussian.count", *_STATE))
        kernels.add_to_class(count, mean, square, label, case.x, squares)
        squares[: gain.size] *= gain[: squares.size] ** 2
        self._sums.add_within(case.partition, squares)

    def _said(self, columns: Columns, case: Case, outputs: int) -> Doubles:
        """Class probabilities [heats, C] by each heat, of features whose squares within classes have been counted."""
        scaling, row = self._scaling(columns, case.row), case.row
        D = min(case.x.size, self._sums.within.shape[1], scaling.shift.size)
        count, mean, square = (columns[name][row] for name in ("gaussian.count", *_STATE))
        total, labels = self._sums.within[:, :D]
        within = total / np.maximum(labels, 1.0) / scaling.gain[:D].astype(np.float64) ** 2
        x, said = np.where(labels > 0, case.x[:D], np.float32(math.nan)), np.empty((_HEATS, outputs))
        kernels.ask_gaussian(count, mean, square, x, within, scaling.shift[:D], scaling.gain[:D], said)
        return said


def _softmax(evidence: Doubles) -> Doubles:
    """Weights of the heats by their recent evidence."""
    weights = exp(evidence - evidence.max())
    found: Doubles = weights / weights.sum()
    return found


def check_gaussian(found: Arrays, at: str) -> None:
    """Refuse rows [N, ...] from elsewhere whose counts cannot be; raises SnapshotError."""
    for name in ("gaussian.count", "gaussian.square"):
        if name in found and not ((found[name] >= 0) & np.isfinite(found[name])).all():
            raise SnapshotError(f"{at}: a row with {name} that no task has: it is damaged")


def renumber_gaussian(columns: Columns, rows: Ints, found: Arrays, slots: Ints, classes: Ints) -> None:
    """Rows [N] that were written where features and classes had other numbers: theirs here.

    Args:
        columns: of the task table; these rows are changed.
        rows: [N]
        found: the columns as they were written [N, ...].
        slots: the slot here of each written one; -1: no capacity.
        classes: the number here of each written class.
    """
    written = found.get("gaussian.count")
    if "gaussian.count" not in columns or written is None or not written.size:  # it slept where they were written
        return
    kept = np.flatnonzero(slots >= 0)
    for name in ("gaussian.count", *_STATE):
        columns[name][rows] = math.nan if name == "gaussian.mean" else 0
    columns["gaussian.count"][rows[:, None], classes] = written[:, : classes.size]
    for name in _STATE:
        place = (rows[:, None, None], classes[:, None], slots[kept])
        columns[name][place] = found[name][:, : classes.size][:, :, kept]
