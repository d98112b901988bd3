"""Plays recorded events as life would bring them: labels come late, and events at their own pace.

A source around another source. It rewrites records (an event without its label, and later the label by itself), so that
the service and its observers meet late labels exactly as on a topic.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple, TypeAlias

import msgspec
from msgspec.structs import replace

from streammeta.errors import ConfigError, EventError
from streammeta.event import Decoder, Event, Record
from streammeta.transport.base import Partition, Positions, Source

__all__ = ["Delay", "DelayedLabelSource", "parse_delay"]

Delay: TypeAlias = int | timedelta  # events, or time by the events' own clock
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TURN_SECONDS = 0.5  # the longest that a turn is to take
_FIRST_RECORDS = 32  # of the first turn; twice as many in each later one, while that is quick
_JSON, _READ = msgspec.json.Encoder(), msgspec.json.Decoder(dict[str, Any])


class _Late(NamedTuple):
    """A label on its way."""

    due: float  # events handed out, or ts, from which on it comes
    record: Record


@dataclass(slots=True)
class _Clock:
    """Where the recording stood when it began, and when that was."""

    begun: float
    first_ts: float


def parse_delay(text: str) -> Delay:
    """How late labels come: `100` is 100 events, `90s`, `30m`, `1h` or `2d` a time.

    >>> parse_delay("100"), parse_delay("1h")
    (100, datetime.timedelta(seconds=3600))

    Raises:
        ConfigError: it is neither.
    """
    number, unit = (text[:-1], text[-1]) if text and text[-1] in _UNITS else (text, "")
    try:
        value = float(number) if unit else int(number)
    except ValueError:
        value = -1
    if not 0 <= value < 1e9:
        raise ConfigError(f"--label-delay {text}: wanted events (100) or a time (90s, 30m, 1h, 2d)")
    return timedelta(seconds=value * _UNITS[unit]) if unit else int(value)


class DelayedLabelSource:
    """A recorded stream as it was when it happened.

    With a delay of n events the label of an event comes just before the n-th event after it, as in River's
    `progressive_val_score`; with a time, before the first event that is so much later by its `ts`. Labels still on
    their way at the end come then.

    Args:
        source: where the records come from.
        decoder: reads their time.
        label_delay: how late labels come; 0: with their events.
        speed: 1 is the recording's own pace by `ts`, 10 ten times faster; None: as fast as it goes.
        clock: monotonic seconds.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        source: Source,
        decoder: Decoder,
        *,
        label_delay: Delay = 0,
        speed: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if speed is not None and not speed > 0:
            raise ConfigError(f"--speed {speed}: wanted a number above 0, or max")
        self._source, self._decoder, self._delay, self._speed = source, decoder, label_delay, speed
        self._now, self._sleep = clock, sleep
        self._late: deque[_Late] = deque()
        self._ready: deque[Record] = deque()  # rewritten, not yet handed out
        self._events = 0  # rewritten so far
        self._clock: _Clock | None = None
        self._most, self._handed, self._handed_at = _FIRST_RECORDS, 0, clock()

    def poll(self, max_records: int, timeout_seconds: float) -> Sequence[Record]:
        """The next records, those whose time has come; so few that the caller is done with them in half a second.

        Raises:
            ConfigError: an event has no time stamp, and the delay or the pace needs it.
        """
        max_records = self._affordable(max_records)
        if not self._ready:
            for record in self._source.poll(max_records, timeout_seconds):
                self._play(record)
            if self._source.exhausted:
                self._ready.extend(late.record for late in self._late)
                self._late.clear()
        records: list[Record] = []
        until = self._now() + timeout_seconds
        while self._ready and len(records) < max_records:
            wait, left = self._wait(self._ready[0]), max(until - self._now(), 0.0)
            if wait > 0:
                if not records:
                    self._sleep(min(wait, left))
                if records or wait > left:
                    break
            records.append(self._ready.popleft())
        self._handed, self._handed_at = len(records), self._now()
        return records

    def _affordable(self, most: int) -> int:
        """By how long the last records took: a stop must not wait for slow learners."""
        seconds = self._now() - self._handed_at
        if self._handed and seconds > _TURN_SECONDS:
            self._most = max(1, int(self._handed * _TURN_SECONDS / seconds))
        elif self._handed == self._most and seconds < _TURN_SECONDS / 2:
            self._most *= 2
        return min(self._most, most)

    @property
    def exhausted(self) -> bool:
        """Whether the source is, and no label is on its way."""
        return self._source.exhausted and not self._ready and not self._late

    def assigned(self) -> Mapping[Partition, int]:
        """As the source says."""
        return self._source.assigned()

    def seek(self, positions: Positions) -> None:
        """As the source does; labels on their way are forgotten."""
        self._late.clear()
        self._ready.clear()
        self._source.seek(positions)

    def commit(self, positions: Positions) -> None:
        """As the source does."""
        self._source.commit(positions)

    def lag(self) -> Mapping[Partition, int]:
        """As the source says."""
        return self._source.lag()

    def close(self) -> None:
        """Close the source."""
        self._late.clear()
        self._ready.clear()
        self._source.close()

    def _play(self, record: Record) -> None:
        """Put the record, and the labels that come before it, where `poll` takes them."""
        event = self._event(record)
        if event is None:  # the service will say what is wrong with it
            self._ready.append(record)
            return
        now = float(self._events) if isinstance(self._delay, int) else event.ts
        if self._delay and now is None:
            raise ConfigError(
                f"--label-delay {self._delay}: {event.origin} has no time stamp `ts`; give the delay in events "
                "(100), or a `ts` to every event"
            )
        while self._late and now is not None and self._late[0].due <= now:
            self._ready.append(self._late.popleft().record)
        self._events += 1
        if self._delay and event.y is not None and now is not None:
            record, label = _apart(record, event)
            delay = self._delay if isinstance(self._delay, int) else self._delay.total_seconds()
            self._late.append(_Late(now + delay, label))
        self._ready.append(record)

    def _event(self, record: Record) -> Event | None:
        try:
            event = self._decoder.decode(record)
        except EventError:
            return None
        return event if isinstance(event, Event) else None

    def _wait(self, record: Record) -> float:
        """Seconds until this record's time has come."""
        event = None if self._speed is None else self._event(record)
        if self._speed is None or event is None:
            return 0.0
        if event.ts is None:
            raise ConfigError(
                f"--speed {self._speed:g}: {event.origin} has no time stamp `ts`; leave --speed out, or give a `ts` to "
                "every event"
            )
        if self._clock is None:
            self._clock = _Clock(self._now(), event.ts)
        return (event.ts - self._clock.first_ts) / self._speed - (self._now() - self._clock.begun)


def _apart(record: Record, event: Event) -> tuple[Record, Record]:
    """An event without its label, and its label."""
    fields = _READ.decode(record.value or b"{}")
    del fields["y"]
    fields["id"] = event.id if event.id is not None else str(event.origin)
    label = {"id": fields["id"], "y": event.y, "task": event.task}
    return replace(record, value=_JSON.encode(fields)), replace(record, value=_JSON.encode(label))
