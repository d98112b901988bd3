"""Which tasks a meta-update learns from: what a strategy is, and the one by default. More: `streammeta.contrib`.

A draw is a function of the task table and of the ring of recent rows, both of which a snapshot holds, and is made where
θ changes, at counts of events: so it repeats with a seed, goes on after a restore, and knows nothing of polls.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from streammeta.engine.buffer import RecentRows
from streammeta.engine.columns import Columns
from streammeta.engine.part import Part
from streammeta.engine.scale import FrameScale
from streammeta.meta.base import Ints, Kind

__all__ = ["Alive", "TaskSampler", "Uniform", "dealt"]


class Alive(NamedTuple):
    """What a draw may read; nothing of it is changed."""

    columns: Columns
    recent: RecentRows
    shortest: int  # tasks with fewer events in their window are not drawn
    frame: FrameScale
    kind: Kind


class TaskSampler(Protocol):
    """Draws tasks, and may ask for more meta-updates.

    Attributes:
        hurries: whether meta-updates are wanted twice as often until the next draw.
    """

    hurries: bool

    def observe_outcomes(self, part: Part) -> None:
        """See how labels were predicted, in order."""

    def draw(self, alive: Alive, count: int, random: np.random.Generator) -> Ints:
        """``count`` rows of tasks that are old enough, a task perhaps more than once; none where there is none."""

    def dump(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays from which ``load`` makes the same."""

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Become what ``dump`` described, as far as it is there; raises SnapshotError when it is damaged."""


class Uniform:
    """Every task alive counts the same (Finn et al. 2019, FTML)."""

    hurries = False

    def observe_outcomes(self, part: Part) -> None:
        """How labels were predicted changes nothing."""

    def draw(self, alive: Alive, count: int, random: np.random.Generator) -> Ints:
        """See ``TaskSampler``."""
        return alive.recent.draw(count, alive.columns.window_count, alive.shortest, random)

    def dump(self) -> dict[str, npt.NDArray[Any]]:
        """Nothing: all that it reads is in the task table."""
        return {}

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Nothing."""


def dealt(count: int, drawable: Sequence[int], random: np.random.Generator) -> list[list[int]]:
    """Which of a meta-update's ``count`` segments each process draws, by how many tasks it can draw of.

    Each segment is as likely of one task as of any other, wherever it is, and how many a process gets differs from its
    share by less than one.

    Source: Madow & Madow (1944), systematic sampling; in a random order.
    """
    ends = np.cumsum(drawable) / max(sum(drawable), 1)
    marks = (np.arange(count) + random.random()) / count
    owners = np.searchsorted(ends, marks, side="right")[random.permutation(count)]
    return [np.flatnonzero(owners == rank).tolist() for rank in range(len(drawable))]
