"""Which tasks a meta-update learns from: strategies by name, each a draw of rows from those alive.

All are functions of the task table and of the ring of recent rows, both of which a snapshot holds, and are called where
θ changes, at counts of events: so a draw repeats with a seed, goes on after a restore, and knows nothing of polls.

* ``uniform``: every task alive counts the same (Finn et al. 2019, FTML).
* ``recency``: a task counts with its labels among the last ones, each forgotten by exp(−age / τ), τ an eighth of
  ``recent_events``: who speaks most and last is learned from most.
* ``loss``: half of the draws are uniform, half go by the tasks' running error (Schaul et al. 2016, prioritized
  replay; the uniform half bounds what any task can take, Hesterberg 1995).
* ``nearest``: half of the draws are uniform, half are tasks that look like one whose concept is young: a new task or
  one that just drifted. A task looks like the correlations of its last features with its labels: for each class c and
  feature d the mean of [y = c] x_d over its window's end (for targets of y x_d), which is what its concept makes of the
  features, as far as a line can show (task embeddings: Achille et al. 2019; nearest tasks: Fifty et al. 2021).
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from streammeta.engine.buffer import RecentRows, as_encoded
from streammeta.engine.scale import FrameScale, errors_in_spreads, seen_window
from streammeta.engine.settings import Sampling
from streammeta.meta.base import Floats, Ints, Kind

__all__ = ["dealt", "draw_rows"]

_Columns: TypeAlias = Mapping[str, npt.NDArray[Any]]
_Weights: TypeAlias = npt.NDArray[np.float64]

_PREFERRED = 0.5  # share of the draws that a preference gets; the rest is uniform
_RECENT_SHARE = 8  # of `recent_events`: how fast a label is forgotten
_YOUNG = 32  # labels under a concept while it is young
_LOOKED_AT = 32  # of a window, to see what a task looks like
_NEAREST = 8  # tasks that count as near
_MOST_COMPARED = 256  # tasks looked at in one draw


def draw_rows(
    sampling: Sampling,
    columns: _Columns,
    recent: RecentRows,
    count: int,
    *,
    shortest: int,
    frame: FrameScale,
    kind: Kind,
    random: np.random.Generator,
) -> Ints:
    """``count`` rows of tasks with at least ``shortest`` events, by this strategy; none where there is no such task."""
    if sampling == "uniform":
        return recent.draw(count, columns["window_count"], shortest, random)
    alive = recent.rows()
    alive = alive[columns["window_count"][alive] >= shortest] if alive.size else alive
    if alive.size < 2:
        return np.repeat(alive, count)
    if sampling == "recency":
        weights = recent.weights(recent.size / _RECENT_SHARE)
        return random.choice(alive, count, p=_shares(np.array([weights[row] for row in alive.tolist()])))
    preferred = _lossy(columns, alive, frame) if sampling == "loss" else _near(columns, alive, frame, kind, random)
    shares = (1 - _PREFERRED) / alive.size + _PREFERRED * _shares(preferred)
    return random.choice(alive, count, p=shares / shares.sum())


def dealt(count: int, drawable: Sequence[int], random: np.random.Generator) -> list[list[int]]:
    """Which of a meta-update's ``count`` segments each process draws, by how many tasks it can draw of.

    Each segment is as likely of one task as of any other, wherever it is, and how many a process gets differs from its
    share by less than one.

    Source: Madow & Madow (1944), systematic sampling; in a random order.
    """
    ends = np.cumsum(drawable) / max(sum(drawable), 1)
    marks = (np.arange(count) + random.random()) / count
    owners = np.searchsorted(ends, marks, side="right")[random.permutation(count)]
    return [np.flatnonzero(owners == rank).tolist() for rank in range(len(drawable))]


def _shares(weights: _Weights) -> _Weights:
    """Weights made to sum to 1; all alike where there are none."""
    total = weights.sum()
    return weights / total if total > 0 else np.full(weights.size, 1.0 / weights.size)


def _lossy(columns: _Columns, alive: Ints, frame: FrameScale) -> _Weights:
    return np.nan_to_num(errors_in_spreads(columns, alive, frame), nan=0.0, posinf=0.0)


def _near(columns: _Columns, alive: Ints, frame: FrameScale, kind: Kind, random: np.random.Generator) -> _Weights:
    """1 for the tasks that look most like one of a young concept, itself among them; 0 for all when there is none."""
    young = alive[columns["labels_since_drift"][alive] <= _YOUNG]
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


def _looks(columns: _Columns, rows: Ints, frame: FrameScale, kind: Kind) -> Floats:
    """What tasks' last events look like [N, C, D] ([N, 1, D] for targets): means of [y = c] x."""
    size, seen, each = columns["window_y"].shape[1], seen_window(columns, rows, frame), np.arange(len(rows))[:, None]
    counts = np.minimum(
        np.clip(columns["labels_since_drift"][rows], 1, _LOOKED_AT), np.minimum(columns["window_count"][rows], size)
    )
    back = np.arange(_LOOKED_AT)
    at = (columns["window_count"][rows, None] - 1 - back) % size
    valid = (back < counts[:, None]).astype(np.float32)
    x, y = as_encoded(seen.x[each, at]), np.nan_to_num(seen.y[each, at]) * valid
    if kind == "regression":
        of_class = y[:, None, :]
    else:
        classes = np.arange(int(y.max(initial=0)) + 1)
        of_class = (y[:, None, :] == classes[:, None]) * valid[:, None, :]
    looks: Floats = (of_class @ x / counts[:, None, None]).astype(np.float32)
    return looks
