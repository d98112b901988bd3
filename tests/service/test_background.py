import threading
import time

import pytest
from prometheus_client import CollectorRegistry

from streammeta.engine import Engine, EngineSettings, MetaResult, MetaSettings
from streammeta.event import Event, Origin
from streammeta.meta.settings import LearnerSettings
from streammeta.service.background import MetaUpdates, Worker
from streammeta.service.metrics import Metrics


class Held(Engine):
    """An engine whose meta-updates last until they are let go."""

    def __init__(self) -> None:
        super().__init__(
            EngineSettings(
                learner=LearnerSettings(hidden=8, encoded=4),
                meta=MetaSettings(mode="background", every_events=8, shortest=4, length=8),
            )
        )
        self.started, self.let_go = threading.Event(), threading.Event()
        self.begun = 0

    def begin_meta_update(self):
        job = super().begin_meta_update()
        if job is None:
            return None

        def held() -> MetaResult:
            self.started.set()
            self.let_go.wait(30)
            return job()

        self.begun += 1
        return held

    def feed(self, count: int = 16) -> None:
        self.step([Event([float(i % 3)], "", Origin("t", 0, i), y=i % 2) for i in range(count)])


@pytest.fixture
def engine():
    with_state = Held()
    yield with_state
    with_state.let_go.set()
    with_state.close()


def updates(engine: Engine, *, patience: float) -> MetaUpdates:
    return MetaUpdates(engine, Metrics(CollectorRegistry()), patience=patience, clock=time.monotonic)


def test_a_slow_meta_update_costs_the_loop_no_more_than_its_budget(engine):
    """An hour-long meta-update must not stop polling: the group would take the partitions away."""
    meta, waited = updates(engine, patience=1.0), []
    engine.feed()
    meta.between()
    for _ in range(3):
        engine.feed()
        begun = time.monotonic()
        assert not meta.between(worked_seconds=0.02, more=True)
        waited.append(time.monotonic() - begun)
    engine.let_go.set()
    meta.end()

    assert engine.begun == 1
    assert all(seconds >= 0.015 for seconds in waited)  # it did give it time
    assert engine.stats().meta_updates == 1


def test_without_more_records_at_hand_nobody_waits(engine):
    """A quiet topic's next event must not stand behind a meta-update."""
    meta = updates(engine, patience=1_000.0)
    engine.feed()
    meta.between(worked_seconds=10.0)
    engine.feed()

    assert not meta.between(worked_seconds=10.0, more=False)  # would last 30 s if it waited

    engine.let_go.set()
    assert meta.end()


def test_a_meta_update_that_ended_is_taken_in_and_the_next_begins(engine):
    """One at a time, one after the other, for as long as events come."""
    meta = updates(engine, patience=1_000.0)
    engine.let_go.set()
    changes = 0
    for _ in range(5):
        engine.feed()
        changes += meta.between(worked_seconds=10.0, more=True)
    changes += meta.end()

    assert engine.begun == 5
    assert engine.stats().meta_updates == changes == 5


def test_an_end_gives_up_on_what_takes_too_long():
    """SIGTERM is followed by SIGKILL: a stop cannot wait for ever."""
    worker, forever = Worker[object](time.monotonic), threading.Event()

    def stuck() -> MetaResult:
        forever.wait(30)
        raise RuntimeError("unheard")

    worker.start(stuck)
    worker.close(timeout_seconds=0.05)
    worker.close(timeout_seconds=0.05)

    assert worker.collect() is None
    forever.set()


def test_while_behind_nobody_waits_and_meta_updates_have_their_share_of_the_time(engine):
    """A backlog was worked off at a third of the speed: half of the time went into waiting for meta-updates."""
    now = 0.0
    meta = MetaUpdates(engine, Metrics(CollectorRegistry()), patience=1_000.0, share=0.25, clock=lambda: now)
    engine.feed()
    now = 0.1
    assert not meta.between(worked_seconds=0.1, more=True, has_backlog=True)  # would last 30 s if it waited
    assert engine.begun == 1
    assert engine.started.wait(30)
    now = 0.5  # it was under way for 0.4 s, and may be for 0.25 of 0.5
    engine.let_go.set()
    while meta._worker._ended.empty():
        time.sleep(0.001)

    begun = []
    for now in (0.5, 1.0, 1.4, 1.7):  # noqa: B007  read by the clock
        engine.feed()
        meta.between(worked_seconds=0.1, more=True, has_backlog=True)
        begun.append(engine.begun)

    assert begun == [1, 1, 1, 2]
    meta.between()
    assert not engine.has_backlog
    meta.end()
