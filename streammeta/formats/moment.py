"""Dates and times as text: ISO 8601, and as spreadsheets write them (31.01.2024, 1/31/2024 4:05 PM)."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal, TypeAlias

__all__ = ["ORDERS", "Order", "order_of", "seconds_of"]

Order: TypeAlias = Literal["iso", "ymd", "dmy", "mdy"]
ORDERS = {"iso": "", "ymd": "", "dmy": "day, month, year", "mdy": "month, day, year"}  # what is said of it
_ISO = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d([.,]\d+)?)?([Zz]|[-+]\d\d:?\d\d| ?(UTC|GMT))?)?")
_DATE = re.compile(
    r"(\d{1,4})([./-])(\d{1,2})\2(\d{4}|\d{1,2})"
    r"(?:,?[T ]+(\d{1,2}):(\d\d)(?::(\d\d)(?:[.,]\d+)?)?(?: ?([AaPp])\.?[Mm]\.?)?)?"
)


def order_of(texts: Sequence[str]) -> Order | None:
    """How all of these write a date, two at least; None where they are no dates, or where it is not sure how.

    Of 1/31/2024 and 31/1/2024 the number above 12 is the day. Where there is none, the one with more values is.

    >>> order_of(["2024-01-31", "2024-02-01T10:00Z"]), order_of(["31.01.2024", "1.2.2024 10:00"])
    ('iso', 'dmy')
    >>> order_of(["1/1/2024", "1/31/2024"]), order_of(["1/2/2024", "1/3/2024"]), order_of(["1/2/2024", "2/1/2024"])
    ('mdy', 'mdy', None)
    """
    if len(texts) < 2:
        return None
    if all(map(_ISO.fullmatch, texts)):
        return "iso"
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
    """Seconds since 1970, UTC where the text names no zone; None where it is no date of this order.

    >>> seconds_of("31.01.2024", "dmy"), seconds_of("1/31/2024 4:05 PM", "mdy"), seconds_of("31/1/2024", "mdy")
    (1706659200.0, 1706717100.0, None)
    """
    text = text.strip()
    try:
        if order == "iso":
            iso = text.removesuffix("UTC").removesuffix("GMT").rstrip()
            moment = datetime.fromisoformat(iso) if _ISO.fullmatch(text) else None
            return None if moment is None else (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        match = _DATE.fullmatch(text)
        if match is None:
            return None
        first, _, second, third, hour, minute, second_of_minute, half = match.groups()
        year, month, day = {
            "ymd": (first, second, third),
            "dmy": (third, second, first),
            "mdy": (third, first, second),
        }[order]
        hours = int(hour or 0)
        if half is not None:
            hours = hours % 12 + (12 if half in "pP" else 0)
        century = 2000 if len(year) < 3 else 0
        moment = datetime(
            int(year) + century, int(month), int(day), hours, int(minute or 0), int(second_of_minute or 0), tzinfo=UTC
        )
        return moment.timestamp()
    except ValueError:
        return None
