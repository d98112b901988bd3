"""What exactly once costs, on a real Kafka started for it, by each client.

    python -m benchmarks.exactly_once [--client kafka-python confluent] [--only PART …] [--json OUT] [--quick]

* throughput: the whole service against a bare loop of the same client that reads the same records and writes messages
  of the same sizes in transactions of the same interval, turn about;
* restore: task states a second, from a changelog of many tasks, with its reading;
* latency: from the moment a record is sent until a read_committed consumer has its prediction, at a steady rate;
* recovery: from SIGKILL to the first committed prediction in the partitions that wait longest, where they go to another
  member, and where a static member restarts (`benchmarks.recovery`).
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import confluent_kafka
import numpy as np
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition

from benchmarks.recovery import recovery
from deploy.broker import Broker
from streammeta.config import Settings
from streammeta.engine import Engine
from streammeta.event import Event, Origin
from streammeta.service.restoration import Restoration
from streammeta.service.result import STATE
from streammeta.transport.choice import adapters
from streammeta.transport.kafka.settings import KafkaSettings
from streammeta.transport.kafka.topics import create_topics, ensure_topics

__all__ = ["main"]

_PATIENCE = 300.0
_PARTS = ("throughput", "restore", "latency", "recovery")
_ANSWER = (
    b'{"id":"e12345","task":"t123","ts":1000.0,"prediction":1,"probabilities":{"0":0.2771,"1":0.7228},'
    b'"signal":"steady","theta_version":1234,"source":"bench-0123456789/0/123456"}'
)


def events(count: int, tasks: int, features: int = 8) -> Iterator[tuple[bytes, bytes]]:
    """Labelled events of about 200 bytes, with their tasks as keys."""
    random = np.random.default_rng(0)
    for i, x in enumerate(np.round(random.normal(size=(count, features)), 4).tolist()):
        task = i % tasks
        y = int((x[0] > 0) ^ (task % 2 == 0))
        fields = {"id": f"e{i}", "task": f"t{task}", "ts": 1000.0, "x": dict(zip("abcdefgh", x, strict=True)), "y": y}
        yield json.dumps(fields, separators=(",", ":")).encode(), fields["task"].encode()


def fill(kafka: KafkaSettings, topic: str, count: int, tasks: int, partitions: int) -> None:
    """Make the topic and its records."""
    create_topics(kafka, {topic: partitions})
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, linger_ms=50, batch_size=2**18)
    for value, key in events(count, tasks):
        producer.send(topic, value, key, partition=int(key[1:]) % partitions)
    producer.flush(_PATIENCE)
    producer.close()


def bare(kafka: KafkaSettings, topic: str, count: int, interval: float) -> float:
    """Records a second of consume, produce, commit, with nothing in between."""
    return (bare_confluent if kafka.client == "confluent" else bare_python)(kafka, topic, count, interval)


def bare_confluent(kafka: KafkaSettings, topic: str, count: int, interval: float) -> float:
    """By confluent-kafka."""
    out = f"{topic}-bare-{uuid.uuid4().hex[:6]}"
    create_topics(kafka, {out: 4})
    where = {"bootstrap.servers": kafka.bootstrap_servers}
    group = {"group.id": out, "isolation.level": "read_committed", "auto.offset.reset": "earliest"}
    consumer = confluent_kafka.Consumer(where | group | {"enable.auto.commit": False})
    consumer.subscribe([topic])
    producer = confluent_kafka.Producer(where | {"transactional.id": out, "linger.ms": 10, "batch.size": 256 * 1024})
    producer.init_transactions(_PATIENCE)
    done, begun, commit_at, position = 0, 0.0, 0.0, {}
    while done < count:
        first = consumer.poll(0.5)
        if first is not None:
            records = [first, *consumer.consume(999, 0)]
            begun = begun or time.perf_counter()
            if not position:
                producer.begin_transaction()
                commit_at = time.monotonic() + interval
            for record in records:
                producer.produce(out, _ANSWER, record.key(), record.partition())
                position[record.partition()] = record.offset() + 1
            producer.poll(0)
            done += len(records)
        if position and (time.monotonic() > commit_at or done >= count):
            offsets = [confluent_kafka.TopicPartition(topic, number, at) for number, at in position.items()]
            producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata())
            producer.commit_transaction(_PATIENCE)
            position = {}
    seconds = time.perf_counter() - begun
    consumer.close()
    return count / seconds


def bare_python(kafka: KafkaSettings, topic: str, count: int, interval: float) -> float:
    """By kafka-python."""
    out = f"{topic}-bare-{uuid.uuid4().hex[:6]}"
    create_topics(kafka, {out: 4})
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=kafka.bootstrap_servers,
        group_id=out,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_poll_records=1000,
    )
    producer = KafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers,
        transactional_id=out,
        linger_ms=10,
        batch_size=256 * 1024,
        retry_backoff_ms=10,
    )
    producer.init_transactions()
    done, begun, commit_at, position = 0, 0.0, 0.0, {}
    while done < count:
        for at, records in consumer.poll(timeout_ms=500, max_records=1000).items():
            if not done:
                begun = time.perf_counter()
            if not position:
                producer.begin_transaction()
                commit_at = time.monotonic() + interval
            for record in records:
                producer.send(out, _ANSWER, record.key, partition=at.partition)
            position[at] = OffsetAndMetadata(records[-1].offset + 1, "", -1)
            done += len(records)
        if position and (time.monotonic() > commit_at or done >= count):
            producer.send_offsets_to_transaction(position, consumer.group_metadata())
            producer.commit_transaction()
            position = {}
    seconds = time.perf_counter() - begun
    consumer.close(autocommit=False)
    producer.close()
    return count / seconds


@contextmanager
def service(
    kafka: KafkaSettings, topic: str, name: str, interval: float, mode: str, **settings: str
) -> Iterator[subprocess.Popen[bytes]]:
    """The whole service, in a process of its own, with further settings by the ends of their variables' names."""
    environment = os.environ | {
        "STREAMMETA_APP__NAME": name,
        "STREAMMETA_INPUT__TOPIC": topic,
        "STREAMMETA_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "STREAMMETA_KAFKA__CLIENT": kafka.client,
        "STREAMMETA_STATE__EVERY_SECONDS": str(interval),
        "STREAMMETA_HTTP__ENABLED": "false",
        "STREAMMETA_LOG__LEVEL": "error",
        "STREAMMETA_META__MODE": mode,
        **{f"STREAMMETA_{key}": value for key, value in settings.items()},
    }
    process = subprocess.Popen([Path(sys.executable).with_name("streammeta"), "run"], env=environment)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(_PATIENCE)


