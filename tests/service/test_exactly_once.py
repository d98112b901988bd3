"""Exactly once on a log in memory: whatever fails, and wherever, the results are those of a run in which nothing did."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from streammeta.engine import Engine, EngineSettings, MetaSettings
from streammeta.engine.tasks import MemorySettings
from streammeta.errors import SnapshotError, TransactionError, TransportError
from streammeta.event import Decoder
from streammeta.meta.settings import LearnerSettings
from streammeta.service.exactly_once import ExactlyOnce
from streammeta.service.http import Health
from streammeta.service.loop import Options
from streammeta.service.metrics import Metrics
from streammeta.transport.base import Message
from streammeta.transport.memory_log import MemoryChangelogReader, MemoryLog, MemoryMember, MemoryTransactionalSink
from tests.faults.states import tasks_of

SMALL = EngineSettings(
    learner=LearnerSettings(hidden=8, encoded=4, memories=(20.0,), members=1),
    meta=MetaSettings(mode="off"),
    memory=MemorySettings(window=32),
)
POINTS = ("after poll", "before send", "before commit", "after commit", "during restore")


class Killed(BaseException):
    """The process is gone: nothing may catch it."""


@dataclass
class Faults:
    """What happens at which passing of which point."""

    plan: dict[tuple[str, int], BaseException] = field(default_factory=dict)
    passed: Counter[str] = field(default_factory=Counter)

    def __call__(self, point: str) -> None:
        self.passed[point] += 1
        fault = self.plan.pop((point, self.passed[point]), None)
        if fault is not None:
            raise fault


class Clock:
    """Each look at it takes a millisecond."""

    step = 0.001

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


class Worker:
    """One process of the group."""

    def __init__(self, log: MemoryLog, name: str = "a", settings: EngineSettings = SMALL, **options: Any) -> None:
        clock = Clock()
        self.metrics = Metrics(CollectorRegistry())
        chosen = {"poll_records": 7, "poll_seconds": 0.0, "save_every_seconds": 0.02, "name": "app", **options}
        self.service = ExactlyOnce(
            lambda: Engine(settings),
            MemoryTransactionalSink(log, name),
            MemoryChangelogReader(log),
            decoder=Decoder(),
            options=Options(**chosen),
            metrics=self.metrics,
            health=Health(clock),
            clock=clock,
        )
        running = self.service
        self.member = MemoryMember(
            log,
            name,
            on_revoked=running.revoked,
            on_assigned=running.assigned,
            on_lost=running.lost,
            on_coming=running.coming,
        )

    def run(self) -> None:
        self.service.run(self.member, threading.Event())
        self.member.close()

    def rounds(self, count: int) -> None:
        """Some turns of the loop, as far as another member lets it come."""
        if not hasattr(self.service, "_source"):
            self.service._source = self.member
            self.service._tables.begin("weights", 0)
        for _ in range(count):
            try:
                self.service._go_round()
            except TransactionError as err:
                self.service._recover(threading.Event(), err)

    @property
    def engine(self) -> Engine:
        return self.service._turn.engine


def fill(log: MemoryLog, count: int, *, tasks: int = 6, unlabelled: bool = True, seed: int = 3) -> None:
    """Events of several tasks, each in one partition; every fourth label comes late."""
    random = np.random.default_rng(seed)
    late: list[tuple[int, bytes]] = []
    for i in range(count):
        task = int(random.integers(tasks))
        x = {name: float(v) for name, v in zip("abc", random.normal(size=3), strict=True)}
        y = int((x["a"] > 0) ^ (task % 2 == 0))
        event: dict[str, object] = {"id": f"e{i}", "task": f"t{task}", "ts": float(i), "x": x}
        if unlabelled and i % 4 == 0:
            late.append((task, json.dumps({"id": f"e{i}", "task": f"t{task}", "y": y}).encode()))
        else:
            event["y"] = y
        log.append(json.dumps(event).encode(), task % log.partitions, f"t{task}".encode())
        if len(late) > 10:
            number, label = late.pop(0)
            log.append(label, number % log.partitions, f"t{number}".encode())


def published(log: MemoryLog) -> dict[str, dict[str, Any]]:
    """Predictions by origin; none may be there twice."""
    values = [json.loads(value) for value in log.values("predictions")]
    counts = Counter(value["source"] for value in values)
    assert max(counts.values()) == 1, f"doubled: {[one for one, n in counts.items() if n > 1][:5]}"
    return {value["source"]: value for value in values}


def undisturbed(count: int, partitions: int = 1, settings: EngineSettings = SMALL) -> MemoryLog:
    log = MemoryLog("in", partitions)
    fill(log, count)
    Worker(log, settings=settings).run()
    return log


def finish(log: MemoryLog, settings: EngineSettings = SMALL) -> None:
    """Processes come and go until one comes through."""
    for attempt in range(10):
        worker = Worker(log, f"later-{attempt}", settings)
        try:
            worker.run()
        except Killed:
            log.leave(f"later-{attempt}")
        else:
            return
    raise AssertionError("never came through")


@pytest.mark.parametrize("passing", [1, 2, 5])
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("fault", ["killed", "failed"])
def test_a_fault_at_any_point_changes_nothing_that_is_published(fault: str, point: str, passing: int) -> None:
    """The whole promise: every event predicted and learned exactly once, with the state that belongs to it."""
    expected = undisturbed(200)
    faults = Faults({(point, passing): Killed() if fault == "killed" else TransactionError("nobody knows")})
    log = MemoryLog("in", at=faults)
    fill(log, 200)

    with suppress(Killed):
        Worker(log).run()
    log.leave("a")
    finish(log)

    assert published(log) == published(expected)
    assert tasks_of(log, SMALL) == tasks_of(expected, SMALL)
    assert log.open_transactions == []
    assert log.committed == expected.committed


def test_a_fault_while_restoring_after_a_fault_is_no_other_case() -> None:
    """Trouble comes in pairs: the broker goes away again while we come back."""
    expected = undisturbed(200)
    plan = {("before commit", 3): TransactionError("away"), ("during restore", 2): TransactionError("away again")}
    log = MemoryLog("in", at=Faults({**plan, ("after commit", 6): Killed()}))
    fill(log, 200)

    with suppress(Killed):
        Worker(log).run()
    log.leave("a")
    finish(log)

    assert published(log) == published(expected)
    assert tasks_of(log, SMALL) == tasks_of(expected, SMALL)


def test_theta_goes_on_too(linear_tasks: Callable[..., Any]) -> None:
    """With meta-learning in the step, predictions depend on θ at every count of events: it must come back as it was."""
    settings = SMALL.model_copy(update={"meta": MetaSettings(every_events=16, length=8, shortest=4)})
    log, expected = MemoryLog("in", at=Faults({("before commit", 4): Killed()})), undisturbed(300, settings=settings)
    fill(log, 300)

    with suppress(Killed):
        Worker(log, settings=settings).run()
    log.leave("a")
    finish(log, settings)

    assert published(log).keys() == published(expected).keys()
    versions = [value["theta_version"] for value in published(log).values()]
    assert versions == sorted(versions)
    assert versions[-1] == max(value["theta_version"] for value in published(expected).values())


def with_theta(partitions: int) -> MemoryLog:
    """A log whose θ is published: what comes after does not depend on who shares what with whom."""
    log = MemoryLog("in", partitions)
    fill(log, 60, unlabelled=False, seed=9)
    Worker(log).run()
    return log


def test_partitions_move_between_workers_and_nobody_can_tell() -> None:
    """Scaling from one to three and back is every day's work."""
    expected, log = with_theta(3), with_theta(3)
    for one in (expected, log):
        fill(one, 600)
    Worker(expected, frozen=True).run()

    group = [Worker(log, "a", frozen=True)]
    for turn in range(40):
        if turn in (4, 9):
            group.append(Worker(log, f"b{turn}", frozen=True))
        if turn in (18, 26):
            group[0].service._finish()
            group.pop(0).member.close()
        for worker in group:
            worker.rounds(1)
            ours = {number for _, number in worker.member.assigned()}
            assert {task.partition for task in worker.engine.tasks()} <= ours  # what went is gone
    while sum(group[0].member.lag().values()):
        group[0].rounds(1)
    group[0].service._finish()

    assert published(log) == published(expected)
    assert tasks_of(log, SMALL) == tasks_of(expected, SMALL)


