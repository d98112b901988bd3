"""What a run is put together from: an engine, a decoder, the loop's options."""

from collections.abc import Callable
from pathlib import Path

import structlog

from streammeta.config import HttpSettings, InputSettings, Settings
from streammeta.decisions.factory import engine_class
from streammeta.engine import Engine
from streammeta.errors import ConfigError
from streammeta.event import Decoder, RawEvent, Record
from streammeta.formats.mapping import Mapper
from streammeta.formats.objects import MappedByTopic, mapped, object_reader
from streammeta.meta.base import Method
from streammeta.meta.privacy import require
from streammeta.service.http import Health, HttpServer
from streammeta.service.http_security import Certificate, HttpSecurity
from streammeta.service.loop import Options, restore
from streammeta.service.metrics import Metrics
from streammeta.service.trainer import TRAINER
from streammeta.transport.base import Positions

__all__ = [
    "check_member",
    "check_share",
    "decoder",
    "http_security",
    "http_server",
    "new_engine",
    "options",
    "restored_engine",
]

_log = structlog.get_logger(__name__)
_LOCAL = ("127.0.0.1", "::1", "localhost")
_PATIENCE = 1.0  # while records wait, at most half of the time goes into waiting for meta-updates


def check_member(settings: Settings) -> None:
    """Raise ConfigError where `streammeta run` cannot be with these settings, though each of them is right."""
    if settings.kafka.group_instance_id == TRAINER:
        raise ConfigError(f'[kafka] group_instance_id: "{TRAINER}" is the name of the trainer; choose another one')
    check_share(settings, serves=True)


def check_share(settings: Settings, *, serves: bool) -> None:
    """Raise ConfigError where a service is to share what it cannot.

    Args:
        settings: of the application.
        serves: whether it is a member, and so has to account for noise.
    """
    if settings.meta.share == "episodes":
        return
    if settings.meta.trainer != "separate":
        raise ConfigError(
            '[meta] share: "updates" are for a trainer that has no events, and [meta] trainer is "member"; set '
            'trainer = "separate" for all, and start `streammeta train`'
        )
    if settings.app.kind == "decision":
        raise ConfigError(
            '[meta] share: got "updates" with [app] kind = "decision", where each action of a task is a task by '
            'itself, and no privacy could be said of a whole one; wanted "episodes"'
        )
    if serves and settings.meta.privacy.noise_multiplier > 0:
        require()


def new_engine(settings: Settings) -> Engine:
    """An engine that has seen nothing, with the trained θ that ``learner.start_from`` names.

    Raises:
        ConfigError: the θ is of another learner.
        SnapshotError: its file cannot be read.
    """
    chosen = settings.engine()
    return engine_class(chosen)(chosen, _method(settings))


def restored_engine(settings: Settings, snapshot: Path) -> tuple[Engine, Positions]:
    """The engine as this snapshot left it, with the offsets to go on from; where there is none, one that saw nothing.

    Raises:
        ConfigError: the θ that ``learner.start_from`` names is of another learner.
        SnapshotError: the snapshot or that θ cannot be read, or the snapshot belongs to other settings.
    """
    return restore(settings.engine(), snapshot, _method(settings))


def _method(settings: Settings) -> Method | None:
    """The learner that begins with a trained θ; None where the settings name no such θ."""
    chosen = settings.engine()
    learner = chosen.learner
    if learner.start_from is None:
        return None
    from streammeta.meta.catalogue import Tuning  # noqa: PLC0415  these bring torch and matplotlib, which few services need
    from streammeta.offline.job import stream_method  # noqa: PLC0415

    tuning = Tuning(learner.inner_rate, learner.inner_steps)
    return stream_method(
        learner.start_from, learner.method, chosen.kind, seed=chosen.seed, support=learner.support, tuning=tuning
    )


def decoder(settings: Settings, *, as_json: bool = False) -> Decoder:
    """What reads a service's records; ``as_json``: where somebody writes one by hand, whatever the topic's format."""
    chosen = settings.input.model_copy(update={"format": "json"}) if as_json else settings.input
    return Decoder(
        task_from=chosen.task_from,
        task_header=chosen.task_header,
        max_record_bytes=chosen.max_record_bytes,
        skips_tombstones=chosen.tombstones == "ignore",
        long_texts=settings.features.long_texts,
        read=None if chosen.is_plain else _reader(chosen),
    )


def _reader(chosen: InputSettings) -> Callable[[Record], RawEvent]:
    """What reads records of another shape or format; the task may be in the key or a header by the older setting."""
    fields = chosen.fields
    if chosen.task_from != "field":
        place = "key" if chosen.task_from == "key" else f"header:{chosen.task_header}"
        fields = fields.model_copy(update={"task": place})
    if chosen.topic_fields:
        others = {pattern: Mapper(one) for pattern, one in chosen.topic_fields.items()}
        return MappedByTopic(object_reader(chosen), Mapper(fields), others)
    return mapped(object_reader(chosen), Mapper(fields))


def label_reader(settings: Settings) -> Callable[[Record], RawEvent]:
    """What reads the records of a topic of labels; raises EventError."""
    chosen = settings.labels
    return mapped(object_reader(chosen), Mapper(chosen.fields))


def options(settings: Settings) -> Options:
    """How either loop runs."""
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
        trainer=settings.meta.trainer,
        updates_every_seconds=settings.meta.round_seconds if settings.meta.share == "updates" else None,
        keep_versions=settings.meta.keep_versions,
        explain_orders=settings.output.explain_orders if settings.output.explain else 0,
    )


def http_security(settings: HttpSettings) -> HttpSecurity:
    """What the server for metrics and health asks for.

    Raises:
        ConfigError: certificate and key cannot be used.
    """
    pair = settings.tls_certfile, settings.tls_keyfile
    certificate = None if pair[0] is None or pair[1] is None else Certificate(pair[0], pair[1])
    return HttpSecurity(certificate, settings.wanted_token)


def http_server(settings: HttpSettings, metrics: Metrics, health: Health) -> HttpServer:
    """The server for metrics and health, as the settings want it; it listens already.

    Raises:
        ConfigError: certificate and key cannot be used, or the host is no address of this machine.
        TransportError: the port cannot be used.
    """
    server = HttpServer(settings.host, settings.port, metrics.registry, health, http_security(settings))
    _log.info("serving metrics", url=server.url)
    if settings.wanted_token is not None and settings.tls_certfile is None and settings.host not in _LOCAL:
        _log.warning(
            "the token for /metrics travels in plain text: who reads the network can use it",
            remedy="set [http] tls_certfile and tls_keyfile",
        )
    return server
