"""Several ranks that learn one θ, each from its share of the partitions: as threads here, by gloo in tests/broker."""

import json
import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from queue import Queue
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from prometheus_client import CollectorRegistry

from streammeta.engine import Engine, EngineSettings
from streammeta.engine.weights import Weights
from streammeta.errors import TransactionError, TransportError
from streammeta.service.http import Health
from streammeta.service.metrics import Metrics
from streammeta.service.rounds import Follower, Leader
from streammeta.service.trainer import TRAINER, Trainer, TrainerOptions
from streammeta.transport.base import Row
from streammeta.transport.memory_log import MemoryChangelogReader, MemoryLog, MemoryTransactionalSink
from tests.service.test_exactly_once import Clock
from tests.service.test_members import PARTITIONS, fill
from tests.service.test_trainer import Training, backlog, members, serve, versions

pytest.importorskip("torch")

from streammeta.meta.ranks import Ranks

SETTINGS = EngineSettings.model_validate({"meta": {"mode": "background", "trainer": "separate"}})
PATIENCE = 30.0


class Wire:
    """What threads that stand for processes tell each other."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.orders: list[Queue[bytes | None]] = [Queue() for _ in range(size)]
        self.said: list[Any] = [None] * size
        self.barrier = threading.Barrier(size, timeout=PATIENCE)
        self.bytes = 0

    def all(self, rank: int, said: Any) -> list[Any]:
        self.said[rank] = said
        self.barrier.wait()
        found = list(self.said)
        self.barrier.wait()
        return found


class Thread(Ranks):
    """A rank that is a thread."""

    def __init__(self, wire: Wire, rank: int) -> None:
        self._wire, self.rank, self.size = wire, rank, wire.size

    def give(self, data: bytes) -> None:
        self._wire.bytes += len(data)
        for queue in self._wire.orders[1:]:
            queue.put(data)

    def given(self) -> bytes | None:
        return self._wire.orders[self.rank].get(timeout=PATIENCE) or None

    def gathered(self, data: bytes) -> list[bytes]:
        found = self._wire.all(self.rank, data)
        return found if self.rank == 0 else []

    def beat(self) -> None:
        pass

    def total(self, vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        found: npt.NDArray[np.float64] = np.sum(self._wire.all(self.rank, vector.copy()), 0)
        return found


class Group:
    """A `streammeta train` of several ranks that is moved round by round."""

    def __init__(
        self,
        log: MemoryLog,
        size: int,
        *,
        settings: EngineSettings = SETTINGS,
        reader: Callable[[MemoryLog], MemoryChangelogReader] = MemoryChangelogReader,
        stuck_seconds: float = 300.0,
    ) -> None:
        self._reader, self._stuck_seconds = reader, stuck_seconds
        clock = Clock()
        clock.step = 0.01
        self.metrics, self.wire = Metrics(CollectorRegistry()), Wire(size)
        self.ranks = [Thread(self.wire, rank) for rank in range(size)]
        self.trainer = Trainer(
            lambda: Engine(settings),
            MemoryTransactionalSink(log, TRAINER),
            MemoryChangelogReader(log),
            options=TrainerOptions("app", log.partitions, size, publish_every_seconds=0.1, poll_seconds=0.0),
            metrics=self.metrics,
            health=Health(clock),
            clock=clock,
            wall=lambda: 1.7e9 + clock.now,
        )
        self.trainer.team = Leader(
            self.trainer.engine, self.trainer.episodes, self.ranks[0], partitions=log.partitions, metrics=self.metrics
        )
        self.engines = [self.trainer.engine, *(Engine(settings) for _ in range(1, size))]
        self.read: list[set[int]] = [set() for _ in range(size)]
        for engine, read in zip(self.engines, self.read, strict=True):
            note_partitions(engine, read)
        self.failed: list[BaseException] = []
        self.threads = [threading.Thread(target=self._follow, args=(rank, log), daemon=True) for rank in range(1, size)]
        for thread in self.threads:
            thread.start()
        self.trainer.begin()

    def _follow(self, rank: int, log: MemoryLog) -> None:
        clock = Clock()
        clock.step = 0.01
        try:
            Follower(
                self.engines[rank],
                self.ranks[rank],
                lambda: self._reader(log),
                name="app",
                metrics=Metrics(CollectorRegistry()),
                stuck_seconds=self._stuck_seconds,
                clock=clock,
            ).run()
        except BaseException as err:
            self.failed.append(err)
            self.wire.barrier.abort()

    def rounds(self, count: int = 1) -> None:
        for _ in range(count):
            self.trainer.turn(threading.Event())

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def end(self) -> None:
        self.ranks[0].give(b"")
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        assert self.failed == []


def note_partitions(engine: Engine, read: set[int]) -> None:
    """Note the partitions that an engine learns from."""
    learn: Callable[..., Any] = engine.observe_episode

    def noting(partition: int, *rest: Any) -> Any:
        read.add(partition)
        return learn(partition, *rest)

    engine.observe_episode = noting  # type: ignore[method-assign]


class Failing(MemoryChangelogReader):
    """Cannot be read for the first polls."""

    polls = 0

    def poll(self, timeout_seconds: float) -> Sequence[Row]:
        self.polls += 1
        if self.polls <= 20:
            raise TransactionError("episodes: cannot be read: no answer")
        return super().poll(timeout_seconds)


def filled(events: int) -> MemoryLog:
    """A log whose members have learned all, and written their episodes."""
    log = MemoryLog("in", PARTITIONS)
    fill(log, events)
    group = members(log, 2)
    while backlog(group):
        serve(log, group, None, 1)
    for one in group:
        one.service._commit()
    return log


def written(log: MemoryLog) -> int:
    return sum(1 for number in range(PARTITIONS) for _ in log.read("episodes", number))


@pytest.mark.parametrize("size", [2, 3, PARTITIONS + 1])
def test_each_rank_learns_its_share_and_theta_says_how_far_all_have_come(size: int) -> None:
    """Reading, decoding and windows were rank 0's alone; and a position left out would be learned twice."""
    log = filled(3_000 if size < PARTITIONS else 1_200)
    group = Group(log, size)

    while group.trainer.episodes.segments < written(log):
        group.rounds(5)
    group.rounds(20)
    group.end()

    assert group.read == [set(range(rank, PARTITIONS, size)) for rank in range(size)]
    found = versions(log)
    about = found[-1].about
    assert all(a.version < b.version for a, b in pairwise(found))
    assert dict(about.positions).keys() == set(range(PARTITIONS))
    offsets = dict(about.positions)
    assert about.segments == sum(
        offset < offsets[n] for n in range(PARTITIONS) for offset, _ in log.read("episodes", n)
    )
    assert about.segments > written(log) // 2
    assert group.count("streammeta_episode_segments_total", fate="learned") == written(log)
    assert group.count("streammeta_theta_judged_total", verdict="published") > 2


