"""Numbers in units, and numbers as the learner sees them: the shared scale, and where a task does not fit it its own.

Every feature and the target are normalized by running moments over all tasks. Where a task's values do not fit that
(other units, another level; `streammeta.engine.looks` says when), the task also has its own view: exact heads get it
beside the shared one, as a further input that is missing for everybody else; other learners get it instead. A target
has one unit a task, the shared one or its own.

**What is kept of a number.** Windows hold float32. That is too coarse for 1.7e9 + 60 a, so a feature that needs it has
a second float32 for what the first one leaves out (``low``): 48 bits together. The features that have one are those
that have own views; each has place k of K in ``FrameScale.own``.

**A unit that changes** (`SINCE`): events of before are seen as they were, in spreads from the mean of then, so that
nothing that was learned is lost; those of a unit before that one are missing.

One function normalizes what is learned now and what is derived from a window later, so both have the same bits.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from streammeta.engine.columns import Columns
from streammeta.engine.moments import Crowd, Sums, mean_and_spread, no_sums
from streammeta.errors import SnapshotError
from streammeta.meta.base import Floats, Ints, Windows
from streammeta.native import _kernels as kernels
from streammeta.native.elementary import log

__all__ = [
    "BEFORE",
    "CLIP",
    "EXACT",
    "OLD_SHIFT",
    "OLD_SPREAD",
    "SCALE_ROWS",
    "SHIFT",
    "SINCE",
    "SPREAD",
    "Doubles",
    "Fixed",
    "FrameScale",
    "Seen",
    "SharedScale",
    "check_scale",
    "dump_scale",
    "errors_in_spreads",
    "exact_window",
    "has_moved",
    "learned_targets",
    "load_scale",
    "moved_scale",
    "placed_scale",
    "renumber_scale",
    "restart_units",
    "seen_features",
    "seen_targets",
    "seen_window",
    "shared_frame",
    "shared_scale",
    "split",
    "units",
    "wider_scale",
]

_MOST_FLOAT = float(np.finfo(np.float32).max)
_LEAST_GAIN = 1e-150  # 1 over a spread; squares of it, and 1 over those, are numbers yet

Bools: TypeAlias = npt.NDArray[np.bool_]
Doubles: TypeAlias = npt.NDArray[np.float64]

# What is kept of a task for each feature ("scale.x" [7, D]) and for the target ("scale.y" [7, 1])
SHIFT, SPREAD, OLD_SHIFT, OLD_SPREAD, SINCE, BEFORE, EXACT = range(7)
# SHIFT, SPREAD          own view: (value − shift) / spread; spread 0: only the shared view
# OLD_SHIFT, OLD_SPREAD  the view of events before the present unit
# SINCE, BEFORE          labels in the window, ever, when the present unit and the one before it began
# EXACT                  the last value at the last look, in full precision, where float32 may say too little
# All zeros for most tasks: then no record has them. "scale.last" [D + 1] is the standard deviation of each feature and
# of the target at the last look; negative where the shared scale did not fit; 0: none.
SCALE_ROWS: Final = 7

CLIP: Final = 20.0  # spreads beyond which a number counts as this far away: features are cut at 6 by the learner
# What tasks are to the shared scale of a feature: one alone has made it and fits it; they share it; or so many do not
# fit that none is measured by it alone
ALONE, TOGETHER, CROWDED = -1, 0, 1
_CROWDED = 0.25  # share of tasks that do not fit, above which there are too many
_NO_UNIT = 1e12  # where targets have no unit yet: squares of it, and sums of those, are float32 numbers yet
_MOVED = 1.5  # of a spread: every task is looked at again


class SharedScale(NamedTuple):
    """The scale of all tasks together, in force between two changes of what tasks share."""

    shift: Doubles  # [D] mean; 0 for categories
    gain: Doubles  # [D] 1 / spread; 1 for categories and where no spread is known
    known: Bools  # [D] a number whose spread is known
    typical: Doubles  # [D] mean over tasks of log(spread within the task)
    company: Ints  # [D] of those tasks: ALONE, TOGETHER or CROWDED
    y_shift: Doubles  # [1]
    y_gain: Doubles  # [1]
    y_known: Bools  # [1]
    y_typical: Doubles  # [1]


class FrameScale(NamedTuple):
    """All that normalizing needs beside a task's own row."""

    shared: SharedScale
    own: Ints  # [K] the slots that have own views, and a second float32
    epoch: int  # counts how often the shared scale has changed so much that every task is to be looked at again
    beside: bool  # own views are further inputs; False: they replace the shared one
    classify: bool

    @property
    def inputs(self) -> int:
        """Numbers that the learner sees of an event."""
        return self.shared.shift.size + (self.own.size if self.beside else 0)