def test_a_member_taken_for_dead_publishes_nothing_more() -> None:
    """A zombie that wakes up must not write over the work of its successor."""
    expected, log = undisturbed(300), MemoryLog("in")
    fill(log, 300)
    zombie = Worker(log, "zombie", save_every_seconds=1_000.0)
    zombie.rounds(5)

    log.leave("zombie")
    heir = Worker(log, "heir")
    heir.rounds(10)
    zombie.rounds(3)
    zombie.service._finish()
    log.leave("zombie")
    while sum(heir.member.lag().values()):
        heir.rounds(1)
    heir.service._finish()

    assert published(log) == published(expected)
    assert tasks_of(log, SMALL) == tasks_of(expected, SMALL)


def test_only_the_owner_of_partition_0_changes_theta_and_the_others_adopt_it() -> None:
    """Two writers of θ would undo each other; a follower that never adopted would fall behind for ever."""
    settings = SMALL.model_copy(update={"meta": MetaSettings(every_events=16, length=8, shortest=4)})
    log = MemoryLog("in", 2)
    fill(log, 800)
    leader, follower = Worker(log, "a", settings), Worker(log, "b", settings)

    for _ in range(30):
        leader.rounds(1)
        follower.rounds(1)
    leader.service._commit()
    follower.rounds(2)

    assert leader.service._leads
    assert not follower.service._leads
    assert leader.engine.stats().theta_version > 5
    assert follower.engine.stats().theta_version == leader.engine.stats().theta_version
    for one, trains in ((leader, 1), (follower, 0)):
        one.service._look(force=True)
        assert one.metrics.registry.get_sample_value("streammeta_trains") == trains


