import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from streammeta.engine import Engine, EngineSettings, MetaResult, MetaSettings, Outcome
from streammeta.engine.drift import DriftSettings
from streammeta.errors import TransportError
from streammeta.event import Decoder, Event, Label, Origin, Record
from streammeta.meta.settings import LearnerSettings
from streammeta.service.http import Health
from streammeta.service.loop import Options, Service, restore
from streammeta.service.metrics import Metrics
from streammeta.transport.base import Positions
from streammeta.transport.memory import MemorySink, MemorySource

SMALL = EngineSettings(
    learner=LearnerSettings(hidden=8, encoded=4, memories=(20.0,)), meta=MetaSettings(mode="off"), drift=DriftSettings()
)


class Clock:
    """Each look at it takes a millisecond."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


class Killed(BaseException):
    """The process is gone: nothing may catch it."""


def values(count: int, tasks: int = 3) -> list[bytes]:
    return [
        json.dumps(
            {"id": str(i), "task": f"t{i % tasks}", "ts": float(i), "x": [i % 5, i % 7], "y": int(i % 5 > 2)}
        ).encode()
        for i in range(count)
    ]


def service(engine: Engine, sink: MemorySink | None, **options: object) -> Service:
    clock = Clock()
    return Service(
        engine,
        sink,
        decoder=Decoder(max_record_bytes=10_000),
        options=Options(**{"poll_records": 10, "poll_seconds": 0.0, **options}),  # type: ignore[arg-type]
        metrics=Metrics(CollectorRegistry()),
        health=Health(clock),
        clock=clock,
    )


def predictions(sink: MemorySink) -> list[dict[str, object]]:
    return [json.loads(message.value) for message in sink["predictions"]]


def stop_after(polls: int, source: MemorySource) -> threading.Event:
    """A stop that comes while the source is polled for the n-th time, as a signal would."""
    stop, poll, left = threading.Event(), source.poll, iter(range(polls))

    def counted(max_records: int, timeout_seconds: float) -> Sequence[Record]:
        if next(left, None) is None:
            stop.set()
        return poll(max_records, timeout_seconds)

    source.poll = counted  # type: ignore[method-assign]
    return stop


def test_every_event_is_predicted_once_in_the_published_form() -> None:
    """The record format is the contract with everybody downstream."""
    sink, source = MemorySink(), MemorySource(values(40), topic="events")

    summary = service(Engine(SMALL), sink).run(source, threading.Event())

    told = predictions(sink)
    assert summary.records == 40
    assert [one["id"] for one in told] == [str(i) for i in range(40)]
    last = told[-1]
    assert list(last) == [
        "id",
        "task",
        "ts",
        "prediction",
        "probabilities",
        "signal",
        "theta_version",
        "source",
    ]
    assert (last["task"], last["ts"], last["signal"], last["source"]) == ("t0", 39.0, "steady", "events/0/39")
    assert last["prediction"] in (0, 1)
    assert sum(last["probabilities"].values()) == pytest.approx(1, abs=1e-5)  # type: ignore[attr-defined]
    assert sink["predictions"][-1].key == b"t0"
    assert source.committed == {("events", 0): 40}


def test_regression_publishes_mean_and_variance() -> None:
    """The same contract for numbers."""
    sink = MemorySink()
    records = [json.dumps({"x": [float(i)], "y": i / 2 + 0.25}).encode() for i in range(20)]

    service(Engine(SMALL.model_copy(update={"kind": "regression"})), sink).run(MemorySource(records), threading.Event())

    last = predictions(sink)[-1]
    assert last["mean"] == last["prediction"]
    assert last["variance"] > 0  # type: ignore[operator]
    assert "probabilities" not in last
    assert sink["predictions"][-1].key is None


def test_new_tasks_are_signalled() -> None:
    """Whoever watches a fleet wants to know when somebody new speaks."""
    sink = MemorySink()

    service(Engine(SMALL), sink).run(MemorySource(values(10, tasks=3)), threading.Event())

    signals = [json.loads(message.value) for message in sink["signals"]]
    assert [(one["task"], one["signal"], one["source"]) for one in signals] == [
        (f"t{i}", "new_task", f"memory/0/{i}") for i in range(3)
    ]


def test_what_cannot_be_read_or_learned_goes_to_the_dead_letters_whole() -> None:
    """A record set aside without its bytes, its origin or the reason cannot be put right."""
    broken = [
        b"no json",
        b"\xff\xfe",
        b"",
        b'{"x": null}',
        b'{"id": "unknown", "y": 1}',
        b'{"x": [1], "y": 0.5}',
        b"x" * 20_000,
    ]
    sent = [Record(value, Origin("", 0, 0), b"key", (("trace", b"\x00\xff"),)) for value in broken]
    sink, good = MemorySink(), values(2)

    summary = service(Engine(SMALL), sink).run(MemorySource([good[0], *sent, good[1]]), threading.Event())

    dead = sink["dead-letters"]
    assert sorted(message.value for message in dead) == sorted(broken)
    for message in dead:
        headers = dict(message.headers)
        assert headers["origin"] == f"memory/0/{1 + broken.index(message.value)}".encode()
        assert headers["reason"].decode().startswith(headers["origin"].decode())
        assert (message.key, headers["trace"]) == (b"key", b"\x00\xff")
    assert len(predictions(sink)) == 2
    assert (summary.records, summary.rejected) == (9, 7)


def test_stopped_and_restarted_it_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    """Deployments restart services every day: no event lost, none twice, nothing forgotten."""
    through, parts = MemorySink(), MemorySink()
    service(Engine(SMALL), through).run(MemorySource(values(100)), threading.Event())

    first, file = MemorySource(values(100)), tmp_path / "state"
    service(Engine(SMALL), parts, snapshot=file).run(first, stop_after(4, first))
    engine, positions = restore(SMALL, file)
    second = MemorySource(values(100))
    service(engine, parts, snapshot=file).run(second, threading.Event(), positions)

    assert 0 < len(positions) == 1
    assert first.committed == positions
    assert predictions(parts) == predictions(through)


def test_a_kill_between_snapshot_and_commit_loses_nothing(tmp_path: Path) -> None:
    """The snapshot knows its own offsets, so a commit that never came changes nothing."""

    class Dying(MemorySource):
        def commit(self, positions: Positions) -> None:  # noqa: ARG002
            raise Killed

    sink, through, file = MemorySink(), MemorySink(), tmp_path / "state"
    service(Engine(SMALL), through).run(MemorySource(values(50)), threading.Event())
    with pytest.raises(Killed):
        service(Engine(SMALL), sink, snapshot=file, save_every_seconds=0.1).run(Dying(values(50)), threading.Event())
    engine, positions = restore(SMALL, file)

    service(engine, sink, snapshot=file).run(MemorySource(values(50)), threading.Event(), positions)

    assert predictions(sink) == predictions(through)


def test_a_kill_between_flush_and_snapshot_repeats_but_loses_nothing(tmp_path: Path) -> None:
    """At least once: published again, with the very same prediction, because state and offsets go together."""

    class Dying(Engine):
        def snapshot(self) -> object:  # type: ignore[override]
            raise Killed

    sink, file = MemorySink(), tmp_path / "state"
    with pytest.raises(Killed):
        service(Dying(SMALL), sink, snapshot=file).run(MemorySource(values(50)), threading.Event())
    engine, positions = restore(SMALL, file)

    service(engine, sink, snapshot=file).run(MemorySource(values(50)), threading.Event(), positions)

    told = predictions(sink)
    assert positions == {}
    assert told[:50] == told[50:]
    assert [one["id"] for one in told[:50]] == [str(i) for i in range(50)]


def test_results_are_safe_before_state_and_state_before_offsets(tmp_path: Path) -> None:
    """Any other order loses events when the process dies in between."""
    order: list[str] = []
    file = tmp_path / "state"

    class Watched(MemorySource):
        def commit(self, positions: Positions) -> None:
            order.append(f"commit {file.exists()} {dict(positions)}")

    class Flushed(MemorySink):
        def flush(self, timeout_seconds: float) -> None:  # noqa: ARG002
            order.append(f"flush {file.exists()} {len(self['predictions'])}")

    service(Engine(SMALL), Flushed(), snapshot=file).run(Watched(values(5)), threading.Event())

    assert order == ["flush False 5", "commit True {('memory', 0): 5}"]


def test_unsafe_results_commit_nothing(tmp_path: Path) -> None:
    """A broker that is away must cost time, not events."""

    class Away(MemorySink):
        def flush(self, timeout_seconds: float) -> None:  # noqa: ARG002
            raise TransportError("localhost:9092: no answer")

    source, file = MemorySource(values(5)), tmp_path / "state"

    with pytest.raises(TransportError, match="no answer"):
        service(Engine(SMALL), Away(), snapshot=file).run(source, threading.Event())

    assert source.committed == {}
    assert not file.exists()


def test_a_failed_commit_is_counted_and_tried_again() -> None:
    """Commits fail in every rebalance; a service that died of it would make each rebalance two."""

    class Moody(MemorySource):
        failures = 2

        def commit(self, positions: Positions) -> None:
            if self.failures:
                self.failures -= 1
                raise TransportError("rebalance in progress")
            super().commit(positions)

    source = Moody(values(100))
    running = service(Engine(SMALL), None, save_every_seconds=0.02)

    running.run(source, threading.Event())

    assert source.committed == {("memory", 0): 100}
    assert running._metrics.registry.get_sample_value("streammeta_commit_failures_total") == 2


def test_a_broker_that_never_takes_offsets_ends_the_service() -> None:
    """For ever repeating events after each restart, unseen, would be worse."""

    class Dead(MemorySource):
        def commit(self, positions: Positions) -> None:  # noqa: ARG002
            raise TransportError("not the coordinator")

    with pytest.raises(TransportError, match="not the coordinator"):
        service(Engine(SMALL), None, save_every_seconds=0.001).run(Dead(values(1_000)), threading.Event())


def test_revoked_partitions_are_saved_then_forgotten(tmp_path: Path) -> None:
    """Whoever gets the partition goes on from our last event; and we never commit for it again."""
    source, file = MemorySource(values(60, tasks=1), partitions=2, topic="events"), tmp_path / "state"
    running, poll = service(Engine(SMALL), None, snapshot=file, poll_records=20), source.poll
    seen: list[dict[tuple[str, int], int]] = []

    def rebalancing(max_records: int, timeout_seconds: float) -> Sequence[Record]:
        records = poll(max_records, timeout_seconds)
        if seen or not records or source.assigned()["events", 0] < 20:
            return [record for record in records if not seen or record.origin.partition == 1]
        running._take(records)
        running.revoked([("events", 0)])
        seen.append(dict(source.committed))
        return []

    source.poll = rebalancing  # type: ignore[method-assign]
    running.run(source, threading.Event())

    assert seen == [{("events", 0): 20, ("events", 1): 20}]
    assert source.committed == {("events", 0): 20, ("events", 1): 30}
    assert restore(SMALL, file)[1] == {("events", 1): 30}


def test_predictions_do_not_depend_on_how_records_come() -> None:
    """Polls are an accident of the network; a replay of the same records must give the same predictions."""
    told = []
    for size in (1, 7, 1_000):
        sink = MemorySink()
        service(Engine(SMALL), sink, poll_records=size).run(MemorySource(values(60)), threading.Event())
        told.append([(one["id"], one["prediction"]) for one in predictions(sink)])

    assert told[0] == told[1] == told[2]


def test_an_idle_service_stops_when_told_and_saves_nothing_new(tmp_path: Path) -> None:
    """SIGTERM on an empty topic must not wait for an event, nor rewrite a snapshot each interval."""
    source, stop, file = MemorySource(closed=False), threading.Event(), tmp_path / "state"
    thread = threading.Thread(
        target=service(Engine(SMALL), None, snapshot=file, poll_seconds=0.01).run, args=(source, stop)
    )
    thread.start()
    stop.set()
    thread.join(timeout=20)

    assert not thread.is_alive()
    assert not file.exists()


def test_observers_see_every_accepted_outcome_and_the_number_set_aside() -> None:
    """Replay's report and the demo's comparison live on it."""
    seen: list[Outcome] = []
    rejected: list[int] = []

    def observe(outcomes: Sequence[Outcome], count: int) -> None:
        seen.extend(outcomes)
        rejected.append(count)

    running = service(Engine(SMALL), None)
    running._turn._observers = (observe,)
    running.run(MemorySource([*values(15), b"broken"]), threading.Event())

    assert [outcome.event.origin.offset for outcome in seen] == list(range(15))
    assert sum(rejected) == 1


BACKGROUND = SMALL.model_copy(update={"meta": MetaSettings(mode="background", every_events=16, length=16, shortest=4)})


def test_meta_updates_go_on_beside_the_loop_and_are_taken_in_between_batches() -> None:
    """A slow meta-update must not stop polling, and θ may not change within a batch."""
    threads: set[str] = set()

    class Watched(Engine):
        stepping = False

        def step(self, events: Sequence[Event | Label]) -> list[Outcome]:
            self.stepping = True
            outcomes = super().step(events)
            self.stepping = False
            return outcomes

        def begin_meta_update(self) -> Callable[[], MetaResult] | None:
            job = super().begin_meta_update()

            def told() -> MetaResult:
                threads.add(threading.current_thread().name)
                assert job is not None
                return job()

            return job and told

        def finish_meta_update(self, result: MetaResult) -> None:
            assert threading.current_thread() is threading.main_thread()
            assert not self.stepping
            super().finish_meta_update(result)

    engine, sink = Watched(BACKGROUND), MemorySink()
    running = service(engine, sink, background_patience=1.0)

    running.run(MemorySource(values(400)), threading.Event())

    assert threads == {"meta-update"}
    assert engine.stats().meta_updates > 0
    assert len(sink["predictions"]) == 400


def test_a_meta_update_that_fails_is_counted_and_serving_goes_on() -> None:
    """Learning to learn is a luxury, predicting is the job."""

    class Failing(Engine):
        def begin_meta_update(self) -> Callable[[], MetaResult] | None:
            def fail() -> MetaResult:
                raise RuntimeError("CUDA out of memory")

            return fail if super().begin_meta_update() else None

    sink = MemorySink()
    running = service(Failing(BACKGROUND), sink, background_patience=1.0)

    running.run(MemorySource(values(400)), threading.Event())

    failed = running._metrics.registry.get_sample_value("streammeta_meta_updates_total", {"result": "failed"})
    assert failed is not None
    assert failed > 0
    assert len(sink["predictions"]) == 400


def test_health_follows_the_loop() -> None:
    """Ready while it reads, not before and not while it stops."""
    running = service(Engine(SMALL), None)
    ready: list[bool] = [running._health.ready().ok]

    def observe(outcomes: Sequence[Outcome], count: int) -> None:
        ready.append(running._health.ready().ok)

    running._turn._observers = (observe,)
    endless = MemorySource(iter(values(4_000)))
    running.run(endless, threading.Event())
    ready.append(running._health.ready().ok)

    assert (ready[0], any(ready), ready[-1]) == (False, True, False)
    assert running._health.live().ok