def test_a_group_that_starts_again_learns_nothing_twice_and_remembers_every_window() -> None:
    """Whatever rank died, all begin again from what was published: each with its own partitions' positions."""
    log = filled(4_000)
    first = Group(log, 2)
    while first.trainer.episodes.segments < written(log) // 2:
        first.rounds(5)
    while not versions(log):
        first.rounds(1)
    first.end()
    reached = versions(log)[-1].about

    again = Group(log, 2)
    while again.trainer.episodes.segments < written(log):
        again.rounds(5)
    again.end()

    learned = again.count("streammeta_episode_segments_total", fate="learned")
    remembered = again.count("streammeta_episode_segments_total", fate="remembered")
    assert (learned, remembered) == (written(log) - reached.segments, reached.segments)
    assert remembered > 0


def test_a_rank_that_cannot_read_for_a_while_goes_on_when_it_can() -> None:
    """Its end is that of all: torchrun starts all again, as often as it may, and a broker comes back within seconds."""
    log = filled(2_000)
    group = Group(log, 2, reader=Failing)

    while group.trainer.episodes.segments < written(log):
        group.rounds(5)
    group.end()

    assert group.read == [{0, 2, 4, 6}, {1, 3, 5, 7}]


def test_a_rank_that_cannot_read_for_too_long_ends_with_the_reason() -> None:
    """Else its partitions are left out for ever, and nothing says so."""
    log = filled(500)
    group = Group(log, 2, reader=Failing, stuck_seconds=0.1)

    with pytest.raises(threading.BrokenBarrierError):
        group.rounds(20)

    group.threads[0].join(PATIENCE)
    (err,) = group.failed
    assert isinstance(err, TransportError)
    assert "no episode could be read for 0.1 s" in str(err)


