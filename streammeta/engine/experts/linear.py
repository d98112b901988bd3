"""An expert for what all tasks have in common: a linear mixed model of all a partition's events, compiled.

::

    s = W z + Σ_k λ_k b_k       z = (1, x in spreads of all tasks, cut off at six; 0 where it is missing)
    g = softmax(s) − e_y        of targets s − y, of which no more than eight spreads count
    G ← G + (g z^T)², from 1    W ← W − min(1/2, 1 / Σ_d z_d² / √G_d) g z^T / √G

So no event moves a score by more than its own error, a step needs no rate for each feature, and what is rare learns as
fast as what is common. When the scale of all tasks moves, weights and G move with it, so that the model says what it
said; where the target's has moved by more than eight spreads, it begins again.

Groups have intercepts b: kind 0 is the event's task, if it is tagged; kind 1 are values of categories that share a slot
(`streammeta.engine.features`), whose intercepts add up. A step of one is Newton's, with the gradient ĝ and curvature h
at the prediction p̂ that its kind would make in full, λ_k = 1 (n: groups of this kind that the event is in)::

    H ← 0.99 H + h              h = p̂ (1 − p̂), of targets 1         b ← b − ĝ / (H + 1/2) / n
    A ← A + b^T ∇²_s loss b, from 1                                 λ_k ← λ_k − b·g / A, from 0, within 0 … 1

So a kind of group that explains nothing has no part in the prediction, and one that does has it after some labels.

But for the intercepts it forgets nothing: who adapts is the learner. It says something from the tenth label on, of
tasks that have none, too; thousands of tasks of a few events each, and categories of many values, are where it is right
and where heads, trees and neighbours know nothing yet. The first 512 features have weights; the first 64 classes have
intercepts of tasks, the first 32 those of values.

Sources: McMahan & Streeter (2010), Duchi, Hazan & Singer (2011), steps by the squares of gradients; Ross, Mineiro &
Langford (2013), Normalized online learning; Karampatziakis & Langford (2011), a step that does not pass its label;
Henderson (1975), Best linear unbiased estimation and prediction (intercepts that are shrunk); Breslow & Clayton (1993),
of classes; Weinberger et al. (2009), Feature hashing (values). The 1/2 of H was chosen among 0.1, 0.25, 1/2 and 1 on
streams of `benchmarks.small_tasks`; no other constant was searched.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from streammeta.engine.columns import Column, next_power_of_two
from streammeta.engine.experts.base import ByRuns, Cases, Columns, Doubles
from streammeta.engine.experts.intercepts import (
    INTERCEPTS,
    TASK_CLASSES,
    VALUE_CLASSES,
    are_values,
    blank_values,
    renumber_intercepts,
)
from streammeta.engine.partitioned import Arrays, Renumbering
from streammeta.engine.scale import SharedScale
from streammeta.errors import SnapshotError
from streammeta.meta.base import Floats, Kind
from streammeta.native import _kernels as kernels

__all__ = ["Linear"]

_FEATURES = 512  # with weights, at most
_MOST_AWAY, _MOST_GAP = 6.0, 8.0  # spreads: as linear.cpp
_MOST = 1e100  # of a weight, or of a sum of squares
_MODEL, _OF_VALUES = "linear.model", "linear.values"
_LABELS, _CLASSES = (0, 0), (0, 1)  # places in a model's state: as linear.cpp has them
_KINDS = 6  # of the first row's numbers that are used: the last four are shares and curvatures of kinds of groups
_SHIFT, _GAIN, _WEIGHTS = range(3)


class _Model(NamedTuple):
    """A partition's."""

    state: Doubles  # [2 + D, 2 + 2C]; see linear.cpp
    values: Floats  # [V, 2, C'] the intercepts of categories' values, and their curvatures; V = 0: there are none yet
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
        kinds = min(_KINDS, self.state.shape[1])  # of targets, the version before had four numbers
        wide.state[0, :kinds] = self.state[0, :kinds]
        wide.of_outputs[: 1 + rows, :, : self.capacity] = self.of_outputs
        return wide._replace(values=self._wide_values(wide.capacity) if self.values.size else self.values)

    def with_values(self) -> "_Model":
        """It with capacity for values of categories."""
        return self._replace(values=self._wide_values(self.capacity))

    def _wide_values(self, outputs: int) -> Floats:
        wide = blank_values(min(outputs, VALUE_CLASSES))
        wide[: len(self.values), :, : self.values.shape[2]] = self.values
        return wide

    def scaled(self, scale: SharedScale, *, classify: bool) -> "_Model":
        """It in this scale: it says the same of an event, but where features are cut off."""
        state, D = self.state, min(len(self.state) - 2, scale.shift.size)
        shift, gain = state[1:, _SHIFT].copy(), state[1:, _GAIN].copy()
        now = _Model(state.copy(), self.values, scale)
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
    state = np.zeros((2 + features, _WEIGHTS + 2 * max(outputs, 2)))
    state[1:, _GAIN] = 1
    return _Model(state, blank_values(0), scale)


