"""From what a learner predicts to what a user reads, and how far it was from the label. Pure functions."""

import math
from collections.abc import Sequence

from streammeta.engine.labels import LabelSpace
from streammeta.event import LabelValue

__all__ = ["gaussian_loss", "read", "score"]

_LEAST_PROBABILITY = 1e-6  # no label's probability counts as less
_LEAST_VARIANCE = 1e-30

_Read = tuple[LabelValue | None, dict[LabelValue, float] | None]


def read(mean: Sequence[float], labels: LabelSpace) -> _Read:
    """A prediction in the user's words: the likeliest class with all probabilities, or the mean.

    ``mean`` [C] may know fewer classes than there are by now; None while there is none.
    """
    if not labels.classify:
        return mean[0], None
    if not mean:
        return None, {}
    return labels.classes[mean.index(max(mean))], dict(zip(labels.classes, mean, strict=False))


def score(
    y: LabelValue, prediction: LabelValue | None, mean: Sequence[float], variance: float, labels: LabelSpace
) -> tuple[float, float]:
    """Negative log-likelihood of a label under the prediction, and its error: 0 or 1, or absolute."""
    if isinstance(y, str) or labels.classify:
        index = len(mean) if labels.is_new(y) else int(labels.number(y))
        probability = mean[index] if index < len(mean) else 0.0
        return -math.log(max(probability, _LEAST_PROBABILITY)), float(prediction is None or prediction != y)
    gap = y - mean[0]
    return gaussian_loss(gap, variance), abs(gap)


def gaussian_loss(gap: float, variance: float) -> float:
    """−log N(gap; 0, variance), in nats."""
    spread = max(variance, _LEAST_VARIANCE)
    return 0.5 * (gap * gap / spread + math.log(2 * math.pi * spread))
