"""From named features to numbered slots.

Names become slots in the order of their first appearance, those that an event brings together in the order of their
names, so shuffled, late and vanishing features do no harm. A number has one slot; a category has one slot for each of
its values, 1 where it holds. What is missing is NaN, and adds nothing to the encoder: for a number that is its mean,
for a category "another value".

A text that differs in every event must not take the slots of features that come later: a category's values get slots
of their own while it holds at most a third of what is still free; its further values share ``SHARED`` slots, by a hash
of the value. Which slot a value has depends on the slots given out before, so it is the same for any grouping of
events and after a restore. Source: Weinberger et al. (2009), Feature hashing, arXiv:0902.2206.

Which of its values a shared slot stands for is in the number that it is filled with, 1 + k 2⁻⁵², k < 2²⁸ a hash of name
and value: so it goes wherever an event's exact features go, and is 1 wherever float32 is read. ``shared_values`` has k.
"""

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from streammeta.bounds import LARGEST
from streammeta.errors import EventError
from streammeta.event import Feature, Origin, shown_number
from streammeta.meta.names import Slot

__all__ = ["SHARED", "FeatureSpace", "Filled", "Pattern"]

_NUMBERS = frozenset((float, int, bool))
_Key = tuple[str, str | None]  # name, and the category's value; None for numbers
SHARED = 8  # slots of one category that its values without a slot of their own share
_SHARED_VALUES = tuple(f"\0shared:{number}" for number in range(SHARED))  # a value spelled so has that slot
_VALUES, _UNIT = 2**28, 2.0**-52  # what a number that is 1 in single precision may hold in double precision
_FREE_PER_OWN = 3  # a category has slots for more values while this many slots are free for each that it has


class Filled(NamedTuple):
    """The slots that an event fills, and with what; not normalized."""

    slots: tuple[int, ...]
    values: list[float]


class Pattern(NamedTuple):
    """By what events are admitted together: see `streammeta.engine.admission`."""

    names: tuple[str, ...]  # of the last event that had all its features as numbers
    plan: npt.NDArray[np.int64]  # their slots
    slot_of: dict[_Key, int]
    is_list: bool  # a list of as many numbers means these names
    largest: float  # no number is beyond


