"""Records that are not keyed by task, sent on so that each task has one partition: exactly once, in a thread beside.

Each record goes, with its value and headers as they were, to the topic NAME-repartition under its task as key, and
carries where it came from. A record that cannot be read goes on too, to be set aside where all are.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import msgspec
import structlog

from streammeta.errors import EventError, StreammetaError, ThreadError, TransactionError
from streammeta.event import (
    KEY_HEADER,
    LABEL_HEADER,
    ORIGIN_HEADER,
    TIME_HEADER,
    Decoder,
    Event,
    RawEvent,
    Record,
    time_made,
)
from streammeta.service.http import Health
from streammeta.service.id_join import IdJoin, event_of, label_of
from streammeta.service.metrics import Metrics
from streammeta.service.threads import REPARTITION
from streammeta.service.watchdog import Streak, Watchdog
from streammeta.transport.base import GroupSource, Message, Partition, TransactionalSink

__all__ = ["CHANNEL", "Repartition", "SendOn", "event_sender", "label_sender"]

CHANNEL = REPARTITION
SendOn: TypeAlias = Callable[[Record], Sequence[Message]]
_encode = msgspec.json.Encoder().encode
_log = structlog.get_logger(__name__)
_LONGEST_PAUSE = 10.0
_LOOK_EVERY_SECONDS = 1.0
_POLL_RECORDS, _POLL_SECONDS = 1_000, 0.2
_ASK_EVERY_SECONDS = 0.2  # whether records that wait may go on


class Repartition:
    """Reads a group's source, and sends everything on.

    Args:
        ledger: where it goes, with the offsets.
        send_on: makes of a record what goes on.
        commit_every_seconds: how often what was sent is committed; it can be read after that.
        metrics: counts what is sent on, and what waits for it.
        health: is updated at every turn, and of what keeps it from working.
        stuck_seconds: records that do not come, or transactions that fail, for so long end it.
        join: whose ``take`` is ``send_on``: it remembers earlier records, which are read again when a partition comes.
        may_go: whether records of this time, in seconds since 1970, may go on now; those that may not wait, unread by
            others and uncommitted. None: all go at once.
        loop: its name, in health, metrics and messages.
        clock: monotonic seconds.
    """

    def __init__(  # noqa: PLR0913 (most of them are for tests and for watching)
        self,
        ledger: TransactionalSink,
        send_on: SendOn,
        *,
        commit_every_seconds: float,
        metrics: Metrics | None = None,
        health: Health | None = None,
        stuck_seconds: float = 300.0,
        join: IdJoin | None = None,
        may_go: Callable[[float], bool] | None = None,
        loop: str = REPARTITION,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send_on, self._join, self._may_go, self._loop = send_on, join, may_go, loop
        self._starts: dict[Partition, int] = {}  # what is before it was sent on already, and is read for the join only
        self._arrived: set[Partition] = set()  # held back
        self._joined: Counter[str] = Counter()  # labels by what the join made of them, since the last commit
        self._held: deque[Record] = deque()  # read, and not sent on yet
        self._ask_at, self._paused, self._is_full = 0.0, False, False
        self._ledger, self._every, self._clock = ledger, commit_every_seconds, clock
        self._metrics, self._health, self._stuck_seconds = metrics, health or Health(clock), stuck_seconds
        self._watchdog, self._failed = Watchdog(), Streak(f"{loop}: transactions", stuck_seconds)
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
            while not (stop.is_set() or (source.exhausted and not self._held)):
                try:
                    self._go_round()
                except TransactionError as err:
                    self._recover(stop, err)
            self._commit()
            self._health.ended(self._loop)
        except BaseException as err:
            known = isinstance(err, StreammetaError)
            self.failure = err if isinstance(err, StreammetaError) else ThreadError(f"{self._loop} ended: {err!r}")
            self.failure.__cause__ = None if known else err
            self._health.failing(f"{self._loop}: {self.failure}", self._loop)
            stop.set()
            if not known:
                raise

    def revoked(self, partitions: Iterable[Partition]) -> None:
        """Commit what was sent before others go on. Called while polling."""
        try:
            self._commit()
        finally:
            gone = set(partitions)
            for partition in gone:
                self._positions.pop(partition, None)
            self._held = deque(one for one in self._held if (one.origin.topic, one.origin.partition) not in gone)
            self._forget(gone)

    def lost(self, partitions: Iterable[Partition]) -> None:
        """Others went on before we knew: nothing since the last commit may count. Called while polling."""
        self._positions.clear()
        self._held.clear()
        self._forget(partitions)
        raise TransactionError(f"{self._loop}: {sorted(partitions)} were taken from us while we were silent")

    def coming(self, partitions: Iterable[Partition]) -> None:  # noqa: ARG002 the same whatever comes
        """End what lost members left open, so that their offsets can be read, and others read past it."""
        self._ledger.evict()

    def assigned(self, partitions: Iterable[Partition]) -> None:
        """Hold back what comes, until the join remembers what was before it. Called while polling."""
        if self._join is not None:
            self._arrived |= set(partitions)
            self._source.pause(self._arrived)

    def _read_again(self, join: IdJoin) -> None:
        """Let in what arrived, from where the join has to begin; where the broker does not say, in a later round."""
        begins, positions = self._source.begins(), self._source.assigned()
        for partition in self._arrived & begins.keys() & positions.keys():
            self._starts[partition] = positions[partition]
            begin = join.begin(partition[1], position=positions[partition], log_begin=begins[partition])
            self._source.seek({partition: begin})
            self._source.resume([partition])
            self._arrived.remove(partition)
            _log.info("reading ids again", partition=partition[1], begin=begin, offset=positions[partition])

    def _forget(self, partitions: Iterable[Partition]) -> None:
        if self._join is not None:
            for partition in partitions:
                self._arrived.discard(partition)
                self._starts.pop(partition, None)
                self._join.forget(partition[1])

    def _go_round(self) -> None:
        if self._join is not None and self._arrived:
            self._read_again(self._join)
        self._pause(len(self._held) >= _POLL_RECORDS)
        records = self._source.poll(_POLL_RECORDS, _POLL_SECONDS)
        self._is_full = 2 * len(records) > _POLL_RECORDS
        self._held.extend(records)  # not in one line with the poll: that may revoke, and hold others from then on
        records = self._fresh(self._ready())
        if records:
            messages = [message for record in records for message in self._send_on(record)]
            self._ledger.send(messages)
            if self._join is not None:
                self._joined.update("refused" if dict(one.headers)[LABEL_HEADER] else "joined" for one in messages)
            if not self._positions:
                self._commit_at = self._clock() + self._every
        for record in records:
            self._positions[record.origin.topic, record.origin.partition] = record.origin.offset + 1
        self._sent += len(records)
        if self._positions and self._clock() >= self._commit_at and self._source.is_stable:
            self._commit()
        self._health.turned(self._loop)
        self._look()

    def _fresh(self, records: list[Record]) -> list[Record]:
        """Without those that were sent on already, which the join takes again and nobody gets again."""
        starts = self._starts
        if self._join is None or not starts:
            return records
        fresh = []
        for record in records:
            if record.origin.offset < starts.get((record.origin.topic, record.origin.partition), 0):
                self._join.take(record)
            else:
                fresh.append(record)
        return fresh

    def _pause(self, is_full: bool) -> None:
        """Read no more while enough wait, and still be polled, as the group wants it."""
        if is_full:
            self._source.pause(list(self._source.assigned()))
        elif self._paused:
            self._source.resume(list(self._source.assigned()))
        self._paused = is_full

    def _ready(self) -> list[Record]:
        """Those that may go on now, in their order."""
        if self._may_go is None or not self._held:
            ready, self._held = list(self._held), deque()
            return ready
        now = self._clock()
        if now < self._ask_at:
            return []
        self._ask_at = now + _ASK_EVERY_SECONDS
        times = [record.timestamp or 0.0 for record in self._held]
        latest = next((time for time in (max(times), times[0]) if self._may_go(time)), None)
        ready = []
        while latest is not None and self._held and (self._held[0].timestamp or 0.0) <= latest:
            ready.append(self._held.popleft())
        return ready

    def _commit(self) -> None:
        if self._positions:
            self._ledger.commit(self._positions, self._source.member())
            self._failed.end()
            self._health.working(self._loop)
            if self._metrics is not None:
                self._metrics.repartitioned.inc(self._sent)
                for result, count in self._joined.items():
                    self._metrics.joined_labels.labels(result).inc(count)
        self._positions, self._sent = {}, 0
        self._joined.clear()

    def _look(self) -> None:
        """Show what waits in the real input, each second; end where its records wait and do not come for too long."""
        now = self._clock()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_EVERY_SECONDS
        source, metrics = self._source, self._metrics
        if metrics is not None:
            metrics.repartition(sum(source.lag().values()) + len(self._held), self._loop)
            if self._join is not None:
                metrics.labels_without_event.set(self._join.waiting)
        if not self._held:  # what waits here does not come later for it
            most, is_full = self._stuck_seconds, self._is_full
            self._watchdog.look(source, source.assigned(), now, most=most, show=self._show_stuck, is_full=is_full)

    def _show_stuck(self, partitions: int) -> None:
        if self._metrics is not None:
            self._metrics.stuck(partitions, self._loop)

    def _recover(self, stop: threading.Event, err: TransactionError) -> None:
        self._positions, self._sent = {}, 0
        self._held.clear()
        self._joined.clear()
        while not stop.is_set():
            self._health.failing(f"{self._loop}: the last transaction failed: {err}", self._loop)
            self._failed.add(err, self._clock())
            pause = min(0.1 * 2 ** min(self._failed.count, 10), _LONGEST_PAUSE)
            _log.error("records were not sent on; going on from the last commit", reason=str(err), seconds=pause)
            stop.wait(pause)
            try:
                self._ledger.reset()
                self._source.rewind()
                self.assigned(self._source.assigned())
                break
            except TransactionError as again:  # to go on from here would leave out what was not committed
                err = again


def event_sender(decoder: Decoder, *, notes_ids: bool = False) -> SendOn:
    """What makes of an event the record itself, under its task.

    Args:
        decoder: finds the task in a record.
        notes_ids: whether labels are to find the task of an event by its id: then that is noted in NAME-ids.
    """

    def send_on(record: Record) -> Sequence[Message]:
        note: tuple[Message, ...] = ()
        try:
            event = decoder.decode(record)
            key = event.task.encode()
            if notes_ids and isinstance(event, Event) and event.y is None and event.id is not None:
                note = (event_of(event.id, event.task),)
        except EventError:  # the reader there sets it aside
            key = record.key or b""
        origin = (ORIGIN_HEADER, str(record.origin).encode())
        given = () if record.key is None else ((KEY_HEADER, record.key),)  # `[input.fields]` may ask for it
        made = time_made(record)
        when = () if made is None else ((TIME_HEADER, repr(made).encode()),)  # the record that is sent on has its own
        return Message(CHANNEL, record.value, key, (*record.headers, origin, *given, *when)), *note

    return send_on


def label_sender(read: Callable[[Record], RawEvent], *, by_id: bool = False) -> SendOn:
    """What makes of a record of a topic of labels the label that goes on, under its task, in the README's shape.

    A record that is no label goes on as it came, with the reason in a header, to be set aside where all are.

    Args:
        read: what a record says; raises EventError.
        by_id: whether labels that name no task find it by their event's id, in NAME-ids.
    """

    def send_on(record: Record) -> Sequence[Message]:
        origin = (ORIGIN_HEADER, str(record.origin).encode())
        try:
            raw = _complete(read(record), record, by_id=by_id)
        except EventError as err:
            reason = str(err).removeprefix(f"{record.origin}: ").encode(errors="replace")
            return (Message(CHANNEL, record.value, record.key, (*record.headers, origin, (LABEL_HEADER, reason))),)
        if raw.task is None:
            return (label_of(record, raw),)
        content = _encode({"id": raw.id, "task": raw.task, "y": raw.y})
        return (Message(CHANNEL, content, str(raw.task).encode(), (origin, (LABEL_HEADER, b""))),)

    return send_on


def _complete(raw: RawEvent, record: Record, *, by_id: bool) -> RawEvent:
    wanted = {"label": raw.y, "id": raw.id} | ({} if by_id else {"task": raw.task})
    for name, found in wanted.items():
        if found is None:
            remedy = "label and id" if by_id else "label, id and task"
            without = ', or [labels] join = "id" where labels name no task' if name == "task" else ""
            raise EventError(
                f"{record.origin}: a label from a topic of its own has no {name}; wanted {remedy}: name their fields "
                f"in [labels.fields]{without}"
            )
    return raw
