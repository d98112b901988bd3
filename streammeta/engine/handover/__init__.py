"""Tasks on the move: what changed in each partition as records, and a partition's records as tasks again.

A task's row goes as it is, but for φ where the window makes the same again (``staleness``): then it is left out, most
of the bytes with it. Where another process numbered features or classes otherwise, the numbers are translated and φ,
which was derived under the other numbering, is derived again from the window when the task is next touched.

    record    what stands in the topic, byte by byte          giving    tasks as records
    meaning   numbers of another process, as numbers here     taking    records as tasks
"""

from collections.abc import Iterator, Mapping

from streammeta.engine.handover.changelog import Changelog, Held
from streammeta.engine.handover.giving import Change, Giving
from streammeta.engine.handover.taking import Taking
from streammeta.engine.handover.written import Written
from streammeta.engine.memory import Memory

__all__ = ["Change", "Changelog", "Handover"]


class Handover:
    """Gives tasks away and takes them, partition by partition. One an engine: it knows what is written already."""

    def __init__(self, memory: Memory) -> None:
        self._memory, self._written = memory, Written()
        self._held = Held(memory.settings.memory.spill_directory)
        self._giving, self._taking = Giving(memory, self._written), Taking(memory, self._written)

    def changes(self) -> Iterator[Change]:
        """What changed since this was last asked. The caller must write it, or drop the engine."""
        return self._giving.changes()

    def take(self, partition: int, records: Mapping[bytes, bytes], at: str) -> Iterator[int]:
        """Take in a partition's tasks from the last value of each key; yields, now and then, how many so far.

        Args:
            partition: whose tasks they are.
            records: everything its changelog holds.
            at: where that is, for messages.

        Raises:
            SnapshotError: a record cannot be read, or was written under other settings.
        """
        return self._taking.take(partition, records, at)

    def collect(self) -> Changelog:
        """What holds a partition's changelog while it is read, for ``take``; on disk where it is large."""
        return Changelog(self._held)

    def forget(self, partition: int) -> None:
        """Drop a partition's tasks: another process has them now."""
        self._memory.tasks.forget(partition)
        self._memory.waiting.forget(partition)
        self._memory.presence.forget(partition)
        self._written.forget(partition)
        self._memory.partitions.forget(partition)
