"""Texts of objects that are something else: dates and times as text, and numbers with fractions as text.

The first objects of a file decide it, for each field: only where all of its texts are so.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from streammeta.errors import EventError
from streammeta.event import Feature
from streammeta.formats.mapping import Mapper
from streammeta.formats.moment import ORDERS, Order, order_of, seconds_of
from streammeta.formats.value import flatten

__all__ = ["read_texts"]

_FRACTION = re.compile(r"[-+]?\d*\.\d+")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def read_texts(objects: Iterable[Mapping[str, Any]], mapper: Mapper) -> tuple[Mapper, str]:
    """The mapper that reads such texts of these objects as what they are, and a description of what was found.

    Args:
        objects: the first of a file, nested or not.
        mapper: knows which fields are what.
    """
    readers = dict(_readers(objects))
    if not readers:
        return mapper, ""
    found = mapper.with_texts({field: _Text(order) for field, order in readers.items()})
    return found, ", ".join(_description(readers))


class _Text:
    """Reads a field's texts: dates of an order, or numbers; what is neither stays text."""

    def __init__(self, order: Order | None) -> None:
        self._order = order

    def __call__(self, text: str) -> Feature:
        if self._order is not None:
            seconds = seconds_of(text, self._order)
            return text if seconds is None else seconds
        try:
            return float(text)
        except ValueError:
            return text


def _readers(objects: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Order | None]]:
    """Fields whose texts are all dates, with their order, or all numbers, some with fractions."""
    texts = defaultdict[str, list[str]](list)
    for one in objects:
        try:
            for field, value in one.items():
                for full, inner in flatten(value, field, ""):
                    if isinstance(inner, str) and inner.strip():
                        texts[full].append(inner.strip())
        except EventError:
            continue
    for field, found in texts.items():
        order = order_of(found)
        if order is not None:
            yield field, order
        elif any(map(_FRACTION.fullmatch, found)) and all(map(_NUMBER.fullmatch, found)):
            yield field, None


def _description(readers: Mapping[str, Order | None]) -> Iterator[str]:
    written = {field: order for field, order in readers.items() if order is not None}
    if written:
        times = (f"{field} ({ORDERS[order]})" if ORDERS[order] else field for field, order in written.items())
        yield f"times in {', '.join(times)}"
    numbers = [field for field, order in readers.items() if order is None]
    if numbers:
        yield f"numbers written as text in {', '.join(numbers)}"
