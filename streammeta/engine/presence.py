"""When each task was seen last, and which tasks are to be forgotten: those whose tag does not come any more.

What is asked is the log of the task's own partition: how many events it had since the task's last one, how far their
time stamps have gone, and how many other tasks were seen since. No clock of ours is read, and no other partition. So
the same tasks are forgotten before the same event whatever the polls are, whichever member has the partition, and
after a restore.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from streammeta.engine.spill import TaskKey
from streammeta.native import _kernels as kernels

__all__ = ["ForgetAfter", "LastSeen", "Presence", "Reason", "parse_forget_after"]

Reason: TypeAlias = Literal["age", "limit", "asked"]
_UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_NEVER = "never"
_MOST = 10**15


class ForgetAfter(NamedTuple):
    """After how many events of its partition, or seconds of their time stamps, without an event a task is forgotten."""

    events: float = math.inf
    seconds: float = math.inf


def parse_forget_after(value: int | str) -> ForgetAfter:
    """`[memory] forget_after`: events (1000000), a time (90s, 30m, 12h, 30d) or "never".

    >>> parse_forget_after(1_000_000).events, parse_forget_after("30d").seconds
    (1000000, 2592000.0)

    Raises:
        ValueError: it is none of these.
    """
    text = str(value).strip()
    number, unit = (text[:-1], text[-1]) if text and text[-1] in _UNITS else (text, "")
    if text == _NEVER:
        return ForgetAfter()
    try:
        amount = float(number) if unit else int(number)
    except ValueError:
        amount = 0
    if not 0 < amount < _MOST:
        raise ValueError(f'got {value!r:.100}, wanted events (1000000), a time (90s, 30m, 12h, 30d) or "never"')
    return ForgetAfter(seconds=amount * _UNITS[unit]) if unit else ForgetAfter(events=int(amount))


class LastSeen(NamedTuple):
    """A task's last event or label in its partition."""

    number: int  # which one of the partition it was, as far as they are counted
    time: float  # how far the partition's time had come then; −inf: none of its events had a time stamp
    ts: float  # the last time stamp in the partition; NaN: there was none


_NEVER_SEEN: tuple[int, float, float] = (0, -math.inf, math.nan)


class _Partition:
    """The known tasks of a partition, those seen least recently first, and what holds of the one seen last."""

    __slots__ = ("due", "due_time", "number", "tasks", "time", "ts")

    def __init__(self, tasks: OrderedDict[str, tuple[int, float, float]]) -> None:
        self.tasks = tasks
        self.due: float = 0.0  # no task is too old before this number of events ...
        self.due_time: float = -math.inf  # ... and this time
        self.go_back()

    def go_back(self) -> None:
        """What is counted is what the task says that was seen last: so a restore counts on from the same."""
        self.number, self.time, self.ts = self.tasks[next(reversed(self.tasks))] if self.tasks else _NEVER_SEEN


class Presence:
    """The known tasks of each partition, those seen least recently first.

    The time of a partition goes on where two events in a row agree that it has: one wrong time stamp forgets nobody.

    Args:
        most: tasks known of a partition; of more, those seen least recently are forgotten.
        after: when a task that is not seen any more is forgotten.

    >>> presence = Presence(most=2, after=ForgetAfter())
    >>> [list(presence.see((0, tag), None)) for tag in ("a", "b", "a", "c")]
    [[], [], [], [(0, 'b')]]
    """

    def __init__(self, most: int, after: ForgetAfter) -> None:
        self._most, self._after = most, after
        self._partitions: dict[int, _Partition] = {}
        self.forgotten: dict[Reason, int] = {"age": 0, "limit": 0, "asked": 0}  # since this process began

    def see(self, key: TaskKey, ts: float | None) -> Sequence[TaskKey]:
        """A task has an event or a label: note it, and return the tasks of its partition that this makes forgotten."""
        partition, _ = key
        part = self.see_all(partition, [key], np.array([math.nan if ts is None else ts], np.float64))
        if part.number < part.due and part.time < part.due_time and len(part.tasks) <= self._most:
            return ()
        return self._forget_old(partition, part)

    def see_all(self, partition: int, keys: list[TaskKey], times: npt.NDArray[np.float64]) -> _Partition:
        """Each of these tasks of a partition has an event or a label, in this order: note it, and forget none.

        That is what ``see`` of each would do, where ``until_forgetting`` allows for as many.

        Args:
            partition: whose they are.
            keys: of the tasks [N].
            times: time stamps [N]; NaN is none.
        """
        part = self._partitions.get(partition)
        if part is None:
            part = self._partitions[partition] = _Partition(OrderedDict())
        part.number, part.time, part.ts = kernels.see(part.tasks, keys, times, part.number, part.time, part.ts)
        return part

    def until_forgetting(self, partition: int) -> tuple[float, float]:
        """How many calls of ``see`` for a partition are certain to forget no task, and before which time stamp."""
        part = self._partitions.get(partition)
        if part is None:
            return 1.0, math.inf
        return min(part.due - part.number, self._most - len(part.tasks) + 1) - 1, part.due_time

    def _forget_old(self, partition: int, part: _Partition) -> list[TaskKey]:
        tasks, gone = part.tasks, list[TaskKey]()
        while tasks:
            tag = next(iter(tasks))
            number, time, _ = tasks[tag]
            part.due = number + self._after.events
            part.due_time = math.inf if math.isinf(self._after.seconds) else time + self._after.seconds
            aged = part.number >= part.due or (math.isfinite(time) and part.time >= part.due_time)
            if not aged and len(tasks) <= self._most:
                break
            del tasks[tag]
            gone.append((partition, tag))
            if partition >= 0:  # below zero: the member that has it counts it
                self.forgotten["age" if aged else "limit"] += 1
        return gone

    def __contains__(self, key: TaskKey) -> bool:
        part = self._partitions.get(key[0])
        return part is not None and key[1] in part.tasks

    def last_seen(self, key: TaskKey) -> LastSeen:
        """Of a task that is known."""
        return LastSeen(*self._partitions[key[0]].tasks[key[1]])

    def drop(self, key: TaskKey) -> bool:
        """Forget a task because somebody asked for it; was it known?"""
        part = self._partitions.get(key[0])
        if part is None or key[1] not in part.tasks:
            return False
        del part.tasks[key[1]]
        part.go_back()
        self.forgotten["asked"] += 1
        return True

    def load(self, partition: int, tasks: Iterable[tuple[str, LastSeen | None]]) -> list[TaskKey]:
        """Know these tasks of a partition; returns those that are to be forgotten as settings are now.

        Args:
            partition: whose they are.
            tasks: with None where it is not known when a task was seen; those come in their order, before all others.
        """
        found = sorted(((tag, seen or _NEVER_SEEN) for tag, seen in tasks), key=lambda one: one[1][0])
        self._partitions[partition] = _Partition(OrderedDict(found))
        return self._forget_old(partition, self._partitions[partition])

    def forget(self, partition: int) -> None:
        """Another process has the partition now."""
        self._partitions.pop(partition, None)

    def items(self) -> Iterator[tuple[TaskKey, LastSeen]]:
        """Every known task of our own partitions, in each the one seen least recently first."""
        for partition, part in sorted(self._partitions.items()):
            if partition >= 0:
                for tag, seen in part.tasks.items():
                    yield (partition, tag), LastSeen(*seen)
