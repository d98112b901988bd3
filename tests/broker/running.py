"""A real Kafka for tests, one for the whole session: named by the environment, out of Docker, or started from jars.

`from tests.broker.running import ...` the fixtures a folder needs, in its conftest.py or test module.
"""

import atexit
import functools
import os
import subprocess
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from deploy.broker import Broker, BrokerError
from streammeta.transport.kafka.client import patiently
from streammeta.transport.kafka.settings import KafkaSettings
from streammeta.transport.kafka.topics import create_topics

try:
    from testcontainers.kafka import KafkaContainer
except ImportError:
    KafkaContainer = None

__all__ = ["CLIENTS", "RunningBroker", "broker", "committed", "create_topic", "kafka", "read_all", "topic"]

CLIENTS = ("kafka-python", "confluent")
_READ_SECONDS = 30.0


@dataclass(frozen=True)
class RunningBroker:
    bootstrap: str
    process: Broker | None = None  # only where this session started it


@functools.cache
def _running() -> RunningBroker:
    given = os.environ.get("STREAMMETA_TEST_BOOTSTRAP")
    if given:
        return RunningBroker(given)
    if KafkaContainer is not None and _docker_answers():
        container = KafkaContainer().with_kraft().start()
        atexit.register(container.stop)
        return RunningBroker(container.get_bootstrap_server())
    process = Broker().start()
    return RunningBroker(process.bootstrap, process)


def _docker_answers() -> bool:
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@pytest.fixture(scope="session")
def broker() -> RunningBroker:
    """A broker; without one the test skips and says why, but in CI it fails."""
    try:
        return _running()
    except BrokerError as err:
        reason = f"no Kafka: {err}; set STREAMMETA_TEST_BOOTSTRAP to the address of one"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture
def kafka(broker: RunningBroker) -> KafkaSettings:
    """Settings for the broker; members that vanish are noticed quickly.

    A module that is about the clients themselves has its own, with each of CLIENTS.
    """
    return KafkaSettings(bootstrap_servers=broker.bootstrap, session_timeout_seconds=6)


@pytest.fixture
def topic() -> str:
    """A name that no other test uses, for a topic and for a group."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def create_topic(kafka: KafkaSettings) -> Callable[[str, int], str]:
    """Creates a topic; returns its name."""

    def create(name: str, partitions: int = 1) -> str:
        create_topics(kafka, {name: partitions})
        return name

    return create


@pytest.fixture
def read_all(broker: RunningBroker) -> Callable[[str, int], list[ConsumerRecord]]:
    """Reads a topic from its beginning, committed records only, until `expected` have come and no more follow."""

    def read(name: str, expected: int) -> list[ConsumerRecord]:
        consumer = KafkaConsumer(
            bootstrap_servers=broker.bootstrap, isolation_level="read_committed", auto_offset_reset="earliest"
        )
        with closing(consumer):
            consumer.assign([TopicPartition(name, number) for number in consumer.partitions_for_topic(name)])
            records: list[ConsumerRecord] = []
            deadline = time.monotonic() + _READ_SECONDS
            surplus = False
            while not surplus and time.monotonic() < deadline:
                surplus = len(records) >= expected  # one more look: more than expected is wrong too
                for batch in consumer.poll(timeout_ms=300).values():
                    records += batch
        assert len(records) == expected, f"{name}: {len(records)} records, wanted {expected}"
        return records

    return read


def committed(broker: RunningBroker, group: str) -> int:
    """The sum of a group's committed offsets."""
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    try:
        found = patiently(lambda: admin.list_group_offsets(group).get(group, {}), _READ_SECONDS)
        return sum(at.offset for at in found.values())
    finally:
        admin.close()
