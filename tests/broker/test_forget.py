"""`streammeta forget` on a real Kafka, with a service that runs: done once, in the log's order, gone from the topic."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import closing

import pytest
from typer.testing import CliRunner

from streammeta import cli
from streammeta.app.forgetting import ask_to_forget
from streammeta.app.inspection import inspect_service
from streammeta.app.serve import serve
from streammeta.config import Settings
from streammeta.transport.kafka.settings import KafkaSettings
from streammeta.transport.kafka.topic_log import TopicLog
from streammeta.transport.kafka.transaction import Transactions

PARTITIONS = 2


def send(settings: Settings, begin: int, end: int) -> None:
    with Transactions(settings.kafka, f"{settings.app.name}/producer") as transactions:
        for i in range(begin, end):
            event = {"task": f"t{i % 4}", "x": {"a": float(i % 7)}, "y": int(i % 7 > 3), "id": str(i)}
            value = json.dumps(event).encode()
            transactions.send(settings.input.topic, value, key=b"", partition=i % PARTITIONS)
        transactions.commit()


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
@pytest.mark.parametrize("repartition", [False, True], ids=["", "repartition"])
def test_a_task_is_forgotten_by_the_running_service_and_its_tombstones_are_in_the_topic(
    kafka: KafkaSettings, topic: str, create_topic: Callable[[str, int], str], client: str, *, repartition: bool
) -> None:
    """A customer has left: nothing of him may come back with the next restore, and the others lose nothing."""
    create_topic(topic, PARTITIONS)
    settings = Settings(
        app={"name": topic},
        input={"topic": topic, "repartition": repartition},
        kafka=kafka.model_dump() | {"client": client},
        http={"enabled": False},
        state={"every_seconds": 0.1},
        meta={"mode": "off"},
    )
    send(settings, 0, 80)
    stop = threading.Event()
    service = threading.Thread(target=serve, args=(settings, stop), daemon=True)
    service.start()
    try:
        wait_until(lambda: len(values(settings, "predictions")) == 80)
        asked = ask_to_forget(settings, "t1", wait_seconds=30)
        send(settings, 80, 120)
        wait_until(lambda: len(values(settings, "predictions")) == 120)
    finally:
        stop.set()
        service.join(60)

    assert (asked.partitions, dict(asked.waiting)) == (PARTITIONS, {})
    new = [json.loads(value)["task"] for value in values(settings, "signals") if b"new_task" in value]
    assert sorted(new) == ["t0", "t1", "t1", "t2", "t3"]
    assert values(settings, "dead-letters") == []
    assert {task.task: task.events for task in inspect_service(settings)} == {"t0": 30, "t1": 10, "t2": 30, "t3": 30}
    with closing(TopicLog(settings.kafka, [f"{topic}-state"])) as log:
        of_it = [record for record in log.records() if record.key in (b"task:t1", b"page:0:t1")]
    assert {record.key for record in of_it if record.value is None} == {b"task:t1", b"page:0:t1"}


def test_a_service_that_does_not_run_does_it_later_and_that_is_said(
    kafka: KafkaSettings,
    topic: str,
    create_topic: Callable[[str, int], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever asks must not take it for done."""
    create_topic(topic, PARTITIONS)
    for name, value in {
        "APP__NAME": topic,
        "INPUT__TOPIC": topic,
        "KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
    }.items():
        monkeypatch.setenv(f"STREAMMETA_{name}", str(value))

    done = CliRunner().invoke(cli.app, ["forget", "t1", "--wait", "0"])

    assert done.exit_code == 1
    assert f"asked to forget task 't1', in 2 partition(s) of {topic}" in done.output
    assert "partition 1: 1 offsets to go; done when the service comes so far" in done.output


def values(settings: Settings, channel: str) -> list[bytes]:
    with closing(TopicLog(settings.kafka, [f"{settings.app.name}-{channel}"])) as log:
        return [record.value or b"" for record in log.records()]


def wait_until(is_so: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if is_so():
                return
        except Exception:  # noqa: S110 the service makes its topics only now
            pass
        time.sleep(0.2)
    raise AssertionError("it did not come in time")