def served(kafka: KafkaSettings, topic: str, count: int, interval: float, mode: str) -> float:
    """Committed records a second of the service, from its first commit to its last."""
    name = f"{topic}-{uuid.uuid4().hex[:6]}"
    admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    with service(kafka, topic, name, interval, mode) as process, closing(admin):
        done, first, begun = 0, 0, 0.0
        while done < count:
            time.sleep(0.02)
            if process.poll() is not None:
                raise RuntimeError(f"the service ended with {process.returncode}")
            done = sum(at.offset for at in admin.list_group_offsets(name).get(name, {}).values())
            if done and not first:
                begun, first = time.perf_counter(), done
        return (done - first) / (time.perf_counter() - begun)


def restored(kafka: KafkaSettings, tasks: int, events_each: int) -> tuple[float, float]:
    """Task states a second, with the reading of the changelog; and bytes of one."""
    settings = Settings(memory={"max_tasks": tasks}, meta={"mode": "sync"})  # θ moves on, as it would
    name = f"restore-{uuid.uuid4().hex[:6]}"
    engine = Engine(settings.engine())
    random = np.random.default_rng(0)
    for begin in range(0, tasks, 1000):
        batch = [
            Event(
                dict(zip("abcdefgh", x, strict=True)),
                f"t{task}",
                Origin("in", 0, task),
                y=int(x[0] > 0),
                id=None,
                ts=1.0,
            )
            for task in range(begin, min(begin + 1000, tasks))
            for x in random.normal(size=(events_each, 8)).tolist()
        ]
        engine.step(batch)
    create_topics(kafka, {f"{name}-state": 1})
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, linger_ms=50, batch_size=2**20)
    size = 0
    for _, key, value in engine.handover().changes():
        size += len(value or b"")
        producer.send(f"{name}-state", value, key, partition=0)
    producer.flush(_PATIENCE)
    producer.close()
    fresh = Engine(settings.engine())
    fresh.adopt(engine.shared_weights(), train=False)
    others = {number: fresh.add_sums(number, value, name) for number, value in engine.changed_sums()}
    fresh.own_sums([0], others)
    gc.collect()
    gc.freeze()  # as the service does when it starts
    with closing(adapters(kafka).tables(kafka, {STATE: f"{name}-state"})) as tables:
        begun = time.perf_counter()
        restoration, handover = Restoration(tables, name, 0), fresh.handover()
        while not restoration.take(handover, float("inf"), time.monotonic):
            for row in tables.poll(0.05):
                restoration.read(row)
        seconds = time.perf_counter() - begun
    assert fresh.stats().tasks == tasks
    return tasks / seconds, size / tasks


