"""Bringing back a partition's tasks from the changelog, a slice at a time, so that polling goes on meanwhile."""

from collections.abc import Callable, Iterator

from streammeta.engine.handover import Handover
from streammeta.service.result import STATE
from streammeta.transport.base import ChangelogReader, Row

__all__ = ["Restoration"]


class Restoration:
    """One partition on its way back: first its records are read, then its tasks are taken in.

    Args:
        tables: where the changelog is.
        name: the application's, for messages.
        partition: the input partition.
    """

    def __init__(self, tables: ChangelogReader, name: str, partition: int) -> None:
        self.partition = partition
        self.rows = 0  # records read
        self.tasks = 0  # taken in so far
        self._tables, self._at = tables, f"{name}-{STATE}/{partition}"
        self._latest: dict[bytes, bytes] = {}
        self._taking: Iterator[int] | None = None
        tables.begin(STATE, partition)

    @property
    def missing(self) -> int:
        """Offsets still to be read."""
        return 0 if self._taking is not None else self._tables.missing(STATE, self.partition)

    def read(self, row: Row) -> None:
        """Take note of a record; the last one of each key holds."""
        self.rows += 1
        self._latest.pop(row.key, None)  # the order of keys is that of their last records
        if row.value is not None:
            self._latest[row.key] = row.value

    def take(self, handover: Handover, until: float, clock: Callable[[], float]) -> bool:
        """Go on taking tasks in until that time; True when all is back, False while there is more to do.

        Raises:
            SnapshotError: a record cannot be read; nothing is guessed at.
        """
        if self.missing:
            return False
        if self._taking is None:
            self.close()
            self._taking = handover.take(self.partition, self._latest, self._at)
        for tasks in self._taking:
            self.tasks = tasks
            if clock() >= until:
                return False
        self._latest = {}
        return True

    def close(self) -> None:
        """Read no more."""
        self._tables.end(STATE, self.partition)
