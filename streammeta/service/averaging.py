"""A trainer whose members keep their events: it makes θ of the changes that they send (`streammeta.engine.federation`).

    read NAME-episodes → a round: changes of all members, or of those that came in time → θ → publish

A round's θ is published before the next round is begun. So a published θ includes whole rounds, and the offsets that
are published with it are those of the changes in it: a trainer that dies takes none twice, and leaves none out.

Nobody can judge a θ here, as there are no events: members do, each on its own, before they adopt it.
"""

import time
from collections.abc import Callable, Sized

import structlog

from streammeta.engine import Candidate, Engine, Verdict
from streammeta.engine.episodes import UPDATE
from streammeta.engine.update import Update, decode_update
from streammeta.engine.weights import About
from streammeta.errors import SnapshotError
from streammeta.meta.base import MetaState
from streammeta.service.episodes import EpisodeReader
from streammeta.service.metrics import Metrics

__all__ = ["Averaging"]

_log = structlog.get_logger(__name__)
_UNJUDGED = Verdict(0.0, 0.0, 0, False)  # on no event
_ADVICE = {
    "episodes": 'a member sends episodes: set [meta] share = "updates" for all members',
    "damaged": "the record cannot be read: is the member of another version of streammeta?",
    "settings": "give the member the settings of this trainer, but for its own connections",
    "version": "it began from a theta that was not published lately, and the member will begin from a newer one",
    "shape": "it is not of the arrays that theta has, though its settings say so",
    "numbers": "it has numbers that are not finite",
}


class Averaging:
    """A team (`streammeta.service.team`) that makes θ of members' changes.

    Args:
        engine: has θ.
        episodes: reads what members send.
        partitions: of the input; a round is complete when changes of the tasks of all of them have come.
        round_seconds: after which a round goes on without the others.
        metrics: counts changes.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        engine: Engine,
        episodes: EpisodeReader,
        *,
        partitions: int,
        round_seconds: float,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine, self._episodes, self._metrics, self._clock = engine, episodes, metrics, clock
        self._partitions, self._round_seconds = frozenset(range(partitions)), round_seconds
        self._federation = engine.federation()
        self._round: list[Update] = []  # not in θ yet
        self._until = 0.0  # when the round ends, though some are missing
        self._set_aside: int | None = None  # the version that is published, or will be; None: we have just begun
        self._warned: set[str] = set()

    # -- as a team -----------------------------------------------------------------------------------------------------

    @property
    def is_waiting(self) -> bool:
        """See ``Team``."""
        return self._episodes.is_waiting and self._may_read

    def begin(self, about: About) -> None:
        """See ``Team``. Members that have sent what they found from this θ see by its next number that we are there."""
        self._episodes.begin(about)
        self._federation, self._round, self._set_aside = self._engine.federation(), [], None
        now = self._engine.shared_weights()
        self._federation.published(now.version, now.shared["theta_id"])

    def learn(self) -> None:
        """See ``Team``."""
        if self._set_aside is None:
            self._set_aside = self._version
            self._count_up()
        if not self._may_read:
            return
        self._episodes.learn(self, has_backlog=False)
        there = {number for one in self._round for number in one.partitions}
        if self._round and (there >= self._partitions or self._clock() >= self._until):
            self._end_round()

    def beat(self) -> None:
        """See ``Team``: nobody waits for us."""

    def candidate(self) -> Candidate:
        """See ``Team``."""
        self._set_aside = self._version
        return self._engine.candidate()

    def judge(self, candidate: Candidate, before: MetaState | None) -> Verdict:  # noqa: ARG002  there are no events
        """See ``Team``: it is published as it is."""
        self._federation.published(candidate.weights.version, candidate.weights.shared["theta_id"])
        return _UNJUDGED

    # -- what the reader of records calls ------------------------------------------------------------------------------

    def remember_episode(self, partition: int, key: bytes, value: bytes, at: str) -> None:
        """See ``Learner``: it is in θ already."""

    def observe_episode(self, partition: int, key: bytes, value: bytes, at: str) -> Sized:  # noqa: ARG002
        """See ``Learner``: a change is put by for the round's end, or refused for its reason."""
        found = self._read(key, value, at)
        if isinstance(found, str):
            self._refuse(found, at)
        else:
            if not self._round:
                self._until = self._clock() + self._round_seconds
            self._round.append(found)
        return ()

    def forget_episode(self, partition: int, key: bytes) -> None:
        """See ``Learner``: nothing is remembered."""

    def forget_episodes(self, partition: int) -> None:
        """See ``Learner``."""

    # -- rounds --------------------------------------------------------------------------------------------------------

    @property
    def _version(self) -> int:
        return self._engine.stats().theta_version

    @property
    def _may_read(self) -> bool:
        """Whether the last round's θ is on its way out."""
        return self._version == self._set_aside

    def _count_up(self) -> None:
        self._engine.count_versions_from(self._version + 1)

    def _read(self, key: bytes, value: bytes, at: str) -> Update | str:
        """The change, or why it cannot be used."""
        if key != UPDATE:
            return "episodes"
        try:
            found = decode_update(value, at)
        except SnapshotError:
            return "damaged"
        return self._federation.refusal(found) or found

    def _refuse(self, reason: str, at: str) -> None:
        self._metrics.updates_refused.labels(reason).inc()
        if reason not in self._warned:
            self._warned.add(reason)
            _log.error("a record of a member cannot be used", where=at, reason=reason, remedy=_ADVICE[reason])

    def _end_round(self) -> None:
        ended, self._round = self._round, []
        for one in ended:
            self._federation.know(one)
        moved = [one for one in ended if one.delta]
        if moved:
            self._federation.step(moved)
        else:  # names only
            self._count_up()
        self._metrics.updates.labels("averaged").inc(len(moved))
