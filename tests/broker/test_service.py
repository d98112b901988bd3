"""The main job, end to end: the service as a process, on a real Kafka."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.consumer.fetcher import ConsumerRecord

from streammeta.transport.file import FileSource
from streammeta.transport.kafka.settings import KafkaSettings
from tests.broken import broken_values
from tests.broker.running import RunningBroker, committed
from tests.test_readme import README, examples

STREAMMETA = str(Path(sys.executable).with_name("streammeta"))
CreateTopic = Callable[[str, int], str]
ReadAll = Callable[[str, int], list[ConsumerRecord]]
PATIENCE = 60.0


class Running:
    """A `streammeta run` of one test: its settings come by environment, its port is free."""

    command = "run"

    def __init__(self, broker: RunningBroker, topic: str, directory: Path, **settings: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = directory / "log"
        self._environment = os.environ | {
            "STREAMMETA_APP__NAME": topic,
            "STREAMMETA_INPUT__TOPIC": topic,
            "STREAMMETA_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap,
            "STREAMMETA_KAFKA__SESSION_TIMEOUT_SECONDS": "6",
            "STREAMMETA_STATE__EVERY_SECONDS": "1",
            "STREAMMETA_HTTP__HOST": "127.0.0.1",
            "STREAMMETA_HTTP__PORT": str(self.port),
            "STREAMMETA_META__MODE": "sync",
            **settings,
        }
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen([STREAMMETA, self.command], env=self._environment, stdout=log, stderr=log)

    def restart(self) -> None:
        self.process = self._start()

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def metric(self, name: str) -> float:
        """The sum of a metric's samples; 0 while nothing answers."""
        try:
            lines = self.get("/metrics").splitlines()
        except OSError:
            return 0.0
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def wait_for(self, name: str, value: float) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.metric(name) < value:
            assert self.process.poll() is None, f"the service ended:\n{self.log.read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"{name} is {self.metric(name)}, wanted {value}"
            time.sleep(0.1)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)


@pytest.fixture
def start(broker: RunningBroker, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    running: list[Running] = []

    def begin(topic: str, **settings: str) -> Running:
        running.append(Running(broker, topic, tmp_path, **settings))
        return running[-1]

    yield begin
    for one in running:
        if one.process.poll() is None:
            one.kill()


def produce(broker: RunningBroker, topic: str, values: Sequence[bytes], partitions: int) -> None:
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, linger_ms=20, max_request_size=2_000_000)
    for i, value in enumerate(values):
        producer.send(topic, value, partition=i % partitions)
    producer.flush(PATIENCE)
    producer.close()


def elec2(path: Path, n: int) -> list[bytes]:
    source = FileSource(path, limit=n)
    values: list[bytes] = []
    while not source.exhausted:
        values += [record.value or b"" for record in source.poll(1000, 1.0)]
    source.close()
    return values


def replayed(path: Path, n: int, directory: Path) -> list[dict[str, object]]:
    """The predictions that `streammeta replay` makes of the same rows."""
    command = [STREAMMETA, "replay", str(path), "--limit", str(n), "--out", str(directory)]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    return [json.loads(line) for line in (directory / "predictions.jsonl").read_text().splitlines()]


