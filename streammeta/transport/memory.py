"""Records and results in this process: for tests, for the demo, for a caller with events of its own."""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from zlib import crc32

from msgspec.structs import replace

from streammeta.errors import TransportError
from streammeta.event import Origin, Record
from streammeta.transport.base import Message, Partition, Positions

__all__ = ["MemorySink", "MemorySource"]


class MemorySource:
    """A topic in memory. It can be fed while it is read, from another thread too.

    >>> source = MemorySource([b'{"x": [1]}', b'{"x": [2]}'])
    >>> [str(record.origin) for record in source.poll(10, timeout_seconds=0)]
    ['memory/0/0', 'memory/0/1']
    >>> source.exhausted
    True

    Args:
        records: values, or whole records, whose origins are written again; drawn only as they are polled, so an endless
            generator will do.
        partitions: a record goes to the partition its key says; records without a key go round.
        topic: the name in the origins.
        closed: whether nothing comes after ``records``; with False :meth:`append` adds, :meth:`finish` ends.
        forget_committed: let go of records before the committed offset, so that a long stream takes no memory.
    """

    def __init__(
        self,
        records: Iterable[bytes | Record] = (),
        *,
        partitions: int = 1,
        topic: str = "memory",
        closed: bool = True,
        forget_committed: bool = False,
    ) -> None:
        if partitions < 1:
            raise TransportError(f"{topic}: got {partitions} partitions, wanted at least 1")
        self._topic = topic
        self._logs = {(topic, number): _Log() for number in range(partitions)}
        self._committed: dict[Partition, int] = {}
        self._forget = forget_committed
        self._keyless = 0
        self._inlet = iter(records)
        self._finished = closed
        self._changed = threading.Condition()

    def append(self, record: bytes | Record) -> None:
        """Add one record at the end of its partition.

        Raises:
            TransportError: :meth:`finish` was called before, or the source was never open.
        """
        with self._changed:
            if self._finished:
                raise TransportError(f"{self._topic}: append() after finish(); open the source with closed=False")
            self._place(record)
            self._changed.notify_all()

    def finish(self) -> None:
        """Say that nothing will be appended any more; the source is exhausted once all is read."""
        with self._changed:
            self._finished = True
            self._changed.notify_all()

    @property
    def committed(self) -> Mapping[Partition, int]:
        """The offsets given to :meth:`commit`, the last ones by partition."""
        return dict(self._committed)

    def poll(self, max_records: int, timeout_seconds: float) -> Sequence[Record]:
        """The next records: those left in the partitions in turn, then those drawn, in their own order."""
        deadline = time.monotonic() + timeout_seconds
        with self._changed:
            while not self._ready() and not self._finished:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            return list(islice(self._take(), max_records))

    @property
    def exhausted(self) -> bool:
        """Whether it is finished and all is read."""
        with self._changed:
            return self._finished and not self._ready()

    def assigned(self) -> Mapping[Partition, int]:
        """Every partition, with its next offset."""
        with self._changed:
            return {partition: log.next for partition, log in self._logs.items()}

    def seek(self, positions: Positions) -> None:
        """Go on from these offsets; partitions that this source does not have are passed over.

        Raises:
            TransportError: the records there were committed, and let go of.
        """
        with self._changed:
            for partition, offset in positions.items():
                log = self._logs.get(partition)
                if log is not None and offset < log.first:
                    raise TransportError(
                        f"{partition[0]}/{partition[1]}: offset {offset} is gone, {log.first} is first"
                    )
                if log is not None:
                    self._draw_up_to(log, offset)
                    log.next = offset

    def commit(self, positions: Positions) -> None:
        """Keep them, for :attr:`committed`."""
        with self._changed:
            self._committed.update(positions)
            for partition, offset in positions.items():
                if self._forget and partition in self._logs:
                    self._logs[partition].forget(offset)

    def lag(self) -> Mapping[Partition, int]:
        """Records in the partitions that are not read yet; those not drawn yet cannot be counted."""
        with self._changed:
            return {partition: max(0, log.end - log.next) for partition, log in self._logs.items()}

    def close(self) -> None:
        """Nothing is appended any more."""
        self.finish()

    def _place(self, record: bytes | Record) -> None:
        given = record if isinstance(record, Record) else Record(record, Origin(self._topic, 0, 0))
        if given.key is None:
            self._keyless += 1
        number = (self._keyless - 1 if given.key is None else crc32(given.key)) % len(self._logs)
        log = self._logs[self._topic, number]
        log.records.append(replace(given, origin=Origin(self._topic, number, log.end)))

    def _draw(self) -> bool:
        for record in self._inlet:
            self._place(record)
            return True
        return False

    def _draw_up_to(self, log: "_Log", offset: int) -> None:
        while log.end < offset and self._draw():
            pass

    def _ready(self) -> bool:
        return any(log.next < log.end for log in self._logs.values()) or self._draw()

    def _take(self) -> Iterator[Record]:
        """One record of each partition that has one, and round again."""
        while self._ready():
            for log in self._logs.values():
                if log.next < log.end:
                    log.next += 1
                    yield log.records[log.next - 1 - log.first]


class _Log:
    """One partition: the records from offset ``first`` on, and the offset to read next."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.first = 0
        self.next = 0

    @property
    def end(self) -> int:
        return self.first + len(self.records)

    def forget(self, offset: int) -> None:
        gone = max(0, min(offset, self.next) - self.first)
        del self.records[:gone]
        self.first += gone


class MemorySink:
    """Keeps results in lists, by channel."""

    def __init__(self) -> None:
        self.channels: dict[str, list[Message]] = {}

    def __getitem__(self, channel: str) -> list[Message]:
        """The messages of one channel, oldest first; empty when there are none."""
        return self.channels.get(channel, [])

    def send(self, messages: Sequence[Message]) -> None:
        """Keep them."""
        for message in messages:
            self.channels.setdefault(message.channel, []).append(message)

    def flush(self, timeout_seconds: float) -> None:
        """They are as safe as they get."""

    def close(self) -> None:
        """Nothing to let go of: the lists stay readable."""
