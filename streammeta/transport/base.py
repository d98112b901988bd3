"""The seam between streammeta and the world: where records come from, where results go.

The service owns the loop; a transport only answers. Every wait is bounded by the caller.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import msgspec

from streammeta.event import Record

__all__ = [
    "ChangelogReader",
    "GroupSource",
    "Message",
    "OnPartitions",
    "Partition",
    "Positions",
    "Row",
    "Sink",
    "Source",
    "TransactionalSink",
]

Partition: TypeAlias = tuple[str, int]  # topic, partition number
OnPartitions: TypeAlias = Callable[[Collection[Partition]], None]  # called with partitions that come or go
Positions: TypeAlias = Mapping[Partition, int]  # the next offset to read, by partition


class Message(msgspec.Struct, frozen=True, gc=False):
    """One result to publish."""

    channel: str  # "predictions", "signals" or "dead-letters"; a transport maps it to a topic or a file
    value: bytes | None  # None, in a compacted topic: forget what this key said
    key: bytes | None = None  # the task, so that a task's results keep their order
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int | None = None  # of the input, where it goes to the same one; None: the key decides


@runtime_checkable
class Source(Protocol):
    """Where records come from. Records of one partition come in order of their offsets, each once per reading."""

    def poll(self, max_records: int, timeout_seconds: float) -> Sequence[Record]:
        """The next records, at most ``max_records``, after at most ``timeout_seconds``; empty when there are none."""

    @property
    def exhausted(self) -> bool:
        """Whether nothing will ever come again (the end of a file); a topic never is."""

    def assigned(self) -> Mapping[Partition, int]:
        """Partitions this source reads now, each with its next offset."""

    def seek(self, positions: Positions) -> None:
        """Go on reading from these offsets; partitions not assigned (yet) are kept for when they are."""

    def commit(self, positions: Positions) -> None:
        """Remember these next offsets for the next reader; raises TransportError when that cannot be done."""

    def lag(self) -> Mapping[Partition, int]:
        """Records known to be waiting, by partition; empty when the transport does not know."""

    def close(self) -> None:
        """Let go of everything; may be called twice."""


@runtime_checkable
class Sink(Protocol):
    """Where results go."""

    def send(self, messages: Sequence[Message]) -> None:
        """Hand over results; they are safe only after ``flush``."""

    def flush(self, timeout_seconds: float) -> None:
        """Return when all that was sent is safe; raises TransportError when it is not in time."""

    def close(self) -> None:
        """Flush and let go; may be called twice."""


class Row(NamedTuple):
    """One record of a table."""

    channel: str
    partition: int
    key: bytes
    value: bytes | None  # None: this key is forgotten
    offset: int = -1  # its place in the partition; −1: not known


@runtime_checkable
class GroupSource(Source, Protocol):
    """A source that is a member of a group, in which partitions move from one member to another."""

    def member(self) -> object:
        """Who we are in the group now: by this a `TransactionalSink` proves that the partitions are still ours."""

    @property
    def is_stable(self) -> bool:
        """Whether the group is at rest; while it shares out partitions, a commit may come too late."""

    def begins(self) -> Positions:
        """The first offsets that the logs of our partitions still hold; empty when the broker does not say in time."""

    def ends(self) -> Positions:
        """Where the logs of our partitions end now, as the broker says; empty when it does not in time."""

    def pause(self, partitions: Collection[Partition]) -> None:
        """Hand out nothing of these partitions until ``resume``; in ``on_assigned``, for those that come."""

    def resume(self, partitions: Collection[Partition]) -> None:
        """Hand out records of these partitions again."""

    def rewind(self) -> None:
        """Go back to the committed offset in every partition that is ours; raises TransactionError when not in time."""


@runtime_checkable
class TransactionalSink(Protocol):
    """Where results, state and offsets go together: all of a transaction, or nothing."""

    def send(self, messages: Sequence[Message]) -> None:
        """Hand over messages; the first after a commit begins a transaction. Raises TransactionError."""

    def commit(self, positions: Positions, member: object) -> None:
        """Make it count, with these next offsets; raises TransactionError when it does not, or nobody knows.

        Args:
            positions: where the next reader begins.
            member: who says so; refused when the group has meanwhile given the partitions to somebody else. None, with
                no positions: no offsets go with it, as of a producer that is in no group.
        """

    def reset(self) -> None:
        """Abort what was sent, and be ready for another transaction; raises TransactionError when not in time.

        Nothing that was sent before can be committed any more, by anybody, unless it is already.
        """

    def evict(self) -> None:
        """Abort the transactions of members that are gone: until then nobody can read past them."""

    def close(self) -> None:
        """Abort what was not committed, and let go; may be called twice."""


@runtime_checkable
class ChangelogReader(Protocol):
    """Compacted topics, read from their beginning: the last value of each key is what holds."""

    def begin(self, channel: str, partition: int) -> None:
        """Read this partition from its first record; of one that is being read already, note how far it has grown."""

    def poll(self, timeout_seconds: float) -> Sequence[Row]:
        """The next committed rows of everything begun. Raises TransactionError."""

    def missing(self, channel: str, partition: int) -> int:
        """How many offsets there are to go, to the end that ``begin`` saw; 0 when all of it was polled."""

    def end(self, channel: str, partition: int) -> None:
        """Read no more of it."""

    def close(self) -> None:
        """Let go of everything; may be called twice."""
