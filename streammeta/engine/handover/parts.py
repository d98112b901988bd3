"""The engine's parts that hold tasks, and what of them is written already."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from streammeta.engine.buffer import RecentRows
from streammeta.engine.drift import Detectors
from streammeta.engine.experts import Mixture
from streammeta.engine.features import FeatureSpace
from streammeta.engine.handover.record import PAGE
from streammeta.engine.labels import LabelSpace, PendingEvents
from streammeta.engine.presence import Presence
from streammeta.engine.spill import TaskKey
from streammeta.engine.tasks import TaskTable

__all__ = ["TaskParts", "Written", "chunks"]

_WINDOW = ("window_x", "window_low", "window_y")  # saved in pages, not in the row
_SPARSE = ("scale.x", "scale.y")  # saved where they are not all zeros
_CHUNK = 256  # tasks written, or taken in, at a time
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class TaskParts:
    """The engine's parts that hold tasks."""

    fingerprint: Mapping[str, Any]
    window: int
    tasks: TaskTable
    features: FeatureSpace
    labels: LabelSpace
    waiting: PendingEvents
    detectors: Detectors
    recent: RecentRows
    derived: tuple[str, ...]  # columns that windows make again, to the bit
    stamp: Callable[[], int]  # of θ and the normalization
    spill_directory: Path | None
    own: Callable[[], list[int]]  # the slots that have views of a task's own, and a second float32
    give_own: Callable[[list[int]], object]  # let these slots have them, too
    widen: Callable[[], None]  # widen every row for features and classes that came from elsewhere
    presence: Presence  # when tasks were last seen
    leave: Callable[[TaskKey], None]  # forget a task
    mixture: Mixture | None = None  # its experts may know something of a partition

    @property
    def pages(self) -> int:
        """Page numbers count round below it."""
        return self.window // PAGE + 2

    @property
    def label_dtype(self) -> np.dtype[Any]:
        """Of labels in windows: float32 for classes, float64 for targets."""
        return np.dtype(self.tasks.columns["window_y"].dtype)

    @property
    def row_columns(self) -> list[str]:
        """The columns that are written of every task."""
        return [name for name in self.tasks.columns if name not in (*_WINDOW, *_SPARSE, *self.derived)]

    @property
    def sparse(self) -> tuple[str, ...]:
        """The columns that are written of tasks where they are not all zeros."""
        return _SPARSE


@dataclass(slots=True)
class Written:
    """What the changelog has."""

    counts: dict[TaskKey, tuple[int, int]] = field(default_factory=dict)  # of each task, pushed and labelled
    schemas: dict[int, set[bytes]] = field(default_factory=dict)  # by partition
    parts: dict[int, dict[str, npt.NDArray[Any]]] = field(default_factory=dict)  # what experts know, by partition

    def forget(self, partition: int) -> None:
        """A partition is another process's now."""
        self.schemas.pop(partition, None)
        self.parts.pop(partition, None)
        for key in [key for key in self.counts if key[0] == partition]:
            del self.counts[key]


def chunks(items: Iterable[_T]) -> Iterator[list[_T]]:
    """A few hundred at a time, so that polling and the spill have their turn."""
    rest = iter(items)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