class Fixed(NamedTuple):
    """What does not change while a run of events is worked off: θ as the event path reads it, and the scale."""

    weights: Any
    version: int
    frame: FrameScale


def shared_scale(sums: Sums, categories: Bools) -> SharedScale:
    """The scale that these sums of all partitions say [D]; categories [D] keep their own unit."""
    mean, spread = mean_and_spread(sums.features)
    y_mean, y_spread = mean_and_spread(sums.target)
    y_mean = y_mean * _reliability(y_mean, y_spread, sums.target.counts)
    known = (spread > 0) & ~categories
    gain, y_gain = 1 / np.where(known, spread, 1.0), 1 / np.where(y_spread > 0, y_spread, 1.0)
    return SharedScale(
        np.where(categories, 0.0, mean),
        gain,
        known,
        _typical(sums.crowd, gain),
        np.where(known, _company(sums.crowd), TOGETHER),
        y_mean,
        y_gain,
        y_spread > 0,
        _typical(sums.target_crowd, y_gain),
    )


def _reliability(mean: Doubles, spread: Doubles, counts: Doubles) -> Doubles:
    """The share of a mean of few labels that counts; the rest is 0, which nothing that it may be by chance moves away.

    It is the same in every unit. The first label alone counts whole. Source: James & Stein (1961), the positive part.
    """
    _, exponent = np.frexp(np.maximum(np.abs(mean), spread))
    mean, spread = np.ldexp(mean, -exponent), np.ldexp(spread, -exponent)  # squares of any unit are numbers
    squared_error, square = spread**2 / np.maximum(counts - 1, 1), mean**2
    return np.clip(1 - squared_error / np.where(square == 0, 1.0, square), 0.0, 1.0)


def shared_frame(features: int, *, classify: bool) -> FrameScale:
    """A frame in which every number is seen as it is, before anything was."""
    shared = shared_scale(no_sums(features), np.zeros(features, np.bool_))
    return FrameScale(shared, np.zeros(0, np.int64), 0, beside=True, classify=classify)


def exact_window(columns: Columns, row: int, places: Ints, features: int, own: Sequence[int]) -> Doubles:
    """Raw features [n, D] of a task's remembered events, as exact as they were kept."""
    xs: Doubles = columns.window_x[row, places, :features].astype(np.float64)
    xs[:, own] += np.nan_to_num(columns.window_low[row, places, : len(own)].astype(np.float64))
    return xs


def dump_scale(scale: SharedScale) -> tuple[Doubles, Doubles]:
    """Arrays [5, D] and [4, 1] from which ``load_scale`` makes the same."""
    rows = [np.asarray(row, np.float64) for row in scale]
    return np.stack(rows[:5]), np.stack(rows[5:])


def load_scale(features: npt.NDArray[Any], target: npt.NDArray[Any], at: str) -> SharedScale:
    """What ``dump_scale`` described; raises SnapshotError where no events have such a scale."""
    fits = features.ndim == target.ndim == 2 and len(features) == 5 and target.shape == (4, 1)
    if not fits or not (np.isfinite(features).all() and np.isfinite(target).all()):
        raise SnapshotError(f"{at}: a scale that is none, or not finite: it is damaged")
    shift, gain, known, typical, company = np.array(features, np.float64)
    y_shift, y_gain, y_known, y_typical = np.array(target, np.float64)
    if not all((np.abs(one) < 1 / _LEAST_GAIN).all() for one in (shift, typical, y_shift, y_typical)):
        raise SnapshotError(f"{at}: a scale with a mean that no numbers have: it is damaged")
    if not all((one > _LEAST_GAIN).all() and (one < 1 / _LEAST_GAIN).all() for one in (gain, y_gain)):
        raise SnapshotError(f"{at}: a scale with a spread that no numbers have: it is damaged")
    signs = np.sign(company).astype(np.int64)
    return SharedScale(shift, gain, known > 0, typical, signs, y_shift, y_gain, y_known > 0, y_typical)


