"""Single values as Python, NumPy, pandas and polars have them, read into numbers, flags, text and "missing".

One rule for every door (a River estimator, a data frame, a file): a missing value is missing, a time is seconds since
1970, a duration is seconds, and what has no meaning here is refused by name.
"""

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import numpy as np

from streammeta.bounds import EXACT
from streammeta.errors import EventError
from streammeta.event import Feature, LabelValue, Origin, shown_number

__all__ = ["feature", "flatten", "is_missing", "label", "tag", "target"]

_PLAIN = frozenset((bool, int, str))
_NAMED_MISSING = frozenset(("NAType", "NaTType", "MaskedConstant"))  # pandas' and NumPy's, without importing pandas
_DEEPEST = 8  # objects inside objects


def is_missing(value: object) -> bool:
    """Whether this stands for "no value": None, any library's NaN or NaT, pandas' NA, NumPy's masked.

    >>> is_missing(None), is_missing(float("nan")), is_missing(np.datetime64("NaT")), is_missing(""), is_missing(0)
    (True, True, True, False, False)
    """
    if value is None:
        return True
    if type(value) in _PLAIN:
        return False
    if type(value).__name__ in _NAMED_MISSING:
        return True
    if isinstance(value, Decimal):
        return value.is_nan()
    try:
        return bool(value != value)  # noqa: PLR0124 only NaN and NaT differ from themselves
    except (TypeError, ValueError):  # an array, or something else that is no single value
        return False


def feature(value: object, name: object, at: Origin | str) -> Feature:
    """A single value as the engine reads it.

    Args:
        value: a number, flag, text, time, date, duration or decimal, of Python, NumPy, pandas or polars.
        name: the feature's, for the message.
        at: where it stands, for the message.

    Returns:
        A float, int, bool or str; times as seconds since 1970 (UTC where they name no zone), durations as seconds,
        times of day as seconds since midnight; None where it is missing.

    Raises:
        EventError: it is of another type; the message names the feature, the type and the remedy.
    """
    if value is None or type(value) in _PLAIN:
        return value  # type: ignore[return-value]  # one of those types
    if is_missing(value):
        return None
    if isinstance(value, str | UUID):
        return str(value)
    seconds = _seconds(value)
    if seconds is not None:
        return seconds
    if callable(getattr(value, "item", None)) and not getattr(value, "ndim", None):
        return feature(value.item(), name, at)  # type: ignore[attr-defined]  # it was just seen to be there
    try:
        return float(value)  # type: ignore[arg-type]  # that is the question
    except (TypeError, ValueError, OverflowError) as err:
        raise EventError(
            f"{at}: feature {str(name)[:100]!r} is a {type(value).__name__}, wanted a number, a flag, text, a time or "
            "None; turn it into one of these (text: str(value), a frame's column: .astype(str)) or leave it out "
            "(exclude)"
        ) from err


def _seconds(value: object) -> float | None:
    """A time or duration in seconds; None where it is neither."""
    if isinstance(value, np.datetime64):
        return float(value.astype("datetime64[us]").astype(np.int64)) / 1e6
    if isinstance(value, np.timedelta64):
        return float(value.astype("timedelta64[us]").astype(np.int64)) / 1e6
    if isinstance(value, date | timedelta | time):
        return _python_seconds(value)
    return None


def _python_seconds(value: date | timedelta | time) -> float:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return 3600.0 * value.hour + 60.0 * value.minute + value.second + value.microsecond / 1e6


def flatten(value: object, name: str, at: Origin | str) -> Iterator[tuple[str, Feature]]:
    """A value as features: objects by dotted names, lists by numbers, anything else by itself.

    >>> dict(flatten({"size": {"cm": [3, 4]}, "red": True}, "item", "doc"))
    {'item.size.cm.0': 3, 'item.size.cm.1': 4, 'item.red': True}

    Raises:
        EventError: a value is refused by ``feature``, or objects are nested more than 8 deep.
    """
    if isinstance(value, Mapping | list | tuple) or _is_array(value):
        yield from _nested(value, name, at, _DEEPEST)
    else:
        yield name, feature(value, name, at)


def _is_array(value: object) -> bool:
    return bool(getattr(value, "ndim", None)) and hasattr(value, "tolist")


def _nested(value: object, name: str, at: Origin | str, levels: int) -> Iterator[tuple[str, Feature]]:
    if _is_array(value):
        value = value.tolist()  # type: ignore[attr-defined]  # arrays have it
    if not isinstance(value, Mapping | list | tuple):
        yield name, feature(value, name, at)
        return
    if not levels:
        raise EventError(f"{at}: feature {name[:100]!r} has objects nested more than {_DEEPEST} deep; flatten it first")
    inner = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, one in inner:
        yield from _nested(one, f"{name}.{key}", at, levels - 1)


def label(value: object, at: Origin | str) -> LabelValue | None:
    """A label as the engine reads it: a class (whole number or text) or a target; None where it is missing.

    Raises:
        EventError: it is of a type that is neither.
    """
    read = feature(value, "y", at)
    return int(read) if isinstance(read, bool) else read


def target(value: object, what: str, at: Origin | str) -> float | None:
    """A target or a reward; None where it is missing.

    Args:
        value: as ``label`` takes it.
        what: what it is called in the message, "the reward" for instance.
        at: where it stands, for the message.

    Raises:
        EventError: it is no number, or too large for one.
    """
    read = label(value, at)
    try:
        found = None if read is None else float(read)
    except (ValueError, OverflowError):
        found = math.inf
    if isinstance(read, str) or (found is not None and not math.isfinite(found)):
        shown = repr(read[:100]) if isinstance(read, str) else shown_number(read)
        raise EventError(f"{at}: {what} is {shown}, wanted a finite number") from None
    return found


def tag(value: object, at: Origin | str) -> str:
    """A task's tag as text; "" where it is missing. Whole floats lose their ".0": pandas makes them of integers.

    >>> tag(7, "doc"), tag(7.0, "doc"), tag(None, "doc"), tag("north", "doc")
    ('7', '7', '', 'north')

    Raises:
        EventError: it is a whole number too long to be written.
    """
    if is_missing(value):
        return ""
    plain = value.item() if isinstance(value, np.generic) and not isinstance(value, np.datetime64) else value
    if isinstance(plain, float) and plain.is_integer() and abs(plain) <= EXACT:
        return str(int(plain))
    try:
        return str(plain)
    except ValueError:  # Python writes 4,300 digits of a number
        raise EventError(f"{at}: a tag or id is {shown_number(plain)}, wanted a shorter one; send it as text") from None
