"""What ``recall`` keeps of each task, as columns of the task table: concepts, and how well labels were predicted."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from streammeta.engine.columns import Column, Columns
from streammeta.errors import SnapshotError
from streammeta.meta.base import Ints

__all__ = [
    "BEFORE",
    "BEGUN",
    "CERTAIN",
    "LOOKED_AT",
    "PRESENT",
    "check_concepts",
    "concept_columns",
    "renumber_concepts",
]


LOOKED_AT = 8  # labels that may show that a concept has returned
PRESENT, BEFORE, CERTAIN, BEGUN = range(4)  # of ``past.concept``


def concept_columns(concepts: int, page: int, window: Mapping[str, Column]) -> dict[str, Column]:
    """What is kept of each task: so many concepts of so many events, each as these columns of a ``window`` have it."""
    return {
        "past.x": Column((concepts, page, *window["window_x"].shape[1:]), np.float32, math.nan),
        "past.low": Column((concepts, page, *window["window_low"].shape[1:]), np.float32, math.nan),
        "past.y": Column((concepts, page), window["window_y"].dtype),
        "past.count": Column((concepts,), np.int64),  # events of each concept; 0: none
        "past.used": Column((concepts,), np.int64),  # labels its task had learned when it was last in force
        "past.share": Column((concepts,), np.float64),  # w(k) of each, in the present concept
        # exemplars of the present concept and of the last one (-1: none); 0 while it is uncertain whether the concept
        # changed; labels learned before it did, or may have
        "past.concept": Column((4,), np.int64, -1),
        "past.given": Column((LOOKED_AT, 2), np.float64),  # of the last labels: log p as predicted, and p / max p
        "past.usual": Column((2,), np.float64),  # how well labels are predicted: a sum with forgetting, and how many
    }


def check_concepts(found: Mapping[str, npt.NDArray[Any]], at: str) -> None:
    """Refuse rows [N, ...] from elsewhere whose concepts cannot be; raises SnapshotError."""
    if "past.count" not in found:
        return
    concepts, page = found["past.y"].shape[1:]
    concept, share = found["past.concept"], found["past.share"]
    fits = {
        "past.count": (found["past.count"] >= 0) & (found["past.count"] <= page),
        "past.used": (found["past.used"] >= 0) & (found["past.used"] <= found["labelled"][:, None]),
        "past.share": (share >= 0) & (share.sum(1, keepdims=True) <= 1 + 1e-6),
        "past.concept": (concept >= -1) & (concept <= np.stack([[concepts - 1]] * 2 + [[1]] + [[2**53]], 1)),
        "past.begun": concept[:, BEGUN] <= found["labelled"],
        "past.given": np.isfinite(found["past.given"]),
        "past.usual": np.isfinite(found["past.usual"]) & (found["past.usual"] >= 0),
        "past.y": np.isfinite(found["past.y"]),
    }
    wrong = [name for name, fit in fits.items() if not fit.all()]
    if wrong:
        raise SnapshotError(f"{at}: a row with {wrong[0]} that no task has: it is damaged")


def renumber_concepts(
    columns: Columns,
    rows: Ints,
    found: Mapping[str, npt.NDArray[Any]],
    numbers: tuple[Ints, Ints],
    classes: Ints | None,
) -> None:
    """Concepts of rows that were written where features and classes had other numbers: theirs here.

    Args:
        columns: of the task table; these rows are changed.
        rows: [N]
        found: the columns as they were written [N, ...].
        numbers: the slot here of each written one, and the place of each second float32; -1: no capacity.
        classes: the number here of each written class; None: labels are numbers.
    """
    if "past.x" not in columns:
        return
    for name, places in zip(("past.x", "past.low"), numbers, strict=True):
        kept = np.flatnonzero(places >= 0)
        x = np.full((len(rows), *columns[name].shape[1:]), math.nan, np.float32)
        x[..., places[kept]] = found[name][..., kept]
        columns[name][rows] = x
    if classes is not None and classes.size:
        columns["past.y"][rows] = classes[np.clip(found["past.y"].astype(np.int64), 0, classes.size - 1)]
