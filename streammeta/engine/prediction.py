"""What a step would say: nothing is learned or remembered.

Events before which nothing would have to change are predicted from the tables, all at once; the others one by one, from
copies.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from streammeta.engine.columns import Columns
from streammeta.engine.elapsed import with_elapsed
from streammeta.engine.experts import Cases
from streammeta.engine.features import FeatureSpace
from streammeta.engine.judge import read
from streammeta.engine.looks import is_outdated, look
from streammeta.engine.memory import Memory
from streammeta.engine.outcome import Outcome, Signal
from streammeta.engine.scale import Doubles, Fixed, Seen, common_features, common_units, units
from streammeta.engine.spill import TaskKey
from streammeta.engine.staleness import is_stale
from streammeta.errors import EventError
from streammeta.event import Event
from streammeta.meta.base import Ints

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
    outcomes: dict[int, Outcome] = {}
    places, rows, filled = [], [], []
    at_once = memory.mixture is None or memory.mixture.takes_runs(memory.labels.outputs)
    at_once &= bool(memory.method.derived)  # other learners' predictions depend on how many are made at once
    whole = list(events)  # with the features that are made
    for i, event in enumerate(events if at_once else ()):
        row = _ready_row(memory, (event.origin.partition, event.task))
        if row < 0:
            continue
        try:
            if not extracted:
                whole[i] = _extracted(memory, event, memory.tasks.columns, row)
            slots = memory.features.find(whole[i].x, event.origin)
        except EventError as err:
            outcomes[i] = Outcome(event, rejected=str(err))
            continue
        if slots is not None:
            places.append(i)
            rows.append(row)
            filled.append(slots)
    if places:
        ready = [whole[i] for i in places]
        found = _predict_ready(memory, ready, np.array(rows), memory.features.table(filled))
        outcomes |= zip(places, found, strict=True)
    return [
        outcomes[i] if i in outcomes else _predict_from_copy(memory, event, extracted=extracted)
        for i, event in enumerate(events)
    ]


def _extracted(memory: Memory, event: Event, columns: Columns, row: int) -> Event:
    """The event with the features that a step would make for it, of a task of this row; −1: it has none yet."""
    elapsed, extractor = memory.settings.elapsed, memory.extractor
    if elapsed is not None:
        event = with_elapsed(event, elapsed, columns, row)
    if extractor:
        event = extractor.extracted(event, memory.features.named(event.x, event.origin), columns, row)
    return event


def _ready_row(memory: Memory, key: TaskKey) -> int:
    """The row of a task that an event could be predicted from as it is; −1: something would have to change first."""
    tasks, shared = memory.tasks, memory.shared
    columns, row = tasks.columns, tasks.in_rows.get(key, -1)
    if row < 0 or key in tasks.leaving or shared.size != (len(memory.features), memory.labels.outputs):
        return -1
    is_ready = not is_stale(columns, row, shared.stamp) or columns.window_count[row] == 0
    return row if is_ready and not is_outdated(columns, np.array([row]), shared.frame.epoch)[0] else -1


def _predict_ready(memory: Memory, events: Sequence[Event], rows: Ints, exact: Doubles) -> list[Outcome]:
    """The outcomes of events [N] of tasks that are ready, all at once: without a label nothing is learned.

    Args:
        memory: as it is.
        events: whose features are all known.
        rows: of their tasks.
        exact: their features [N, D].
    """
    columns, fixed, size = memory.tasks.columns, memory.fixed, len(events)
    unlabelled, outputs, frame = np.full(size, np.nan), memory.labels.outputs, fixed.frame
    seen = Seen.of(columns, rows, exact, unlabelled, frame)
    said = memory.method.run(fixed.weights, columns, rows, seen.x, seen.y, outputs)
    means, variances = said.mean.astype(np.float64), said.variance.astype(np.float64)
    if not memory.labels.classify:
        shift, spread = units(frame, columns.scale_y[rows])
        means, variances = shift[:, None] + spread[:, None] * means, spread * spread * variances
    finite = np.isfinite(means).all(axis=1) & np.isfinite(variances)
    if memory.mixture and outputs > memory.mixture.sleeps_up_to:
        tasks, partitions = [event.task for event in events], np.array([event.origin.partition for event in events])
        common, unit = (
            common_features(frame, columns, rows, exact, seen.high),
            common_units(frame, columns.scale_y[rows]),
        )
        asked, context = np.ones(size, np.bool_), np.full((size, 2), -1)
        cases = Cases(tasks, common, partitions, unlabelled, asked, *unit, rows, np.arange(size), context)
        means, variances = memory.mixture.predict_all(columns, cases, means, variances)
    age, drifts = columns.labelled[rows].tolist(), columns.drifts[rows].tolist()
    since = (columns.labels_since_drift[rows] - columns.labels_kept_at_drift[rows]).tolist()
    outcomes = []
    for i, event in enumerate(events):
        if not finite[i]:
            outcomes.append(_not_finite(event))
            continue
        mean, variance, partition = means[i].tolist(), float(variances[i]), event.origin.partition
        prediction, probabilities = read(mean, memory.labels)
        interval = None
        if memory.intervals:
            interval = memory.intervals.predict(columns, int(rows[i]), partition, mean[0], variance)
        outcomes.append(
            Outcome(
                event,
                prediction,
                probabilities,
                variance=None if memory.labels.classify else variance,
                interval=interval,
                theta_version=fixed.version,
                age=age[i],
                since_drift=since[i] if drifts[i] else None,
            )
        )
    return outcomes


def _not_finite(event: Event) -> Outcome:
    return Outcome(event, rejected=f"{event.origin}: the prediction is not a finite number")


def _predict_from_copy(memory: Memory, event: Event, *, extracted: bool) -> Outcome:
    """The outcome of one event, before which features, φ or a scale would change: they do, in copies."""
    features = memory.features.fork()
    try:
        if not extracted and (memory.settings.elapsed is not None or memory.extractor):
            columns, (known,) = memory.tasks.copy([(event.origin.partition, event.task)])
            event = _extracted(memory, event, columns, 0 if known else -1)
        filled = features.read(event.x, event.origin)
    except EventError as err:
        return Outcome(event, rejected=str(err))
    return _predict_event(memory, event, features, features.table([filled]))


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
        return _not_finite(event)
    if memory.mixture and outputs > memory.mixture.sleeps_up_to:
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
