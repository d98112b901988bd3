"""A log with transactions and groups in this process: what a broker does, for tests of recovery a few lines long.

A reader sees committed records only, and nothing after a transaction that is still open; members of a group get
partitions and have to give them back before others have them; a producer whose name another one took is fenced.
``at`` is called at every point where a test may want something to happen at.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from streammeta.errors import TransactionError
from streammeta.event import Origin, Record
from streammeta.transport.base import Message, OnPartitions, Partition, Positions, Row

__all__ = ["MemoryChangelogReader", "MemoryLog", "MemoryMember", "MemoryTransactionalSink"]


@dataclass(slots=True)
class _Transaction:
    by: str
    state: Literal["open", "committed", "aborted"] = "open"


@dataclass(frozen=True, slots=True)
class _Entry:
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    transaction: _Transaction | None


@dataclass(slots=True)
class _Membership:
    epoch: int
    owned: set[Partition] = field(default_factory=set)


class MemoryLog:
    """Topics, the offsets of one group, and who may write.

    Args:
        topic: the input.
        partitions: of every topic.
        at: called with the name of each point that is passed; it may raise.
    """

    def __init__(self, topic: str, partitions: int = 1, *, at: Callable[[str], None] = lambda _: None) -> None:
        self.topic, self.partitions, self.at = topic, partitions, at
        self.committed: dict[Partition, int] = {}
        self._entries: dict[Partition, list[_Entry]] = {}
        self._begins: dict[Partition, int] = {}
        self._stable: dict[Partition, int] = {}  # before it no transaction is open, nor will one be
        self._members: dict[str, _Membership] = {}
        self._producers: dict[str, _Transaction | None] = {}
        self._epochs: dict[str, int] = {}
        self._joined = 0

    def append(
        self, value: bytes | None, partition: int, key: bytes | None = None, headers: tuple[tuple[str, bytes], ...] = ()
    ) -> None:
        """Add a record to the input, outside of any transaction."""
        self.write(self.topic, partition, Message("", value, key, headers), None)

    def delete_before(self, partition: int, offset: int) -> None:
        """Hold no record of the input before this offset any more, as after its retention."""
        self._begins[self.topic, partition] = offset

    def log_begin(self, topic: str, partition: int) -> int:
        """The first offset that is still held."""
        return self._begins.get((topic, partition), 0)

    def read(self, topic: str, partition: int, begin: int = 0, most: int | None = None) -> list[tuple[int, _Entry]]:
        """The records visible from an offset on, with their offsets; ``most`` of them at most."""
        found: list[tuple[int, _Entry]] = []
        entries = self._entries.get((topic, partition), [])
        for offset in range(max(begin, self.log_begin(topic, partition)), self.stable_end(topic, partition)):
            if len(found) == most:
                break
            entry = entries[offset]
            if entry.transaction is None or entry.transaction.state == "committed":
                found.append((offset, entry))
        return found

    def values(self, topic: str) -> list[bytes]:
        """The visible values of a topic, partition by partition."""
        return [entry.value or b"" for number in range(self.partitions) for _, entry in self.read(topic, number)]

    def end(self, topic: str, partition: int) -> int:
        """The offset after the last record, visible or not."""
        return len(self._entries.get((topic, partition), []))

    def stable_end(self, topic: str, partition: int) -> int:
        """Where the first open transaction begins; nobody reads past it."""
        at, entries = self._stable.get((topic, partition), 0), self._entries.get((topic, partition), [])
        while at < len(entries) and not ((one := entries[at].transaction) and one.state == "open"):
            at += 1
        self._stable[topic, partition] = at
        return at

    @property
    def open_transactions(self) -> list[str]:
        """Who has one."""
        return [by for by, transaction in self._producers.items() if transaction and transaction.state == "open"]

    # -- for the other classes here ------------------------------------------------------------------------------------

    def write(self, topic: str, partition: int, message: Message, transaction: _Transaction | None) -> None:
        """Append a record."""
        entry = _Entry(message.key, message.value, message.headers, transaction)
        self._entries.setdefault((topic, partition), []).append(entry)

    def join(self, name: str) -> int:
        """A member comes; one of the same name is gone. Returns its epoch."""
        self.leave(name)
        self._joined += 1
        self._members[name] = _Membership(self._joined)
        return self._joined

    def leave(self, name: str) -> None:
        """A member is gone, or taken for dead: its partitions are free."""
        self._members.pop(name, None)

    def owned(self, name: str, epoch: int) -> set[Partition] | None:
        """The partitions of a member; None when it is a member no more."""
        found = self._members.get(name)
        return None if found is None or found.epoch != epoch else found.owned

    def wanted(self, name: str) -> set[Partition]:
        """What a member should have: partitions go round in the order in which the members came."""
        names = list(self._members)
        return {(self.topic, number) for number in range(self.partitions) if names[number % len(names)] == name}

    def free(self, partition: Partition) -> bool:
        """Whether nobody has it."""
        return all(partition not in member.owned for member in self._members.values())

    def fence(self, name: str) -> int:
        """A producer takes a name: what the one before had open is aborted. Returns its epoch."""
        before = self._producers.get(name)
        if before is not None and before.state == "open":
            before.state = "aborted"
        self._producers[name] = None
        self._epochs[name] = self._epochs.get(name, 0) + 1
        return self._epochs[name]

    def begin(self, name: str, epoch: int) -> _Transaction:
        """The transaction a producer has open, or a new one."""
        if self._epochs.get(name) != epoch:
            raise TransactionError(f"{self.topic}: {name!r} is fenced: another producer took its name")
        open_ = self._producers[name]
        if open_ is None or open_.state != "open":
            open_ = self._producers[name] = _Transaction(name)
        return open_

    def evict(self) -> None:
        """Abort what those have open who are no members."""
        for name in self.open_transactions:
            if name not in self._members:
                self.fence(name)


class MemoryMember:
    """A source that is a member of the log's group."""

    def __init__(
        self,
        log: MemoryLog,
        name: str,
        *,
        on_revoked: OnPartitions,
        on_assigned: OnPartitions,
        on_lost: OnPartitions,
        on_coming: OnPartitions = lambda _: None,
        closed: bool = True,
    ) -> None:
        self._log, self._name, self._closed = log, name, closed
        self._on_revoked, self._on_assigned, self._on_lost = on_revoked, on_assigned, on_lost
        self._on_coming = on_coming
        self._epoch = log.join(name)
        self._next: dict[Partition, int] = {}
        self._paused: set[Partition] = set()

    def poll(self, max_records: int, timeout_seconds: float) -> Sequence[Record]:
        """Take part in the group, then hand out records of the partitions in turn."""
        self._take_part()
        records: list[Record] = []
        for (topic, number), begin in self._next.items():
            if (topic, number) in self._paused:
                continue
            for offset, entry in self._log.read(topic, number, begin, max_records - len(records)):
                records.append(Record(entry.value, Origin(topic, number, offset), entry.key, entry.headers))
                self._next[topic, number] = offset + 1
        if not records and not self._closed:
            time.sleep(min(timeout_seconds, 0.01))
        self._log.at("after poll")
        return records

    @property
    def exhausted(self) -> bool:
        """Whether all input was read that is there; only where nothing else is to come."""
        ours = self._log.owned(self._name, self._epoch)
        return self._closed and bool(self._next) and ours == self._next.keys() and not self._waiting()

    def assigned(self) -> Mapping[Partition, int]:
        """Partitions that are ours."""
        return dict(self._next)

    def seek(self, positions: Positions) -> None:
        """Go on from these offsets."""
        self._next |= {partition: at for partition, at in positions.items() if partition in self._next}

    def commit(self, positions: Positions) -> None:
        """Not here: a `TransactionalSink` commits."""
        raise TransactionError(f"{self._log.topic}: offsets {dict(positions)} go with a transaction")

    def lag(self) -> Mapping[Partition, int]:
        """Records waiting."""
        return {(topic, number): self._log.end(topic, number) - at for (topic, number), at in self._next.items()}

    def close(self) -> None:
        """Leave the group."""
        if self._log.owned(self._name, self._epoch) is not None:
            self._log.leave(self._name)

    def member(self) -> object:
        """Our name, and the epoch in which we joined."""
        return self._name, self._epoch

    def begins(self) -> Positions:
        """Where our logs begin."""
        return {(topic, number): self._log.log_begin(topic, number) for topic, number in self._next}

    def ends(self) -> Positions:
        """Where our logs end."""
        return {(topic, number): self._log.stable_end(topic, number) for topic, number in self._next}

    @property
    def is_stable(self) -> bool:
        """Always: here partitions move in no time."""
        return True

    def pause(self, partitions: Collection[Partition]) -> None:
        """Hand out nothing of these."""
        self._paused |= set(partitions)

    def resume(self, partitions: Collection[Partition]) -> None:
        """Hand out records of these again."""
        self._paused -= set(partitions)

    def rewind(self) -> None:
        """Back to the committed offsets."""
        self._next = {partition: self._log.committed.get(partition, 0) for partition in self._next}

    def _take_part(self) -> None:
        owned = self._log.owned(self._name, self._epoch)
        if owned is None:  # taken for dead: all is lost, and we come again
            lost = list(self._next)
            try:
                if lost:
                    self._on_lost(lost)
            finally:
                self._next.clear()
                self._epoch = self._log.join(self._name)
            return
        wanted = self._log.wanted(self._name)
        if owned - wanted:
            try:
                self._on_revoked(owned - wanted)
            finally:
                for partition in owned - wanted:
                    del self._next[partition]
                owned &= wanted
        come = {partition for partition in wanted - owned if self._log.free(partition)}
        if come:
            self._on_coming(sorted(come))
            owned |= come
            self._next |= {partition: self._log.committed.get(partition, 0) for partition in sorted(come)}
            self._on_assigned(sorted(come))

    def _waiting(self) -> bool:
        return any(self._log.read(topic, number, at, 1) for (topic, number), at in self._next.items())


