"""When a task is looked at, and whether the shared scale fits it.

A task is looked at after its 2nd, 4th, 8th ... W-th label, then every W labels, and when four labels in a row came with
a number more than ten spreads away, or eight with one more than three and a half away that lay close together. That
depends on its own labels alone, so not on how records came together. A look takes the mean m and the standard deviation
s of a feature (or the target) in the task's window, over n labels, and the scale in force (m_0, s_0); the shared scale
does not fit where one of these holds, with w = n / (n + 10)::

    |log(s / s_0)| w > log 6         or the same with the typical spread within a task instead of s_0
    |m − m_0| w > 3 s_0
    more than a quarter of the tasks do not fit                 (features only)
    four labels in a row were more than ten spreads away        (until they fill the window)

A spread that is too small is believed only if n values do not lie so close by chance. The own view is m and s, drawn
towards the shared ones as far as n says little::

    log(s' / s_0) = r · r² / (r² + 1 / 2(n − 1)),  r = log(s / s_0)        m' = m + (m_0 − m) q / (n + q),
                                                                           q = s² / (s² + (m − m_0)²)

Source: own; the constants were chosen on simulated streams and seven recorded ones (benchmarks/README.md). The
shrinkage is empirical Bayes: a prior as wide as the gap that was found (Robbins 1956).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from streammeta.engine.moments import Crowd
from streammeta.engine.scale import (
    BEFORE,
    COARSE,
    EXACT,
    OLD_SHIFT,
    OLD_SPREAD,
    SHIFT,
    SINCE,
    SPREAD,
    FrameScale,
)
from streammeta.meta.base import Floats, Ints
from streammeta.native.elementary import exp, log

__all__ = ["FIRST_LOOK", "STRAYS", "Look", "due_for_look", "find_strays", "is_outdated", "look", "until_look"]

_Columns: TypeAlias = Mapping[str, npt.NDArray[Any]]
_Bools: TypeAlias = npt.NDArray[np.bool_]
_Doubles: TypeAlias = npt.NDArray[np.float64]

FIRST_LOOK = 2  # labels
STRAYS = 4  # labels in a row that are far away: the unit has changed
ASIDE = 8  # labels in a row that are less far away, but close together: likewise
_STRAY, _ASIDE = 10.0, 3.5  # spreads
_CLOSE = 0.125  # of the spread: the standard deviation of eight values that lie close together
_BOTH = 16  # "scale.strays" holds both counts: strays + 16 · asides
_FEW = 10.0  # labels that the shared scale is worth
_WIDER = math.log(6.0)
_FARTHER = 3.0
_CHANCE = 14.0  # log of one over how seldom values of one scale may lie so close
_COUNTED = 8  # labels of a task before it tells of the crowd
_CONSTANT = 1e-13  # of the mean: less is rounding
_SAME = 0.01  # of the spread; smaller changes of a view are none
_PRECISE = 2.0**12  # spreads from zero beyond which a second float32 helps


class Look(NamedTuple):
    """What a look at one task found; its row has the new views already."""

    has_changed: bool  # what was derived from the window is to be derived again
    noise: float  # spread of the target before the look, in spreads of after it
    unit_changed: bool
    births: list[int]  # slots that need a view of their own, and have none in the frame
    crowd: Crowd  # [D] what to add to the crowd's sums
    target_crowd: Crowd  # [1]


def find_strays(frame: FrameScale, xs: Floats, ys: Floats) -> Ints:
    """How far away numbers of events [N] are, in the view that fits best: 2 far, 1 aside, 0 neither."""
    D = frame.shared.shift.size
    far = np.abs(xs[:, :D])
    if frame.beside and frame.own.size:
        mine = np.abs(xs[:, D:])
        far[:, frame.own] = np.where(np.isnan(mine), far[:, frame.own], mine)
    farthest = np.nan_to_num(far[:, frame.shared.known]).max(axis=1, initial=0.0)
    if not frame.classify and frame.shared.y_known[0]:
        farthest = np.maximum(farthest, np.nan_to_num(np.abs(ys)))
    found: Ints = (farthest > _STRAY).astype(np.int64) + (farthest > _ASIDE)
    return found


def _counted(before: int, stray: int) -> int:
    """The counts of "scale.strays" after a label that is so far away."""
    far, aside = before % _BOTH, before // _BOTH
    return (min(far + 1, STRAYS) if stray > 1 else 0) + _BOTH * (min(aside + 1, ASIDE) if stray else 0)


def _is_another_unit(counts: int) -> bool:
    return counts % _BOTH >= STRAYS or counts // _BOTH >= ASIDE


def is_outdated(columns: _Columns, rows: Ints, epoch: int) -> _Bools:
    """Of which tasks [N] the shared scale has changed so much that they are looked at before their next event."""
    found: _Bools = (columns["scale.epoch"][rows] != epoch) & (columns["labelled"][rows] >= FIRST_LOOK)
    return found


def until_look(
    columns: _Columns, rows: Sequence[int], is_labelled: Sequence[bool], strays: Sequence[int], outdated: _Bools
) -> int:
    """How many of these events may be taken before a task comes that is to be looked at first."""
    state: dict[int, list[int]] = {}
    due: set[int] = set()
    end = int(outdated.argmax()) if outdated.any() else len(rows)
    for i, row in enumerate(rows[:end]):
        if row in due:
            return i
        if not is_labelled[i]:
            continue
        counts = state.get(row)
        if counts is None:
            counts = state[row] = [int(columns[name][row]) for name in ("labelled", "scale.next", "scale.strays")]
        counts[0] += 1
        counts[2] = _counted(counts[2], strays[i])
        if counts[0] >= counts[1] or _is_another_unit(counts[2]):
            due.add(row)
    return end


def due_for_look(
    columns: _Columns, rows: Sequence[int], is_labelled: Sequence[bool], strays: Sequence[int]
) -> list[tuple[int, int]]:
    """The rows to look at after these events, which are learned by now, each with its last labelled one, in order.

    "scale.strays" of the rows is brought up to date.
    """
    last, counts = dict[int, int](), columns["scale.strays"]
    for i, row in enumerate(rows):
        if is_labelled[i]:
            last.pop(row, None)
            last[row] = i
            if strays[i] or counts[row]:
                counts[row] = _counted(int(counts[row]), strays[i])
    labelled, wanted = columns["labelled"], columns["scale.next"]
    return [(row, i) for row, i in last.items() if labelled[row] >= wanted[row] or _is_another_unit(int(counts[row]))]


def look(columns: _Columns, row: int, frame: FrameScale, last: _Doubles | None = None) -> Look:
    """Look at a task, set its views, and when it is looked at next.

    Args:
        columns: of the task table; "scale.*" of this row are changed.
        row: the task's.
        frame: the scale in force.
        last: its last labelled event [D], exact; None: not known.
    """
    columns["scale.epoch"][row] = frame.epoch
    numbers, xs, ys = _window(columns, row, frame)
    pushed, size = int(columns["window_count"][row]), columns["window_y"].shape[1]
    shared = frame.shared
    x_scale, y_scale = columns["scale.x"][row][:, : shared.shift.size], columns["scale.y"][row]
    features = _Shared(shared.shift, shared.gain, shared.known, shared.typical, shared.crowded)
    target = _Shared(shared.y_shift, shared.y_gain, shared.y_known, shared.y_typical, np.zeros(1, np.bool_))
    before = _in_force(y_scale, target)[1]
    unit_changed, counts = False, int(columns["scale.strays"][row])
    if _is_another_unit(counts):
        columns["scale.strays"][row] = 0
        is_far = counts % _BOTH >= STRAYS
        unit_changed = _begin_unit(xs, numbers, x_scale, features, is_far=is_far)
        if not frame.classify:
            unit_changed |= _begin_unit(ys, numbers, y_scale, target, is_far=is_far)
        counts = 0
    undecided = max(counts % _BOTH, counts // _BOTH)
    if 2 * undecided < len(numbers):  # labels far away that are too few yet to tell of another unit
        xs[len(xs) - undecided :] = ys[len(ys) - undecided :] = np.nan
    found = _found(xs, numbers, x_scale, features, pushed, size)
    births = _births(found, np.full(shared.shift.size, np.nan) if last is None else last, x_scale, frame.own)
    has_changed, crowd = _settle(found, x_scale, columns["scale.last"][row][: shared.shift.size])
    y_changed, y_crowd = False, Crowd(*np.zeros((3, 1)))
    if not frame.classify:
        y_changed, y_crowd = _settle(
            _found(ys, numbers, y_scale, target, pushed, size), y_scale, columns["scale.y_last"][row]
        )
    of_unit = pushed - int(max(x_scale[SINCE].max(initial=0), y_scale[SINCE, 0]))
    columns["scale.next"][row] = columns["labelled"][row] + min(max(of_unit, FIRST_LOOK), size)
    noise = float((before / _in_force(y_scale, target)[1])[0])
    return Look(has_changed or y_changed or unit_changed, noise, unit_changed, births, crowd, y_crowd)


class _Shared(NamedTuple):
    """The shared scale of D numbers."""

    shift: _Doubles
    gain: _Doubles
    known: _Bools
    typical: _Doubles
    crowded: _Bools


class _Found(NamedTuple):
    """What a task's window says of D numbers."""

    counts: Ints
    mean: _Doubles
    spread: _Doubles
    is_varied: _Bools
    is_misfit: _Bools
    has_own: _Bools  # it is to have a view of its own:
    shift: _Doubles
    own_spread: _Doubles


