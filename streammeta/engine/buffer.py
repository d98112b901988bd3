"""Each task's recent labelled events, and the drawing of episodes from them for a meta-update.

The windows are three columns of the task table, rings that ``pushed`` [T] counts: ``window_x`` [T, W, D] and
``window_y`` [T, W], raw, and ``window_low`` [T, W, K], what float32 leaves out of some features. Everything here is a
function over those arrays.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from streammeta.engine.columns import Columns
from streammeta.engine.scale import FrameScale, Seen, seen_window
from streammeta.engine.settings import SegmentSettings
from streammeta.meta.base import Episodes, Floats, Ints, Kind
from streammeta.native import _kernels as kernels
from streammeta.native.elementary import exp

__all__ = ["RecentRows", "as_encoded", "draw_episodes", "keep_low", "push", "relabel", "window"]

Doubles: TypeAlias = npt.NDArray[np.float64]
_CLIP = np.float32(6.0)  # as on the event path
_TRIES = 2  # rows drawn for each one wanted, as some may be too young


def push(columns: Columns, rows: Ints, xs: Floats, low: Floats, ys: Doubles) -> None:
    """Remember events, each in its row, in this order.

    Args:
        columns: of the task table.
        rows: [N]
        xs: raw features [N, D].
        low: what float32 leaves out of those that have a second one [N, K] (`streammeta.engine.scale.split`).
        ys: class indices or raw targets [N].
    """
    window = columns.window_x, columns.window_low, columns.window_y, columns.window_count
    kernels.push(*window, rows, xs, low, np.ascontiguousarray(ys, np.float64))


def relabel(columns: Columns, row: int, place: int, y: float) -> bool:
    """Give the event at this place of a row's window another label, and say whether it is another one."""
    before = columns.window_y[row, place].item()
    columns.window_y[row, place] = y
    return bool(columns.window_y[row, place] != before)


def keep_low(columns: Columns, seen: Seen, begin: int, own: Ints, before: int) -> None:
    """Remember what float32 leaves out of features that have own views only since event ``begin`` of these.

    Args:
        columns: of the task table.
        seen: events [N] that are in their windows already, where they have a label.
        begin: events before it are remembered without.
        own: the features [K] that have own views.
        before: how many of them had before.
    """
    later: dict[int, int] = {}
    size, numbers = columns.window_size, own[before:]
    for i in range(len(seen.rows) - 1, begin - 1, -1):
        if np.isnan(seen.labels[i]):
            continue
        row = int(seen.rows[i])
        later[row] = back = later.get(row, 0) + 1
        at = (int(columns.window_count[row]) - back) % size
        high = seen.high[i]
        if np.array_equal(columns.window_x[row, at, : high.size], high, equal_nan=True):  # else it was refused
            low = (seen.exact[i, numbers] - high[numbers]).astype(np.float32)
            columns.window_low[row, at, before : own.size] = low


def window(columns: Columns, row: int, frame: FrameScale, last: int | None = None) -> tuple[Floats, Floats]:
    """A task's remembered events, oldest first, as the learner sees them: [n, inputs] and [n], at most ``last``."""
    seen = seen_window(columns, np.array([row]), frame)
    pushed, size = int(columns.window_count[row]), columns.window_size
    n = min(pushed, size if last is None else min(last, size))
    at = np.arange(pushed - n, pushed) % size
    return seen.x[0, at], seen.y[0, at]


