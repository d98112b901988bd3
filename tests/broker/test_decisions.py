"""Decisions on a real Kafka: a service that is killed, and goes on."""

from tests.broker.running import RunningBroker
from tests.faults.decisions import disturbed


def test_a_killed_service_decides_as_if_nothing_had_happened(broker: RunningBroker) -> None:
    """Somebody acted on the first answer: the second one must be the same, and each reward counts once."""
    found = disturbed(broker.bootstrap, events=400, kills=1)

    assert found == (400, 1, 0, 0, 0, 400, 400, False)
