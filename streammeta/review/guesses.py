"""What one would say without learning: the commonest class, or the mean, and the task's last label.

A learner that is not better than these has learned nothing; where labels come in runs, the last label is hard to beat.
"""

from array import array
from collections import Counter
from math import nan
from typing import NamedTuple

from streammeta.engine import Kind
from streammeta.event import LabelValue

__all__ = ["Guess", "Guesses"]


class Guess(NamedTuple):
    """For one event, from the labels before it; None where there was none."""

    common: LabelValue | None
    last: LabelValue | None


class Guesses:
    """Both guesses, judged on the same labels as the learners.

    Args:
        kind: "classification" or "regression".
    """

    def __init__(self, kind: Kind) -> None:
        self._classify = kind == "classification"
        self._counts: Counter[LabelValue] = Counter()
        self._common: LabelValue | None = None
        self._mean, self._labels = 0.0, 0
        self._last: dict[str, LabelValue] = {}
        name = "majority class" if self._classify else "mean so far"
        self.errors = {name: array("f"), "last label of the task": array("f")}  # of each label, in their order

    def now(self, task: str) -> Guess:
        """What one would say of an event of this task now."""
        common = self._common if self._classify else self._mean if self._labels else None
        return Guess(common, self._last.get(task))

    def judge(self, task: str, y: LabelValue, guess: Guess) -> None:
        """Score what was guessed when the event came, then take the label into account."""
        for errors, guessed in zip(self.errors.values(), guess, strict=True):
            errors.append(self._error(guessed, y))
        self._last[task] = y
        self._labels += 1
        if self._classify:
            self._counts[y] += 1
            if self._common is None or self._counts[y] > self._counts[self._common]:
                self._common = y
        else:
            self._mean += (float(y) - self._mean) / self._labels

    def _error(self, guessed: LabelValue | None, y: LabelValue) -> float:
        if self._classify:
            return float(guessed != y)
        return nan if guessed is None else abs(float(guessed) - float(y))
