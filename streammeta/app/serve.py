"""`streammeta run`: consume a topic, exactly once."""

import gc
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from typing import NamedTuple

import structlog
from prometheus_client import CollectorRegistry

from streammeta.app.parts import check_member, decoder, http_server, label_reader, new_engine, options
from streammeta.app.reload import Reload, reloading
from streammeta.config import Settings
from streammeta.engine.scratch import sweep
from streammeta.formats.registry import Registry
from streammeta.service import log
from streammeta.service.avro_results import AvroResults
from streammeta.service.exactly_once import ExactlyOnce
from streammeta.service.http import Health
from streammeta.service.id_join import IdJoin
from streammeta.service.loop import Summary
from streammeta.service.metrics import Metrics
from streammeta.service.repartition import CHANNEL as REPARTITION
from streammeta.service.repartition import Repartition, SendOn, event_sender, label_sender
from streammeta.service.result import CHANNELS, EPISODES, STATE, TABLES, WEIGHTS
from streammeta.service.threads import IDS, LABELS, watched
from streammeta.transport.choice import adapters, client
from streammeta.transport.kafka.progress import GroupProgress
from streammeta.transport.kafka.topics import ensure_topics, find_topics

__all__ = ["serve"]

_log = structlog.get_logger(__name__)
_TRANSACTION_SECONDS = 30.0  # beside two intervals; a transaction that is open for longer is aborted by the broker
_REPARTITION_END_SECONDS = 20.0


