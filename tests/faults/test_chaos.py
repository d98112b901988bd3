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
