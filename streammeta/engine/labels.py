"""Labels: which classes there are, and the events that wait for a label that comes late."""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from streammeta.bounds import EXACT, LARGEST
from streammeta.engine.features import Filled
from streammeta.engine.interval import Issued
from streammeta.engine.spill import TaskKey
from streammeta.errors import EventError
from streammeta.event import Label, LabelValue, Origin, shown_number
from streammeta.meta.base import Kind

__all__ = ["KnownLabels", "LabelSpace", "PendingEvents", "Waiting", "said_from"]

_TARGET: Sequence[LabelValue] = ("",)
Doubles: TypeAlias = npt.NDArray[np.float64]


class KnownLabels(NamedTuple):
    """By what labels are admitted together: see `streammeta.engine.admission`."""

    index_of: dict[LabelValue, int] | None  # each class, in all its forms; None: labels are targets
    classes: list[LabelValue]
    largest: float  # no target is beyond


class LabelSpace:
    """Labels as numbers: a class's index in the order of first appearance, or a target as it is.

    A class is what JSON writes as one key: 1 and "1" are one class, and so are 1, 1.0 and True; "01", "1.0" and "true"
    are others. It is given back in the form in which it came first.

    Attributes:
        classify: labels are classes.
        classes: those that are known, in order.
        known: the same, as one.
        outputs: what a learner predicts for each event: a probability a class, or one mean.

    >>> space = LabelSpace("classification", max_classes=8)
    >>> space.is_new("cat"), space.learn("cat"), space.is_new("cat")
    (True, 0, False)
    >>> space.learn(1), space.learn("1"), space.learn("01"), space.admit("1", Origin("here", 0, 0))
    (1, 1, 2, 1)
    """

    def __init__(self, kind: Kind, max_classes: int) -> None:
        self.classify = kind == "classification"
        self._max_classes = max_classes
        self.classes: list[LabelValue] = []
        self.outputs = 0 if self.classify else 1
        self.refused = 0  # labels of a class too many; since this process began
        self._index: dict[LabelValue, int] = {}
        self._note_known()

    @property
    def names(self) -> Sequence[LabelValue]:
        """What the outputs are called: the classes, or of a regression nothing in particular."""
        return self.classes if self.classify else _TARGET

    def is_new(self, y: LabelValue | None) -> bool:
        """Whether this label would be a class not seen before."""
        return self.classify and y is not None and y not in self._index

    def check(self, y: LabelValue, at: Origin) -> None:
        """Raise EventError when this label cannot be learned."""
        if not self.classify:
            if isinstance(y, str) or not -LARGEST < y < LARGEST:
                found = repr(y[:100]) if isinstance(y, str) else shown_number(y)
                raise EventError(f"{at}: `y` is {found}, wanted a finite number: this is a regression")
        elif isinstance(y, float) and not y.is_integer():
            raise EventError(
                f"{at}: `y` is {y}, wanted a class (whole number or string); for targets set app.kind = 'regression'"
            )
        elif isinstance(y, float) and abs(y) >= EXACT:
            raise EventError(
                f"{at}: `y` is about {y:.0f}, wanted a class: whole numbers beyond 2^53 are not kept apart; send it as "
                "text"
            )
        elif isinstance(y, int) and not -LARGEST < y < LARGEST:
            raise EventError(f"{at}: `y` is {shown_number(y)}, wanted a class: send one so long as text")
        elif y not in self._index and len(self.classes) >= self._max_classes:
            self.refused += 1
            raise EventError(
                f"{at}: `y` is {str(y)[:100]!r}, class {self._max_classes + 1}; wanted at most {self._max_classes}: "
                "raise [memory] max_classes if they are real"
            )

    def admit(self, y: LabelValue, at: Origin) -> LabelValue:
        """A label in the form in which its class came first; a new class and a target as they are.

        Raises:
            EventError: it cannot be learned.
        """
        found = self._index.get(y) if self.classify else None
        if found is None:
            self.check(y, at)
        return y if found is None else self.classes[found]

    def learn(self, y: LabelValue) -> int:
        """The index of a class, which may be new."""
        found = self._index.get(y)
        if found is None:
            found = len(self.classes)
            self.classes.append(y if isinstance(y, str) else int(y))
            self._enter(y, found)
            self.outputs = len(self.classes)
        return found

    def _note_known(self) -> None:
        self.known = KnownLabels(self._index if self.classify else None, self.classes, LARGEST)

    def _enter(self, y: LabelValue, index: int) -> None:
        self._index[y] = index
        twin = _twin(y)
        if twin is not None:
            self._index[twin] = index

    def number(self, y: LabelValue | None) -> float:
        """What a learner learns: the index of a class, or a target; NaN where there is none, or none known yet."""
        if y is None:
            return math.nan
        return float(self._index.get(y, math.nan) if self.classify else y)

    def fork(self) -> "LabelSpace":
        """A space that knows the same classes, and may learn others of its own."""
        other = LabelSpace("classification" if self.classify else "regression", self._max_classes)
        other.load(self.classes)
        return other

    def merge(self, classes: Sequence[LabelValue]) -> list[int]:
        """Know these classes too, and say which number each has here; -1 where there was no capacity."""
        for y in classes:
            if y not in self._index and len(self.classes) < self._max_classes:
                self.learn(y)
        return [self._index.get(y, -1) for y in classes]

    def load(self, classes: Sequence[LabelValue]) -> None:
        """Know these classes, in this order."""
        self.classes, self._index = list(classes), {}
        self._note_known()
        if self.classify:
            self.outputs = len(self.classes)
        for index, y in enumerate(classes):
            self._enter(y, index)