def placed_scale(scale: SharedScale, numbers: Ints, features: int) -> SharedScale:
    """A scale of another order of slots in ours: ``numbers`` are theirs here, −1: none; others keep their own unit."""
    here, (blank, _) = np.flatnonzero(numbers >= 0), dump_scale(shared_frame(features, classify=False).shared)
    rows, target = dump_scale(scale)
    here = here[here < rows.shape[1]]
    blank[:, numbers[here]] = rows[:, here]
    return load_scale(blank, target, "a scale")


def wider_scale(shared: SharedScale, features: int) -> SharedScale:
    """The same scale for at least so many features; the new ones keep their own unit."""
    if features <= shared.shift.size:
        return shared
    more = (0, features - shared.shift.size)
    return shared._replace(
        shift=np.pad(shared.shift, more),
        gain=np.pad(shared.gain, more, constant_values=1.0),
        known=np.pad(shared.known, more),
        typical=np.pad(shared.typical, more),
        company=np.pad(shared.company, more),
    )


def has_moved(one: SharedScale, other: SharedScale) -> bool:
    """Whether a number's scale is another by half a spread's width or a spread of its mean, or of one task no more."""
    has_joined = (one.company == ALONE) != (other.company == ALONE)
    return bool(has_joined.any() or any(moved.any() for moved in _moved(one, other)))


def moved_scale(old: SharedScale, fresh: SharedScale) -> SharedScale:
    """``old``, but for the numbers that have a unit for the first time, or another by as much as in ``has_moved``.

    Both are of the same features [D].
    """
    features, target = _moved(fresh, old)
    features, target, crowd = features & fresh.known, target & fresh.y_known, np.zeros_like(features)
    at = [features, features, features, crowd, crowd, target, target, target, target]
    return SharedScale(*(np.where(taken, new, was) for taken, new, was in zip(at, fresh, old, strict=True)))


def _moved(one: SharedScale, other: SharedScale) -> tuple[Bools, Bools]:
    """Which features [D], and whether the target [1], have a unit in one of the two only, or one that is far off."""

    def are_far(shift: Doubles, gain: Doubles, former: Doubles, known: Bools, was: Bools) -> Bools:
        is_far = (np.abs(shift) * former > 1.0) | (gain > _MOVED * former) | (former > _MOVED * gain)
        found: Bools = (known & is_far) | (known != was)
        return found

    return (
        are_far(one.shift - other.shift, one.gain, other.gain, one.known, other.known),
        are_far(one.y_shift - other.y_shift, one.y_gain, other.y_gain, one.y_known, other.y_known),
    )


def _company(crowd: Crowd) -> Ints:
    """How many of the tasks do not fit [D]: see ``ALONE``; a task counts from its eighth label on."""
    is_crowded = crowd.misfits > np.maximum(_CROWDED * crowd.tasks, 1.0)
    return np.where(is_crowded, CROWDED, np.where(crowd.tasks == 1, ALONE, TOGETHER))


def _typical(crowd: Crowd, gain: Doubles) -> Doubles:
    """Mean log spread within a task; of less than two tasks, that of all."""
    return np.where(crowd.tasks > 1, crowd.log_spread / np.maximum(crowd.tasks, 1.0), -log(gain))


def split(xs: Doubles, own: Ints) -> tuple[Floats, Floats]:
    """Exact values [N, D] as they are kept: float32 [N, D], and for slots ``own`` what these leave out [N, K]."""
    high = xs.astype(np.float32)
    return high, (xs[:, own] - high[:, own]).astype(np.float32)


