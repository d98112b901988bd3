"""What a step would say: nothing is learned or remembered.

Events before which nothing would have to change are predicted from the tables, all at once; the others one by one, from
copies.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from streammeta.engine.columns import Columns
from streammeta.engine.experts import Cases
from streammeta.engine.features import FeatureSpace
from streammeta.engine.judge import read
from streammeta.engine.looks import is_outdated, look
from streammeta.engine.memory import Memory
from streammeta.engine.outcome import Outcome, Signal
from streammeta.engine.scale import Doubles, Fixed, Seen, units
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
    at_once = bool(memory.method.derived)  # other learners' predictions depend on how many are made at once
    whole = list(events)  # with the features that are made
    for i, event in enumerate(events if at_once else ()):
        row = _ready_row(memory, (event.origin.partition, event.task))
        if row < 0:
            continue
        try:
            if not extracted:
                whole[i] = memory.extracted(event, memory.tasks.columns, row)
            slots = memory.features.find(whole[i].x, event.origin)
        except EventError as err:
            outcomes[i] = Outcome(event, rejected=str(err))
            continue
        if slots is not None:
            places.append(i)
            rows.append(row)
            filled.append(slots)
    if places:
        tables = _Tables(memory.tasks.columns, memory.fixed, np.array(rows), memory.features)
        found = _predict_from(memory, tables, [whole[i] for i in places], memory.features.table(filled))
        outcomes |= zip(places, found, strict=True)
    return [
        outcomes[i] if i in outcomes else _predict_from_copy(memory, event, extracted=extracted)
        for i, event in enumerate(events)
    ]


class _Tables(NamedTuple):
    """What events [N] are predicted from: the tables as they are, or copies. Nothing is learned, as no label is."""

    columns: Columns
    fixed: Fixed
    rows: Ints  # [N] of their tasks
    features: FeatureSpace


def _ready_row(memory: Memory, key: TaskKey) -> int:
    """The row of a task that an event could be predicted from as it is; −1: something would have to change first."""
    tasks, shared = memory.tasks, memory.shared
    columns, row = tasks.columns, tasks.in_rows.get(key, -1)
    if row < 0 or key in tasks.leaving or shared.size != (len(memory.features), memory.labels.outputs):
        return -1
    is_ready = not is_stale(columns, row, shared.stamp) or columns.window_count[row] == 0
    return row if is_ready and not is_outdated(columns, np.array([row]), shared.frame.epoch)[0] else -1


def _predict_from_copy(memory: Memory, event: Event, *, extracted: bool) -> Outcome:
    """The outcome of one event, before which features, φ or a scale would change: they do, in copies."""
    features, key = memory.features.fork(), (event.origin.partition, event.task)
    try:
        if not extracted and (memory.settings.elapsed is not None or memory.extractor):
            columns, (known,) = memory.tasks.copy([key])
            event = memory.extracted(event, columns, 0 if known else -1)
        filled = features.read(event.x, event.origin)
    except EventError as err:
        return Outcome(event, rejected=str(err))
    tables, known = _copied(memory, key, features)
    (outcome,) = _predict_from(memory, tables, [event], features.table([filled]))
    return outcome if known or outcome.rejected else replace(outcome, signal=Signal.NEW_TASK)


def _copied(memory: Memory, key: TaskKey, features: FeatureSpace) -> tuple[_Tables, bool]:
    """A copy of a task's row, as it would be at an event that has these features; and whether the task is known."""
    shared, row = memory.shared.copy(), np.zeros(1, np.int64)
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
    fixed = Fixed(shared.weights, shared.version, shared.frame)
    if derive:
        memory.response.derive(fixed, columns, row, memory.labels.outputs)
    return _Tables(columns, fixed, row, features), known


def _predict_from(memory: Memory, tables: _Tables, events: Sequence[Event], exact: Doubles) -> list[Outcome]:
    """The outcomes of events [N] with features [N, D], as of tasks that are known."""
    (columns, fixed, rows, _), classify = tables, memory.labels.classify
    means, variances, finite = _said(memory, tables, events, exact)
    age, drifts = columns.labelled[rows].tolist(), columns.drifts[rows].tolist()
    since = (columns.labels_since_drift[rows] - columns.labels_kept_at_drift[rows]).tolist()
    outcomes = []
    for i, event in enumerate(events):
        if not finite[i]:
            said = f"{event.origin}: the prediction is not a finite number"
            outcomes.append(Outcome(event, rejected=said))
            continue
        mean, variance, interval = means[i].tolist(), float(variances[i]), None
        if memory.intervals:
            interval = memory.intervals.predict(columns, int(rows[i]), event.origin.partition, mean[0], variance)
        outcomes.append(
            Outcome(
                event,
                *read(mean, memory.labels),
                variance=None if classify else variance,
                interval=interval,
                theta_version=fixed.version,
                age=age[i],
                since_drift=since[i] if drifts[i] else None,
            )
        )
    return outcomes


def _said(
    memory: Memory, tables: _Tables, events: Sequence[Event], exact: Doubles
) -> tuple[Doubles, Doubles, npt.NDArray[np.bool_]]:
    """Means [N, C] and variances [N] of the mixture, and whether the learner's are finite [N]."""
    (columns, fixed, rows, features), frame = tables, tables.fixed.frame
    size, outputs, mixture = len(events), memory.labels.outputs, memory.mixture
    unlabelled = np.full(size, np.nan)
    seen = Seen.of(columns, rows, exact, unlabelled, frame)
    said = memory.method.run(fixed.weights, columns, rows, seen.x, seen.y, outputs)
    means, variances = said.mean.astype(np.float64), said.variance.astype(np.float64)
    if not memory.labels.classify:
        shift, spread = units(frame, columns.scale_y[rows])
        means, variances = shift[:, None] + spread[:, None] * means, spread * spread * variances
    finite: npt.NDArray[np.bool_] = np.isfinite(means).all(axis=1) & np.isfinite(variances)
    if mixture is None or outputs <= mixture.sleeps_up_to:
        return means, variances, finite
    partitions, values = np.array([event.origin.partition for event in events]), features.shared_values(exact)
    if mixture.takes_runs(outputs):
        (x, shift, spread), tasks = seen.common(columns, frame), [event.task for event in events]
        asked, context = np.ones(size, np.bool_), np.full((size, 2), -1)
        known = partitions, unlabelled, asked, shift, spread, rows
        cases = Cases(tasks, x, *known, np.arange(size), context, values)
        return *mixture.predict_all(columns, cases, means, variances), finite
    for i in np.flatnonzero(finite).tolist():
        one, partition = seen.cut(i, i + 1), int(partitions[i])
        case = memory.case(frame, columns, one, events[i].task, partition, features.slots, None, values[i])
        means[i], variances[i], _ = mixture.blend(columns, case, means[i].tolist(), float(variances[i]))
    return means, variances, finite
