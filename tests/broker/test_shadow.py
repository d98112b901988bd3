"""Two applications on one input, on a real Kafka: which of them predicts better, by the events of both."""

import json
import os
import random
import subprocess
from pathlib import Path

from tests.broker.running import RunningBroker
from tests.broker.test_service import PATIENCE, STREAMMETA, CreateTopic, Running, produce

EVENTS = 2_000


def test_the_better_of_two_applications_on_one_input_is_named(
    broker: RunningBroker, topic: str, create_topic: CreateTopic, tmp_path: Path
) -> None:
    """New settings are tried beside the ones in use, on the same events, with late labels among them."""
    create_topic(topic, 2)
    draw, values, late = random.Random(5), list[bytes](), list[bytes]()
    for i in range(EVENTS):
        task, a, b = f"t{i % 4}", draw.gauss(0, 1), draw.gauss(0, 1)
        y = int(a * (1 if i % 2 else -1) + b > 0)
        event = {"id": str(i), "task": task, "x": {"a": a, "b": b}}
        if i % 6 < 2:  # two in a row, so that a label goes to its event's partition
            values.append(json.dumps(event).encode())
            late.append(json.dumps({"id": str(i), "task": task, "y": y}).encode())
        else:
            values.append(json.dumps(event | {"y": y}).encode())
    for name in ("good", "poor"):
        (tmp_path / name).mkdir()
    poor = f"{topic}-poor"
    running = [
        Running(broker, topic, tmp_path / "good"),
        Running(
            broker,
            topic,
            tmp_path / "poor",
            STREAMMETA_APP__NAME=poor,
            STREAMMETA_MEMORY__WINDOW="8",
            STREAMMETA_META__MODE="off",
            STREAMMETA_LEARNER__HIDDEN="1",
            STREAMMETA_LEARNER__ENCODED="1",
            STREAMMETA_LEARNER__EXPERTS="[]",
        ),
    ]
    try:
        produce(broker, topic, [*values, *late], 2)
        for one in running:
            one.wait_for('streammeta_events_total{fate="predicted"}', EVENTS)
            one.wait_for('streammeta_events_total{fate="late_label"}', len(late) - 4)
        assert [one.stop() for one in running] == [0, 0]
    finally:
        for one in running:
            if one.process.poll() is None:
                one.kill()

    environment = os.environ | {
        "STREAMMETA_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap,
        "STREAMMETA_APP__NAME": topic,
        "STREAMMETA_INPUT__TOPIC": topic,
    }
    done = subprocess.run(
        [STREAMMETA, "shadow", poor, "--json"], env=environment, capture_output=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert (found["a"], found["b"]) == (topic, poor)
    assert EVENTS - 10 <= found["events"] <= EVENTS  # the first ones have no prediction yet
    assert found["difference"] < 0
    assert found["verdict"] == f"{topic} is better"
