"""What a stream's first records look like: fields, kinds, missing values, and which may be task, label, id and time."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeAlias

from streammeta.errors import EventError
from streammeta.event import shown_number
from streammeta.formats.mapping import parse_seconds
from streammeta.formats.value import flatten, is_missing

__all__ = ["Choice", "Column", "Survey", "are_names", "sample_lines", "survey"]

Kind: TypeAlias = Literal["empty", "flag", "whole number", "number", "time", "text"]

_SENTINELS = frozenset(sign * (10**n - 1) for n in range(2, 7) for sign in (1, -1)) | {-1}
_FEW_TEXTS = 0.5  # of as many numbers: fewer texts may be markers of a missing value
_MOST_MARKERS = 3
_EPOCH = (1e9, 4e9)  # seconds since 1970: 2001 to 2096
_LABELS = re.compile(
    r"y|label|labels|target|class|outcome|response|result|sold|clicked|click|churn(ed)?|fraud|is_fraud|default(ed)?|"
    r"converted|conversion|rating|score|quality|passed|failed|failure|won|survived|demand|sales|units_sold|returned|reward"
)
_TASKS = re.compile(
    r"task|tag|(.*[._])?(store|shop|user|customer|client|account|tenant|site|device|sensor|machine|station|school|product|"
    r"sku|item|merchant|vehicle|patient|subject|region|city|country|group|household|meter|unit)(([._]?id)|s?|[._]?name)"
)
_IDS = re.compile(r"id|uuid|guid|key|.*[._]id|.*Id|(row|order|event|transaction|record)([._]?(no|number|nr|id))?|index")
_NAMED = re.compile(r"(.*[._])?(zip|plz|postcode|(zip|postal|area)[._]?code)|.*[._](id|nr|no|code)|.*[a-z]Id")
_TIMES = re.compile(r"ts|at|t|.*time.*|.*date.*|when|.*[._]at|day|created|updated|moment")


class Choice(NamedTuple):
    """Which column is the task, label, id or time, and how sure that is."""

    name: str
    reason: str
    is_sure: bool
    others: tuple[str, ...] = ()  # that it may be as well


@dataclass
class Column:
    """What one field has, over all records that were looked at."""

    name: str
    present: int = 0
    missing: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    values: Counter[Any] = field(default_factory=Counter)
    first: list[Any] = field(default_factory=list)  # some values, in their order

    @property
    def kind(self) -> Kind:
        """The kind that fits all of its values."""
        seen = set(self.kinds)
        if not seen:
            return "empty"
        if seen <= {"flag"}:
            return "flag"
        if seen <= {"whole number"}:
            return "whole number"
        if seen <= {"whole number", "number", "flag"}:
            return "number"
        if self.markers():
            return "whole number" if not self.kinds["number"] else "number"
        return "time" if seen <= {"time"} else "text"

    def markers(self) -> dict[str, int]:
        """The few texts, and how often each comes, among values that are numbers else: they stand for a missing one."""
        texts, numbers = self.kinds["text"], self.kinds["number"] + self.kinds["whole number"]
        if not texts or texts + numbers < sum(self.kinds.values()) or texts > _FEW_TEXTS * numbers:
            return {}
        found = {value: count for value, count in self.values.items() if isinstance(value, str)}
        return found if len(found) <= _MOST_MARKERS and "=" not in self.name else {}

    @property
    def is_unique(self) -> bool:
        """Whether no value comes twice."""
        return len(self.values) == sum(self.values.values()) > 1

    @property
    def is_constant(self) -> bool:
        """Whether all values are the same."""
        return len(self.values) == 1 and self.missing == 0

    @property
    def is_counting(self) -> bool:
        """Whether its first values, three at least, count by one; some may be too large for a float."""
        return len(self.first) > 2 and not self.markers() and all(a + 1 == b for a, b in pairwise(self.first))

    def sentinel(self) -> float | None:
        """A number such as -999 that is far outside all others and comes again and again: a missing value, likely."""
        if self.kind not in ("number", "whole number"):
            return None
        for value, count in self.values.most_common(3):
            others = [one for one in self.values if one != value and not isinstance(one, str)]
            if value not in _SENTINELS or count < 3 or len(others) < 3:
                continue
            low, high = min(others), max(others)
            if value == -1 and low >= 0 and high > 10:
                return float(value)
            if value != -1 and (value < low - (high - low) or value > high + (high - low)):
                return float(value)
        return None


class Survey(NamedTuple):
    """A stream's first records, seen together."""

    records: int
    unreadable: int
    columns: Mapping[str, Column]
    label: Choice | None
    task: Choice | None
    id: Choice | None
    time: Choice | None


