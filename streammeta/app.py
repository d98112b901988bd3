"""What the commands do, for Python too: serve a topic, replay a file."""

import gc
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from math import inf, isnan
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import structlog
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from streammeta.config import Settings
from streammeta.engine import Engine, EngineSettings, Kind, TaskSummary
from streammeta.engine.snapshot import Snapshot, read_snapshot
from streammeta.errors import ConfigError, EventError, SnapshotError, TransportError
from streammeta.event import Decoder, Event, LabelValue, Origin, Record
from streammeta.meta.catalogue import Tuning
from streammeta.meta.settings import ExpertSettings
from streammeta.service.exactly_once import ExactlyOnce
from streammeta.service.http import Health, HttpServer
from streammeta.service.loop import Options, Service, Summary
from streammeta.service.metrics import Metrics
from streammeta.service.repartition import CHANNEL as REPARTITION
from streammeta.service.repartition import Repartition
from streammeta.service.restoration import Restoration
from streammeta.service.result import CHANNELS, STATE, TABLES, WEIGHTS
from streammeta.service.turn import Observe
from streammeta.transport.base import Sink, Source
from streammeta.transport.choice import adapters, client
from streammeta.transport.kafka.topics import ensure_topics

if TYPE_CHECKING:
    from streammeta.report import Figures, Tally

__all__ = [
    "ORDERS",
    "ChosenKind",
    "Monitor",
    "choose_kind",
    "inspect",
    "inspect_service",
    "new_engine",
    "replay",
    "serve",
    "settled",
    "snapshot_path",
    "stop_on_signals",
    "warm_up",
]

ORDERS: dict[str, Callable[[TaskSummary], float]] = {
    "error": lambda task: -1.0 if isnan(task.error) else task.error,
    "age": lambda task: task.labelled,
    "drift": lambda task: -inf if task.last_drift_at is None else task.last_drift_at,
}
_log = structlog.get_logger(__name__)
_REPLAY_RECORDS = 256  # at a time: no prediction depends on it, and whoever watches sees more
_TRANSACTION_SECONDS = 30.0  # beside two intervals; a transaction that is open for longer is aborted by the broker
_REPARTITION_END_SECONDS = 20.0
_PATIENCE = 1.0  # while records wait, at most half of the time goes into waiting for meta-updates
_INSPECT_POLL_SECONDS, _INSPECT_SECONDS = 0.2, 300.0
_MOST_CLASSES = 50  # whole numbers with more distinct values are taken for a regression target


class Monitor(NamedTuple):
    """What shows a run to the world while it goes on."""

    metrics: Metrics  # counts
    health: Health  # is told of every turn


def snapshot_path(directory: Path) -> Path:
    """The snapshot's file in a state directory."""
    return directory / "streammeta.engine.snapshot"


def serve(settings: Settings, stop: threading.Event) -> Summary:
    """Consume the input topic until ``stop`` is set, exactly once: `streammeta run`.

    Raises:
        ConfigError: it cannot start with these settings.
        TransportError: the broker, a topic or the port cannot be used.
        SnapshotError: the saved state cannot be read.
    """
    settings, chosen = _in_background(settings), adapters(settings.kafka)
    warm_up(settings.app.kind, settings.learner.experts)
    gc.collect()
    gc.freeze()  # a third of a million objects of the libraries, which each full collection would look at
    metrics, health = Metrics(CollectorRegistry()), Health(time.monotonic)
    name, kafka = settings.app.name, settings.kafka
    topic = f"{name}-{REPARTITION}" if settings.input.repartition else settings.input.topic
    member = kafka.group_instance_id or uuid.uuid4().hex
    with ExitStack() as stack:
        if settings.http.enabled:
            server = stack.enter_context(HttpServer(settings.http.host, settings.http.port, metrics.registry, health))
            _log.info("serving metrics", url=server.url)
        if settings.input.repartition:
            stack.enter_context(_repartitioned(settings, topic, member, stop))
        outputs, tables = _topics(name, CHANNELS), _topics(name, TABLES)
        partitions = ensure_topics(kafka, topic, list(outputs.values()), {tables[STATE]: None, tables[WEIGHTS]: 1})
        ledger = chosen.ledger(
            kafka,
            outputs | tables,
            partitions=partitions,
            tables=TABLES,
            name=name,
            member=member,
            group=kafka.group_id or name,
            timeout_seconds=_TRANSACTION_SECONDS + 2 * settings.state.every_seconds,
        )
        stack.enter_context(closing(ledger))
        service = ExactlyOnce(
            lambda: new_engine(settings),
            ledger,
            stack.enter_context(closing(chosen.tables(kafka, tables))),
            decoder=_decoder(settings),
            options=_options(settings),
            metrics=metrics,
            health=health,
        )
        source = chosen.source(
            kafka,
            topic,
            name,
            on_revoked=service.revoked,
            on_assigned=service.assigned,
            on_coming=service.coming,
            on_lost=service.lost,
            on_lost_offset=settings.input.on_lost_offset,
            member=member,
        )
        stack.enter_context(closing(source))
        _log.info(
            "started",
            client=client(kafka),
            topic=topic,
            group=kafka.group_id or name,
            member=member,
            kind=settings.app.kind,
        )
        summary = service.run(source, stop)
    _log.info("stopped", records=summary.records, rejected=summary.rejected, seconds=round(summary.seconds, 1))
    return summary


