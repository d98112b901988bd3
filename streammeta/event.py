"""What travels through streammeta: records from a transport, and the events and labels read from them.

Values are structs of msgspec: as frozen dataclasses, and made at a tenth of the cost, several of them for each record.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence, Set
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from streammeta.bounds import EXACT, LARGEST, LATEST
from streammeta.errors import EventError
from streammeta.json_text import UNREADABLE, read_again

__all__ = [
    "FORGET_HEADER",
    "KEY_HEADER",
    "LABEL_HEADER",
    "ORIGIN_HEADER",
    "TIME_HEADER",
    "Decoder",
    "Event",
    "Feature",
    "Label",
    "LabelValue",
    "Origin",
    "RawEvent",
    "Record",
    "TaskFrom",
    "first_origin",
    "is_moment",
    "shown_number",
    "task_to_forget",
    "time_made",
]

Feature: TypeAlias = float | bool | str | None  # number, flag, category, missing
LabelValue: TypeAlias = int | float | str  # a class (whole number or string), or a regression target
TaskFrom: TypeAlias = Literal["field", "key", "header"]

ORIGIN_HEADER = "streammeta-origin"  # where a record that was sent on came from
KEY_HEADER = "streammeta-key"  # the key that it had there
TIME_HEADER = "streammeta-time"  # when it was made, seconds since 1970
LABEL_HEADER = "streammeta-label"  # of a label from a topic of its own: why it cannot be used, or empty
FORGET_HEADER = "streammeta-forget"  # of a record that is no event: the tag of the task that is to be forgotten
_FIRST, _END = -62_135_596_800.0, 253_402_300_800.0  # the year 1, and 10000, which no calendar of Python's has
_LONGEST = 1_000  # characters of a tag, an id, a name or a class
_PLAIN = frozenset({float})
_SHOWN = 200  # characters of a refused value that a message repeats
_SHORT_BITS = 64  # of a whole number that messages have in full


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Where a record came from; written ``topic/partition/offset`` in messages and predictions."""

    topic: str  # a topic's name, or a file's
    partition: int
    offset: int  # position inside the partition; for files the row, from 0

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


class Record(msgspec.Struct, frozen=True, gc=False):
    """One message as a transport delivered it: bytes, not yet understood."""

    value: bytes | None
    origin: Origin
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: float | None = None  # seconds since 1970, as the transport knows it


class Event(msgspec.Struct, frozen=True):
    """Something to predict, and to learn from when its label is there."""

    x: Mapping[str, Feature] | Sequence[float | None]  # by name, or by position
    task: str  # the producer's tag; "" when there is none
    origin: Origin
    y: LabelValue | None = None  # None until the label arrives
    id: str | None = None  # what a late label refers to
    ts: float | None = None  # seconds since 1970
    source: str | None = None  # where it came from first, if not from ``origin``
    actions: Any = None  # of a decision: what can be done, as the record has it; not checked yet
    action: Any = None  # of a decision: what was done already; not checked yet
    came: Mapping[str, Feature] | Sequence[float | None] | None = None  # its features as sent, where others were made


class Label(msgspec.Struct, frozen=True, gc=False):
    """The label of an earlier event, come late."""

    id: str
    y: LabelValue
    task: str
    origin: Origin
    source: str | None = None  # as an event's


class RawEvent(msgspec.Struct, omit_defaults=True):
    """What a record says, before it is checked: the JSON object of the README; unknown fields are ignored."""

    x: dict[str, float | bool | str | None] | list[float | None] | None = None
    y: bool | int | float | str | None = None
    task: str | int | None = None
    id: str | int | None = None
    ts: float | str | None = None
    actions: Any = None  # only looked at where decisions are made
    action: Any = None
    problem: Any = None  # of a file's row that is no event: what is wrong with it


_Text: TypeAlias = Annotated[str, msgspec.Meta(max_length=_LONGEST)]
_Number: TypeAlias = Annotated[float, msgspec.Meta(gt=-LARGEST, lt=LARGEST)]
_Moment: TypeAlias = Annotated[float, msgspec.Meta(ge=_FIRST, le=LATEST)]


class _PlainEvent(msgspec.Struct):
    """What most records say, and needs no further check: features by names. Others are read as a `RawEvent`."""

    x: dict[_Text, _Number | _Text | bool | None]
    y: bool | int | float | str | None = None
    task: _Text | None = None
    id: _Text | None = None
    ts: _Moment | None = None
    actions: Any = None
    action: Any = None