def survey(objects: Iterable[Mapping[str, Any] | None], *, fixed: Mapping[str, str] | None = None) -> Survey:
    """Look at objects, nested or not, and find what they have.

    Args:
        objects: the first records; None where one cannot be read.
        fixed: choices of the caller: task, label, id or time to a name; "" for none.
    """
    columns: dict[str, Column] = {}
    records = unreadable = 0
    for given in objects:
        records += 1
        try:
            flat = None if given is None else [one for name, value in given.items() for one in _flat(value, str(name))]
        except EventError:
            flat = None
        if flat is None:
            unreadable += 1
            continue
        for name, value in flat:
            _count(columns.setdefault(name, Column(name)), value)
    for column in columns.values():
        column.missing += records - unreadable - column.present
    return _choose(columns, records, unreadable, dict(fixed or {}))


def _flat(value: object, name: str) -> Iterable[tuple[str, Any]]:
    return flatten(value, name, name) if isinstance(value, Mapping | list) else ((name, value),)


def _count(column: Column, value: Any) -> None:  # noqa: ANN401 what records hold
    column.present += 1
    if is_missing(value) or (isinstance(value, str) and not value.strip()):
        column.missing += 1
        return
    column.kinds[_kind(value, column.name)] += 1
    column.values[value] += 1
    if len(column.first) < 50:
        column.first.append(value)


def _kind(value: object, name: str) -> Kind:
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, int | float):
        return "whole number" if isinstance(value, int) or value.is_integer() else "number"
    if isinstance(value, str):
        text = value.strip()
        if len(text) >= 8 and text[:4].isdigit() and _is_time(text, name):
            is_number = text.isdecimal()  # a customer's, as often as it is seconds or a day
            return "time" if not is_number or _TIMES.fullmatch(_last(name).lower()) else "text"
        return "text"
    return "text"


def _is_time(value: object, name: str) -> bool:
    try:
        return parse_seconds(value, name, "") is not None
    except EventError:
        return False


def are_names(column: Column) -> bool:
    """Whether its whole numbers name something, as a shop or a zip code, by the field's name and as they come again."""
    name = _last(column.name)
    is_thing = _TASKS.fullmatch(name.lower()) is not None and not name.endswith("s")  # shops are a count
    is_whole = column.kind == "whole number" and not column.is_unique and len(column.values) > 2
    return is_whole and (is_thing or _NAMED.fullmatch(name) is not None)


def _choose(columns: Mapping[str, Column], records: int, unreadable: int, fixed: dict[str, str]) -> Survey:
    """One after the other: what is taken cannot be anything else."""
    free = {name: column for name, column in columns.items() if column.kind != "empty" and not _is_in_list(name)}
    found: dict[str, Choice | None] = {}
    finders: dict[str, Callable[[dict[str, Column]], Choice | None]] = {
        "time": _find_time,
        "label": _find_label,
        "id": _find_id,
        "task": lambda left: _find_task(left, records - unreadable),
    }
    for name in fixed.values():
        free.pop(name, None)
    for option, find in finders.items():
        if option in fixed:
            found[option] = Choice(fixed[option], "as asked for", is_sure=True) if fixed[option] else None
        else:
            found[option] = find(free)
        chosen = found[option]
        if chosen is not None:
            free.pop(chosen.name, None)
    return Survey(records, unreadable, columns, found["label"], found["task"], found["id"], found["time"])


def _is_in_list(name: str) -> bool:
    """Whether this is a list's item, which no path of a mapping names."""
    return any(part.isdecimal() for part in name.split(".")[1:])


def _find_time(columns: dict[str, Column]) -> Choice | None:
    times = [c for c in columns.values() if c.kind == "time"]
    numbers = [c for c in columns.values() if _is_epoch(c) and (_is_time_by_name(c) or _has_times(c))]
    if not (times or numbers):
        return None
    ordered = sorted([*times, *numbers], key=lambda c: (not _is_rising(c), not _is_time_by_name(c), c.missing))
    best, others = ordered[0], tuple(c.name for c in ordered[1:])
    what = "ISO 8601 text" if best.kind == "time" else "numbers that are times since 1970"
    rising = ", rising" if _is_rising(best) else ""
    is_sure = (not others or _is_rising(best)) and (best.kind == "time" or _is_time_by_name(best) or bool(rising))
    return Choice(best.name, what + rising, is_sure=is_sure, others=others)


