"""Who watches that partitions which are ours, and have records waiting, advance: a client can stall without a word."""

from collections.abc import Callable, Collection

import structlog

from streammeta.errors import TransportError
from streammeta.transport.base import GroupSource, Partition, Positions

__all__ = ["Streak", "Watchdog"]

_log = structlog.get_logger(__name__)
_EVERY_SECONDS = 20.0
_EXCUSED = 0.9  # of the time in which polls are full does not count: who waits then mostly waits for us
_APART_SECONDS = 120.0  # failures that are further apart are not one after the other


class Streak:
    """Transactions that failed one after the other, and for how long: in the end they are given up.

    Args:
        what: what fails, for messages.
        most_seconds: how long.
    """

    def __init__(self, what: str, most_seconds: float) -> None:
        self._what, self._most = what, most_seconds
        self.count = 0
        self._since = self._last = 0.0

    def add(self, err: TransportError, now: float) -> None:
        """Another one failed.

        Raises:
            TransportError: it goes on like this for too long: then a restart may help, or somebody who reads the cause.
        """
        if not self.count or now > self._last + _APART_SECONDS:
            self.count, self._since = 0, now
        self.count, self._last = self.count + 1, now
        if now > self._since + self._most:
            raise TransportError(
                f"{self._what} failed {self.count} times in {now - self._since:.0f} s, the last time because of: {err}"
                "; ended, so that a restart can help (see [kafka] stuck_seconds)"
            ) from err

    def end(self) -> None:
        """One came through."""
        self.count = 0


class Watchdog:
    """Remembers when each partition was last seen to advance.

    A member with a backlog takes records of one partition after the other, and slow ones (each explained, say) keep the
    others waiting for minutes. So while polls are full, time counts a tenth.

    >>> dog = Watchdog()
    >>> dog.stuck({("in", 0): 5}, {("in", 0): 9}, now=0.0), dog.stuck({("in", 0): 5}, {("in", 0): 9}, now=60.0)
    ({}, {('in', 0): 60.0})
    >>> dog.stuck({("in", 0): 6}, {("in", 0): 9}, now=61.0)
    {}
    """

    def __init__(self) -> None:
        self._look_at = self._before = 0.0
        self._seen: dict[Partition, tuple[int, float]] = {}  # position, and since when

    def stuck(
        self, positions: Positions, ends: Positions, now: float, *, is_full: bool = False
    ) -> dict[Partition, float]:
        """For how long the partitions with records waiting have not advanced; those that do are left out.

        Args:
            positions: of the partitions that are read now: what comes next.
            ends: where their logs end.
            now: in seconds, of any clock.
            is_full: polls bring as many records as are taken at a time: more wait at the client.
        """
        seen, found = {}, {}
        excused, self._before = _EXCUSED * (now - self._before) if is_full else 0.0, now
        for partition, position in positions.items():
            before, since = self._seen.get(partition, (position, now))
            since = min(now, since + excused)
            waits = ends.get(partition, position) > position
            seen[partition] = (position, since) if waits and position == before else (position, now)
            if waits and now > since and position == before:
                found[partition] = now - since
        self._seen = seen
        return found

    def look(
        self,
        source: GroupSource,
        partitions: Collection[Partition],
        now: float,
        *,
        most: float,
        show: Callable[[int], None],
        is_full: bool = False,
    ) -> None:
        """Say which of these partitions are stuck, unless it is too soon to look again.

        Args:
            source: whose they are.
            partitions: those that are read.
            now: in seconds.
            most: seconds after which it is given up.
            show: called with how many are stuck.
            is_full: polls bring as many records as are taken at a time.

        Raises:
            TransportError: one is stuck for longer.
        """
        if now < self._look_at:
            return
        every = min(_EVERY_SECONDS, most / 4)
        self._look_at = now + every
        at = {partition: at for partition, at in source.assigned().items() if partition in partitions}
        found = self.stuck(at, source.ends(), now, is_full=is_full) if at else {}
        stuck = {partition: seconds for partition, seconds in found.items() if seconds > 0.9 * every}
        show(len(stuck))
        for (topic, number), seconds in stuck.items():
            where = (
                f"{topic}/{number}: records wait from offset {at[topic, number]} on, but none came for {seconds:.0f} s"
            )
            if seconds > most:
                raise TransportError(f"{where}; ended, so that a restart can help (see [kafka] stuck_seconds)")
            _log.error("partition does not advance", where=where)
