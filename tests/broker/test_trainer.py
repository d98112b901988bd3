"""`streammeta train` as a process, on a real Kafka: it is killed while members predict, and nothing is lost or doubled."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from streammeta.config import Settings
from streammeta.engine.weights import Weights, decode_weights
from streammeta.service.published import SUMS
from tests.broker.running import RunningBroker
from tests.broker.test_service import PATIENCE, STREAMMETA, CreateTopic, ReadAll, Running
from tests.service.test_same_theta import Read, assert_same_theta, replayed
from tests.service.test_trainer import NO_THETA, poisons

EVENTS, PARTITIONS, RATE = 9_000, 2, 200.0  # so slow that trainers begin and end meanwhile, on any machine
SEPARATE = {"STREAMMETA_META__TRAINER": "separate", "STREAMMETA_STATE__EVERY_SECONDS": "0.3"}


class Training(Running):
    """A `streammeta train`."""

    command = "train"


class Ranked(Running):
    """A `streammeta train` of two ranks."""

    def kill_rank(self, rank: int) -> None:
        """SIGKILL one of the processes that torchrun started."""
        for place in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
                mine = f"RANK={rank}".encode() in (place / "environ").read_bytes().split(b"\0")
            except OSError:  # it ended meanwhile
                continue
            if parent == self.process.pid and mine:
                os.kill(int(place.name), signal.SIGKILL)
                return
        raise AssertionError(f"there is no rank {rank}")

    def logged(self, event: str) -> list[dict[str, Any]]:
        """What ranks said so, in order."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == event]

    def _start(self) -> subprocess.Popen[bytes]:
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        torchrun += ["--max-restarts", "2"]
        with self.log.open("ab") as log:
            command = [*torchrun, "-m", "streammeta", "train"]
            return subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)


def end_all(running: Iterable[Running]) -> None:
    """SIGKILL to those that did not end."""
    for one in running:
        if one.process.poll() is None:
            one.kill()


def values() -> list[bytes]:
    draw = random.Random(3)
    found = []
    for i in range(EVENTS):
        task, a, b = i % 20, draw.gauss(0, 1), draw.gauss(0, 1)
        y = int(a * (1 if task % 3 else -1) + b * (task % 5 - 2) > 0)
        found.append(json.dumps({"id": str(i), "task": f"t{task}", "x": {"a": a, "b": b}, "y": y}).encode())
    return found


def produce_at_once(broker: RunningBroker, topic: str, count: int) -> None:
    with closing(KafkaProducer(bootstrap_servers=broker.bootstrap, linger_ms=5)) as producer:
        for value in values()[:count]:
            producer.send(topic, value, partition=0)
        producer.flush(PATIENCE)


def produce_slowly(broker: RunningBroker, topic: str, stop: threading.Event) -> None:
    with closing(KafkaProducer(bootstrap_servers=broker.bootstrap, linger_ms=5)) as producer:
        begun = time.monotonic()
        for i, value in enumerate(values()):
            if stop.is_set():
                break
            producer.send(topic, value, partition=i % 20 % PARTITIONS)
            time.sleep(max(0.0, begun + i / RATE - time.monotonic()))
        producer.flush(PATIENCE)


def published(broker: RunningBroker, topic: str) -> list[Weights]:
    """Every θ in the log of NAME-weights, in order."""
    values = [r.value for r in all_of(broker, f"{topic}-weights") if r.key == b"theta"]
    return [decode_weights(value, "here") for value in values if value != NO_THETA]


