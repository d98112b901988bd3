"""Processes that die, or fail, at a chosen point of a log in memory."""

from collections import Counter
from typing import Final

__all__ = ["CRASH_POINTS", "Crash", "Crashes"]

CRASH_POINTS: Final = ("after poll", "before send", "before commit", "after commit", "during restore")


class Crash(BaseException):
    """The process is gone: a BaseException, so that nothing on the way catches it."""


class Crashes:
    """What happens at which passing of which point; give it to ``MemoryLog(..., at=...)``.

    >>> crashes = Crashes({("before commit", 2): Crash()})
    >>> crashes("before commit"), crashes.passed["before commit"]
    (None, 1)

    Args:
        plan: (point, how often it was passed then) -> what is raised there: a `Crash`, or a TransactionError for a
            commit that fails. Each happens once.

    Raises:
        ValueError: there is no such point.
    """

    def __init__(self, plan: dict[tuple[str, int], BaseException] | None = None) -> None:
        self._plan = dict(plan or {})
        self.passed: Counter[str] = Counter()
        for point, _ in self._plan:
            if point not in CRASH_POINTS:
                raise ValueError(f"crash: got the point {point!r}, wanted one of {', '.join(CRASH_POINTS)}")

    def __call__(self, point: str) -> None:
        """Note that a point is passed; raises what is planned for it."""
        self.passed[point] += 1
        planned = self._plan.pop((point, self.passed[point]), None)
        if planned is not None:
            raise planned
