"""What every expert in the mixture offers.

An expert predicts an event before it learns the label, as the learner does, and in order of arrival. What it knows of
one task lies in that task's row (``columns``), so it goes wherever the row goes; one that knows something of all tasks
of a partition is ``streammeta.engine.partitioned.OfPartitions``, too.
"""

import difflib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from streammeta.engine.columns import Column, Columns
from streammeta.meta.base import Floats, Ints, Scaling

__all__ = [
    "RIVER",
    "ByRuns",
    "Case",
    "Cases",
    "Columns",
    "Doubles",
    "Expert",
    "OfRuns",
    "ScalingOf",
    "Slots",
    "alone",
    "did_you_mean",
]

RIVER = "river:"  # names of River's models begin so

Doubles: TypeAlias = npt.NDArray[np.float64]
# (columns, row): the shared view, or the task's own
ScalingOf: TypeAlias = Callable[[Columns, int], Scaling]
Slots: TypeAlias = Sequence[tuple[str, str | None, int]]  # as ``FeatureSpace`` lists them: name, value, fan-in


class Case(NamedTuple):
    """One event as an expert sees it."""

    row: int  # of its task
    task: str
    x: Floats  # raw features [D]; NaN is missing
    partition: int = 0  # that it came in
    slots: Slots | None = None  # where x may have features that the engine does not know; else it is asked
    # x [D] in the units of all tasks, and the task's target: value = shift + spread · in those units
    common: Floats | None = None  # None: x
    shift: float = 0.0
    spread: float = 1.0
    # [2] what was known of the task when the event was predicted, for an expert to write and, when the label comes, to
    # read; -1: nothing was. None: the label comes at once
    context: Ints | None = None
    # [M] its categories' values that share a slot, as ``Cases`` has them; None: there are none
    values: Ints | None = None


class Cases(NamedTuple):
    """Events [N] one after another, as an expert of runs sees them."""

    tasks: Sequence[str]
    common: Floats  # [N, D] features in the units of all tasks; NaN is missing
    partitions: npt.NDArray[np.int64]  # below zero: the label of an event that another member has predicted
    labels: Doubles  # class indices or targets; NaN: there is none to learn
    asked: npt.NDArray[np.bool_]  # whether to predict it
    shift: Doubles  # of each task's target: value = shift + spread · in the units of all tasks
    spread: Doubles
    rows: Ints  # [N] of their tasks
    event: Ints  # [N] the place here of the event of which the label is: its own, but where both are here
    context: Ints  # [N, 2] as of ``Case``; there is one of an event that was asked before
    values: Ints  # [N, M] categories' values that share a slot, by a hash; −1: none

    def at(self, which: Ints) -> "Cases":
        """Those at these places, which ascend and have the events of their late labels."""
        found = Cases([self.tasks[i] for i in which.tolist()], *(column[which] for column in self[1:]))  # type: ignore[arg-type]
        return found._replace(event=np.searchsorted(which, found.event))


def alone(case: Case, y: float, *, is_asked: bool) -> Cases:
    """One event as a run, with its label; NaN: there is none to learn."""
    common = np.ascontiguousarray(case.x if case.common is None else case.common, np.float32)[None]
    context = np.full((1, 2), -1) if case.context is None else case.context[None].copy()
    known = np.array([case.partition]), np.array([y], np.float64), np.array([is_asked])
    unit, row = (np.array([case.shift]), np.array([case.spread])), np.array([case.row])
    values = np.zeros((1, 0), np.int64) if case.values is None else case.values[None]
    return Cases([case.task], common, *known, *unit, row, np.zeros(1, np.int64), context, values)


class Expert(Protocol):
    """A predictor beside the learner."""

    @property
    def name(self) -> str:
        """As in ``[learner] experts``."""

    @property
    def doubt(self) -> float:
        """The share of the learner's own prediction in the expert's, where it may say 0 of what then happens."""

    @property
    def is_saved(self) -> bool:
        """Whether a snapshot holds all that it knows; if not, it starts again after a restore."""

    def layout(self, width: int, outputs: int) -> Mapping[str, Column]:
        """What it keeps of each task, for ``features`` and ``outputs``."""

    def predict(self, columns: Columns, case: Case, outputs: int) -> Doubles | None:
        """Class probabilities [C] or the target's mean [1]; None where it has no opinion. May sum to less than 1."""

    def learn(self, columns: Columns, case: Case, y: float) -> None:
        """Learn the label, a class index or a target. The task's window has it already."""


@runtime_checkable
class OfRuns(Expert, Protocol):
    """An expert that depends on its columns, a partition's events and their order alone: it may take many at once."""

    def run(self, columns: Columns, cases: Cases, outputs: int) -> Doubles:
        """Predict each event of a partition and learn its label; class probabilities [N, C], or means [N, 1].

        Where it has no opinion: zeros, or NaN for a mean. It is the same as ``predict`` and ``learn`` in turn.
        """


class ByRuns(ABC):
    """An expert that says and learns all in ``run``, as ``OfRuns`` wants it: one event is a run of one.

    Attributes:
        classify: whether it says class probabilities, else means.
    """

    classify: bool

    def layout(self, width: int, outputs: int) -> Mapping[str, Column]:  # noqa: ARG002
        """Nothing of a task: it is of all."""
        return {}

    def predict(self, columns: Columns, case: Case, outputs: int) -> Doubles | None:
        """Class probabilities [C] or the mean [1]; None where it has no opinion."""
        said: Doubles = self.run(columns, alone(case, math.nan, is_asked=True), outputs)[0]
        has_opinion = said.any() if self.classify else not np.isnan(said[0])
        return said if has_opinion else None

    def learn(self, columns: Columns, case: Case, y: float) -> None:
        """Learn a class index or a target."""
        self.run(columns, alone(case, y, is_asked=False), 1)

    @abstractmethod
    def run(self, columns: Columns, cases: Cases, outputs: int) -> Doubles:
        """Predict each event of a partition and learn its label; see ``OfRuns``."""


def did_you_mean(name: str, known: Sequence[str] | Mapping[str, object]) -> str:
    """The known name nearest to one that is not."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""
