"""The seam between streammeta and the world: where records come from, where results go.

The service owns the loop; a transport only answers. Every wait is bounded by the caller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from streammeta.event import Record

__all__ = ["Message", "Partition", "Positions", "Sink", "Source"]

Partition: TypeAlias = tuple[str, int]  # topic, partition number
Positions: TypeAlias = Mapping[Partition, int]  # the next offset to read, by partition


@dataclass(frozen=True, slots=True)
class Message:
    """One result to publish."""

    channel: str  # "predictions", "signals" or "dead-letters"; a transport maps it to a topic or a file
    value: bytes
    key: bytes | None = None  # the task, so that a task's results keep their order
    headers: tuple[tuple[str, bytes], ...] = ()


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
        """Remember these next offsets for whoever reads on; raises TransportError when that cannot be done."""

    def lag(self) -> Mapping[Partition, int]:
        """Records known to be waiting, by partition; empty when the transport cannot tell."""

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
