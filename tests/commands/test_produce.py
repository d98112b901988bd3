"""When records go out: as fast as it goes, so many a second, or as their time stamps say."""

import threading
from collections.abc import Sequence

import pytest

from streammeta.commands.player import Recorded
from streammeta.commands.produce import Pace, Sendable, at_own_pace, at_rate, produce
from streammeta.errors import ConfigError
from streammeta.simulators import LateLabel, Sample
from streammeta.transport.kafka.settings import KafkaSettings


def dues(pace: Pace, records: Sequence[Sendable]) -> list[float]:
    return [pace(record) for record in records]


def row(ts: float | None) -> Recorded:
    return Recorded(b"{}", "a", ts)


def test_at_a_rate_events_are_spaced_and_late_labels_take_no_time() -> None:
    """Ten events a second are ten events, however many labels come between."""
    event, label = Sample({"x": 1.0}, 1, "a", 0.0), LateLabel("1", 1, "a")

    assert dues(at_rate(10), [event, event, label, event, label]) == pytest.approx([0.0, 0.1, 0.1, 0.2, 0.2])


def test_at_its_own_pace_a_record_waits_for_its_time_stamp() -> None:
    """A day's recording at 24 times its speed must take an hour, and one row without a time must not stop it."""
    rows = [row(100.0), row(124.0), row(None), row(112.0), row(148.0)]

    assert dues(at_own_pace(24), rows) == [0.0, 1.0, 1.0, 1.0, 2.0]
    assert dues(at_own_pace(1), rows) == [0.0, 24.0, 24.0, 24.0, 48.0]


def test_a_file_without_time_stamps_has_no_pace_of_its_own() -> None:
    """It would be played all at once, against what was asked for."""
    with pytest.raises(ConfigError, match="--speed: the first record has no time stamp"):
        dues(at_own_pace(1), [row(None)])


def test_records_are_sent_no_earlier_than_due_and_none_after_the_stop(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    """A stopped player must not wait for a record that is due tomorrow."""
    stop = threading.Event()

    def records():
        yield row(0.0)
        stop.set()
        yield row(86_400.0)

    sent = produce(records(), "-", kafka=KafkaSettings(), pace=at_own_pace(1), stop=stop)

    assert sent == 1
