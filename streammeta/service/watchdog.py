"""Who watches that partitions which are ours, and have records waiting, advance: a client can stall without a word."""

from streammeta.transport.base import Partition, Positions

__all__ = ["Watchdog"]


class Watchdog:
    """Remembers when each partition was last seen to advance.

    >>> dog = Watchdog()
    >>> dog.stuck({("in", 0): 5}, {("in", 0): 9}, now=0.0), dog.stuck({("in", 0): 5}, {("in", 0): 9}, now=60.0)
    ({}, {('in', 0): 60.0})
    >>> dog.stuck({("in", 0): 6}, {("in", 0): 9}, now=61.0)
    {}
    """

    def __init__(self) -> None:
        self._seen: dict[Partition, tuple[int, float]] = {}  # position, and since when

    def stuck(self, positions: Positions, ends: Positions, now: float) -> dict[Partition, float]:
        """For how long the partitions with records waiting have not advanced; those that do are left out.

        Args:
            positions: of the partitions that are read now: what comes next.
            ends: where their logs end.
            now: in seconds, of any clock.
        """
        seen, found = {}, {}
        for partition, position in positions.items():
            before, since = self._seen.get(partition, (position, now))
            waits = ends.get(partition, position) > position
            seen[partition] = (position, since) if waits and position == before else (position, now)
            if waits and now > since and position == before:
                found[partition] = now - since
        self._seen = seen
        return found
