"""Kafka, by confluent-kafka: a source that is a member of a consumer group.

Who moves partitions, and when: librdkafka calls us inside ``poll``, on the caller's thread, and the group waits until
we return. So ``on_revoked`` is called right there; the call of ``on_assigned`` waits until the records that came with
the same poll are sorted out, the partitions paused: those records may be from before.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from streammeta.errors import TransactionError, TransportError
from streammeta.event import Origin, Record
from streammeta.transport.base import OnPartitions, Partition, Positions
from streammeta.transport.confluent.client import Member, bounded, connect, failure, is_member, reason, wake
from streammeta.transport.confluent.offsets import Offsets
from streammeta.transport.kafka.input_log import InputLog, metadata_of
from streammeta.transport.kafka.settings import KafkaSettings, OnLostOffset

__all__ = ["ConfluentSource"]

_log = structlog.get_logger(__name__)
_CLOSE_SECONDS: Final = 5.0
_NEVER: Final = 2**63  # no offset is so large
_SEEK_PAUSE_SECONDS: Final = 0.005
_SLICE_SECONDS: Final = 0.02  # of a poll; then we look whether it brought partitions
_STRATEGY: Final = {"cooperative": "cooperative-sticky", "eager": "range"}


class ConfluentSource:
    """Reads one topic as a member of a consumer group; only committed records, from the earliest on.

    The same as `KafkaSource`, by another client; members of both may share a group.

    Args:
        settings: how to reach Kafka.
        topic: what to read; it must exist.
        group_id: the consumer group, unless ``settings.group_id`` names one.
        on_revoked: called inside ``poll`` with the partitions that go to another member. It may commit them.
        on_lost: called with the partitions that went already; nothing of them may be committed any more.
        on_assigned: called inside ``poll`` with the partitions that came, before any of their records.
        on_coming: called inside ``poll`` with the partitions that come, before their committed offsets are read.
        on_lost_offset: what to do where the committed offset is not in the log any more.
        member: names this member to the broker instead of ``settings.client_id``.
        partitions: how many the topic must have; None: any number.
        beside: topics with our state, which must not be deleted while we run.

    Raises:
        TransportError: no broker answers in time, or it refuses us.
    """

    def __init__(  # noqa: PLR0913 (four of them are callbacks)
        self,
        settings: KafkaSettings,
        topic: str,
        group_id: str,
        *,
        on_revoked: OnPartitions | None = None,
        on_assigned: OnPartitions | None = None,
        on_lost: OnPartitions | None = None,
        on_coming: OnPartitions | None = None,
        on_lost_offset: OnLostOffset = "stop",
        member: str | None = None,
        partitions: int | None = None,
        beside: Collection[str] = (),
    ) -> None:
        self._settings = settings if member is None else settings.model_copy(update={"client_id": member})
        self._on_revoked, self._on_assigned, self._on_lost = on_revoked, on_assigned, on_lost or on_revoked
        self._on_coming = on_coming
        group = settings.group_id or group_id
        self._where = f"kafka: topic {topic!r} on {settings.bootstrap_servers}, group {group!r}"
        self._seconds = settings.connect_timeout_seconds
        self._kept: dict[Partition, int] = {}  # sought, not assigned yet
        self._next: dict[Partition, int] = {}  # assigned, with what comes next
        self._arriving: dict[Partition, int | None] = {}  # assigned, paused, not reported yet; None: where is not known
        self._held: set[Partition] = set()  # paused by our owner
        self._fault: Exception | None = None  # of what was called inside a poll
        self._inside = self._closed = False
        self._topic, self._joins = topic, False
        self._log = InputLog(settings, topic, self._where, on_lost_offset, partitions=partitions, beside=beside)
        self._doubted: set[Partition] = set()  # brought records of before where we are: the log is not what it was
        self._consumer = connect(Consumer, self._settings, self._options(group))
        self._offsets = Offsets(self._consumer, self._log, self._where, self._seconds, on_lost_offset)

    def poll(self, max_records: int, timeout_seconds: float) -> Sequence[Record]:
        """The next records. A change of partitions can make it longer than ``timeout_seconds``, never endless.

        Raises:
            TransportError: the broker refuses us for good; a broker that is away only means no records.
        """
        if not self._joins:
            self._join()
        came: list[Any] = []
        try:
            first = self._first(timeout_seconds)
            if first is not None:
                came.append(first)
                came += self._consumer.consume(max_records - 1, 0) if max_records > 1 else []
        except KafkaException as err:  # what came before it counts: the client will not bring it again
            reason_found = failure(f"{self._where}: cannot be read", err)
            if not isinstance(reason_found, TransactionError):
                raise reason_found from err
            _log.warning("a poll failed; the next may not", reason=str(reason_found))
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault
        records = self._accepted(came) if self._is_still_the_log(bringing=bool(came)) else []
        if self._doubted:
            self._find_again()
        if self._arriving:
            self._take_arriving()
        return records

    def _is_still_the_log(self, *, bringing: bool) -> bool:
        """Whether what a poll brought is of the log in which we are; if not, go on in the new one, if we are to.

        Raises:
            TransactionError: something that was handed out already may be of the new one.
            TransportError: we are to stop, or the topic is not as it must be.
        """
        if self._log.is_due(bringing=bringing):
            try:
                self._log.ask()
            except TransactionError as err:
                _log.warning("which log is read is not known", reason=str(err))
        stale = self._log.stale() & self._next.keys()
        if not stale:
            return True
        unsure = self._log.is_unsure
        try:
            self._go_on({partition: self._next[partition] for partition in stale})
        except TransactionError as err:
            _log.warning("where to go on is not known yet", reason=str(err))
        if unsure:
            raise self._log.doubt()
        return False

    def _find_again(self) -> None:
        """Go on where the log is in partitions of which records came that are before where we are.

        The client did not find our position, and went on with the log's first record without a word.
        """
        doubted, self._doubted = self._doubted & self._next.keys(), set()
        try:
            self._go_on({partition: self._next[partition] for partition in doubted})
        except TransactionError as err:
            _log.warning("where to go on is not known yet", reason=str(err))
            self._doubted = doubted

    def _go_on(self, positions: Positions) -> None:
        for partition, start in self._offsets.again(positions).items():
            self._go_to(partition, start)
            self._next[partition] = start

    def _first(self, timeout_seconds: float) -> Any:  # noqa: ANN401 (a message of the client)
        """The next message; None when the time is over, or when partitions came: theirs wait, and would not end it."""
        deadline, known = time.monotonic() + timeout_seconds, set(self._arriving)
        while True:
            left = max(deadline - time.monotonic(), 0.0)
            found = self._consumer.poll(min(left, _SLICE_SECONDS))  # `consume` would wait for as many as it may take
            if found is not None or left <= _SLICE_SECONDS or self._fault is not None or self._arriving.keys() - known:
                return found

    @property
    def exhausted(self) -> bool:
        """Never: a topic has no end."""
        return False

    def assigned(self) -> Mapping[Partition, int]:
        """Partitions that are ours, each with its next offset."""
        return dict(self._next)

    def seek(self, positions: Positions) -> None:
        """Go on from these offsets, forwards or back, in partitions that are ours; keep the others for when they are.

        A kept offset is used once, and only if the committed one is not later.
        """
        for partition, offset in positions.items():
            if partition in self._next:
                self._go_to(partition, offset)
                self._next[partition] = offset
            else:
                self._kept[partition] = offset

    def commit(self, positions: Positions) -> None:
        """Commit these next offsets, and wait until the broker has them, ``connect_timeout_seconds`` at most.

        Raises:
            TransportError: a partition is not ours, or the broker does not take the commit in time.
        """
        foreign = sorted(f"{topic}/{number}" for topic, number in positions.keys() - self._next.keys())
        if foreign:
            raise TransportError(f"{self._where}: cannot commit {', '.join(foreign)}: not ours (any more)")
        if not positions:
            return
        if self.member() is None:  # a broker would take offsets from somebody who is nobody
            raise TransportError(f"{self._where}: offsets not committed: we are no member of the group (any more)")
        logs = self._log.given_of()
        offsets = [TopicPartition(*one, offset, metadata_of(logs.get(one, ""))) for one, offset in positions.items()]

        def committed() -> list[TopicPartition] | None:
            return self._consumer.commit(offsets=offsets, asynchronous=False)

        try:  # inside a callback the client takes calls from this thread only
            done = committed() if self._inside else bounded(committed, self._seconds)
        except TimeoutError as err:
            raise TransportError(f"{self._where}: offsets not committed: no answer in {self._seconds:g} s") from err
        except KafkaException as err:
            raise TransportError(f"{self._where}: offsets not committed: {reason(err)}") from err
        refused = next((at.error for at in done or () if at.error is not None), None)
        if refused is not None:
            raise TransportError(f"{self._where}: offsets not committed: {reason(refused)}")

    def lag(self) -> Mapping[Partition, int]:
        """Each partition's distance to its end, in records, as far as the last fetch saw it."""
        found = {}
        for partition, at in self._next.items():
            ends = self._consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)
            if ends is not None and ends[1] >= 0:
                found[partition] = max(0, ends[1] - at)
        return found

    def member(self) -> object:
        """Who we are in the group now, as a transaction of confluent-kafka wants it; None when nobody.

        Raises:
            TransactionError: what was read may be of another log than the one that is there now.
        """
        self._log.verify()
        found: Any = self._consumer.consumer_group_metadata()
        if not is_member(found):
            return None
        member = Member(found)
        member.logs = self._log.given_of()
        return member

    def begins(self) -> Positions:
        """The first offsets that the logs of our partitions still hold."""
        return self._borders(0)

    def ends(self) -> Positions:
        """Where the logs of our partitions end now: asked again, because a client that stalls knows old ends only."""
        return self._borders(1)

    def _borders(self, which: int) -> Positions:
        try:
            return {partition: self._offsets.borders(partition)[which] for partition in list(self._next)}
        except TransactionError as err:
            _log.warning("begins or ends of partitions cannot be had", reason=str(err))
            return {}

    @property
    def is_stable(self) -> bool:
        """Whether nothing waits for us: what the group wants of us it says inside ``poll``."""
        return not self._arriving

    def pause(self, partitions: Collection[Partition]) -> None:
        """Hand out nothing of these partitions until :meth:`resume`."""
        self._held |= set(partitions)
        self._consumer.pause([TopicPartition(*one) for one in partitions if one in self._next])

    def resume(self, partitions: Collection[Partition]) -> None:
        """Hand out records of these partitions again."""
        self._held -= set(partitions)
        found = [TopicPartition(*one) for one in partitions if one in self._next]
        self._consumer.resume(found)
        wake(self._consumer, found)

    def rewind(self) -> None:
        """Go back to the committed offset in every partition that is ours.

        Raises:
            TransactionError: the broker does not answer in time.
        """
        starts = self._offsets.starts(list(self._next), {})
        for partition, start in starts.items():
            self._go_to(partition, start)
            self._next[partition] = start
        self._log.report(starts)

    def close(self) -> None:
        """Leave the group; calls neither ``on_revoked`` nor ``commit``."""
        if self._closed:
            return
        self._closed = True
        self._next.clear()
        self._log.close()
        try:
            bounded(self._consumer.close, _CLOSE_SECONDS)
        except TimeoutError:  # a join that others keep waiting, or a broker that is away
            _log.warning("not left cleanly; the group notices after the session timeout", where=self._where)
        except KafkaException as err:
            raise TransportError(f"{self._where}: not left cleanly: {reason(err)}") from err

    def _options(self, group: str) -> dict[str, object]:
        settings = self._settings
        session_ms = round(settings.session_timeout_seconds * 1000)
        options: dict[str, object] = {
            "group.id": group,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,  # gives the next record's offset, after the end of a transaction
            "allow.auto.create.topics": False,
            "partition.assignment.strategy": _STRATEGY[settings.rebalance],
            "session.timeout.ms": session_ms,
            "heartbeat.interval.ms": min(1000, session_ms // 4),  # how soon a member learns that others came or went
            "max.poll.interval.ms": max(session_ms, round(settings.max_poll_interval_seconds * 1000)),
            "fetch.wait.max.ms": round(settings.fetch_wait_seconds * 1000),
            "fetch.min.bytes": settings.fetch_min_bytes,
            "max.partition.fetch.bytes": settings.fetch_partition_bytes,
            "fetch.queue.backoff.ms": 20,  # the default, a second, is a second without records after a burst
        }
        if settings.group_instance_id is not None:
            options["group.instance.id"] = settings.group_instance_id
        return options

    def _join(self) -> None:
        """Ask to be a member: at the first poll, because partitions that are ours and not polled wait."""
        self._joins = True
        self._consumer.subscribe(
            [self._topic], on_assign=self._note_assigned, on_revoke=self._note_revoked, on_lost=self._note_lost
        )

    # -- records -------------------------------------------------------------------------------------------------------

    def _accepted(self, messages: Sequence[Any]) -> list[Record]:
        """The records among them that are ours and come next; a poll may still bring some of partitions that went."""
        records = []
        following = self._next
        for message in messages:
            error, offset = message.error(), message.offset()
            partition = message.topic(), message.partition()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                self._on_error(error)
                continue
            wanted = following.get(partition, _NEVER)
            if offset < wanted != _NEVER:
                self._doubted.add(partition)
            if partition in self._doubted:
                continue
            if offset > wanted:
                wanted = following[partition] = self._after_gap(partition, wanted, offset)
            if error is None and offset >= wanted:
                following[partition] = offset + 1
                records.append(_record(message, partition, offset))
        if records:
            self._log.give({(record.origin.topic, record.origin.partition) for record in records})
        return records

    def _after_gap(self, at: Partition, wanted: int, came: int) -> int:
        """What comes next where between two offsets there is no record, such as at the end of a transaction.

        Or no record any more, where they were deleted before we read them: the client goes on with the first one there
        is, and says nothing.
        """
        borders = self._consumer.get_watermark_offsets(TopicPartition(*at), cached=True)
        if borders is None or not wanted < borders[0] <= came:
            return came
        start = self._offsets.found(at, wanted, borders)
        if start > came:
            self._go_to(at, start)
        return max(start, came)

    def _on_error(self, error: KafkaError) -> None:
        """What comes in place of a record."""
        if error.fatal() or error.code() in (KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID):
            name = self._settings.group_instance_id
            raise TransportError(
                f"{self._where}: the client cannot go on: {reason(error)}"
                + (f"; another member runs under group_instance_id {name!r}?" if name else "")
            )
        reason_found = failure(self._where, error)
        if not isinstance(reason_found, TransactionError):
            raise reason_found
        _log.warning("the client reports trouble", reason=str(reason_found))

    # -- partitions that come and go, inside a poll ---------------------------------------------------------------

    def _note_assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        came = [(at.topic, at.partition) for at in partitions]
        starts: dict[Partition, int | None] = dict.fromkeys(came)
        coming = self._on_coming
        if came and coming is not None and not self._closed:
            self._guarded(lambda: coming(came))
        if not self._closed:
            self._guarded(lambda: starts.update(self._offsets.starts(came, self._kept)))
        ats = [TopicPartition(*one, OFFSET_BEGINNING if at is None else at) for one, at in starts.items()]
        if self._settings.rebalance == "cooperative":
            consumer.incremental_assign(ats)
        else:
            consumer.assign(ats)
        consumer.pause(ats)
        self._arriving |= starts

    def _note_revoked(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._let_go(partitions, self._on_revoked)

    def _note_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._let_go(partitions, self._on_lost)

    def _let_go(self, partitions: Sequence[TopicPartition], notify: OnPartitions | None) -> None:
        gone = {(at.topic, at.partition) for at in partitions}
        known = gone & self._next.keys()
        if known and notify is not None and not self._closed:
            self._guarded(lambda: notify(known))
        for partition in gone:
            self._arriving.pop(partition, None)
            self._next.pop(partition, None)
            self._held.discard(partition)
        self._log.drop(gone)

    def _guarded(self, call: Callable[[], None]) -> None:
        """What goes wrong inside a callback is kept for the end of the poll: the client must be left in good order."""
        self._inside = True
        try:
            call()
        except TransactionError as err:
            self._fault = self._fault or err
        except Exception as err:
            self._fault = err
        finally:
            self._inside = False

    # -- where reading starts ------------------------------------------------------------------------------------------

    def _take_arriving(self) -> None:
        """Report the partitions that came, and let their records in."""
        unknown = [partition for partition, start in self._arriving.items() if start is None]
        for partition, start in self._offsets.starts(unknown, self._kept).items():
            self._go_to(partition, start)
            self._arriving[partition] = start
        came = {partition: start for partition, start in self._arriving.items() if start is not None}
        self._arriving = {}
        self._next |= came
        self._log.report(came)
        if came and self._on_assigned is not None:
            self._on_assigned(came.keys())
        self._consumer.resume([TopicPartition(*one) for one in came if one not in self._held])

    def _go_to(self, partition: Partition, offset: int) -> None:
        deadline = time.monotonic() + self._seconds
        while True:
            try:
                self._consumer.seek(TopicPartition(*partition, offset))
            except KafkaException as err:
                if err.args[0].code() != KafkaError._STATE or time.monotonic() > deadline:
                    raise failure(f"{self._where}: cannot go to offset {offset}", err) from err
                time.sleep(_SEEK_PAUSE_SECONDS)  # just assigned: the client is not there yet
            else:
                return


def _record(message: Any, partition: Partition, offset: int) -> Record:  # noqa: ANN401 (a message of the client)
    kind, milliseconds = message.timestamp()
    headers = message.headers()
    return Record(
        message.value(),
        Origin(*partition, offset),
        message.key(),
        () if headers is None else tuple((name, value or b"") for name, value in headers),
        milliseconds / 1000 if kind else None,
    )
