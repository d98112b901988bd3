"""`streammeta train`: learn θ from the episodes of all members, as a process of its own."""

import os
import threading
import time
from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, Literal

import structlog
from prometheus_client import CollectorRegistry

from streammeta.app.parts import check_share, http_server, new_engine
from streammeta.config import Settings
from streammeta.engine.scratch import sweep
from streammeta.engine.shared import device
from streammeta.errors import ConfigError
from streammeta.service.http import Health
from streammeta.service.metrics import Metrics
from streammeta.service.result import EPISODES, WEIGHTS
from streammeta.service.rounds import Follower, Leader
from streammeta.service.threads import watched
from streammeta.service.trainer import TRAINER, Trainer, TrainerOptions, TrainerSummary
from streammeta.transport.choice import adapters, client
from streammeta.transport.kafka.topics import ensure_topics

if TYPE_CHECKING:
    from streammeta.meta.ranks import Ranks

__all__ = ["train"]

_log = structlog.get_logger(__name__)
_TRANSACTION_SECONDS = 10.0  # its transactions take milliseconds; one left open by a crash holds up readers as long


def train(settings: Settings, stop: threading.Event) -> TrainerSummary:
    """Learn θ and publish it until ``stop`` is set: `streammeta train`.

    Where torchrun started several of us, each learns its share of the partitions, and the first one publishes.

    Raises:
        ConfigError: the settings say that a member trains, or that nobody does.
        TransportError: the broker, a topic or the port cannot be used, or another trainer has taken over.
        SnapshotError: what is published cannot be read.
    """
    _check(settings)
    ranks = _ranks(settings)
    if ranks is None:
        return _train(_with_mode(settings, "sync"), stop, None)
    settings = _with_mode(settings, "background")  # `Leader` says when
    with ranks:
        return _train(settings, stop, ranks) if ranks.rank == 0 else _follow(settings, ranks)


def _follow(settings: Settings, ranks: "Ranks") -> TrainerSummary:
    """Learn our share of the partitions, as a rank that is not the first."""
    name, begun = settings.app.name, time.monotonic()
    _log.info("started", rank=ranks.rank, ranks=ranks.size)
    with closing(new_engine(settings)) as engine:
        make_tables = partial(adapters(settings.kafka).tables, settings.kafka, {EPISODES: f"{name}-{EPISODES}"})
        metrics, stuck = Metrics(CollectorRegistry()), settings.kafka.stuck_seconds
        done = Follower(engine, ranks, make_tables, name=name, metrics=metrics, stuck_seconds=stuck).run()
    _log.info("stopped", rank=ranks.rank, segments=done)
    return TrainerSummary(done, 0, time.monotonic() - begun)


def _world_size() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def _ranks(settings: Settings) -> "Ranks | None":
    """The processes that torchrun started with this one; None where this one is alone."""
    if _world_size() <= 1:
        return None
    try:
        from streammeta.meta.ranks import Ranks  # noqa: PLC0415  brings torch, which one process on a CPU does without
    except ImportError as err:
        raise ConfigError("streammeta train under torchrun: wants PyTorch, which is not installed") from err
    _log.info("waiting for the other ranks", rank=os.environ.get("RANK"), ranks=os.environ["WORLD_SIZE"])
    patience = 2 * settings.kafka.stuck_seconds  # rank 0 may be held up by a broker for as long as that, and then ends
    return Ranks(gpu=device(settings.learner.device) != "cpu", patience_seconds=patience)


def _train(settings: Settings, stop: threading.Event, ranks: "Ranks | None") -> TrainerSummary:
    metrics, health = Metrics(CollectorRegistry()), Health(time.monotonic)
    name, kafka, chosen = settings.app.name, settings.kafka, adapters(settings.kafka)
    topics = {channel: f"{name}-{channel}" for channel in (WEIGHTS, EPISODES)}
    with watched(stop), ExitStack() as stack:
        if settings.http.enabled:
            stack.enter_context(http_server(settings.http, metrics, health))
        health.preparing("topics, connections and the engine")
        sweep(settings.memory.spill_directory)
        partitions = ensure_topics(kafka, settings.input.topic, (), {topics[WEIGHTS]: 1}, rings=[topics[EPISODES]])
        sink = chosen.ledger(
            kafka,
            topics,
            partitions=partitions,
            tables=tuple(topics),
            name=name,
            member=TRAINER,
            group=kafka.group_id or name,
            timeout_seconds=_TRANSACTION_SECONDS,
        )
        stack.enter_context(closing(sink))
        trainer = Trainer(
            lambda: new_engine(settings),
            sink,
            stack.enter_context(closing(chosen.tables(kafka, topics))),
            options=TrainerOptions(
                name=name,
                partitions=partitions,
                ranks=1 if ranks is None else ranks.size,
                publish_every_seconds=settings.state.every_seconds,
                stuck_seconds=kafka.stuck_seconds,
                keep_versions=settings.meta.keep_versions,
                round_seconds=settings.meta.round_seconds if settings.meta.share == "updates" else None,
            ),
            metrics=metrics,
            health=health,
        )
        if ranks is not None:
            trainer.team = Leader(trainer.engine, trainer.episodes, ranks, partitions=partitions, metrics=metrics)
        _log.info("started", client=client(kafka), topic=topics[EPISODES], partitions=partitions)
        summary = trainer.run(stop)
    _log.info("stopped", segments=summary.segments, published=summary.published, seconds=round(summary.seconds, 1))
    return summary


def _check(settings: Settings) -> None:
    """Raise ConfigError unless these are settings of a trainer."""
    if settings.meta.trainer != "separate":
        raise ConfigError(
            f'[meta] trainer: got "{settings.meta.trainer}", wanted "separate" for `streammeta train` and for all '
            "members of the application, or two would change θ"
        )
    check_share(settings, serves=False)
    if settings.meta.share == "updates" and _world_size() > 1:
        raise ConfigError(
            '[meta] share: with "updates" members compute, and one process averages what they send; start '
            "`streammeta train` without torchrun"
        )
    if settings.meta.mode == "off":
        raise ConfigError('[meta] mode: "off" means that nobody learns θ; leave it out to train')


def _with_mode(settings: Settings, mode: Literal["sync", "background"]) -> Settings:
    """Meta-updates in the engine's own steps, at counts of episodes' events; or where somebody else says so."""
    return settings.model_copy(update={"meta": settings.meta.model_copy(update={"mode": mode})})
