"""Episodes of other members' partitions, for who trains: read in full, learned within a budget of time."""

import math
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sized
from typing import Final, Protocol

from streammeta.engine.weights import About
from streammeta.service.metrics import Metrics
from streammeta.service.result import EPISODES
from streammeta.transport.base import ChangelogReader, Row

__all__ = ["MOST_WAITING", "EpisodeReader", "Learner"]

MOST_WAITING: Final = 16_384  # segments, for a process that does nothing but train
_MOST_SECONDS = 0.25  # of learning between two polls


class Learner(Protocol):
    """Who learns from records of NAME-episodes: an engine, or who makes θ of members' changes. As `Engine` has it."""

    def remember_episode(self, partition: int, key: bytes, value: bytes, at: str) -> None:
        """Take in a record of which θ has been learned already."""

    def observe_episode(self, partition: int, key: bytes, value: bytes, at: str) -> Sized:
        """Learn from a record; returns as many as there are events in it."""

    def forget_episode(self, partition: int, key: bytes) -> None:
        """A record was forgotten."""

    def forget_episodes(self, partition: int) -> None:
        """Drop what came of a partition."""


class EpisodeReader:
    """Reads and learns episodes.

    Args:
        reader: of the topics.
        name: the application's, for messages.
        partitions: of the topic, as far as this process reads them.
        share: of the time that learning may take while records wait.
        metrics: counts segments.
        clock: monotonic seconds.
        most_waiting: segments that wait to be learned; older ones are skipped, so that who trains does not fall back.
    """

    def __init__(
        self,
        reader: ChangelogReader,
        name: str,
        partitions: Collection[int],
        *,
        share: float,
        metrics: Metrics,
        clock: Callable[[], float],
        most_waiting: int = 4_096,
    ) -> None:
        self._most_waiting = most_waiting
        self._reader, self._name, self._partitions, self._share = reader, name, partitions, share
        self._metrics, self._clock = metrics, clock
        self._reading: dict[int, int] = {}  # partitions, and to which offset θ was learned from them when we began
        self._waiting: deque[Row] = deque()
        self._budget, self._looked = 0.0, clock()
        self._learned: dict[int, int] = {}  # of each partition, the offset after the last segment that θ includes
        self._is_known = False  # there was a θ when we began
        self._elsewhere: dict[int, int] = {}  # the same of partitions that other ranks read
        self._had: set[int] = set()  # partitions that were ours: θ was learned from their events as they came
        self.segments = 0  # that θ was learned from

    def begin(self, about: About | None) -> None:
        """A θ is gone on with that includes episodes up to some offsets: what is before them is not learned again.

        Partitions that are read already are read on.
        """
        if about is not None:
            reading = {number: offset for number, offset in self._learned.items() if number in self._reading}
            self._learned = dict(about.positions) | reading
            self._is_known, self.segments = True, about.segments

    def positions(self) -> list[tuple[int, int]]:
        """Of each partition, the offset to which θ has been learned from it."""
        return sorted((self._learned | self._elsewhere).items())

    def reached(self) -> list[tuple[int, int]]:
        """The same of those partitions only that are read here."""
        return sorted((number, self._learned[number]) for number in self._reading)

    def add_elsewhere(self, reached: Mapping[int, int], segments: int) -> None:
        """Another rank has learned so far from the partitions that it reads, by as many segments more."""
        self._elsewhere.update(reached)
        self.segments += segments

    def follow(self, engine: Learner, ours: Collection[int], *, trains: bool) -> None:
        """Read the partitions of others, where this member trains, and no others."""
        wanted = set(self._partitions) - set(ours) if trains else set[int]()
        self._had |= set(ours)
        for number in sorted(self._reading.keys() - wanted):
            self._reader.end(EPISODES, number)
            del self._reading[number]
            self._learned.pop(number, None)
            self._waiting = deque(row for row in self._waiting if row.partition != number)
            engine.forget_episodes(number)
        for number in sorted(wanted - self._reading.keys()):
            self._reader.begin(EPISODES, number)
            was_ours = self._is_known or number in self._had  # or of who trained before us: learned as it came
            end = self._reader.missing(EPISODES, number)
            if self._learned.get(number, 0) > end:  # another log under the same name, of which nothing was learned
                self._learned[number] = 0
            self._reading[number] = self._learned.setdefault(number, end if was_ours else 0)

    def end(self) -> None:
        """Forget what was read: there is another engine, which knows nothing of it."""
        for number in self._reading:
            self._reader.end(EPISODES, number)
        self._reading.clear()
        self._learned.clear()
        self._had.clear()
        self._is_known = False
        self._waiting.clear()

    def add(self, row: Row) -> None:
        """Note a segment that was read."""
        if row.partition not in self._reading:
            return
        self._waiting.append(row)
        if len(self._waiting) > self._most_waiting:
            self._waiting.popleft()
            self._metrics.episodes.labels("skipped").inc()

    @property
    def is_waiting(self) -> bool:
        """Whether segments were read that are not learned yet."""
        return bool(self._waiting)

    def learn(self, engine: Learner, *, has_backlog: bool, most_events: float = math.inf) -> bool:
        """Learn what waits, within the budget; whether anything was learned.

        Args:
            engine: learns it.
            has_backlog: other work waits, too.
            most_events: after which no further segment is begun.

        Raises:
            SnapshotError: a segment cannot be read.
        """
        now = self._clock()
        share = self._share if has_backlog else 1.0
        self._budget = min(self._budget + share * (now - self._looked), _MOST_SECONDS)
        self._looked, until, learned = now, now + self._budget, False
        while self._waiting and now < until and most_events > 0:
            row = self._waiting.popleft()
            at = f"{self._name}-{EPISODES}/{row.partition}"
            if row.value is None:
                engine.forget_episode(row.partition, row.key)
            elif row.offset < self._reading[row.partition]:
                engine.remember_episode(row.partition, row.key, row.value, at)
                self._metrics.episodes.labels("remembered").inc()
            else:
                most_events -= len(engine.observe_episode(row.partition, row.key, row.value, at))
                self._learned[row.partition] = row.offset + 1
                self.segments += 1
                self._metrics.episodes.labels("learned").inc()
            learned, now = True, self._clock()
        if learned:
            self._budget = max(until - now, 0.0)
        return learned
