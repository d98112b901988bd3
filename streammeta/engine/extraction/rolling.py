"""Rolling features: statistics of what a task's own events before had in a feature, or of its labels.

A task's row has, of each feature that they are of, a ring of its last R values with their times, the newest first:

    column ``rolling:NAME``       [T, R, 2] value and seconds since 1970. NaN: no value (then none comes after it),
                                  or no time. ∞: the value is a text.
    column ``rolling_text:NAME``  [T, L, 4] the last L of these texts, as bytes; only where lags are made

Each statistic is computed from these values when an event comes, so nothing drifts: sums are exact before they are
rounded once (Shewchuk 1997, by ``math.fsum``), so a value like 1.7e9 + 60 keeps its 60. Only what came before counts:
values of the event itself and its label enter the ring after its features were made, a late label when it comes.

As the newest comes first, a ring may become longer or shorter with the settings, and keeps what fits.
"""

import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from streammeta.bounds import LARGEST
from streammeta.engine.columns import Column, Columns, is_adaptable
from streammeta.engine.extraction.settings import RollingSettings, Statistic
from streammeta.event import Feature, LabelValue

__all__ = ["Rolling", "fitted"]

_RING, _TEXT = "rolling:", "rolling_text:"
_TEXT_BYTES: Final = 32
_CUT_BYTES: Final = 23  # of a longer text, before a hash of all of it


