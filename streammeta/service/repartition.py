"""Records that are not keyed by task, sent on so that each task has one partition: exactly once, in a thread beside.

Each record goes, with its value and headers as they were, to the topic NAME-repartition under its task as key, and
carries where it came from. A record that cannot be read goes on too, to be set aside where all are.
"""

import threading
import time
from collections.abc import Callable, Iterable

import structlog

from streammeta.errors import EventError, StreammetaError, ThreadError, TransactionError
from streammeta.event import KEY_HEADER, ORIGIN_HEADER, Decoder, Record
from streammeta.service.http import Health
from streammeta.service.metrics import Metrics
from streammeta.service.threads import REPARTITION
from streammeta.service.watchdog import Streak, Watchdog
from streammeta.transport.base import GroupSource, Message, Partition, TransactionalSink

__all__ = ["CHANNEL", "Repartition"]

CHANNEL = REPARTITION
_log = structlog.get_logger(__name__)
_LONGEST_PAUSE = 10.0
_LOOK_EVERY_SECONDS = 1.0
_POLL_RECORDS, _POLL_SECONDS = 1_000, 0.2


class Repartition:
    """Reads a group's source, and sends everything on.

    Args:
        ledger: where it goes, with the offsets.
        decoder: finds the task in a record.
        commit_every_seconds: how often what was sent is committed; it can be read after that.
        metrics: counts what is sent on, and what waits for it.
        health: is updated at every turn, and of what keeps it from working.
        stuck_seconds: records that do not come, or transactions that fail, for so long end it.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        ledger: TransactionalSink,
        *,
        decoder: Decoder,
        commit_every_seconds: float,
        metrics: Metrics | None = None,
        health: Health | None = None,
        stuck_seconds: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger, self._decoder, self._every, self._clock = ledger, decoder, commit_every_seconds, clock
        self._metrics, self._health, self._stuck_seconds = metrics, health or Health(clock), stuck_seconds
        self._watchdog, self._failed = Watchdog(), Streak("repartition: transactions", stuck_seconds)
        self._look_at = 0.0
        self._sent = 0  # records since the last commit
        self._positions: dict[Partition, int] = {}
        self._commit_at = 0.0
        self._source: GroupSource
        self.failure: StreammetaError | None = None  # what ended it, if not its ``stop``

    def run(self, source: GroupSource, stop: threading.Event) -> None:
        """Send on until ``stop`` is set; whatever else ends it is kept as ``failure``, and sets it."""
        self._source = source
        try:
            while not (stop.is_set() or source.exhausted):
                try:
                    self._go_round()
                except TransactionError as err:
                    self._recover(stop, err)
            self._commit()
            self._health.ended(REPARTITION)
        except BaseException as err:
            known = isinstance(err, StreammetaError)
            self.failure = err if isinstance(err, StreammetaError) else ThreadError(f"repartition ended: {err!r}")
            self.failure.__cause__ = None if known else err
            self._health.failing(f"repartition: {self.failure}", REPARTITION)
            stop.set()
            if not known:
                raise

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
        self._sent += len(records)
        if self._positions and self._clock() >= self._commit_at and self._source.is_stable:
            self._commit()
        self._health.turned(REPARTITION)
        self._look()

    def _commit(self) -> None:
        if self._positions:
            self._ledger.commit(self._positions, self._source.member())
            self._failed.end()
            self._health.working(REPARTITION)
            if self._metrics is not None:
                self._metrics.repartitioned.inc(self._sent)
        self._positions, self._sent = {}, 0

    def _look(self) -> None:
        """Show what waits in the real input, each second; end where its records wait and do not come for too long."""
        now = self._clock()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_EVERY_SECONDS
        source, metrics = self._source, self._metrics
        if metrics is not None:
            metrics.repartition(sum(source.lag().values()))
        self._watchdog.look(source, source.assigned(), now, most=self._stuck_seconds, show=self._show_stuck)

    def _show_stuck(self, partitions: int) -> None:
        if self._metrics is not None:
            self._metrics.stuck(partitions, REPARTITION)

    def _recover(self, stop: threading.Event, err: TransactionError) -> None:
        self._health.failing(f"repartition: the last transaction failed: {err}", REPARTITION)
        self._failed.add(err, self._clock())
        pause = min(0.1 * 2 ** min(self._failed.count, 10), _LONGEST_PAUSE)
        _log.error("records were not sent on; going on from the last commit", reason=str(err), seconds=pause)
        self._positions, self._sent = {}, 0
        stop.wait(pause)
        try:
            self._ledger.reset()
            self._source.rewind()
        except TransactionError as again:
            _log.error("no transaction can begin; trying again", reason=str(again))

    def _sent_on(self, record: Record) -> Message:
        try:
            key = self._decoder.decode(record).task.encode()
        except EventError:  # the reader there sets it aside
            key = record.key or b""
        origin = (ORIGIN_HEADER, str(record.origin).encode())
        given = () if record.key is None else ((KEY_HEADER, record.key),)  # `[input.fields]` may ask for it
        return Message(CHANNEL, record.value, key, (*record.headers, origin, *given))
