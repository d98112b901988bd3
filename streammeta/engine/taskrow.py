"""What is kept of each task: the learner's fast state φ, its window of labelled events, and its counters."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from streammeta.engine.columns import Column, Columns, next_power_of_two
from streammeta.engine.looks import FIRST_LOOK
from streammeta.engine.outcome import TaskSummary
from streammeta.engine.scale import SCALE_ROWS, restart_units
from streammeta.engine.spill import TaskKey
from streammeta.meta.base import Method

__all__ = ["SUMMARY_COLUMNS", "forget_window", "summarize", "task_columns"]

SUMMARY_COLUMNS = ("events", "labelled", "error", "drifts", "drift_at", "seen_at")


def task_columns(
    method: Method, features: int, outputs: int, window: int, *, own: int, classify: bool
) -> dict[str, Column]:
    """The columns of the task table for ``features`` and ``outputs``; widths grow by doubling, so they grow seldom.

    Args:
        method: the learner.
        features: D
        outputs: C
        window: labelled events remembered.
        own: K, features that have a view of a task's own and a second float32.
        classify: labels are classes; else float64 targets.
    """
    width = next_power_of_two(features)
    phi = {
        name: Column(shape, dtype)
        for name, (shape, dtype) in method.phi_layout(width, next_power_of_two(outputs)).items()
    }
    low = next_power_of_two(own) if own else 0
    return phi | {
        "window_x": Column((window, width), np.float32, math.nan, filled="window_count"),
        "window_low": Column((window, low), np.float32, math.nan, filled="window_count"),
        "window_y": Column((window,), np.float32 if classify else np.float64, filled="window_count"),
        "scale.x": Column((SCALE_ROWS, width), np.float64),
        "scale.y": Column((SCALE_ROWS, 1), np.float64),
        "scale.last": Column((width,), np.float32),
        "scale.y_last": Column((0 if classify else 1,), np.float32),
        "scale.next": Column((), np.int64, FIRST_LOOK),  # labels of the task at which its scale is looked at next
        "scale.epoch": Column((), np.int64),  # of the shared scale, at the last look
        "scale.strays": Column((), np.int64),  # labels in a row that came with a number far away
        "window_count": Column((), np.int64),  # labelled events that went into the window, ever
        "version": Column((), np.int64, -1),  # of θ, when φ was last derived from the window
        "rebuild_cooldown": Column((), np.int64),  # events until φ may be derived again
        "events": Column((), np.int64),
        "labelled": Column((), np.int64),
        "labels_since_drift": Column((), np.int64),  # labelled events of the present concept, as far as known
        "labels_kept_at_drift": Column((), np.int64),  # how many of them came before the drift was signalled
        "error": Column((), np.float64),
        "drifts": Column((), np.int64),
        "drift_at": Column((), np.float64, math.nan),
        "seen_at": Column((), np.float64, math.nan),
    }


def forget_window(columns: Columns, row: int) -> None:
    """The task's labelled events say nothing any more, and neither does since when its units hold."""
    columns.window_count[row] = 0
    restart_units(columns, row)


def summarize(key: TaskKey, values: Mapping[str, Any]) -> TaskSummary:
    """One task from its ``SUMMARY_COLUMNS``."""
    labelled = int(values["labelled"])
    drift_at, seen_at = float(values["drift_at"]), float(values["seen_at"])
    return TaskSummary(
        task=key[1],
        partition=key[0],
        events=int(values["events"]),
        labelled=labelled,
        error=float(values["error"]) if labelled else math.nan,
        drifts=int(values["drifts"]),
        last_drift_at=None if math.isnan(drift_at) else drift_at,
        last_seen_at=None if math.isnan(seen_at) else seen_at,
    )