class Decoder:
    """Reads records into events and labels.

    >>> decoder = Decoder()
    >>> record = Record(b'{"task": "store-17", "x": {"price": 1.2, "colour": "red"}, "y": 1}', Origin("events", 0, 7))
    >>> event = decoder.decode(record)
    >>> event.task, event.x["colour"], event.y
    ('store-17', 'red', 1)

    Args:
        task_from: where a record's task tag stands: its JSON field ``task``, its key, or a header.
        task_header: the header's name, when ``task_from`` is "header".
        max_record_bytes: longer records are refused unread.
        read: what a record with a value says, where it is not JSON of the README's shape; raises EventError. Then
            ``task_from`` does not count.
        skips_tombstones: whether who reads a topic is to pass over records without a value, rather than refuse them.
        long_texts: features whose texts may be of any length.
    """

    def __init__(
        self,
        *,
        task_from: TaskFrom = "field",
        task_header: str = "task",
        max_record_bytes: int = 262_144,
        read: Callable[[Record], RawEvent] | None = None,
        skips_tombstones: bool = False,
        long_texts: Set[str] = frozenset(),
    ) -> None:
        self._task_from = task_from
        self._task_header = task_header
        self._max_record_bytes, self._long_texts = max_record_bytes, long_texts
        self.skips_tombstones = skips_tombstones
        self.too_long = 0  # records refused for their length
        self.flags = 0  # labels that were true or false
        self._json = msgspec.json.Decoder(RawEvent)
        self._plain = msgspec.json.Decoder(_PlainEvent) if read is None and task_from == "field" else None
        self._read = read or self._read_json

    def decode(self, record: Record) -> Event | Label:
        """Read one record.

        Raises:
            EventError: the record is not an event; the message says where, what came and what was wanted.
        """
        value = record.value or b""
        if self._plain is not None and not record.headers and len(value) <= self._max_record_bytes:
            try:
                fields = self._plain.decode(value)
            except UNREADABLE:  # or it is no such event: what it is, and what is wrong with it, is found out below
                return self._checked(record)
            y, at = fields.y, record.origin
            if y is not None and (type(y) is not int or not -EXACT < y < EXACT):
                self.flags += type(y) is bool
                y = _label(y, at)
            ts = record.timestamp if fields.ts is None else fields.ts
            return Event(fields.x, fields.task or "", at, y, fields.id, ts, None, fields.actions, fields.action)
        return self._checked(record)

    def _checked(self, record: Record) -> Event | Label:
        """As ``decode``, field by field."""
        at = record.origin
        if not record.value:
            remedy = (
                '; [input] tombstones = "ignore" passes over records without a value' if record.value is None else ""
            )
            raise EventError(f"{at}: the record is empty; wanted a JSON object with `x`, or with `id` and `y`{remedy}")
        if len(record.value) > self._max_record_bytes:
            self.too_long += 1
            raise EventError(
                f"{at}: the record has {len(record.value)} bytes, wanted at most {self._max_record_bytes}; "
                "make it smaller or raise input.max_record_bytes"
            )
        fields = self._read(record) if not record.headers else self._read_sent_on(record)
        task = _short("" if fields.task is None else str(fields.task), "the task tag", at)
        y = _label(fields.y, at)
        if fields.y is True or fields.y is False:
            self.flags += 1
        id_ = None if fields.id is None else _short(str(fields.id), "`id`", at)
        if fields.x is None:
            if y is None and isinstance(fields.problem, str):
                raise EventError(f"{at}: {fields.problem[:_LONGEST]}")
            if y is None:
                raise EventError(
                    f"{at}: neither an event nor a late label; "
                    "wanted `x` (an event without features has an empty one), `y`, or `id` and `y`"
                )
            if id_ is not None:
                return Label(id=id_, y=y, task=task, origin=at, source=first_origin(record))
            fields.x = {}  # a label that names no event is an event of its own, with nothing to look at
        _check_features(fields.x, at, self._long_texts)
        ts = _seconds(fields.ts, record, at)
        return Event(
            x=fields.x,
            task=task,
            origin=at,
            y=y,
            id=id_,
            ts=ts,
            source=first_origin(record),
            actions=fields.actions,
            action=fields.action,
        )

    def _read_sent_on(self, record: Record) -> RawEvent:
        """As always, but for labels from a topic of their own, which were brought into the README's shape."""
        problem = next((content for name, content in record.headers if name == LABEL_HEADER), None)
        if problem is None:
            return self._read(record)
        if problem:
            raise EventError(f"{record.origin}: {problem.decode(errors='replace')[:_LONGEST]}")
        return self._read_json(record)

    def _read_json(self, record: Record) -> RawEvent:
        try:
            fields = self._json.decode(record.value or b"")
        except UNREADABLE as err:
            fields = read_again(self._json.decode, record.value or b"", record.origin, err)
        if self._task_from != "field":
            fields.task = self._task(record)
        return fields

    def _task(self, record: Record) -> str:
        if self._task_from == "key":
            raw = record.key
        else:
            raw = next((value for name, value in record.headers if name == self._task_header), None)
        if raw is None:
            return ""
        try:
            return raw.decode()
        except UnicodeDecodeError as err:
            raise EventError(
                f"{record.origin}: the task tag in the {self._task_from} is {raw[:_SHOWN]!r}, wanted UTF-8 text"
            ) from err


