"""Which of gathered decisions and rewards may be taken together, so that none depends on another of them."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from streammeta.decisions.choosing import Choosing
from streammeta.decisions.gathered import Gathered
from streammeta.engine.settings import DecideSettings
from streammeta.meta.base import Ints

__all__ = ["Order"]


class Order:
    """What depends on what in records [N] that were gathered.

    Args:
        gathered: the records.
        owner: which task a record is of, by its place.
        choosing: knows what makes a decision see something else.
        how: decisions' settings.
    """

    def __init__(
        self, gathered: Gathered, owner: Callable[[int], int], choosing: Choosing, how: DecideSettings
    ) -> None:
        self._gathered, self._owner, self._choosing, self._rewards = gathered, owner, choosing, how.rewards

    def until_published(self) -> int:
        """How many of the records come before a decision that sees another version of what tasks have in common."""
        gathered = self._gathered
        until = self._choosing.until_published(gathered.partition)
        if until >= gathered.size:
            return gathered.size
        brings_reward = ~gathered.is_choice
        if self._rewards == "label":  # else a decision with a label is not like most
            brings_reward = np.array([source.y is not None for source in gathered.sources], np.bool_)
        before: Ints = np.cumsum(brings_reward) - brings_reward
        later = gathered.is_choice & (before >= until)
        return int(np.append(later, True).argmax())

    def independent(self) -> tuple[int, bool]:
        """How many of the records may be taken, and whether that is in waves, as some depend on others before them."""
        gathered = self._gathered
        choices, first = np.flatnonzero(gathered.is_choice), self._first_label()
        heads, of = gathered.rows[choices].reshape(-1), np.repeat(np.arange(len(choices)), gathered.rows.shape[1])
        is_late = choices > (0 if self._choosing.looks_may_show else first)
        late = choices[self._choosing.are_looked_at(heads, of, is_late)]
        stale = choices[self._choosing.become_stale(heads, of, gathered.before[choices])]
        at_late, at_stale = (int(min(one, default=gathered.size)) for one in (late, stale))
        if self._rewards == "label":  # which of a task's actions learn is known only when they are drawn
            in_waves = at_stale < min(at_late, first)
            return min(at_late, first if in_waves else at_stale), in_waves
        return at_late, at_stale < at_late or self._follows_reward(at_late)

    def _follows_reward(self, end: int) -> bool:
        """Whether any decision of the first ``end`` records comes after a reward of its task."""
        gathered = self._gathered
        rewarded = set[int]()
        for i, is_choice in enumerate(gathered.is_choice[:end].tolist()):
            if not is_choice:
                rewarded.add(self._owner(i))
            elif self._owner(i) in rewarded:
                return True
        return False

    def _first_label(self) -> int:
        """The first record that brings a reward; how many there are, if none does."""
        gathered = self._gathered
        end = int(np.append(~gathered.is_choice, True).argmax())
        if self._rewards == "reward":  # then a decision with a label is not like most
            return end
        return next((i for i, source in enumerate(gathered.sources[:end]) if source.y is not None), end)

    def waves(self) -> Iterator[Ints]:
        """Records of which none depends on another of its wave, nor on one that is left for a later wave.

        A decision depends on a reward of its task before it, and on decisions that may make a φ stale which it sees;
        after the first that has to wait, so does all else of its task. A task is looked at when all that came before
        was taken: a wave with a label that may bring a look ends before the first record that has to wait. What may
        become stale is asked again after every wave: by then φ may have been derived.
        """
        gathered = self._gathered
        owners = [self._owner(i) for i in range(gathered.size)]
        may_look, is_choice = self._may_look(), gathered.is_choice.tolist()
        rest = [*range(gathered.size)]
        while rest:
            stale, rewarded, waiting, wave = self._stale(rest, owners), set[int](), set[int](), list[int]()
            left, looks = list[int](), False
            for n, i in enumerate(rest):
                owner = owners[i]
                if owner in waiting or (is_choice[i] and (owner in rewarded or i in stale)):
                    waiting.add(owner)
                    left.append(i)
                elif may_look[i] and left:
                    left += rest[n:]
                    break
                else:
                    wave.append(i)
                    looks |= may_look[i]
                    if not is_choice[i]:
                        rewarded.add(owner)
                if left and looks:
                    left += rest[n + 1 :]
                    break
            yield np.array(wave)
            rest = left

    def _stale(self, rest: Sequence[int], owners: Sequence[int]) -> set[int]:
        """Which decisions of these records may see a φ that becomes stale by others of these before them."""
        gathered = self._gathered
        which, count, before = list[int](), dict[int, int](), list[int]()
        for i in rest:
            seen = count[owners[i]] = count.get(owners[i], -1) + 1
            if gathered.is_choice[i]:
                which.append(i)
                before.append(seen)
        heads, of = gathered.rows[which].reshape(-1), np.repeat(np.arange(len(which)), gathered.rows.shape[1])
        found = self._choosing.become_stale(heads, of, np.array(before, np.int64))
        return {which[n] for n in np.flatnonzero(found).tolist()}

    def _may_look(self) -> list[bool]:
        """Of which records [N] the label may make the engine look at its task, or is looked at first."""
        gathered = self._gathered
        found, late = np.zeros(gathered.size, np.bool_), np.flatnonzero(~gathered.is_choice)
        if late.size:
            seen = gathered.rows[late, 0], gathered.exact[late], gathered.rewards[late]
            found[late] = self._choosing.may_look(*seen)
        return found.tolist()
