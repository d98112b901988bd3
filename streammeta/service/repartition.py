"""Records that are not keyed by task, sent on so that each task has one partition: exactly once, in a thread beside.

Each record goes, with its value and headers as they were, to the topic NAME-repartition under its task as key, and
carries where it came from. A record that cannot be read goes on too, to be set aside where all are.
"""

import threading
import time
from collections.abc import Callable, Iterable

import structlog

from streammeta.errors import EventError, StreammetaError, TransactionError
from streammeta.event import ORIGIN_HEADER, Decoder, Record
from streammeta.transport.base import GroupSource, Message, Partition, TransactionalSink

__all__ = ["CHANNEL", "Repartition"]

CHANNEL = "repartition"
_log = structlog.get_logger(__name__)
_LONGEST_PAUSE = 10.0
_POLL_RECORDS, _POLL_SECONDS = 1_000, 0.2


class Repartition:
    """Reads a group's source, and sends everything on.

    Args:
        ledger: where it goes, with the offsets.
        decoder: finds the task in a record.
        commit_every_seconds: how often what was sent is committed; it can be read after that.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        ledger: TransactionalSink,
        *,
        decoder: Decoder,
        commit_every_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger, self._decoder, self._every, self._clock = ledger, decoder, commit_every_seconds, clock
        self._positions: dict[Partition, int] = {}
        self._commit_at = 0.0
        self._source: GroupSource
        self.failure: StreammetaError | None = None  # what ended it, if not its ``stop``

    def run(self, source: GroupSource, stop: threading.Event) -> None:
        """Send on until ``stop`` is set; what cannot be helped is kept as ``failure``, and sets it."""
        self._source = source
        failures = 0
        try:
            while not (stop.is_set() or source.exhausted):
                try:
                    self._go_round()
                    failures = 0
                except TransactionError as err:
                    failures += 1
                    self._recover(stop, err, min(0.1 * 2 ** min(failures, 10), _LONGEST_PAUSE))
            self._commit()
        except StreammetaError as err:
            self.failure = err
            stop.set()

    def revoked(self, partitions: Iterable[Partition]) -> None:
        """Commit what was sent before others go on. Called while polling."""
        try:
            self._commit()
        finally:
            for partition in partitions:
                self._positions.pop(partition, None)

    def lost(self, partitions: Iterable[Partition]) -> None:
        """Others went on before we knew: nothing since the last commit may count. Called while polling."""
        self._positions.clear()
        raise TransactionError(f"repartition: {sorted(partitions)} were taken from us while we were silent")

    def coming(self, partitions: Iterable[Partition]) -> None:  # noqa: ARG002 the same whatever comes
        """End what lost members left open, so that their offsets can be read, and others read past it."""
        self._ledger.evict()

    def _go_round(self) -> None:
        records = self._source.poll(_POLL_RECORDS, _POLL_SECONDS)
        if records:
            self._ledger.send([self._sent_on(record) for record in records])
            if not self._positions:
                self._commit_at = self._clock() + self._every
        for record in records:
            self._positions[record.origin.topic, record.origin.partition] = record.origin.offset + 1
        if self._positions and self._clock() >= self._commit_at and self._source.is_stable:
            self._commit()

    def _commit(self) -> None:
        if self._positions:
            self._ledger.commit(self._positions, self._source.member())
        self._positions = {}

    def _recover(self, stop: threading.Event, err: TransactionError, pause: float) -> None:
        _log.error("records were not sent on; going on from the last commit", reason=str(err), seconds=pause)
        self._positions = {}
        stop.wait(pause)
        try:
            self._ledger.reset()
            self._source.rewind()
        except TransactionError as again:
            _log.error("no transaction can begin; trying again", reason=str(again))

    def _sent_on(self, record: Record) -> Message:
        try:
            key = self._decoder.decode(record).task.encode()
        except EventError:  # whoever reads it there sets it aside
            key = record.key or b""
        origin = (ORIGIN_HEADER, str(record.origin).encode())
        return Message(CHANNEL, record.value, key, (*record.headers, origin))
