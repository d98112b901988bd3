"""What records say by a mapping: `Fields` put to work, on a topic's objects, rows of files and of frames."""

import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from datetime import UTC, datetime
from math import isfinite
from typing import Any, NamedTuple, TypeAlias

import msgspec
import structlog

from streammeta.bounds import EXACT, LATEST
from streammeta.errors import EventError
from streammeta.event import KEY_HEADER, Feature, Origin, RawEvent, Record, is_moment, shown_number
from streammeta.formats.fields import FIELD, HEADER, JOINT, KEY, OPTIONS, Fields, fits
from streammeta.formats.moment import Order, iso_seconds, seconds_of
from streammeta.formats.value import feature, flatten, label, tag
from streammeta.json_text import UNREADABLE

__all__ = ["Mapper", "encode", "encode_row", "original_key", "parse_seconds", "reshape"]

_read = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode
_log = structlog.get_logger(__name__)
_PLAIN = frozenset((bool, str, type(None)))
_FLOATS = frozenset((float,))
_IN_KEY = f"{KEY}."
_MOST_LAYOUTS = 1_000
_MOST_NAMES = 10_000  # whose pattern is remembered
_LOOKED_AT = 1_000  # records after which a field that was never there is said
_DAY = re.compile(r"(19|20)\d{6}")  # 20240131, which as a number would be a day in 1970
_CLEAR: Sequence[Order] = ("named", "ymd", "dmy")  # in which one date has one meaning; of dmy those with points
_SHOWN = 100  # characters of a refused value that a message repeats
_WANTED_TIME = "wanted seconds since 1970 or ISO 8601 text"


class _Layout(NamedTuple):
    """What objects of the same names have beside features."""

    others: tuple[str, ...]
    nested: tuple[tuple[str, frozenset[str]], ...]  # of these, objects, and the fields in them that are no features
    is_quick: bool  # whether all else is features, where it is numbers