class FeatureSpace:
    """Which slot a feature has.

    Attributes:
        pattern: how the last events were, for those to come.

    >>> space = FeatureSpace(max_features=8)
    >>> space.read({"price": 1.5, "colour": "red", "sale": True, "weight": None}, at="here")
    Filled(slots=(1, 0, 2), values=[1.5, 1.0, 1.0])
    >>> space.read({"sale": False, "colour": "blue"}, at="here")
    Filled(slots=(2, 3), values=[0.0, 1.0])
    """

    def __init__(self, max_features: int) -> None:
        self.max_features = max_features
        self.ignored = 0  # features left out because all slots were taken
        self.shared = 0  # values of categories that share a slot; since this process began
        self._values: Counter[str] = Counter()  # slots of each category
        self._slot_of: dict[_Key, int] = {}
        self._slots: list[Slot] = []
        self._shared_slots = np.zeros(0, np.int64)  # those that values share
        self._width: int | None = None  # of events whose features have no names
        self._names: tuple[str, ...] = ()  # of the last event that had all its features as numbers,
        self._plan: tuple[int, ...] = ()  # and their slots
        self._note_pattern()

    def __len__(self) -> int:
        """How many slots are in use."""
        return len(self._slot_of)

    @property
    def categories(self) -> npt.NDArray[np.bool_]:
        """Which slots [D] belong to a category's value."""
        return np.array([value is not None for _, value in self._slot_of], dtype=np.bool_)

    def read(self, x: Mapping[str, Feature] | Sequence[float | None], at: Origin | str) -> Filled:
        """The slots an event fills, with their raw values; new names get new slots while there are any.

        Raises:
            EventError: a number is not finite, or a list has another width than the lists before.
        """
        if not isinstance(x, Mapping):
            return self._read_list(x, at)
        names, values = _checked(x, at)
        return self._as_before(names, values) or self._read_unseen(names, values)

    def find(self, x: Mapping[str, Feature] | Sequence[float | None], at: Origin | str) -> Filled | None:
        """As ``read``, but nothing changes here: None where a name or value has no slot. Raises EventError, too."""
        if not isinstance(x, Mapping) and len(x) != self._width:
            return None
        names, values = _checked(self.named(x, at), at)
        found = self._as_before(names, values)
        if found is not None:
            return found
        slots, numbers = list[int](), list[float]()
        for key, number in _as_keys(names, values):
            shares = key not in self._slot_of and self._must_share(key)
            slot = self._slot_of.get(_shared(key) if shares else key)
            if slot is None:
                return None
            slots.append(slot)
            numbers.append(_marked(key) if shares else number)
        return Filled(tuple(slots), numbers)

    def _as_before(self, names: tuple[str, ...], values: list[Feature]) -> Filled | None:
        """The slots of an event that has all its features as numbers, and those of the last such; None: it has not."""
        if names == self._names and _NUMBERS.issuperset(map(type, values)):
            return Filled(self._plan, values)  # type: ignore[arg-type]  # numbers, as was just seen
        return None

    def _note_pattern(self) -> None:
        """Names, slots or width have changed."""
        is_list = self._width == len(self._names) and self._names == tuple(map(str, range(self._width)))
        self.pattern = Pattern(self._names, np.array(self._plan, np.int64), self._slot_of, is_list, LARGEST)

    def _read_unseen(self, names: tuple[str, ...], values: Sequence[Feature]) -> Filled:
        """As ``read``, name by name; an event of numbers alone is remembered as the pattern of the next ones."""
        filled = _as_keys(names, values)
        unknown = sorted((key for key, _ in filled if key not in self._slot_of), key=_by_name)
        place_of = {key: self._slot_for(key, len(filled)) for key in unknown}
        known = self._slot_of  # all that have a slot of their own by now
        found = [(known.get(key, place_of.get(key)), n if key in known else _marked(key)) for key, n in filled]
        slots = [slot for slot, _ in found if slot is not None]
        numbers = [number for slot, number in found if slot is not None]
        plan = tuple(slots)
        if len(slots) == len(names) and _NUMBERS.issuperset(map(type, values)):
            self._names, self._plan = names, plan
            self._note_pattern()
        return Filled(plan, numbers)

    def _read_list(self, x: Sequence[float | None], at: Origin | str) -> Filled:
        """A list has no names: its numbers are named by their place, and all lists must be of one width."""
        if not x:  # an event without features has no width
            return Filled((), [])
        filled = self.read(self.named(x, at), at)
        self.fix_width(len(x))
        return filled

    def _check_width(self, x: Sequence[float | None], at: Origin | str) -> None:
        if x and self._width is not None and len(x) != self._width:
            raise EventError(
                f"{at}: `x` has {len(x)} numbers, wanted {self._width} as in the stream's first event; "
                "fix the producer, or send features by name"
            )

    def named(self, x: Mapping[str, Feature] | Sequence[float | None], at: Origin | str) -> Mapping[str, Feature]:
        """An event's features by name; those of a list are called by their places.

        Raises:
            EventError: a list has another width than the lists before.
        """
        if isinstance(x, Mapping):
            return x
        self._check_width(x, at)
        return {str(place): value for place, value in enumerate(x)}

    def fix_width(self, width: int) -> None:
        """A list of so many numbers was taken: all others must have as many; of none there is no width."""
        if width and self._width is None:
            self._width = width
            self._note_pattern()

    def table(self, events: Sequence[Filled]) -> npt.NDArray[np.float64]:
        """Raw features [N, D] of several events, exact; NaN where a slot is not filled."""
        rows = np.full((len(events), len(self._slot_of)), np.nan)
        if self._plan and all(event.slots is self._plan for event in events):
            rows[:, self._plan] = [event.values for event in events]
            return rows
        alike: dict[int, list[int]] = {}  # events of the very same slots, by the identity of those
        for i, event in enumerate(events):
            alike.setdefault(id(event.slots), []).append(i)
        for places in alike.values():
            slots = list(events[places[0]].slots)
            rows[np.array(places)[:, None], slots] = [events[i].values for i in places]
        return rows

    def shared_values(self, exact: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Which values of categories that share a slot events with features [N, D] have: [N, M]; −1: none.

        M is as large as one of these events needs.
        """
        if not self._shared_slots.size:
            return np.zeros((len(exact), 0), np.int64)
        filled = exact[:, self._shared_slots[self._shared_slots < exact.shape[1]]]
        found = np.where(np.isnan(filled), 0, (filled - 1) / _UNIT).astype(np.int64)
        found[found <= 0] = -1
        most = int(np.count_nonzero(found >= 0, axis=1).max(initial=0))
        order = np.argsort(found < 0, axis=1, kind="stable")[:, :most]
        return np.ascontiguousarray(np.take_along_axis(found, order, axis=1))

    @property
    def slots(self) -> list[Slot]:
        """Every slot, in order."""
        return list(self._slots)

    @property
    def width(self) -> int | None:
        """How many numbers an event without names has; None before the first."""
        return self._width

    def merge(self, slots: Sequence[tuple[str, str | None, int]], width: int | None) -> list[int]:
        """Know these slots too, and say which number each has here; -1 where there was no capacity."""
        for slot in slots:
            if slot[:2] not in self._slot_of and len(self._slots) < self.max_features:
                self._add(Slot(*slot))
        self._width = width if self._width is None else self._width
        self._names, self._plan = (), ()
        self._note_pattern()
        return [self._slot_of.get(slot[:2], -1) for slot in slots]

    def fork(self) -> "FeatureSpace":
        """A space that knows the same features, and may learn others of its own."""
        other = FeatureSpace(self.max_features)
        other._slot_of, other._slots, other._width = dict(self._slot_of), list(self._slots), self._width
        other._names, other._plan = self._names, self._plan
        other._values, other._shared_slots = self._values.copy(), self._shared_slots
        other._note_pattern()
        return other

    def dump(self) -> dict[str, Any]:
        """Plain values from which ``load`` makes the same space."""
        return {"slots": [list(slot) for slot in self._slots], "width": self._width, "ignored": self.ignored}

    def load(self, state: Mapping[str, Any]) -> None:
        """Become the space that ``dump`` described."""
        self._slot_of, self._slots, self._values = {}, [], Counter()
        self._shared_slots = np.zeros(0, np.int64)
        for slot in state["slots"]:
            self._add(Slot(*slot))
        self._width, self.ignored = state["width"], state["ignored"]
        self._names, self._plan = (), ()
        self._note_pattern()

    def _slot_for(self, key: _Key, fan_in: int) -> int | None:
        """The slot of a number or value not seen before, its own or a shared one; None: all are taken."""
        if self._must_share(key):
            self.shared += 1
            key = _shared(key)
            if key in self._slot_of:
                return self._slot_of[key]
        if len(self._slots) >= self.max_features:
            self.ignored += 1
            return None
        self._add(Slot(*key, fan_in))
        return self._slot_of[key]

    def _must_share(self, key: _Key) -> bool:
        """Whether a category's value that has no slot gets none of its own."""
        name, value = key
        if value is None or value in _SHARED_VALUES:
            return False
        return self._values[name] * _FREE_PER_OWN >= self.max_features - len(self._slots)

    def _add(self, slot: Slot) -> None:
        if slot.value in _SHARED_VALUES:
            self._shared_slots = np.append(self._shared_slots, len(self._slots))
        self._slot_of[slot[:2]] = len(self._slots)
        self._slots.append(slot)
        if slot.value is not None:
            self._values[slot.name] += 1


def _shared(key: _Key) -> _Key:
    """The key of the slot that a value shares."""
    return key[0], _SHARED_VALUES[zlib.crc32((key[1] or "").encode("utf-8", "surrogatepass")) % SHARED]


def _marked(key: _Key) -> float:
    """What a shared slot is filled with by this value."""
    name, value = key
    hashed = zlib.crc32(f"{name}\0{value}".encode("utf-8", "surrogatepass"))
    return 1 + _UNIT * (1 + hashed % (_VALUES - 1))


def _by_name(key: _Key) -> tuple[str, str]:
    name, value = key
    return name, value or ""


def _checked(x: Mapping[str, Feature], at: Origin | str) -> tuple[tuple[str, ...], list[Feature]]:
    """Names and values; raises EventError where a number is not finite."""
    values = list(x.values())
    for value in values:
        if type(value) in _NUMBERS and not -LARGEST < value < LARGEST:  # type: ignore[operator]
            raise EventError(f"{at}: a feature is {shown_number(value)}, wanted a finite number below {LARGEST:.0e}")
    return tuple(x), values


def _as_keys(names: Sequence[str], values: Sequence[Feature]) -> list[tuple[_Key, float]]:
    """What has a slot, with its number: a feature, or a category's value, which counts 1; None is missing."""
    return [
        ((name, value), 1.0) if isinstance(value, str) else ((name, None), float(value))
        for name, value in zip(names, values, strict=True)
        if value is not None
    ]
