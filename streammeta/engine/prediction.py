"""What a step would say, from copies: nothing is learned or remembered."""

from collections.abc import Mapping, Sequence

import numpy as np

from streammeta.engine.elapsed import with_elapsed
from streammeta.engine.features import FeatureSpace
from streammeta.engine.judge import read
from streammeta.engine.looks import is_outdated, look
from streammeta.engine.memory import Memory
from streammeta.engine.outcome import Outcome, Signal
from streammeta.engine.scale import Doubles, Fixed, Seen, units
from streammeta.engine.staleness import is_stale
from streammeta.errors import EventError
from streammeta.event import Event

__all__ = ["check", "predict"]


def check(memory: Memory, events: Sequence[Event]) -> None:
    """See ``Engine.check``."""
    features, labels = memory.features.fork(), memory.labels.fork()
    for event in events:
        x = features.named(event.x, event.origin)
        if memory.extractor:
            x = memory.extractor.extracted(event, x, memory.tasks.columns, -1).x  # type: ignore[assignment]  # by name
        features.read(x, event.origin)
        if not isinstance(event.x, Mapping):
            features.fix_width(len(event.x))
        if event.y is not None:
            labels.check(event.y, event.origin)
            if labels.is_new(event.y):
                labels.learn(event.y)


def predict(memory: Memory, events: Sequence[Event], *, extracted: bool = False) -> list[Outcome]:
    """See ``Engine.predict``."""
    outcomes = []
    for event in events:
        features = memory.features.fork()
        try:
            whole = event if extracted else _extracted(memory, event)
            filled = features.read(whole.x, event.origin)
        except EventError as err:
            outcomes.append(Outcome(event, rejected=str(err)))
            continue
        outcomes.append(_predict_event(memory, whole, features, features.table([filled])))
    return outcomes


def _extracted(memory: Memory, event: Event) -> Event:
    """The event with the features that a step would make for it."""
    elapsed, extractor = memory.settings.elapsed, memory.extractor
    if elapsed is None and extractor is None:
        return event
    columns, (known,) = memory.tasks.copy([(event.origin.partition, event.task)])
    if elapsed is not None:
        event = with_elapsed(event, elapsed, columns, 0)
    if extractor:
        x = memory.features.named(event.x, event.origin)
        event = extractor.extracted(event, x, columns, 0 if known else -1)
    return event


def _predict_event(memory: Memory, event: Event, features: FeatureSpace, exact: Doubles) -> Outcome:
    """The outcome of one event, from a copy of its task's row."""
    outputs, shared, row = memory.labels.outputs, memory.shared.copy(), np.zeros(1, np.int64)
    key, unlabelled = (event.origin.partition, event.task), np.full(1, np.nan)
    grown = shared.grow(features.slots, memory.labels.names)
    wider = memory.layout(len(features), len(shared.own)) if grown else None
    columns, (known,) = memory.tasks.copy([key], wider)
    derive = is_stale(columns, 0, shared.stamp) and columns.window_count[0] > 0
    if is_outdated(columns, row, shared.frame.epoch)[0]:
        frame = shared.frame
        found = look(columns, 0, frame)
        if shared.give_own_views(found.births):
            columns, _ = memory.tasks.copy([key], memory.layout(len(features), len(shared.own)))
            look(columns, 0, frame)
        if found.has_changed or found.births:
            derive = False
            memory.rescale(Fixed(shared.weights, shared.version, shared.frame), columns, 0, found)
        else:
            memory.method.respread(columns, row, 1.0)
    weights, frame = shared.weights, shared.frame
    if derive:
        memory.response.derive(Fixed(weights, shared.version, frame), columns, row, outputs)
    seen = Seen.of(columns, row, exact, unlabelled, frame)
    said = memory.method.run(weights, columns, row, seen.x, seen.y, outputs)
    mean, variance = said.mean[0].tolist(), float(said.variance[0])
    if not memory.labels.classify:
        shift, spread = (float(part[0]) for part in units(frame, columns.scale_y))
        mean, variance = [shift + spread * mean[0]], spread * spread * variance
    if not np.isfinite([*mean, variance]).all():
        return Outcome(event, rejected=f"{event.origin}: the prediction is not a finite number")
    if memory.mixture and memory.mixture.is_awake(outputs):
        case = memory.case(frame, columns, seen, event.task, event.origin.partition, features.slots)
        mean, variance, _ = memory.mixture.blend(columns, case, mean, variance)
    prediction, probabilities = read(mean, memory.labels)
    return Outcome(
        event,
        prediction,
        probabilities,
        variance=None if memory.labels.classify else variance,
        interval=memory.intervals.predict(columns, 0, key[0], mean[0], variance) if memory.intervals else None,
        signal=Signal.STEADY if known else Signal.NEW_TASK,
        theta_version=shared.version,
        age=int(columns.labelled[0]),
        since_drift=int(columns.labels_since_drift[0] - columns.labels_kept_at_drift[0]) if columns.drifts[0] else None,
    )
