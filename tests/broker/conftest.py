"""Every test in this folder talks to a real Kafka."""

from pathlib import Path

import pytest

from tests.broker.running import broker, create_topic, kafka, read_all, topic

__all__ = ["broker", "create_topic", "kafka", "read_all", "topic"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks them `broker`, so that none is forgotten."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.broker)
