"""An expert for streams whose labels persist: "the same label as last time", held against what the features say.

How likely a label is to stay depends on how long it has stayed already (run length r), and where it goes when it leaves
on where it was; both are counted over all tasks::

    q(y) = stay(r) where y is the last label, else (1 − stay(r)) · moves(last, y) / Σ moves
    blend = w₁ p + w₂ q + w₃ p·q / Σ p·q        w ∝ exp(recent log-likelihood of each in the task)

p is the learner's own prediction; the product is a step of a filter (a hidden semi-Markov chain whose states are the
labels). Off by default: it is of no use where labels come in random order, and it learns nothing from
features.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from streammeta.tasks import Column

__all__ = ["PERSISTENCE_COLUMNS", "Persistence"]

PERSISTENCE_COLUMNS = {
    "last.label": Column((), np.int64, -1),
    "last.run": Column((), np.int64),
    "last.evidence": Column((3,), np.float64),
}
_LONGEST_RUN = 64  # longer runs count as this long
_PRIOR_COUNT = 2.0  # what the overall rate of staying is worth against the counts of a run length
_SURE = 0.999
_RATE_DECAY, _EVIDENCE_DECAY = 0.998, 0.95
_LEAST = 1e-6
_Doubles = npt.NDArray[np.float64]


class Persistence:
    """What is known of how labels persist, over all tasks; what is known of one task lies in its row."""

    def __init__(self) -> None:
        self._rate = np.array([1.0, 2.0])  # stayed, seen; forgetting
        self._runs = np.zeros((_LONGEST_RUN + 1, 2))  # stayed, seen, by run length
        self._moves = np.zeros((0, 0))  # from, to
        self._kept: list[tuple[int, int, int]] = []  # learned, not yet counted

    def blend(
        self, columns: Mapping[str, npt.NDArray[Any]], row: int, mean: Sequence[float]
    ) -> tuple[list[float], _Doubles]:
        """Mix the learner's class probabilities ``mean`` [C] with the expert's.

        Returns:
            The mixture, and what was mixed [3, C]: the learner, the expert, their product.
        """
        evidence = columns["last.evidence"][row]
        weights = np.exp(evidence - evidence.max())
        p = np.array(mean)
        q = self._expect(int(columns["last.label"][row]), int(columns["last.run"][row]), len(p))
        product = p * q + 1e-12
        parts = np.stack([p, q, product / product.sum()])
        mixed: list[float] = (weights @ parts / weights.sum()).tolist()
        return mixed, parts

    def learn(self, columns: Mapping[str, npt.NDArray[Any]], row: int, parts: _Doubles, label: int) -> None:
        """Learn a task's label; what it says of all tasks counts from the next ``settle`` on."""
        last, run = int(columns["last.label"][row]), int(columns["last.run"][row])
        likelihood = parts[:, label] if label < parts.shape[1] else np.zeros(3)
        columns["last.evidence"][row] *= _EVIDENCE_DECAY
        columns["last.evidence"][row] += np.log(np.maximum(likelihood, _LEAST))
        columns["last.label"][row] = label
        columns["last.run"][row] = min(run + 1, _LONGEST_RUN) if label == last else 1
        if last >= 0:
            self._kept.append((last, run, label))

    def settle(self) -> None:
        """Count what was put by. The engine calls it where things shared by all tasks may change."""
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

    def load(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Become what ``dump`` described."""
        self._rate, self._runs = arrays["persistence.rate"].copy(), arrays["persistence.runs"].copy()
        self._moves = arrays["persistence.moves"].copy()
        self._kept = [(last, run, label) for last, run, label in arrays["persistence.kept"].tolist()]

    def _expect(self, last: int, run: int, classes: int) -> _Doubles:
        """The expert's probabilities [C] for the label after a run of ``last``."""
        if last < 0 or classes < 2:
            return np.full(classes, 1.0 / max(classes, 1))
        stayed, seen = self._runs[run]
        overall = self._rate[0] / self._rate[1]
        stay = min((stayed + _PRIOR_COUNT * overall) / (seen + _PRIOR_COUNT), _SURE)
        q = np.ones(classes)
        if last < len(self._moves):
            moves = self._moves[last, :classes]
            q[: len(moves)] += moves
        q[last] = 0.0
        q *= (1.0 - stay) / q.sum()
        q[last] = stay
        return q

    def _widen(self, classes: int) -> None:
        missing = classes - len(self._moves)
        if missing > 0:
            self._moves = np.pad(self._moves, (0, missing))
