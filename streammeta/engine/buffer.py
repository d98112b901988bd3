"""Each task's recent labelled events, and the drawing of episodes from them for a meta-update.

The windows are three columns of the task table, rings that ``pushed`` [T] counts: ``window_x`` [T, W, D] and
``window_y`` [T, W], raw, and ``window_low`` [T, W, K], what float32 leaves out of some features. Everything here is a
function over those arrays.
"""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from streammeta.engine.scale import FrameScale, Seen, seen_window
from streammeta.engine.settings import SegmentSettings
from streammeta.meta.base import Episodes, Floats, Ints, Kind
from streammeta.native import _kernels as kernels
from streammeta.native.elementary import exp

__all__ = ["RecentRows", "as_encoded", "draw_episodes", "keep_low", "push", "relabel", "window"]

_Columns = Mapping[str, npt.NDArray[Any]]
Doubles: TypeAlias = npt.NDArray[np.float64]
_CLIP = np.float32(6.0)  # as on the event path
_TRIES = 2  # rows drawn for each one wanted, as some may be too young


def push(columns: _Columns, rows: Ints, xs: Floats, low: Floats, ys: Doubles) -> None:
    """Remember events, each in its row, in this order.

    Args:
        columns: of the task table.
        rows: [N]
        xs: raw features [N, D].
        low: what float32 leaves out of those that have a second one [N, K] (`streammeta.engine.scale.split`).
        ys: class indices or raw targets [N].
    """
    window = columns["window_x"], columns["window_low"], columns["window_y"], columns["window_count"]
    kernels.push(*window, rows, xs, low, np.ascontiguousarray(ys, np.float64))


def relabel(columns: _Columns, row: int, place: int, y: float) -> bool:
    """Give the event at this place of a row's window another label, and say whether it is another one."""
    before = columns["window_y"][row, place].item()
    columns["window_y"][row, place] = y
    return bool(columns["window_y"][row, place] != before)


def keep_low(columns: _Columns, seen: Seen, begin: int, own: Ints, before: int) -> None:
    """Remember what float32 leaves out of features that have own views only since event ``begin`` of these.

    Args:
        columns: of the task table.
        seen: events [N] that are in their windows already, where they have a label.
        begin: events before it are remembered without.
        own: the features [K] that have own views.
        before: how many of them had before.
    """
    later: dict[int, int] = {}
    size, numbers = columns["window_y"].shape[1], own[before:]
    for i in range(len(seen.rows) - 1, begin - 1, -1):
        if np.isnan(seen.labels[i]):
            continue
        row = int(seen.rows[i])
        later[row] = back = later.get(row, 0) + 1
        at = (int(columns["window_count"][row]) - back) % size
        high = seen.high[i]
        if np.array_equal(columns["window_x"][row, at, : high.size], high, equal_nan=True):  # else it was refused
            low = (seen.exact[i, numbers] - high[numbers]).astype(np.float32)
            columns["window_low"][row, at, before : own.size] = low


def window(columns: _Columns, row: int, frame: FrameScale, last: int | None = None) -> tuple[Floats, Floats]:
    """A task's remembered events, oldest first, as the learner sees them: [n, inputs] and [n], at most ``last``."""
    seen = seen_window(columns, np.array([row]), frame)
    pushed, size = int(columns["window_count"][row]), columns["window_y"].shape[1]
    n = min(pushed, size if last is None else min(last, size))
    at = np.arange(pushed - n, pushed) % size
    return seen.x[0, at], seen.y[0, at]


