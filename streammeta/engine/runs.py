"""A run: events predicted, judged and learned in their order, while nothing that tasks share changes.

The learner takes a whole run in one call, each event predicted before its label is learned. Judging comes after, event
by event in the same order, and what it finds is put right at once: a task that drifted begins again after the event
with the signal, and what of it still lies ahead in the run is predicted again.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from streammeta.engine.buffer import push
from streammeta.engine.corrections import note_ids
from streammeta.engine.experts import Blend, Case, Cases, Columns, Mixture
from streammeta.engine.interval import Intervals
from streammeta.engine.judge import Judged, count_events, judge
from streammeta.engine.memory import Memory
from streammeta.engine.outcome import Outcome, Signal
from streammeta.engine.part import Part
from streammeta.engine.scale import Seen, learned_targets, units
from streammeta.engine.taskrow import forget_window
from streammeta.meta.base import Forget, Ints
from streammeta.native import _kernels as kernels

__all__ = ["Runs"]

Doubles: TypeAlias = npt.NDArray[np.float64]


class Runs:
    """Takes events through predict, judge, detect, adapt, remember.

    Args:
        memory: the learner, its experts and detectors, and the rows of tasks.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory, self._response = memory, memory.response
        self._keep_events = memory.settings.drift.keep_events
        self._phi = tuple(memory.method.phi_layout(1, 1))

    def go(self, part: Part, seen: Seen, outcomes: list[Outcome | None]) -> None:
        """Fill the outcomes of this part, under θ and the scale of now.

        A label of a class not seen before comes alone, and is judged here but not learned: see ``learn``.
        """
        memory = self._memory
        run, size = _Run(self._memory, part, seen), part.size
        if part.is_labelled[0] and math.isnan(run.labels[0]):  # of a class not seen before: it came alone
            run.labels[0] = memory.labels.outputs  # one beyond those that are known
        for row in run.repeated():
            run.saved[row] = (self._state(row), 0)
        self._predict(run, np.arange(size))
        if run.mixture:
            run.opinions = run.mixture.ask(memory.tasks.columns, run.cases(memory.tasks.columns), memory.labels.outputs)
            for i in run.pending:
                part.waits[i].context = run.known_at(i)
        begin = 0
        while begin < size:
            begin = self._go_on(run, begin, outcomes) if run.finite[begin] else self._refuse(run, begin, outcomes)
        self._remember(run)

    def _go_on(self, run: "_Run", begin: int, outcomes: list[Outcome | None]) -> int:
        """Judge events from ``begin`` on as far as nothing comes between them, and say where that ends.

        What comes between are a drift, a prediction that is no number, and the label of an event that is judged here;
        with a response that looks at labels, or experts that are asked one by one, every event.
        """
        memory = self._memory
        columns, opinions = memory.tasks.columns, run.opinions
        one_by_one = run.mixture if opinions is None else None
        end = begin + 1 if one_by_one or self._response.looks_at_labels else run.until(begin)
        if one_by_one:
            blend = run.blends[begin] = self._blend(one_by_one, run, begin)
            run.set_prediction(begin, blend.mean, blend.variance)
        if run.mixture and opinions is not None:
            found, drifted = self._judge_mixed(run.mixture, opinions, run, begin, end)
        else:
            found, drifted = self._judge(run, begin, end)
        end = end if drifted is None else drifted + 1
        these, part = slice(begin, end), run.part
        age, since = count_events(
            columns, run.rows[these], part.is_event[these], part.times[these], found.error[: end - begin]
        )
        if run.pending:
            run.keep_predictions(begin, end)
        if drifted is not None:
            self._count_drift(int(run.rows[drifted]))
        self._write(run, begin, end, found, age, since, drifted, outcomes)
        run.unkept += (begin + np.flatnonzero(run.is_kept[these])).tolist()
        if not run.is_kept[end - 1]:
            return end
        if one_by_one:
            self._teach_experts(one_by_one, run, begin)
        if drifted is not None:
            self._begin_again(run, drifted, self._response.forgets, self._keep_events)
        elif self._response.looks_at_labels:
            at = part.places[end - 1]
            outcomes[at] = self._look_back(run, begin, outcomes[at])  # type: ignore[arg-type]
        return end

    def _judge_mixed(
        self, mixture: Mixture, opinions: Doubles, run: "_Run", begin: int, end: int
    ) -> tuple[Judged, int | None]:
        """As ``_judge``, with what the experts said of the run mixed in."""
        columns, rows = self._memory.tasks.columns, run.rows[begin:end]
        evidence = mixture.evidence(columns, rows) if end > begin + 1 else None
        self._mix(mixture, opinions, run, begin, end)
        found, drifted = self._judge(run, begin, end)
        if evidence and drifted is not None and drifted + 1 < end:  # what comes after it is predicted again
            mixture.put_back(columns, rows, evidence)
            self._mix(mixture, opinions, run, begin, drifted + 1)
            run.predict_late(begin, drifted + 1)
        return found, drifted

    def _judge(self, run: "_Run", begin: int, end: int) -> tuple[Judged, int | None]:
        """Judge these events, and let the detectors see their labels; with which of them a drift came first."""
        memory = self._memory
        run.predict_late(begin, end)
        part = slice(begin, end)
        found = judge(
            *(run.means[part], run.known[part], run.variances[part], run.spread[part], run.labels[part]),
            classify=memory.labels.classify,
            binary=memory.detectors.binary,
        )
        drifted = memory.detectors.watch_all(run.rows[part].tolist(), found.watched.tolist())
        return found, None if drifted is None else begin + drifted

    def _mix(self, mixture: Mixture, opinions: Doubles, run: "_Run", begin: int, end: int) -> None:
        """Mix the learner's predictions of these events with the experts' opinions, each under the labels before it."""
        part = slice(begin, end)
        known = mixture.no_labels(run.part.partitions[part], self._memory.labels.outputs)
        known.labels[:] = run.measured[part]
        for i in run.late:
            waits = run.part.waits[i]
            if begin <= i < end and waits.mean is not None and waits.parts is not None:
                known.given[i - begin], known.classes[i - begin] = True, waits.parts.shape[1]
                known.parts[i - begin, :, : waits.parts.shape[1]] = waits.parts
        columns, own = self._memory.tasks.columns, (run.own_means[part], run.own_variances[part])
        run.means[part], run.variances[part] = mixture.blend_run(columns, run.rows[part], *own, opinions[part], known)
        for i in run.pending:
            if begin <= i < end:
                run.part.waits[i].parts = known.parts[i - begin].copy()

    def _bound(self, intervals: Intervals, run: "_Run", begin: int, end: int) -> None:
        """The intervals of these events, each under the labels before it, which are learned in turn."""
        part, waits = slice(begin, end), {i: one for i, one in run.part.waits.items() if begin <= i < end}
        for i, one in waits.items():
            if one.interval is not None:
                run.bounds[i] = one.interval
        partitions = run.part.partitions[part].tolist()
        predicted = run.means[part, 0], run.variances[part]
        columns = self._memory.tasks.columns
        intervals.run(columns, run.rows[part], partitions, predicted, run.labels[part], run.bounds[part])
        for i, one in waits.items():
            lower, upper, before = run.bounds[i].tolist()
            one.interval = None if math.isnan(lower) else (lower, upper, before)

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
        """The outcomes of events judged, and what meta-updates and the response observe of them."""
        memory = self._memory
        if memory.intervals:
            self._bound(memory.intervals, run, begin, end)
        part, these, labelled = run.part, slice(begin, end), run.part.is_labelled[begin:end]
        part.ages[these] = np.where(labelled, age, -1)
        part.losses[these], part.errors[these] = found.own_loss[: end - begin], found.own_error[: end - begin]
        count, known = end - begin, run.known[these]
        signals = [Signal.NEW_TASK if is_new else Signal.STEADY for is_new in part.is_new_task[these].tolist()]
        if drifted is not None:
            signals[drifted - begin] = Signal.DRIFT
        judged = run.means[these], known, known if found.best is None else found.best[:count], run.variances[these]
        scored = found.loss[:count], found.error[:count], run.versions[these], age, since, labelled
        kernels.write_outcomes(
            *(Outcome, part.sources, part.places, begin, memory.labels.classify, memory.labels.classes),
            *((*judged, *scored), signals, run.bounds[these], outcomes),
        )
        if self._response.looks_at_labels and labelled[0]:  # then there is one event
            unit = run.spread[begin]
            own = None if memory.labels.classify else float(run.variances[begin] / (unit * unit))
            self._response.observe_loss(memory.tasks.columns, int(run.rows[begin]), float(found.own_loss[0]), own)

    def learn(self, part: Part, seen: Seen) -> None:
        """Learn one event that ``go`` has judged while its class was not known yet; now ``seen`` has the label."""
        run = _Run(self._memory, part, seen)
        self._predict(run, np.arange(1))
        run.unkept.append(0)
        self._remember(run)
        if run.mixture and not math.isnan(run.y[0]):
            columns, outputs, waits = self._memory.tasks.columns, self._memory.labels.outputs, part.waits.get(0)
            known = None if waits is None or waits.parts is None else np.array(waits.context or (-1, -1), np.int64)
            case = run.case(0, columns)._replace(context=known)
            run.mixture.learn_unexpected(columns, case, float(seen.labels[0]), outputs)

    def _blend(self, mixture: Mixture, run: "_Run", i: int) -> Blend:
        """The learner's prediction of event i with those of the experts; of a late label what was predicted before."""
        waits = run.part.waits.get(i)
        if waits is not None and waits.mean is not None and waits.parts is not None:
            run.context[i] = waits.context or -1
            return Blend(waits.mean.tolist(), waits.variance, waits.parts)
        columns = self._memory.tasks.columns
        blend = mixture.blend(columns, run.case(i, columns), run.means[i].tolist(), float(run.variances[i]))
        if waits is not None:
            waits.parts, waits.context = blend.parts, run.known_at(i)
        return blend

    def _teach_experts(self, mixture: Mixture, run: "_Run", i: int) -> None:
        """Let the experts learn event i, which is in its task's window by then."""
        memory = self._memory
        self._remember(run)
        if not math.isnan(run.y[i]):  # else it was cut off, and is no measurement
            columns, label = memory.tasks.columns, float(run.seen.labels[i])
            mixture.learn(columns, run.case(i, columns), run.blends[i].parts, label, memory.labels.outputs)

    def _predict(self, run: "_Run", which: Ints) -> None:
        """Predict these events of a run and learn their labels, in this order."""
        memory = self._memory
        columns, rows = memory.tasks.columns, run.rows[which]
        found = memory.method.run(run.weights, columns, rows, run.seen.x[which], run.y[which], memory.labels.outputs)
        mean, variance = found.mean.astype(np.float64), found.variance.astype(np.float64)
        if not memory.labels.classify:
            spread = run.spread[which]
            mean, variance = run.shift[which, None] + spread[:, None] * mean, spread * spread * variance
        run.means[which], run.variances[which] = run.own_means[which], run.own_variances[which] = mean, variance
        run.finite[which] = np.isfinite(mean).all(axis=1) & np.isfinite(variance)

    def _look_back(self, run: "_Run", i: int, outcome: Outcome) -> Outcome:
        """Ask the response to drifts about event i's label, which signalled none, and do what follows of it."""
        self._remember(run)
        memory, rows = self._memory, run.rows[i : i + 1]
        columns, row, outputs = memory.tasks.columns, int(rows[0]), memory.labels.outputs
        since = self._response.look_back(run.shared, columns, row, outputs)
        if since is None:
            return outcome
        if since:
            columns.start_concept(row, since)
            memory.detectors.reset(row)
            self._count_drift(row)
            outcome = replace(outcome, signal=Signal.DRIFT)
        later = self._rewind(run, i)
        self._response.derive(run.shared, columns, rows, outputs)
        self._predict_again(run, i, later)
        return outcome

    def _begin_again(self, run: "_Run", i: int, forgets: Forget, keep: int) -> None:
        """The concept of event i's task changed: forget so much, but for the last ``keep`` labels."""
        self._remember(run)
        memory, rows = self._memory, run.rows[i : i + 1]
        columns, row, outputs = memory.tasks.columns, int(rows[0]), memory.labels.outputs
        keep = self._response.end(run.shared, columns, row, keep, outputs)
        if forgets is Forget.ALL:
            forget_window(columns, row)
            keep = 0
        columns.start_concept(row, keep)
        later = self._rewind(run, i)
        memory.method.restart(run.weights, columns, rows, forgets)
        self._response.restarted(run.shared, columns, rows, keep, outputs)
        self._predict_again(run, i, later)
        memory.detectors.reset(row)

    def _rewind(self, run: "_Run", i: int) -> Ints:
        """Bring φ of event i's task back to what it was after that event; its later events in the run."""
        memory, row = self._memory, int(run.rows[i])
        columns, places = memory.tasks.columns, np.flatnonzero(run.rows == row)
        later = places[places > i]
        if later.size:
            state, start = run.saved[row]
            for name, value in state.items():
                columns[name][row] = value
            again = places[(start <= places) & (places <= i)]
            x, y = run.seen.x[again], run.y[again]
            memory.method.run(run.weights, columns, run.rows[again], x, y, memory.labels.outputs)
        return later

    def _predict_again(self, run: "_Run", i: int, later: Ints) -> None:
        """Predict these events again, under the φ that their task has after event i."""
        if later.size:
            row = int(run.rows[i])
            run.saved[row] = (self._state(row), i + 1)
            self._predict(run, later)

    def _state(self, row: int) -> dict[str, npt.NDArray[Any]]:
        """A copy of one task's φ."""
        return {name: self._memory.tasks.columns[name][row].copy() for name in self._phi}

    def _remember(self, run: "_Run") -> None:
        """Put what was learned into the windows of the tasks."""
        memory = self._memory
        if run.unkept:
            seen, which = run.seen, run.unkept
            if "window_id" in memory.tasks.columns:
                note_ids(memory.tasks.columns, run.rows[which], [run.part.sources[i].id for i in which])
            push(memory.tasks.columns, run.rows[which], seen.high[which], seen.low[which], seen.labels[which])
            memory.counts.labelled += len(run.unkept)
            run.unkept = []

    def _refuse(self, run: "_Run", i: int, outcomes: list[Outcome | None]) -> int:
        """A prediction that is not a number: its task starts again, so that one bad state does not last."""
        memory = self._memory
        memory.counts.refused += 1
        memory.counts.resets += 1
        source = run.part.sources[i]
        said = f"{source.origin}: the prediction is not a finite number; its task starts again"
        outcomes[run.part.places[i]] = Outcome(source, rejected=said)
        run.y[i], run.measured[i], run.is_kept[i] = math.nan, math.nan, False
        self._begin_again(run, i, Forget.ALL, 0)
        return i + 1

    def _count_drift(self, row: int) -> None:
        memory = self._memory
        memory.counts.drifts += 1
        memory.tasks.columns.record_drift(row)


