"""When a task's φ is derived again from its window, because θ has changed since.

Young tasks follow θ at once; a window of n events is rebuilt at most once in n / 16 events of its task, so that many
tasks and frequent meta-updates do not multiply; once in n / 4 where more events wait than can be taken. The columns
``rest`` (events until it may be rebuilt) and ``version`` (of θ, when it last was) are kept here.

Where a task moves to another process, φ need not move with it if that changes no bit: if its next event derives it
again anyway, or if its window still holds every event that φ was made of. Then ``version`` says so until that event.
"""

import numpy as np
import numpy.typing as npt

from streammeta.engine.columns import Columns
from streammeta.meta.base import Ints
from streammeta.native import _kernels as kernels

__all__ = [
    "can_be_omitted",
    "derive_unseen",
    "is_stale",
    "leave_out",
    "left_out",
    "mark_derived",
    "mark_left_out",
    "mark_underived",
    "refresh",
]

_REBUILD_SHARE, _SHARE_WITH_BACKLOG = 16, 4


def can_be_omitted(columns: Columns, rows: Ints, version: int) -> npt.NDArray[np.bool_]:
    """Which of these rows [N] can do without φ until their next event, θ being of that version, and be the same."""
    own: Ints = columns.version[rows]
    rest: Ints = columns.rebuild_cooldown[rows]
    pushed: Ints = columns.window_count[rows]
    holds_all = pushed <= columns.window_size
    found: npt.NDArray[np.bool_] = left_out(own) | (rest <= 0) & ((own != version) | holds_all)
    return found


def leave_out(versions: Ints) -> Ints:
    """What the column ``version`` says of rows without φ; and the other way about."""
    return -3 - versions  # of −1 and more makes −2 and less


def mark_left_out(columns: Columns, rows: Ints) -> None:
    """These rows [n] have no φ from now on; rows that had none have it again, as their version says."""
    columns.version[rows] = leave_out(columns.version[rows])


def mark_derived(columns: Columns, row: int, version: int) -> None:
    """φ of this row has just been derived under θ and a normalization of this stamp."""
    columns.version[row] = version


def mark_underived(columns: Columns, rows: Ints) -> None:
    """φ of these rows is to be derived at their next event, whatever θ is then."""
    columns.version[rows], columns.rebuild_cooldown[rows] = -1, 0


def left_out(versions: Ints) -> npt.NDArray[np.bool_]:
    """Whether φ of these rows is to be derived before it is used."""
    return versions < -1


def is_stale(columns: Columns, row: int, version: int) -> bool:
    """Whether this row's φ is to be derived for an event that came now, under θ of this version."""
    own = columns.version[row]
    return bool(left_out(own) or (columns.rebuild_cooldown[row] < 1 and own != version))


def derive_unseen(columns: Columns, rows: Ints, version: int) -> Ints:
    """Whose φ, of these rows [N], is to be derived under θ ``version`` though no event of theirs came.

    As ``refresh`` would say with their next event, and it counts as derived then; who remembers nothing has nothing.
    """
    own, rest = columns.version[rows], columns.rebuild_cooldown[rows]
    was_left_out = left_out(own)
    stale = np.unique(rows[(was_left_out | (rest < 1) & (own != version)) & (columns.window_count[rows] > 0)])
    own = columns.version[stale]
    own = np.where(left_out(own), leave_out(own), own)
    older = stale[own != version]
    count = np.minimum(columns.window_count[older], columns.window_size)
    columns.version[stale] = version
    columns.rebuild_cooldown[older] = count // _REBUILD_SHARE
    return stale


def refresh(columns: Columns, rows: Ints, begin: int, version: int, *, has_backlog: bool = False) -> tuple[int, Ints]:
    """Count events of these rows, in order from ``begin`` on, and say whose φ is to be derived under θ ``version``.

    Returns:
        Where to stop, and the rows [n] that are stale before that, each once. It stops at an event whose row becomes
        stale only now, after other events in this stretch: what those learn must be in its window first.
    """
    stale = np.empty(rows.size - begin, np.int64)
    size = columns.window_y.shape[1]
    share = _SHARE_WITH_BACKLOG if has_backlog else _REBUILD_SHARE
    state = columns.rebuild_cooldown, columns.version, columns.window_count
    end, found = kernels.refresh(rows, begin, *state, size, share, version, stale)
    return end, stale[:found]