@pytest.mark.data
def test_the_service_predicts_every_event_once_and_stops_cleanly(
    broker: RunningBroker,
    kafka: KafkaSettings,
    topic: str,
    create_topic: CreateTopic,
    read_all: ReadAll,
    start: Callable[..., Running],
    data_file: Callable[[str], Path],
) -> None:
    """The main job. Without it there is no product."""
    create_topic(topic, 3)
    produce(broker, topic, elec2(data_file("streams/elec2.csv.gz"), 5000), 3)

    service = start(topic)
    service.wait_for('streammeta_events_total{fate="predicted"}', 5000)

    assert json.loads(service.get("/readyz"))
    assert json.loads(service.get("/livez"))
    service.wait_for("streammeta_theta_version", 100)  # metrics are looked at once a second
    assert service.stop() == 0

    predictions = [json.loads(record.value) for record in read_all(f"{topic}-predictions", 5000)]
    assert Counter(p["source"] for p in predictions) == Counter(
        f"{topic}/{partition}/{offset}" for partition in range(3) for offset in range((5002 - partition) // 3)
    )
    assert all(
        {"id", "task", "ts", "prediction", "probabilities", "signal", "theta_version"} <= p.keys() for p in predictions
    )
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    committed = admin.list_group_offsets(topic)[topic]
    admin.close()
    assert sorted(at.offset for at in committed.values()) == [1666, 1667, 1667]


@pytest.mark.data
def test_one_partition_predicts_exactly_as_replay_does(
    broker: RunningBroker,
    topic: str,
    create_topic: CreateTopic,
    read_all: ReadAll,
    start: Callable[..., Running],
    data_file: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    """What a replay promised is what the service does: same rows, same order, same predictions to the bit."""
    path = data_file("streams/elec2.csv.gz")
    values = elec2(path, 5000)
    create_topic(topic, 1)
    produce(broker, topic, values, 1)

    service = start(topic)
    service.wait_for('streammeta_events_total{fate="predicted"}', 5000)
    assert service.stop() == 0
    served = [json.loads(record.value) for record in read_all(f"{topic}-predictions", 5000)]
    expected = replayed(path, 5000, tmp_path / "replay")

    parts = ("prediction", "probabilities", "signal", "theta_version")
    assert [[p[name] for name in parts] for p in served] == [[p[name] for name in parts] for p in expected]
    labels = [json.loads(value)["y"] for value in values]
    accuracy = sum(p["prediction"] == y for p, y in zip(served, labels, strict=True)) / 5000
    assert accuracy > 0.9


@pytest.mark.data
def test_after_a_kill_nothing_is_lost_and_nothing_doubled(
    broker: RunningBroker,
    topic: str,
    create_topic: CreateTopic,
    read_all: ReadAll,
    start: Callable[..., Running],
    data_file: Callable[[str], Path],
) -> None:
    """Power fails; every event must have its prediction all the same, and one only."""
    create_topic(topic, 2)
    values = elec2(data_file("streams/elec2.csv.gz"), 3000)
    produce(broker, topic, values[:2000], 2)

    service = start(topic)
    service.wait_for('streammeta_events_total{fate="predicted"}', 1000)
    service.kill()
    produce(broker, topic, values[2000:], 2)
    service.restart()
    deadline = time.monotonic() + PATIENCE
    while committed(broker, topic) < 3000:
        assert time.monotonic() < deadline, f"only {committed(broker, topic)} records are committed"
        time.sleep(0.5)
    assert service.stop() == 0

    found = [json.loads(record.value)["source"] for record in read_all(f"{topic}-predictions", 3000)]
    assert set(found) == {f"{topic}/{partition}/{offset}" for partition in range(2) for offset in range(1500)}


def test_broken_records_are_set_aside_and_every_good_one_is_predicted(
    broker: RunningBroker,
    topic: str,
    create_topic: CreateTopic,
    read_all: ReadAll,
    start: Callable[..., Running],
) -> None:
    """A bad producer must cost nobody else anything: 10,000 broken records among 2,000 good ones."""
    create_topic(topic, 1)
    values: list[bytes] = []
    good: set[int] = set()
    for i, (_, value) in enumerate(broken_values(10_000, seed=7)):
        if i % 5 == 0:
            good.add(len(values))
            values.append(
                json.dumps({"x": [i % 7, i % 3], "y": int(i % 7 > 3), "task": "a", "id": f"good-{i}"}).encode()
            )
        values.append(value)
    produce(broker, topic, values, 1)

    service = start(topic)
    service.wait_for('streammeta_events_total{fate="predicted"}', 2_000)
    service.wait_for('streammeta_events_total{fate="rejected"}', 10_000)
    assert service.process.poll() is None
    assert service.stop() == 0

    predictions = [json.loads(record.value) for record in read_all(f"{topic}-predictions", 2_000)]
    letters = read_all(f"{topic}-dead-letters", 10_000)
    assert {int(p["source"].rsplit("/")[-1]) for p in predictions} == good
    headers = [dict(letter.headers) for letter in letters]
    assert sorted(int(h["origin"].decode().rsplit("/")[-1]) for h in headers) == sorted(set(range(12_000)) - good)
    assert all(h["origin"].decode() in h["reason"].decode() for h in headers)
    assert all(
        letter.value == values[int(h["origin"].decode().rsplit("/")[-1])]
        for letter, h in zip(letters, headers, strict=True)
    )


def test_a_missing_topic_is_said_in_one_line(broker: RunningBroker, topic: str, tmp_path: Path) -> None:
    """The commonest first mistake must not be a page of traceback."""
    service = Running(broker, topic, tmp_path)

    assert service.process.wait(PATIENCE) != 0

    said = service.log.read_text()
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("streammeta: error:")]
    assert topic in line
    assert "does not exist" in line


def test_the_readmes_service_example_runs(
    broker: RunningBroker, topic: str, create_topic: CreateTopic, start: Callable[..., Running]
) -> None:
    """What a newcomer types first: simulate into a topic, then run."""
    (block,) = examples(README, "service")
    simulate, run = block.splitlines()
    assert run == "streammeta run"
    create_topic(topic, 4)

    command = simulate.replace("localhost:9092/events", f"{broker.bootstrap}/{topic}").replace("20000", "2000").split()
    subprocess.run([STREAMMETA, *command[1:]], check=True, capture_output=True, timeout=PATIENCE)
    service = start(topic)
    service.wait_for('streammeta_events_total{fate="learned"}', 2000)

    assert service.stop() == 0


def test_records_not_keyed_by_task_are_repartitioned(
    broker: RunningBroker,
    topic: str,
    create_topic: CreateTopic,
    read_all: ReadAll,
    start: Callable[..., Running],
) -> None:
    """Many producers key by something else; their tasks must still be one task each, with origins that can be found."""
    create_topic(topic, 2)
    values = [
        json.dumps({"task": f"t{i // 2 % 3}", "x": [i % 7, i % 3], "y": int(i % 7 > 3), "id": f"{i}"}).encode()
        for i in range(600)
    ]
    produce(broker, topic, values, 2)

    service = start(topic, STREAMMETA_INPUT__REPARTITION="true")
    service.wait_for('streammeta_events_total{fate="predicted"}', 600)
    assert service.stop() == 0

    predictions = read_all(f"{topic}-predictions", 600)
    sources = [json.loads(record.value)["source"] for record in predictions]
    assert sorted(sources) == sorted(f"{topic}/{partition}/{offset}" for partition in range(2) for offset in range(300))
    places = {(json.loads(record.value)["task"], record.partition) for record in predictions}
    assert len(places) == 3
