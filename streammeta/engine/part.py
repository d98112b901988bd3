"""A part of a batch: events and labels that are taken through a step together, as arrays over them."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from streammeta.engine.features import FeatureSpace, Filled
from streammeta.engine.labels import Waiting
from streammeta.engine.spill import TaskKey
from streammeta.event import Event, Label
from streammeta.meta.base import Ints

__all__ = ["Part"]

_Bools: TypeAlias = npt.NDArray[np.bool_]
_Doubles: TypeAlias = npt.NDArray[np.float64]
_Filling: TypeAlias = tuple[
    Ints, Ints, _Doubles, _Doubles, _Doubles, _Bools, _Bools, list[int], list[Event | Label], list[str]
]
_LISTS = ("places", "sources", "tasks")
_JUDGED = ("ages", "losses", "errors")
_ARRAYS = (
    *("rows", "partitions", "labels", "times", "exact", "values", "is_event", "is_labelled", "is_new_task"),
    *_JUDGED,
)


class Part:
    """Events and labels [N] in order, between which nothing that tasks share changes.

    Args:
        most: of them.
        features: slots that are known when the first comes.

    Attributes:
        size: how many there are.
        places: of each in the batch.
        sources: what came.
        tasks: tags.
        waits: by place here, the event whose label that is, or the event there while it has none.
        rows: of their tasks [N].
        partitions: [N]
        labels: class indices or targets [N]; NaN: there is none, or it is of a class not seen before.
        times: time stamps [N]; NaN is none.
        exact: raw features [N, D]; NaN is missing.
        values: of categories that share a slot [N, M], by a hash; −1: none.
        is_event: [N] False for a label that came late.
        is_labelled: [N] whether its label is there.
        is_new_task: [N]
        ages: its task's labels before [N]; −1: it was not judged.
        losses: of the label [N], in spreads of its task's target, where it was judged.
        errors: likewise.
        filling: what ``kernels.admit`` adds events to, but for ``size``; until the part is closed.
    """

    def __init__(self, most: int, features: int) -> None:
        self.places, self.sources, self.tasks = list[int](), list[Event | Label](), list[str]()
        self.size, self.waits = 0, dict[int, Waiting]()
        self.rows, self.partitions, self.ages = np.full((3, most), -1, np.int64)
        self.labels, self.times, self.losses, self.errors = np.full((4, most), np.nan)
        self.is_event, self.is_labelled, self.is_new_task = np.zeros((3, most), np.bool_)
        self.exact, self.values = np.full((most, features), np.nan), np.zeros((most, 0), np.int64)
        arrays = self.rows, self.partitions, self.labels, self.times, self.exact, self.is_event, self.is_labelled
        self.filling: _Filling = (*arrays, self.places, self.sources, self.tasks)
        self._filled = dict[int, Filled]()  # of those that are not in ``exact`` yet

    def add(self, at: int, source: Event | Label, key: TaskKey, row: int, label: float, filled: Filled) -> int:
        """One more; returns its place here."""
        i, self.size = self.size, self.size + 1
        self.places.append(at)
        self.sources.append(source)
        self.tasks.append(key[1])
        self.rows[i], self.partitions[i], self.labels[i] = row, key[0], label
        self.is_labelled[i], self.is_event[i] = source.y is not None, isinstance(source, Event)
        if isinstance(source, Event) and source.ts is not None:
            self.times[i] = source.ts
        self._filled[i] = filled
        return i

    def close(self, features: FeatureSpace) -> None:
        """No more will come."""
        N, D, known = self.size, self.exact.shape[1], len(features.pattern.slot_of)
        if len(self.rows) > N:
            for name in _ARRAYS:
                setattr(self, name, getattr(self, name)[:N])
        if known > D:
            narrow, self.exact = self.exact, np.full((N, known), np.nan)
            self.exact[:, :D] = narrow
        if self._filled:
            self.exact[[*self._filled]] = features.table([*self._filled.values()])
            self.values = features.shared_values(self.exact)  # none of those that were admitted together has any

    def select(self, which: Ints) -> "Part":
        """These of them [n], in ascending order; what is judged of those is not written here: see ``take_judged``."""
        part: Part = object.__new__(Part)
        for name in _LISTS:
            every = getattr(self, name)
            setattr(part, name, [every[i] for i in which.tolist()])
        for name in _ARRAYS:
            setattr(part, name, getattr(self, name)[which])
        part.size, place_of = len(which), {i: n for n, i in enumerate(which.tolist())}
        part.waits = {place_of[i]: one for i, one in self.waits.items() if i in place_of}
        return part

    def take_judged(self, which: Ints, part: "Part") -> None:
        """Write here what was judged of these [n], ``part`` being what ``select`` made of them."""
        for name in _JUDGED:
            getattr(self, name)[which] = getattr(part, name)

    def cut(self, begin: int, end: int) -> "Part":
        """Some of them; what is judged of those is written here, too."""
        if begin == 0 and end == self.size:
            return self
        part: Part = object.__new__(Part)
        for name in _LISTS + _ARRAYS:
            setattr(part, name, getattr(self, name)[begin:end])
        part.size = len(part.sources)
        part.waits = {i - begin: one for i, one in self.waits.items() if begin <= i < end}
        return part
