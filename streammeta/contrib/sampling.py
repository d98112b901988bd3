"""Tasks that a meta-update prefers: strategies by name, each a `streammeta.engine.sampling.TaskSampler`.

* ``recency``: a task counts with its labels among the last ones, each forgotten by exp(−age / τ), τ an eighth of
  ``recent_events``: who speaks most and last is learned from most.
* ``loss``: half of the draws are uniform, half go by the tasks' running error (Schaul et al. 2016, prioritized
  replay; the uniform half bounds what any task can take, Hesterberg 1995).
* ``nearest``: half of the draws are uniform, half are tasks that look like one whose concept is young: a new task or
  one that just drifted. A task looks like the correlations of its last features with its labels: for each class c and
  feature d the mean of [y = c] x_d over its window's end (for targets of y x_d), which is what its concept makes of the
  features, as far as a line can show (task embeddings: Achille et al. 2019; nearest tasks: Fifty et al. 2021).
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from streammeta.engine.buffer import as_encoded
from streammeta.engine.columns import Columns
from streammeta.engine.sampling import Alive, Uniform
from streammeta.engine.scale import FrameScale, errors_in_spreads, seen_window
from streammeta.engine.settings import Sampling
from streammeta.meta.base import Floats, Ints, Kind

__all__ = ["Preferring"]

_Weights: TypeAlias = npt.NDArray[np.float64]

_PREFERRED = 0.5  # share of the draws that a preference gets; the rest is uniform
_RECENT_SHARE = 8  # of `recent_events`: how fast a label is forgotten
_YOUNG = 32  # labels under a concept while it is young
_LOOKED_AT = 32  # of a window, to see what a task looks like
_NEAREST = 8  # tasks that count as near
_MOST_COMPARED = 256  # tasks looked at in one draw


class Preferring(Uniform):
    """Draws some tasks more often than others.

    Args:
        by: the strategy.
    """

    def __init__(self, by: Sampling) -> None:
        self._by = by

    def draw(self, alive: Alive, count: int, random: np.random.Generator) -> Ints:
        """See ``TaskSampler``."""
        columns, recent = alive.columns, alive.recent
        rows = recent.rows()
        rows = rows[columns.window_count[rows] >= alive.shortest] if rows.size else rows
        if rows.size < 2:
            return np.repeat(rows, count)
        if self._by == "recency":
            weights = recent.weights(recent.size / _RECENT_SHARE)
            return random.choice(rows, count, p=_shares(np.array([weights[row] for row in rows.tolist()])))
        preferred = (
            _lossy(columns, rows, alive.frame)
            if self._by == "loss"
            else _near(columns, rows, alive.frame, alive.kind, random)
        )
        shares = (1 - _PREFERRED) / rows.size + _PREFERRED * _shares(preferred)
        return random.choice(rows, count, p=shares / shares.sum())


def _shares(weights: _Weights) -> _Weights:
    """Weights made to sum to 1; all alike where there are none."""
    total = weights.sum()
    return weights / total if total > 0 else np.full(weights.size, 1.0 / weights.size)


def _lossy(columns: Columns, alive: Ints, frame: FrameScale) -> _Weights:
    return np.nan_to_num(errors_in_spreads(columns, alive, frame), nan=0.0, posinf=0.0)


def _near(columns: Columns, alive: Ints, frame: FrameScale, kind: Kind, random: np.random.Generator) -> _Weights:
    """1 for the tasks that look most like one of a young concept, itself among them; 0 for all when there is none."""
    young = alive[columns.labels_since_drift[alive] <= _YOUNG]
    if not young.size:
        return np.zeros(alive.size)
    anchor = random.choice(young)
    places = np.arange(alive.size)
    if alive.size > _MOST_COMPARED:
        places = np.sort(random.choice(alive.size, _MOST_COMPARED, replace=False))
    looks = _looks(columns, np.append(alive[places], anchor), frame, kind)
    distances = ((looks[:-1] - looks[-1]) ** 2).sum((1, 2))
    near = np.zeros(alive.size)
    near[places[np.argsort(distances, kind="stable")[:_NEAREST]]] = 1.0
    return near


def _looks(columns: Columns, rows: Ints, frame: FrameScale, kind: Kind) -> Floats:
    """What tasks' last events look like [N, C, D] ([N, 1, D] for targets): means of [y = c] x."""
    size, seen, each = columns.window_size, seen_window(columns, rows, frame), np.arange(len(rows))[:, None]
    counts = np.minimum(
        np.clip(columns.labels_since_drift[rows], 1, _LOOKED_AT), np.minimum(columns.window_count[rows], size)
    )
    back = np.arange(_LOOKED_AT)
    at = (columns.window_count[rows, None] - 1 - back) % size
    valid = (back < counts[:, None]).astype(np.float32)
    x, y = as_encoded(seen.x[each, at]), np.nan_to_num(seen.y[each, at]) * valid
    if kind == "regression":
        of_class = y[:, None, :]
    else:
        classes = np.arange(int(y.max(initial=0)) + 1)
        of_class = (y[:, None, :] == classes[:, None]) * valid[:, None, :]
    looks: Floats = (of_class @ x / counts[:, None, None]).astype(np.float32)
    return looks
