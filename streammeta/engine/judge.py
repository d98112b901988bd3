"""From what a learner predicts to what a user reads, and how far it was from the label."""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from streammeta.engine.columns import Columns
from streammeta.engine.labels import LabelSpace
from streammeta.event import LabelValue
from streammeta.meta.base import Ints
from streammeta.native import _kernels as kernels
from streammeta.native.elementary import log

__all__ = ["Judged", "count_events", "judge", "read"]

Doubles: TypeAlias = npt.NDArray[np.float64]
_Read = tuple[LabelValue | None, dict[LabelValue, float] | None]
_ERROR_LABELS = 50.0  # what a task's running error looks back on
_COUNTED = ("events", "labelled", "labels_since_drift", "labels_kept_at_drift", "drifts", "error", "seen_at")


def read(mean: Sequence[float], labels: LabelSpace) -> _Read:
    """A prediction in the user's words: the likeliest class with all probabilities, or the mean.

    ``mean`` [C] may know fewer classes than there are by now; None while there is none.
    """
    if not labels.classify:
        return mean[0], None
    if not mean:
        return None, {}
    return labels.classes[mean.index(max(mean))], dict(zip(labels.classes, mean, strict=False))


class Judged(NamedTuple):
    """Predictions [N] judged by their labels; NaN where there is none."""

    best: Ints | None  # index of the likeliest class, the first of several; −1: no class is known. None: targets
    loss: Doubles  # −log p(label), p at least 10⁻⁶; of a target −log N(label; mean, variance), in nats
    error: Doubles  # 0 or 1, or the absolute error
    watched: Doubles  # in [0, 1], what a drift detector sees (`streammeta.engine.drift.detectors`)
    # What compares losses and errors, over time or over tasks, does so in spreads of the task's target:
    own_loss: Doubles
    own_error: Doubles


def judge(
    means: Doubles, known: Ints, variances: Doubles, units: Doubles, labels: Doubles, *, classify: bool, binary: bool
) -> Judged:
    """How far predictions are from their labels.

    Args:
        means: class probabilities [N, C], or means of targets [N, 1].
        known: how many classes each prediction knew [N]; the others had no probability.
        variances: of targets [N].
        units: spread of each one's task's target [N]; 1 for classes.
        labels: class indices or targets [N]; NaN is none.
        classify: labels are classes.
        binary: the detector sees only whether a prediction was right.
    """
    loss, error, watched = np.empty((3, len(labels)))
    if classify:
        best = np.empty(len(labels), np.int64)
        kernels.judge_classes(means, known, labels, binary, best, loss, error, watched)
        return Judged(best, loss, error, watched, loss, error)
    mean = np.ascontiguousarray(means[:, 0])
    kernels.judge_values(mean, variances, units, labels, binary, loss, error, watched)
    return Judged(None, loss, error, watched, loss - log(units), error / units)


def count_events(
    columns: Columns, rows: Ints, is_event: npt.NDArray[np.bool_], times: Doubles, error: Doubles
) -> tuple[Ints, Ints]:
    """Count events [N], in order, in the columns of their tasks.

    Args:
        columns: of the task table.
        rows: [N]
        is_event: [N] False for a label that came late.
        times: [N] in epoch seconds; NaN is none.
        error: [N] of the labels; NaN where there is none.

    Returns:
        The labels of each one's task before it [N], and those since that task's last drift [N]; −1: it never had one.
    """
    age, since = np.empty((2, len(rows)), np.int64)
    counted = tuple(columns[name] for name in _COUNTED)
    kernels.count_events(counted, rows, is_event, times, error, _ERROR_LABELS, age, since)
    return age, since
