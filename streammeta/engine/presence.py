"""When each task was seen last, and which tasks are to be forgotten: those whose tag does not come any more.

What is asked is the log of the task's own partition: how many events it had since the task's last one, how far their
time stamps have gone, and how many other tasks were seen since. No clock of ours is read, and no other partition. So
the same tasks are forgotten before the same event whatever the polls are, whichever member has the partition, and
after a restore.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple, TypeAlias

from streammeta.engine.spill import TaskKey

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


_START = LastSeen(0, -math.inf, math.nan)


class Presence:
    """The known tasks of each partition, those seen least recently first.

    The time of a partition goes on where two events in a row agree that it has: one wrong time stamp forgets nobody.

    Args:
        most: tasks known of a partition; of more, those seen least recently are forgotten.
        after: when a task that is not seen any more is forgotten.

    >>> presence = Presence(most=2, after=ForgetAfter())
    >>> [presence.see((0, tag), None) for tag in ("a", "b", "a", "c")]
    [[], [], [], [(0, 'b')]]
    """

    def __init__(self, most: int, after: ForgetAfter) -> None:
        self._most, self._after = most, after
        self._partitions: dict[int, OrderedDict[str, LastSeen]] = {}
        self.forgotten: dict[Reason, int] = {"age": 0, "limit": 0, "asked": 0}  # since this process began

    def see(self, key: TaskKey, ts: float | None) -> list[TaskKey]:
        """A task has an event or a label: note it, and return the tasks of its partition that this makes forgotten."""
        tasks = self._partitions.setdefault(key[0], OrderedDict())
        newest = tasks[next(reversed(tasks))] if tasks else _START
        time, last = newest.time, newest.ts
        if ts is not None:
            if math.isnan(last):
                time = ts
            elif ts > time and last > time:
                time = min(ts, last)
            last = ts
        tasks[key[1]] = LastSeen(newest.number + 1, time, last)
        tasks.move_to_end(key[1])
        return self._forget_old(key[0], tasks)

    def _forget_old(self, partition: int, tasks: OrderedDict[str, LastSeen]) -> list[TaskKey]:
        if not tasks:
            return []
        newest, gone = tasks[next(reversed(tasks))], list[TaskKey]()
        while True:
            tag = next(iter(tasks))
            oldest = tasks[tag]
            aged = newest.number - oldest.number >= self._after.events
            if not aged and math.isfinite(oldest.time):
                aged = newest.time - oldest.time >= self._after.seconds
            if not aged and len(tasks) <= self._most:
                return gone
            del tasks[tag]
            gone.append((partition, tag))
            if partition >= 0:  # below zero: the member that has it counts it
                self.forgotten["age" if aged else "limit"] += 1

    def last_seen(self, key: TaskKey) -> LastSeen:
        """Of a task that is known."""
        return self._partitions[key[0]][key[1]]

    def drop(self, key: TaskKey) -> bool:
        """Forget a task because somebody asked for it; was it known?"""
        known = key[1] in self._partitions.get(key[0], ())
        if known:
            del self._partitions[key[0]][key[1]]
        self.forgotten["asked"] += known
        return known

    def load(self, partition: int, tasks: Iterable[tuple[str, LastSeen | None]]) -> list[TaskKey]:
        """Know these tasks of a partition; returns those that are to be forgotten as settings are now.

        Args:
            partition: whose they are.
            tasks: with None where it is not known when a task was seen; those come in their order, before all others.
        """
        found = sorted(((tag, seen or _START) for tag, seen in tasks), key=lambda one: one[1].number)
        self._partitions[partition] = OrderedDict(found)
        return self._forget_old(partition, self._partitions[partition])

    def forget(self, partition: int) -> None:
        """Another process has the partition now."""
        self._partitions.pop(partition, None)

    def items(self) -> Iterator[tuple[TaskKey, LastSeen]]:
        """Every known task of our own partitions, in each the one seen least recently first."""
        for partition, tasks in sorted(self._partitions.items()):
            if partition >= 0:
                for tag, seen in tasks.items():
                    yield (partition, tag), seen
