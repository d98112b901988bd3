"""`[meta] share = "updates"` on a real Kafka: members keep their events, and θ is one for all of them all the same."""

import json
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from kafka import KafkaProducer

from streammeta.engine import Engine, EngineSettings
from streammeta.engine.episodes import UPDATE
from streammeta.engine.sums import decode_sums
from streammeta.engine.update import decode_update
from streammeta.event import Decoder, Origin, Record
from streammeta.meta.privacy import Budget
from tests.broker.running import RunningBroker
from tests.broker.test_service import PATIENCE, CreateTopic, ReadAll, Running
from tests.broker.test_trainer import PARTITIONS, RATE, Training, all_of, end_all, published, values

EVENTS = 5_000
UPDATES = {
    "STREAMMETA_META__TRAINER": "separate",
    "STREAMMETA_META__SHARE": "updates",
    "STREAMMETA_META__ROUND_SECONDS": "0.5",
    "STREAMMETA_META__LOCAL_STEPS": "4",
    "STREAMMETA_META__PRIVACY__NOISE_MULTIPLIER": "0",
    "STREAMMETA_STATE__EVERY_SECONDS": "0.3",
}
ADOPTED = "streammeta_theta_version"


def produce(broker: RunningBroker, topic: str, stop: threading.Event) -> None:
    """So slowly that members and trainers end and begin meanwhile."""
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, linger_ms=5)
    begun = time.monotonic()
    for i, value in enumerate(values()[:EVENTS]):
        if stop.is_set():
            break
        producer.send(topic, value, partition=i % 20 % PARTITIONS)
        time.sleep(max(0.0, begun + i / RATE - time.monotonic()))
    producer.flush(PATIENCE)
    producer.close()