class MemoryTransactionalSink:
    """Writes to the log, in transactions. Topics are called by their channels."""

    def __init__(self, log: MemoryLog, name: str) -> None:
        self._log, self._name = log, name
        self._epoch = log.fence(name)

    def send(self, messages: Sequence[Message]) -> None:
        """Append; visible after the commit."""
        self._log.at("before send")
        for message in messages:
            number = 0 if message.partition is None else message.partition
            self._log.write(message.channel, number, message, self._log.begin(self._name, self._epoch))

    def commit(self, positions: Positions, member: object) -> None:
        """All of it, with the offsets."""
        self._log.at("before commit")
        transaction = self._log.begin(self._name, self._epoch)
        is_member = isinstance(member, tuple) and self._log.owned(*member) is not None
        if not is_member and (positions or member is not None):
            raise TransactionError(f"{self._log.topic}: {self._name!r} is a member no more")
        transaction.state = "committed"
        self._log.committed |= positions
        self._log.at("after commit")

    def reset(self) -> None:
        """Abort, and take the name again."""
        self._epoch = self._log.fence(self._name)

    def evict(self) -> None:
        """Abort the transactions of members that are gone."""
        self._log.evict()

    def close(self) -> None:
        """Abort what is open."""
        if self._name in self._log.open_transactions:
            self._log.fence(self._name)


class MemoryChangelogReader:
    """Reads the log's topics, called by their channels, from the beginning."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._next: dict[Partition, int] = {}
        self._ends: dict[Partition, int] = {}

    def begin(self, channel: str, partition: int) -> None:
        """Read, or note how far it has grown."""
        self._next.setdefault((channel, partition), 0)
        self._ends[channel, partition] = self._log.end(channel, partition)

    def poll(self, timeout_seconds: float) -> Sequence[Row]:  # noqa: ARG002 nothing to wait for
        """What is there and was not polled yet."""
        rows = []
        for channel, number in self._next:
            found = self._log.read(channel, number, self._next[channel, number])
            rows += [Row(channel, number, entry.key or b"", entry.value, offset) for offset, entry in found]
            self._next[channel, number] = self._log.stable_end(channel, number)
        if rows:
            self._log.at("during restore")
        return rows

    def missing(self, channel: str, partition: int) -> int:
        """Offsets to go."""
        return max(0, self._ends[channel, partition] - self._next[channel, partition])

    def end(self, channel: str, partition: int) -> None:
        """Read no more of it."""
        self._next.pop((channel, partition), None)
        self._ends.pop((channel, partition), None)

    def close(self) -> None:
        """Nothing to let go of."""
