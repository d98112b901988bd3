"""The intercepts that a linear mixed model has of groups, a task or a category's value: where they are kept.

A task's lie in its row. Values of categories share a table by a hash of the value (`streammeta.engine.features`), so
many values cost no more than a few; two of one place have one intercept. Equations: `streammeta.engine.experts.linear`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from streammeta.engine.columns import Column
from streammeta.errors import SnapshotError
from streammeta.meta.base import Floats, Ints

__all__ = [
    "INTERCEPTS",
    "OF_TASKS",
    "TASK_CLASSES",
    "VALUE_CLASSES",
    "are_intercepts",
    "are_values",
    "blank_values",
    "check_intercepts",
    "renumber_intercepts",
]

TASK_CLASSES, VALUE_CLASSES = 64, 32  # with intercepts, at most
INTERCEPTS = "linear.intercepts"  # [T, 2, C] of tasks: intercept and curvature of each output
OF_TASKS = {INTERCEPTS: Column((2, TASK_CLASSES), np.float32)}  # as wide as it may become
_PLACES = 8192  # of values; a power of two


def blank_values(outputs: int) -> Floats:
    """A table [V, 2, outputs] by a hash modulo V, in which no value has an intercept yet; of no outputs, V = 0."""
    return np.zeros((_PLACES if outputs else 0, 2, outputs), np.float32)


def are_intercepts(found: npt.NDArray[Any]) -> bool:
    """Whether these [..., 2, C] are intercepts and curvatures that labels make."""
    if not found.size:  # of rows that were written before any class was known, or while the expert slept
        return True
    return bool(np.isfinite(found).all() and (found[..., 1, :] >= 0).all())


def check_intercepts(found: Mapping[str, npt.NDArray[Any]], at: str) -> None:
    """Refuse rows [N, ...] from elsewhere whose intercepts no labels make; raises SnapshotError."""
    if INTERCEPTS in found and not are_intercepts(found[INTERCEPTS]):
        raise SnapshotError(f"{at}: a row with {INTERCEPTS} that no labels make: it is damaged")


def are_values(found: npt.NDArray[Any], outputs: int) -> bool:
    """Whether this is a table of values of a model that has capacity for so many outputs with intercepts."""
    fits = found.dtype == np.float32 and found.shape in (blank_values(0).shape, (_PLACES, 2, outputs))
    return fits and are_intercepts(found)


def renumber_intercepts(here: Floats, written: Floats, classes: Ints) -> None:
    """Put intercepts [N, 2, C'] that were written where classes had other numbers into [N, 2, C], which is all zeros.

    Args:
        here: is changed.
        written: as they were.
        classes: the number here of each class there.
    """
    if not written.size:
        return
    known = min(written.shape[2], classes.size)
    kept = np.flatnonzero(classes[:known] < here.shape[2])
    here[:, :, classes[kept]] = written[:, :, kept]
