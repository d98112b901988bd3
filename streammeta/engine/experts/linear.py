"""An expert for what all tasks have in common: a linear model of all a partition's events, compiled.

::

    s = W z                     z = (1, x in spreads of all tasks, cut off at six; 0 where it is missing)
    g = softmax(s) − e_y z^T    of targets (s − y) z^T, of which no more than eight spreads count
    G ← G + g², from 1          W ← W − min(1/2, 1 / Σ_d z_d² / √G_d) g / √G

When the scale of all tasks moves, weights and G move with it, so that the model says what it said; where the target's
has moved by more than eight spreads, it begins again.

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
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from streammeta.engine.columns import Column, next_power_of_two
from streammeta.engine.experts.base import Arrays, Case, Cases, Columns, Doubles, Renumbering, alone, ask_alone
from streammeta.engine.partitioned import of_partitions, together
from streammeta.engine.scale import SharedScale
from streammeta.errors import SnapshotError
from streammeta.meta.base import Kind
from streammeta.native import _kernels as kernels

__all__ = ["Linear"]

_FEATURES = 512  # with weights, at most
_MOST_AWAY, _MOST_GAP = 6.0, 8.0  # spreads: as linear.cpp
_MOST = 1e100  # of a weight, or of a sum of squares
_MODEL = "linear.model"
_LABELS, _CLASSES = (0, 0), (0, 1)  # places in a model's state: as linear.cpp has them
_SHIFT, _GAIN, _WEIGHTS = range(3)


class _Model(NamedTuple):
    """A partition's."""

    state: Doubles  # [2 + D, 2 + 2C]; see linear.cpp
    scale: SharedScale | None  # that it is in; None: it is not known, one of the same numbers or another

    @property
    def capacity(self) -> int:
        """C, outputs that may have weights."""
        return int(self.state.shape[1] - _WEIGHTS) // 2

    @property
    def of_outputs(self) -> Doubles:
        """Weights and squares [1 + D, 2, C]: a view."""
        return self.state[1:, _WEIGHTS:].reshape(len(self.state) - 1, 2, self.capacity)

    def wide(self, features: int, outputs: int) -> "_Model":
        """It with capacity for so many features, of which those beyond the first 512 have none, and outputs."""
        rows, features = len(self.state) - 2, max(len(self.state) - 2, min(features, _FEATURES))
        outputs = max(outputs, self.capacity)
        wide = _blank(features, outputs, self.scale if features == rows else None)
        wide.state[: 2 + rows, :_WEIGHTS] = self.state[:, :_WEIGHTS]
        wide.of_outputs[: 1 + rows, :, : self.capacity] = self.of_outputs
        return wide

    def scaled(self, scale: SharedScale, *, classify: bool) -> "_Model":
        """It in this scale: it says the same of an event, but where features are cut off."""
        state, D = self.state, min(len(self.state) - 2, scale.shift.size)
        shift, gain = state[1:, _SHIFT].copy(), state[1:, _GAIN].copy()
        now = _Model(state.copy(), scale)
        now.state[2 : 2 + D, _SHIFT], now.state[2 : 2 + D, _GAIN] = scale.shift[:D], scale.gain[:D]
        if not classify:
            now.state[1, _SHIFT], now.state[1, _GAIN] = scale.y_shift[0], scale.y_gain[0]
        moved, ratio = (now.state[1:, _SHIFT] - shift) * gain, gain / now.state[1:, _GAIN]
        weights, squares = now.of_outputs[:, 0], now.of_outputs[:, 1]
        if state[_LABELS] == 0 or abs(moved[0]) > _MOST_GAP:
            now.state[_LABELS] = now.of_outputs[...] = 0
            return now
        for change, row in zip(np.clip(moved[1:], -_MOST_AWAY, _MOST_AWAY), weights[1:], strict=True):
            weights[0] += change * row  # one after the other, for one set of bits
        weights[1:][np.abs(moved[1:]) > _MOST_AWAY] = 0  # where it was cut off it had no slope
        ratio[1:] = np.minimum(ratio[1:], _MOST_AWAY)
        weights[0] -= moved[0]
        weights[1:] *= ratio[1:, None]
        weights /= ratio[0]
        squares /= np.square(ratio[0])
        squares[1:] /= np.square(ratio[1:, None])
        np.clip(now.of_outputs, -_MOST, _MOST, out=now.of_outputs)
        return now


