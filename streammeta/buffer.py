"""Each task's recent labelled events, and the drawing of episodes from them for a meta-update.

The windows are two columns of the task table: ``window_x`` [T, W, D] and ``window_y`` [T, W], rings that ``pushed`` [T]
counts. Everything here is a function over those arrays.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, Field

from streammeta.meta.base import Episodes, Floats, Ints, Kind, Scaling

__all__ = ["RecentRows", "SegmentSettings", "draw_episodes", "normalize", "push", "window"]

_Columns = Mapping[str, npt.NDArray[Any]]
_CLIP = 6.0  # as on the event path


class SegmentSettings(BaseModel, frozen=True, extra="forbid"):
    """What one meta-update learns from."""

    tasks: int = Field(12, ge=1, le=4096, description="Segments in one meta-update, each of one task.")
    length: int = Field(64, ge=2, le=4096, description="Labelled events in a segment.")
    shortest: int = Field(8, ge=2, description="Tasks with fewer labelled events are not drawn.")
    burn_in_share: float = Field(
        0.5, ge=0, le=1, description="Share of segments whose first half is only learned from; the others start cold."
    )
    recent_events: int = Field(4096, ge=1, description="Tasks are drawn from those of this many last labelled events.")


def push(columns: _Columns, rows: Ints, xs: Floats, ys: Floats) -> None:
    """Remember raw events xs [N, D] with labels ys [N] in N different rows."""
    at = columns["pushed"][rows] % columns["window_y"].shape[1]
    columns["window_x"][rows, at, : xs.shape[1]] = xs
    columns["window_y"][rows, at] = ys
    columns["pushed"][rows] += 1


def window(columns: _Columns, row: int, features: int, last: int | None = None) -> tuple[Floats, Floats]:
    """A task's remembered events, oldest first: raw xs [n, D] and ys [n], at most the ``last`` ones."""
    pushed, size = int(columns["pushed"][row]), columns["window_y"].shape[1]
    n = min(pushed, size if last is None else min(last, size))
    at = np.arange(pushed - n, pushed) % size
    return columns["window_x"][row, at, :features], columns["window_y"][row, at]


class RecentRows:
    """The rows of the last labelled events, so that a meta-update draws from tasks that are alive."""

    def __init__(self, size: int) -> None:
        self._ring: deque[int] = deque()
        self._size = size
        self._count: dict[int, int] = {}  # rows alive, in the order in which they became so

    def add(self, row: int) -> None:
        """This row just learned a label."""
        self._ring.append(row)
        self._count[row] = self._count.get(row, 0) + 1
        if len(self._ring) > self._size:
            old = self._ring.popleft()
            self._count[old] -= 1
            if not self._count[old]:
                del self._count[old]

    def drop(self, row: int) -> None:
        """This row holds its task no more."""
        if self._count.pop(row, None) is not None:
            self._ring = deque(kept for kept in self._ring if kept != row)

    def rows(self) -> list[int]:
        """The rows alive, each once."""
        return list(self._count)

    def dump(self, position: Mapping[int, int]) -> dict[str, list[int]]:
        """Plain values, with rows told by their position among the tasks of a snapshot."""
        return {"ring": [position[row] for row in self._ring], "alive": [position[row] for row in self._count]}

    def load(self, state: Mapping[str, list[int]], rows: Sequence[int]) -> None:
        """Become what ``dump`` described, given the row that each position has now."""
        self._ring = deque(rows[position] for position in state["ring"])
        self._count = {rows[position]: 0 for position in state["alive"]}
        for row in self._ring:
            self._count[row] += 1


def normalize(xs: Floats, scaling: Scaling) -> Floats:
    """Raw features [..., D] as the encoder sees them: shifted, scaled, cut at ±6, missing as the mean."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = (xs - scaling.shift) * scaling.gain
    known: Floats = np.nan_to_num(scaled, nan=0.0, posinf=_CLIP, neginf=-_CLIP).astype(np.float32)
    return known.clip(-_CLIP, _CLIP)


def draw_episodes(
    columns: _Columns,
    recent: RecentRows,
    scaling: Scaling,
    settings: SegmentSettings,
    kind: Kind,
    random: np.random.Generator,
) -> Episodes | None:
    """Segments of tasks drawn uniformly from those alive; None while no task has enough labelled events.

    Half of the segments (``burn_in_share``) are scored only in their second half, the others from their first event on,
    as a new task would be.
    """
    rows = np.array(recent.rows(), dtype=np.int64)
    rows = rows[columns["pushed"][rows] >= settings.shortest]
    if not rows.size:
        return None
    features, length = scaling.shift.size, settings.length
    xs = np.zeros((settings.tasks, length, features), np.float32)
    ys = np.zeros((settings.tasks, length), np.float32)
    valid = np.zeros((settings.tasks, length), np.float32)
    scored = np.zeros((settings.tasks, length), np.float32)
    cold = settings.tasks - int(settings.tasks * settings.burn_in_share)
    for b, row in enumerate(random.choice(rows, settings.tasks).tolist()):
        x, y = window(columns, row, features)
        first = int(random.integers(max(len(y) - length, 0) + 1))
        n = min(length, len(y) - first)
        xs[b, :n] = normalize(x[first : first + n], scaling)
        ys[b, :n] = y[first : first + n]
        valid[b, :n] = 1
        scored[b, n // 2 * (b >= cold) : n] = 1
    if kind == "classification":
        targets = torch.from_numpy(ys.astype(np.int64))
    else:
        targets = torch.from_numpy((ys - np.float32(scaling.y_shift)) / np.float32(scaling.y_spread))
    return Episodes(torch.from_numpy(xs), targets, torch.from_numpy(valid), torch.from_numpy(scored))
