"""The log that a source reads: whether the topic's name still stands for it, and whether it is still as it was.

A topic that was deleted and created again is another log under the same name: an offset of the first says nothing about
the second. Neither client says so, and each goes on somewhere. Kafka gives every topic an id (KIP-516, since 2.8),
which we ask for, by kafka-python for either client: before the first record of a partition, then at most four times a
second while records come, and before every commit. The id goes with the committed offsets, as their metadata, so that a
member that goes on after a restart sees whether they are of the log that is there now.
"""

import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple

import structlog
from kafka import KafkaAdminClient
from kafka.errors import AuthorizationError, KafkaError, UnknownTopicOrPartitionError, for_code

from streammeta.errors import TransactionError, TransportError
from streammeta.transport.base import Partition
from streammeta.transport.kafka.client import connect
from streammeta.transport.kafka.settings import KafkaSettings, OnLostOffset

__all__ = ["InputLog", "log_of", "metadata_of"]

_log = structlog.get_logger(__name__)
_NOTE: Final = "topic-id="
_NOTED: Final = re.compile(_NOTE + "([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")
_ASK_SECONDS: Final = 2.0  # the longest wait for an answer: who polls must not stand still
_BUSY_SECONDS: Final = 0.25  # between two questions while records come
_IDLE_SECONDS: Final = 5.0
_AFTER_FAILURE_SECONDS: Final = 2.0
_NO_ID: Final = "00000000-0000-0000-0000-000000000000"  # brokers that know no ids


def metadata_of(log: str) -> str:
    """What is committed beside an offset, so that it is known of which log it is."""
    return f"{_NOTE}{log}" if log else ""


def log_of(metadata: str | None) -> str:
    r"""The id of the log that a committed offset is of; empty where none was committed.

    What follows the id does not count: librdkafka commits a byte more than it was given, whatever stands there.

    >>> id_ = "2261041e-75b6-4ad7-b0e1-cf931a0da3aa"
    >>> [log_of(metadata_of(id_) + more) == id_ for more in ("", "\0", "\x7f", "\ufffd")]
    [True, True, True, True]
    >>> log_of("somebody's own words"), log_of(None)
    ('', '')
    """
    found = _NOTED.match(metadata or "")
    return found[1] if found else ""


class _Seen(NamedTuple):
    id: str
    partitions: int


