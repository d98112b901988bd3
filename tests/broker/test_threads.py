"""Threads of the service on a real Kafka: the end of one that is needed is the service's end, with its reason."""

import json
import threading
from collections.abc import Callable

import pytest

from streammeta.app import serve as serve_module
from streammeta.config import Settings
from streammeta.errors import ThreadError
from streammeta.event import Record
from streammeta.transport.base import Message
from streammeta.transport.kafka.settings import KafkaSettings
from tests.broker.running import CLIENTS, RunningBroker
from tests.broker.test_service import produce


@pytest.fixture(params=CLIENTS)
def kafka(request: pytest.FixtureRequest, kafka: KafkaSettings) -> KafkaSettings:
    """One after the other, by each client."""
    return kafka.model_copy(update={"client": request.param})


@pytest.fixture
def settings(kafka: KafkaSettings, topic: str, create_topic: Callable[[str, int], str]) -> Settings:
    """Of a service that sends records on by task."""
    create_topic(topic, 2)
    small = {"hidden": 8, "encoded": 4}
    return Settings.model_validate(
        {
            "app": {"name": topic},
            "input": {"topic": topic, "repartition": True},
            "kafka": kafka,
            "http": {"enabled": False},
            "learner": small,
            "state": {"every_seconds": 0.2},
        }
    )


def _stop_late(stop: threading.Event) -> None:
    """Bounds the test: a service that does not notice goes on until here, and its end is none."""
    timer = threading.Timer(60.0, stop.set)
    timer.daemon = True
    timer.start()


def test_the_service_ends_with_the_reason_for_which_its_repartition_ended(
    settings: Settings, broker: RunningBroker, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would stay alive, ready and without lag, and predict nothing, for ever."""
    values = [json.dumps({"task": "a", "x": [i], "y": i % 2}).encode() for i in range(20)]
    produce(broker, topic, values, 2)

    def fault(record: Record) -> list[Message]:
        raise AssertionError(f"a fault of the client at {record.origin.offset}")

    monkeypatch.setattr(serve_module, "event_sender", lambda *_, **__: fault)
    stop = threading.Event()
    _stop_late(stop)

    with pytest.raises(ThreadError, match=r"repartition.*AssertionError\('a fault of the client at 0'\)"):
        serve_module.serve(settings, stop)


def test_the_service_ends_when_any_other_thread_does(settings: Settings) -> None:
    """A client's network thread, say: whoever waits for it would wait in vain."""
    stop = threading.Event()
    _stop_late(stop)

    def end() -> None:
        raise RuntimeError("nobody foresaw this")

    timer = threading.Timer(3.0, end)
    timer.name = "kafka-io-test"
    timer.start()

    with pytest.raises(ThreadError, match=r"thread 'kafka-io-test' ended unexpectedly: RuntimeError\('nobody"):
        serve_module.serve(settings, stop)