def serve(settings: Settings, stop: threading.Event, reload: Reload | None = None) -> Summary:
    """Consume the input topic until ``stop`` is set, exactly once: `streammeta run`.

    Args:
        settings: of the application.
        stop: ends it.
        reload: how settings are read again while it runs; None: they are not.

    Raises:
        ConfigError: it cannot start with these settings.
        TransportError: the broker, a topic or the port cannot be used.
        SnapshotError: the saved state cannot be read.
    """
    check_member(settings)
    started, settings, chosen = settings, _in_background(settings), adapters(settings.kafka)
    metrics, health = Metrics(CollectorRegistry()), Health(time.monotonic)
    name, kafka = settings.app.name, settings.kafka
    topic = f"{name}-{REPARTITION}" if settings.input.repartition else settings.input.topic
    member = kafka.group_instance_id or uuid.uuid4().hex
    with watched(stop), ExitStack() as stack:
        health.preparing("topics, connections and the first engine")  # before the first probe can come
        if settings.http.enabled:
            stack.enter_context(http_server(settings.http, metrics, health))
        sweep(settings.memory.spill_directory)
        gc.collect()
        gc.freeze()  # a third of a million objects of the libraries, which each full collection would look at
        if settings.input.repartition:
            stack.enter_context(_repartitioned(settings, topic, member, stop, metrics, health))
        outputs, tables = _topics(name, CHANNELS), _topics(name, TABLES)
        compacted = {tables[STATE]: None, tables[WEIGHTS]: 1}
        partitions = ensure_topics(kafka, topic, list(outputs.values()), compacted, rings=[tables[EPISODES]])
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
        if settings.output.format == "avro":
            ledger = AvroResults(ledger, Registry(settings.output.registry), outputs)
        service = ExactlyOnce(
            lambda: new_engine(settings),
            ledger,
            stack.enter_context(closing(chosen.tables(kafka, tables))),
            decoder=decoder(settings),
            options=replace(options(settings), partitions=partitions),
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
            partitions=partitions,
            beside=(tables[STATE], tables[WEIGHTS]),
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

        def apply(changed: Settings) -> None:
            log.configure(changed.log.level, changed.log.format, app=name, member=kafka.group_instance_id)
            service.commit_every(changed.state.every_seconds)

        with reloading(started, reload, apply):
            summary = service.run(source, stop)
    _log.info("stopped", records=summary.records, rejected=summary.rejected, seconds=round(summary.seconds, 1))
    return summary


@contextmanager
def _repartitioned(
    settings: Settings, topic: str, member: str, stop: threading.Event, metrics: Metrics, health: Health
) -> Iterator[None]:
    """Send the input's records on to this topic, in a thread, until the end of the context."""
    kafka, labels = settings.kafka, settings.labels.topic
    by_id = labels is not None and settings.labels.join == "id"
    topics = {REPARTITION: topic} | ({IDS: f"{settings.app.name}-{IDS}"} if by_id else {})
    partitions = ensure_topics(kafka, settings.input.topic, list(topics.values()))
    forward = _Forward(settings, topics, partitions, member, stop, metrics, health)
    group = f"{kafka.group_id or settings.app.name}-{REPARTITION}"
    with ExitStack() as stack:
        progress = []
        for source in _sources(settings, topic):
            # a name cannot hold the slash: no other application's group is called so
            is_first = source == settings.input.topic
            loop, of_group = (REPARTITION, group) if is_first else (f"{REPARTITION}/{source}", f"{group}/{source}")
            stack.enter_context(
                forward.running(source, loop, of_group, event_sender(decoder(settings), notes_ids=by_id))
            )
            if labels is not None:
                count = ensure_topics(kafka, source, ())
                progress.append(stack.enter_context(closing(GroupProgress(kafka, source, of_group, count))))
        if labels is not None:
            ensure_topics(kafka, labels, ())
            send_on = label_sender(label_reader(settings), by_id=by_id)

            def may_go(seconds: float) -> bool:
                return all(one.has_passed(seconds) for one in progress)

            stack.enter_context(forward.running(labels, LABELS, f"{group}/{LABELS}", send_on, may_go=may_go))
        if by_id:
            join = IdJoin(max(1, 2 * settings.memory.max_waiting))
            stack.enter_context(forward.running(topics[IDS], IDS, f"{group}/{IDS}", join.take, join=join))
        yield


def _sources(settings: Settings, topic: str) -> list[str]:
    """All topics with events, the one of ``[input] topic`` first; never one that we write."""
    given = settings.input
    if not given.topics:
        return [given.topic]
    ours = {topic, settings.labels.topic or "", *_topics(settings.app.name, (*CHANNELS, *TABLES, IDS)).values()}
    return list(dict.fromkeys((given.topic, *find_topics(settings.kafka, given.topics, without=ours))))


class _Forward(NamedTuple):
    """Sends records on to topics, in threads."""

    settings: Settings
    topics: Mapping[str, str]  # by channel
    partitions: int
    member: str
    stop: threading.Event
    metrics: Metrics
    health: Health

    @contextmanager
    def running(
        self,
        source: str,
        loop: str,
        group: str,
        send_on: SendOn,
        *,
        join: IdJoin | None = None,
        may_go: Callable[[float], bool] | None = None,
    ) -> Iterator[None]:
        """Send this topic's records on until the end of the context; raises what ended the thread."""
        settings, kafka = self.settings, self.settings.kafka
        chosen, name = adapters(kafka), f"{settings.app.name}/{loop}"
        with ExitStack() as stack:
            ledger = chosen.ledger(
                kafka,
                self.topics,
                partitions=self.partitions,
                tables=(),
                name=name,
                member=self.member,
                group=group,
            )
            stack.enter_context(closing(ledger))
            running = Repartition(
                ledger,
                send_on,
                join=join,
                commit_every_seconds=settings.state.every_seconds,
                metrics=self.metrics,
                health=self.health,
                stuck_seconds=kafka.stuck_seconds,
                may_go=may_go,
                loop=loop,
            )
            reader = chosen.source(
                kafka.model_copy(update={"group_id": group}),
                source,
                group,
                on_revoked=running.revoked,
                on_assigned=running.assigned,
                on_coming=running.coming,
                on_lost=running.lost,
                on_lost_offset=settings.input.on_lost_offset,
                member=self.member,
            )
            stack.enter_context(closing(reader))
            thread = threading.Thread(target=running.run, args=(reader, self.stop), name=loop, daemon=True)
            thread.start()
            try:
                yield
            finally:
                self.stop.set()
                thread.join(_REPARTITION_END_SECONDS)
                if thread.is_alive():
                    _log.error("a thread did not end in time; what it sent is not committed", thread=loop)
            if running.failure is not None:
                raise running.failure


def _in_background(settings: Settings) -> Settings:
    """Without a setting, a service meta-updates beside its loop, so that it never stops polling."""
    if "mode" in settings.meta.model_fields_set:
        return settings
    return settings.model_copy(update={"meta": settings.meta.model_copy(update={"mode": "background"})})


def _topics(name: str, channels: Iterable[str]) -> dict[str, str]:
    return {channel: f"{name}-{channel}" for channel in channels}
