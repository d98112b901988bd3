"""The chaos run in the size that CI can afford; `make chaos` runs the long one."""

from pathlib import Path

import pytest

from deploy.broker import Broker
from tests.broker.running import broker
from tests.faults.chaos import Chaos, Plan

__all__ = ["broker"]


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.usefixtures("broker")  # fails or skips, as its settings say, where no Kafka can be had
def test_nothing_is_lost_or_doubled_whatever_dies(tmp_path: Path) -> None:
    """Three workers, six SIGKILLs at named points, a SIGKILL of the broker: the claim the service is sold on."""
    with Broker() as own:
        report = Chaos(Plan(seed=1), own, tmp_path).run()

    assert report.flawless, str(report)
    assert len(report.kills) >= 5
    assert report.events > 10_000


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.usefixtures("broker")
def test_a_trainer_that_is_killed_among_the_members_tears_nothing(tmp_path: Path) -> None:
    """θ changes meanwhile: exactly once as before, no version twice or half, none that goes back, nobody who waits."""
    plan = Plan(seed=2, events=3_000, rate=120.0, kills=2, broker=(), workers=2, partitions=4, trainer_kills=2)
    with Broker() as own:
        report = Chaos(plan, own, tmp_path).run()

    assert report.flawless, str(report)
    assert report.versions >= 3
    assert report.kills
