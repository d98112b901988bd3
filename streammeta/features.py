"""From named features to numbered slots, and from raw numbers to normalized ones.

Names become slots in the order of their first appearance, so shuffled, late and vanishing features do no harm. A
number has one slot; a category has one slot for each of its values, 1 where it holds. What is missing is NaN, and adds
nothing to the encoder: for a number that is its mean, for a category "another value".
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from streammeta.errors import EventError
from streammeta.event import Event, Feature
from streammeta.meta.base import Floats, Scaling

__all__ = ["FeatureSpace", "RunningScaling"]

_Slot = tuple[str, str | None]  # name, and the category's value; None for numbers
_LARGEST = 3.0e38  # as float32 holds it
_FORGET_AFTER = 20_000.0  # events after which the running moments forget
_OUTLIER = 10.0  # standard deviations beyond which a value moves the moments no further
_FLATTEST = 1e-12  # variance below which a feature counts as constant


class FeatureSpace:
    """Which slot a feature has.

    >>> space = FeatureSpace(max_features=8)
    >>> space.slots({"price": 1.5, "colour": "red", "sale": True, "weight": None})
    [(0, 1.5), (1, 1.0), (2, 1.0)]
    >>> space.slots({"sale": False, "colour": "blue"})
    [(2, 0.0), (3, 1.0)]
    """

    def __init__(self, max_features: int) -> None:
        self.max_features = max_features
        self.ignored = 0  # features left out because all slots were taken
        self.fan_in: list[int] = []  # how many slots there were after the event that brought this one
        self._slot_of: dict[_Slot, int] = {}
        self._width: int | None = None  # of events whose features have no names

    def __len__(self) -> int:
        """How many slots are in use."""
        return len(self._slot_of)

    @property
    def categories(self) -> npt.NDArray[np.bool_]:
        """Which slots [D] belong to a category's value."""
        return np.array([value is not None for _, value in self._slot_of], dtype=np.bool_)

    def slots(self, x: Mapping[str, Feature] | Sequence[float | None]) -> list[tuple[int, float]]:
        """The slots an event fills, with their raw values; new names get new slots while there are any."""
        named = x.items() if isinstance(x, Mapping) else ((str(i), value) for i, value in enumerate(x))
        filled = []
        for name, value in named:
            if value is None:
                continue
            key: _Slot = (name, value) if isinstance(value, str) else (name, None)
            slot = self._slot_of.get(key)
            if slot is None:
                if len(self._slot_of) >= self.max_features:
                    self.ignored += 1
                    continue
                slot = self._slot_of[key] = len(self._slot_of)
            filled.append((slot, 1.0 if isinstance(value, str) else float(value)))
        self.fan_in += [len(self._slot_of)] * (len(self._slot_of) - len(self.fan_in))
        return filled

    def check(self, event: Event) -> None:
        """Raise EventError for a number that is not finite, or a list whose width is not that of the lists before."""
        values = event.x.values() if isinstance(event.x, Mapping) else event.x
        for value in values:
            if isinstance(value, (float, int)) and not -_LARGEST < value < _LARGEST:
                raise EventError(f"{event.origin}: a feature is {value}, wanted a finite number below {_LARGEST:.0e}")
        if isinstance(event.x, Mapping):
            return
        if self._width is None:
            self._width = len(event.x)
        if len(event.x) != self._width:
            raise EventError(
                f"{event.origin}: `x` has {len(event.x)} numbers, wanted {self._width} as in the stream's first event; "
                "fix the producer, or send features by name"
            )

    def table(self, filled: Sequence[Sequence[tuple[int, float]]]) -> Floats:
        """Raw features [N, D] of several events from their filled slots."""
        blank = [np.nan] * len(self._slot_of)
        rows = []
        for pairs in filled:
            row = blank.copy()
            for slot, value in pairs:
                row[slot] = value
            rows.append(row)
        return np.array(rows, dtype=np.float32).reshape(len(filled), len(blank))

    def dump(self) -> dict[str, Any]:
        """Plain values from which ``load`` makes the same space."""
        slots = [[*key, fan_in] for key, fan_in in zip(self._slot_of, self.fan_in, strict=True)]
        return {"slots": slots, "width": self._width, "ignored": self.ignored}

    def load(self, state: Mapping[str, Any]) -> None:
        """Become the space that ``dump`` described."""
        self._slot_of = {(name, value): slot for slot, (name, value, _) in enumerate(state["slots"])}
        self.fan_in = [fan_in for _, _, fan_in in state["slots"]]
        self._width, self.ignored = state["width"], state["ignored"]


@njit(cache=True)  # type: ignore[untyped-decorator]
def _observe(count: Any, mean: Any, squares: Any, xs: Any) -> None:  # noqa: ANN401
    """Running moments of each column, one row after the other (Welford); NaN is missing."""
    for e in range(xs.shape[0]):
        for i in range(xs.shape[1]):
            x = float(xs[e, i])
            if np.isnan(x):
                continue
            spread = np.sqrt(squares[i] / count[i]) if count[i] >= 16 else 0.0
            if spread > 0:
                x = min(max(x, mean[i] - _OUTLIER * spread), mean[i] + _OUTLIER * spread)
            if count[i] >= _FORGET_AFTER:
                squares[i] *= 1 - 1 / _FORGET_AFTER
            else:
                count[i] += 1
            gap = x - mean[i]
            mean[i] += gap / count[i]
            squares[i] += gap * (x - mean[i])


class RunningScaling:
    """Running mean and spread of D features and of the target; read out only where θ may change."""

    def __init__(self) -> None:
        self.moments = np.zeros((3, 0))  # count, mean, sum of squares around the mean; one column a feature
        self.target = np.zeros((3, 1))

    def observe(self, xs: Floats) -> None:
        """Take in raw features [N, D], in order; D may have grown."""
        more = xs.shape[1] - self.moments.shape[1]
        if more > 0:
            self.moments = np.concatenate([self.moments, np.zeros((3, more))], axis=1)
        _observe(*self.moments, xs)

    def observe_target(self, ys: Floats) -> None:
        """Take in raw targets [N], in order."""
        _observe(*self.target, ys[:, None])

    def read(self, categories: npt.NDArray[np.bool_]) -> Scaling:
        """The normalization as of now; categories, and features never seen to vary, keep their own unit."""
        shift, gain = _affine(self.moments)
        known = categories[: shift.size]
        y_shift, y_gain = _affine(self.target)
        return Scaling(
            shift=np.where(known, np.float32(0), shift),
            gain=np.where(known, np.float32(1), gain),
            y_shift=float(y_shift[0]),
            y_spread=float(1 / y_gain[0]),
        )


def _affine(moments: npt.NDArray[np.float64]) -> tuple[Floats, Floats]:
    count, mean, squares = moments
    variance = squares / np.maximum(count, 1)
    flat = variance <= _FLATTEST * np.maximum(1.0, mean * mean)
    gain = np.where(flat, 1.0, 1 / np.sqrt(np.where(flat, 1.0, variance)))
    return mean.astype(np.float32), gain.astype(np.float32)
