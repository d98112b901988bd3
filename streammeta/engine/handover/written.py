"""What of the tasks is written, and what of it is written already."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from streammeta.engine.handover.record import PAGE
from streammeta.engine.memory import Memory
from streammeta.engine.spill import TaskKey

__all__ = ["SPARSE", "Written", "chunks", "label_dtype", "page_count", "row_columns"]

_WINDOW = ("window_x", "window_low", "window_y")  # saved in pages, not in the row
SPARSE = ("scale.x", "scale.y")  # the columns that are written of tasks where they are not all zeros
_CHUNK = 256  # tasks written, or taken in, at a time
_T = TypeVar("_T")


@dataclass(slots=True)
class Written:
    """What the changelog has."""

    counts: dict[TaskKey, tuple[int, int]] = field(default_factory=dict)  # of each task, pushed and labelled
    schemas: dict[int, set[bytes]] = field(default_factory=dict)  # by partition
    parts: dict[int, dict[str, npt.NDArray[Any]]] = field(default_factory=dict)  # what experts know, by partition
    pieces: dict[int, dict[str, int]] = field(default_factory=dict)  # of which it has so many, also of other experts

    def forget(self, partition: int) -> None:
        """A partition is another process's now."""
        self.schemas.pop(partition, None)
        self.parts.pop(partition, None)
        self.pieces.pop(partition, None)
        for key in [key for key in self.counts if key[0] == partition]:
            del self.counts[key]


def page_count(memory: Memory) -> int:
    """Page numbers of a task's window count round below it."""
    return memory.settings.memory.window // PAGE + 2


def label_dtype(memory: Memory) -> np.dtype[Any]:
    """Of labels in windows: float32 for classes, float64 for targets."""
    return np.dtype(memory.tasks.columns.window_y.dtype)


def row_columns(memory: Memory) -> list[str]:
    """The columns that are written of every task."""
    return [name for name in memory.tasks.columns if name not in (*_WINDOW, *SPARSE, *memory.response.derived)]


def chunks(items: Iterable[_T]) -> Iterator[list[_T]]:
    """A few hundred at a time, so that polling and the spill have their turn."""
    rest = iter(items)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
