"""Rolling features on a real Kafka, while members are killed: each event has them as if nothing had happened."""

import json
from collections.abc import Callable

import pytest
from kafka import KafkaProducer
from kafka.consumer.fetcher import ConsumerRecord

from streammeta.app.inspection import engines_of_service
from streammeta.config import Settings
from tests.broker.running import RunningBroker
from tests.broker.test_label_topic import members, wait_until
from tests.broker.test_service import PATIENCE, Running

COUNT, TASKS = 600, 6
ROLLING = [
    {"of": "amount", "make": ["lag", "sum"], "events": 3},
    {"of": "amount", "make": ["count"], "events": 50, "seconds": 10},
    {"of": "label", "make": ["lag", "since"]},
]
__all__ = ["members"]


def amount(i: int) -> float:
    return float(i * 7 % 11)


def wanted(i: int) -> dict[str, float]:
    """What event i has, by the definition: its task's events are i - TASKS, i - 2 · TASKS, … one a second each."""
    before = list(range(i - TASKS, -1, -TASKS))
    known = [j for j in before if j <= i - 2 * TASKS]  # a label comes after the next event of its task
    found = {"amount": amount(i), "amount.count_10s": float(min(len(before), 9))}
    if before:
        found |= {"amount.lag_1": amount(before[0]), "amount.sum_3": sum(map(amount, before[:3]))}
    if known:
        found |= {"label.lag_1": float(known[0]), "label.since": float((i - known[0]) // TASKS)}
    return found


def test_each_event_has_its_tasks_past_whoever_dies(
    broker: RunningBroker,
    topic: str,
    create_topic: Callable[[str, int], str],
    read_all: Callable[[str, int], list[ConsumerRecord]],
    members: Callable[..., Running],
) -> None:
    """A past that is lost, or remembered twice, shows in a window for as long as it is: what the members learned from
    is read back from what they wrote. Labels come late, so the times of events that wait have to move, too."""
    create_topic(topic, 3)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, linger_ms=20)

    def send(rows: range) -> None:
        for i in rows:
            key = f"s{i % TASKS}"
            event = {"task": key, "id": f"e{i}", "x": {"amount": amount(i)}, "ts": 1.7e9 + i // TASKS}
            producer.send(topic, json.dumps(event).encode(), key=key.encode(), partition=i % 3)
            late = i - TASKS
            if late >= 0:
                label = {"task": key, "id": f"e{late}", "y": late}
                producer.send(topic, json.dumps(label).encode(), key=key.encode(), partition=i % 3)
        producer.flush(PATIENCE)

    settings = Settings(
        app={"name": topic, "kind": "regression"},
        input={"topic": topic},
        kafka={"bootstrap_servers": broker.bootstrap},
        features={"rolling": ROLLING},
    )
    environment = {
        "STREAMMETA_APP__KIND": "regression",
        "STREAMMETA_META__MODE": "off",
        "STREAMMETA_FEATURES__ROLLING": json.dumps(ROLLING),
    }
    send(range(COUNT // 4))
    first = members(**environment)
    first.wait_for("streammeta_events_total", 20)
    second = members(**environment)
    wait_until(lambda: "partitions restored" in second.log.read_text(), second)
    send(range(COUNT // 4, COUNT // 2))
    second.wait_for("streammeta_events_total", 20)
    second.kill()
    third = members(**environment)
    wait_until(lambda: "partitions restored" in third.log.read_text(), third)
    send(range(COUNT // 2, COUNT * 3 // 4))
    third.wait_for("streammeta_events_total", 20)
    first.kill()
    send(range(COUNT * 3 // 4, COUNT))
    predictions = read_all(f"{topic}-predictions", COUNT)
    wait_until(lambda: len(remembered(settings)) == COUNT - TASKS, third)
    assert third.stop() == 0

    assert len({json.loads(one.value)["source"] for one in predictions}) == COUNT
    learned = remembered(settings)
    assert sorted(learned) == list(range(COUNT - TASKS))
    for i, features in learned.items():
        assert features == pytest.approx(wanted(i)), i


def remembered(settings: Settings) -> dict[int, dict[str, float]]:
    """The features of each labelled event that the service remembers, by its label."""
    found: dict[int, dict[str, float]] = {}
    for engine in engines_of_service(settings):
        columns, names = engine.memory.tasks.columns, [slot.name for slot in engine.memory.features.slots]
        for row, count in enumerate(columns["window_count"].tolist()):
            for x, y in zip(columns["window_x"][row, :count], columns["window_y"][row, :count].tolist(), strict=True):
                pairs = zip(names, x.tolist(), strict=False)
                found[int(y)] = {name: value for name, value in pairs if value == value}  # noqa: PLR0124 not NaN
    return found
