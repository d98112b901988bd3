"""A run: events predicted, judged and learned in their order, while nothing that tasks share changes.

The learner takes a whole run in one call, each event predicted before its label is learned. Judging comes after, event
by event in the same order, and what it finds is put right at once: a task that drifted begins again after the event
with the signal, and what of it still lies ahead in the run is predicted again.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from streammeta.engine.buffer import push
from streammeta.engine.drift import Detectors, DriftResponse, DriftSettings
from streammeta.engine.experts import Blend, Case, Cases, Mixture, RunLabels
from streammeta.engine.features import Filled
from streammeta.engine.judge import Judged, count_events, judge
from streammeta.engine.labels import LabelSpace, Waiting
from streammeta.engine.outcome import Outcome, Signal
from streammeta.engine.recall import Recall
from streammeta.engine.scale import (
    BEFORE,
    SINCE,
    Fixed,
    FrameScale,
    learned_targets,
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

Doubles: TypeAlias = npt.NDArray[np.float64]


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
        x = seen_features(frame, columns, rows, high, low)
        y = seen_targets(frame, columns, rows, labels)
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
        run = self._run(shared, items, seen)
        if len(items) == 1 and self._labels.is_new(items[0].source.y):
            run.labels[0] = self._labels.outputs  # one beyond those that are known
        for row, places in run.places.items():
            if len(places) > 1:
                run.saved[row] = (self._state(row), 0)
        self._predict(run, np.arange(len(items)))
        mixture = self._awake()
        if mixture:
            run.opinions = mixture.ask(run.cases(), self._labels.outputs)
        begin = 0
        while begin < len(items):
            begin = self._go_on(run, begin, outcomes) if run.finite[begin] else self._refuse(run, begin, outcomes)
        self._remember(run)

    def _go_on(self, run: "_Run", begin: int, outcomes: list[Outcome | None]) -> int:
        """Judge events from ``begin`` on as far as nothing comes between them, and say where that ends.

        What comes between are a drift, a prediction that is no number, and the label of an event that is judged here;
        with recall, or experts that are asked one by one, every event.
        """
        mixture, columns = self._awake(), self._tasks.columns
        one_by_one = mixture is not None and run.opinions is None
        end = begin + 1 if one_by_one or self._recall else run.until(begin)
        if mixture and one_by_one:
            blend = run.blends[begin] = self._blend(mixture, run, begin)
            run.set_prediction(begin, blend.mean, blend.variance)
        found, drifted = self._judge_mixed(mixture, run, begin, end) if mixture else self._judge(run, begin, end)
        end = end if drifted is None else drifted + 1
        part = slice(begin, end)
        age, since = count_events(
            columns, run.rows[part], run.is_event[part], run.times[part], found.error[: end - begin]
        )
        for i in run.pending:
            if begin <= i < end:
                run.items[i].waits.predict(*run.said(i))  # type: ignore[union-attr]  # it is pending
        if drifted is not None:
            self._count_drift(run.items[drifted].row)
        self._write(run, begin, end, found, age, since, drifted, outcomes)
        run.unkept += [i for i in range(begin, end) if run.is_kept[i]]
        last = run.items[end - 1]
        if not run.is_kept[end - 1]:
            return end
        if mixture and one_by_one:
            self._teach_experts(mixture, run, begin)
        if self._recall:
            outcomes[last.at] = self._look_back(self._recall, run, begin, outcomes[last.at])  # type: ignore[arg-type]
        elif drifted is not None:
            self._begin_again(run, drifted, self._response, self._keep_events)
        return end

    def _judge_mixed(self, mixture: Mixture, run: "_Run", begin: int, end: int) -> tuple[Judged, int | None]:
        """As ``_judge``, with what the experts said of the run mixed in."""
        columns, rows = self._tasks.columns, run.rows[begin:end]
        evidence = mixture.evidence(columns, rows)
        self._mix(mixture, run, begin, end)
        found, drifted = self._judge(run, begin, end)
        if drifted is not None and drifted + 1 < end:  # what lies behind it is predicted again
            mixture.put_back(columns, rows, evidence)
            self._mix(mixture, run, begin, drifted + 1)
            run.predict_late(begin, drifted + 1)
        return found, drifted

    def _judge(self, run: "_Run", begin: int, end: int) -> tuple[Judged, int | None]:
        """Judge these events, and let the detectors see their labels; with which of them a drift came first."""
        run.predict_late(begin, end)
        part = slice(begin, end)
        found = judge(
            *(run.means[part], run.known[part], run.variances[part], run.spread[part], run.labels[part]),
            classify=self._labels.classify,
            binary=self._detectors.binary,
        )
        return found, self._watch(run, begin, found)

    def _mix(self, mixture: Mixture, run: "_Run", begin: int, end: int) -> None:
        """Mix the learner's predictions of these events with the experts' opinions, each under the labels before it."""
        part, opinions = slice(begin, end), run.opinions
        if opinions is None:  # they are asked one by one
            return
        known = RunLabels(
            np.where(run.is_kept, run.seen.labels, math.nan)[part],
            np.zeros(end - begin, np.bool_),
            mixture.no_parts(end - begin, self._labels.outputs),
        )
        for i in run.late:
            waits = run.items[i].waits
            if begin <= i < end and waits is not None and waits.mean is not None and waits.parts is not None:
                known.given[i - begin] = True
                known.parts[i - begin, :, : waits.parts.shape[1]] = waits.parts
        columns, own = self._tasks.columns, (run.own_means[part], run.own_variances[part])
        run.means[part], run.variances[part] = mixture.blend_run(columns, run.rows[part], *own, opinions[part], known)
        for i in run.pending:
            if begin <= i < end:
                run.items[i].waits.parts = known.parts[i - begin].copy()  # type: ignore[union-attr]  # it is pending

    def _watch(self, run: "_Run", begin: int, found: Judged) -> int | None:
        """Let the detectors see these labels, and say with which of them a drift came first."""
        items, update = run.items, self._detectors.watch
        for i, value in enumerate(found.watched.tolist(), begin):
            if value == value and update(items[i].row, value):  # noqa: PLR0124  NaN: there is no label
                return i
        return None

    def _write(
        self,
        run: "_Run",
        begin: int,
        end: int,
        found: Judged,
        age: Ints,
        since: Ints,
        drifted: int | None,
        outcomes: list[Outcome | None],
    ) -> None:
        """The outcomes of events judged, and what the curriculum and recall observe of them."""
        classes, columns = self._labels.classes, self._tasks.columns
        means, variances, known = run.means[begin:end].tolist(), run.variances[begin:end].tolist(), run.known
        best = None if found.best is None else found.best.tolist()
        loss, error = found.loss.tolist(), found.error.tolist()
        own_loss, own_error = found.own_loss.tolist(), found.own_error.tolist()
        ages, sinces = age.tolist(), since.tolist()
        for k, i in enumerate(range(begin, end)):
            item, mean, is_labelled = run.items[i], means[k], run.is_labelled[i]
            if best is None:
                prediction, probabilities, variance = mean[0], None, variances[k]
            else:
                probabilities = dict(zip(classes, mean[: known[i]], strict=False))
                prediction, variance = classes[best[k]] if best[k] >= 0 else None, None
            signal = Signal.DRIFT if i == drifted else Signal.NEW_TASK if item.is_new_task else Signal.STEADY
            if is_labelled:
                item.judged = ages[k], own_loss[k], own_error[k]
                if self._recall:
                    unit = run.spread[i]
                    own = None if variance is None else variance / (unit * unit)
                    self._recall.observe_loss(columns, item.row, own_loss[k], own)
            outcomes[item.at] = Outcome(
                item.source,
                prediction,
                probabilities,
                variance,
                signal,
                run.versions[i],
                loss[k] if is_labelled else None,
                error[k] if is_labelled else None,
                ages[k],
                sinces[k] if sinces[k] >= 0 else None,
            )

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
        blend = mixture.blend(self._tasks.columns, run.case(i), run.means[i].tolist(), float(run.variances[i]))
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
        return _Run(shared, items, seen, shift, spread, self._labels.outputs)

    def _predict(self, run: "_Run", which: Ints) -> None:
        """Predict these events of a run and learn their labels, in this order."""
        columns, rows = self._tasks.columns, run.rows[which]
        found = self._method.run(run.weights, columns, rows, run.seen.x[which], run.y[which], self._labels.outputs)
        mean, variance = found.mean.astype(np.float64), found.variance.astype(np.float64)
        if not self._labels.classify:
            spread = run.spread[which]
            mean, variance = run.shift[which, None] + spread[:, None] * mean, spread * spread * variance
        run.means[which], run.variances[which] = run.own_means[which], run.own_variances[which] = mean, variance
        run.finite[which] = np.isfinite(mean).all(axis=1) & np.isfinite(variance)

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

    def _refuse(self, run: "_Run", i: int, outcomes: list[Outcome | None]) -> int:
        """A prediction that is not a number: its task starts again, so that one bad state does not last."""
        self._counts.refused += 1
        self._counts.resets += 1
        item, at = run.items[i], run.items[i].source.origin
        said = f"{at}: the prediction is not a finite number; its task starts again"
        outcomes[item.at] = Outcome(item.source, rejected=said)
        run.y[i], run.is_kept[i] = math.nan, False
        self._begin_again(run, i, "reset", 0)
        return i + 1

    def _count_drift(self, row: int) -> None:
        columns = self._tasks.columns
        self._counts.drifts += 1
        columns["drifts"][row] += 1
        columns["drift_at"][row] = columns["seen_at"][row]


class _Run:
    """What is known of a run's events while it goes on."""

    def __init__(
        self, shared: Fixed, items: Sequence[Item], seen: Seen, shift: Doubles, spread: Doubles, outputs: int
    ) -> None:
        size = len(items)
        self.shared, self.weights, self.items, self.seen = shared, shared.weights, items, seen
        self.rows, self.y, self.labels = seen.rows, learned_targets(shared.frame, seen.y), seen.labels.copy()
        self.is_kept = ~np.isnan(seen.labels)  # a label that is known, whose event goes into the window
        self.shift, self.spread = shift, spread  # [N] of each event's task's target
        self.places: dict[int, list[int]] = {}  # of each task's events in the run
        for i, item in enumerate(items):
            self.places.setdefault(item.row, []).append(i)
        self.saved: dict[int, tuple[dict[str, npt.NDArray[Any]], int]] = {}  # φ as it was before this event of the run
        self.means, self.variances = np.zeros((size, outputs)), np.zeros(size)  # as the outcomes say them
        self.own_means, self.own_variances = self.means.copy(), self.variances.copy()  # the learner's, without experts
        self.known = np.full(size, outputs, np.int64)  # how many outputs each prediction has
        self.versions = [shared.version] * size  # of θ, at the prediction
        self.finite = np.ones(size, np.bool_)
        self.is_labelled = [item.source.y is not None for item in items]
        self.is_event = np.array([isinstance(item.source, Event) for item in items])
        self.times = np.array([getattr(item.source, "ts", None) for item in items], np.float64)  # None becomes NaN
        waiting = [i for i, item in enumerate(items) if item.waits is not None]
        self.pending = [i for i in waiting if self.is_event[i]]  # events whose label is to come
        self.late = [i for i in waiting if not self.is_event[i]]  # labels of events before
        self.unkept: list[int] = []  # learned, but not yet in their task's window
        self.blends: dict[int, Blend] = {}  # where experts are asked one by one
        self.opinions: Doubles | None = None  # [N, K, C or 1] where they were asked of the whole run

    def until(self, begin: int) -> int:
        """How far events from ``begin`` on are predicted by numbers, and were so before their label came."""
        bad = np.flatnonzero(~self.finite[begin:])
        end = begin + int(bad[0]) if bad.size else len(self.items)
        late = (i for i in self.late if begin < i < end)
        return next((i for i in late if self.items[i].waits.mean is None), end)  # type: ignore[union-attr]

    def predict_late(self, begin: int, end: int) -> None:
        """Late labels are judged by what was predicted when their event came."""
        for i in self.late:
            waits = self.items[i].waits
            if begin <= i < end and waits is not None and waits.mean is not None:
                self.set_prediction(i, waits.mean, waits.variance)
                self.versions[i] = waits.theta_version

    def set_prediction(self, i: int, mean: Sequence[float] | Doubles, variance: float) -> None:
        """Event i has this prediction, which may know fewer classes than there are."""
        self.known[i], self.variances[i] = len(mean), variance
        self.means[i, : len(mean)] = mean

    def said(self, i: int) -> tuple[Doubles, float, int]:
        """The prediction of event i, and the version of θ."""
        return self.means[i, : self.known[i]], float(self.variances[i]), self.versions[i]

    def cases(self) -> Cases:
        """All events as experts see them."""
        late = {i for i in self.late if self.items[i].waits.parts is not None}  # type: ignore[union-attr]  # it is late
        return Cases(
            [item.task for item in self.items],
            self.seen.high,
            np.array([item.source.origin.partition for item in self.items], np.int64),
            np.where(self.is_kept, self.seen.labels, math.nan),
            np.array([i not in late for i in range(len(self.items))], np.bool_),
        )

    def case(self, i: int) -> Case:
        """Event i as experts see it."""
        item = self.items[i]
        return Case(item.row, item.task, self.seen.high[i], item.source.origin.partition)