def _twin(y: LabelValue) -> LabelValue | None:
    """The other form of the same class: a whole number's text, or the number of such a text; None: there is none."""
    if isinstance(y, str):
        is_whole = y.removeprefix("-").isdecimal() and y.isascii() and len(y) <= _DIGITS
        return int(y) if is_whole and y == str(int(y)) else None
    return str(int(y)) if float(y).is_integer() else None


_DIGITS = 18  # of a whole number that 64 bits hold
_Identity: TypeAlias = tuple[int, str, str]  # partition, task, id
_SHOWN = 100  # characters of an id or a tag that a message repeats
_LISTED = 3  # tasks that a message names
_WITH_INTERVAL = 4  # numbers of a target that was predicted with its interval
_PAGE = 16  # events that wait together in one record of the changelog


@dataclass(slots=True)
class Waiting:
    """An event whose label has not come yet, and what was predicted for it."""

    key: TaskKey
    slots: tuple[int, ...]  # the feature slots it fills
    values: Doubles  # with these raw values
    mean: Doubles | None = None  # class probabilities [C as of then], or mean [1]; None: not predicted yet
    variance: float = 0.0
    theta_version: int = 0
    page: int = -1  # with which others of its task it is saved; ``PendingEvents`` says
    parts: npt.NDArray[np.float64] | None = None  # what was mixed into ``mean``; None: the learner alone
    interval: Issued | None = None  # that was predicted; None: there are none
    context: tuple[int, int] | None = None  # what an expert knew of the task; None: nothing
    ts: float | None = None  # of the event, where rolling features of labels need it

    @property
    def filled(self) -> Filled:
        """Feature slots and values, as ``FeatureSpace`` gives them."""
        return Filled(self.slots, self.values.tolist())

    def predict(self, mean: Sequence[float] | Doubles, variance: float, theta_version: int) -> None:
        """Keep what was predicted, to be judged by the label."""
        self.mean, self.variance, self.theta_version = np.array(mean, np.float64), variance, theta_version

    @property
    def said(self) -> bytes | None:
        """What was predicted, as it is saved: float64 [C], or [1] for a mean, [4] with its interval; None: nothing."""
        if self.mean is None:
            return None
        return self.mean.tobytes() + (b"" if self.interval is None else np.array(self.interval, np.float64).tobytes())


