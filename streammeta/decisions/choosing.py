"""Drawing actions: rows brought up to date, propensities from what heads expect, and a draw that is the same again."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from streammeta.decisions.exploration import Doubles, drawn, explore, stable_uniform
from streammeta.decisions.scoring import blend, score
from streammeta.engine.common_rewards import Expected
from streammeta.engine.cycle import Cycle
from streammeta.engine.looks import find_strays, is_coarse, is_outdated, look
from streammeta.engine.memory import Memory
from streammeta.engine.scale import Seen
from streammeta.engine.settings import DecideSettings
from streammeta.engine.spill import TaskKey
from streammeta.engine.staleness import derive_unseen
from streammeta.event import Origin
from streammeta.meta.base import Ints
from streammeta.meta.exact.event_kernel import Few

__all__ = ["Choosing", "Drawn", "Rows"]


Bools: TypeAlias = npt.NDArray[np.bool_]


class Rows(NamedTuple):
    """The rows of several decisions' actions, one decision after the other."""

    rows: Ints  # [M] −1: nothing was learned of it yet
    of: Ints  # [M] whose they are
    before: Ints  # [N] decisions of each one's task that are made together with it, before it
    is_late: Bools  # [N] a look may come before it, or what a look at it changes is seen there


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

    def become_stale(self, rows: Ints, of: Ints, before: Ints) -> Bools:
        """Which decisions [N] may see a φ that becomes stale by decisions made together with them.

        Args:
            rows: of their actions [M]; −1: nothing was learned of it yet.
            of: whose they are [M].
            before: decisions of each one's task before it [N].
        """
        memory, known = self._memory, rows >= 0
        columns, here, of = memory.tasks.columns, rows[known], of[known]
        rest = columns.rebuild_cooldown[here]
        stale = (rest <= before[of]) & (rest >= 1) & (columns.version[here] != memory.shared.stamp)
        found = np.zeros(len(before), np.bool_)
        found[of[stale]] = True
        return found

    def until_published(self, partition: int) -> float:
        """Rewards of this partition after which decisions see another version of what tasks have in common."""
        rewards = self._memory.rewards
        return math.inf if rewards is None else rewards.until_published(partition)

    def are_looked_at(self, rows: Ints, of: Ints, is_late: Bools) -> Bools:
        """Which decisions [N], of those that come late, are looked at first: what looks count is added in log order."""
        memory, known = self._memory, rows >= 0
        outdated = is_outdated(memory.tasks.columns, rows[known], memory.shared.frame.epoch)
        found = np.zeros(len(is_late), np.bool_)
        found[of[known][outdated]] = True
        return found & is_late

    def may_look(self, rows: Ints, exact: Doubles, rewards: Doubles) -> Bools:
        """Which rewards [N] may make the engine look at their task, or find one that is looked at first.

        Args:
            rows: of the tasks that learn them [N].
            exact: raw features of their events [N, D].
            rewards: [N]
        """
        memory, before, found = self._memory, dict[int, int](), np.zeros(len(rows), np.bool_)
        columns, frame = memory.tasks.columns, memory.shared.frame
        seen = Seen.of(columns, rows, exact, rewards, frame)
        strays, outdated = find_strays(frame, seen.x, seen.y) > 0, is_outdated(columns, rows, frame.epoch)
        until = (columns.scale_next[rows] - columns.labelled[rows]).tolist()
        for i, row in enumerate(rows.tolist()):
            count = before[row] = before.get(row, 0) + 1
            found[i] = count >= until[i] or strays[i] or outdated[i]
            if found[i]:
                before[row] = 2**60  # what was true before the look need not be any more
        return found

    def independent(self, found: Rows) -> int:
        """How many of the decisions may be made at once: their rows must not change by what comes before them.

        They do where φ becomes stale by events of its own task, and where a look at it would come after the looks
        that rewards bring: what they count together is added up in the order of the log.
        """
        bad = self.become_stale(found.rows, found.of, found.before)
        bad |= self.are_looked_at(found.rows, found.of, found.is_late)
        return int(bad.argmax()) if bad.any() else len(bad)

    @property
    def looks_may_show(self) -> bool:
        """Whether a look at one task may change what others see."""
        return is_coarse(self._memory.shared.frame)

    def bring_up_to_date(self, rows: Ints, key_at: Callable[[int], TaskKey]) -> None:
        """Bring rows [M] up to what tasks share now, as events of theirs would; ``key_at`` says whose each is."""
        self.look_at(rows, key_at)
        self.derive(rows, key_at)

    def look_at(self, rows: Ints, key_at: Callable[[int], TaskKey]) -> None:
        """Look at those of rows [M] for which the shared scale has changed, in this order."""
        memory, known = self._memory, rows[rows >= 0]
        outdated = known[is_outdated(memory.tasks.columns, known, memory.shared.frame.epoch)]
        for row in dict.fromkeys(outdated.tolist()):
            key = key_at(int((rows == row).argmax()))
            self._cycle.follow_look(key[0], row, look(memory.tasks.columns, row, memory.shared.frame))
            memory.tasks.mark_changed(key)

    def derive(self, rows: Ints, key_at: Callable[[int], TaskKey]) -> None:
        """Derive those of rows [M] again that are stale."""
        memory = self._memory
        stale = derive_unseen(memory.tasks.columns, rows[rows >= 0], memory.shared.stamp)
        if stale.size:
            memory.response.derive(memory.fixed, memory.tasks.columns, stale, memory.labels.outputs)
        for row in stale.tolist():
            memory.tasks.mark_changed(key_at(int((rows == row).argmax())))

    def draw(self, rows: Ints, seen: Few, origins: Sequence[Origin], expected: Expected | None) -> Drawn:
        """Draw the action of each decision.

        Args:
            rows: of its actions [N, K], up to date.
            seen: what their heads see [N · K].
            origins: what the draws depend on beside the seed [N].
            expected: what these actions earn in any task; None: it is not known.
        """
        memory, seed = self._memory, self._memory.settings.seed
        scores = blend(score(memory.fixed, memory.tasks.columns, rows, seen), expected)
        propensities = explore(scores, self._how)
        uniform = np.array([stable_uniform(seed, at.topic, at.partition, at.offset) for at in origins])
        return Drawn(drawn(propensities, uniform), propensities, scores.means)