class RecentRows:
    """The rows of the last labelled events, so that a meta-update draws from tasks that are alive."""

    def __init__(self, size: int) -> None:
        self._recent = kernels.Recent(size)
        self.size = size  # labelled events that it looks back on
        self.add = self._recent.add  # (rows [N]): each of these, in order, just learned a label
        self.drop = self._recent.drop  # (row): it holds its task no more

    def rows(self) -> Ints:
        """The rows alive [n], each once."""
        rows = np.empty(self._recent.alive(), np.int64)
        self._recent.copy_alive(rows)
        return rows

    def entries(self) -> Ints:
        """The rows of the last labelled events, in order, but for those that were dropped since."""
        self._recent.sweep()
        entries = np.empty(self._recent.entries(), np.int64)
        self._recent.copy_entries(entries)
        return entries

    def weights(self, memory: float) -> dict[int, float]:
        """Of each row alive, its labels among the last ones, forgotten by exp(−age / memory)."""
        rows = self.entries()
        ages = np.arange(rows.size)[::-1]
        found, place = np.unique(rows, return_inverse=True)
        return dict(zip(found.tolist(), np.bincount(place, exp(-ages / memory)).tolist(), strict=True))

    def draw(self, count: int, pushed: Ints, shortest: int, random: np.random.Generator) -> Ints:
        """``count`` rows, uniformly from those alive with at least ``shortest`` events; none where there is none."""
        alive = self.rows()
        if not alive.size:
            return alive
        drawn = alive[random.integers(alive.size, size=_TRIES * count)]
        old_enough = drawn[pushed[drawn] >= shortest][:count]
        if old_enough.size < count:  # they are rare: look at them all
            every = alive[pushed[alive] >= shortest]
            return random.choice(every, count) if every.size else every
        return old_enough

    def dump(self, position: Mapping[int, int]) -> dict[str, list[int]]:
        """Plain values, with rows given by their position among the tasks of a snapshot."""
        entries, alive = self.entries().tolist(), self.rows().tolist()
        return {"ring": [position[row] for row in entries], "alive": [position[row] for row in alive]}

    def load(self, state: Mapping[str, list[int]], rows: Sequence[int]) -> None:
        """Become what ``dump`` described, given the row that each position has now."""
        entries, alive = ([rows[position] for position in state[name]] for name in ("ring", "alive"))
        self._recent.load(np.array(entries, np.int64), np.array(alive, np.int64))


def as_encoded(seen: Floats) -> Floats:
    """Features [..., inputs] as the encoder takes them: cut at ±6, missing as the mean."""
    found: Floats = np.nan_to_num(seen).clip(-_CLIP, _CLIP)
    return found


def draw_episodes(
    columns: Columns,
    rows: Ints,
    frame: FrameScale,
    settings: SegmentSettings,
    kind: Kind,
    members: int,
    random: np.random.Generator,
    places: Ints | None = None,
) -> Episodes | None:
    """A segment of each of these tasks, as many for each member in turn; None where there is none.

    Half of a member's ``settings.tasks`` segments (``burn_in_share``) are scored only in their second half, the others
    from their first event on, as a new task would be.

    Args:
        columns: of the task table.
        rows: of the tasks [E · B].
        frame: the scale.
        settings: of segments.
        kind: of prediction.
        members: E.
        random: draws where segments begin.
        places: which of a member's segments these are [B], where other processes draw the rest; None: all of them.
    """
    if not rows.size:
        return None
    places = np.arange(settings.tasks) if places is None else places
    length = settings.length
    kept = np.minimum(columns.window_count[rows], columns.window_size)
    firsts = random.integers(np.maximum(kept - length, 0) + 1)
    sizes = np.minimum(kept - firsts, length)
    begins = (columns.window_count[rows] - kept + firsts) % columns.window_size
    at = np.arange(length)
    seen, each = seen_window(columns, rows, frame), np.arange(rows.size)[:, None]
    ring = (begins[:, None] + at) % columns.window_size
    is_there = at < sizes[:, None]
    xs, ys = as_encoded(seen.x[each, ring]), seen.y[each, ring]
    is_there &= ~np.isnan(ys)
    xs[~is_there], ys[~is_there] = 0, 0
    valid = is_there.astype(np.float32)
    cold = settings.tasks - int(settings.tasks * settings.burn_in_share)
    burn_in = np.where(np.tile(places, members) >= cold, sizes // 2, 0)
    scored = valid * (at >= burn_in[:, None])
    targets: npt.NDArray[Any] = ys.astype(np.int64) if kind == "classification" else ys
    parts = xs, targets, valid, scored.astype(np.float32)
    return Episodes(*(part.reshape(members, places.size, *part.shape[1:]) for part in parts))
