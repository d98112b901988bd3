"""`streammeta init` on a topic of a real Kafka."""

import json
from contextlib import closing
from pathlib import Path

from streammeta.commands.init import draft
from streammeta.config import Settings, load
from streammeta.transport.base import Message
from streammeta.transport.kafka.settings import KafkaSettings
from streammeta.transport.kafka.sink import KafkaSink
from streammeta.transport.kafka.topics import create_topics
from tests.broker.running import RunningBroker


def test_a_topic_is_looked_at_without_a_group(broker: RunningBroker, topic: str, tmp_path: Path) -> None:
    """Keys that are no task tear tasks apart: the configuration says so, before a service learns half of each."""
    settings = KafkaSettings(bootstrap_servers=broker.bootstrap)
    create_topics(settings, {topic: 3})
    rows = [{"order_id": f"o{i}", "shop": f"s{i % 4}", "price": i % 9 + 0.5, "sold": i % 2} for i in range(200)]
    with closing(KafkaSink(settings, {"events": topic})) as sink:
        sink.send([Message("events", json.dumps(row).encode(), row["order_id"].encode()) for row in rows])
        sink.flush(30.0)

    made = draft(f"kafka://{broker.bootstrap}/{topic}", Settings(), fixed={})
    (tmp_path / "s.toml").write_text(made.toml)
    found = load(tmp_path / "s.toml")

    assert (found.input.topic, found.kafka.bootstrap_servers, found.app.name) == (topic, broker.bootstrap, topic)
    assert (found.input.fields.label, found.input.fields.task, found.input.fields.id) == ("sold", "shop", "order_id")
    assert found.input.repartition
    assert "4 of 4 tasks have records in several partitions" in made.toml
    assert made.command == "run"
