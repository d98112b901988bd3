"""A broker that was killed and comes back: whoever was connected before must find it again by itself, and soon."""

import time
from contextlib import closing

import pytest

from deploy.broker import Broker
from streammeta.errors import TransactionError
from streammeta.transport.choice import adapters
from streammeta.transport.kafka.settings import KafkaSettings
from streammeta.transport.kafka.sink import KafkaSink
from streammeta.transport.kafka.topics import create_topics
from tests.broker.running import CLIENTS, broker, topic

__all__ = ["broker", "topic"]
pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.usefixtures("broker"), pytest.mark.timeout(200)]


@pytest.mark.parametrize("client", CLIENTS)
def test_tables_are_read_again_soon_after_two_crashes(client: str, topic: str) -> None:
    """By librdkafka, ends of topics were asked for under the leader's old epoch for minutes, and nothing was restored."""
    with Broker() as own:
        kafka = KafkaSettings.model_validate({"bootstrap_servers": own.bootstrap, "client": client})
        create_topics(kafka, {topic: 1})
        with closing(KafkaSink(kafka, {"in": topic})) as sink:
            sink._producer.send(topic, b"value", b"key", partition=0)
            sink.flush(30)
        with closing(adapters(kafka).tables(kafka, {"state": topic})) as tables:
            tables.begin("state", 0)
            for _ in range(2):
                own.kill()
                own.start()
                tables.end("state", 0)
                deadline = time.monotonic() + 30
                while True:
                    try:
                        tables.begin("state", 0)
                        break
                    except TransactionError:
                        assert time.monotonic() < deadline, "not read again"
                        time.sleep(0.5)
                rows = []
                while tables.missing("state", 0):
                    assert time.monotonic() < deadline, "never read to its end"
                    rows += tables.poll(0.2)
                assert [row.value for row in rows] == [b"value"]
