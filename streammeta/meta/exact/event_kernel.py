"""The event path of the exact heads, compiled: encode, predict, adapt, one event after the other.

Events are independent but for the state of their task's row, and each is computed by the same instructions, so a
prediction has the same bits however events were grouped into calls. The E · K heads of a task are *lanes*: lane
e · K + k is memory k of member e, sixteen lanes are a block, and every number of the mathematics is a row [16] of its
block, for all heads at once. A_k is symmetric: only its lower triangle is kept, entry (i, j ≤ i) at row i(i+1)/2 + j.
Lanes left over see no features, so their state stays 0. Equations: see ``streammeta.meta.exact.heads``; the loops:
``streammeta/native/event.cpp``.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from streammeta.meta.base import Floats, Ints, Windows
from streammeta.native import _kernels as kernels

__all__ = [
    "LANES",
    "LONGEST_MEMORY",
    "MOST_LOG_PRECISION",
    "SHORTEST_MEMORY",
    "Few",
    "Weights",
    "remembered",
    "run_classes",
    "run_values",
    "score_values",
]

LANES = 16
SHORTEST_MEMORY, LONGEST_MEMORY = 1.5, 5000.0  # events that a memory may span
MOST_LOG_PRECISION = 6.0


class Weights(NamedTuple):
    """θ and the normalization as the event path reads them.

    D features, E members, H hidden, m = F + 1 encoded, C outputs, K memories; G blocks of lanes. Matrices have zero
    columns up to the next multiple of sixteen (·).
    """

    shift: Floats  # [D]
    gain: Floats  # [D]
    first: Floats  # [E, D + 1, ·] = [w1, v]; the last row is [b1, 0]
    second: Floats  # [E, H + 1, ·] = [w2, u]; the last row is [b2, 0]
    third: Floats  # [E, J, ·] = w3
    w0: Floats  # [G·m·C, 16] prior mean of the heads
    precision: Floats  # [G·m, 16] diagonal of Λ_k
    memory: Floats  # [G, 16] γ_k
    scale: Floats  # [G, 16] logits a unit of head output; for regression the prior noise variance
    leverage: Floats  # [G, 16] how much predictive variance flattens the logits
    owner: Floats  # [E·G, 16] 1 where the lane is the member's, else 0
    slow: Floats  # [G, 16] 0 in each member's slowest memory, which a drift makes forget, else 1
    log_mix: Floats  # [E, K] mixing prior
    forget: Floats  # [E] α, forgetting of the evidence for each head
    y_affine: Floats  # [2] shift and spread of the target


class Few(NamedTuple):
    """Events [M] of which most features are missing: those that are there."""

    starts: Ints  # [M + 1] event i has columns and values from starts[i] to starts[i + 1]
    columns: Ints  # ascending within an event
    values: Floats


# Fill mean [N, C] for events xs [N, D] of these rows, in order, and learn each label ys [N] that is no NaN; for targets
# mean [N, 1] and variance [N].
#
# A [T, G, P, 16], B [T, G, m, ·, 16], logw [T, G, 16] and, of targets, noise [T, G, 2, 16] are the tasks' state. Where
# mean is [0, C] nothing is predicted, and only A and B learn: by the same instructions, so that they get the same bits.
# forget [N], or [0] for none: with 1 each member's slowest head of the row is emptied before that event, with 2 after
# it. They raise ValueError where shapes do not fit, a row is not there, or a label is none of the C classes.
run_classes, run_values = kernels.run_classes, kernels.run_values


def score_values(w: Weights, phi: Mapping[str, npt.NDArray[Any]], rows: Ints, xs: Few) -> tuple[Floats, Floats]:
    """What the heads of these rows [M] expect of an event each; nothing is learned.

    Args:
        w: θ.
        phi: the tasks' state: A, B, logw and noise.
        rows: of tasks; −1 is one that learned nothing yet. One that comes again soon costs less.
        xs: [M] events as ``run_values`` takes them.

    Returns:
        The means [M] of the normalized target, and the variances [M] of those means, without the target's noise.

    Raises:
        ValueError: shapes do not fit, or a row is not there.
    """
    mean, doubt = np.empty(rows.shape, np.float32), np.empty(rows.shape, np.float32)
    kernels.score_values(w, phi["A"], phi["B"], phi["logw"], phi["noise"], rows, *xs, mean, doubt)
    return mean, doubt


def remembered(windows: Windows, rows: Ints, features: int) -> tuple[Ints, Floats, Floats, npt.NDArray[np.uint8]]:
    """What these rows remember, oldest first, as ``run_classes`` wants it: rows [N], x [N, D], y [N], forget [N].

    Each member's slowest head counts only the last ``since`` events: those after the task's last drift.
    """
    total = int(np.minimum(windows.pushed[rows], windows.y.shape[1]).sum())
    of, forget = np.empty(total, np.int64), np.empty(total, np.uint8)
    xs, ys = np.empty((total, features), np.float32), np.empty(total, np.float32)
    if total:
        kernels.remember(*windows, rows, of, xs, ys, forget)
    return of, xs, ys, forget
