"""A belief about when the level of a stream last changed, and whether it rose: Bayesian change-point detection.

Hypotheses are runs: this one says that the level has been the same since its first value. Before each value every run
ends with probability ``hazard``; a run that begins knows nothing of the level::

    p(run)      ← (1 − hazard) p(run),    p(new run) = hazard                          Adams & MacKay, Algorithm 1
    p(run | x)  ∝ p(run) · (μ^x (1 − μ)^(1 − x))^(1/φ),    μ = (1 + Σx) / (2 + n)      over the run's own n values

Values lie in [0, 1], not only at 0 and 1: the likelihood is the quasi-likelihood of a mean μ and variance φ μ(1 − μ).
The dispersion φ is 1 for coin flips and less for values that scatter less; it is measured as Pearson does, as the mean
of (x − m)²/(m(1 − m)), m the mean predicted by all runs together. So the same two settings serve a learner that is
nearly always sure and one that guesses. Only the likeliest runs are kept.

Each run remembers what level was expected when it began. The belief that the level rose is the probability of the runs
whose own mean lies above that.

Source: Adams & MacKay (2007), arXiv:0710.3742; pruned, and on the loss of a learner as in MOCA, Harrison et al. (2020),
arXiv:1912.08866. The dispersion is McCullagh & Nelder (1989), Generalized Linear Models, chapter 9.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from river import base

from streammeta.native import _kernels as kernels

__all__ = ["ChangePoint"]

_Numbers: TypeAlias = npt.NDArray[np.float64]
_WEIGHT, _COUNT, _SUM, _BEFORE = range(4)  # columns of runs
_NOT_RISEN = 1.0  # the level before a run that no change began: nothing lies above it
_PHI, _PHI_COUNT = 0.3, 10.0  # dispersion expected at first, and how many values that is worth


class ChangePoint(base.DriftDetector):  # type: ignore[misc]  # mypy does not look into River
    """Change-point belief: signals that the level of values in [0, 1] has probably risen.

    For errors, or losses brought into [0, 1]. An update costs about a microsecond. After a signal the runs since the
    rise are kept as the new level.

    Args:
        hazard: probability, before each value, that the level changes; in (0, 0.5].
        threshold: belief at which a drift is signalled; in (0, 1], 1 never.
        runs: hypotheses kept; at least 2.

    Raises:
        ValueError: a setting is out of these ranges.

    >>> from streammeta.engine.drift.changepoint import ChangePoint
    >>> detector = ChangePoint()
    >>> for number, error in enumerate([0, 0, 1, 0, 0] * 20 + [1, 0, 1, 1, 1] * 20):
    ...     detector.update(error)
    ...     if detector.drift_detected:
    ...         print(f"the error rate rose before {number}")
    the error rate rose before 109

    Source: see ``streammeta.engine.drift.changepoint``.
    """

    def __init__(self, hazard: float = 0.005, threshold: float = 0.9, runs: int = 16) -> None:
        super().__init__()
        if not 0 < hazard <= 0.5 or not 0 < threshold <= 1 or not runs >= 2:
            wanted = "hazard in (0, 0.5], threshold in (0, 1], runs >= 2"
            raise ValueError(f"ChangePoint: got {hazard=}, {threshold=}, {runs=}; wanted {wanted}")
        self.hazard, self.threshold, self.runs = hazard, threshold, runs
        self._reset()

    @property
    def belief(self) -> float:
        """Probability that the level changed since the start, or the last signal, and is higher now than before."""
        return float(self._runs[_rose(self._runs), _WEIGHT].sum())

    def update(self, x: float) -> None:
        """Take in one value.

        Raises:
            ValueError: it is not a number from 0 to 1.
        """
        if not 0 <= x <= 1:
            raise ValueError(f"ChangePoint: got the value {x}, wanted a number from 0 to 1; scale it first")
        self._drift_detected = (
            kernels.update_changepoint(self._runs, self._dispersion, float(x), self.hazard) > self.threshold
        )
        if self._drift_detected:
            _restart(self._runs)

    def _reset(self) -> None:
        """Forget all values."""
        super()._reset()
        self._runs: _Numbers = np.zeros((self.runs, 4))  # weight, how many values, their sum, level expected before
        self._runs[0] = 1.0, 0.0, 0.0, _NOT_RISEN
        self._dispersion: _Numbers = np.array([_PHI * _PHI_COUNT, _PHI_COUNT])  # sum of squared residuals, how many


def _rose(runs: _Numbers) -> npt.NDArray[np.bool_]:
    """Which of the runs [H, 4] lie above what was expected before them."""
    rose: npt.NDArray[np.bool_] = (1 + runs[:, _SUM]) / (2 + runs[:, _COUNT]) > runs[:, _BEFORE]
    return rose


def _restart(runs: _Numbers) -> None:
    """Of the runs [H, 4], keep those that say that the level rose: theirs is the level to compare with from now on."""
    rose = _rose(runs)
    runs[~rose] = 0
    runs[:, _WEIGHT] /= runs[:, _WEIGHT].sum()
    runs[rose, _BEFORE] = _NOT_RISEN
