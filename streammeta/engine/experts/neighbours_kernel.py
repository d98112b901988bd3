"""The nearest of a task's remembered events, compiled."""

import math

import numpy as np
from numba import njit

__all__ = ["ask_neighbours"]

_CLIP = 6.0  # as on the event path
_compiled = njit(error_model="numpy", cache=True)


@_compiled
def _scaled(value, shift, gain):
    """As the encoder sees it: missing is the mean."""
    z = (value - shift) * gain
    if z != z:  # noqa: PLR0124  NaN
        return 0.0
    return min(max(float(z), -_CLIP), _CLIP)


@_compiled
def _nearest(window_x, row, seen, x, shift, gain, distances, places):
    """Squared distances and places of the nearest of ``seen`` events, nearest first; a tie goes to the lower place."""
    D, count = x.size, distances.size
    query = np.empty(D)
    for d in range(D):
        query[d] = _scaled(x[d], shift[d], gain[d])
    distances[:] = math.inf
    for at in range(seen):
        distance = 0.0
        for d in range(D):
            value = window_x[row, at, d] if d < window_x.shape[2] else math.nan
            gap = query[d] - _scaled(value, shift[d], gain[d])
            distance += gap * gap
            if distance >= distances[-1]:
                break
        if distance < distances[-1]:
            k = count - 1
            while k > 0 and distances[k - 1] > distance:
                distances[k], places[k] = distances[k - 1], places[k - 1]
                k -= 1
            distances[k], places[k] = distance, at


@_compiled
def ask_neighbours(window_x, window_y, pushed, row, x, shift, gain, most, classify, said):
    """Fill said [C] or [1] from the ``most`` nearest events in the row's window; at least one must be there."""
    seen = min(pushed[row], window_y.shape[1])
    count = min(most, seen)
    distances, places = np.empty(count), np.empty(count, np.int64)
    _nearest(window_x, row, seen, x, shift, gain, distances, places)
    width = distances.mean() + 1e-9
    total = 0.0
    said[:] = 0.0
    for k in range(count):
        weight = math.exp(-distances[k] / width)
        total += weight
        y = window_y[row, places[k]]
        if classify:
            said[int(y)] += weight
        else:
            said[0] += weight * y
    said /= total