def seen_features(frame: FrameScale, columns: Columns, rows: Ints, high: Floats, low: Floats) -> Floats:
    """New features as the learner sees them.

    Args:
        frame: the scale in force.
        columns: of the task table.
        rows: of each event's task [N].
        high: [N, D]
        low: [N, K]; NaN: not kept, as for events before the feature had a ``low``.

    Returns:
        [N, inputs] within ±20; NaN is missing.
    """
    shared, seen = frame.shared, np.empty((len(rows), frame.inputs), np.float32)
    kept = np.ascontiguousarray(high), np.ascontiguousarray(low)
    kernels.see_events(*kept, columns.scale_x, rows, shared.shift, shared.gain, frame.own, frame.beside, seen)
    return seen


class Common(NamedTuple):
    """Events [N] in the units of all tasks, in which what several of them teach compares."""

    x: Floats  # [N, D] features as they are, or where a task's own view would be there
    shift: Doubles  # of each task's target: value = shift + spread · in those units
    spread: Doubles


class Seen(NamedTuple):
    """Raw events [N] of these rows, as they are kept and as the learner sees them."""

    rows: Ints
    exact: Doubles  # [N, D] features
    high: Floats  # [N, D] as windows keep them
    low: Floats  # [N, K]
    x: Floats  # [N, inputs] normalized
    labels: Doubles  # [N] class indices or targets; NaN is none
    y: Floats  # [N] normalized labels

    @classmethod
    def of(
        cls,
        columns: Columns,
        rows: Ints,
        exact: Doubles,
        labels: Doubles,
        frame: FrameScale,
    ) -> "Seen":
        """These events under this scale."""
        high, low = split(exact, frame.own)
        x = seen_features(frame, columns, rows, high, low)
        y = seen_targets(frame, columns, rows, labels)
        return cls(rows, exact, high, low, x, labels, y)

    def cut(self, begin: int, end: int) -> "Seen":
        """Some of them."""
        return Seen._make(part[begin:end] for part in self)

    def common(self, columns: Columns, frame: FrameScale) -> Common:
        """They in the units of all tasks; like ``of``, under the scale in force."""
        shared, scale, x = frame.shared, columns.scale_y[self.rows], self.high
        has_own = scale[..., SPREAD, 0] > 0
        spread = np.where(has_own, scale[..., SPREAD, 0] * shared.y_gain[0], 1.0)
        shift = np.where(has_own, scale[..., SHIFT, 0] - spread * shared.y_shift[0], 0.0)
        places = frame.own
        scale = columns.scale_x[self.rows[:, None], :, places] if places.size else np.zeros((0, 1, SCALE_ROWS))
        has_own = scale[..., SPREAD] > 0
        if has_own.any():
            z = (self.exact[:, places] - scale[..., SHIFT]) / np.where(has_own, scale[..., SPREAD], 1.0)
            moved = shared.shift[places] + np.clip(z, -CLIP, CLIP) / shared.gain[places]
            moved = np.clip(moved, -_MOST_FLOAT, _MOST_FLOAT)  # as features are, which come in single precision
            x = x.copy()
            x[:, places] = np.where(has_own, moved, self.high[:, places])
        return Common(x, shift, spread)


def units(frame: FrameScale, scale: Doubles) -> tuple[Doubles, Doubles]:
    """Shift and spread [...] of targets whose tasks have this "scale.y" [..., 7, 1]: value = shift + spread · seen."""
    own = scale[..., SPREAD, 0] > 0
    shift = np.where(own, scale[..., SHIFT, 0], frame.shared.y_shift[0])
    return shift, np.where(own, scale[..., SPREAD, 0], 1 / frame.shared.y_gain[0])


def errors_in_spreads(columns: Columns, rows: Ints, frame: FrameScale) -> Doubles:
    """The running errors [N] of these rows, of targets in spreads, so that tasks compare."""
    errors: Doubles = columns.error[rows]
    return errors if frame.classify else errors / units(frame, columns.scale_y[rows])[1]