def _is_epoch(column: Column) -> bool:
    if column.kind not in ("number", "whole number"):
        return False
    numbers = [one for one in column.values if not isinstance(one, str)]
    low, high = min(numbers), max(numbers)
    return any(_EPOCH[0] * unit <= low and high <= _EPOCH[1] * unit for unit in (1, 1e3, 1e6, 1e9))


def _is_time_by_name(column: Column) -> bool:
    return _TIMES.fullmatch(_last(column.name).lower()) is not None


def _has_times(column: Column) -> bool:
    """Whether numbers that may be times are so, whatever their field is called: in their order, or of whole minutes."""
    numbers = [one for one in column.values if not isinstance(one, str)]
    is_rising = _is_rising(column) and not column.is_counting
    return len(numbers) > 2 and (all(one % 60 == 0 for one in numbers) or is_rising)


def _is_rising(column: Column) -> bool:
    seconds = [parse_seconds(one, column.name, "") or 0.0 for one in column.first if _is_time(one, column.name)]
    return seconds == sorted(seconds) and len(set(seconds)) > 1


def _find_label(columns: dict[str, Column]) -> Choice | None:
    usable = [c for c in columns.values() if not (c.is_unique and c.kind == "text") and c.kind != "time"]
    usable = [c for c in usable if c.name not in ("task", "id", "ts")]  # which are these
    named = [c for c in usable if _LABELS.fullmatch(_last(c.name).lower())]
    if named:
        named.sort(key=lambda c: c.name != "y")
        others = tuple(c.name for c in named[1:])
        return Choice(named[0].name, "by its name", is_sure=not others, others=others)
    candidates = [c for c in usable if not (_is_id(c) or _TASKS.fullmatch(_last(c.name).lower()))] or usable
    if not candidates:
        return None
    others = tuple(c.name for c in candidates[:-1])
    return Choice(candidates[-1].name, "the last field, which it often is", is_sure=False, others=others)


def _is_id(column: Column) -> bool:
    """Whether no two records share it, and its name says so or it counts."""
    if not column.is_unique or column.missing or column.kind not in ("text", "whole number"):
        return False
    is_counting = column.kind == "whole number" and column.is_counting
    return is_counting or bool(_IDS.fullmatch(_last(column.name)))


def _find_id(columns: dict[str, Column]) -> Choice | None:
    ids = [c for c in columns.values() if _is_id(c)]
    if not ids:
        return None
    ids.sort(key=lambda c: not _IDS.fullmatch(_last(c.name)))
    others = tuple(c.name for c in ids[1:])
    return Choice(ids[0].name, "no two records share it", is_sure=not others, others=others)


def _find_task(columns: dict[str, Column], records: int) -> Choice | None:
    def repeats(column: Column) -> bool:
        count = len(column.values)
        return column.kind in ("text", "whole number") and 2 <= count <= max(2, records / 3)

    named = [c for c in columns.values() if repeats(c) and _TASKS.fullmatch(_last(c.name).lower())]
    if named:
        named.sort(key=lambda c: (c.name != "task", -len(c.values)))
        others = tuple(c.name for c in named[1:])
        return Choice(named[0].name, f"by its name; {_many(named[0])}", is_sure=not others, others=others)
    texts = [c for c in columns.values() if repeats(c) and c.kind == "text" and not c.missing]
    if not texts:
        return None
    texts.sort(key=lambda c: -len(c.values))
    return Choice(
        texts[0].name, f"text that repeats; {_many(texts[0])}", is_sure=False, others=tuple(c.name for c in texts[1:])
    )


def _many(column: Column) -> str:
    count = len(column.values)
    return f"{count:,} values, {math.floor(sum(column.values.values()) / count):,} records each"


def _last(name: str) -> str:
    """The name itself, without the objects that it is in; an object's `id` keeps the object's name."""
    first, dot, rest = name.rpartition(".")
    return f"{first.rpartition('.')[2]}.{rest}" if dot and rest in ("id", "name") else rest


def sample_lines(columns: Sequence[Column]) -> list[str]:
    """A line a field: its kind, how often it is missing, how many values it has, and some of them."""
    width = max((len(c.name) for c in columns), default=0)
    lines = []
    for column in columns:
        common = (value for value, _ in column.values.most_common(3))
        some = ", ".join(value[:20] if isinstance(value, str) else shown_number(value) for value in common)
        gone = f"{column.missing:,} missing, " if column.missing else ""
        lines.append(f"{column.name:{width}}  {column.kind}, {gone}{len(column.values):,} values: {some}")
    return lines
