"""Savepoints on a real Kafka: made under load, restored under another name, and refused where they do not belong."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from typer.testing import CliRunner

from streammeta import cli
from streammeta.app.inspection import inspect_service
from streammeta.app.savepoint import Start, restore, savepoint
from streammeta.app.savepoint_file import Manifest, read_manifest
from streammeta.config import Settings
from streammeta.errors import MissingTopicError, SnapshotError, TransportError
from streammeta.transport.kafka.settings import KafkaSettings
from tests.broker.running import RunningBroker, committed
from tests.broker.test_service import Running, start

__all__ = ["start"]

LEARNER = {"hidden": 8, "encoded": 4}
QUICK = {"LEARNER__HIDDEN": "8", "LEARNER__ENCODED": "4", "META__EVERY_EVENTS": "64", "STATE__EVERY_SECONDS": "0.3"}
ENVIRONMENT = {f"STREAMMETA_{name}": value for name, value in QUICK.items()}
PATIENCE = 60.0


def settings_of(kafka: KafkaSettings, name: str, topic: str) -> Settings:
    return Settings(
        app={"name": name}, input={"topic": topic}, kafka=kafka.model_dump(), learner=LEARNER, meta={"every_events": 64}
    )


def event(number: int, partition: int) -> bytes:
    a, b = (number * 7919 % 1000) / 500 - 1, (number * 104729 % 1000) / 500 - 1
    task = number % 5
    y = int(a * (task - 2) + b > 0)
    return json.dumps({"x": {"a": a, "b": b}, "y": y, "task": f"p{partition}-{task}", "id": str(number)}).encode()


class Load(threading.Thread):
    """Events of all partitions, in a thread, at a rate a second, until there are enough or somebody ends it."""

    def __init__(self, broker: RunningBroker, topic: str, partitions: int, count: int, rate: float) -> None:
        super().__init__()
        self.sent = 0  # in each partition
        self._broker, self._topic, self._partitions = broker, topic, partitions
        self._count, self._rate, self._stop_now = count, rate, threading.Event()

    def run(self) -> None:
        producer = KafkaProducer(bootstrap_servers=self._broker.bootstrap, linger_ms=5)
        for number in range(self._count):
            for partition in range(self._partitions):
                producer.send(self._topic, event(number, partition), partition=partition)
            self.sent += 1
            if number % 10 == 0 and self._stop_now.wait(10 / self._rate):
                break
        producer.flush(PATIENCE)
        producer.close()

    def end(self) -> int:
        """Send no more; how many were sent in each partition."""
        self._stop_now.set()
        self.join(PATIENCE)
        return self.sent


@contextmanager
def load(broker: RunningBroker, topic: str, partitions: int, count: int, rate: float) -> Iterator[Load]:
    """Events that are being sent meanwhile."""
    sending = Load(broker, topic, partitions, count, rate)
    sending.start()
    try:
        yield sending
    finally:
        sending.end()


def predictions(broker: RunningBroker, name: str, wanted: int) -> dict[str, dict[str, Any]]:
    """Committed predictions by source, none twice."""
    consumer = KafkaConsumer(
        bootstrap_servers=broker.bootstrap, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    topic = f"{name}-predictions"
    consumer.assign([TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)])
    found: list[dict[str, Any]] = []
    deadline = time.monotonic() + PATIENCE
    while len(found) < wanted and time.monotonic() < deadline:
        found += [json.loads(r.value) for batch in consumer.poll(timeout_ms=300).values() for r in batch]
    consumer.close()
    assert max(Counter(one["source"] for one in found).values()) == 1
    return {one["source"]: one for one in found}


def test_predictions_go_on_to_the_bit_after_a_savepoint_under_load(
    broker: RunningBroker,
    kafka: KafkaSettings,
    topic: str,
    create_topic: Callable[[str, int], str],
    start: Callable[..., Running],
    tmp_path: Path,
) -> None:
    """A backup that is of two moments at once would look right, and be wrong from its first prediction on."""
    create_topic(topic, 1)
    service = start(topic, **ENVIRONMENT)
    with load(broker, topic, 1, 50_000, rate=400) as producing:
        deadline = time.monotonic() + PATIENCE
        while committed(broker, topic) < 800:
            assert time.monotonic() < deadline, f"only {committed(broker, topic)} records are committed"
            time.sleep(0.1)
        made = savepoint(settings_of(kafka, topic, topic), tmp_path / "saved")
        assert producing.is_alive(), "not under load any more"
        time.sleep(1.0)  # what comes after the savepoint
        count = producing.end()
    service.wait_for('streammeta_events_total{fate="learned"}', count)
    assert service.stop() == 0
    other = f"{topic}-b"

    restored, offsets = restore(settings_of(kafka, other, topic), tmp_path / "saved", Start(saved=True))

    assert restored == made == read_manifest(tmp_path / "saved")
    assert made.theta_version
    assert 800 <= offsets[0] < count
    successor = start(topic, **ENVIRONMENT, STREAMMETA_APP__NAME=other)
    successor.wait_for('streammeta_events_total{fate="learned"}', count - offsets[0])
    assert successor.stop() == 0
    before = predictions(broker, topic, count)
    after = predictions(broker, other, count - offsets[0])
    later = {source for source in before if int(source.rsplit("/", 1)[1]) >= offsets[0]}
    assert after == {source: before[source] for source in later}


def test_each_partitions_tasks_have_learned_what_lies_before_its_offset(
    broker: RunningBroker,
    kafka: KafkaSettings,
    topic: str,
    create_topic: Callable[[str, int], str],
    start: Callable[..., Running],
    tmp_path: Path,
) -> None:
    """The truth of a cut: every event before the offset is in the state, and none after it. Two members, three times."""
    create_topic(topic, 3)
    first, second = start(topic, **ENVIRONMENT), start(topic, **ENVIRONMENT)
    with load(broker, topic, 3, 20_000, rate=300):
        deadline = time.monotonic() + PATIENCE
        while first.metric('streammeta_events_total{fate="learned"}') < 300 or not second.metric(
            'streammeta_events_total{fate="learned"}'
        ):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        made: list[Manifest] = []
        for number in range(3):
            made.append(savepoint(settings_of(kafka, topic, topic), tmp_path / str(number)))
            time.sleep(1.0)
    assert (first.stop(), second.stop()) == (0, 0)

    for number, manifest in enumerate(made):
        copy = settings_of(kafka, f"{topic}-copy{number}", topic)
        restore(copy, tmp_path / str(number), Start(saved=True))
        learned: Counter[int] = Counter()
        for task in inspect_service(copy):
            learned[int(task.task[1])] += task.labelled
        assert {number: learned[number] for number in manifest.offsets} == manifest.offsets
    assert all(a.offsets != b.offsets for a, b in pairwise(made))


@pytest.fixture
def saved(
    broker: RunningBroker,
    kafka: KafkaSettings,
    topic: str,
    create_topic: Callable[[str, int], str],
    start: Callable[..., Running],
    tmp_path: Path,
) -> Path:
    """A savepoint of an application that has seen a hundred events and ended."""
    create_topic(topic, 1)
    service = start(topic, **ENVIRONMENT)
    with load(broker, topic, 1, 100, rate=10_000) as producing:
        producing.join(PATIENCE)
        service.wait_for('streammeta_events_total{fate="learned"}', 100)
    assert service.stop() == 0
    savepoint(settings_of(kafka, topic, topic), tmp_path / "saved")
    return tmp_path / "saved"


def test_what_does_not_belong_is_refused_and_nothing_is_written(
    saved: Path, kafka: KafkaSettings, topic: str, create_topic: Callable[[str, int], str]
) -> None:
    """A restore over a running application, a damaged copy, other settings, another log: each by name, all in one."""
    name, other = settings_of(kafka, topic, topic), settings_of(kafka, f"{topic}-b", topic)
    create_topic(f"{topic}-wide", 2)
    create_topic(f"{topic}-again", 1)
    cases: Sequence[tuple[Settings, str]] = [
        (name, "has committed offsets"),
        (other.model_copy(update={"app": other.app.model_copy(update={"kind": "regression"})}), "of kind"),
        (
            other.model_copy(update={"learner": other.learner.model_copy(update={"hidden": 16})}),
            "learner.hidden",
        ),
        (settings_of(kafka, f"{topic}-b", f"{topic}-wide"), "has 2 partitions"),
        (settings_of(kafka, f"{topic}-b", f"{topic}-again"), "another log"),
    ]
    for settings, reason in cases:
        with pytest.raises((SnapshotError, TransportError), match=reason):
            restore(settings, saved, Start(saved=True))
    for file in sorted(saved.iterdir()):
        whole = file.read_bytes()
        for broken in (whole[: len(whole) // 2], whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:], whole + b"x"):
            file.write_bytes(broken)
            with pytest.raises(SnapshotError, match=file.name):
                restore(other, saved, Start(saved=True))
        file.write_bytes(whole)

    restored, offsets = restore(other, saved, Start(saved=True))

    assert (restored.tasks, offsets) == (5, {0: 100})


def test_a_restored_application_begins_where_it_is_told(saved: Path, kafka: KafkaSettings, topic: str) -> None:
    """Time travel: what would have become of yesterday's events with what is known today?"""
    assert [
        restore(settings_of(kafka, f"{topic}-{n}", topic), saved, begin, write=False)[1]
        for n, begin in enumerate((Start(saved=True), Start(earliest=True), Start(latest=True), Start(since=0.0)))
    ] == [{0: 100}, {0: 0}, {0: 100}, {0: 0}]