def latency(kafka: KafkaSettings, rate: int, seconds: float, interval: float) -> tuple[float, float]:
    """Median and 99th percentile of the milliseconds from sending to reading the prediction."""
    topic = f"latency-{uuid.uuid4().hex[:6]}"
    create_topics(kafka, {topic: 1})
    ensure_topics(kafka, topic, [f"{topic}-app-predictions"])
    sent: dict[str, float] = {}
    delays: list[float] = []
    count = int(rate * seconds)
    with (
        service(kafka, topic, f"{topic}-app", interval, "background"),
        closing(_reader(kafka, f"{topic}-app-predictions")) as reader,
    ):
        producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, linger_ms=1)

        def produce() -> None:
            begun = time.perf_counter()
            for i, (value, key) in enumerate(events(count, 100)):
                time.sleep(max(0.0, begun + i / rate - time.perf_counter()))
                sent[f"e{i}"] = time.perf_counter()
                producer.send(topic, value, key, partition=0)

        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:  # until the service is up, nothing is measured
            producer.send(topic, b'{"id": "early", "task": "t0", "x": {"a": 1.0}}', b"t0", partition=0)
            if reader.poll(timeout_ms=200):
                break
        thread = threading.Thread(target=produce)
        thread.start()
        while len(delays) < count:
            for batch in reader.poll(timeout_ms=20).values():
                now = time.perf_counter()
                ids = (json.loads(record.value)["id"] for record in batch)
                delays += [now - sent[one] for one in ids if one != "early"]
        thread.join()
        producer.close()
    steady = np.array(delays[count // 4 :]) * 1000
    return float(np.median(steady)), float(np.percentile(steady, 99))


def _reader(kafka: KafkaSettings, topic: str) -> KafkaConsumer:
    reader = KafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=20,
        max_partition_fetch_bytes=8 * 2**20,
    )
    reader.assign([TopicPartition(topic, number) for number in reader.partitions_for_topic(topic)])
    return reader


def throughput(kafka: KafkaSettings, count: int, tasks: int, rounds: int) -> dict[str, Any]:
    """Medians, and every round."""
    topic = f"bench-{uuid.uuid4().hex[:6]}"
    fill(kafka, topic, count, tasks, 4)
    modes = {"background": "meta-learning beside the loop", "off": "meta-learning off"}
    rates: dict[str, list[float]] = {"bare": [], **{mode: [] for mode in modes}}
    for _ in range(rounds):
        rates["bare"].append(bare(kafka, topic, count, 1.0))
        for mode in modes:
            rates[mode].append(served(kafka, topic, count, 1.0, mode))
    base = float(np.median(rates["bare"]))
    print(f"{kafka.client}: bare loop, 1 s transactions: {base:,.0f} records/s  ({_list(rates['bare'])})")
    shares = {mode: float(np.median(np.array(rates[mode]) / np.array(rates["bare"]))) for mode in modes}
    for mode, what in modes.items():
        rate = float(np.median(rates[mode]))
        print(f"  service, {what}: {rate:,.0f} records/s, {shares[mode]:.0%} of the bare loop  ({_list(rates[mode])})")
    return {"records_per_second": rates, "share_of_bare": shares}


def restore(kafka: KafkaSettings, tasks: int) -> list[dict[str, float]]:
    """Tasks that are young, tasks with full pages, and tasks with a full window."""
    found = []
    for each, count in ((4, tasks), (40, tasks // 5), (300, tasks // 50)):
        rate, size = restored(kafka, count, each)
        megabytes = rate * size / 1e6
        print(
            f"{kafka.client}: restore of {count:,} tasks of {each} events: {rate:,.0f} tasks/s, {size:,.0f} bytes "
            f"each, {megabytes:,.0f} MB/s"
        )
        found.append(
            {"events": each, "tasks": count, "tasks_per_second": rate, "bytes": size, "MB_per_second": megabytes}
        )
    return found


def delay(kafka: KafkaSettings, seconds: float) -> dict[str, float]:
    """At 500 events a second, committed each 50 ms."""
    half, most = latency(kafka, 500, seconds, 0.05)
    print(f"{kafka.client}: latency at 500 events/s, 50 ms interval: median {half:.0f} ms, p99 {most:.0f} ms")
    return {"median_ms": half, "p99_ms": most}


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exactly_once", description=__doc__)
    parser.add_argument("--client", nargs="+", default=["kafka-python", "confluent"], metavar="CLIENT")
    parser.add_argument("--only", nargs="+", default=_PARTS, choices=_PARTS, metavar="PART", help=", ".join(_PARTS))
    parser.add_argument("--events", type=int, default=200_000, help="many commits long, as the first does not count")
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured; the median counts")
    parser.add_argument("--restore-tasks", type=int, default=50_000)
    parser.add_argument("--kills", type=int, default=10, help="of each kind, for recovery")
    parser.add_argument("--bootstrap", help="a broker that runs already")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="20,000 events, one round, one kill")
    options = parser.parse_args()
    if options.quick:
        options.events, options.rounds, options.restore_tasks, options.kills = 20_000, 1, 1_000, 1
    figures: dict[str, Any] = {}
    with ExitStack() as stack:
        bootstrap = options.bootstrap or stack.enter_context(Broker()).bootstrap
        for client in options.client:
            kafka = KafkaSettings(bootstrap_servers=bootstrap, client=client)
            parts: dict[str, Callable[[], Any]] = {
                "throughput": partial(throughput, kafka, options.events, options.tasks, options.rounds),
                "restore": partial(restore, kafka, options.restore_tasks),
                "latency": partial(delay, kafka, 5 if options.quick else 20),
                "recovery": partial(recovery, kafka, options.kills),
            }
            figures[client] = {part: parts[part]() for part in options.only}
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))
    return 0


def _list(rates: list[float]) -> str:
    return ", ".join(f"{rate:,.0f}" for rate in rates)


if __name__ == "__main__":
    sys.exit(main())
