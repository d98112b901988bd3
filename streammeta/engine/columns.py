"""What is kept of each task, as arrays over all rows of the task table.

Columns that every engine has are attributes here, with the verbs that change several of them at once. Those of the
learner (φ), of experts, and of what a setting turns on are looked up by their names, which their owners declare.
"""

from collections.abc import Mapping
from typing import Any, Generic, NamedTuple, Self, TypeVar, overload

import numpy as np
import numpy.typing as npt

__all__ = ["Column", "Columns", "next_power_of_two"]

S = TypeVar("S", bound=np.generic)


class Column(NamedTuple):
    """One array over all tasks; ``shape`` is that of one row."""

    shape: tuple[int, ...]
    dtype: type[np.generic]
    blank: float = 0.0
    filled: str | None = None  # the column that counts what was put into a row, first place first, blanks and all


def next_power_of_two(n: int) -> int:
    """The next power of two: columns that grow by doubling grow seldom."""
    return 1 << max(n - 1, 0).bit_length()


class _Named(Generic[S]):
    """A column as an attribute; by its own name, or by one with a dot in it."""

    def __init__(self, name: str | None = None) -> None:
        self._name = name or ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = self._name or name

    @overload
    def __get__(self, columns: None, owner: type) -> Self: ...
    @overload
    def __get__(self, columns: "Columns", owner: type) -> npt.NDArray[S]: ...
    def __get__(self, columns: "Columns | None", owner: type) -> "Self | npt.NDArray[S]":
        return self if columns is None else columns[self._name]


class Columns(dict[str, npt.NDArray[Any]]):
    """Arrays over T rows by name, each [T, …]. W: window, D: feature slots, K: features with a view of a task's own."""

    window_x = _Named[np.float32]()  # [T, W, D] raw features of remembered events; NaN: missing
    window_low = _Named[np.float32]()  # [T, W, K] what float32 leaves out of them
    window_y = _Named[Any]()  # [T, W] their labels: class indices, or raw targets
    window_id = _Named[np.int64]()  # [T, W] their ids, hashed; only with [labels] on_second = "relearn"
    window_count = _Named[np.int64]()  # [T] labelled events that went into the window, ever

    version = _Named[np.int64]()  # [T] of θ, when φ was last derived from the window (`staleness`)
    rebuild_cooldown = _Named[np.int64]()  # [T] events until φ may be derived again

    scale_x = _Named[np.float64]("scale.x")  # [T, SCALE_ROWS, D] a task's own view of features (`scale`)
    scale_y = _Named[np.float64]("scale.y")  # [T, SCALE_ROWS, 1] and of the target
    scale_last = _Named[np.float32]("scale.last")  # [T, D] standard deviations at the last look
    scale_y_last = _Named[np.float32]("scale.y_last")  # [T, 0 or 1]
    scale_next = _Named[np.int64]("scale.next")  # [T] labels of the task at which its scale is looked at next
    scale_epoch = _Named[np.int64]("scale.epoch")  # [T] of the shared scale, at the last look
    scale_strays = _Named[np.int64]("scale.strays")  # [T] labels in a row that came with a number far away

    events = _Named[np.int64]()  # [T]
    labelled = _Named[np.int64]()  # [T]
    labels_since_drift = _Named[np.int64]()  # [T] labelled events of the present concept, as far as known
    labels_kept_at_drift = _Named[np.int64]()  # [T] how many of them came before the drift was signalled
    error = _Named[np.float64]()  # [T] running mean over the last labels
    drifts = _Named[np.int64]()  # [T]
    drift_at = _Named[np.float64]()  # [T] time of the last drift; NaN: none
    seen_at = _Named[np.float64]()  # [T] time of the last event; NaN: none
    elapsed = _Named[np.float64]()  # [T, 2] only with the time feature of that name (`elapsed`)

    @classmethod
    def blank(cls, kinds: Mapping[str, Column], rows: int) -> Self:
        """Blank rows of these kinds."""
        return cls({name: np.full((rows, *kind.shape), kind.blank, kind.dtype) for name, kind in kinds.items()})

    @property
    def window_size(self) -> int:
        """W, the events that a window can hold."""
        return int(self.window_y.shape[1])

    def record_drift(self, row: int) -> None:
        """A drift was signalled with the task's last event."""
        self.drifts[row] += 1
        self.drift_at[row] = self.seen_at[row]

    def start_concept(self, row: int, kept: int) -> None:
        """A new concept of the task began ``kept`` labels ago, as far as its window still has them."""
        labels = min(kept, int(self.window_count[row]))
        self.labels_since_drift[row] = self.labels_kept_at_drift[row] = labels
