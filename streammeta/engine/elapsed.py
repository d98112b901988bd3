"""Seconds since the task's event before, as a feature: `[input.fields] time_features = ["elapsed"]`.

The column ``elapsed`` [T, 2] has of each task the time that it has come to, and the time of its last event, in seconds
since 1970; NaN: none. It is read and written where an event is admitted, in the order of arrival.
"""

import math
from collections.abc import Mapping

import numpy as np
from msgspec.structs import replace

from streammeta.engine.columns import Column, Columns
from streammeta.event import Event

__all__ = ["COLUMN", "note_time", "with_elapsed"]

COLUMN = {"elapsed": Column((2,), np.float64, math.nan)}


def with_elapsed(event: Event, name: str, columns: Columns, row: int) -> Event:
    """The event with the seconds since its task's event before as one more feature.

    It has none where it is the task's first, one of them has no time, or features have no names. An event that comes
    late has 0. After two late ones in a row it is counted from the first of them: so one time stamp that is wrong does
    not make all that follow late.

    Args:
        event: as it came.
        name: of the feature.
        columns: of the task table.
        row: the task's; −1: it has none yet.
    """
    if event.ts is None or row < 0 or not isinstance(event.x, Mapping):
        return event
    reached, last = columns.elapsed[row].tolist()
    since = last if event.ts < reached and last < reached else reached
    if math.isnan(since):
        return event
    return replace(event, x={**event.x, name: max(0.0, event.ts - since)})


def note_time(columns: Columns, row: int, ts: float | None) -> None:
    """An event of this row came, with this time."""
    if ts is None:
        return
    reached, last = columns.elapsed[row].tolist()
    both_late = ts < reached and last < reached
    columns.elapsed[row] = max(last, ts) if both_late else ts if math.isnan(reached) else max(reached, ts), ts
