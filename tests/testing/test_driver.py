"""The driver and the crash points: a recovery test in eight lines, as a user would write it."""

import json

import pytest

from streammeta.errors import TransactionError
from streammeta.testing import CRASH_POINTS, Crash, Crashes, Driver, MemoryLog


def log_of(count: int, crashes: Crashes | None = None, partitions: int = 1) -> MemoryLog:
    log = MemoryLog("events", partitions, at=crashes or Crashes())
    for i in range(count):
        event = {"id": str(i), "task": f"t{i % 4}", "x": {"a": i % 3 - 1.0, "b": i % 5 / 5}, "y": int(i % 3 == 2)}
        log.append(json.dumps(event).encode(), i % 4 % partitions, f"t{i % 4}".encode())
    return log


def undisturbed(count: int) -> list[dict[str, object]]:
    log = log_of(count)
    Driver(log).finish()
    return Driver(log, "reader").predictions()


def test_a_member_predicts_each_event_once_round_by_round() -> None:
    """A driver that skipped or doubled would make every test on it worthless."""
    log = log_of(50)
    member = Driver(log, poll_records=7)
    member.rounds(2)
    some = len(member.predictions())
    member.rounds(60)

    assert some < 50
    assert [one["source"] for one in member.predictions()] == [f"events/0/{i}" for i in range(50)]
    assert member.engine.stats().events == 50
    assert member.metrics.registry.get_sample_value("streammeta_events_total", {"fate": "predicted"}) == 50
    assert {one["task"] for one in member.signals()} == {"t0", "t1", "t2", "t3"}


@pytest.mark.parametrize("point", CRASH_POINTS)
def test_a_crash_at_any_point_loses_and_doubles_nothing(point: str) -> None:
    """What the crash points are for: the next member goes on, and all is as if nothing had happened."""
    nth = 1 if point == "during restore" else 3
    crashes = Crashes({(point, nth): Crash()})
    log = log_of(60, crashes)
    names = iter("abcd")
    crashed = 0
    for name in names:  # the first leaves without a last commit, so that the second has something to restore
        member = Driver(log, name, poll_records=7)
        try:
            member.rounds(8) if name == "a" else member.finish()
        except Crash:
            crashed += 1
        member.leave()

    assert crashed == 1
    assert crashes.passed[point] >= nth
    assert Driver(log, "reader").predictions() == undisturbed(60)


def test_a_transaction_that_fails_is_made_again_by_the_same_member() -> None:
    """A failure is no crash: the driver recovers as the service does."""
    log = log_of(60, Crashes({("before commit", 2): TransactionError("the broker said no")}))
    member = Driver(log, poll_records=7)

    member.rounds(100)

    assert member.predictions() == undisturbed(60)
    assert member.metrics.registry.get_sample_value("streammeta_transactions_total", {"result": "failed"}) == 1


def test_two_members_share_the_partitions_and_a_dead_letter_is_kept() -> None:
    """Groups work too; and what cannot be used is seen."""
    log = log_of(80, partitions=4)
    log.append(b"no event", 0, b"t0")
    one, other = Driver(log, "a"), Driver(log, "b")
    for _ in range(60):
        one.rounds()
        other.rounds()

    assert len({value["source"] for value in one.predictions()}) == len(one.predictions()) == 80
    assert min(one.engine.stats().events, other.engine.stats().events) > 0
    assert [b"no event" in letter for letter in one.dead_letters()] == [True]


def test_a_point_that_does_not_exist_is_refused() -> None:
    """A crash that never happens would leave a test green for nothing."""
    with pytest.raises(ValueError, match=r"after comit.*wanted one of after poll, before send"):
        Crashes({("after comit", 1): Crash()})


def test_a_member_that_is_gone_and_keeps_its_partitions_ends_the_wait() -> None:
    """A test that waits for ever says nothing."""
    log = log_of(10)
    Driver(log, "gone").rounds(1)

    with pytest.raises(AssertionError, match=r"in 50 rounds.*log\.leave"):
        Driver(log, "heir").finish(most_rounds=50)