def _blank(features: int, outputs: int, scale: SharedScale | None) -> _Model:
    state = np.zeros((2 + features, _WEIGHTS + 2 * outputs))
    state[1:, _GAIN] = 1
    return _Model(state, scale)


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
        return ask_alone(self, columns, case, outputs, classify=self._classify)

    def learn(self, columns: Columns, case: Case, y: float) -> None:
        """Learn a class index or a target."""
        self.run(columns, alone(case, y, is_asked=False), 1)

    def run(self, columns: Columns, cases: Cases, outputs: int) -> Doubles:  # noqa: ARG002
        """Predict each event and learn its label; see ``OfRuns``."""
        said = np.full((len(cases.tasks), outputs), 0.0 if self._classify else math.nan)
        labels = cases.labels if self._classify else (cases.labels - cases.shift) / cases.spread
        partition, begin = int(cases.partitions[0]), 0
        teaches, known, scale = not np.isnan(labels).all(), self._of.get(partition), self._scale()
        if (known is None and not teaches) or not (self._classify or scale.y_known[0]):
            return said  # nothing is learned of a target before there is a unit for it
        model = known or _blank(0, 1, None)
        if teaches and len(model.state) - 2 < min(cases.common.shape[1], _FEATURES):
            model = model.wide(cases.common.shape[1], 1)
        if model.scale is not scale:
            model = model.scaled(scale, classify=self._classify)
        while begin < len(labels):
            events = cases.common[begin:], labels[begin:], cases.asked[begin:]
            begin += kernels.linear_run(model.state, *events, self._classify, said[begin:])
            if begin < len(labels):
                model = model.wide(0, next_power_of_two(int(labels[begin]) + 1))
        if teaches:
            self._of[partition] = model
        return said if self._classify else cases.shift[:, None] + cases.spread[:, None] * said

    def publish_shared(self) -> None:
        """The scale is asked for when it is needed."""

    def dump(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays from which ``load`` makes the same."""
        return together({number: self.partition(number) for number in self.partitions})

    def load(self, arrays: Arrays) -> None:
        """Become what ``dump`` described."""
        found = of_partitions(arrays, _MODEL)
        self._of = {number: _checked(part[_MODEL], 0, "a snapshot") for number, part in found.items()}

    @property
    def partitions(self) -> list[int]:
        """Of which it has a model."""
        return sorted(self._of)

    def partition(self, number: int) -> dict[str, npt.NDArray[Any]]:
        """A partition's model."""
        found = self._of.get(number)
        if found is None:
            return {}
        return {_MODEL: found.state.copy()}

    def take_partition(self, number: int, arrays: Arrays, here: Renumbering, at: str) -> None:
        """Go on with this model; raises SnapshotError where it is damaged.

        Where features or classes have other numbers here, weights go to their places; those of a feature for which
        there is no capacity are left out.
        """
        self.forget_partition(number)
        if _MODEL in arrays:
            found = _checked(arrays[_MODEL], len(here.classes) if self._classify else 1, at)
            self._of[number] = found if here.same else _renumbered(found, here, classify=self._classify, at=at)

    def forget_task(self, partition: int, task: str) -> None:  # noqa: ARG002
        """Begin again: a model cannot unlearn."""
        self.forget_partition(partition)

    def forget_partition(self, number: int) -> None:
        """Its model goes with it."""
        self._of.pop(number, None)


def _checked(state: npt.NDArray[Any], classes: int, at: str) -> _Model:
    """The model that has this state; raises SnapshotError where it is damaged.

    Args:
        state: as of ``Linear.partition``.
        classes: there are no more than this; 0: it is not known.
        at: where it comes from.
    """
    fits = (
        state.dtype == np.float64 and state.ndim == 2 and state.shape[0] >= 2 and state.shape[1] in range(4, 2**17, 2)
    )
    if fits and np.isfinite(state).all():
        found, labels, known = _Model(state.copy(), None), state[_LABELS], state[_CLASSES]
        most = min(found.capacity, classes or found.capacity)
        if (
            labels >= 0
            and known in range(most + 1)
            and (state[1:, _GAIN] > 0).all()
            and (found.of_outputs[:, 1] >= 0).all()
        ):
            return found
    raise SnapshotError(f"{at}: a linear model that no labels make: it is damaged")


def _renumbered(found: _Model, here: Renumbering, *, classify: bool, at: str) -> _Model:
    """A model that was made where features and classes had other numbers."""
    features, outputs = len(found.state) - 2, int(found.state[_CLASSES]) if classify else 1
    if features > len(here.slots):
        raise SnapshotError(f"{at}: a linear model of {features} features, where its schema has {len(here.slots)}")
    slots, classes = here.slots[:features], here.classes[:outputs] if classify else np.zeros(1, np.int64)
    kept = np.flatnonzero((slots >= 0) & (slots < _FEATURES))
    there, to = np.concatenate([[0], 1 + kept]), np.concatenate([[0], 1 + slots[kept]])
    model = _blank(int(to.max()), next_power_of_two(int(classes.max(initial=0)) + 1) if classify else 1, None)
    model.state[1 + to, :_WEIGHTS] = found.state[1 + there, :_WEIGHTS]
    for part in range(2):
        model.of_outputs[:, part][np.ix_(to, classes)] = found.of_outputs[:, part][np.ix_(there, np.arange(outputs))]
    model.state[_LABELS] = found.state[_LABELS]
    model.state[_CLASSES] = int(classes.max(initial=-1)) + 1 if classify else 0
    return model
