"""Drawing actions: rows brought up to date, propensities from what heads expect, and a draw that is the same again."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from streammeta.decisions.exploration import Doubles, drawn, explore, stable_uniform
from streammeta.decisions.scoring import score
from streammeta.engine.cycle import Cycle
from streammeta.engine.looks import is_outdated, look
from streammeta.engine.memory import Memory
from streammeta.engine.settings import DecideSettings
from streammeta.engine.spill import TaskKey
from streammeta.engine.staleness import derive_unseen
from streammeta.event import Origin
from streammeta.meta.base import Ints
from streammeta.meta.exact.event_kernel import Few

__all__ = ["Choosing", "Drawn", "Rows"]


class Rows(NamedTuple):
    """The rows of several decisions' actions, one decision after the other."""

    rows: Ints  # [M] −1: nothing was learned of it yet
    of: Ints  # [M] whose they are
    before: Ints  # [N] decisions of each one's task that are made together with it, before it
    is_late: np.ndarray  # [N] something comes before it that is taken together with it


class Drawn(NamedTuple):
    """What was chosen in N decisions of K actions each."""

    taken: Ints  # [N]
    propensities: Doubles  # [N, K]
    scores: Doubles  # [N, K] expected rewards


class Choosing:
    """Draws actions by what an engine's tasks know.

    Args:
        memory: what is known.
        cycle: follows what a look at a task finds.
        how: which exploration, and its settings.
    """

    def __init__(self, memory: Memory, cycle: Cycle, how: DecideSettings) -> None:
        self._memory, self._cycle, self._how = memory, cycle, how

    def independent(self, found: Rows) -> int:
        """How many of the decisions may be made at once: their rows must not change by what comes before them.

        They do where φ becomes stale by events of its own task, and where a look at it would come after the looks
        that rewards bring: what they count together is added up in the order of the log.
        """
        memory = self._memory
        columns, known = memory.tasks.columns, found.rows >= 0
        rows, of = found.rows[known], found.of[known]
        rest, version = columns.rebuild_cooldown[rows], columns.version[rows]
        bad = (rest <= found.before[of]) & (rest >= 1) & (version != memory.shared.stamp)
        bad |= found.is_late[of] & is_outdated(columns, rows, memory.shared.frame.epoch)
        return int(of[bad.argmax()]) if bad.any() else len(found.before)

    def bring_up_to_date(self, rows: Ints, key_at: Callable[[int], TaskKey]) -> None:
        """Bring rows [M] up to what tasks share now, as events of theirs would; ``key_at`` says whose each is."""
        memory, known = self._memory, np.flatnonzero(rows >= 0)
        columns, here = memory.tasks.columns, rows[known]
        changed = dict.fromkeys(here[is_outdated(columns, here, memory.shared.frame.epoch)].tolist())
        for row in changed:
            partition, _ = key_at(int((rows == row).argmax()))
            self._cycle.follow_look(partition, row, look(memory.tasks.columns, row, memory.shared.frame))
        stale = derive_unseen(memory.tasks.columns, here, memory.shared.stamp)
        if stale.size:
            memory.response.derive(memory.fixed, memory.tasks.columns, stale, memory.labels.outputs)
        for row in (*changed, *stale.tolist()):
            memory.tasks.mark_changed(key_at(int((rows == row).argmax())))

    def draw(self, rows: Ints, seen: Few, origins: Sequence[Origin]) -> Drawn:
        """Draw the action of each decision.

        Args:
            rows: of its actions [N, K], up to date.
            seen: what their heads see [N · K].
            origins: what the draws depend on beside the seed [N].
        """
        memory, seed = self._memory, self._memory.settings.seed
        scores = score(memory.fixed, memory.tasks.columns, rows, seen)
        propensities = explore(scores, self._how)
        uniform = np.array([stable_uniform(seed, at.topic, at.partition, at.offset) for at in origins])
        return Drawn(drawn(propensities, uniform), propensities, scores.means)