def seen_targets(frame: FrameScale, columns: Columns, rows: Ints, ys: npt.NDArray[Any]) -> Floats:
    """New labels [N] of these rows as the learner learns them: classes as they are, targets in spreads; NaN is none."""
    if frame.classify:
        return ys.astype(np.float32)
    seen = np.empty(len(rows), np.float32)
    kernels.see_targets(np.ascontiguousarray(ys, np.float64), columns.scale_y, rows, *_of_target(frame), seen)
    return seen


def learned_targets(frame: FrameScale, seen: Floats) -> Floats:
    """Which of these normalized labels [N] are learned: one that was cut off is no measurement, so it becomes NaN.

    Four such in a row are another unit (`streammeta.engine.looks`), in which they are learned from the window.
    """
    if frame.classify:
        return seen.copy()
    return np.where(np.abs(seen) >= np.float32(_of_target(frame)[2]), np.float32(np.nan), seen)


def seen_window(columns: Columns, rows: Ints, frame: FrameScale, *, is_whole: bool = True) -> Windows:
    """The windows of these rows [R] as the learner learns them: place i of the result is row ``rows[i]``.

    Places that hold no event yet are zeros; unless ``is_whole``, those that no row of these has filled are left out.
    """
    shared, kept, pushed = frame.shared, (columns.window_x, columns.window_low), columns.window_count[rows]
    size = kept[0].shape[1]
    size = size if is_whole else min(size, int(pushed.max(initial=0)))
    xs, ys = np.zeros((len(rows), size, frame.inputs), np.float32), np.zeros((len(rows), size), np.float32)
    counts, scale = columns.window_count, columns.scale_x
    kernels.see_windows(*kept, counts, scale, rows, shared.shift, shared.gain, frame.own, frame.beside, xs)
    if frame.classify:
        ys = columns.window_y[rows, :size].astype(np.float32)
    else:
        kernels.see_target_windows(columns.window_y, counts, columns.scale_y, rows, *_of_target(frame), ys)
    return Windows(xs, ys, pushed, columns.labels_since_drift[rows])


def _of_target(frame: FrameScale) -> tuple[float, float, float]:
    """Mean and spread of the target, and how many spreads away a label may be."""
    shared = frame.shared
    most = CLIP if shared.y_known[0] else _NO_UNIT
    return float(shared.y_shift[0]), float(1 / shared.y_gain[0]), most


def check_scale(
    found: Mapping[str, npt.NDArray[Any]], views: Mapping[str, npt.NDArray[Any]], has_views: Bools, at: str
) -> None:
    """Refuse rows [N, ...] from elsewhere, and own views of some of them, that cannot be; raises SnapshotError."""
    if not np.isfinite(found["scale.last"]).all() or not np.isfinite(found["scale.y_last"]).all():
        raise SnapshotError(f"{at}: a row with a spread that is no number: it is damaged")
    for name in ("scale.x", "scale.y"):
        scale, most = views[name], found["window_count"][has_views, None]
        fits = np.isfinite(scale).all() and scale.shape[1] == SCALE_ROWS and (scale[:, [SPREAD, OLD_SPREAD]] >= 0).all()
        if not fits or not ((scale[:, BEFORE] <= scale[:, SINCE]) & (scale[:, SINCE] <= most)).all():
            raise SnapshotError(f"{at}: a row with {name} that no task has: it is damaged")
    if not ((found["scale.strays"] >= 0) & (found["scale.next"] > 0) & (found["scale.epoch"] >= 0)).all():
        raise SnapshotError(f"{at}: a row with looks that no task has: it is damaged")


def restart_units(columns: Columns, row: int) -> None:
    """The window of this row begins again: its present units hold from its first label on."""
    for name in ("scale.x", "scale.y"):
        columns[name][row, [SINCE, BEFORE]] = 0


def renumber_scale(columns: Columns, rows: Ints, slots: Ints) -> None:
    """Scales of rows that were written where features had other numbers: theirs here.

    Args:
        columns: of the task table; these rows are changed.
        rows: [N]
        slots: the slot here of each written one; -1: no capacity.
    """
    kept = np.flatnonzero(slots >= 0)
    for name in ("scale.x", "scale.last"):
        written = columns[name][rows]
        scale = np.zeros_like(written)
        scale[..., slots[kept]] = written[..., kept]
        columns[name][rows] = scale
