"""Figures of a run of decisions."""

from collections.abc import Sequence

from streammeta.decisions.outcome import DecisionOutcome
from streammeta.engine import Outcome
from streammeta.report import Figures, Tally

__all__ = ["DecisionTally"]


class DecisionTally(Tally):
    """Rewards, and how far they were from what the action taken was expected to earn."""

    def __init__(self) -> None:
        super().__init__("regression")
        self.decisions = self.tried = self.rewards = 0
        self._earned = 0.0

    def add(self, outcomes: Sequence[Outcome], rejected: int = 0) -> None:
        """As ``Tally`` does, and count decisions and rewards."""
        super().add(outcomes, rejected)
        for outcome in outcomes:
            if not isinstance(outcome, DecisionOutcome):
                continue
            if outcome.scores is not None and outcome.action is not None:
                self.decisions += 1
                self.tried += outcome.scores[outcome.action] < max(outcome.scores.values())
            if outcome.reward is not None:
                self.rewards += 1
                self._earned += outcome.reward

    @property
    def mean_reward(self) -> float | None:
        """Of all rewards so far; None before the first."""
        return self._earned / self.rewards if self.rewards else None

    def figures(self) -> Figures:
        """Everything counted so far; errors are of the expected rewards."""
        return {
            **super().figures(),
            "kind": "decision",
            "decisions": self.decisions,
            "rewards": self.rewards,
            "mean_reward": self.mean_reward,
            "tried_another_than_the_best": self.tried / self.decisions if self.decisions else None,
        }
