"""The share of time at work, which a scaler reads."""

import pytest
from prometheus_client import CollectorRegistry

from streammeta.event import Origin, Record
from streammeta.service.busy import Busy
from streammeta.service.metrics import Metrics
from streammeta.transport.memory import MemorySource


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Waits(MemorySource):
    """A source whose polls take ``seconds`` of the clock and bring ``records``."""

    def __init__(self, clock: Clock, seconds: float, records: int) -> None:
        super().__init__([Record(b"{}", Origin("events", 0, at)) for at in range(records)])
        self._clock, self._seconds = clock, seconds

    def poll(self, max_records: int, timeout_seconds: float) -> list[Record]:
        self._clock.now += self._seconds
        return super().poll(max_records, timeout_seconds)


def turn(busy: Busy, clock: Clock, *, waited: float, worked: float, records: int) -> None:
    assert len(busy.poll(Waits(clock, waited, records), 1000, 0.0)) == records
    clock.now += worked


def shown(metrics: Metrics) -> tuple[float | None, float | None]:
    value = metrics.registry.get_sample_value
    return value("streammeta_busy_ratio"), value("streammeta_busy_seconds_total")


def test_waiting_for_records_is_not_work() -> None:
    """Without this an idle service would look busy, and a scaler would add members for nothing."""
    clock, metrics = Clock(), Metrics(CollectorRegistry())
    busy = Busy(metrics, clock)

    turn(busy, clock, waited=3.0, worked=1.0, records=10)
    busy.show()

    assert shown(metrics) == (pytest.approx(0.25), pytest.approx(1.0))


def test_a_poll_that_comes_back_full_was_work() -> None:
    """A service that reads a backlog never waits: less than all of its time would hide that it is at its limit."""
    clock, metrics = Clock(), Metrics(CollectorRegistry())
    busy = Busy(metrics, clock)

    turn(busy, clock, waited=3.0, worked=1.0, records=500)
    busy.show()

    assert shown(metrics) == (pytest.approx(1.0), pytest.approx(4.0))


def test_the_ratio_forgets_in_about_half_a_minute_and_the_counter_never() -> None:
    """A burst of two seconds must not start a member, a busy minute must be seen."""
    clock, metrics = Clock(), Metrics(CollectorRegistry())
    busy = Busy(metrics, clock)
    turn(busy, clock, waited=100.0, worked=0.0, records=0)
    busy.show()

    for _ in range(2):
        turn(busy, clock, waited=0.0, worked=1.0, records=0)
        busy.show()
    burst, _ = shown(metrics)
    for _ in range(60):
        turn(busy, clock, waited=0.0, worked=1.0, records=0)
        busy.show()
    minute, seconds = shown(metrics)

    assert burst == pytest.approx(0.0645, abs=0.001)  # 1 - exp(-2 / 30)
    assert minute == pytest.approx(0.873, abs=0.001)  # 1 - exp(-62 / 30)
    assert seconds == pytest.approx(62.0)


def test_two_looks_at_the_same_moment_divide_by_nothing() -> None:
    """The last look of a run may fall on the one before."""
    clock, metrics = Clock(), Metrics(CollectorRegistry())
    busy = Busy(metrics, clock)

    busy.show()

    assert shown(metrics) == (0.0, 0.0)
