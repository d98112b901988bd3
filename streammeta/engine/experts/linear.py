"""An expert for what all tasks have in common: a linear model of all a partition's events, compiled.

::

    s = W z                     z = (1, x in spreads of all tasks, cut off at six; 0 where it is missing)
    g = softmax(s) − e_y z^T    of targets (s − y) z^T, of which no more than eight spreads count
    G ← G + g²                  W ← W − min(1/2, 1 / Σ_d z_d² / √G_d) g / √G

So no event moves a score by more than its own error, a step needs no rate for each feature, and what is rare learns as
fast as what is common. It forgets nothing: who adapts is the learner. It says something from the tenth label on, of
tasks that have none, too; thousands of tasks of a few events each, and categories of many values, are where it is right
and where heads, trees and neighbours know nothing yet. The first 512 features have weights.

Sources: McMahan & Streeter (2010), Duchi, Hazan & Singer (2011), steps by the squares of gradients; Ross, Mineiro &
Langford (2013), Normalized online learning; Karampatziakis & Langford (2011), a step that does not pass its label. The
constants were not searched.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from streammeta.engine.columns import Column, next_power_of_two
from streammeta.engine.experts.base import Arrays, Case, Cases, Columns, Doubles, Renumbering, alone
from streammeta.engine.partitioned import of_partitions, together
from streammeta.engine.scale import SharedScale
from streammeta.errors import SnapshotError
from streammeta.meta.base import Floats, Kind
from streammeta.native import _kernels as kernels

__all__ = ["Linear"]

_FEATURES = 512  # with weights, at most
_WEIGHTS, _SQUARES, _COUNTS = "linear.weights", "linear.squares", "linear.counts"


@dataclass(slots=True)
class _Model:
    """A partition's; see linear.cpp."""

    weights: Floats  # [1 + D, C]
    squares: Floats  # [1 + D, C]
    counts: Doubles  # [2] labels, and classes that there were

    @classmethod
    def blank(cls, outputs: int) -> "_Model":
        return cls(np.zeros((1, outputs), np.float32), np.ones((1, outputs), np.float32), np.zeros(2))

    def widen(self, features: int, outputs: int) -> None:
        """Have weights for so many features, of which those beyond the first 512 have none, and outputs."""
        rows, columns = self.weights.shape
        more = (0, max(1 + min(features, _FEATURES) - rows, 0)), (0, max(outputs - columns, 0))
        if more != ((0, 0), (0, 0)):
            self.weights = np.pad(self.weights, more)
            self.squares = np.pad(self.squares, more, constant_values=1)


