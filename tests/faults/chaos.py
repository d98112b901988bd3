"""Chaos: a group of workers on a real Kafka, killed again and again; then every claim of exactly once is checked.

`python -m tests.faults.chaos --events 100000 --kills 30` runs the long form; the tests run a short one. Everything
random comes from the seed, which is printed with the faults, so that a failure can be run again.
"""

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from deploy.broker import Broker
from streammeta.engine import EngineSettings, MetaSettings
from streammeta.engine.drift.settings import DriftSettings
from streammeta.engine.weights import encode_weights
from streammeta.transport.base import Message
from streammeta.transport.kafka.settings import KafkaSettings
from streammeta.transport.kafka.topics import create_topics, ensure_topics
from streammeta.transport.memory_log import MemoryLog
from tests.faults.states import (
    LEARNED,
    SMALL_ENVIRONMENT,
    SMALL_LEARNER,
    SMALL_MEMORY,
    differences,
    run_to_the_end,
    tasks_of,
)
from tests.faults.trained import SEPARATE, TrainerLife, wrong_predictions, wrong_versions

POINTS = (
    "after poll",
    "before send",
    "before state",
    "before commit",
    "during commit",
    "after commit",
    "during restore",
)
PATIENCE = 120.0
SETTINGS = EngineSettings(
    learner=SMALL_LEARNER,
    meta=MetaSettings(every_events=32, length=16, shortest=4),
    memory=SMALL_MEMORY,
)
_TRAINED = SETTINGS.model_copy(update={"drift": DriftSettings(detector="none")})  # as SEPARATE says
_ENVIRONMENT = SMALL_ENVIRONMENT | {
    "STATE__FROZEN": "true",
    "HTTP__ENABLED": "false",
    "LOG__FORMAT": "console",
}


@dataclass(frozen=True)
class Plan:
    """How large a run is, and what happens in it."""

    seed: int = 0
    events: int = 10_000
    rate: float = 300.0  # events a second
    tasks: int = 60
    partitions: int = 6
    workers: int = 3
    kills: int = 6
    broker: tuple[str, ...] = ("kill",)  # what happens to the broker, evenly over the run: "kill" or "stop"
    scaling: bool = False  # members come and go: 1-3-1-3
    rebalance: str = "cooperative"
    clients: tuple[str, ...] = ("kafka-python", "confluent")  # of the workers as they start, turn about
    session_seconds: float = 4.0
    commit_seconds: float = 0.3
    trainer_kills: int | None = None  # SIGKILLs of a trainer beside the members, by which θ changes; None: θ stays


@dataclass
class Report:
    """What was seen."""

    seed: int
    events: int = 0
    kills: list[tuple[float, str]] = field(default_factory=list)
    faults: list[tuple[float, str]] = field(default_factory=list)
    recovery_seconds: list[float] = field(default_factory=list)  # of members whose partitions go to others
    restart_seconds: list[float] = field(default_factory=list)  # of the static member, which gets its own again
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)  # predictions that an undisturbed run makes otherwise
    disordered: list[str] = field(default_factory=list)
    other_states: list[str] = field(default_factory=list)  # tasks, and what of them is not as in an undisturbed run
    open_transactions: list[str] = field(default_factory=list)
    readers_agree: bool = False
    versions: int = 0  # of θ, where it changes
    wrong_theta: list[str] = field(default_factory=list)  # torn, or gone back

    @property
    def flawless(self) -> bool:
        """Whether every claim held."""
        wrong = (self.lost, self.doubled, self.different, self.disordered, self.open_transactions, self.wrong_theta)
        return not any(wrong) and not self.other_states and self.readers_agree and self.events > 0

    def __str__(self) -> str:
        """For people."""
        return "\n".join(
            [
                f"seed {self.seed}: {self.events} records, {len(self.kills)} SIGKILLs of workers, {len(self.faults)} faults",
                *(f"  at {at:6.1f} s: {what}" for at, what in sorted(self.kills + self.faults)),
                f"lost {len(self.lost)}, doubled {len(self.doubled)}, other than undisturbed {len(self.different)}, "
                f"out of order {len(self.disordered)}, open transactions {self.open_transactions}",
                *(f"  lost: {one}" for one in _stretches(self.lost)),
                *(f"  other: {one}" for one in _stretches(self.different)),
                f"versions of theta {self.versions}, wrong {len(self.wrong_theta)}",
                *(f"  {one}" for one in self.wrong_theta[:10]),
                f"task states other than undisturbed: {len(self.other_states)}; both readers saw the same: {self.readers_agree}",
                *(f"  {one}" for one in self.other_states[:10]),
                "SIGKILL to the next committed prediction, worst partition:",
                f"  partitions go to others: {_spread(self.recovery_seconds)}",
                f"  a static member restarts: {_spread(self.restart_seconds)}",
            ]
        )