class _Run:
    """What is known of a run's events while it goes on."""

    def __init__(self, memory: Memory, part: Part, seen: Seen) -> None:
        size, shared, outputs = part.size, memory.fixed, memory.labels.outputs
        self.shared, self.weights, self.part, self.seen = shared, shared.weights, part, seen
        self.rows, self.y, self.labels = seen.rows, learned_targets(shared.frame, seen.y), seen.labels.copy()
        self.is_kept = ~np.isnan(seen.labels)  # a label that is known, whose event goes into the window
        # the labels [N] that experts learn: not those that were cut off, which measure nothing
        self.measured = np.where(np.isnan(self.y), math.nan, seen.labels)
        self.shift, self.spread = np.zeros(size), np.ones(size)  # [N] of each event's task's target
        if not memory.labels.classify:
            self.shift, self.spread = units(shared.frame, memory.tasks.columns.scale_y[seen.rows])
        self.saved: dict[int, tuple[dict[str, npt.NDArray[Any]], int]] = {}  # φ as it was before this event of the run
        self.means, self.variances = np.zeros((size, outputs)), np.zeros(size)  # as the outcomes say them
        self.own_means, self.own_variances = self.means.copy(), self.variances.copy()  # the learner's, without experts
        self.known = np.full(size, outputs, np.int64)  # how many outputs each prediction has
        self.versions = np.full(size, shared.version)  # of θ, at the prediction
        self.finite = np.ones(size, np.bool_)
        self.pending = [i for i in part.waits if part.is_event[i]]  # events whose label is to come
        self.late = [i for i in part.waits if not part.is_event[i]]  # labels of events before
        self.unkept: list[int] = []  # learned, but not yet in their task's window
        mixture = memory.mixture
        self.mixture = mixture if mixture and outputs > mixture.sleeps_up_to else None  # where it takes part
        self.bounds = np.full(
            (size if memory.intervals else 0, 3), math.nan
        )  # of intervals, as ``Intervals.run`` has them
        self.blends: dict[int, Blend] = {}  # where experts are asked one by one
        self.opinions: Doubles | None = None  # [N, K, C or 1] where they were asked of the whole run
        self.context = np.full((size, 2), -1)  # what an expert knew of the task when the event was predicted

    def repeated(self) -> list[int]:
        """The rows of tasks that have several events in the run."""
        if self.rows.size < 2:
            return []
        rows = np.sort(self.rows)
        found: list[int] = np.unique(rows[1:][rows[1:] == rows[:-1]]).tolist()
        return found

    def until(self, begin: int) -> int:
        """How far events from ``begin`` on are predicted by numbers, and were so before their label came."""
        bad = np.flatnonzero(~self.finite[begin:])
        end = begin + int(bad[0]) if bad.size else self.part.size
        late = (i for i in self.late if begin < i < end)
        return next((i for i in late if self.part.waits[i].mean is None), end)

    def predict_late(self, begin: int, end: int) -> None:
        """Late labels are judged by what was predicted when their event came."""
        for i in self.late:
            waits = self.part.waits[i]
            if begin <= i < end and waits.mean is not None:
                self.set_prediction(i, waits.mean, waits.variance)
                self.versions[i] = waits.theta_version

    def set_prediction(self, i: int, mean: Sequence[float] | Doubles, variance: float) -> None:
        """Event i has this prediction, which may know fewer classes than there are."""
        self.known[i], self.variances[i] = len(mean), variance
        self.means[i, : len(mean)] = mean

    def keep_predictions(self, begin: int, end: int) -> None:
        """Events of these whose label is to come keep their prediction, to be judged by it."""
        which = [i for i in self.pending if begin <= i < end]
        if not which:
            return
        known, said = self.known[which].tolist(), (self.variances[which].tolist(), self.versions[which].tolist())
        for i, mean, count, variance, version in zip(which, self.means[which].tolist(), known, *said, strict=True):
            self.part.waits[i].predict(mean[:count], variance, version)

    def cases(self, columns: Columns) -> Cases:
        """All events as experts see them."""
        common = self.seen.common(columns, self.shared.frame)
        late = [i for i in self.late if self.part.waits[i].parts is not None]
        asked, events = np.ones(self.part.size, np.bool_), np.arange(self.part.size)
        asked[late] = False
        for i in late:
            self.context[i] = self.part.waits[i].context or -1
        pending = {id(self.part.waits[i]): i for i in self.pending}
        for i in self.late if pending else ():
            events[i] = pending.get(id(self.part.waits[i]), i)
        return Cases(
            self.part.tasks,
            common.x,
            self.part.partitions,
            self.measured,
            asked,
            common.shift,
            common.spread,
            self.rows,
            events,
            self.context,
            self.part.values,
        )

    def known_at(self, i: int) -> tuple[int, int] | None:
        """The context of event i, if it has one."""
        last, run = self.context[i].tolist()
        return None if last < 0 else (last, run)

    def case(self, i: int, columns: Columns) -> Case:
        """Event i as experts see it."""
        task, partition, seen = self.part.tasks[i], int(self.part.partitions[i]), self.seen.cut(i, i + 1)
        known = self.context[i], self.part.values[i]
        return Memory.case(self.shared.frame, columns, seen, task, partition, None, *known)