class PendingEvents:
    """Events by partition, task and id until their label comes; when it is full, the oldest leave.

    An id is unique within a task: two tasks of one partition may both have an event "1". A label that names its task is
    joined by all three; one that names none, by partition and id, where that is one event only.

    Those of one task are kept in pages, so that a change of a few need not save them all again.

    Attributes:
        tasks: by partition and id, the tags of the tasks of which events of that id wait; to look at.
    """

    def __init__(self, size: int, *, classify: bool = True) -> None:
        self._size, self._classify = size, classify
        self._events: OrderedDict[_Identity, Waiting] = OrderedDict()
        self.tasks: dict[tuple[int, str], list[str]] = {}
        self._pages: dict[TaskKey, dict[int, dict[str, Waiting]]] = {}
        self._changed: set[tuple[TaskKey, int]] = set()
        self.expired = 0  # left without a label, because too many waited
        self.replaced = 0  # left without a label, because another event of the same task and id came
        self.forgotten = 0  # left without a label, because their task was forgotten

    def __len__(self) -> int:
        return len(self._events)

    @property
    def free(self) -> int:
        """How many may enter before the oldest leaves."""
        return self._size - len(self._events)

    def enter(self, id_: str, waiting: Waiting) -> None:
        """Keep an event; an earlier one of the same partition, task and id is replaced, and counted."""
        self.replaced += self._remove(*waiting.key, id_) is not None
        pages = self._pages.setdefault(waiting.key, {})
        waiting.page = next(reversed(pages), 0)
        if len(pages.get(waiting.page, ())) >= _PAGE:
            waiting.page += 1
        self._keep(id_, waiting)
        self._changed.add((waiting.key, waiting.page))
        if len(self._events) > self._size:
            self._remove(*next(iter(self._events)))
            self.expired += 1

    def leave(self, label: Label) -> Waiting:
        """The event this label is for, which waits no more.

        Raises:
            EventError: there is none, those of that id are of other tasks than the label names, or there are several
                and it names no task; then all of them go on waiting.
        """
        partition, said = label.origin.partition, f"{label.origin}: a label for id {label.id[:_SHOWN]!r}"
        tasks = self.tasks.get((partition, label.id), ())
        if not tasks:
            raise EventError(
                f"{said}, but no event of that id waits in its partition: "
                "it was never seen, had its label already, waited too long ([memory] max_waiting), or its task was "
                "forgotten ([memory] forget_after, max_known_tasks)"
            )
        if label.task and label.task not in tasks:
            raise EventError(
                f"{said} of task {label.task[:_SHOWN]!r}, but the event of that id that waits is of "
                f"{_listed(tasks)}; wanted the task of the event, or a label without `task`"
            )
        if not label.task and len(tasks) > 1:
            raise EventError(
                f"{said} without a task, but events of that id wait in {len(tasks)} tasks ({_listed(tasks)}); "
                "name the `task` with the label, or give every event an id of its own"
            )
        return self.take(partition, label.task or tasks[0], label.id)

    def take(self, partition: int, task: str, id_: str) -> Waiting:
        """An event that waits, and does no more."""
        found = self._remove(partition, task, id_)
        assert found is not None  # the index and the events are one
        return found

    def tasks_of(self, partition: int, id_: str) -> Sequence[str]:
        """The tasks of a partition of which events with this id wait."""
        return self.tasks.get((partition, id_), ())

    def find(self, partition: int, task: str, id_: str) -> Waiting:
        """An event that waits."""
        return self._events[partition, task, id_]

    def take_changed(self) -> dict[tuple[TaskKey, int], Mapping[str, Waiting]]:
        """The pages changed since this was last asked, with who waits in them now."""
        changed, self._changed = self._changed, set()
        return {(key, page): self._pages.get(key, {}).get(page, {}) for key, page in changed}

    def place(self, id_: str, waiting: Waiting) -> None:
        """Keep an event that comes from elsewhere, in the page it names."""
        self._remove(*waiting.key, id_)
        self._keep(id_, waiting)

    def forget_task(self, key: TaskKey) -> None:
        """Drop every event of a task, and count them: no label can be joined to them any more."""
        for id_ in [id_ for page in self._pages.get(key, {}).values() for id_ in page]:
            self._remove(*key, id_)
            self.forgotten += key[0] >= 0

    def forget(self, partition: int) -> None:
        """Drop every event of a partition: another process has it now."""
        for key in [key for key in self._events if key[0] == partition]:
            self._remove(*key)
        self._changed = {one for one in self._changed if one[0][0] != partition}

    def ask_again(self) -> None:
        """Let experts be asked again when labels come: those that were asked are others."""
        for waiting in self._events.values():
            waiting.parts = None

    def dump(self) -> dict[str, Any]:
        """Plain values from which ``load`` makes the same."""
        events = [
            [
                *(id_, *w.key, w.slots, w.values.tobytes(), w.said, w.variance, w.theta_version, w.page),
                None if w.parts is None else (len(w.parts), w.parts.tobytes()),
                w.context,
                *(() if w.ts is None else (w.ts,)),
            ]
            for (*_, id_), w in self._events.items()
        ]
        counts = {"expired": self.expired, "replaced": self.replaced, "forgotten": self.forgotten}
        return {"events": events, **counts}

    def load(self, state: Mapping[str, Any]) -> None:
        """Replace the pending events by those that ``dump`` wrote."""
        self._events.clear()
        self.tasks.clear()
        for id_, partition, tag, slots, values, mean, variance, version, page, parts, *context in state["events"]:
            filled = tuple(slots), np.frombuffer(values, np.float64)
            predicted, interval = said_from(mean, classify=self._classify)
            mixed = None if parts is None else np.frombuffer(parts[1], np.float64).reshape(parts[0], -1).copy()
            waiting = Waiting((partition, tag), *filled, predicted, variance, version, page, mixed, interval)
            if context and context[0]:  # not in snapshots before there were any
                last, run = context[0]
                waiting.context = last, run
            if len(context) > 1:
                waiting.ts = context[1]
            self._keep(id_, waiting)
        self.expired, self.replaced = state["expired"], state["replaced"]
        self.forgotten = state.get("forgotten", 0)

    def _keep(self, id_: str, waiting: Waiting) -> None:
        partition, tag = waiting.key
        self._events[partition, tag, id_] = waiting
        self.tasks.setdefault((partition, id_), []).append(tag)
        self._pages.setdefault(waiting.key, {}).setdefault(waiting.page, {})[id_] = waiting

    def _remove(self, partition: int, tag: str, id_: str) -> Waiting | None:
        found = self._events.pop((partition, tag, id_), None)
        if found is None:
            return None
        tasks = self.tasks[partition, id_]
        tasks.remove(tag)
        if not tasks:
            del self.tasks[partition, id_]
        pages = self._pages[found.key]
        del pages[found.page][id_]
        self._changed.add((found.key, found.page))
        if not pages[found.page]:
            del pages[found.page]
        if not pages:
            del self._pages[found.key]
        return found


def _listed(tasks: Sequence[str]) -> str:
    shown = ", ".join("no task" if not tag else f"task {tag[:_SHOWN]!r}" for tag in tasks[:_LISTED])
    return shown + (f" and {len(tasks) - _LISTED} more" if len(tasks) > _LISTED else "")


def said_from(data: bytes | None, *, classify: bool) -> tuple[Doubles | None, Issued | None]:
    """A prediction, and its interval where it has one, of which ``Waiting.said`` made these bytes."""
    if data is None:
        return None, None
    numbers = np.frombuffer(data, np.float64)
    if classify or len(numbers) < _WITH_INTERVAL:
        return numbers, None
    return numbers[:1], (float(numbers[1]), float(numbers[2]), float(numbers[3]))