def wrong(found: list[Any]) -> float:
    """The share of wrong predictions over the last half."""
    truth = {one["id"]: one["y"] for one in map(json.loads, values()[EVENTS // 2 : EVENTS])}
    said = {one["id"]: one["prediction"] for one in (json.loads(record.value) for record in found)}
    return float(np.mean([said[id_] != y for id_, y in truth.items()]))


def wrong_alone() -> float:
    """The same of one process that has all events."""
    engine, decoder = Engine(EngineSettings()), Decoder()
    events = [decoder.decode(Record(value, Origin("in", 0, i))) for i, value in enumerate(values()[:EVENTS])]
    errors = [outcome.error for outcome in engine.step(events)]
    return float(np.mean(errors[EVENTS // 2 :]))


def test_members_keep_their_events_and_killed_ones_send_each_change_once(
    broker: RunningBroker, topic: str, create_topic: CreateTopic, read_all: ReadAll, tmp_path: Path
) -> None:
    """A member and the trainer are killed meanwhile: nothing is lost or doubled, and no shared record has any event."""
    create_topic(topic, PARTITIONS)
    for name in ("a", "b", "train"):
        (tmp_path / name).mkdir()
    running = [Running(broker, topic, tmp_path / name, **UPDATES) for name in ("a", "b")]
    stop = threading.Event()
    producing = threading.Thread(target=produce, args=(broker, topic, stop), daemon=True)
    try:
        for one in running:
            one.wait_for("streammeta_assigned_partitions", 1)
        trainer = Training(broker, topic, tmp_path / "train", **UPDATES)
        producing.start()
        trainer.wait_for('streammeta_updates_total{fate="averaged"}', 4)
        trainer.kill()
        trainer.restart()
        trainer.wait_for('streammeta_updates_total{fate="averaged"}', 2)
        running[0].kill()
        running[0].restart()
        running.append(trainer)
        producing.join(PATIENCE)
        found = read_all(f"{topic}-predictions", EVENTS)
        trainer.wait_for('streammeta_updates_total{fate="averaged"}', 4)
        newest = published(broker, topic)[-1].version
        for one in running[:2]:
            one.wait_for(ADOPTED, newest)
        assert [one.stop() for one in running] == [0, 0, 0], trainer.log.read_text()[-3000:]
    finally:
        stop.set()
        producing.join(PATIENCE)
        end_all([*running, trainer])

    assert len({json.loads(record.value)["source"] for record in found}) == EVENTS
    assert wrong(found) <= wrong_alone() + 0.03
    thetas = published(broker, topic)
    assert all(a.version < b.version for a, b in pairwise(thetas))
    assert len({one.about.by for one in thetas}) == 2
    records = [record for number in range(PARTITIONS) for record in all_of(broker, f"{topic}-episodes", number)]
    assert {record.key for record in records} == {UPDATE}
    assert {number for one in records for number in decode_update(one.value, "here").partitions} == {0, 1}
    reached = dict(thetas[-1].about.positions)
    assert thetas[-1].about.segments == sum(one.offset < reached[one.partition] for one in records) > 6
    assert_shares_nothing(broker, topic, [record.value for record in records])


def assert_shares_nothing(broker: RunningBroker, topic: str, changes: list[bytes]) -> None:
    """No value of a feature, no mean and no tag in any record that others than the member read."""
    weights = all_of(broker, f"{topic}-weights")
    keys = {record.key.partition(b":")[0] for record in weights}
    assert keys <= {b"theta", b"kept", b"trainer"}
    shared = b"".join([*changes, *(record.value or b"" for record in weights)])
    secret = [value for one in map(json.loads, values()[:EVENTS]) for value in one["x"].values()]
    kept = [record for n in range(PARTITIONS) for record in all_of(broker, f"{topic}-state", n)]
    sums = [decode_sums(record.value, "here") for record in kept if record.key == b"own:sums"]
    assert sums
    secret += [float(mean) for one in sums for mean in one.part.sums.features.mean if mean]
    assert not [value for value in secret if np.float64(value).tobytes() in shared]
    # of float32 one in some millions is there by chance
    assert sum(np.float32(value).tobytes() in shared for value in secret[::20]) <= 2
    for theta in published(broker, topic):
        assert not theta.counts["seen"]
        assert not any(theta.arrays[name][0].any() for name in ("scale.features", "reference.features"))
    assert not any(b"t%d" % i in change for i in range(20) for change in map(_header, changes))


def _header(change: bytes) -> bytes:
    """All of a change but its arrays."""
    return msgspec.msgpack.encode(decode_update(change, "here")._replace(delta={}))


def test_members_with_noise_stop_at_their_budget_and_remember_it(
    broker: RunningBroker, topic: str, create_topic: CreateTopic, tmp_path: Path
) -> None:
    """A member that is killed and comes back begins with what it has spent: ε is for ever."""
    create_topic(topic, 1)
    for name in ("a", "train"):
        (tmp_path / name).mkdir()
    noisy = UPDATES | {
        "STREAMMETA_META__PRIVACY__NOISE_MULTIPLIER": "6",
        "STREAMMETA_META__PRIVACY__EPSILON": "4",
    }
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    for value in values()[:400]:
        producer.send(topic, value, partition=0)
    producer.close()
    member, trainer = (
        kind(broker, topic, tmp_path / name, **noisy) for kind, name in ((Running, "a"), (Training, "train"))
    )
    try:
        member.wait_for('streammeta_updates_total{fate="sent"}', 3)
        member.kill()
        member.restart()
        member.wait_for('streammeta_updates_total{fate="withheld"}', 1)
        spent = member.metric("streammeta_privacy_epsilon ")
        assert [member.stop(), trainer.stop()] == [0, 0]
    finally:
        end_all([member, trainer])

    kept = [record.value for record in all_of(broker, f"{topic}-state") if record.key == b"own:budget"]
    budgets = [Budget.decode(value, "here") for value in kept]
    steps = [sum(one.steps for one in budget.spent) for budget in budgets]
    assert steps == sorted(set(steps))
    assert budgets[-1].cost == pytest.approx(spent)
    assert budgets[-1].cost <= 4.0
    changes = [decode_update(record.value, "here") for record in all_of(broker, f"{topic}-episodes")]
    made = sum(bool(change.delta) for change in changes)
    assert 4 * made <= steps[-1] <= 4 * (made + 1)
    assert {change.weight for change in changes} == {0}
