"""The doctor, on a real Kafka."""

from streammeta.app.doctor import examine
from streammeta.config import Settings
from streammeta.transport.kafka.topics import create_topics
from tests.broker.running import RunningBroker


def test_it_reads_limits_topics_and_rights_of_a_real_broker(broker: RunningBroker, topic: str) -> None:
    """Facts made by hand say nothing of how a broker says them."""
    settings = Settings(app={"name": topic}, input={"topic": topic}, kafka={"bootstrap_servers": broker.bootstrap})
    create_topics(settings.kafka, {topic: 3, f"{topic}-state": 5})

    found = {(one.level, one.what): one for one in examine(settings)}

    assert "3 partition(s), 1 replica(s)" in found["ok", f"topic {topic}"].found
    assert "one replica" in found["warning", f"topic {topic}"].found
    assert "cleanup.policy is 'delete'" in found["failure", f"topic {topic}-state"].found
    assert "the broker takes" in found["ok", "[kafka] session_timeout_seconds"].found


def test_a_missing_topic_is_a_failure(broker: RunningBroker, topic: str) -> None:
    """The first thing that a new operator meets."""
    settings = Settings(app={"name": topic}, input={"topic": topic}, kafka={"bootstrap_servers": broker.bootstrap})

    (missing,) = [one for one in examine(settings) if one.level == "failure"]

    assert missing.found == "it does not exist"
