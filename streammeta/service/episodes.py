"""Episodes of other members' partitions, for the member that trains: read in full, learned within a budget of time."""

from collections import deque
from collections.abc import Callable, Collection

from streammeta.engine import Engine
from streammeta.service.metrics import Metrics
from streammeta.service.result import EPISODES
from streammeta.transport.base import ChangelogReader, Row

__all__ = ["EpisodeReader"]

_MOST_WAITING = 4_096  # segments; older ones are skipped: who trains must not fall back for ever
_MOST_SECONDS = 0.25  # of learning between two polls


class EpisodeReader:
    """Reads and learns episodes.

    Args:
        reader: of the topics.
        name: the application's, for messages.
        partitions: of the topic.
        share: of the time that learning may take while records wait.
        metrics: counts segments.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        reader: ChangelogReader,
        name: str,
        partitions: int,
        *,
        share: float,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._reader, self._name, self._partitions, self._share = reader, name, partitions, share
        self._metrics, self._clock = metrics, clock
        self._reading: set[int] = set()
        self._waiting: deque[Row] = deque()
        self._budget, self._looked = 0.0, clock()

    def follow(self, engine: Engine, ours: Collection[int], *, trains: bool) -> None:
        """Read the partitions of others, where this member trains, and no others."""
        wanted = set(range(self._partitions)) - set(ours) if trains else set[int]()
        for number in sorted(self._reading - wanted):
            self._reader.end(EPISODES, number)
            self._reading.discard(number)
            self._waiting = deque(row for row in self._waiting if row.partition != number)
            engine.forget_episodes(number)
        for number in sorted(wanted - self._reading):
            self._reader.begin(EPISODES, number)
            self._reading.add(number)

    def end(self) -> None:
        """Forget what was read: there is another engine, which knows nothing of it."""
        for number in self._reading:
            self._reader.end(EPISODES, number)
        self._reading.clear()
        self._waiting.clear()

    def add(self, row: Row) -> None:
        """Note a segment that was read."""
        if row.value is None or row.partition not in self._reading:
            return
        self._waiting.append(row)
        if len(self._waiting) > _MOST_WAITING:
            self._waiting.popleft()
            self._metrics.episodes.labels("skipped").inc()

    def learn(self, engine: Engine, *, has_backlog: bool) -> bool:
        """Learn what waits, within the budget; whether anything was learned.

        Raises:
            SnapshotError: a segment cannot be read.
        """
        now = self._clock()
        share = self._share if has_backlog else 1.0
        self._budget = min(self._budget + share * (now - self._looked), _MOST_SECONDS)
        self._looked, until, learned = now, now + self._budget, False
        while self._waiting and now < until:
            row = self._waiting.popleft()
            at = f"{self._name}-{EPISODES}/{row.partition}"
            engine.observe_episode(row.partition, row.key, row.value or b"", at)
            self._metrics.episodes.labels("learned").inc()
            learned, now = True, self._clock()
        if learned:
            self._budget = max(until - now, 0.0)
        return learned
