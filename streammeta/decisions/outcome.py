"""What a decision engine answers, and how its tasks are called."""

from collections.abc import Mapping

from streammeta.engine.outcome import Outcome
from streammeta.engine.settings import ACTION_OF

__all__ = ["DecisionOutcome", "joined", "parted"]


class DecisionOutcome(Outcome, frozen=True):
    """What became of an event for which an action was chosen, of a reward, or of a decision made elsewhere."""

    action: str | None = None  # chosen, or the one that was rewarded
    propensity: float | None = None  # with which it was drawn; None: it was not chosen here, or not with this record
    propensities: Mapping[str, float] | None = None  # of every action
    scores: Mapping[str, float] | None = None  # expected reward of every action
    reward: float | None = None  # that was learned with this record


def joined(task: str, action: str) -> str:
    """The tag under which an engine learns what an action earns in a task.

    >>> parted(joined("shop-1", "red"))
    ('shop-1', 'red')
    """
    return f"{task}{ACTION_OF}{action}"


def parted(tag: str) -> tuple[str, str]:
    """Task and action of such a tag; no action has the mark in it."""
    task, _, action = tag.rpartition(ACTION_OF)
    return task, action
