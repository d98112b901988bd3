"""Where reading begins, whatever order a group's members come, go and fail in; `make members` runs it for long."""

import pytest

from streammeta.transport.kafka.settings import KafkaSettings
from tests.broker.running import broker, kafka, topic
from tests.faults.members import come_and_go

__all__ = ["broker", "kafka", "topic"]


@pytest.mark.broker
@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("rebalance", ["cooperative", "eager"])
def test_every_member_begins_where_the_group_committed_and_leaves_nothing_out(
    kafka: KafkaSettings, topic: str, rebalance: str
) -> None:
    """Members of both clients, one of them static, which fail, go back, give up what they could not commit."""
    settings = kafka.model_copy(update={"rebalance": rebalance})

    seen = come_and_go(settings, topic, seed=1, seconds=20.0, clients=["kafka-python", "confluent"])

    assert not seen.wrong, str(seen)
    assert seen.counts["errors"] == 0, str(seen)
    assert min(seen.counts[what] for what in ("records", "starts", "commits", "failures", "assignments")) > 3, str(seen)
