"""Underperforming tasks: their heads stay bad although they have seen enough, so θ itself must learn them.

What tasks usually err at an age is counted over all tasks. A task underperforms when, after a number of labels, its
running error lies above that by more than chance explains (three standard errors of a mean over its last labels). Half
of the segments of the next meta-updates are then of such tasks, and the updates come twice as often, so the encoder and
all else in θ takes gradient steps for them; the exact heads follow by themselves.

Source: Collins, Mokhtari & Shakkottai (2020), Task-robust model-agnostic meta-learning, arXiv:2002.04766 (meta-updates
that weigh the worst tasks); the uniform half keeps what all others need.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from streammeta.engine.part import Part
from streammeta.engine.sampling import Alive, TaskSampler
from streammeta.engine.scale import errors_in_spreads
from streammeta.engine.snapshot import saved_array
from streammeta.meta.base import Ints

__all__ = ["Escalation"]

_AGES = 24  # powers of two
_KEPT = 0.999  # of what is known of an age, per label of that age
_FEWEST = 50.0  # labels of that age, to compare with
_ERROR_EVENTS = 50  # what a task's running error looks back on
_CHANCE = 3.0  # standard errors
_SHARE = 0.5  # of the segments


class Escalation:
    """How tasks err at each age, who errs more, and draws in which those count half.

    Args:
        after: labels of a task before it can count as underperforming.
        others: draws the other half.

    Attributes:
        hurries: some task underperformed at the last draw.
    """

    def __init__(self, after: int, others: TaskSampler) -> None:
        self._after, self._others = after, others
        self._ages = np.zeros((_AGES, 3))  # labels, errors, squared errors, with forgetting
        self.hurries = False

    def observe_outcomes(self, part: Part) -> None:
        """See ``TaskSampler``."""
        is_judged = part.ages >= 0
        for age, error in zip(part.ages[is_judged].tolist(), part.errors[is_judged].tolist(), strict=True):
            self.observe_error(age, error)

    def draw(self, alive: Alive, count: int, random: np.random.Generator) -> Ints:
        """See ``TaskSampler``."""
        rows = self._others.draw(alive, count, random)
        if not rows.size:
            return rows
        columns, of_all = alive.columns, alive.recent.rows()
        errors = errors_in_spreads(columns, of_all, alive.frame)
        found = self.underperforming(columns.labelled, errors, of_all)
        found = found[columns.window_count[found] >= alive.shortest]
        self.hurries = found.size > 0
        return self.prefer(rows, found, random) if self.hurries else rows

    def observe_error(self, age: int, error: float) -> None:
        """A label of a task that had learned ``age`` before it was predicted with this error."""
        own = self._ages[_bucket(age)]
        own *= _KEPT
        own += 1.0, error, error * error

    def underperforming(self, labels: Ints, errors: npt.NDArray[np.float64], rows: Ints) -> Ints:
        """Those of these rows [N] whose tasks are, by the labels of all rows [T] and running errors [N]."""
        labelled = labels[rows]
        age = np.array([_bucket(n) for n in labelled.tolist()], np.int64)
        count, total, square = self._ages[age].T
        mean = total / np.maximum(count, 1.0)
        variance = np.maximum(square / np.maximum(count, 1.0) - mean * mean, 0.0)
        least = mean + _CHANCE * np.sqrt(variance / np.minimum(np.maximum(labelled, 1), _ERROR_EVENTS))
        worse = (labelled >= self._after) & (count >= _FEWEST) & (errors > least)
        found: Ints = rows[worse]
        return found

    def prefer(self, drawn: Ints, underperforming: Ints, random: np.random.Generator) -> Ints:
        """The rows drawn for a meta-update, half of them replaced by underperforming tasks."""
        rows: Ints = np.where(random.random(drawn.size) < _SHARE, random.choice(underperforming, drawn.size), drawn)
        return rows

    def dump(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays from which ``load`` makes the same."""
        return self._others.dump() | {"escalation.ages": self._ages}

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Become what ``dump`` described; nothing where it was off."""
        self._others.load(arrays)
        if "escalation.ages" in arrays:
            self._ages = saved_array(arrays, "escalation.ages", self._ages.shape, self._ages.dtype)


def _bucket(age: int) -> int:
    return min(age.bit_length(), _AGES - 1)
