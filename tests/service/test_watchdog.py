"""Who watches partitions: one that stands still is said, one that only waits for us is not."""

from streammeta.service.watchdog import Watchdog
from streammeta.transport.base import Partition

STANDS, WORKED_ON = ("in", 0), ("in", 1)
ENDS: dict[Partition, int] = {STANDS: 1_000_000, WORKED_ON: 1_000_000}


def seconds(minutes: int, *, is_full: bool) -> float:
    """For how long the one partition counts as stuck, while the other one is worked on, looked at each 20 s."""
    dog = Watchdog()
    found: dict[Partition, float] = {}
    for at in range(0, 60 * minutes + 1, 20):
        found = dog.stuck({STANDS: 5, WORKED_ON: at}, ENDS, float(at), is_full=is_full)
    assert WORKED_ON not in found
    return found[STANDS]


def test_a_partition_that_waits_for_a_slow_member_is_not_taken_for_a_stuck_one() -> None:
    """A member that explains each event works for minutes on one partition; it would end itself for nothing."""
    assert seconds(5, is_full=False) == 300
    assert round(seconds(5, is_full=True)) == 30


def test_a_partition_that_never_comes_is_found_though_others_keep_the_member_busy() -> None:
    """Else a member at its limit would never say it."""
    assert seconds(51, is_full=True) > 300