def _window(columns: _Columns, row: int, frame: FrameScale) -> tuple[Ints, _Doubles, _Doubles]:
    """A task's window: numbers of its labelled events [n], features [n, D] and targets [n, 1], in full precision."""
    pushed, size = int(columns["window_count"][row]), columns["window_y"].shape[1]
    numbers = np.arange(max(pushed - size, 0), pushed)
    place, own = numbers % size, frame.own
    xs = columns["window_x"][row, place, : frame.shared.shift.size].astype(np.float64)
    if own.size:
        low = columns["window_low"][row, place, : own.size].astype(np.float64)
        is_known = ~np.isnan(low)
        exact = np.where(is_known, xs[:, own] + low, np.nan)
        _, spread = _moments(exact, is_known)
        coarse = ~is_known & (np.abs(xs[:, own]) > COARSE * spread) & (is_known.sum(0) > 1)
        xs[:, own] = np.where(coarse, np.nan, xs[:, own] + np.where(is_known, low, 0.0))
    return numbers, xs, columns["window_y"][row, place, None].astype(np.float64)


def _moments(values: _Doubles, is_there: _Bools) -> tuple[_Doubles, _Doubles]:
    """Mean and standard deviation [D] of those of the values [n, D] that are there; 0 where none is."""
    count = is_there.sum(0)
    mean = np.where(is_there, values, 0.0).sum(0) / np.maximum(count, 1)
    gaps = np.where(is_there, values - mean, 0.0)
    return mean, np.sqrt((gaps * gaps).sum(0) / np.maximum(count - 1, 1))


