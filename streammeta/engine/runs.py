"""A run: events predicted, judged and learned in their order, while nothing that tasks share changes.

The learner takes a whole run in one call, each event predicted before its label is learned. Judging comes after, event
by event in the same order, and what it finds is put right at once: a task that drifted begins again after the event
with the signal, and what of it still lies ahead in the run is predicted again.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from streammeta.engine.buffer import push
from streammeta.engine.drift import Detectors, DriftResponse, DriftSettings
from streammeta.engine.experts import Blend, Case, Mixture
from streammeta.engine.features import Filled
from streammeta.engine.judge import read, score
from streammeta.engine.labels import LabelSpace, Waiting
from streammeta.engine.outcome import Outcome, Signal
from streammeta.engine.recall import Recall
from streammeta.engine.scale import (
    BEFORE,
    SINCE,
    Fixed,
    FrameScale,
    seen_features,
    seen_targets,
    seen_window,
    split,
    units,
)
from streammeta.engine.tasks import TaskTable
from streammeta.event import Event, Label
from streammeta.meta.base import Floats, Ints, Method

__all__ = ["Counts", "Item", "Runs", "Seen"]

_ERROR_EVENTS = 50  # what a task's running error looks back on


@dataclass(slots=True)
class Item:
    """One event or label on its way through a step."""

    at: int  # its place in the batch
    source: Event | Label
    row: int
    task: str
    filled: Filled
    waits: Waiting | None  # the event whose label this is, or this event while it has none
    is_new_task: bool
    judged: tuple[int, float, float] | None = None  # its task's labels before, loss and error in spreads of its target


@dataclass(slots=False)
class Counts:
    """What has happened since the engine began."""

    seen: int = 0  # events and labels taken in: the clock of all that is shared
    events: int = 0
    labelled: int = 0
    drifts: int = 0
    refused: int = 0
    resets: int = 0  # tasks that began again because a prediction was not a finite number
    refused_updates: int = 0  # meta-updates whose numbers were not finite
    next_look: int = 0  # seen, when what tasks share is next looked at
    meta_begun: int = 0  # seen, when the last meta-update began


class Seen(NamedTuple):
    """Raw events [N] of these rows, as they are kept and as the learner sees them."""

    rows: Ints
    exact: npt.NDArray[np.float64]  # [N, D] features
    high: Floats  # [N, D] as windows keep them
    low: Floats  # [N, K]
    x: Floats  # [N, inputs] normalized
    labels: npt.NDArray[np.float64]  # [N] class indices or targets; NaN is none
    y: Floats  # [N] normalized labels

    @classmethod
    def of(
        cls,
        columns: Mapping[str, npt.NDArray[Any]],
        rows: Ints,
        exact: npt.NDArray[np.float64],
        labels: npt.NDArray[np.float64],
        frame: FrameScale,
    ) -> "Seen":
        """These events under this scale."""
        high, low = split(exact, frame.own)
        x = seen_features(frame, high, low, columns["scale.x"][rows] if frame.own.size else None)
        y = seen_targets(frame, labels, None if frame.classify else columns["scale.y"][rows])
        return cls(rows, exact, high, low, x, labels, y)

    def cut(self, begin: int, end: int) -> "Seen":
        """Some of them."""
        return Seen._make(part[begin:end] for part in self)


class Runs:
    """Takes events through predict, judge, detect, adapt, remember.

    Args:
        method: the learner; its φ is columns of ``tasks``.
        drift: what a drift makes a task forget.
        mixture: blends the learner's predictions with those of experts; None: there are none.
        counts: kept up to date here.
    """

    def __init__(
        self,
        method: Method,
        tasks: TaskTable,
        labels: LabelSpace,
        detectors: Detectors,
        mixture: Mixture | None,
        drift: DriftSettings,
        counts: Counts,
        recall: Recall | None = None,
    ) -> None:
        self._recall = recall
        self._method, self._tasks, self._labels, self._detectors = method, tasks, labels, detectors
        self._mixture, self._counts = mixture, counts
        self._response, self._keep_events = drift.response, drift.keep_events
        self._phi = tuple(method.phi_layout(1, 1))

    def go(self, shared: Fixed, items: Sequence[Item], seen: Seen, outcomes: list[Outcome | None]) -> None:
        """Fill the outcomes of these items, under θ and the scale of now.

        A label of a class not seen before comes alone, and is judged here but not learned: see ``learn``.
        """
        run, mixture, version = self._run(shared, items, seen), self._awake(), shared.version
        for row, places in run.places.items():
            if len(places) > 1:
                run.saved[row] = (self._state(row), 0)
        self._predict(run, np.arange(len(items)))
        for i, item in enumerate(items):
            if not run.finite[i]:
                outcomes[item.at] = self._refuse(item)
                run.y[i] = math.nan
                self._begin_again(run, i, "reset", 0)
                continue
            mean, variance = run.means[i], run.variances[i]
            if mixture:
                blend = run.blends[i] = self._blend(mixture, run, i)
                mean, variance = blend.mean, blend.variance
            outcome = outcomes[item.at] = self._judge(item, mean, variance, version, run.spread[i])
            if math.isnan(run.y[i]):
                continue
            run.unkept.append(i)
            if mixture:
                self._teach_experts(mixture, run, i)
            if self._recall:
                outcomes[item.at] = self._look_back(self._recall, run, i, outcome)
            elif outcome.signal is Signal.DRIFT:
                self._begin_again(run, i, self._response, self._keep_events)
        self._remember(run)

    def learn(self, shared: Fixed, item: Item, seen: Seen) -> None:
        """Learn one item that ``go`` has judged while its class was not known yet; now ``seen`` has the label."""
        run, mixture = self._run(shared, [item], seen), self._awake()
        self._predict(run, np.arange(1))
        run.unkept.append(0)
        if mixture:
            run.blends[0] = self._blend(mixture, run, 0)
            self._teach_experts(mixture, run, 0)
        self._remember(run)

    def _awake(self) -> Mixture | None:
        """The mixture, where it takes part."""
        return self._mixture if self._mixture and self._mixture.is_awake(self._labels.outputs) else None

    def _blend(self, mixture: Mixture, run: "_Run", i: int) -> Blend:
        """The learner's prediction of event i with those of the experts; of a late label what was predicted before."""
        waits = run.items[i].waits
        if waits is not None and waits.mean is not None and waits.parts is not None:
            return Blend(waits.mean.tolist(), waits.variance, waits.parts)
        blend = mixture.blend(self._tasks.columns, run.case(i), run.means[i], run.variances[i])
        if waits is not None:
            waits.parts = blend.parts
        return blend

    def _teach_experts(self, mixture: Mixture, run: "_Run", i: int) -> None:
        """Let the experts learn event i, which is in its task's window by then."""
        self._remember(run)
        mixture.learn(
            self._tasks.columns, run.case(i), run.blends[i].parts, float(run.seen.labels[i]), self._labels.outputs
        )

    def labels(self, items: Sequence[Item]) -> npt.NDArray[np.float64]:
        """Labels [N] as numbers; NaN where there is none yet, or none that is known."""
        labels = (item.source.y for item in items)
        return np.array([math.nan if y is None or self._labels.is_new(y) else self._labels.number(y) for y in labels])

    def _run(self, shared: Fixed, items: Sequence[Item], seen: Seen) -> "_Run":
        shift, spread = np.zeros(len(items)), np.ones(len(items))
        if not self._labels.classify:
            shift, spread = units(shared.frame, self._tasks.columns["scale.y"][seen.rows])
        return _Run(shared, items, seen, shift, spread)

    def _predict(self, run: "_Run", which: Ints) -> None:
        """Predict these events of a run and learn their labels, in this order."""
        columns, rows = self._tasks.columns, run.rows[which]
        found = self._method.run(run.weights, columns, rows, run.seen.x[which], run.y[which], self._labels.outputs)
        mean, variance = found.mean, found.variance
        if not self._labels.classify:
            spread = run.spread[which]
            mean, variance = run.shift[which, None] + spread[:, None] * mean, spread * spread * variance
        finite = np.isfinite(mean).all(axis=1) & np.isfinite(variance)
        means, variances = mean.tolist(), variance.tolist()
        for i, mean, variance, is_finite in zip(which.tolist(), means, variances, finite.tolist(), strict=True):
            run.means[i], run.variances[i], run.finite[i] = mean, variance, is_finite

    def _look_back(self, recall: Recall, run: "_Run", i: int, outcome: Outcome) -> Outcome:
        """What the earlier concepts of event i's task say to its label, and what follows of it."""
        self._remember(run)
        columns, row, outputs = self._tasks.columns, run.items[i].row, self._labels.outputs
        if outcome.signal is Signal.DRIFT:
            self._begin_again(run, i, "recall", self._keep_events)
            return outcome
        back = recall.returned(run.shared, columns, row, outputs)
        if back:
            recall.suspect(run.shared, columns, row, back, outputs)
        elif recall.page_is_full(columns, row):
            recall.file(run.shared, columns, row, 0, outputs)
        if not (back or recall.is_due(columns, row)):
            return outcome
        since = recall.weigh(run.shared, columns, row, outputs)
        if since:
            columns["labels_since_drift"][row] = columns["labels_kept_at_drift"][row] = since
            self._detectors.reset(row)
            self._count_drift(row)
            outcome = replace(outcome, signal=Signal.DRIFT)
        self._changed_between(run, i, lambda: recall.derive(run.shared, columns, run.rows[i : i + 1], outputs))
        return outcome

    def _begin_again(self, run: "_Run", i: int, response: DriftResponse, keep: int) -> None:
        """The concept of event i's task changed: forget as the settings say, but for the last ``keep`` labels."""
        self._remember(run)
        columns, rows, outputs = self._tasks.columns, run.rows[i : i + 1], self._labels.outputs
        row = int(rows[0])
        if self._recall:
            keep = self._recall.end(run.shared, columns, row, keep, outputs)
        if response == "reset":
            columns["window_count"][row] = keep = 0
            for name in ("scale.x", "scale.y"):
                columns[name][row, [SINCE, BEFORE]] = 0
        columns["labels_since_drift"][row] = columns["labels_kept_at_drift"][row] = min(
            keep, int(columns["window_count"][row])
        )

        def forget() -> None:
            self._method.restart(run.weights, columns, rows, "reset" if response == "reset" else "mix")
            if self._recall:
                self._recall.weigh(run.shared, columns, row, outputs)
                self._recall.derive(run.shared, columns, rows, outputs)
            elif keep:
                held = seen_window(columns, rows, run.shared.frame)
                self._method.rebuild(run.weights, columns, rows, held, outputs)

        self._changed_between(run, i, forget)
        self._detectors.reset(row)

    def _changed_between(self, run: "_Run", i: int, change: Callable[[], None]) -> None:
        """Change φ of event i's task as it was after that event, and predict the later ones again."""
        columns, row = self._tasks.columns, run.items[i].row
        later = np.array([j for j in run.places[row] if j > i])
        if later.size:
            state, start = run.saved[row]
            for name, value in state.items():
                columns[name][row] = value
            again = np.array([j for j in run.places[row] if start <= j <= i])
            x, y = run.seen.x[again], run.y[again]
            self._method.run(run.weights, columns, run.rows[again], x, y, self._labels.outputs)
        change()
        if later.size:
            run.saved[row] = (self._state(row), i + 1)
            self._predict(run, later)

    def _state(self, row: int) -> dict[str, npt.NDArray[Any]]:
        """A copy of one task's φ."""
        return {name: self._tasks.columns[name][row].copy() for name in self._phi}

    def _remember(self, run: "_Run") -> None:
        """Put what was learned into the windows of the tasks."""
        if run.unkept:
            seen, which = run.seen, run.unkept
            push(self._tasks.columns, run.rows[which], seen.high[which], seen.low[which], seen.labels[which])
            self._counts.labelled += len(run.unkept)
            run.unkept = []

    def _refuse(self, item: Item) -> Outcome:
        """A prediction that is not a number: its task starts again, so that one bad state does not last."""
        self._counts.refused += 1
        self._counts.resets += 1
        at = item.source.origin
        return Outcome(item.source, rejected=f"{at}: the prediction is not a finite number; its task starts anew")

    def _judge(self, item: Item, mean: list[float], variance: float, version: int, unit: float) -> Outcome:
        """The outcome of an item, its task's counters, and whether its concept has drifted.

        Whatever compares losses and errors, over time or over tasks, does so in spreads of the task's target: ``unit``.
        """
        event, columns, row = item.source, self._tasks.columns, item.row
        if isinstance(event, Event):
            columns["events"][row] += 1
            if event.ts is not None:
                columns["seen_at"][row] = event.ts
            if item.waits is not None:
                item.waits.predict(mean, variance, version)
        elif item.waits is not None and item.waits.mean is not None:
            mean, variance, version = item.waits.mean.tolist(), item.waits.variance, item.waits.theta_version
        age = int(columns["labelled"][row])
        since = (
            int(columns["labels_since_drift"][row] - columns["labels_kept_at_drift"][row])
            if columns["drifts"][row]
            else None
        )
        signal = Signal.NEW_TASK if item.is_new_task else Signal.STEADY
        prediction, probabilities = read(mean, self._labels)
        spread = None if self._labels.classify else variance
        loss = error = None
        if event.y is not None:
            loss, error = score(event.y, prediction, mean, variance, self._labels)
            columns["labelled"][row] = age + 1
            columns["labels_since_drift"][row] += 1
            columns["error"][row] += (error - columns["error"][row]) / min(age + 1, _ERROR_EVENTS)
            _, own_loss, own_error = item.judged = age, loss - math.log(unit), error / unit
            own_spread = None if spread is None else spread / (unit * unit)
            if self._recall:
                self._recall.observe_loss(columns, row, own_loss, own_spread)
            if self._detectors.update(row, own_loss, own_error, own_spread):
                signal = Signal.DRIFT
                self._count_drift(row)
        return Outcome(event, prediction, probabilities, spread, signal, version, loss, error, age, since)

    def _count_drift(self, row: int) -> None:
        columns = self._tasks.columns
        self._counts.drifts += 1
        columns["drifts"][row] += 1
        columns["drift_at"][row] = columns["seen_at"][row]


class _Run:
    """What is known of a run's events while it goes on."""

    def __init__(self, shared: Fixed, items: Sequence[Item], seen: Seen, shift: Any, spread: Any) -> None:  # noqa: ANN401
        size = len(items)
        self.shared, self.weights, self.items, self.seen = shared, shared.weights, items, seen
        self.rows, self.y = seen.rows, seen.y.copy()
        self.shift, self.spread = shift, spread  # of each event's task's target
        self.places: dict[int, list[int]] = {}  # of each task's events in the run
        for i, item in enumerate(items):
            self.places.setdefault(item.row, []).append(i)
        self.saved: dict[int, tuple[dict[str, npt.NDArray[Any]], int]] = {}  # φ as it was before this event of the run
        self.means: list[list[float]] = [[]] * size
        self.variances: list[float] = [0.0] * size
        self.finite: list[bool] = [True] * size
        self.unkept: list[int] = []  # learned, but not yet in their task's window
        self.blends: dict[int, Blend] = {}  # where there are experts

    def case(self, i: int) -> Case:
        """Event i as experts see it."""
        item = self.items[i]
        return Case(item.row, item.task, self.seen.high[i], item.source.origin.partition)
