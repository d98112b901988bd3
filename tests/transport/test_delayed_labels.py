"""Recorded events, played as life would bring them."""

import json
from datetime import timedelta

import pytest
from river.stream import simulate_qa

from streammeta.errors import ConfigError
from streammeta.event import Decoder, Event, Label
from streammeta.transport.delayed_labels import Delay, DelayedLabelSource, parse_delay
from streammeta.transport.memory import MemorySource


def recorded(n: int, seconds_apart: float = 60.0) -> list[bytes]:
    return [
        json.dumps({"task": "t", "x": {"a": i}, "y": i % 2, "ts": 1000 + seconds_apart * i}).encode() for i in range(n)
    ]


def played(records: list[bytes], delay: Delay, poll: int) -> list[Event | Label]:
    rehearsal = DelayedLabelSource(MemorySource(records), Decoder(), label_delay=delay)
    out: list[Event | Label] = []
    while not rehearsal.exhausted:
        out += [Decoder().decode(record) for record in rehearsal.poll(poll, 0.0)]
    return out


def told(events: list[Event | Label]) -> list[str]:
    return [f"?{e.origin.offset}" if isinstance(e, Event) else f"!{e.origin.offset}" for e in events]


@pytest.mark.parametrize("poll", [1, 3, 100])
@pytest.mark.parametrize(("delay", "moment"), [(1, 1), (3, 3), (50, 50), (timedelta(minutes=3), 3)])
def test_labels_come_when_rivers_questions_and_answers_bring_them(delay: Delay, moment: int, poll: int) -> None:
    """Another delay than `progressive_val_score` has would make the two incomparable; and polls must not matter."""
    answers = [f"?{i}" if y is None else f"!{i}" for i, _, y in simulate_qa([({}, 0)] * 10, moment=None, delay=moment)]

    events = played(recorded(10), delay, poll)

    assert told(events) == answers
    assert all(event.y is None for event in events if isinstance(event, Event))
    assert [event.y for event in events if isinstance(event, Label)] == [i % 2 for i in range(10)]


def test_without_delay_records_stay_as_they_are() -> None:
    """Not even their bytes change."""
    records = recorded(5)
    rehearsal = DelayedLabelSource(MemorySource(records), Decoder())

    assert [record.value for record in rehearsal.poll(10, 0.0)] == records
    assert rehearsal.exhausted


def test_what_is_no_event_passes_for_the_service_to_refuse() -> None:
    """A bad record must reach the dead letters, and late labels that are recorded stay labels."""
    records = [b"nonsense", b'{"id": "7", "y": 1}', *recorded(1)]
    rehearsal = DelayedLabelSource(MemorySource(records), Decoder(), label_delay=1)

    values = [record.value for record in rehearsal.poll(10, 0.0)]

    assert values[:2] == records[:2]
    assert len(values) == 4


@pytest.mark.parametrize(("speed", "seconds"), [(1.0, 540.0), (60.0, 9.0), (None, 0.0)])
def test_a_recording_is_played_at_its_own_pace_or_faster(speed: float | None, seconds: float) -> None:
    """A dashboard is rehearsed with a day in a minute."""
    now = 0.0

    def sleep(wait: float) -> None:
        nonlocal now
        now += wait

    rehearsal = DelayedLabelSource(MemorySource(recorded(10)), Decoder(), speed=speed, clock=lambda: now, sleep=sleep)
    polls, count = 0, 0
    while not rehearsal.exhausted and polls < 10_000:
        count += len(rehearsal.poll(100, 0.5))
        polls += 1

    assert count == 10
    assert now == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "1w", "nan", "infs"])
def test_a_delay_that_is_none_is_refused(text: str) -> None:
    """Before anything runs."""
    with pytest.raises(ConfigError, match="wanted events"):
        parse_delay(text)


def test_slow_learners_get_few_records_at_a_time_and_quick_ones_all() -> None:
    """A stop is looked at between two polls: with 256 events of a slow forest it would wait for seconds."""
    now = 0.0
    source = MemorySource([b'{"x": [1.0], "y": 1}'] * 2_000, topic="in")
    played = DelayedLabelSource(source, Decoder(), clock=lambda: now)

    quick = [len(played.poll(256, 0.0)) for _ in range(5)]
    now += 0.01 * quick[-1]  # ten milliseconds a record
    slow = []
    for _ in range(4):
        slow.append(len(played.poll(256, 0.0)))
        now += 0.01 * slow[-1]

    assert quick == [32, 64, 128, 256, 256]
    assert max(slow) <= 50
    assert min(slow) >= 49