def _in_force(scale: _Doubles, shared: _Shared) -> tuple[_Doubles, _Doubles]:
    """Shift and spread [D] by which new events are seen."""
    own = scale[SPREAD] > 0
    return np.where(own, scale[SHIFT], shared.shift), np.where(own, scale[SPREAD], 1 / shared.gain)


def _begin_unit(values: _Doubles, numbers: Ints, scale: _Doubles, shared: _Shared, *, is_far: bool) -> bool:
    """Where the last values were all far away, or aside and close together, the present unit began with the first."""
    count, least = (STRAYS, _STRAY) if is_far else (ASIDE, _ASIDE)
    if len(values) < count:
        return False
    shift, spread = _in_force(scale, shared)
    last = values[-count:]
    is_other = (np.abs(last - shift) > least * spread).all(0) & shared.known
    if not is_far:
        _, own = _moments(last, ~np.isnan(last))
        is_other &= (own < _CLOSE * spread) & (own > _CONSTANT * np.abs(last[-1]))
    for place, value in ((BEFORE, scale[SINCE]), (OLD_SHIFT, shift), (OLD_SPREAD, spread), (SINCE, numbers[-count])):
        scale[place] = np.where(is_other, value, scale[place])
    return bool(is_other.any())


def _found(values: _Doubles, numbers: Ints, scale: _Doubles, shared: _Shared, pushed: int, size: int) -> _Found:
    is_there = ~np.isnan(values) & (numbers[:, None] >= scale[SINCE])
    n, (mean, spread) = is_there.sum(0), _moments(values, is_there)
    is_varied = (n > 1) & (spread > _CONSTANT * np.abs(mean))
    least, weight, freedom = 1 / shared.gain, n / (n + _FEW), np.maximum(n - 1, 1)
    wider = _WIDER / np.maximum(weight, 1e-9)
    narrower = np.maximum(wider, _CHANCE / freedom)
    log_spread = log(np.where(is_varied, spread, least))
    ratio = log_spread - log(least)
    is_misfit = np.abs(mean - shared.shift) * weight > _FARTHER * least
    for gap in (ratio, log_spread - shared.typical):
        is_misfit |= (gap > wider) | (-gap > narrower)
    is_misfit &= is_varied & shared.known
    in_new_unit = (scale[SINCE] > 0) & (pushed - scale[SINCE] < size)
    has_own = is_varied & shared.known & (is_misfit | shared.crowded | in_new_unit)
    squared = (mean - shared.shift) ** 2
    share = spread**2 / np.where(is_varied, spread**2 + squared, 1.0)
    shift = mean + (shared.shift - mean) * share / (np.maximum(n, 1) + share)
    own_spread = least * exp(ratio**3 / (ratio**2 + 0.5 / freedom))
    return _Found(n, mean, spread, is_varied, is_misfit, has_own, shift, own_spread)