def all_of(broker: RunningBroker, topic: str, partition: int = 0) -> list[Any]:
    """Every committed record in the log of a partition, in order."""
    consumer = KafkaConsumer(
        bootstrap_servers=broker.bootstrap, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    with closing(consumer):
        at = TopicPartition(topic, partition)
        consumer.assign([at])
        end, found = consumer.end_offsets([at])[at], []
        deadline = time.monotonic() + PATIENCE
        while consumer.position(at) < end and time.monotonic() < deadline:
            for batch in consumer.poll(timeout_ms=300).values():
                found += batch
    return found


def test_a_trainer_killed_while_members_predict_costs_nothing_but_time(
    broker: RunningBroker, topic: str, create_topic: CreateTopic, read_all: ReadAll, tmp_path: Path
) -> None:
    """Exactly once as before, no version twice, no segment learned twice; and members go on meanwhile."""
    create_topic(topic, PARTITIONS)
    for name in ("a", "b", "train"):
        (tmp_path / name).mkdir()
    running = [Running(broker, topic, tmp_path / name, **SEPARATE) for name in ("a", "b")]
    stop = threading.Event()
    producing = threading.Thread(target=produce_slowly, args=(broker, topic, stop), daemon=True)
    try:
        for one in running:
            one.wait_for("streammeta_assigned_partitions", 1)
        trainer = Training(broker, topic, tmp_path / "train", **SEPARATE)
        running.append(trainer)
        producing.start()
        for _ in range(2):
            trainer.wait_for('streammeta_theta_judged_total{verdict="published"}', 3)
            trainer.kill()
            before = [one.metric("streammeta_events_total") for one in running[:2]]
            for one, count in zip(running[:2], before, strict=True):  # members do not wait for a trainer
                one.wait_for("streammeta_events_total", count + 1)
            trainer.restart()
        producing.join(PATIENCE)
        found = read_all(f"{topic}-predictions", EVENTS)
        trainer.wait_for('streammeta_theta_judged_total{verdict="published"}', 1)
        assert [one.stop() for one in running] == [0, 0, 0], trainer.log.read_text()[-3000:]
    finally:
        stop.set()
        producing.join(PATIENCE)
        end_all(running)

    sources = [json.loads(record.value)["source"] for record in found]
    assert len(set(sources)) == EVENTS
    thetas = published(broker, topic)
    assert len(thetas) > 6
    assert all(a.version < b.version for a, b in pairwise(thetas))
    assert len({one.about.by for one in thetas}) == 3
    about = thetas[-1].about
    assert all(_advances(a, b) for a, b in pairwise(thetas))
    assert about.segments == sum(_segments(broker, topic, number, offset) for number, offset in about.positions)


def _advances(before: Weights, after: Weights) -> bool:
    reached = dict(after.about.positions)
    return all(reached[number] >= offset for number, offset in before.about.positions)


def _segments(broker: RunningBroker, topic: str, number: int, until: int) -> int:
    """Committed segments of a partition before an offset."""
    at = TopicPartition(f"{topic}-episodes", number)
    consumer = KafkaConsumer(
        bootstrap_servers=broker.bootstrap, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    with closing(consumer):
        consumer.assign([at])
        count, deadline = 0, time.monotonic() + PATIENCE
        while consumer.position(at) < until and time.monotonic() < deadline:
            for batch in consumer.poll(timeout_ms=300).values():
                count += sum(record.offset < until for record in batch)
    return count


def test_a_trainer_process_makes_the_theta_of_a_replay_to_the_bit(
    broker: RunningBroker, topic: str, create_topic: CreateTopic, tmp_path: Path
) -> None:
    """The same seed, episodes and normalization, once by `streammeta train` on Kafka, once by mode "sync"."""
    count = EVENTS  # so many that θ is published several times meanwhile, also where learning is quick
    create_topic(topic, 1)
    produce_at_once(broker, topic, count)
    for name in ("a", "train"):
        (tmp_path / name).mkdir()
    often = SEPARATE | {"STREAMMETA_STATE__EVERY_SECONDS": "0.05"}  # θ is judged while it still learns
    member = Running(broker, topic, tmp_path / "a", **SEPARATE)
    running: list[Running] = [member]
    try:
        member.wait_for("streammeta_events_total", count)
        assert member.stop() == 0
        trainer = Training(broker, topic, tmp_path / "train", **often)
        running.append(trainer)
        trainer.wait_for('streammeta_theta_judged_total{verdict="published"}', 3)
        assert trainer.stop() == 0
    finally:
        end_all(running)

    found = published(broker, topic)[-1]
    episodes = [Read(0, r.key, r.value) for r in all_of(broker, f"{topic}-episodes")]
    sums = {0: [r.value for r in all_of(broker, f"{topic}-weights") if r.key == SUMS + b"0"][-1]}
    assert found.version > 10
    assert_same_theta(
        found, replayed(Settings.model_validate({"meta": {"mode": "sync"}}), episodes[: found.about.segments], sums)
    )


def test_a_poisoned_theta_by_hand_is_refused_by_all_and_each_member_takes_twenty_versions(
    broker: RunningBroker, topic: str, create_topic: CreateTopic, tmp_path: Path
) -> None:
    """Members and the trainer keep what they have, and go on; a server that takes one version and no other looks well."""
    create_topic(topic, PARTITIONS)
    for name in ("a", "b", "train"):
        (tmp_path / name).mkdir()
    often = SEPARATE | {"STREAMMETA_STATE__EVERY_SECONDS": "0.1"}
    running = [Running(broker, topic, tmp_path / name, **often) for name in ("a", "b")]
    refused = 'streammeta_theta_refused_total{reason="%s"}'
    stop = threading.Event()
    producing = threading.Thread(target=produce_slowly, args=(broker, topic, stop), daemon=True)
    try:
        for one in running:
            one.wait_for("streammeta_assigned_partitions", 1)
        running.append(Training(broker, topic, tmp_path / "train", **often))
        producing.start()
        running[2].wait_for('streammeta_theta_judged_total{verdict="published"}', 30)
        for number in range(4):
            trainer, reason = running[2], ("worse", "damaged")[number % 2]
            trainer.process.send_signal(signal.SIGSTOP)  # else it may publish a good one before anybody looks
            time.sleep(0.5)
            value = poisons(published(broker, topic)[-1])[number]
            with closing(KafkaProducer(bootstrap_servers=broker.bootstrap)) as producer:
                producer.send(f"{topic}-weights", value, b"theta", partition=0).get(PATIENCE)
            for one in running[:2]:
                one.wait_for(refused % reason, 1 + number // 2)
            trainer.process.send_signal(signal.SIGCONT)  # refuses it, too, or has overwritten it before it saw it
        published_before = running[2].metric('streammeta_theta_judged_total{verdict="published"}')
        running[2].wait_for('streammeta_theta_judged_total{verdict="published"}', published_before + 2)
        stop.set()  # before partitions move: whoever gets them may be a version behind for a moment
        producing.join(PATIENCE)
        assert [one.stop() for one in running] == [0, 0, 0], running[2].log.read_text()[-3000:]
    finally:
        stop.set()
        producing.join(PATIENCE)
        end_all(running)

    taken = {number: set[int]() for number in range(PARTITIONS)}
    for number, found in taken.items():
        values = [json.loads(r.value) for r in all_of(broker, f"{topic}-predictions", number)]
        found |= {value["theta_version"] for value in values}
        assert [v["theta_version"] for v in values] == sorted(v["theta_version"] for v in values)
    assert min(map(len, taken.values())) >= 21


def test_a_second_trainer_ends_the_first_with_its_reason(
    broker: RunningBroker, topic: str, create_topic: CreateTopic, tmp_path: Path
) -> None:
    """A rolling update starts the new one first; two must not go on side by side."""
    create_topic(topic, 1)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first = Training(broker, topic, tmp_path / "first", **SEPARATE)
    try:
        first.wait_for('streammeta_transactions_total{result="committed"}', 1)
        second = Training(broker, topic, tmp_path / "second", **SEPARATE)
        try:
            second.wait_for('streammeta_transactions_total{result="committed"}', 1)
            assert first.process.wait(PATIENCE) == 1
            assert "another trainer has taken over" in first.log.read_text()
            assert second.stop() == 0
        finally:
            end_all([second])
    finally:
        end_all([first])


def test_training_where_a_member_trains_is_refused_with_what_to_set(broker: RunningBroker, topic: str) -> None:
    """The first try, without having read of the setting."""
    done = subprocess.run(
        [STREAMMETA, "train"],
        env={"STREAMMETA_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap, "STREAMMETA_APP__NAME": topic},
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )

    assert done.returncode == 2
    assert b'[meta] trainer: got "member", wanted "separate"' in done.stderr


def test_theta_is_rolled_back_and_released_by_the_commands(
    broker: RunningBroker, topic: str, create_topic: CreateTopic, tmp_path: Path
) -> None:
    """On a bad day: look, go back, see that it holds, let go on; all servers within two seconds."""
    create_topic(topic, PARTITIONS)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    running = [Running(broker, topic, tmp_path / name, STREAMMETA_STATE__EVERY_SECONDS="0.3") for name in ("a", "b")]
    environment = os.environ | {
        "STREAMMETA_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap,
        "STREAMMETA_APP__NAME": topic,
    }

    def call(*arguments: str) -> str:
        done = subprocess.run(
            [STREAMMETA, "theta", *arguments], env=environment, capture_output=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    stop = threading.Event()
    producing = threading.Thread(target=produce_slowly, args=(broker, topic, stop), daemon=True)
    try:
        for one in running:
            one.wait_for("streammeta_assigned_partitions", 1)
        producing.start()
        for one in running:
            one.wait_for("streammeta_theta_version", 20)
        kept = json.loads(call("list", "--json"))[-1]["version"]

        assert "is pinned" in call("rollback", str(kept))
        (pinned,) = [one for one in json.loads(call("list", "--json")) if one["pinned"]]
        deadline = time.monotonic() + 2.0
        while {one.metric("streammeta_theta_version") for one in running} != {pinned["version"]}:
            assert time.monotonic() < deadline + 1.0  # the metric itself is a second old
            time.sleep(0.05)
        time.sleep(2.0)
        assert {one.metric("streammeta_theta_version") for one in running} == {pinned["version"]}
        assert (pinned["provenance"], pinned["of"], pinned["pinned"]) == ("rollback", kept, True)

        call("release")
        for one in running:
            one.wait_for("streammeta_theta_version", pinned["version"] + 3)
        assert [one.stop() for one in running] == [0, 0]
    finally:
        stop.set()
        producing.join(PATIENCE)
        end_all(running)


@pytest.mark.timeout(300)
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds a rank's process in /proc")
def test_torchrun_starts_ranks_again_when_one_dies_and_no_episode_is_lost(
    broker: RunningBroker, topic: str, create_topic: CreateTopic, tmp_path: Path
) -> None:
    """Each of two processes reads a partition; who dies takes the other along, and both go on from what is published."""
    create_topic(topic, PARTITIONS)
    for name in ("a", "train"):
        (tmp_path / name).mkdir()
    member = Running(broker, topic, tmp_path / "a", **SEPARATE)
    trainer = Ranked(broker, topic, tmp_path / "train", **SEPARATE)
    stop = threading.Event()
    producing = threading.Thread(target=produce_slowly, args=(broker, topic, stop), daemon=True)
    try:
        member.wait_for("streammeta_assigned_partitions", 1)
        producing.start()
        for attempt, rank in enumerate((1, 0), 1):
            trainer.wait_for('streammeta_theta_judged_total{verdict="published"}', 3)
            trainer.kill_rank(rank)
            deadline = time.monotonic() + PATIENCE
            while len(trainer.logged("following")) < attempt + 1:
                assert time.monotonic() < deadline, trainer.log.read_text()[-3000:]
                time.sleep(0.1)
        trainer.wait_for('streammeta_theta_judged_total{verdict="published"}', 3)
        assert trainer.metric('streammeta_episode_segments_total{fate="remembered"}') > 0
        trainer.stop()  # torchrun itself ends with an error when it is told to end
        assert len(trainer.logged("stopped")) == 2, trainer.log.read_text()[-3000:]
    finally:
        stop.set()
        producing.join(PATIENCE)
        end_all((member, trainer))

    thetas = published(broker, topic)
    assert all(a.version < b.version for a, b in pairwise(thetas))
    assert all(_advances(a, b) for a, b in pairwise(thetas))
    about, positions = thetas[-1].about, dict(thetas[-1].about.positions)
    assert positions.keys() == set(range(PARTITIONS))
    assert about.segments == sum(_segments(broker, topic, number, offset) for number, offset in positions.items())
    (learned,) = trainer.logged("learned")  # what rank 1 did after both deaths
    assert learned["reached"].keys() == {"1"}
    assert learned["reached"]["1"] >= positions[1] > 0
    until, begun = (_segments(broker, topic, 1, at) for at in (learned["reached"]["1"], _last_start(thetas)[1]))
    assert learned["segments"] == until - begun > 0
    assert [line["partitions"] for line in trainer.logged("leading")] == [[0]] * 3
    assert [line["partitions"] for line in trainer.logged("following")] == [[1]] * 3


def _last_start(thetas: list[Weights]) -> dict[int, int]:
    """The positions from which the last trainer went on."""
    before = [one for one in thetas if one.about.by != thetas[-1].about.by]
    return dict(before[-1].about.positions)