def _stretches(sources: Sequence[str]) -> list[str]:
    """Where records lie: for each partition how many, from which offset to which."""
    offsets: dict[str, list[int]] = defaultdict(list)
    for one in sources:
        partition, offset = one.rsplit("/", 1)
        offsets[partition].append(int(offset))
    return [f"{len(found)} of {where} from {min(found)} to {max(found)}" for where, found in sorted(offsets.items())]


def _spread(seconds: Sequence[float]) -> str:
    if not seconds:
        return "none"
    median, most = np.percentile(seconds, [50, 95])
    return f"p50 {median:.1f} s, p95 {most:.1f} s, of {len(seconds)}"


class Chaos:
    """One run."""

    def __init__(self, plan: Plan, broker: Broker, directory: Path) -> None:
        self._plan, self._broker, self._directory = plan, broker, directory
        self._random = random.Random(plan.seed)
        self._name = f"chaos-{plan.seed}-{os.getpid()}"
        self._kafka = KafkaSettings(bootstrap_servers=broker.bootstrap)
        self._begun = time.monotonic()
        self._report = Report(plan.seed)
        self._workers: list[_Worker] = []
        self._killed = self._started = 0
        self._trainer: TrainerLife | None = None
        self._producing = threading.Thread(target=self._produce, daemon=True)
        self._broker_back = -1e9  # when it was disturbed last

    def run(self) -> Report:
        plan, name = self._plan, self._name
        create_topics(self._kafka, {name: plan.partitions})
        outputs = [f"{name}-{channel}" for channel in ("predictions", "signals", "dead-letters")]
        ensure_topics(self._kafka, name, outputs, {f"{name}-state": None, f"{name}-weights": 1})
        weights = self._published_weights() if plan.trainer_kills is None else None
        with ExitStack() as stack:
            seen = stack.enter_context(_watching(self._broker.bootstrap, f"{name}-predictions", plan.partitions))
            stack.callback(self._end_all)
            for number in range(1 if plan.scaling else plan.workers):
                self._start(number)
            if plan.trainer_kills is not None:
                self._trainer = self._train(plan.trainer_kills, seen)
            self._producing.start()
            self._disturb(self._producing)
            self._await_the_end()
            for worker in self._workers:
                worker.stop()
            if self._trainer is not None:
                self._trainer.stop()
            self._check(weights, seen)
        return self._report

    # -- before --------------------------------------------------------------------------------------------------------

    def _published_weights(self) -> bytes:
        """Learn θ on some events, and publish it: from then on it stays as it is."""
        log = MemoryLog("in")
        for value, _ in some_events(600, 20, seed=self._plan.seed + 1):
            log.append(value, 0)
        engine = run_to_the_end(log, SETTINGS)
        weights = encode_weights(engine.shared_weights())
        producer = KafkaProducer(bootstrap_servers=self._broker.bootstrap)
        producer.send(f"{self._name}-weights", weights, b"theta", partition=0)
        producer.flush(PATIENCE)
        producer.close()
        return weights

    def _produce(self) -> None:
        plan, begun = self._plan, time.monotonic()
        producer = KafkaProducer(bootstrap_servers=self._broker.bootstrap, enable_idempotence=True, linger_ms=5)
        for i, (value, task) in enumerate(some_events(plan.events, plan.tasks, seed=plan.seed)):
            producer.send(self._name, value, b"t%d" % task, partition=task % plan.partitions)
            ahead = begun + i / plan.rate - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
        producer.flush(PATIENCE)
        producer.close()

    # -- meanwhile -----------------------------------------------------------------------------------------------------

    def _shared_environment(self) -> dict[str, str]:
        more = {} if self._plan.trainer_kills is None else SEPARATE
        return {f"STREAMMETA_{key}": value for key, value in (_ENVIRONMENT | more).items()} | {
            "STREAMMETA_APP__NAME": self._name,
            "STREAMMETA_INPUT__TOPIC": self._name,
            "STREAMMETA_STATE__EVERY_SECONDS": str(self._plan.commit_seconds),
            "STREAMMETA_KAFKA__BOOTSTRAP_SERVERS": self._broker.bootstrap,
        }

    def _train(self, kills: int, seen: "_Seen") -> TrainerLife:
        return TrainerLife(
            os.environ | self._shared_environment(),
            self._directory / "trainer.log",
            kills=kills,
            seconds=self._plan.events / self._plan.rate,
            away_seconds=2.0,
            predicted_since=lambda since: any(times[-1] > since for times in seen.times if times),
            choice=self._random,
        )

    def _start(self, number: int) -> None:
        plan = self._plan
        client = plan.clients[self._started % len(plan.clients)]
        self._started += 1
        environment = self._shared_environment() | {
            "STREAMMETA_KAFKA__SESSION_TIMEOUT_SECONDS": str(plan.session_seconds),
            "STREAMMETA_KAFKA__REBALANCE": plan.rebalance,
            "STREAMMETA_KAFKA__CLIENT": client,
            "STREAMMETA_INPUT__MAX_POLL_RECORDS": "200",
        }
        if number == 0:
            environment["STREAMMETA_KAFKA__GROUP_INSTANCE_ID"] = "static-0"
        point = None
        if self._killed < plan.kills:
            self._killed += 1
            point = POINTS[(self._killed + plan.seed) % len(POINTS)]
            passes = 1 if point == "during restore" else self._random.randint(3, 25)
            environment |= {"CHAOS_POINT": point, "CHAOS_PASSES": str(passes)}
            point = f"worker {number}, by {client}, at passing {passes} of {point!r}"
        self._workers.append(_Worker(number, point, environment, self._directory / f"worker-{number}.log"))

    def _disturb(self, producing: threading.Thread) -> None:
        """Restart who died, and do to the broker and to the group what the plan says."""
        plan = self._plan
        seconds = plan.events / plan.rate
        due = [(seconds * (i + 1) / (len(plan.broker) + 1), what) for i, what in enumerate(plan.broker)]
        sizes = [(seconds * (i + 1) / 4, size) for i, size in enumerate((3, 1, 3))] if plan.scaling else []
        wanted, begun = len(self._workers), time.monotonic()
        while (
            producing.is_alive()
            or self._killed < plan.kills
            or any(w.point for w in self._workers)
            or not (self._trainer is None or self._trainer.is_done)
        ):
            assert time.monotonic() < begun + 3 * seconds + 5 * PATIENCE, "the faults never came to an end"
            now = time.monotonic() - begun
            if due and now > due[0][0]:
                self._disturb_broker(due.pop(0)[1])
            if sizes and now > sizes[0][0]:
                wanted = sizes.pop(0)[1]
                self._report.faults.append((self._at(), f"{wanted} workers wanted"))
            self._tend(wanted)
            time.sleep(0.05)

    def _tend(self, wanted: int) -> None:
        done, over = None, not self._producing.is_alive()
        if self._trainer is not None:
            done = self._trainer.tend(excused=self._excused, nothing_waits=over)
        if done is not None:
            self._report.faults.append((self._at(), done))
        for worker in list(self._workers):
            if worker.process.poll() is not None:
                self._workers.remove(worker)
                if worker.process.returncode == 1 and self._excused:
                    self._killed -= worker.point is not None  # it could not even start without a broker
                    continue
                assert worker.process.returncode == -signal.SIGKILL, f"worker ended by itself:\n{worker.tail()}"
                self._report.kills.append((self._at(), worker.point or "?"))
            elif worker.point and time.monotonic() - worker.begun > 60:  # it never came to its point
                worker.process.kill()
                worker.process.wait(PATIENCE)
                worker.point += ", which it never reached: killed as it was"
        while len(self._workers) > wanted:
            self._workers.pop().stop(excused=self._excused)
        for number in range(wanted):
            if all(worker.number != number for worker in self._workers):
                self._start(number)

    @property
    def _excused(self) -> bool:
        """Whether a worker that came up, or went, may have found no broker."""
        return self._at() < self._broker_back + 30

    def _disturb_broker(self, what: str) -> None:
        self._report.faults.append((self._at(), f"broker: {what}"))
        pid = self._broker.pid
        assert pid is not None
        if what == "stop":
            os.kill(pid, signal.SIGSTOP)
            time.sleep(30)
            os.kill(pid, signal.SIGCONT)
        else:
            self._broker.kill()
            self._broker.start()
        self._broker_back = self._at()

    def _await_the_end(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self._caught_up():
            assert time.monotonic() < deadline, "not caught up:\n" + "\n".join(w.tail() for w in self._workers)
            self._tend(len(self._workers))
            time.sleep(0.3)

    def _caught_up(self) -> bool:
        try:
            admin = KafkaAdminClient(bootstrap_servers=self._broker.bootstrap)
        except KafkaError:
            return False
        with closing(admin):
            at = [TopicPartition(self._name, number) for number in range(self._plan.partitions)]
            ends = admin.list_partition_offsets(dict.fromkeys(at, -1))
            done = admin.list_group_offsets(self._name).get(self._name, {})
            return all(one in done and done[one].offset == ends[one].offset for one in at if ends[one].offset)

    def _end_all(self) -> None:
        if self._trainer is not None:
            self._trainer.kill()
        for worker in self._workers:
            worker.process.kill()
            worker.process.wait(PATIENCE)

    # -- after ---------------------------------------------------------------------------------------------------------

    def _check(self, weights: bytes | None, seen: "_Seen") -> None:
        report, name, count = self._report, self._name, self._plan.partitions
        bootstrap = self._broker.bootstrap
        inputs = read_topic(bootstrap, name, count)
        report.events = sum(map(len, inputs))
        log = MemoryLog(name, count)
        for number, records in enumerate(inputs):
            for record in records:
                log.append(record.value, number, record.key)
        if weights is not None:
            log.write("weights", 0, Message("weights", weights, b"theta"), None)
        settings = SETTINGS if self._trainer is None else _TRAINED
        run_to_the_end(log, settings.model_copy(update={"meta": MetaSettings(mode="off")}), frozen=True)
        expected = {one["source"]: one for one in map(json.loads, log.values("predictions"))}

        found = read_topic(bootstrap, f"{name}-predictions", count)
        values = [json.loads(record.value) for records in found for record in records]
        sources = [value["source"] for value in values]
        report.doubled = (
            sorted({one for one in sources if sources.count(one) > 1}) if len(set(sources)) < len(sources) else []
        )
        report.lost = sorted(expected.keys() - set(sources))
        if self._trainer is None:  # else they depend on when which θ came
            report.different = [value["source"] for value in values if expected.get(value["source"]) != value]
        else:
            self._check_theta(self._trainer, found)
        report.disordered = list(_disordered(values))
        seen.await_count(len(values))
        report.readers_agree = seen.sources == [[json.loads(r.value)["source"] for r in records] for records in found]
        moved = [at for at, what in report.kills if not what.startswith("worker 0")]
        static = [at for at, what in report.kills if what.startswith("worker 0")]
        report.recovery_seconds = seen.recoveries(moved, self._begun)
        report.restart_seconds = seen.recoveries(static, self._begun)
        only = None if self._trainer is None else LEARNED
        report.other_states = differences(self._tasks(only), tasks_of(log, settings, only))
        with closing(KafkaAdminClient(bootstrap_servers=bootstrap)) as admin:
            listed = admin.list_transactions(state_filters=["Ongoing"])
            names = (one.transactional_id for listings in listed.values() for one in listings)
            report.open_transactions = [one for one in names if one.rpartition("/")[0] == name]

    def _check_theta(self, trainer: TrainerLife, predictions: Sequence[Sequence[Any]]) -> None:
        report, name, bootstrap = self._report, self._name, self._broker.bootstrap
        (weights,) = read_topic(bootstrap, f"{name}-weights", 1)
        segments = read_topic(bootstrap, f"{name}-episodes", self._plan.partitions)
        report.versions, report.wrong_theta = wrong_versions(
            [record.value for record in weights if record.key == b"theta"],
            [[record.offset for record in records] for records in segments],
        )
        values = [[json.loads(record.value) for record in records] for records in predictions]
        report.wrong_theta += trainer.wrong + wrong_predictions(values)

    def _tasks(self, only: Collection[str] | None = None) -> dict[tuple[int, str], Any]:
        log = MemoryLog(self._name, self._plan.partitions)
        for number, records in enumerate(
            read_topic(self._broker.bootstrap, f"{self._name}-state", self._plan.partitions)
        ):
            for record in records:
                log.write("state", number, Message("state", record.value, record.key), None)
        return tasks_of(log, SETTINGS if self._trainer is None else _TRAINED, only)

    def _at(self) -> float:
        return time.monotonic() - self._begun


class _Worker:
    def __init__(self, number: int, point: str | None, environment: dict[str, str], log: Path) -> None:
        self.number, self.point, self._log, self.begun = number, point, log, time.monotonic()
        with log.open("ab") as out:
            command = [sys.executable, "-m", "tests.faults.worker"]
            self.process = subprocess.Popen(command, env=os.environ | environment, stdout=out, stderr=out)

    def stop(self, *, excused: bool = False) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGUSR1)  # its stacks: see worker.py
            time.sleep(1)
            raise AssertionError(f"worker {self.number} did not end:\n{self.tail()}") from None
        assert status in (0, -signal.SIGKILL, -signal.SIGTERM) or (excused and status == 1), (
            f"ended with {status}:\n{self.tail()}"
        )

    def tail(self) -> str:
        return self._log.read_text(errors="replace")[-12000:]