def fitted(found: Mapping[str, npt.NDArray[Any]], columns: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """Columns [N, …] from elsewhere: of rolling features only the newest values, as many as ours hold."""
    return {
        name: values[:, : columns[name].shape[1]] if is_adaptable(name) and name in columns else values
        for name, values in found.items()
    }


class _Source(NamedTuple):
    """What is remembered of one feature, or of labels."""

    feature: str | None  # None: of labels
    ring: str  # the columns
    text: str | None
    made: tuple["_Made", ...]


class _Made(NamedTuple):
    """One feature that is made."""

    name: str
    statistic: Statistic
    lag: int
    events: int
    seconds: float | None


class Rolling:
    """Makes rolling features, and remembers what they are made of.

    Args:
        settings: what is made.
        classify: labels are classes: the last one is a category, also where it is a number.

    Attributes:
        columns: what a task's row has for it.
        names: of all features that are made.
        needs_label_times: whether a label's event has to be remembered with its time until the label comes.
    """

    def __init__(self, settings: Sequence[RollingSettings], *, classify: bool) -> None:
        self._classify = classify
        self.columns = dict[str, Column]()
        self._sources, self._of_labels = list[_Source](), list[_Source]()
        for of in dict.fromkeys(one.of for one in settings):
            ours = [one for one in settings if one.of == of]
            ring, text = f"{_RING}{of}", f"{_TEXT}{of}"
            lag = max((max(one.lags) for one in ours if "lag" in one.make), default=0)
            self.columns[ring] = Column((max(one.values for one in ours), 2), np.float64, math.nan)
            has_text = lag and (classify or not ours[0].is_of_labels)
            if has_text:
                self.columns[text] = Column((lag, _TEXT_BYTES // 8), np.int64)
            made = tuple(_Made(*name, one.events, one.seconds) for one in ours for name in one.names())
            is_of_labels = ours[0].is_of_labels
            source = _Source(None if is_of_labels else ours[0].feature, ring, text if has_text else None, made)
            (self._of_labels if is_of_labels else self._sources).append(source)
        self.names = frozenset(made.name for one in (*self._sources, *self._of_labels) for made in one.made)
        self.needs_label_times = any(
            made.seconds is not None or made.statistic == "since" for one in self._of_labels for made in one.made
        )

    def features(self, columns: Columns, row: int, ts: float | None) -> dict[str, Feature]:
        """The features of an event that comes now, by name; those that cannot be known are not there.

        Args:
            columns: of the task table.
            row: the task's; −1: it has none yet.
            ts: the event's time; None: it has none, so it has no ``since`` and no window in seconds.
        """
        found: dict[str, Feature] = {}
        for source in (*self._sources, *self._of_labels):
            past = _NOTHING if row < 0 else _Past.of(columns[source.ring][row])
            texts = None if source.text is None or row < 0 else columns[source.text][row]
            is_class = source.feature is None and self._classify
            for made in source.made:
                value = _lag(past, texts, made.lag, is_class) if made.lag else _statistic(made, past, ts)
                if isinstance(value, str) or (value is not None and -LARGEST < value < LARGEST):
                    found[made.name] = value
        return found

    def remember(self, columns: Columns, row: int, x: Mapping[str, Feature], ts: float | None) -> None:
        """An event of this row came, with these features; what is missing is not remembered."""
        for source in self._sources:
            value = x.get(source.feature)  # type: ignore[arg-type]  # it is of a feature
            if value is not None:
                _push(columns, row, source, value, ts)

    def remember_label(self, columns: Columns, row: int, y: LabelValue, ts: float | None) -> None:
        """A label of an event of this row is known from now on; ``ts``: the event's time."""
        for source in self._of_labels:
            _push(columns, row, source, y, ts)


class _Past(NamedTuple):
    """What is remembered of a task in one ring, the newest first."""

    values: list[float]
    times: list[float]  # NaN: none

    @classmethod
    def of(cls, ring: npt.NDArray[Any]) -> "_Past":
        """All of a ring [R, 2]."""
        values, times = ring.T.tolist()
        if not math.isnan(values[-1]):
            return cls(values, times)
        known = int(np.isnan(ring[:, 0]).argmax())
        return cls(values[:known], times[:known])

    def window(self, made: _Made, ts: float) -> list[float]:
        """The values in the window of a feature that is made at this time."""
        if made.seconds is None:
            return self.values[: made.events]
        oldest, pairs = ts - made.seconds, zip(self.values[: made.events], self.times, strict=False)
        return [value for value, at in pairs if at > oldest]


_NOTHING = _Past([], [])


def _lag(past: _Past, texts: npt.NDArray[Any] | None, lag: int, is_class: bool) -> Feature:
    """A value so many back; a text, and a class, as text."""
    if len(past.values) < lag:
        return None
    value = past.values[lag - 1]
    if math.isinf(value):
        return None if texts is None else _text(texts[lag - 1])
    return str(int(value)) if is_class else value


def _statistic(made: _Made, past: _Past, ts: float | None) -> float | None:
    """A statistic of the past at this time; None where it cannot be known."""
    if made.statistic == "since":
        return None if ts is None or not past.times or math.isnan(past.times[0]) else max(0.0, ts - past.times[0])
    if made.seconds is not None and ts is None:
        return None
    window = past.window(made, math.nan if ts is None else ts)
    if made.statistic == "count":
        return float(len(window))
    numbers = [value for value in window if not math.isinf(value)] if math.inf in window else window
    return _of_numbers(made.statistic, numbers) if numbers else None


def _of_numbers(statistic: Statistic, numbers: Sequence[float]) -> float | None:
    match statistic:
        case "mean":
            return math.fsum(numbers) / len(numbers)
        case "sum":
            return math.fsum(numbers)
        case "min":
            return min(numbers)
        case "max":
            return max(numbers)
        case _:  # the standard deviation of a sample, as pandas has it
            if len(numbers) < 2:
                return None
            mean = math.fsum(numbers) / len(numbers)
            return math.sqrt(math.fsum((value - mean) ** 2 for value in numbers) / (len(numbers) - 1))


def _push(columns: Columns, row: int, source: _Source, value: Feature, ts: float | None) -> None:
    """One more value, in front of the others."""
    ring = columns[source.ring][row]
    ring[1:] = ring[:-1]
    ring[0] = math.inf if isinstance(value, str) else value, math.nan if ts is None else ts
    if source.text is not None:
        texts = columns[source.text][row]
        texts[1:] = texts[:-1]
        texts[0] = np.frombuffer(_bytes(value).ljust(_TEXT_BYTES, b"\0"), np.int64) if isinstance(value, str) else 0


def _bytes(text: str) -> bytes:
    """A text, or of one that is too long its beginning and a hash, so that it stays another one than others."""
    found = text.encode(errors="replace")
    if len(found) <= _TEXT_BYTES:
        return found
    digest = blake2b(found, digest_size=4).hexdigest()
    return f"{found[:_CUT_BYTES].decode(errors='ignore')}~{digest}".encode()


def _text(cells: npt.NDArray[Any]) -> str:
    return str(cells.tobytes().rstrip(b"\0").decode(errors="replace"))
