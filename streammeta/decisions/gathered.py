"""Decisions and rewards that are taken together, as arrays, and what becomes of them. See ``alike``."""

from collections.abc import Callable
from typing import Any

import numpy as np

from streammeta.decisions.scoring import ActionSlots
from streammeta.engine.part import Part
from streammeta.engine.spill import TaskKey
from streammeta.meta.base import Ints

__all__ = ["Gathered", "Made"]


class Made:
    """What was made of records [N], and what they become for the engine.

    Attributes:
        part: all of them.
        keys: the tasks that learn them [N].
        actions: that were chosen [N]; None: of a reward, whose action is not known any more.
        taken: number of the action that was drawn [N]; 0: of a reward.
        propensities: [N, K] of decisions.
        scores: [N, K] expected rewards.
    """

    def __init__(self, part: Part, actions: int) -> None:
        self.part, self.keys = part, [(-1, "")] * part.size
        self.actions: list[str | None] = [None] * part.size
        self.taken = np.zeros(part.size, np.int64)
        self.propensities, self.scores = np.zeros((2, part.size, actions))


class Gathered:
    """Decisions and rewards [N] of one partition of which none depends on another.

    Attributes:
        partition: theirs.
        slots: of the actions.
        is_choice: [N] a decision; else a reward.
        rows: [N, K] of a decision's actions; −1: nothing was learned of it yet.
        before: [N] decisions of its task before it.
        rewards: [N] NaN: none came, or it depends on the action.
        times: [N] time stamps; NaN is none.
        exact: [N, D] raw features, as far as they are known; NaN is missing.
        sources: what came.
        keys: of each action's task, of a decision; of a reward the one that it is for.
        filling: what ``kernels.gather`` fills.
    """

    def __init__(self, partition: int, most: int, slots: ActionSlots) -> None:
        K, D = slots.crossed.shape
        self.partition, self.slots = partition, slots
        self.is_choice, self.rows, self.before = (
            np.zeros(most, np.bool_),
            np.full((most, K), -1),
            np.zeros(most, np.int64),
        )
        self.rewards, self.times = np.full((2, most), np.nan)
        self.exact = np.full((most, D), np.nan)
        self.sources, self.keys = list[Any](), list[Any]()
        arrays = self.is_choice, self.rows, self.before, self.rewards, self.times, self.exact
        self.filling = (*arrays, self.sources, self.keys)

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.sources)

    def heads(self, choices: Ints) -> tuple[Ints, Callable[[int], TaskKey]]:
        """The rows of these decisions' [n] actions [n · K], and which task the i-th of them is."""
        places, K = choices.tolist(), self.rows.shape[1]
        return self.rows[choices].reshape(-1), lambda i: self.keys[places[i // K]][i % K]

    def cut(self, size: int) -> None:
        """Only the first ``size`` of them are taken."""
        for name in ("is_choice", "rows", "before", "rewards", "times", "exact", "sources", "keys"):
            setattr(self, name, getattr(self, name)[:size])
