"""Who learns θ from episodes: a trainer's process alone, or several ranks (`streammeta.service.rounds`)."""

from typing import Protocol

from streammeta.engine import Candidate, Engine, Verdict
from streammeta.engine.weights import About
from streammeta.meta.base import MetaState
from streammeta.service.episodes import EpisodeReader

__all__ = ["Alone", "Team"]


class Team(Protocol):
    """What a trainer wants of who learns."""

    @property
    def is_waiting(self) -> bool:
        """Whether segments were read that are not learned yet."""

    def begin(self, about: About) -> None:
        """A θ is gone on with that includes episodes up to some offsets."""

    def learn(self) -> None:
        """Learn for a moment of what waits, with the meta-updates that are due. Raises SnapshotError."""

    def beat(self) -> None:
        """We are there: called at least every few seconds."""

    def candidate(self) -> Candidate:
        """θ as it is now, to be judged on labelled events that come later."""

    def judge(self, candidate: Candidate, before: MetaState | None) -> Verdict | None:
        """How it does beside the version before; None where too few labels have come yet."""


class Alone:
    """One process learns of all partitions; its engine makes meta-updates in its own steps.

    Args:
        engine: learns.
        episodes: reads.
    """

    def __init__(self, engine: Engine, episodes: EpisodeReader) -> None:
        self._engine, self._episodes = engine, episodes

    @property
    def is_waiting(self) -> bool:
        """See ``Team``."""
        return self._episodes.is_waiting

    def begin(self, about: About) -> None:
        """See ``Team``."""
        self._episodes.begin(about)

    def learn(self) -> None:
        """See ``Team``."""
        self._episodes.learn(self._engine, has_backlog=False)

    def beat(self) -> None:
        """See ``Team``: nobody waits for us."""

    def candidate(self) -> Candidate:
        """See ``Team``."""
        return self._engine.candidate()

    def judge(self, candidate: Candidate, before: MetaState | None) -> Verdict | None:
        """See ``Team``."""
        return self._engine.judge(candidate, before)
