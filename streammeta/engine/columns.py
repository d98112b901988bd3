"""What is kept of each task, as arrays over all rows of the task table.

Columns that every engine has are attributes here, with the verbs that change several of them at once. Those of the
learner (φ), of experts, and of what a setting turns on are looked up by their names, which their owners declare.
"""

from collections.abc import Mapping
from operator import itemgetter
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["Column", "Columns", "is_adaptable", "next_power_of_two"]

S = TypeVar("S", bound=np.generic)


class Column(NamedTuple):
    """One array over all tasks; ``shape`` is that of one row."""

    shape: tuple[int, ...]
    dtype: type[np.generic]
    blank: float = 0.0
    filled: str | None = None  # the column that counts what was put into a row, first place first, blanks and all


def is_adaptable(name: str) -> bool:
    """Whether a column of this name may be in a saved row and not here, or here and not there, or of another size.

    What is too much at the end of an axis is left, and what is not there is blank. So settings may change under state.
    """
    return name.startswith("rolling")  # of numbers of 8 bytes, the newest first: see `extraction/rolling`


def next_power_of_two(n: int) -> int:
    """The next power of two: columns that grow by doubling grow seldom."""
    return 1 << max(n - 1, 0).bit_length()


def _named(name: str, dtype: type[S]) -> npt.NDArray[S]:  # noqa: ARG001  as dataclasses.field, it says what one reads
    """The column of this name as an attribute, found without a Python call."""
    return property(itemgetter(name))  # type: ignore[return-value]


class Columns(dict[str, npt.NDArray[Any]]):
    """Arrays over T rows by name, each [T, …]. W: window, D: feature slots, K: features with a view of a task's own."""

    window_x = _named("window_x", np.float32)  # [T, W, D] raw features of remembered events; NaN: missing
    window_low = _named("window_low", np.float32)  # [T, W, K] what float32 leaves out of them
    window_y: npt.NDArray[Any] = _named("window_y", np.generic)  # [T, W] their labels: class indices, or raw targets
    window_id = _named("window_id", np.int64)  # [T, W] their ids, hashed; only with [labels] on_second = "relearn"
    window_count = _named("window_count", np.int64)  # [T] labelled events that went into the window, ever

    version = _named("version", np.int64)  # [T] of θ, when φ was last derived from the window (`staleness`)
    rebuild_cooldown = _named("rebuild_cooldown", np.int64)  # [T] events until φ may be derived again

    scale_x = _named("scale.x", np.float64)  # [T, SCALE_ROWS, D] a task's own view of features (`scale`)
    scale_y = _named("scale.y", np.float64)  # [T, SCALE_ROWS, 1] and of the target
    scale_last = _named("scale.last", np.float32)  # [T, D] standard deviations at the last look
    scale_y_last = _named("scale.y_last", np.float32)  # [T, 0 or 1]
    scale_next = _named("scale.next", np.int64)  # [T] labels of the task at which its scale is looked at next
    scale_epoch = _named("scale.epoch", np.int64)  # [T] of the shared scale, at the last look
    scale_strays = _named("scale.strays", np.int64)  # [T] labels in a row that came with a number far away

    events = _named("events", np.int64)  # [T]
    labelled = _named("labelled", np.int64)  # [T]
    # [T] labelled events of the present concept, as far as known; how many of them came before the drift was signalled
    labels_since_drift = _named("labels_since_drift", np.int64)
    labels_kept_at_drift = _named("labels_kept_at_drift", np.int64)
    error = _named("error", np.float64)  # [T] running mean over the last labels
    drifts = _named("drifts", np.int64)  # [T]
    drift_at = _named("drift_at", np.float64)  # [T] time of the last drift; NaN: none
    seen_at = _named("seen_at", np.float64)  # [T] time of the last event; NaN: none
    elapsed = _named("elapsed", np.float64)  # [T, 2] only with the time feature of that name (`elapsed`)

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
