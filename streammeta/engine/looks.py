"""When a task is looked at, and whether the shared scale fits it.

A task is looked at after its 2nd, 4th, 8th ... W-th label, then every W labels, and when four labels in a row came with
a number more than ten spreads away, or eight with one more than three and a half away that lay close together. That
depends on its own labels alone, so not on how records came together. A look takes the mean m and the standard deviation
s of a feature (or the target) in the task's window, over n labels, and the shared scale (m_0, s_0); that does not fit
where one of these holds, with w = n / (n + 10)::

    |log(s / s_0)| w > log 6         or the same with the typical spread within a task instead of s_0
    |m − m_0| w > 3 s_0
    more than a quarter of the tasks do not fit                 (features only)
    four labels in a row were more than ten spreads away        (until they fill the window)

A spread that is too small is believed only if n values do not lie so close by chance. The own view is m and s, drawn
towards the shared ones as far as n says little::

    log(s' / s_0) = r · r² / (r² + 1 / 2(n − 1)),  r = log(s / s_0)        m' = m + (m_0 − m) q / (n + q),
                                                                           q = s² / (s² + (m − m_0)²)

A feature's shared scale that one task alone has made fits that task, whatever its window says; a new unit is noticed.
Values more than ten spreads away that are less than four in a row, and less than half of the window, are no unit: they
are as good as missing, so that one absurd number does not become the measure of those after it.

Source: own; the constants were chosen on simulated streams and seven recorded ones (benchmarks/README.md). The
shrinkage is empirical Bayes: a prior as wide as the gap that was found (Robbins 1956). The work is done by
`streammeta/native/looks.cpp`, where the constants are.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from streammeta.engine.columns import Columns
from streammeta.engine.moments import Crowd
from streammeta.engine.scale import FrameScale
from streammeta.meta.base import Floats, Ints
from streammeta.native import _kernels as kernels

__all__ = ["FIRST_LOOK", "Look", "due_for_look", "find_strays", "is_coarse", "is_outdated", "look", "until_look"]

_Bools: TypeAlias = npt.NDArray[np.bool_]
_Doubles: TypeAlias = npt.NDArray[np.float64]

FIRST_LOOK = 2  # labels
_PRECISE = 4096.0  # spreads from zero beyond which a second float32 helps: as scale.hpp has it
_WINDOW = ("window_x", "window_low", "window_y", "window_count")
_SCALES = ("scale.x", "scale.y", "scale.last", "scale.y_last", "scale.next", "scale.epoch", "scale.strays", "labelled")


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
    found, has_target = np.zeros(len(xs), np.int64), not frame.classify and bool(frame.shared.y_known[0])
    kernels.find_strays(xs, ys, frame.shared.known, frame.own, has_target, found)
    return found


def is_outdated(columns: Columns, rows: Ints, epoch: int) -> _Bools:
    """Of which tasks [N] the shared scale has changed so much that they are looked at before their next event."""
    found: _Bools = (columns.scale_epoch[rows] != epoch) & (columns.labelled[rows] >= FIRST_LOOK)
    return found


def until_look(
    columns: Columns, rows: Ints, labels: _Doubles, strays: Ints, outdated: _Bools, frame: FrameScale
) -> int:
    """How many of these events [N] may be taken before a task comes that is to be looked at first.

    Where a feature has so far a level that float32 is too coarse for, none may be taken after a look: if that gives the
    feature own views, all tasks see it otherwise.
    """
    most = int(outdated.argmax()) if outdated.any() else len(rows)
    counts = columns.labelled, columns.scale_next, columns.scale_strays
    return kernels.until_look(*counts, rows, labels, strays, most, is_coarse(frame))


def is_coarse(frame: FrameScale) -> bool:
    """Whether a look at one task may change what others see: a feature's level is too far for float32."""
    coarse = np.abs(frame.shared.shift) * frame.shared.gain > _PRECISE  # of an unknown spread, too
    coarse[frame.own] = False
    return bool(coarse.any())


def due_for_look(columns: Columns, rows: Ints, labels: _Doubles, strays: Ints) -> list[int]:
    """Which of these events [N], learned by now, are the last of a task that is to be looked at after them, in order.

    "scale.strays" of the rows is brought up to date.
    """
    counts = columns.labelled, columns.scale_next, columns.scale_strays
    return kernels.due_for_look(*counts, rows, labels, strays)


def look(columns: Columns, row: int, frame: FrameScale, last: _Doubles | None = None) -> Look:
    """Look at a task, set its views, and when it is looked at next.

    Args:
        columns: of the task table; "scale.*" of this row are changed.
        row: the task's.
        frame: the scale in force.
        last: its last labelled event [D], exact; None: not known.
    """
    D = frame.shared.shift.size
    crowd, target_crowd = np.zeros((3, D)), np.zeros((3, 1))
    windows, scales = tuple(columns[name] for name in _WINDOW), tuple(columns[name] for name in _SCALES)
    last = np.full(D, np.nan) if last is None else last
    has_changed, noise, unit_changed, births = kernels.look(
        windows, scales, row, frame.shared, frame.own, frame.epoch, frame.classify, last, crowd, target_crowd
    )
    return Look(has_changed, noise, unit_changed, births, Crowd(*crowd), Crowd(*target_crowd))
