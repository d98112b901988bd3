"""Dates, times and durations as text: ISO 8601, and as people write them (31.01.2024, 1/31/2024 4:05 PM, 31 Jan)."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Literal, TypeAlias

__all__ = ["ORDERS", "Order", "iso_seconds", "order_of", "seconds_of"]

Order: TypeAlias = Literal["iso", "ymd", "dmy", "mdy", "named", "clock"]
ORDERS = {  # what is said of it
    "iso": "",
    "ymd": "",
    "dmy": "day, month, year",
    "mdy": "month, day, year",
    "named": "",
    "clock": "hours, minutes, seconds",
}
_ISO = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d+)?)?([Zz]|[-+]\d\d:?\d\d| ?(UTC|GMT))?)?"
    r"|\d{4}-?W[0-5]\d(-?[1-7])?|\d{4}-(0[1-9]|1[0-2])|\d{4}-?Q[1-4]"
)
_MONTH, _QUARTER = re.compile(r"\d{4}-\d\d"), re.compile(r"(\d{4})-?Q([1-4])")
_DATE = re.compile(
    r"(\d{1,4})([./-])(\d{1,2})\2(\d{4}|\d{1,2})"
    r"(?:,?[T ]+(\d{1,2}):(\d\d)(?::(\d\d)(?:[.,]\d+)?)?(?: ?([AaPp])\.?[Mm]\.?)?)?"
)
_NAMED = re.compile(  # 31-Jan-2024, Jan 31, 2024, Wed, 31 Jan 2024 10:00:00 GMT, 31/Jan/2024:10:00:00 +0000
    r"(?:[A-Za-z]{3,9},? )?"
    r"(?:(?P<day>\d{1,2})(?:st|nd|rd|th)?[-/. ] ?(?P<month>[A-Za-z]{3,9})"
    r"|(?P<month2>[A-Za-z]{3,9})\.? (?P<day2>\d{1,2}))"
    r"(?:st|nd|rd|th)?[-/., ]{1,2}(?P<year>\d{4}|\d\d)"
    r"(?:[T:, ]{1,2}(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.\d+)?)?"
    r"(?: ?(?P<half>[AaPp])\.?[Mm]\.?)?)?"
    r"(?: ?(?P<zone>UTC|GMT|Z|[-+]\d\d:?\d\d))?"
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_CLOCK = re.compile(r"(-)?(?:(\d+) days?,? )?(\d{1,3}):([0-5]\d)(?::([0-5]\d(?:[.,]\d+)?))?")


def order_of(texts: Sequence[str]) -> Order | None:
    """How all of these write a date or a duration, two at least; None where they are none, or it is not sure how.

    Of 1/31/2024 and 31/1/2024 the number above 12 is the day. Where there is none, the one with more values is.

    >>> order_of(["2024-01-31", "2024-02-01T10:00Z"]), order_of(["31.01.2024", "1.2.2024 10:00"])
    ('iso', 'dmy')
    >>> order_of(["1/1/2024", "1/31/2024"]), order_of(["1/2/2024", "1/3/2024"]), order_of(["1/2/2024", "2/1/2024"])
    ('mdy', 'mdy', None)
    >>> order_of(["2024-W01", "2024-W02"]), order_of(["31-Jan-2024", "1-Feb-2024"]), order_of(["0:59:30", "12:00:01"])
    ('iso', 'named', 'clock')
    """
    if len(texts) < 2:
        return None
    for order, is_written in _FORMS.items():
        if all(map(is_written, texts)):
            return order
    found = [match.groups() for text in texts if (match := _DATE.fullmatch(text))]
    if len(found) < len(texts) or len({one[1] for one in found}) > 1:
        return None
    firsts, seconds = ({int(one[i] or 0) for one in found} for i in (0, 2))
    fits: dict[Order, bool] = {
        "ymd": min(firsts) > 999 and max(seconds) <= 12,
        "dmy": max(firsts) <= 31 and max(seconds) <= 12,
        "mdy": max(firsts) <= 12 and max(seconds) <= 31 and found[0][1] != ".",
    }
    possible = [order for order, is_possible in fits.items() if is_possible]
    if len(possible) < 2:
        return possible[0] if possible else None
    return None if len(firsts) == len(seconds) else "dmy" if len(firsts) > len(seconds) else "mdy"


def seconds_of(text: str, order: Order) -> float | None:
    """Seconds since 1970, UTC where the text names no zone, or a duration's; None where it is not of this order.

    >>> seconds_of("31.01.2024", "dmy"), seconds_of("1/31/2024 4:05 PM", "mdy"), seconds_of("31/1/2024", "mdy")
    (1706659200.0, 1706717100.0, None)
    >>> seconds_of("Jan 31, 2024", "named"), seconds_of("2024-01", "iso"), seconds_of("1 days 00:01:30", "clock")
    (1706659200.0, 1704067200.0, 86490.0)
    """
    read = _READERS.get(order)
    try:
        return _ordered(text.strip(), order) if read is None else read(text.strip())
    except (ValueError, OverflowError):
        return None


def iso_seconds(text: str) -> float:
    """Seconds since 1970 of ISO 8601, of a month (2024-01), or of a quarter (2024-Q1): of their first moment.

    Raises:
        ValueError: it is none of these.
    """
    quarter = _QUARTER.fullmatch(text)
    if quarter is not None:
        text = f"{quarter[1]}-{3 * int(quarter[2]) - 2:02}"
    if _MONTH.fullmatch(text):
        text += "-01"
    moment = datetime.fromisoformat(text.removesuffix("UTC").removesuffix("GMT").rstrip())
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _iso(text: str) -> float | None:
    return iso_seconds(text) if _ISO.fullmatch(text) else None


def _ordered(text: str, order: Order) -> float | None:
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    first, _, second, third, hour, minute, second_of_minute, half = match.groups()
    year, month, day = {
        "ymd": (first, second, third),
        "dmy": (third, second, first),
        "mdy": (third, first, second),
    }[order]
    return _moment(year, int(month), day, (hour, minute, second_of_minute, half)).timestamp()


def _named(text: str) -> float | None:
    match = _NAMED.fullmatch(text)
    month = None if match is None else (match["month"] or match["month2"]).lower()[:3]
    if match is None or month not in _MONTHS:
        return None
    day = match["day"] or match["day2"]
    moment = _moment(match["year"], _MONTHS.index(month) + 1, day, match.group("hour", "minute", "second", "half"))
    zone = match["zone"] or "Z"
    if zone[0] in "+-":
        hours = timedelta(hours=int(zone[:3]), minutes=int(zone[0] + zone[-2:]))
        moment = moment.replace(tzinfo=timezone(hours))
    return moment.timestamp()


def _moment(year: str, month: int, day: str, clock: Sequence[str | None]) -> datetime:
    """A moment of UTC; ValueError where there is none such."""
    hours, minutes, seconds = (int(one or 0) for one in clock[:3])
    if clock[3] is not None:
        hours = hours % 12 + (12 if clock[3] in "pP" else 0)
    return datetime(int(year) + (2000 if len(year) < 3 else 0), month, int(day), hours, minutes, seconds, tzinfo=UTC)


def _clock(text: str) -> float | None:
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    sign, days, hours, minutes, seconds = match.groups()
    total = 86400 * int(days or 0) + 3600 * int(hours) + 60 * int(minutes) + float((seconds or "0").replace(",", "."))
    return -float(total) if sign else float(total)


def _is_named(text: str) -> bool:
    return seconds_of(text, "named") is not None


_FORMS: Mapping[Order, Callable[[str], object]] = {
    "iso": _ISO.fullmatch,
    "clock": _CLOCK.fullmatch,
    "named": _is_named,
}
_READERS: Mapping[Order, Callable[[str], float | None]] = {"iso": _iso, "named": _named, "clock": _clock}