class RecentRows:
    """The rows of the last labelled events, so that a meta-update draws from tasks that are alive."""

    def __init__(self, size: int) -> None:
        self._ring: deque[int] = deque()
        self._size = size
        self._count: dict[int, int] = {}  # labelled events of each row in the ring
        self._alive: list[int] = []  # those rows, each once; a seeded draw depends on their order
        self._place: dict[int, int] = {}  # of each in ``_alive``
        self._gone: Counter[int] = Counter()  # of rows dropped: this number of their oldest entries in the ring is void
        self._void = 0  # all of those

    def add(self, row: int) -> None:
        """This row just learned a label."""
        self._ring.append(row)
        if row in self._count:
            self._count[row] += 1
        else:
            self._count[row], self._place[row] = 1, len(self._alive)
            self._alive.append(row)
        if len(self._ring) - self._void > self._size:
            old = self._ring.popleft()
            while self._gone[old]:
                self._gone[old] -= 1
                self._void -= 1
                old = self._ring.popleft()
            self._count[old] -= 1
            if not self._count[old]:
                self._leave(old)

    def drop(self, row: int) -> None:
        """This row holds its task no more."""
        if row in self._count:
            self._gone[row] += self._count[row]
            self._void += self._count[row]
            self._leave(row)
            if self._void > self._size:
                self._sweep()

    def rows(self) -> list[int]:
        """The rows alive, each once."""
        return list(self._alive)

    @property
    def size(self) -> int:
        """How many labelled events it looks back on."""
        return self._size

    def weights(self, memory: float) -> dict[int, float]:
        """Of each row alive, its labels among the last ones, forgotten by exp(−age / memory)."""
        self._sweep()
        ages = np.arange(len(self._ring))[::-1]
        rows = np.fromiter(self._ring, np.int64, len(self._ring))
        found, place = np.unique(rows, return_inverse=True)
        return dict(zip(found.tolist(), np.bincount(place, exp(-ages / memory)).tolist(), strict=True))

    def draw(self, count: int, pushed: Ints, shortest: int, random: np.random.Generator) -> Ints:
        """``count`` rows, uniformly from those alive with at least ``shortest`` events; none where there is none."""
        if not self._alive:
            return np.zeros(0, np.int64)
        places = random.integers(len(self._alive), size=_TRIES * count)
        drawn = np.array([self._alive[place] for place in places.tolist()], np.int64)
        old_enough = drawn[pushed[drawn] >= shortest][:count]
        if old_enough.size < count:  # they are rare: look at them all
            every = np.array(self._alive, np.int64)
            every = every[pushed[every] >= shortest]
            return random.choice(every, count) if every.size else every
        return old_enough

    def dump(self, position: Mapping[int, int]) -> dict[str, list[int]]:
        """Plain values, with rows given by their position among the tasks of a snapshot."""
        self._sweep()
        return {"ring": [position[row] for row in self._ring], "alive": [position[row] for row in self._alive]}

    def load(self, state: Mapping[str, list[int]], rows: Sequence[int]) -> None:
        """Become what ``dump`` described, given the row that each position has now."""
        self._ring = deque(rows[position] for position in state["ring"])
        self._alive = [rows[position] for position in state["alive"]]
        self._place = {row: place for place, row in enumerate(self._alive)}
        self._count = Counter(self._ring)
        self._gone.clear()
        self._void = 0

    def _sweep(self) -> None:
        """Take what is void out of the ring; in ``drop`` that would cost as much for every row."""
        if self._void:
            ring, self._ring = self._ring, deque()
            for row in ring:
                if self._gone[row]:
                    self._gone[row] -= 1
                else:
                    self._ring.append(row)
        self._gone.clear()
        self._void = 0

    def _leave(self, row: int) -> None:
        """The last of ``_alive`` takes this row's place."""
        place, last = self._place.pop(row), self._alive.pop()
        del self._count[row]
        if last != row:
            self._alive[place] = last
            self._place[last] = place


def as_encoded(seen: Floats) -> Floats:
    """Features [..., inputs] as the encoder takes them: cut at ±6, missing as the mean."""
    found: Floats = np.nan_to_num(seen).clip(-_CLIP, _CLIP)
    return found


def draw_episodes(
    columns: _Columns,
    rows: Ints,
    frame: FrameScale,
    settings: SegmentSettings,
    kind: Kind,
    members: int,
    random: np.random.Generator,
) -> Episodes | None:
    """A segment of each of these tasks, ``settings.tasks`` for each member in turn; None where there is none.

    Half of each member's segments (``burn_in_share``) are scored only in their second half, the others from their first
    event on, as a new task would be.
    """
    if not rows.size:
        return None
    length = settings.length
    kept = np.minimum(columns["window_count"][rows], columns["window_y"].shape[1])
    firsts = random.integers(np.maximum(kept - length, 0) + 1)
    sizes = np.minimum(kept - firsts, length)
    begins = (columns["window_count"][rows] - kept + firsts) % columns["window_y"].shape[1]
    at = np.arange(length)
    seen, each = seen_window(columns, rows, frame), np.arange(rows.size)[:, None]
    places = (begins[:, None] + at) % columns["window_y"].shape[1]
    is_there = at < sizes[:, None]
    xs, ys = as_encoded(seen.x[each, places]), seen.y[each, places]
    is_there &= ~np.isnan(ys)
    xs[~is_there], ys[~is_there] = 0, 0
    valid = is_there.astype(np.float32)
    cold = settings.tasks - int(settings.tasks * settings.burn_in_share)
    burn_in = np.where(np.arange(rows.size) % settings.tasks >= cold, sizes // 2, 0)
    scored = valid * (at >= burn_in[:, None])
    targets: npt.NDArray[Any] = ys.astype(np.int64) if kind == "classification" else ys
    parts = xs, targets, valid, scored.astype(np.float32)
    return Episodes(*(part.reshape(members, settings.tasks, *part.shape[1:]) for part in parts))