class Linear(ByRuns):
    """One model a partition.

    Args:
        kind: of the stream.
        scale: the scale of all tasks in force.
    """

    name = "linear"
    doubt = 0.05
    is_saved = True

    def __init__(self, kind: Kind, scale: Callable[[], SharedScale]) -> None:
        self.classify, self._scale = kind == "classification", scale
        self._of: dict[int, _Model] = {}  # of partitions

    def layout(self, width: int, outputs: int) -> Mapping[str, Column]:  # noqa: ARG002
        """A task's intercept of each of the first outputs, in units of the target of all tasks, and its curvature."""
        return {INTERCEPTS: Column((2, min(outputs, TASK_CLASSES)), np.float32)}

    def run(self, columns: Columns, cases: Cases, outputs: int) -> Doubles:
        """Predict each event and learn its label; see ``OfRuns``."""
        said = np.full((len(cases.tasks), outputs), 0.0 if self.classify else math.nan)
        labels = cases.labels if self.classify else (cases.labels - cases.shift) / cases.spread
        partition, begin = int(cases.partitions[0]), 0
        teaches, known, scale = not np.isnan(labels).all(), self._of.get(partition), self._scale()
        if (known is None and not teaches) or not (self.classify or scale.y_known[0]):
            return said  # nothing is learned of a target before there is a unit for it
        model = known or _blank(0, 1, None)
        if teaches and len(model.state) - 2 < min(cases.common.shape[1], _FEATURES):
            model = model.wide(cases.common.shape[1], 1)
        if teaches and cases.values.shape[1] and not model.values.size:
            model = model.with_values()
        if model.scale is not scale:
            model = model.scaled(scale, classify=self.classify)
        rows, intercepts = cases.rows, columns[INTERCEPTS]
        if "" in cases.tasks:
            rows = np.where([bool(task) for task in cases.tasks], rows, -1)
        while begin < len(labels):
            events = rows[begin:], cases.values[begin:], cases.common[begin:], labels[begin:], cases.asked[begin:]
            begin += kernels.linear_run(model.state, intercepts, model.values, *events, self.classify, said[begin:])
            if begin < len(labels):
                model = model.wide(0, next_power_of_two(int(labels[begin]) + 1))
        if teaches:
            self._of[partition] = model
        return said if self.classify else cases.shift[:, None] + cases.spread[:, None] * said

    @property
    def partitions(self) -> list[int]:
        """Of which it has a model."""
        return sorted(self._of)

    def partition(self, number: int) -> dict[str, npt.NDArray[Any]]:
        """A partition's model."""
        found = self._of.get(number)
        if found is None:
            return {}
        return {_MODEL: found.state.copy()} | ({_OF_VALUES: found.values.copy()} if found.values.size else {})

    def take_partition(self, number: int, arrays: Arrays, here: Renumbering, at: str) -> None:
        """Go on with this model; raises SnapshotError where it is damaged.

        Where features or classes have other numbers here, weights go to their places; those of a feature for which
        there is no capacity are left out.
        """
        self.forget_partition(number)
        if _MODEL in arrays:
            found = _checked(arrays, len(here.classes) if self.classify else 1, at)
            self._of[number] = found if here.same else _renumbered(found, here, classify=self.classify, at=at)

    def forget_task(self, partition: int, task: str) -> None:  # noqa: ARG002
        """Begin again: a model cannot unlearn."""
        self.forget_partition(partition)

    def forget_partition(self, number: int) -> None:
        """Its model goes with it."""
        self._of.pop(number, None)


def _checked(arrays: Arrays, classes: int, at: str) -> _Model:
    """The model that has these arrays; raises SnapshotError where they are damaged.

    Args:
        arrays: as of ``Linear.partition``; of others, too.
        classes: there are no more than this.
        at: where it comes from.
    """
    state, values = arrays.get(_MODEL, blank_values(0)), arrays.get(_OF_VALUES, blank_values(0))
    fits = (
        state.dtype == np.float64 and state.ndim == 2 and state.shape[0] >= 2 and state.shape[1] in range(4, 2**17, 2)
    )
    if fits and np.isfinite(state).all():
        found = _Model(state.copy(), blank_values(0), None).wide(0, 2)
        labels, known, most = state[_LABELS], state[_CLASSES], min(found.capacity, classes)
        shares, curvatures = found.state[0, 2:_KINDS].reshape(2, 2).T
        if (
            labels >= 0
            and known in range(most + 1)
            and (state[1:, _GAIN] > 0).all()
            and (found.of_outputs[:, 1] >= 0).all()
            and ((shares >= 0) & (shares <= 1) & (curvatures >= 0)).all()
            and are_values(values, min(found.capacity, VALUE_CLASSES))
        ):
            return found._replace(values=values.copy())
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
    model.state[0, :_KINDS] = found.state[0, :_KINDS]
    model.state[_CLASSES] = int(classes.max(initial=-1)) + 1 if classify else 0
    if found.values.size:
        model = model.with_values()
        renumber_intercepts(model.values, found.values, classes)
    return model
