"""An expert for streams whose labels persist: what follows the task's last label, held against what features say.

Three models of how labels follow, counted over all tasks of a partition; n(·) are counts::

    how often          a(y) = (n(y) + 1/2) / (n + (C + 1)/2), C the classes that came so far
    what after what    b(y) = (n(last → y) + κ a(y)) / (n(last) + κ)
    how long           c(y) = stay(r) where y is the last label, else (1 − stay(r)) · b(y) / Σ b over the others

stay(r) is how likely a label stays that has come r times in a row, shrunk to how likely any label stays, κ labels
strong. They are mixed by the evidence of the whole partition, e ← 0.98 e + log of what each said of the label, at odds
of 20 to 1 for the first. So where labels come in any order, nothing is made of chance, and where they persist, it is
soon known of every task, also of one that begins. What the expert says is

    q(y) ∝ mixture(y) / a(y)

what the labels before add to how often each class comes, which the learner has seen itself: it counts once in the
product of the two. Where they add nothing, all classes are alike and the product is the learner's own prediction.

A label is counted after the one that was known when its event was predicted, however late it comes (``context``): what
is counted is what is predicted. A drift leaves all this as it is: what follows what is not what detectors watch.

The product with the learner's prediction is a step of a filter (a hidden semi-Markov chain whose states are the
labels). Sources: Rabiner (1989), section IV.D (durations); Willems, Shtarkov & Tjalkens (1995) (mixing models of
contexts by their evidence); Krichevsky & Trofimov (1981) (the half a label).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from streammeta.engine.columns import Column, next_power_of_two
from streammeta.engine.experts.base import Case, Cases, Columns, Doubles, alone
from streammeta.engine.partitioned import Arrays, Renumbering
from streammeta.errors import SnapshotError
from streammeta.meta.base import Ints
from streammeta.native import _kernels as kernels

__all__ = ["Persistence"]

_LONGEST_RUN = 64  # longer runs count as this long
_MOST_PLACES = 64  # classes whose moves are counted, those that come first in the partition
_MODELS = 3
_MOST_CLASSES = 2**16  # in a snapshot
# that a label stays, before any has come, and how many labels that is worth; κ; how the rate of staying and the
# evidence forget; counts at which half of them are forgotten; the surest that a label stays; log odds of a(y)
_RULE = np.array([0.8, 2.0, 2.0, 0.998, 0.98, 512.0, 0.999, 3.0])
_COUNTS, _CLASSES = "persistence.counts", "persistence.classes"


@dataclass(slots=True)
class _Known:
    """Of one partition; see persistence.cpp."""

    moves: Doubles = field(default_factory=lambda: np.zeros((3, 2)))  # [1 + M, M] from, to; the last row: of each
    runs: Doubles = field(default_factory=lambda: np.zeros((_LONGEST_RUN + 1, 2)))  # stayed, seen, by run length
    rate: Doubles = field(default_factory=lambda: np.zeros(2))  # stayed, seen; forgetting
    heat: Doubles = field(default_factory=lambda: np.zeros(_MODELS))  # evidence of the models
    classes: Ints = field(default_factory=lambda: np.full(2, -1))  # [M] in each place; -1: none
    places: Ints = field(default_factory=lambda: np.zeros(0, np.int64))  # of each class; -1: none

    def admit(self, label: int) -> None:
        """Give a class that comes first its place, if there is one."""
        used = int(np.count_nonzero(self.classes >= 0))
        if used == _MOST_PLACES:
            return
        if used == self.classes.size:
            self.classes = np.pad(self.classes, (0, used), constant_values=-1)
            wide = np.zeros((2 * used + 1, 2 * used))
            wide[:used, :used], wide[-1, :used] = self.moves[:used], self.moves[-1]
            self.moves = wide
        self.classes[used] = label
        self._index()

    def _index(self) -> None:
        self.places = np.full(int(self.classes.max()) + 1, -1)
        used = np.flatnonzero(self.classes >= 0)
        self.places[self.classes[used]] = used

    @property
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """As ``of`` reads them: all counts in one, so that a commit writes one record of them."""
        counts = [self.rate, self.heat, self.runs.ravel(), self.moves.ravel()]
        return {_COUNTS: np.concatenate(counts), _CLASSES: self.classes.copy()}

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]], classes: int, at: str) -> "_Known":
        """What these arrays say, of so many classes at most; raises SnapshotError where they cannot be."""
        problem = _misfit(arrays)
        if not problem:
            counts, places = arrays[_COUNTS].copy(), arrays[_CLASSES].copy()
            rate, heat, runs, moves = np.split(counts, np.cumsum([2, _MODELS, 2 * (_LONGEST_RUN + 1)]))
            found = cls(moves.reshape(-1, places.size), runs.reshape(-1, 2), rate, heat, places)
            problem = found._damage(classes)
        if problem:
            raise SnapshotError(f"{at}: counts of what label follows what with {problem}: they are damaged")
        if (found.classes >= 0).any():
            found._index()
        return found

    def _damage(self, classes: int) -> str:
        """What is wrong with the numbers."""
        counts = np.concatenate([self.moves.ravel(), self.runs.ravel()])
        if not (np.isfinite(counts).all() and (counts >= 0).all() and (counts == np.floor(counts)).all()):
            return "numbers that are not whole"
        rates = np.concatenate([self.runs, self.rate[None]])
        if not ((rates[:, 0] >= 0) & (rates[:, 0] <= rates[:, 1]) & np.isfinite(rates[:, 1])).all():
            return "rates that are no rates"
        used = int(np.count_nonzero(self.classes >= 0))
        named = self.classes[:used]
        is_wrong = (self.classes < -1).any() or (named < 0).any() or len(set(named.tolist())) < used
        if is_wrong or (named >= classes).any():
            return "classes that are not there"
        return "" if np.isfinite(self.heat).all() else "evidence that is no number"


class Persistence:
    """What is known of how a partition's labels follow; a task's last label lies in its row."""

    name = "persistence"
    doubt = 0.0  # it counts, and so says 0 of nothing
    is_saved = True

    def __init__(self) -> None:
        self._parts: dict[int, _Known] = {}

    def layout(self, width: int, outputs: int) -> Mapping[str, Column]:  # noqa: ARG002
        """The last label, and how often it has come in a row."""
        return {"last.label": Column((), np.int64, -1), "last.run": Column((), np.int64)}

    def predict(self, columns: Columns, case: Case, outputs: int) -> Doubles | None:
        """Probabilities [C] for the label after the task's last ones; None before the first."""
        cases = alone(case, math.nan, is_asked=True)
        said: Doubles = self.run(columns, cases, outputs)[0]
        if case.context is not None:
            case.context[:] = cases.context[0]
        return said if said.any() else None

    def learn(self, columns: Columns, case: Case, y: float) -> None:
        """Learn a task's label, after what ``case.context`` says was known when its event was predicted."""
        cases = alone(case, y, is_asked=False)
        if case.context is None:  # the label comes at once
            cases.context[0] = columns["last.label"][case.row], columns["last.run"][case.row]
        self.run(columns, cases, 1)

    def run(self, columns: Columns, cases: Cases, outputs: int) -> Doubles:
        """Predict each event and learn its label; see ``OfRuns``."""
        said, known = np.zeros((len(cases.tasks), outputs)), self._known(int(cases.partitions[0]), cases.labels)
        state = known.moves, known.runs, known.rate, known.heat, known.places, _RULE
        of_tasks = columns["last.label"], columns["last.run"]
        rows, labels, asked, event, context = cases.rows, cases.labels, cases.asked, cases.event, cases.context
        kernels.follow_labels(*state, *of_tasks, rows, labels, asked, event, context, said)
        return said

    @property
    def partitions(self) -> list[int]:
        """Of which it has counts."""
        return sorted(self._parts)

    def partition(self, number: int) -> dict[str, npt.NDArray[Any]]:
        """What is known of a partition, as arrays from which ``take_partition`` makes the same."""
        known = self._parts.get(number)
        return {} if known is None else known.arrays

    def take_partition(self, number: int, arrays: Arrays, here: Renumbering, at: str) -> None:
        """Go on with these counts; raises SnapshotError where they are damaged."""
        mine = {name: array for name, array in arrays.items() if name.startswith("persistence.")}
        if not mine:
            return
        known = _Known.of(mine, len(here.classes), at)
        used = known.classes >= 0
        known.classes[used] = here.classes[known.classes[used]]
        self._parts[number] = _Known.of(known.arrays, _MOST_CLASSES, at)

    def forget_task(self, partition: int, task: str) -> None:  # noqa: ARG002
        """Begin the partition's counts again: they have no task in them by name, and are soon as good."""
        self._parts.pop(partition, None)

    def forget_partition(self, number: int) -> None:
        """Its counts go with it."""
        self._parts.pop(number, None)

    def _known(self, partition: int, labels: Doubles) -> _Known:
        """What is known of a partition, with places for the classes of these labels [N]."""
        known = self._parts.get(partition)
        come = labels[~np.isnan(labels)].astype(np.int64)
        if known is None:
            known = _Known()
            if come.size:
                self._parts[partition] = known
        if come.size and (come.max() >= known.places.size or (known.places[come] < 0).any()):
            for label in dict.fromkeys(come.tolist()):
                if label >= known.places.size or known.places[label] < 0:
                    known.admit(label)
        return known


def _misfit(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """What is wrong with names, types and sizes of a partition's arrays from elsewhere."""
    if set(arrays) != {_COUNTS, _CLASSES}:
        return f"arrays {', '.join(sorted(arrays))}"
    counts, classes = arrays[_COUNTS], arrays[_CLASSES]
    size = classes.size
    if size not in range(2, _MOST_PLACES + 1) or size != next_power_of_two(size):
        return f"places for {size} classes"
    wanted = 2 + _MODELS + 2 * (_LONGEST_RUN + 1) + size * (size + 1)
    fits = counts.shape == (wanted,) and classes.ndim == 1
    return "" if fits and counts.dtype == np.float64 and classes.dtype == np.int64 else "arrays of other sizes or types"