@contextmanager
def _repartitioned(settings: Settings, topic: str, member: str, stop: threading.Event) -> Iterator[None]:
    """Send the input's records on to this topic, in a thread, until the end of the context."""
    kafka, name = settings.kafka, f"{settings.app.name}-{REPARTITION}"
    group = f"{kafka.group_id or settings.app.name}-{REPARTITION}"
    partitions, chosen = ensure_topics(kafka, settings.input.topic, [topic]), adapters(kafka)
    with ExitStack() as stack:
        ledger = chosen.ledger(
            kafka, {REPARTITION: topic}, partitions=partitions, tables=(), name=name, member=member, group=group
        )
        stack.enter_context(closing(ledger))
        running = Repartition(ledger, decoder=_decoder(settings), commit_every_seconds=settings.state.every_seconds)
        source = chosen.source(
            kafka.model_copy(update={"group_id": group}),
            settings.input.topic,
            group,
            on_revoked=running.revoked,
            on_coming=running.coming,
            on_lost=running.lost,
            on_lost_offset=settings.input.on_lost_offset,
            member=member,
        )
        stack.enter_context(closing(source))
        thread = threading.Thread(target=running.run, args=(source, stop), name="repartition", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(_REPARTITION_END_SECONDS)
        if running.failure is not None:
            raise running.failure


def new_engine(settings: Settings) -> Engine:
    """An engine that has seen nothing, with the trained θ that ``learner.start_from`` names.

    Raises:
        ConfigError: the θ is of another learner.
        SnapshotError: its file cannot be read.
    """
    chosen = settings.engine()
    learner = chosen.learner
    if learner.start_from is None:
        return Engine(chosen)
    from streammeta.offline.job import stream_method  # noqa: PLC0415  brings matplotlib, which few services need

    tuning = Tuning(learner.inner_rate, learner.inner_steps)
    method = stream_method(
        learner.start_from, learner.method, chosen.kind, seed=chosen.seed, support=learner.support, tuning=tuning
    )
    return Engine(chosen, method)


def warm_up(kind: Kind, experts: Sequence[str | ExpertSettings] = ()) -> None:
    """Have the compiled parts ready: a moment where they are cached, up to a minute the first time on a machine.

    Compiling holds the interpreter, so it must be over before a service joins its group and has to answer.
    """
    begun = time.monotonic()
    tiny = {"mode": "sync", "every_events": 4, "tasks": 3, "length": 4, "shortest": 2}
    learner = {"device": "cpu", "experts": experts}
    settings = EngineSettings.model_validate({"kind": kind, "meta": tiny, "learner": learner})
    with closing(Engine(settings)) as engine:
        engine.step([Event({"x": float(i)}, "", Origin("warm-up", 0, i), y=i % 2) for i in range(40)])
    _log.info("compiled parts ready", seconds=round(time.monotonic() - begun, 1))


def replay(
    settings: Settings,
    source: Source,
    sink: Sink | None,
    tally: "Tally",
    *,
    observers: Sequence[Observe] = (),
    stop: threading.Event | None = None,
    monitor: Monitor | None = None,
    engine: Engine | None = None,
) -> "Figures":
    """Run recorded or simulated events through the service's own loop, from a fresh engine, and report.

    Args:
        settings: as for ``serve``; where events come from and state is kept do not matter.
        source: the events, with their tags in the field `task`; it is read to its end.
        sink: gets what Kafka would get; None: nobody does.
        tally: is fed with the outcomes, before ``observers`` are.
        observers: watch the run.
        stop: ends it early.
        monitor: what others may look at meanwhile; None: nobody does.
        engine: a fresh one of these settings, for a caller that wants to look inside; it is closed at the end.
    """
    from streammeta.report import facts  # noqa: PLC0415  brings River, which a service may not need

    monitor = monitor or Monitor(Metrics(CollectorRegistry()), Health(time.monotonic))
    with closing(engine or new_engine(settings)) as running:
        service = Service(
            running,
            sink,
            decoder=Decoder(max_record_bytes=settings.input.max_record_bytes),
            options=replace(_options(settings), poll_records=_REPLAY_RECORDS),
            metrics=monitor.metrics,
            health=monitor.health,
            observers=(tally.add, *observers),
        )
        summary = service.run(source, stop or threading.Event())
        cost = facts(running.stats(), seconds=summary.seconds, events=tally.events)
        unsaved = ", ".join(running.unsaved_experts) or None
    chosen = settings.learner.experts
    return {
        **tally.figures(),
        **cost,
        "experts": ", ".join(one if isinstance(one, str) else one.name for one in chosen) or None,
        "experts_that_begin_anew_after_a_restore": unsaved,
        "seed": settings.app.seed,
        "settings": settings.engine().model_dump(mode="json"),
    }


def inspect(path: Path) -> list[TaskSummary]:
    """Every task in a snapshot, given its file or the state directory it lies in: `streammeta inspect`.

    Raises:
        SnapshotError: there is none, or it cannot be read.
    """
    file = snapshot_path(path) if path.is_dir() else path
    found = read_snapshot(file)
    if found is None:
        raise SnapshotError(f"{file}: no snapshot there; wanted a snapshot's file, or the directory it lies in")
    snapshot, _ = found
    with closing(Engine.restore(_settings_of(snapshot), snapshot)) as engine:
        return engine.tasks()


def inspect_service(settings: Settings) -> list[TaskSummary]:
    """Every task of the service with these settings, as its changelog has them now: `streammeta inspect`.

    Raises:
        TransportError: the broker or the changelog cannot be read.
        SnapshotError: a task cannot be read, or was written under other settings.
    """
    name, kafka = settings.app.name, settings.kafka
    topic = f"{name}-{STATE}"
    found: list[TaskSummary] = []
    with closing(adapters(kafka).tables(kafka, {STATE: topic})) as tables:
        for partition in range(ensure_topics(kafka, topic, ())):
            with closing(Engine(settings.engine())) as engine:
                restoration, handover = Restoration(tables, name, partition), engine.handover()
                deadline = time.monotonic() + _INSPECT_SECONDS
                while not restoration.take(handover, inf, time.monotonic):
                    for row in tables.poll(_INSPECT_POLL_SECONDS):
                        restoration.read(row)
                    if time.monotonic() > deadline:
                        raise TransportError(f"{topic}/{partition}: not read to its end within {_INSPECT_SECONDS:g} s")
                found += engine.tasks()
    return found


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM or SIGINT sets. A second signal acts as usual, for whoever cannot wait."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def set_and_step_aside(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, before[signal.Signals(number)])
        stop.set()

    for number in before:
        signal.signal(number, set_and_step_aside)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class ChosenKind(NamedTuple):
    """What to predict, and why that."""

    kind: Kind
    reason: str


def settled(
    settings: Settings,
    *,
    kind: Kind | Literal["auto"] | None,
    seed: int | None,
    first: Callable[[], Iterable[Record]],
) -> tuple[Settings, str]:
    """The settings for a replay, and why what is predicted is predicted.

    Args:
        settings: from file and environment.
        kind: wins over them; "auto", or None where they do not say either: chosen by the first labels.
        seed: wins over them, unless None.
        first: the first records.
    """
    if kind is not None and kind != "auto":
        chosen = ChosenKind(kind, "as asked for")
    elif kind is None and "kind" in settings.app.model_fields_set:
        chosen = ChosenKind(settings.app.kind, "as the configuration says")
    else:
        chosen = choose_kind(first())
    changes = {"kind": chosen.kind} | ({} if seed is None else {"seed": seed})
    return settings.model_copy(update={"app": settings.app.model_copy(update=changes)}), chosen.reason


def choose_kind(records: Iterable[Record]) -> ChosenKind:
    """Classification or regression, from the labels of a stream's first records.

    Raises:
        ConfigError: no record has a label.
    """
    labels = list(_labels(records))
    if not labels:
        raise ConfigError(
            "--kind auto: the first records have no label `y`; wanted --kind classification or regression"
        )
    return _choose(labels)


def _choose(labels: Sequence[LabelValue]) -> ChosenKind:
    seen = f"in the first {len(labels):,} labels"
    texts = [y for y in labels if isinstance(y, str)]
    if texts:
        return ChosenKind("classification", f"{texts[0]!r:.60} {seen} is text")
    fractions = [y for y in labels if isinstance(y, float)]
    if fractions:
        return ChosenKind("regression", f"{fractions[0]} {seen} is not a whole number")
    distinct = len(set(labels))
    if distinct > _MOST_CLASSES:
        return ChosenKind("regression", f"{distinct} different whole numbers {seen}, more than {_MOST_CLASSES}")
    return ChosenKind("classification", f"{distinct} different whole numbers {seen}, at most {_MOST_CLASSES}")


def _labels(records: Iterable[Record]) -> Iterator[LabelValue]:
    decoder = Decoder()
    for record in records:
        try:
            y = decoder.decode(record).y
        except EventError:  # the run itself will count it
            continue
        if y is not None:
            yield y


def _in_background(settings: Settings) -> Settings:
    """A service that was not told how to meta-update does it beside its loop, so that it never stops polling."""
    if "mode" in settings.meta.model_fields_set:
        return settings
    return settings.model_copy(update={"meta": settings.meta.model_copy(update={"mode": "background"})})


def _settings_of(snapshot: Snapshot) -> EngineSettings:
    """Settings under which a snapshot can be read: those it depends on are saved in it."""
    tree: dict[str, Any] = {}
    for name, value in snapshot.header.get("settings", {}).items():
        section, _, key = name.partition(".")
        if name == "app.kind":
            tree["kind"] = value
        elif name == "learner.memories":  # saved is how many
            tree.setdefault(section, {})[key] = (1.0,) * value
        elif name == "learner.experts":  # saved are their names
            tree.setdefault(section, {})[key] = tuple(filter(None, value.split(", ")))
        else:
            tree.setdefault(section, {})[key] = value
    try:
        return EngineSettings(**tree)
    except (TypeError, ValidationError) as err:
        raise SnapshotError(f"the snapshot's settings are {tree}, which this version does not know ({err})") from err


def _decoder(settings: Settings) -> Decoder:
    return Decoder(
        task_from=settings.input.task_from,
        task_header=settings.input.task_header,
        max_record_bytes=settings.input.max_record_bytes,
    )


def _topics(name: str, channels: Iterable[str]) -> dict[str, str]:
    return {channel: f"{name}-{channel}" for channel in channels}


def _options(settings: Settings) -> Options:
    background = settings.meta.mode == "background"
    return Options(
        poll_records=settings.input.max_poll_records,
        save_every_seconds=settings.state.every_seconds,
        name=settings.app.name,
        stuck_seconds=settings.kafka.stuck_seconds,
        frozen=settings.state.frozen,
        batch_events=settings.meta.every_events if background else None,
        background_patience=_PATIENCE if background else None,
        background_share=settings.meta.background_share,
    )
