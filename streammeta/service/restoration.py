"""Bringing back a partition's tasks from the changelog, a slice at a time, so that polling goes on meanwhile."""

from collections.abc import Callable, Iterator
from typing import Final

from streammeta.engine.handover import Changelog, Handover
from streammeta.engine.handover.record import Key
from streammeta.service.result import STATE
from streammeta.transport.base import ChangelogReader, Row

__all__ = ["OWN", "Restoration"]

OWN: Final = Key("own", 0, "").encode()  # with what such records' keys begin


class Restoration:
    """One partition on its way back: first its records are read, then its tasks are taken in.

    Args:
        tables: where the changelog is.
        name: the application's, for messages.
        partition: the input partition.
        records: takes what is read; None: it is held in memory.
    """

    def __init__(self, tables: ChangelogReader, name: str, partition: int, records: Changelog | None = None) -> None:
        self.partition = partition
        self.rows = 0  # records read
        self.tasks = 0  # taken in so far
        self.own: dict[bytes, bytes] = {}  # by key, what is of the partition and of no task
        self._tables, self._at = tables, f"{name}-{STATE}/{partition}"
        self._records = Changelog.in_memory() if records is None else records
        self._taking: Iterator[int] | None = None
        tables.begin(STATE, partition)

    @property
    def missing(self) -> int:
        """Offsets still to be read."""
        return 0 if self._taking is not None else self._tables.missing(STATE, self.partition)

    def read(self, row: Row) -> None:
        """Take note of a record; the last one of each key holds."""
        self.rows += 1
        if row.value is not None and row.key.startswith(OWN):
            self.own[row.key] = row.value
        else:
            self._records.put(row.key, row.value)

    def take(self, handover: Handover, until: float, clock: Callable[[], float]) -> bool:
        """Go on taking tasks in until that time; True when all is back, False while there is more to do.

        Raises:
            SnapshotError: a record cannot be read; nothing is guessed at.
        """
        if self.missing:
            return False
        if self._taking is None:
            self._end()
            self._taking = handover.take(self.partition, self._records, self._at)
        for tasks in self._taking:
            self.tasks = tasks
            if clock() >= until:
                return False
        self._records.close()
        return True

    def close(self) -> None:
        """Read no more, and hold nothing any more."""
        self._end()
        self._taking = None
        self._records.close()

    def _end(self) -> None:
        self._tables.end(STATE, self.partition)