class Linear:
    """One model a partition.

    Args:
        kind: of the stream.
        scale: the scale of all tasks in force.
    """

    name = "linear"
    doubt = 0.05
    is_saved = True

    def __init__(self, kind: Kind, scale: Callable[[], SharedScale]) -> None:
        self._classify, self._scale = kind == "classification", scale
        self._of: dict[int, _Model] = {}  # of partitions

    def layout(self, width: int, outputs: int) -> Mapping[str, Column]:  # noqa: ARG002
        """Nothing of a task: it is of all."""
        return {}

    def predict(self, columns: Columns, case: Case, outputs: int) -> Doubles | None:
        """Class probabilities [C] or the mean [1]; None before the first labels."""
        said: Doubles = self.run(columns, alone(case, math.nan, is_asked=True), outputs)[0]
        has_opinion = said.any() if self._classify else not np.isnan(said[0])
        return said if has_opinion else None

    def learn(self, columns: Columns, case: Case, y: float) -> None:
        """Learn a class index or a target."""
        self.run(columns, alone(case, y, is_asked=False), 1)

    def run(self, columns: Columns, cases: Cases, outputs: int) -> Doubles:  # noqa: ARG002
        """Predict each event and learn its label; see ``OfRuns``."""
        said = np.full((len(cases.tasks), outputs), 0.0 if self._classify else math.nan)
        labels = cases.labels if self._classify else (cases.labels - cases.shift) / cases.spread
        partition, scale, begin = int(cases.partitions[0]), self._scale(), 0
        model = self._of.get(partition)
        if model is None:
            if np.isnan(labels).all():
                return said
            model = self._of[partition] = _Model.blank(1)
        model.widen(cases.common.shape[1], 1)
        while begin < len(labels):
            state, units = (model.weights, model.squares, model.counts), (scale.shift, scale.gain)
            events, asked = cases.common[begin:], cases.asked[begin:]
            begin += kernels.linear_run(*state, events, *units, labels[begin:], asked, self._classify, said[begin:])
            if begin < len(labels):
                model.widen(0, next_power_of_two(int(labels[begin]) + 1))
        return said if self._classify else cases.shift[:, None] + cases.spread[:, None] * said

    def publish_shared(self) -> None:
        """The scale is asked for when it is needed."""

    def dump(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays from which ``load`` makes the same."""
        return together({number: self.partition(number) for number in self.partitions})

    def load(self, arrays: Arrays) -> None:
        """Become what ``dump`` described."""
        found = of_partitions(arrays, "linear.")
        self._of = {number: _checked(part, 0, "a snapshot") for number, part in found.items()}

    @property
    def partitions(self) -> list[int]:
        """Of which it has a model."""
        return sorted(self._of)

    def partition(self, number: int) -> dict[str, npt.NDArray[Any]]:
        """A partition's model."""
        found = self._of.get(number)
        if found is None:
            return {}
        return {_WEIGHTS: found.weights.copy(), _SQUARES: found.squares.copy(), _COUNTS: found.counts.copy()}

    def take_partition(self, number: int, arrays: Arrays, here: Renumbering, at: str) -> None:
        """Go on with this model; raises SnapshotError where it is damaged.

        Where features or classes have other numbers here, weights go to their places; those of a feature for which
        there is no capacity are left out.
        """
        self.forget_partition(number)
        if not {_WEIGHTS, _SQUARES, _COUNTS} & arrays.keys():
            return
        found = _checked(arrays, len(here.classes) if self._classify else 1, at)
        self._of[number] = found if here.same else _renumbered(found, here, classify=self._classify, at=at)

    def forget_task(self, partition: int, task: str) -> None:  # noqa: ARG002
        """Begin again: what it learned of a task cannot be told from what it learned of the others."""
        self.forget_partition(partition)

    def forget_partition(self, number: int) -> None:
        """Its model goes with it."""
        self._of.pop(number, None)


def _checked(arrays: Arrays, classes: int, at: str) -> _Model:
    """The model of which ``Linear.partition`` made these arrays; raises SnapshotError where they are damaged.

    Args:
        arrays: with others.
        classes: there are no more than this; 0: it is not known.
        at: where they come from.
    """
    damaged = SnapshotError(f"{at}: a linear model that no labels make: it is damaged")
    if not {_WEIGHTS, _SQUARES, _COUNTS} <= arrays.keys():
        raise damaged
    weights, squares, counts = arrays[_WEIGHTS], arrays[_SQUARES], arrays[_COUNTS]
    types = [weights.dtype.str, squares.dtype.str, counts.dtype.str] == ["<f4", "<f4", "<f8"]
    if not types or weights.ndim != 2 or weights.shape != squares.shape or counts.shape != (2,) or not weights.size:
        raise damaged
    most = min(weights.shape[1], classes or weights.shape[1])
    numbers = np.isfinite(weights).all() and np.isfinite(counts).all() and (squares >= 1).all()
    if not numbers or counts[0] < 0 or counts[1] != np.floor(counts[1]) or not 0 <= counts[1] <= most:
        raise damaged
    return _Model(weights.copy(), squares.copy(), counts.copy())


def _renumbered(found: _Model, here: Renumbering, *, classify: bool, at: str) -> _Model:
    """A model that was made where features and classes had other numbers."""
    features, outputs = found.weights.shape[0] - 1, int(found.counts[1]) if classify else 1
    if features > len(here.slots):
        raise SnapshotError(f"{at}: a linear model of {features} features, where its schema has {len(here.slots)}")
    slots, columns = here.slots[:features], here.classes[:outputs] if classify else np.zeros(1, np.int64)
    kept = np.flatnonzero((slots >= 0) & (slots < _FEATURES))
    there, to = np.concatenate([[0], 1 + kept]), np.concatenate([[0], 1 + slots[kept]])
    model = _Model.blank(1)
    model.widen(int(to.max()), next_power_of_two(int(columns.max(initial=0)) + 1) if classify else 1)
    model.weights[np.ix_(to, columns)] = found.weights[np.ix_(there, np.arange(outputs))]
    model.squares[np.ix_(to, columns)] = found.squares[np.ix_(there, np.arange(outputs))]
    model.counts[:] = found.counts[0], int(columns.max(initial=-1)) + 1 if classify else 0
    return model