class Mapper:
    """Reads what a record says by a mapping.

    Args:
        fields: the mapping.
        nests: an object or list under `x` holds all features, as in the README; else it is one like any other.
    """

    def __init__(self, fields: Fields, *, nests: bool = True) -> None:
        self.fields, self._nests = fields, nests
        self._task, self._id = (_joined(fields.names(option)) for option in ("task", "id"))
        self._label, self._time = _getter(fields.label), _getter(fields.time)
        self._used = frozenset(name for option in OPTIONS for name in self.columns(option))
        self._used_inside = frozenset(name.removeprefix("x.") for name in self._used if name.startswith("x."))
        self._markers, self._field_markers = _markers(fields.missing)
        self._marked = bool(fields.missing)
        self._takes_all = not fields.include and not fields.exclude
        self._layouts: dict[tuple[str, ...], _Layout] = {}
        self._texts: Mapping[str, Callable[[str], Feature]] = {}
        self._taken: dict[str, bool] = {}
        self._never = {o: fields.names(o) for o in OPTIONS if getattr(fields, o) != getattr(Fields(), o)}
        self._records = 0

    def with_texts(self, readers: Mapping[str, Callable[[str], Feature]]) -> "Mapper":
        """The same mapping for records in which these fields' texts are read further: as times, as numbers."""
        other = copy(self)
        other._texts = readers
        return other

    def read(self, given: Mapping[str, Any], at: Origin | str, record: Record | None = None) -> RawEvent:
        """What an object says. Without any feature, but with label and id, it is a late label.

        Args:
            given: names to values, nested or not.
            at: where it stands, for messages.
            record: has its key and headers, where it is of a topic.

        Raises:
            EventError: the label or a feature is of a type that means nothing here.
        """
        task, id_ = self._task(given, record, at), self._id(given, record, at)
        y, time = self._label(given, record), self._time(given, record)
        if self._never or self._records < _LOOKED_AT:
            self._watch(given, task=task, label=y, id=id_, time=time)
        x: dict[str, Feature] | None = self._features(given, at)
        if self._texts and x:
            x |= {name: read(text) for name, read in self._texts.items() if isinstance(text := x.get(name), str)}
        if self._marked:
            time = None if self.is_marker(self.fields.time, time) else time
            y = None if self.is_marker(self.fields.label, y) else y
        seconds = None if time is None else parse_seconds(time, self.fields.time, at)
        if isinstance(y, str) and self.fields.label in self._texts:
            y = self._texts[self.fields.label](y)
        target = None if y is None else _target(y, self.fields.label, at)
        if not x and target is not None and id_ is not None and self._nests and "x" not in given:
            x = None
        elif x is not None and seconds is not None and self.fields.time_features:
            x |= self.time_features(seconds)
        return RawEvent(x=x, y=target, task=task, id=id_, ts=seconds)

    def columns(self, option: str) -> tuple[str, ...]:
        """The fields or columns that make up the task, label, id or time; a key or a header is none."""
        names = (name for name in self.fields.names(option) if name != KEY and not name.startswith(HEADER))
        return tuple(name.removeprefix(FIELD) for name in names)

    def takes(self, name: str) -> bool:
        """Whether this is a feature: a pattern fits its name, or that of an object that it is in."""
        if self._takes_all:
            return True
        known = self._taken.get(name)
        if known is None:
            parts = name.split(".")
            names = [".".join(parts[: i + 1]) for i in range(len(parts))]
            known = (not self.fields.include or fits(names, self.fields.include)) and not fits(
                names, self.fields.exclude
            )
            if len(self._taken) < _MOST_NAMES:
                self._taken[name] = known
        return known

    def is_marker(self, name: str, value: object) -> bool:
        """Whether this value stands for a missing one, in this field."""
        if not self._marked:
            return False
        text = _as_text(value)
        return text in self._markers or (name, text) in self._field_markers

    def time_features(self, seconds: float) -> Iterator[tuple[str, Feature]]:
        """The features that are made of a time in seconds since 1970."""
        moment = datetime.fromtimestamp(seconds, UTC)
        values = {"hour": moment.hour, "weekday": moment.weekday(), "month": moment.month}
        return ((f"{self.fields.time}.{name}", values[name]) for name in self.fields.time_features if name in values)

    def _features(self, given: Mapping[str, Any], at: Origin | str) -> dict[str, Feature]:
        """All features by their names."""
        names = tuple(given)
        layout = self._layouts.get(names)
        if layout is None:
            layout = self._layout(names)
        if layout.is_quick and type(given) is dict:  # most records have the same names as others, and numbers
            for name, within in layout.nested:
                inner = given[name]
                if type(inner) is not dict or not within.issuperset(inner):
                    return self._each_feature(given, at)
            x = given.copy()
            for name in layout.others:
                del x[name]
            if _FLOATS.issuperset(map(type, x.values())) and isfinite(sum(x.values())):
                return x
        return self._each_feature(given, at)

    def _layout(self, names: tuple[str, ...]) -> "_Layout":
        """Where objects of these names have features."""
        outer = {name.partition(".")[0] for name in self._used if "." in name and name not in names}
        left = [name for name in names if name not in self._used and name not in outer]
        features = {name for name in left if self.takes(name)}
        is_whole = not any(self._may_take(name) for name in left if name not in features)  # or something in it may be
        nested = []
        for name in outer.intersection(names):
            prefix = f"{name}."
            within = frozenset(one.removeprefix(prefix) for one in self._used if one.startswith(prefix))
            nested.append((name, within))
        is_quick = is_whole and not self._marked and not (self._nests and "x" in names)
        layout = _Layout(tuple(name for name in names if name not in features), tuple(nested), is_quick)
        if len(self._layouts) < _MOST_LAYOUTS:
            self._layouts[names] = layout
        return layout

    def _each_feature(self, given: Mapping[str, Any], at: Origin | str) -> dict[str, Feature]:
        """All features by their names, one by one; the usual values are taken as they are."""
        inside, named, used = given.get("x") if self._nests else None, given, self._used
        if isinstance(inside, Mapping):
            named, used = {str(name): value for name, value in inside.items()}, self._used_inside
        elif isinstance(inside, list):
            named, used = {str(i): value for i, value in enumerate(inside)}, self._used_inside
        x: dict[str, Feature] = {}
        for name, value in named.items():
            kind = type(value)
            if kind is float:
                x[name] = value if value == value else None  # noqa: PLR0124 NaN is not itself
            elif kind in _PLAIN:
                x[name] = value
            elif kind is int:
                x[name] = _as_float(value)
            elif self._takes_all or self._may_take(name):
                x.update(_inside(value, name, at))
        for name in used:
            x.pop(name, None)
        return x if self._takes_all and not self._marked else self._chosen(x)

    def _may_take(self, name: str) -> bool:
        """Whether this, or something in it, is a feature; what is left out may be of any type."""
        include, exclude = self.fields.include, self.fields.exclude
        inside = any(pattern.startswith(f"{name}.") or "*" in pattern for pattern in include)
        return not fits([name], exclude) and (not include or inside or fits([name], include))

    def _chosen(self, x: dict[str, Feature]) -> dict[str, Feature]:
        """Those that patterns take, without values that stand for a missing one."""
        taken = {name: value for name, value in x.items() if self.takes(name)}
        if not self._marked:
            return taken
        return {name: None if self.is_marker(name, value) else value for name, value in taken.items()}

    def _watch(self, given: Mapping[str, Any], **found: object) -> None:
        """Say once that a field was never there: a misspelt label would be a stream without labels."""
        self._records += 1
        for option in [option for option in self._never if found[option] not in (None, "")]:
            del self._never[option]
        if self._records == _LOOKED_AT and self._never:
            wanted = {option: JOINT.join(names) for option, names in self._never.items()}
            _log.warning("fields that no record has yet", **wanted, records=_LOOKED_AT, found=sorted(given)[:20])
            self._never = {}