def test_a_group_may_be_followed_by_a_trainer_of_another_number_of_ranks() -> None:
    """θ is not of a number of processes."""
    log = filled(3_000)
    for size in (2, 3):
        group = Group(log, size)
        group.rounds(40)
        group.end()

    found = versions(log)
    assert len({one.about.by for one in found}) == 2
    assert all(a.version < b.version for a, b in pairwise(found))


def loss_of(theta: Weights | None, log: MemoryLog) -> float:
    """The meta-objective of a θ, or of one that learned nothing, over drawn segments of all tasks."""
    engine = Engine(SETTINGS)
    engine.adopt(theta, train=False, fixed=True)
    for number in range(PARTITIONS):
        for _, e in log.read("episodes", number):
            engine.remember_episode(number, e.key or b"", e.value or b"", "here")
    drawn = engine.parallel()
    state, gradient = engine.meta_state.theta, engine.memory.method.gradient
    return float(np.mean([gradient(state, drawn.draw(seed, 0, list(range(8))), "cpu")[0] for seed in range(20)]))


def test_theta_of_two_ranks_is_as_good_as_that_of_one() -> None:
    """The number of processes is how fast θ is learned, not what."""
    found = list[Weights]()
    for size in (1, 2):
        log = filled(6_000)
        group = Training(log) if size == 1 else Group(log, size)
        while group.trainer.episodes.segments < written(log):
            group.rounds(1)
        group.rounds(5)
        found.append(versions(log)[-1])
        if isinstance(group, Group):
            group.end()

    one, two = (loss_of(theta, log) for theta in found)
    assert two == pytest.approx(one, abs=0.02)
    assert found[1].version == pytest.approx(found[0].version, rel=0.35)


def test_a_candidate_is_judged_on_labels_that_only_another_rank_has() -> None:
    """Where rank 0's own partitions are silent, θ was never judged, and so never published."""
    log = MemoryLog("in", PARTITIONS)
    for i in range(3_000):
        task, a = i % 12, float(np.sin(i * 12.9898))
        record = {"task": f"t{task}", "x": {"a": a}, "y": int((a > 0) == (task % 2 == 0))}
        log.append(json.dumps(record).encode(), 1)
    workers = members(log, 1)
    while backlog(workers):
        serve(log, workers, None, 1)
    workers[0].service._commit()
    group = Group(log, 2)

    group.rounds(120)
    group.end()

    assert group.read == [set(), {1}]
    found = versions(log)
    assert len(found) > 3
    assert all(one.about.judged >= 32 for one in found)
    assert found[-1].slots[0][0] == "a"
    assert np.abs(found[-1].arrays["theta.w1"]).max() > 0


def test_no_event_goes_over_the_wire() -> None:
    """What scales with events was to stay with the rank that reads it."""
    log = filled(3_000)
    group = Group(log, 2)
    while group.trainer.episodes.segments < written(log):
        group.rounds(1)
    theta = sum(p.nbytes for p in group.trainer.engine.meta_state.theta.values())
    updates = group.trainer.engine.stats().meta_updates
    group.end()

    assert updates > 30
    assert group.wire.bytes < 4 * theta * (updates + 20) + 400 * 1_000
