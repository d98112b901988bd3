"""Gaussian classes, compiled. Equations: see ``streammeta.engine.experts.gaussian``."""

import math

import numpy as np
from numba import njit

__all__ = ["HEATS", "add_to_class", "ask_gaussian", "weigh_heats"]

HEATS = 3  # q, √q, ⁴√q
_CLIP = 6.0  # as on the event path
_FORGET = 0.98
_PRIOR_COUNT = 4.0  # ν: labels that the variance within classes is worth
_LEAST = 1e-6  # of the variance of all events, within a class
_compiled = njit(error_model="numpy", cache=True)


@_compiled
def ask_gaussian(count, mean, square, x, within, shift, gain, said):
    """Fill said [HEATS, C] for features x [D] from a task's counts [≥ C] and raw means and squares [≥ C, ≥ D]."""
    heats, C = said.shape
    scores = np.full(C, -np.inf)
    for c in range(C):
        n = count[c] if c < count.size else 0.0
        if n <= 0:
            continue
        df, score = n + _PRIOR_COUNT, math.log(n)
        for d in range(x.size):
            z = (x[d] - shift[d]) * gain[d]
            if z != z:  # noqa: PLR0124  NaN
                continue
            z = min(max(float(z), -_CLIP), _CLIP)
            own = gain[d] * gain[d]
            inside = min(max(within[d] * own, _LEAST), 1.0)
            if not math.isnan(mean[c, d]):  # else the class never had this feature
                middle = n * min(max((mean[c, d] - shift[d]) * gain[d], -_CLIP), _CLIP) / (n + inside)
                variance = (square[c, d] * own + _PRIOR_COUNT * inside) / df * (1.0 + 1.0 / (n + inside))
            else:
                middle, variance = 0.0, 1.0
            score -= 0.5 * ((df + 1.0) * math.log1p((z - middle) ** 2 / (variance * df)) + math.log(variance))
        scores[c] = score
    top = scores.max()
    power = 1.0
    for h in range(heats):
        total = 0.0
        for c in range(C):
            said[h, c] = math.exp(power * (scores[c] - top))
            total += said[h, c]
        for c in range(C):
            said[h, c] /= total
        power *= 0.5


@_compiled
def weigh_heats(evidence):
    """Weights of the HEATS by their recent evidence."""
    weights = np.exp(evidence - evidence.max())
    return weights / weights.sum()


@_compiled
def add_to_class(count, mean, square, label, x, squares):
    """Learn raw x [D] as of this class; ``squares`` [D] gets its square about a mean that was known, else NaN."""
    n = count[label]
    grown = _FORGET * n + 1.0
    for d in range(x.size):
        value = float(x[d])
        if value != value:  # noqa: PLR0124  NaN: as spread out as the class is
            square[label, d] = square[label, d] * (_FORGET + (1.0 / n if n > 0 else 0.0))
            continue
        gap = value - mean[label, d]
        if not math.isnan(gap):
            squares[d] = gap * gap * n / (n + 1.0)
            mean[label, d] += gap / grown
            square[label, d] = _FORGET * square[label, d] + gap * (value - mean[label, d])
        else:
            mean[label, d] = value
    count[label] = grown