def reshape(line: bytes, mapper: Mapper, at: str) -> bytes:
    """A JSON object with other names, as an event's JSON; what is no object is handed on for the decoder to refuse.

    Args:
        line: the object. What it has beside the named fields is the features: under `x`, or all the rest, flattened.
        mapper: knows where it has what.
        at: where it stands, for messages.
    """
    try:
        given = _read(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return line
    return encode(mapper, given, at)


def encode(mapper: Mapper, given: Mapping[str, Any], at: str) -> bytes:
    """An object as an event's JSON; one that means nothing as an object that the decoder refuses, with the reason."""
    try:
        return encode_row(mapper, given, at)
    except EventError as err:
        return _encode({"problem": str(err).removeprefix(f"{at}: ")})


def encode_row(mapper: Mapper, given: Mapping[str, Any], at: str) -> bytes:
    """An object as an event's JSON.

    Raises:
        EventError: it means nothing; the message says what and where.
    """
    raw = mapper.read(given, at)
    raw.y = _finite(raw.y)
    if isinstance(raw.x, dict):
        raw.x = {name: _finite(value) for name, value in raw.x.items()}
    try:
        return _encode(raw)
    except (UnicodeEncodeError, OverflowError) as err:
        raise EventError(f"{at}: {str(err)[:_SHOWN]}") from err


def _finite(value: Any) -> Any:  # noqa: ANN401 a cell
    """JSON has no infinity; the decoder refuses the largest float, which stands for it."""
    return math.copysign(sys.float_info.max, value) if isinstance(value, float) and math.isinf(value) else value


def parse_seconds(value: object, name: str, at: Origin | str) -> float | None:
    """A time as seconds since 1970, UTC where it names no zone.

    >>> parse_seconds("2024-01-31", "at", "doc"), parse_seconds(1706659200000, "at", "doc")
    (1706659200.0, 1706659200.0)

    Args:
        value: seconds, milli-, micro- or nanoseconds (known by their size, for times after 1973), ISO 8601 text,
            or a time of Python, NumPy or pandas.
        name: the field's, for the message.
        at: where it stands, for the message.

    Raises:
        EventError: it is none of these.
    """
    read = value if type(value) is float or type(value) is int else feature(value, name, at)
    if isinstance(read, str):
        text = read.strip()
        try:
            number = None if _DAY.fullmatch(text) else float(text)
        except ValueError:
            number = None
        if number is None:
            return _iso_seconds(text, name, at)
        read = number
    if read is None or read != read:  # noqa: PLR0124 NaN is not itself
        return None
    scale = next((scale for scale in (1.0, 1e3, 1e6, 1e9) if abs(read) <= LATEST * scale), 0.0)
    if not scale or not is_moment(read / scale):
        raise EventError(f"{at}: the time {name!r} is {shown_number(read)}, {_WANTED_TIME}")
    return read / scale


def _iso_seconds(text: str, name: str, at: Origin | str) -> float | None:
    try:
        seconds: float | None = iso_seconds(text)
    except (ValueError, OverflowError):
        found = (seconds_of(text, order) for order in _CLEAR if order != "dmy" or "." in text)
        seconds = next((one for one in found if one is not None), None)
    if seconds is None or not is_moment(seconds):
        raise EventError(f"{at}: the time {name!r} is {text[:_SHOWN]!r}, {_WANTED_TIME}")
    return seconds


def _inside(value: Any, name: str, at: Origin | str) -> Iterator[tuple[str, Feature]]:  # noqa: ANN401 what records hold
    """What a nested or an unusual value holds, by dotted names."""
    if type(value) is not dict:
        yield from ((full, _as_float(one)) for full, one in flatten(value, name, at))
        return
    for key, one in value.items():
        kind, full = type(one), f"{name}.{key}"
        if kind in _PLAIN or (kind is float and one == one):  # noqa: PLR0124 NaN is not itself
            yield full, one
        else:
            yield from ((inner, _as_float(found)) for inner, found in flatten(one, full, at))


def _as_float(value: Feature) -> Feature:
    """Whole numbers as floats, as the decoder of the README's shape reads them; those too large for one as they are."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if is_whole and -EXACT <= value <= EXACT else value  # type: ignore[operator, arg-type]


def _target(value: object, name: str, at: Origin | str) -> Any:  # noqa: ANN401 a label's value
    if type(value) in (int, str, bool):
        return value
    try:
        return label(value, at)
    except EventError as err:
        raise EventError(
            f"{at}: the label {name!r} is {_kind(value)}, wanted a number, a flag or text; name another field as label"
        ) from err


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return "an object"
    return "a list" if isinstance(value, list | tuple) else f"a {type(value).__name__}"


_Get: TypeAlias = Callable[[Mapping[str, Any], Record | None], Any]


def _getter(name: str) -> _Get:
    """What finds a field in an object, or in its record's key or headers."""
    if name == KEY:
        return lambda _, record: None if record is None else _text(record, original_key(record), "key")
    if name.startswith(HEADER):
        wanted = name.removeprefix(HEADER)
        return lambda _, record: None if record is None else _text(record, _header(record, wanted), name)
    if name.startswith(_IN_KEY):
        return _key_getter(name)
    path = name.removeprefix(FIELD)
    if "." not in path:
        return lambda given, _: given.get(path)
    first, _, rest = path.partition(".")

    def find(given: Mapping[str, Any], _: Record | None) -> Any:  # noqa: ANN401 what records hold
        inner = given.get(first)
        if type(inner) is dict and rest in inner and path not in given:
            return inner[rest]
        return given[path] if path in given else _dotted(given, path)

    return find


def _key_getter(name: str) -> _Get:
    """What finds a field in the object that a record's key is; a field of the record itself of that path wins."""
    path = name.removeprefix(_IN_KEY)

    def find(given: Mapping[str, Any], record: Record | None) -> Any:  # noqa: ANN401 what records hold
        if KEY in given or name in given:
            return given[name] if name in given else _dotted(given, name)
        key = None if record is None else original_key(record)
        if record is None or key is None:
            return None
        try:
            return _dotted(_read(key), path)
        except UNREADABLE as err:
            raise EventError(f"{record.origin}: the key is {key!r:.100}, wanted a JSON object with {path!r}") from err

    return find


def _joined(names: Sequence[str]) -> Callable[[Mapping[str, Any], Record | None, Origin | str], str | None]:
    """What finds a tag or an id, which are text; None where no part of it is there."""
    getters = [_getter(name) for name in names]
    if len(getters) == 1:
        (get,), (name,) = getters, names

        def find_one(given: Mapping[str, Any], record: Record | None, at: Origin | str) -> str | None:
            value = get(given, record)
            return (value if type(value) is str else tag(_single(value, name, at), at)) or None

        return find_one

    def find(given: Mapping[str, Any], record: Record | None, at: Origin | str) -> str | None:
        parts = [tag(_single(get(given, record), name, at), at) for get, name in zip(getters, names, strict=True)]
        return JOINT.join(parts) if any(parts) else None

    return find


def _single(value: Any, name: str, at: Origin | str) -> Any:  # noqa: ANN401 what records hold
    if isinstance(value, Mapping | list):
        raise EventError(f"{at}: {name!r} is {_kind(value)}, wanted text or a number; name a field inside it")
    return value


def _dotted(given: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401 what records hold
    first, dot, rest = path.partition(".")
    if path in given:
        return given[path]
    inner = given.get(first) if dot else None
    if not isinstance(inner, Mapping):
        return None
    return inner[rest] if rest in inner else _dotted(inner, rest)


def original_key(record: Record) -> bytes | None:
    """The key that the producer gave; a record that was sent on has it in a header."""
    return _header(record, KEY_HEADER) or record.key


def _header(record: Record, wanted: str) -> bytes | None:
    return next((value for name, value in record.headers if name == wanted), None)


def _text(record: Record, raw: bytes | None, what: str) -> str | None:
    try:
        return None if raw is None else raw.decode()
    except UnicodeDecodeError as err:
        raise EventError(
            f"{record.origin}: the {what} is {raw!r:.100}, wanted UTF-8 text; name a field of the record instead"
        ) from err


def _markers(missing: Sequence[str]) -> tuple[frozenset[str], frozenset[tuple[str, str]]]:
    """Markers of all fields, and those of single ones."""
    pairs = [marker.partition("=") for marker in missing]
    everywhere = frozenset(_as_text(name) for name, equals, _ in pairs if not equals)
    return everywhere, frozenset((name, _as_text(value)) for name, equals, value in pairs if equals)


def _as_text(value: object) -> str:
    """A value so that -999, -999.0 and "-999" are the same."""
    text = str(value).strip()
    try:
        return repr(float(text))
    except ValueError:
        return text
