"""A stream through the service's own loop, from a fresh engine."""

import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from prometheus_client import CollectorRegistry

from streammeta.app.parts import decoder, new_engine, options
from streammeta.config import Settings
from streammeta.engine import Engine
from streammeta.engine.factory import fingerprint
from streammeta.report import Figures, Tally, facts
from streammeta.service.http import Health
from streammeta.service.loop import Service
from streammeta.service.metrics import Metrics
from streammeta.service.turn import Observe
from streammeta.transport.base import Positions, Sink, Source

__all__ = ["Begun", "Monitor", "replay"]

_REPLAY_RECORDS = 256  # at a time: no prediction depends on it, and a viewer sees more


class Monitor(NamedTuple):
    """What shows a run to the world while it goes on."""

    metrics: Metrics  # counts
    health: Health  # is updated at every turn


class Begun(NamedTuple):
    """An engine, and where it goes on."""

    engine: Engine  # of the replay's settings
    positions: Positions  # the next offsets to read; none: from the beginning
    snapshot: Path | None = None  # where its state is kept, every ``state.every_seconds`` and at the end; None: nowhere


def replay(
    settings: Settings,
    source: Source,
    sink: Sink | None,
    tally: Tally,
    *,
    observers: Sequence[Observe] = (),
    stop: threading.Event | None = None,
    monitor: Monitor | None = None,
    begun: Begun | None = None,
) -> Figures:
    """Run recorded or simulated events through the service's own loop, from a fresh engine, and report.

    Args:
        settings: as for ``serve``; where events come from and state is kept do not matter.
        source: the events, with their tags where `[input] task_from` says; it is read to its end.
        sink: gets what Kafka would get; None: nobody does.
        tally: is fed with the outcomes, before ``observers`` are.
        observers: watch the run.
        stop: ends it early.
        monitor: what others may look at meanwhile; None: nobody does.
        begun: an engine of the caller's, to look inside or to go on with; it is closed at the end. None: a fresh one.
    """
    monitor = monitor or Monitor(Metrics(CollectorRegistry()), Health(time.monotonic))
    start = begun or Begun(new_engine(settings), {})
    reader = decoder(settings)
    with closing(start.engine) as running:
        service = Service(
            running,
            sink,
            decoder=reader,
            options=replace(options(settings), poll_records=_REPLAY_RECORDS, snapshot=start.snapshot),
            metrics=monitor.metrics,
            health=monitor.health,
            observers=(tally.add, *observers),
        )
        summary = service.run(source, stop or threading.Event(), start.positions)
        cost = facts(running.stats(), seconds=summary.seconds, events=tally.events, too_long=reader.too_long)
        extractor = running.memory.extractor
        unsaved = ", ".join(running.unsaved_experts) or None
    return {
        "records": summary.records,
        **tally.figures(),
        "rejected_reasons": summary.refusals.figures(),
        **cost,
        "features_made": (", ".join(extractor.made) or None) if extractor else None,
        "features_never_made": (", ".join(extractor.never_made) or None) if extractor else None,
        "experts": fingerprint(running.settings)["learner.experts"] or None,
        "experts_not_restored": unsaved,
        "seed": settings.app.seed,
        "settings": settings.engine().model_dump(mode="json"),
    }
