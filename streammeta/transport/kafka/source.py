"""Kafka, by kafka-python: a source that is a member of a consumer group.

Who moves partitions, and when: the client joins the group inside ``poll``, on a network thread of its own. What it
learns there is only noted down; between two rounds of the same ``poll``, on the caller's thread, the source acts on it.
``on_revoked`` has returned before the member asks for its next assignment, and the group waits for that before anyone
else gets the partitions: so what is committed in ``on_revoked`` is what the next owner starts from.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import structlog
from kafka import OffsetAndMetadata, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import FencedInstanceIdError, KafkaError, KafkaTimeoutError
from kafka.structs import MemberState

from streammeta.errors import TransactionError, TransportError
from streammeta.event import Origin, Record
from streammeta.transport.base import OnPartitions, Partition, Positions
from streammeta.transport.kafka.client import Consumer, Member, Move, RebalanceListener, codec_advice, connect
from streammeta.transport.kafka.input_log import InputLog, log_of, metadata_of
from streammeta.transport.kafka.lost import found_offset, offset_in_new_log
from streammeta.transport.kafka.settings import KafkaSettings, OnLostOffset

__all__ = ["KafkaSource"]

_log = structlog.get_logger(__name__)
_CLOSE_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 0.2  # after a poll that failed


class KafkaSource:
    """Reads one topic as a member of a consumer group; only committed records, from the earliest on.

    Where reading starts in a partition: at the later one of its committed offset and the offset given to :meth:`seek`
    beforehand; at its first record when there is neither. Not thread-safe: one thread polls, seeks and commits.

    Args:
        settings: how to reach Kafka.
        topic: what to read; it must exist.
        group_id: the consumer group, unless ``settings.group_id`` names one.
        on_revoked: called inside ``poll`` with the partitions that go to another member. It may commit them.
        on_lost: called with the partitions that went already, after a silence longer than the session timeout;
            nothing of them may be committed any more. Without it ``on_revoked`` is called, and :meth:`commit` raises.
        on_assigned: called inside ``poll`` with the partitions that came, before any of their records. It may
            :meth:`seek` or :meth:`pause` them.
        on_coming: called inside ``poll`` with the partitions that come, before their committed offsets are read: it can
            end what a dead member left open, for which the broker would have us wait.
        on_lost_offset: what to do where the committed offset is not in the log any more: "stop", or go on with the
            "earliest" record there is, or with those that come from now on ("latest").
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
        self._on_lost_offset = on_lost_offset
        self._held: set[Partition] = set()  # paused by our owner
        self._group = settings.group_id or group_id
        self._where = f"kafka: topic {topic!r} on {settings.bootstrap_servers}, group {self._group!r}"
        self._on_revoked, self._on_assigned, self._on_lost = on_revoked, on_assigned, on_lost or on_revoked
        self._on_coming = on_coming
        self._timeout_ms = settings.milliseconds
        self._kept: dict[Partition, int] = {}  # sought, not assigned yet
        self._next: dict[Partition, int] = {}  # assigned, with what comes next
        self._moves: deque[tuple[Move, frozenset[Partition]]] = deque()  # from the group, not acted on yet
        self._arriving: set[Partition] = set()  # assigned, paused until it is known where they start
        self._closed = False
        self._log = InputLog(settings, topic, self._where, on_lost_offset, partitions=partitions, beside=beside)
        self._consumer: Any = connect(Consumer, self._settings, **self._options())
        self._consumer.between_rounds = self._act
        if settings.rebalance == "eager":
            self._consumer.before_join = self._let_go_of_all
        self._consumer.subscribe([topic], listener=RebalanceListener(self._note))

    def poll(self, max_records: int, timeout_seconds: float) -> Sequence[Record]:
        """The next records. A change of partitions can make it longer than ``timeout_seconds``, never endless.

        Raises:
            TransportError: the broker refuses us for good; a broker that is away only means no records.
        """
        try:
            fetched = self._consumer.poll(timeout_ms=round(timeout_seconds * 1000), max_records=max_records)
        except FencedInstanceIdError as err:
            name = self._settings.group_instance_id
            raise TransportError(f"{self._where}: another member runs under group_instance_id {name!r}") from err
        except KafkaError as err:
            advice = codec_advice(err)
            if advice is not None or not err.retriable:
                raise TransportError(f"{self._where}: cannot be read: {advice or err}") from err
            _log.warning("a poll failed; the next may not", where=self._where, reason=repr(err))
            time.sleep(min(timeout_seconds, _RETRY_SECONDS))  # as without records, and not as fast as it can fail
            return []
        if not self._is_still_the_log(bringing=bool(fetched)):
            return []
        records: list[Record] = []
        for (topic, number), batch in fetched.items():
            if (topic, number) in self._next:
                self._next[topic, number] = batch[-1].offset + 1
                records += map(_record, batch)
        if records:
            self._log.give({(record.origin.topic, record.origin.partition) for record in records})
        else:
            self._pass_markers()
        return records

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
                with suppress(ValueError):  # it went since the last poll, and the next one lets go of it
                    self._consumer.seek(TopicPartition(*partition), offset)
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
        if self._consumer.group_metadata().state is MemberState.REBALANCING:  # the client would wait in vain
            raise TransportError(f"{self._where}: offsets not committed: partitions are being shared out; poll first")
        self._log.verify()
        logs = self._log.given_of()
        offsets = {
            TopicPartition(*partition): OffsetAndMetadata(offset, metadata_of(logs.get(partition, "")), -1)
            for partition, offset in positions.items()
        }
        try:
            self._consumer.commit(offsets, timeout_ms=self._timeout_ms)
        except KafkaTimeoutError as err:
            seconds = self._timeout_ms / 1000
            raise TransportError(f"{self._where}: offsets not committed: no answer within {seconds:g} s") from err
        except KafkaError as err:
            raise TransportError(f"{self._where}: offsets not committed: {err}") from err

    def lag(self) -> Mapping[Partition, int]:
        """Each partition's distance to its end, in records, as far as the last fetch saw it."""
        ours = self._consumer.assignment()  # while `on_revoked` runs, some are not
        ends = {p: self._consumer.highwater(TopicPartition(*p)) for p in self._next if TopicPartition(*p) in ours}
        return {partition: max(0, end - self._next[partition]) for partition, end in ends.items() if end is not None}

    def member(self) -> object:
        """Who we are in the group now, as a transaction of kafka-python wants it.

        None when partitions were lost: we may be a member again already, but what we have of them is out of date.

        Raises:
            TransactionError: what was read may be of another log than the one that is there now.
        """
        self._log.verify()
        found = self._consumer.group_metadata()  # first: a loss is noted before we are a member again
        if any(what == "lost" for what, _ in list(self._moves)):
            return None
        member = Member(*found)
        member.logs = self._log.given_of()
        return member

    def begins(self) -> Positions:
        """The first offsets that the logs of our partitions still hold."""
        return self._borders(self._consumer.beginning_offsets)

    def ends(self) -> Positions:
        """Where the logs of our partitions end now: asked again, because a client that stalls knows old ends only."""
        return self._borders(self._consumer.end_offsets)

    def _borders(self, ask: Callable[..., Mapping[TopicPartition, int]]) -> Positions:
        try:
            found = ask([_at(partition) for partition in self._next], timeout_ms=self._timeout_ms)
        except (KafkaError, AssertionError) as err:
            _log.warning("begins or ends of partitions cannot be had", reason=str(err))
            return {}
        return {(at.topic, at.partition): offset for at, offset in found.items()}

    @property
    def is_stable(self) -> bool:
        """Whether the group is at rest: while partitions are shared out, a commit may come too late."""
        return self._consumer.group_metadata().state is MemberState.STABLE and not self._moves

    def pause(self, partitions: Collection[Partition]) -> None:
        """Hand out nothing of these partitions until :meth:`resume`."""
        self._held |= set(partitions)
        ours = self._consumer.assignment()
        self._consumer.pause(*(at for at in map(_at, partitions) if at in ours))

    def resume(self, partitions: Collection[Partition]) -> None:
        """Hand out records of these partitions again."""
        self._held -= set(partitions)
        ours = self._consumer.assignment()
        self._consumer.resume(*(at for at in map(_at, partitions) if at in ours))

    def rewind(self) -> None:
        """Go back to the committed offset in every partition that is ours.

        Raises:
            TransactionError: the broker does not answer in time.
        """
        ats = [_at(partition) for partition in self._next]
        try:
            self._log.report(self._go_to(ats, self._consumer.committed_offsets(ats, self._timeout_ms), {}))
        except (KafkaError, AssertionError) as err:
            raise TransactionError(f"{self._where}: committed offsets cannot be read: {err!r}") from err

    def close(self) -> None:
        """Leave the group; calls neither ``on_revoked`` nor ``commit``."""
        if self._closed:
            return
        self._closed = True
        self._log.close()
        try:
            self._consumer.close(autocommit=False, timeout_ms=round(_CLOSE_SECONDS * 1000))
        except KafkaError as err:
            raise TransportError(f"{self._where}: not left cleanly: {err}") from err
        finally:
            self._next.clear()

    def _options(self) -> dict[str, Any]:
        settings = self._settings
        session_ms = round(settings.session_timeout_seconds * 1000)
        return {
            "group_id": self._group,
            "group_instance_id": settings.group_instance_id,
            "isolation_level": "read_committed",
            "auto_offset_reset": "earliest",
            "enable_auto_commit": False,
            "allow_auto_create_topics": False,
            "partition_assignment_strategy": [
                CooperativeStickyAssignor() if settings.rebalance == "cooperative" else RangePartitionAssignor()
            ],
            "session_timeout_ms": session_ms,
            "heartbeat_interval_ms": min(1000, session_ms // 4),  # how soon a member learns that others came or went
            "max_poll_interval_ms": round(settings.max_poll_interval_seconds * 1000),
            "fetch_max_wait_ms": round(settings.fetch_wait_seconds * 1000),
            "fetch_min_bytes": settings.fetch_min_bytes,
            "max_partition_fetch_bytes": settings.fetch_partition_bytes,
        }

    def _note(self, what: Move, partitions: Collection[TopicPartition]) -> None:
        """Called by the client on its network thread, while the thread that polls waits for it."""
        if what == "revoked" and self._settings.rebalance == "eager":
            what = "lost"  # a join has begun before we could let go: until we act, they may be somebody else's
        if what == "assigned":  # nothing of them may come out before `on_assigned` has returned
            self._consumer.pause(*partitions)
        self._moves.append((what, frozenset((topic, number) for topic, number in partitions)))

    def _act(self) -> None:
        """Act on the group's assignments, on the thread that polls: first let go, then take."""
        while self._moves and not self._closed:
            what, partitions = self._moves.popleft()
            if what == "assigned":
                self._arriving |= partitions
                if partitions and self._on_coming is not None:
                    self._on_coming(partitions)
            else:
                self._arriving -= partitions
                self._let_go(partitions & self._next.keys(), self._on_lost if what == "lost" else self._on_revoked)
        if self._arriving and not self._closed:
            with self._reported_or_later():
                self._take(self._placed())
        if self._consumer.beyond and not self._closed:
            with self._reported_or_later():
                self._find_again()

    @contextmanager
    def _reported_or_later(self) -> Iterator[None]:
        """What the broker does not answer now is asked again in the next round, and nothing of this one is lost."""
        try:
            yield
        except TransactionError as err:
            _log.warning("where to go on is not known yet", reason=str(err))
        except KafkaError as err:
            if not err.retriable:
                raise
            _log.warning("where to go on is not known yet", where=self._where, reason=repr(err))

    def _let_go_of_all(self) -> None:
        """Before a join, where everybody gives up everything."""
        self._let_go(set(self._next), self._on_revoked)

    def _let_go(self, partitions: Collection[Partition], notify: OnPartitions | None) -> None:
        try:
            if partitions and notify is not None:
                notify(partitions)
        finally:
            for partition in partitions:
                self._next.pop(partition, None)
                self._held.discard(partition)
            self._log.drop(partitions)

    def _placed(self) -> Collection[Partition]:
        """Arriving partitions, each at its committed offset.

        Where the client stands does not count: with eager rebalances it would go on with what comes back to it where it
        was before, committed or not.
        """
        ats = [_at(partition) for partition in sorted(self._arriving)]
        placed = self._go_to(ats, self._consumer.committed_offsets(ats, self._timeout_ms), self._kept)
        for partition in placed:
            self._arriving.remove(partition)
            self._kept.pop(partition, None)
        return placed

    def _find_again(self) -> None:
        """Go on where the log is, if we are to, in partitions whose next records were deleted before we read them."""
        ats = [at for at in self._consumer.beyond if (at.topic, at.partition) in self._next]
        found = self._go_to(ats, self._standing(ats), {})
        self._consumer.beyond.clear()
        self._let_in(found)

    def _standing(self, ats: Collection[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata]:
        """Where we are in partitions that are ours."""
        places = {at: (at.topic, at.partition) for at in ats}
        return {
            at: OffsetAndMetadata(self._next[place], metadata_of(self._log.placed_in(place)), -1)
            for at, place in places.items()
        }

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
        stale = self._log.stale()
        if not stale:
            return True
        unsure, ats = self._log.is_unsure, [_at(partition) for partition in stale]
        with self._reported_or_later():
            self._let_in(self._go_to(ats, self._standing(ats), {}))
        if unsure:
            raise self._log.doubt()
        return False

    def _go_to(
        self, ats: Collection[TopicPartition], starts: Mapping[TopicPartition, OffsetAndMetadata], least: Positions
    ) -> Collection[Partition]:
        """Go to these offsets, or to the first one of the log, but not below ``least``; returns where it was done."""
        self._log.ask()
        begins = self._consumer.beginning_offsets(ats, timeout_ms=self._timeout_ms)
        ends = self._consumer.end_offsets(ats, timeout_ms=self._timeout_ms)
        there: dict[Partition, int] = {}
        for at in self._consumer.assignment().intersection(ats):  # what went meanwhile is reported next
            partition, start = (at.topic, at.partition), self._start(at, starts.get(at), begins[at], ends[at])
            there[partition] = max(start, least.get(partition, start))
            self._consumer.seek(at, there[partition])
        self._next |= there
        self._log.place(there)
        return there.keys()

    def _start(self, at: TopicPartition, committed: OffsetAndMetadata | None, begin: int, end: int) -> int:
        """Where to start in a log that holds ``begin`` to ``end``."""
        offset, metadata = (None, None) if committed is None else (committed.offset, committed.metadata)
        on_lost, where, number = self._on_lost_offset, self._where, at.partition
        if self._log.is_other(log_of(metadata)):
            return offset_in_new_log(offset, begin, end, on_lost, where=where, partition=number)
        return begin if offset is None else found_offset(offset, begin, end, on_lost, where=where, partition=number)

    def _take(self, partitions: Collection[Partition]) -> None:
        self._log.report(partitions)
        if partitions and self._on_assigned is not None:
            self._on_assigned(partitions)
        self._let_in(partitions)

    def _let_in(self, partitions: Collection[Partition]) -> None:
        self._consumer.resume(*(_at(partition) for partition in partitions if partition not in self._held))

    def _pass_markers(self) -> None:
        """Step over what is no record, such as the end of a transaction, so that it does not look like lag."""
        for partition in self._next.keys() - self._consumer.beyond:  # of those it is another record's
            position = self._consumer.position(TopicPartition(*partition), timeout_ms=0)
            if position is not None:
                self._next[partition] = max(position, self._next[partition])


def _at(partition: Partition) -> TopicPartition:
    return TopicPartition(*partition)


def _record(fetched: Any) -> Record:  # noqa: ANN401 (kafka-python has no types)
    return Record(
        value=fetched.value,
        origin=Origin(fetched.topic, fetched.partition, fetched.offset),
        key=fetched.key,
        headers=tuple((name, value or b"") for name, value in fetched.headers),
        timestamp=None if fetched.timestamp is None or fetched.timestamp < 0 else fetched.timestamp / 1000,
    )
