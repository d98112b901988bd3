"""Labels: which classes there are, and the events that wait for a label that comes late."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from streammeta.errors import EventError
from streammeta.event import Label, LabelValue, Origin
from streammeta.features import Filled
from streammeta.meta.base import Floats, Kind
from streammeta.tasks import TaskKey

__all__ = ["LabelSpace", "Waiting", "WaitingRoom"]

_LARGEST = 3.0e38  # as float32 holds it


class LabelSpace:
    """Labels as numbers: a class's index in the order of first appearance, or a target as it is.

    >>> space = LabelSpace("classification", max_classes=8)
    >>> space.is_new("cat"), space.learn("cat"), space.is_new("cat")
    (True, 0, False)
    """

    def __init__(self, kind: Kind, max_classes: int) -> None:
        self.classify = kind == "classification"
        self._max_classes = max_classes
        self.classes: list[LabelValue] = []
        self._index: dict[LabelValue, int] = {}

    @property
    def outputs(self) -> int:
        """What a learner predicts for each event: a probability a class, or one mean."""
        return len(self.classes) if self.classify else 1

    def is_new(self, y: LabelValue | None) -> bool:
        """Whether this label would be a class not seen before."""
        return self.classify and y is not None and y not in self._index

    def check(self, y: LabelValue, at: Origin) -> None:
        """Raise EventError when this label cannot be learned."""
        if not self.classify:
            if isinstance(y, str) or not -_LARGEST < y < _LARGEST:
                raise EventError(f"{at}: `y` is {str(y)[:100]!r}, wanted a finite number: this is a regression")
        elif isinstance(y, float):
            raise EventError(
                f"{at}: `y` is {y}, wanted a class (whole number or string); for targets set app.kind = 'regression'"
            )
        elif y not in self._index and len(self.classes) >= self._max_classes:
            raise EventError(
                f"{at}: `y` is {str(y)[:100]!r}, class {self._max_classes + 1}; wanted at most {self._max_classes}: "
                "raise [memory] max_classes if they are real"
            )

    def learn(self, y: LabelValue) -> int:
        """The index of a class, which may be new."""
        found = self._index.get(y)
        if found is None:
            found = self._index[y] = len(self.classes)
            self.classes.append(y)
        return found

    def number(self, y: LabelValue) -> float:
        """What a learner learns: the index of a known class, or the target."""
        return float(self._index[y] if self.classify else y)

    def load(self, classes: Sequence[LabelValue]) -> None:
        """Know these classes, in this order."""
        self.classes = list(classes)
        self._index = {y: i for i, y in enumerate(classes)}


@dataclass(slots=True)
class Waiting:
    """An event whose label has not come yet, and what was predicted for it."""

    key: TaskKey
    slots: tuple[int, ...]  # the feature slots it fills
    values: Floats  # with these raw values
    mean: Floats | None = None  # class probabilities [C as of then], or mean [1]; None: not predicted yet
    variance: float = 0.0
    theta_version: int = 0

    @property
    def filled(self) -> Filled:
        """Feature slots and values, as ``FeatureSpace`` gives them."""
        return Filled(self.slots, self.values.tolist())

    def predict(self, mean: Sequence[float], variance: float, theta_version: int) -> None:
        """Keep what was predicted, to be judged by the label."""
        self.mean, self.variance, self.theta_version = np.array(mean, np.float32), variance, theta_version


class WaitingRoom:
    """Events by id until their label comes; when it is full, the oldest leave."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._events: OrderedDict[str, Waiting] = OrderedDict()
        self.expired = 0  # left without a label

    def __len__(self) -> int:
        return len(self._events)

    def enter(self, id_: str, waiting: Waiting) -> None:
        """Keep an event; an earlier one of the same id is replaced."""
        self._events.pop(id_, None)
        self._events[id_] = waiting
        if len(self._events) > self._size:
            self._events.popitem(last=False)
            self.expired += 1

    def leave(self, label: Label) -> Waiting:
        """The event this label is for, which waits no more; raises EventError when there is none."""
        found = self._events.pop(label.id, None)
        if found is None:
            raise EventError(
                f"{label.origin}: a label for id {label.id[:100]!r}, but no event of that id waits: "
                "it was never seen, had its label already, or waited too long ([memory] max_waiting)"
            )
        return found

    def dump(self) -> dict[str, Any]:
        """Plain values from which ``load`` makes the same room."""
        events = [
            [id_, *w.key, w.slots, w.values.tobytes(), _bytes(w.mean), w.variance, w.theta_version]
            for id_, w in self._events.items()
        ]
        return {"events": events, "expired": self.expired}

    def load(self, state: Mapping[str, Any]) -> None:
        """Become the room that ``dump`` described."""
        self._events.clear()
        for id_, partition, tag, slots, values, mean, variance, version in state["events"]:
            filled = tuple(slots), np.frombuffer(values, np.float32)
            predicted = None if mean is None else np.frombuffer(mean, np.float32)
            self._events[id_] = Waiting((partition, tag), *filled, predicted, variance, version)
        self.expired = state["expired"]


def _bytes(array: Floats | None) -> bytes | None:
    return None if array is None else array.tobytes()