class _Seen:
    """What a reader of committed predictions saw during the run, and when."""

    def __init__(self, partitions: int) -> None:
        self.sources: list[list[str]] = [[] for _ in range(partitions)]
        self.times: list[list[float]] = [[] for _ in range(partitions)]
        self.stop = threading.Event()

    def await_count(self, count: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while sum(map(len, self.sources)) < count and time.monotonic() < deadline:
            time.sleep(0.1)

    def recoveries(self, kills: Sequence[float], begun: float) -> list[float]:
        """From each kill to the next prediction, in the partition that waited longest."""
        found = []
        for kill in kills:
            at = begun + kill
            waits = [next((t - at for t in times if t > at), None) for times in self.times]
            if None not in waits:
                found.append(max(wait for wait in waits if wait is not None))
        return found


@contextmanager
def _watching(bootstrap: str, topic: str, partitions: int) -> Iterator[_Seen]:
    """Read what is committed, all the time, whatever happens to the broker."""
    seen = _Seen(partitions)

    def read() -> None:
        consumer = KafkaConsumer(
            bootstrap_servers=bootstrap, isolation_level="read_committed", auto_offset_reset="earliest"
        )
        with closing(consumer):
            consumer.assign([TopicPartition(topic, number) for number in range(partitions)])
            while not seen.stop.is_set():
                for at, records in consumer.poll(timeout_ms=100).items():
                    seen.sources[at.partition] += [json.loads(record.value)["source"] for record in records]
                    seen.times[at.partition] += [time.monotonic()] * len(records)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        seen.stop.set()
        thread.join(30)


def read_topic(bootstrap: str, topic: str, partitions: int) -> list[list[Any]]:
    """Everything committed in a topic, by partition."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, isolation_level="read_committed", auto_offset_reset="earliest"
    )
    with closing(consumer):
        ats = [TopicPartition(topic, number) for number in range(partitions)]
        consumer.assign(ats)
        consumer.seek_to_beginning(*ats)
        ends = consumer.end_offsets(ats)
        records: dict[int, list[Any]] = defaultdict(list)
        deadline = time.monotonic() + PATIENCE
        while any(consumer.position(at) < ends[at] for at in ats):
            assert time.monotonic() < deadline, f"{topic} cannot be read to its end"
            for at, batch in consumer.poll(timeout_ms=300).items():
                records[at.partition] += batch
    return [records[number] for number in range(partitions)]


def _disordered(values: Sequence[dict[str, Any]]) -> Iterator[str]:
    last: dict[str, int] = {}
    for value in values:
        offset = int(value["source"].rsplit("/", 1)[1])
        if offset <= last.get(value["task"], -1):
            yield value["source"]
        last[value["task"]] = offset


def some_events(count: int, tasks: int, *, seed: int) -> Iterator[tuple[bytes, int]]:
    """Events of many tasks, each with a concept of its own; a quarter of the labels come late, some events are broken."""
    random_, late = np.random.default_rng(seed), list[tuple[bytes, int]]()
    for i in range(count):
        task = int(random_.integers(tasks))
        x = {name: float(v) for name, v in zip("abcd", random_.normal(size=4), strict=True)}
        y = int((x["a"] + x["b"] > 0) ^ (task % 3 == 0))
        event: dict[str, object] = {"id": f"e{i}", "task": f"t{task}", "ts": float(i), "x": x}
        if i % 4 == 0:
            late.append((json.dumps({"id": f"e{i}", "task": f"t{task}", "y": y}).encode(), task))
        else:
            event["y"] = y
        yield (b"broken %d" % i if i % 97 == 0 else json.dumps(event).encode()), task
        if len(late) > 40:
            yield late.pop(int(random_.integers(20)))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> int:
    """Run it, print what was seen; exit status 1 where a claim did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=300.0, help="events a second")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--rebalance", default="cooperative", choices=["cooperative", "eager"])
    parser.add_argument(
        "--client", default="both", choices=["both", "kafka-python", "confluent"], help="of the workers"
    )
    parser.add_argument("--trainer", action="store_true", help="θ changes, by a trainer that is killed as often, too")
    parser.add_argument("--keep", type=Path, help="where the workers' logs are kept")
    options = parser.parse_args()
    plan = Plan(
        seed=options.seed,
        events=options.events,
        rate=options.rate,
        kills=options.kills,
        broker=("kill", "stop", "kill"),
        scaling=True,
        rebalance=options.rebalance,
        clients=Plan.clients if options.client == "both" else (options.client,),
        trainer_kills=options.kills if options.trainer else None,
    )
    with TemporaryDirectory() as temporary, Broker() as broker:
        directory = options.keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        report = Chaos(plan, broker, directory).run()
    sys.stdout.write(f"{report}\n")
    return 0 if report.flawless else 1


if __name__ == "__main__":
    sys.exit(main())