def test_the_commands(
    saved: Path, kafka: KafkaSettings, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an operator types."""
    for name, value in {**ENVIRONMENT, "STREAMMETA_APP__NAME": topic, "STREAMMETA_INPUT__TOPIC": topic}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("STREAMMETA_KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap_servers)

    def invoke(*arguments: str) -> Any:
        return CliRunner().invoke(cli.app, list(arguments))

    assert "5 tasks" in invoke("savepoint", str(tmp_path / "two")).output
    again = invoke("savepoint", str(tmp_path / "two"))
    assert isinstance(again.exception, TransportError)
    assert "is there already" in str(again.exception)
    monkeypatch.setenv("STREAMMETA_APP__NAME", f"{topic}-c")
    assert "could begin with 5 tasks" in invoke("restore", str(saved), "--dry-run").output
    assert "reads on at 0/100" in invoke("restore", str(tmp_path / "two")).output
    assert "wanted saved, earliest, latest" in str(invoke("restore", str(saved), "--from", "yesterday").exception)


def test_tables_of_a_savepoint_say_what_they_hold(saved: Path) -> None:
    """A file format for years: the manifest alone tells an operator what is in a folder."""
    manifest = json.loads((saved / "manifest.json").read_text())

    assert manifest["format"] == 1
    assert manifest["tasks"] == 5
    assert {"application", "kind", "made_at", "topic", "log", "offsets", "streammeta"} <= manifest.keys()
    assert {path.name for path in saved.iterdir()} == {"manifest.json", "state-0.records", "weights.records"}
    assert manifest["state"]["0"]["bytes"] == (saved / "state-0.records").stat().st_size


def test_an_explanation_is_of_what_the_service_predicts_next(
    saved: Path,
    broker: RunningBroker,
    kafka: KafkaSettings,
    topic: str,
    start: Callable[..., Running],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An explanation of another prediction than the one that was made explains nothing."""
    for name, value in {**ENVIRONMENT, "STREAMMETA_APP__NAME": topic, "STREAMMETA_INPUT__TOPIC": topic}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("STREAMMETA_KAFKA__BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    done = CliRunner().invoke(cli.app, ["explain", "--json", event(500, 0).decode()])
    assert done.exit_code == 0, (done.output, done.exception)
    explained = json.loads(done.stdout)

    service = start(topic, **ENVIRONMENT)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    producer.send(topic, event(500, 0), partition=0)
    producer.close()
    service.wait_for('streammeta_events_total{fate="learned"}', 1)
    assert service.stop() == 0

    said = predictions(broker, topic, 101)[f"{topic}/0/100"]
    assert explained["prediction"] == said["prediction"]
    assert explained["predicted"] == said["probabilities"][str(said["prediction"])]
    assert {one["feature"] for one in explained["contributions"]} == {"a", "b"}


def test_a_service_that_was_never_started_is_said_to_be_that(kafka: KafkaSettings, topic: str) -> None:
    """Nobody should create a service's topics by hand because a message about them said so."""
    settings = settings_of(kafka, f"{topic}-never", topic)

    with pytest.raises(
        MissingTopicError, match=rf"{topic}-never-state' does not exist, .*`streammeta run` was ever started"
    ):
        inspect_service(settings)
