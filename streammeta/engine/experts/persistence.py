"""An expert for streams whose labels persist: "the same label as last time", held against what the features say.

How likely a label is to stay depends on how long it has stayed already (run length r), and where it goes when it leaves
on where it was; both are counted over all tasks::

    q(y) = stay(r) where y is the last label, else (1 − stay(r)) · moves(last, y) / Σ moves

Its product with the learner's prediction is a step of a filter (a hidden semi-Markov chain whose states are the
labels). Off by default: it is of no use where labels come in random order, and it learns nothing from features.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from streammeta.engine.columns import Column
from streammeta.engine.experts.base import Case, Columns, Doubles
from streammeta.engine.snapshot import saved_array

__all__ = ["Persistence"]

_LONGEST_RUN = 64  # longer runs count as this long
_PRIOR_COUNT = 2.0  # what the overall rate of staying is worth against the counts of a run length
_SURE = 0.999
_RATE_DECAY = 0.998


class Persistence:
    """What is known of how labels persist, over all tasks; what is known of one task lies in its row."""

    name = "persistence"
    doubt = 0.0  # it counts, and so says 0 of nothing
    is_saved = True

    def __init__(self) -> None:
        self._rate = np.array([1.0, 2.0])  # stayed, seen; forgetting
        self._runs = np.zeros((_LONGEST_RUN + 1, 2))  # stayed, seen, by run length
        self._moves = np.zeros((0, 0))  # from, to
        self._kept: list[tuple[int, int, int]] = []  # learned, not yet counted

    def layout(self, width: int, outputs: int) -> Mapping[str, Column]:  # noqa: ARG002
        """The last label, and how often it has come in a row."""
        return {"last.label": Column((), np.int64, -1), "last.run": Column((), np.int64)}

    def predict(self, columns: Columns, case: Case, outputs: int) -> Doubles | None:
        """Probabilities [C] for the label after the task's last ones; None before the first."""
        last, run = int(columns["last.label"][case.row]), int(columns["last.run"][case.row])
        if last < 0 or outputs < 2:
            return None
        stayed, seen = self._runs[run]
        overall = self._rate[0] / self._rate[1]
        stay = min((stayed + _PRIOR_COUNT * overall) / (seen + _PRIOR_COUNT), _SURE)
        q = np.ones(outputs)
        if last < len(self._moves):
            moves = self._moves[last, :outputs]
            q[: len(moves)] += moves
        q[last] = 0.0
        q *= (1.0 - stay) / q.sum()
        q[last] = stay
        return q

    def learn(self, columns: Columns, case: Case, y: float) -> None:
        """Learn a task's label; what it says of all tasks counts from the next ``publish_shared`` on."""
        row, label = case.row, int(y)
        last, run = int(columns["last.label"][row]), int(columns["last.run"][row])
        columns["last.label"][row] = label
        columns["last.run"][row] = min(run + 1, _LONGEST_RUN) if label == last else 1
        if last >= 0:
            self._kept.append((last, run, label))

    def publish_shared(self) -> None:
        """Count what was put by."""
        for last, run, label in self._kept:
            stayed = float(label == last)
            self._rate = _RATE_DECAY * self._rate + (stayed, 1.0)
            self._runs[run] += stayed, 1.0
            if not stayed:
                self._widen(max(last, label) + 1)
                self._moves[last, label] += 1
        self._kept = []

    def dump(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays from which ``load`` makes the same."""
        kept = np.array(self._kept, np.int64).reshape(len(self._kept), 3)
        arrays = {"rate": self._rate, "runs": self._runs, "moves": self._moves, "kept": kept}
        return {f"persistence.{name}": array for name, array in arrays.items()}

    def load(self, arrays: Columns) -> None:
        """Become what ``dump`` described."""
        rate = saved_array(arrays, "persistence.rate", self._rate.shape, self._rate.dtype)
        runs = saved_array(arrays, "persistence.runs", self._runs.shape, self._runs.dtype)
        moves = saved_array(arrays, "persistence.moves", (None, None), self._moves.dtype)
        kept = saved_array(arrays, "persistence.kept", (None, 3), np.int64)
        self._rate, self._runs, self._moves = rate, runs, moves
        self._kept = [(last, run, label) for last, run, label in kept.tolist()]

    def _widen(self, classes: int) -> None:
        missing = classes - len(self._moves)
        if missing > 0:
            self._moves = np.pad(self._moves, (0, missing))