def test_the_next_leader_goes_on_from_the_published_theta() -> None:
    """When the trainer dies, what it had learned to learn must not die with it."""
    settings = SMALL.model_copy(update={"meta": MetaSettings(every_events=16, length=8, shortest=4)})
    log = MemoryLog("in", 2)
    fill(log, 800)
    leader, heir = Worker(log, "a", settings), Worker(log, "b", settings)
    for _ in range(20):
        leader.rounds(1)
        heir.rounds(1)
    before = heir.engine.stats()

    log.leave("a")
    for _ in range(30):
        heir.rounds(1)

    after = heir.engine.stats()
    assert heir.service._leads
    assert after.theta_version > before.theta_version
    assert after.meta_updates > before.meta_updates > 0


def test_polling_goes_on_while_very_many_tasks_are_restored() -> None:
    """A restore that takes longer than `max_poll_interval_seconds` without a poll costs the partitions it is for."""
    count, log = 20_000, MemoryLog("in")
    many = SMALL.model_copy(update={"memory": MemorySettings(window=32, max_tasks=count)})
    for i in range(count):
        log.append(b'{"task": "t%d", "x": [%d, 1], "y": %d}' % (i, i % 7, i % 2), 0)
    Worker(log, "first", many, poll_records=5_000).run()

    heir, polled = Worker(log, "heir", many), list[str]()
    log.at = lambda point: polled.append(point) if point == "after poll" else None
    heir.service._clock.step = 0.1  # type: ignore[attr-defined]  # as if 256 tasks took so long
    while not heir.service._positions and len(polled) < 1_000:
        heir.rounds(1)

    assert heir.engine.stats().tasks == count
    assert len(polled) > count / 256 * 0.1 / 0.4  # a slice is 0.2 s, and the tasks that end it


def test_what_a_lost_member_left_open_is_ended_though_the_first_try_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is just coming back refuses it, and then all would wait until it ends the transaction by itself."""
    log = MemoryLog("in")
    fill(log, 20)
    MemoryTransactionalSink(log, "ghost").send([Message("state", b"?", b"task:ghost", partition=0)])
    heir, tries = Worker(log, "heir"), list[float]()

    def refused_twice(_ledger: MemoryTransactionalSink) -> None:
        tries.append(heir.service._clock())
        if len(tries) > 2:
            log.evict()

    monkeypatch.setattr(MemoryTransactionalSink, "evict", refused_twice)
    heir.service._clock.step = 0.1  # type: ignore[attr-defined]
    heir.rounds(200)

    assert len(tries) == 3
    assert heir.service._positions
    assert heir.engine.stats().events == 20


def test_a_broker_that_is_away_while_all_begins_anew_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a crash of the broker its answers come one by one; a member that ended at the first that did not was gone."""
    log = MemoryLog("in")
    fill(log, 30)
    one, begin, refused = Worker(log, "one"), MemoryChangelogReader.begin, list[str]()
    one.rounds(3)

    def not_yet(tables: MemoryChangelogReader, channel: str, partition: int) -> None:
        if len(refused) < 2:
            refused.append(channel)
            raise TransactionError("no node to ask")
        begin(tables, channel, partition)

    monkeypatch.setattr(MemoryChangelogReader, "begin", not_yet)
    one.service._recover(threading.Event(), TransactionError("the broker is gone"))
    one.rounds(100)

    assert refused == ["weights", "weights"]
    assert one.engine.stats().events == 30


def test_state_that_cannot_be_read_stops_with_where_and_why() -> None:
    """Guessing at a state would be learned from for ever."""
    log = undisturbed(100)
    key = next(entry.key for _, entry in log.read("state", 0) if (entry.key or b"").startswith(b"task:"))
    fill(log, 1)
    log.write("state", 0, Message("state", b"\x93garbage", key), None)

    with pytest.raises(SnapshotError, match=r"app-state/0, task 't\d'.*head record of format 5"):
        Worker(log).run()


def test_nothing_is_written_where_nothing_happened() -> None:
    """A quiet night must not fill the topics."""
    log = undisturbed(50)
    ends = [log.end(topic, 0) for topic in ("predictions", "state", "weights")]

    Worker(log).rounds(50)

    assert [log.end(topic, 0) for topic in ("predictions", "state", "weights")] == ends


def test_a_partition_that_stalls_is_told_of_and_ends_the_service_in_the_end() -> None:
    """A client that stopped fetching looks like a quiet topic: hours of events wait, and nobody is woken."""
    log = MemoryLog("in", 2)
    fill(log, 50)
    worker = Worker(log, stuck_seconds=1.0)
    worker.rounds(20)
    fill(log, 50)
    worker.member.pause([("in", 1)])

    with pytest.raises(TransportError, match=r"in/1: records wait from offset \d+ on.*restart"):
        worker.rounds(2_000)

    assert worker.metrics.registry.get_sample_value("streammeta_stuck_partitions") == 1