class InputLog:
    """Which log each of our partitions is read from, and which one the topic's name stands for now.

    Args:
        settings: how to reach Kafka.
        topic: the topic that is read.
        where: begins messages.
        on_lost_offset: what follows when it is another log: "stop" also ends the wait for a topic that is gone.
        partitions: how many it must have, for tasks to find their state; None: any number.
        beside: topics that hold our state: they must stay as they are while we run.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        where: str,
        on_lost_offset: OnLostOffset,
        *,
        partitions: int | None = None,
        beside: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        seconds = min(settings.connect_timeout_seconds, _ASK_SECONDS)
        self._settings = settings.model_copy(update={"connect_timeout_seconds": seconds})
        self._topic, self._where, self._beside = topic, where, tuple(beside)
        self._partitions, self._clock = partitions, clock
        self._patience = settings.connect_timeout_seconds if on_lost_offset == "stop" else settings.stuck_seconds
        self._admin: Any = None
        self._current = ""  # the log's id, as last seen
        self._accepted = ""  # of the log that we read, or go on with
        self._placed: dict[Partition, str] = {}  # of the log in which a partition's position is
        self._given: dict[Partition, str] = {}  # of the log that what we gave out last is of
        self._unsure = False  # something was given out since we last asked
        self._rested = True  # the last poll brought nothing
        self._ask_at = 0.0
        self._missing_since: float | None = None
        self._ids: dict[str, str] = {}  # of the topics beside

    # -- asking --------------------------------------------------------------------------------------------------------

    def is_due(self, *, bringing: bool) -> bool:
        """Whether to ask now: before records are given out, or while there are none.

        Args:
            bringing: whether there are records.
        """
        rested, self._rested = self._rested, not bringing
        if bringing and rested:  # a pause is when a topic can have been deleted, created again and filled
            return True
        if self._unsure and not bringing:
            return self._clock() >= self._ask_at - _BUSY_SECONDS
        wait = _BUSY_SECONDS if bringing or self._unsure else _IDLE_SECONDS
        return self._clock() >= self._ask_at - _BUSY_SECONDS + wait

    def ask(self) -> None:
        """See which log the name stands for now.

        Raises:
            TransactionError: no broker answers in time, or the topic is not there; another time it may be.
            TransportError: it has other partitions than it must have, or one beside is not what it was, or it is gone
                for long.
        """
        try:
            seen = self._seen()
        except TransactionError:
            self._ask_at = self._clock() + _AFTER_FAILURE_SECONDS
            raise
        self._ask_at = self._clock() + _BUSY_SECONDS
        found = seen.get(self._topic)
        if found is None:
            self._ask_at = self._clock()  # when records come again, it is asked before they are given out
            self._miss()
            return
        self._missing_since = None
        self._check_partitions(found.partitions)
        self._check_beside(seen)
        self._current = found.id
        self._accepted = self._accepted or found.id
        if not self._is_stale(self._given.values()):
            self._unsure = False

    def verify(self) -> None:
        """Make sure that what was given out is of the log that is there now: then it may be committed.

        Raises:
            TransactionError: it may not be, or nobody knows.
            TransportError: as `ask`.
        """
        if self._unsure:
            self.ask()
            if self._is_stale(self._given.values()):
                raise self.doubt()

    def doubt(self) -> TransactionError:
        """What to raise where records were given out that may be of the old log or of the new one."""
        self._unsure = False
        return TransactionError(
            f"{self._where}: the topic was deleted and created again while its records were read; going back to what "
            "is committed"
        )

    # -- what is known -------------------------------------------------------------------------------------------------

    def is_other(self, committed: str) -> bool:
        """Whether an offset is of another log than the one that is there now.

        Args:
            committed: the id of its log, as committed with it; empty: not known.
        """
        return self._is_stale((committed, self._accepted))

    def stale(self) -> set[Partition]:
        """Partitions of ours whose position is in a log that is not there any more."""
        return {partition for partition, log in self._placed.items() if self._is_stale((log,))}

    @property
    def is_unsure(self) -> bool:
        """Whether something was given out since we last asked."""
        return self._unsure

    def placed_in(self, partition: Partition) -> str:
        """The id of the log that our position in a partition is of; empty: not known."""
        return self._placed.get(partition, "")

    def given_of(self) -> Mapping[Partition, str]:
        """The id of the log that what was given out last, in each partition, is of."""
        return dict(self._given)

    # -- what happens --------------------------------------------------------------------------------------------------

    def place(self, partitions: Iterable[Partition]) -> None:
        """The positions of these partitions are in the log that is there now."""
        self._placed |= dict.fromkeys(partitions, self._current)
        self._accepted = self._current

    def report(self, partitions: Iterable[Partition]) -> None:
        """Where these partitions begin is reported to our owner, who may commit it."""
        self._given |= {partition: self._placed.get(partition, "") for partition in partitions}

    def give(self, partitions: Iterable[Partition]) -> None:
        """Records of these partitions are given out."""
        self.report(partitions)
        self._unsure = True

    def drop(self, partitions: Iterable[Partition]) -> None:
        """These partitions are not ours any more."""
        for partition in partitions:
            self._placed.pop(partition, None)
            self._given.pop(partition, None)

    def close(self) -> None:
        """Let go of the connection; may be called twice."""
        admin, self._admin = self._admin, None
        if admin is not None:
            admin.close()

    def _is_stale(self, logs: Iterable[str]) -> bool:
        return bool(self._current) and any(log not in ("", self._current) for log in logs)

    def _seen(self) -> dict[str, _Seen]:
        """The topics that are there."""
        topics = [self._topic, *self._beside]
        for attempt in (1, 2):  # a connection that broke since the last question is no news
            try:
                if self._admin is None:
                    self._admin = connect(
                        KafkaAdminClient, self._settings, request_timeout_ms=self._settings.milliseconds
                    )
                described = self._admin.describe_topics(topics)
            except (KafkaError, TransportError, AssertionError, OSError) as err:
                self.close()
                if attempt == 1 and not isinstance(err, TransportError):
                    continue
                raise TransactionError(f"{self._where}: which log it is cannot be asked ({err!r})") from err
            break
        found = {}
        for topic in described:
            error = for_code(topic["error_code"])
            if issubclass(error, AuthorizationError):
                raise TransportError(
                    f"{self._where}: refused to describe topic {topic['name']!r}; check our rights (ACLs) on it"
                )
            if error is not UnknownTopicOrPartitionError and topic["partitions"]:
                id_ = str(topic["topic_id"] or "")
                found[topic["name"]] = _Seen("" if id_ == _NO_ID else id_, len(topic["partitions"]))
            elif error is not UnknownTopicOrPartitionError:
                raise TransactionError(f"{self._where}: topic {topic['name']!r} cannot be described: {error.__name__}")
        return found

    def _miss(self) -> None:
        now = self._clock()
        self._missing_since = now if self._missing_since is None else self._missing_since
        gone = now - self._missing_since
        if gone < self._patience:
            raise TransactionError(
                f"{self._where}: the topic is not there any more; waiting for it ({gone:.0f} s so far)"
            )
        raise TransportError(
            f"{self._where}: the topic has not been there for {gone:.0f} s: was it deleted? Create it again, or name "
            "another one ([input] topic)"
        )

    def _check_partitions(self, found: int) -> None:
        if self._partitions is not None and found != self._partitions:
            raise TransportError(
                f"{self._where}: it has {found} partitions now, and had {self._partitions} when we started: was "
                "the number changed? Tasks would not find their state. Begin again under another [app] name, or with a "
                "new input topic that holds the events again"
            )

    def _check_beside(self, seen: Mapping[str, _Seen]) -> None:
        """State that is written to another log than it is read from would be lost in part, and nobody would see it."""
        for name in self._beside:
            now = seen[name].id if name in seen else ""
            before = self._ids.setdefault(name, now)
            if before and now != before:
                what = "was deleted and created again" if now else "was deleted"
                raise TransportError(
                    f"{self._where}: topic {name!r}, which holds our state, {what} while we run: what was learned "
                    "cannot be kept. Start again: tasks begin with what the topic holds"
                )
