"""Records that were set aside: which reasons there were, and how often each."""

import re
from collections.abc import Iterator

__all__ = ["Refusals", "kind_of"]

_MOST_REASONS = 100  # kinds kept apart; what comes later is counted as others
_VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|[-+]?\d[\d.,e+-]*")
_LONGEST = 300  # characters of a reason that is shown


class Refusals:
    """Counts reasons of one kind together, whatever names and numbers they mention; the first of each is kept.

    >>> refusals = Refusals()
    >>> for row in range(3):
    ...     refusals.add(f"events/0/{row}: `y` is {row}.5, wanted a class")
    >>> list(refusals.lines())
    ['3 × events/0/0: `y` is 0.5, wanted a class']
    """

    def __init__(self) -> None:
        self.count = 0
        self._kinds: dict[str, tuple[int, str]] = {}  # how often, and the first in full
        self._others = 0

    def add(self, reason: str) -> None:
        """Count one record that was set aside for this reason."""
        self.count += 1
        kind = kind_of(reason)
        if kind in self._kinds:
            count, first = self._kinds[kind]
            self._kinds[kind] = count + 1, first
        elif len(self._kinds) < _MOST_REASONS:
            self._kinds[kind] = 1, reason[:_LONGEST]
        else:
            self._others += 1

    def figures(self) -> list[dict[str, object]]:
        """Ready for JSON: the commonest first."""
        ordered = sorted(self._kinds.values(), key=lambda kind: -kind[0])
        found: list[dict[str, object]] = [{"count": count, "reason": reason} for count, reason in ordered]
        return found + ([{"count": self._others, "reason": "other reasons"}] if self._others else [])

    def lines(self, most: int = 5) -> Iterator[str]:
        """The commonest reasons, a line each."""
        found = self.figures()
        for one in found[:most]:
            yield f"{one['count']:,} × {one['reason']}"
        if found[most:]:
            yield f"and {len(found) - most} other kinds of reasons"


def kind_of(reason: str) -> str:
    """What reasons of one kind have in common: without the record's origin, names and numbers.

    >>> kind_of("events/0/7: `y` is 2.5, wanted a class")
    '`y` is … wanted a class'
    """
    _, _, what = reason.partition(": ")
    return _VARYING.sub("…", what or reason)