def _births(found: _Found, last: _Doubles, scale: _Doubles, own: Ints) -> list[int]:
    """Slots that need a second float32, or a view of their own, and have none; notes the last values."""
    is_exact = (last == last.astype(np.float32)) | (found.mean == 0)
    far = np.abs(found.mean)
    is_coarse = (found.counts > 1) & (far > _PRECISE * found.spread)
    moved = (scale[EXACT] != 0) & (last != scale[EXACT]) & (np.abs(last - scale[EXACT]) <= far / _PRECISE)
    hidden = is_coarse & ~is_exact & moved & ~found.is_varied
    rounded = is_coarse & found.is_varied & (~is_exact | (far > COARSE * found.spread))
    scale[EXACT] = np.where(is_coarse, np.where(np.isnan(last), scale[EXACT], last), 0.0)
    wanted = np.flatnonzero(found.has_own | hidden | rounded)
    return [slot for slot in wanted.tolist() if slot not in own]


def _settle(found: _Found, scale: _Doubles, last: Floats) -> tuple[bool, Crowd]:
    """Set the views; whether any changed noticeably, and what the crowd's sums gain."""
    had = scale[SPREAD] > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        is_same = np.abs(found.shift - scale[SHIFT]) <= _SAME * found.own_spread
        is_same &= np.abs(log(found.own_spread / scale[SPREAD])) <= _SAME
    has_changed = (found.has_own != had) | (found.has_own & ~is_same)
    scale[SHIFT] = np.where(has_changed, np.where(found.has_own, found.shift, 0.0), scale[SHIFT])
    scale[SPREAD] = np.where(has_changed, np.where(found.has_own, found.own_spread, 0.0), scale[SPREAD])
    counts = found.is_varied & (found.counts >= _COUNTED)
    before, now = last.astype(np.float64), np.where(counts, found.spread, 1.0).astype(np.float32).astype(np.float64)
    counts &= now > 0
    now = np.where(counts, now, 1.0)
    crowd = Crowd(
        tasks=(counts & (before == 0)).astype(np.float64),
        log_spread=np.where(counts, log(now) - log(np.where(before == 0, 1.0, np.abs(before))), 0.0),
        misfits=np.where(counts, found.is_misfit.astype(np.float64) - (before < 0), 0.0),
    )
    last[:] = np.where(counts, np.where(found.is_misfit, -now, now), before)
    return bool(has_changed.any()), crowd