def first_origin(record: Record) -> str | None:
    """Where a record came from before it was sent on; None where it was not."""
    if not record.headers:
        return None
    found = next((content for name, content in record.headers if name == ORIGIN_HEADER), None)
    return None if found is None else found.decode(errors="replace")


def time_made(record: Record) -> float | None:
    """When a record was made, seconds since 1970, also where it was sent on since; None where nothing says it."""
    said = next((content for name, content in record.headers if name == TIME_HEADER), None) if record.headers else None
    try:
        made = math.nan if said is None else float(said)
    except ValueError:  # a producer's own header of that name
        made = math.nan
    return made if is_moment(made) else record.timestamp


def task_to_forget(record: Record) -> str | None:
    """The tag of the task that this record asks to forget, whatever the format of events is; None: it asks nothing.

    Raises:
        EventError: the tag is not UTF-8, or too long.
    """
    raw = next((value for name, value in record.headers if name == FORGET_HEADER), None)
    if raw is None:
        return None
    try:
        return _short(raw.decode(), "the tag in the header streammeta-forget", record.origin)
    except UnicodeDecodeError as err:
        raise EventError(
            f"{record.origin}: the tag in the header {FORGET_HEADER} is {raw[:_SHOWN]!r}, wanted UTF-8 text"
        ) from err


def _label(y: LabelValue | None, at: Origin) -> LabelValue | None:
    """A label as streammeta keeps it: flags become 0 and 1, whole floats become whole numbers."""
    if isinstance(y, bool):
        return int(y)
    if isinstance(y, (int, float)):
        if not abs(y) < LARGEST:  # also NaN
            raise EventError(f"{at}: `y` is {shown_number(y)}, wanted a number below {LARGEST:.0e} or a class name")
        return int(y) if float(y).is_integer() and abs(y) < EXACT else float(y)
    return None if y is None else _short(y, "`y`", at)


def _short(text: str, what: str, at: Origin) -> str:
    if len(text) > _LONGEST:
        raise EventError(f"{at}: {what} has {len(text)} characters, wanted at most {_LONGEST}: {text[:50]!r}…")
    return text


def _check_features(x: Mapping[str, Feature] | Sequence[float | None], at: Origin, long_texts: Set[str]) -> None:
    if not x or _is_plain(x):
        return
    named = x.items() if isinstance(x, Mapping) else enumerate(x)
    for name, value in named:
        if isinstance(name, str):
            _short(name, "the name of a feature", at)
        if isinstance(value, str) and name not in long_texts:
            _short(value, f"feature {str(name)[:_SHOWN]!r}", at)
        if isinstance(value, int | float) and not abs(value) < LARGEST:  # also NaN
            raise EventError(
                f"{at}: feature {str(name)[:_SHOWN]!r} is {shown_number(value)}, wanted a finite number below "
                f"{LARGEST:.0e}, or null"
            )


def shown_number(value: object) -> str:
    """A number as messages have it: whole ones may be longer than Python writes (4,300 digits) or a reader reads.

    The largest float stands for infinity, which JSON does not have.

    >>> shown_number(1e39), shown_number(-12), shown_number(10**5000), shown_number(-1.7976931348623157e308)
    ('1e+39', '-12', 'a whole number of 16610 bits', '-inf')
    """
    if isinstance(value, int) and value.bit_length() > _SHORT_BITS:
        return f"a whole number of {value.bit_length()} bits"
    if isinstance(value, float) and abs(value) == sys.float_info.max:
        return str(math.copysign(math.inf, value))
    return str(value)


def _is_plain(x: Mapping[str, Feature] | Sequence[float | None]) -> bool:
    """Whether these are numbers by short names, none of them too large: most events are."""
    if not isinstance(x, dict):
        return False
    values = x.values()
    if not _PLAIN.issuperset(map(type, values)):
        return False
    return max(map(len, x)) <= _LONGEST and min(values) > -LARGEST and max(values) < LARGEST  # JSON has no NaN


def _seconds(ts: float | str | None, record: Record, at: Origin) -> float | None:
    if ts is None:
        return time_made(record) if record.headers else record.timestamp
    if isinstance(ts, str):
        try:
            moment = datetime.fromisoformat(ts)
        except ValueError as err:
            raise EventError(f"{at}: `ts` is {ts[:_SHOWN]!r}, wanted seconds since 1970 or ISO 8601 text") from err
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        if not is_moment(seconds):  # its zone takes it out of the calendar
            raise EventError(f"{at}: `ts` is {ts[:_SHOWN]!r}, wanted a time of the years 1 to 9999, in UTC")
        return seconds
    if not _FIRST <= ts <= LATEST:
        raise EventError(f"{at}: `ts` is {ts}, wanted seconds since 1970; are these milliseconds?")
    return ts


def is_moment(seconds: float) -> bool:
    """Whether seconds since 1970 lie in the years 1 to 9999, as all that is shown or split into hours and days does.

    >>> is_moment(0.0), is_moment(-7e10), is_moment(3e11), is_moment(math.nan)
    (True, False, False, False)
    """
    return _FIRST <= seconds < _END
