"""A stream through the service's own loop, from a fresh engine."""

import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import NamedTuple

from prometheus_client import CollectorRegistry

from streammeta.app.parts import new_engine, options
from streammeta.config import Settings
from streammeta.engine import Engine
from streammeta.event import Decoder
from streammeta.report import Figures, Tally, facts
from streammeta.service.http import Health
from streammeta.service.loop import Service
from streammeta.service.metrics import Metrics
from streammeta.service.turn import Observe
from streammeta.transport.base import Sink, Source

__all__ = ["Monitor", "replay"]

_REPLAY_RECORDS = 256  # at a time: no prediction depends on it, and a viewer sees more


class Monitor(NamedTuple):
    """What shows a run to the world while it goes on."""

    metrics: Metrics  # counts
    health: Health  # is updated at every turn


def replay(
    settings: Settings,
    source: Source,
    sink: Sink | None,
    tally: Tally,
    *,
    observers: Sequence[Observe] = (),
    stop: threading.Event | None = None,
    monitor: Monitor | None = None,
    engine: Engine | None = None,
) -> Figures:
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
    monitor = monitor or Monitor(Metrics(CollectorRegistry()), Health(time.monotonic))
    with closing(engine or new_engine(settings)) as running:
        service = Service(
            running,
            sink,
            decoder=Decoder(max_record_bytes=settings.input.max_record_bytes),
            options=replace(options(settings), poll_records=_REPLAY_RECORDS),
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
        "experts_not_restored": unsaved,
        "seed": settings.app.seed,
        "settings": settings.engine().model_dump(mode="json"),
    }
