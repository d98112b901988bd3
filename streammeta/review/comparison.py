"""A run as seen from outside: streammeta's own outcomes, baselines on the same events, and the truth where it is known.

An observer of the service's loop. It lets every baseline take what the service took, scores all alike, and holds the
signalled drifts against the true ones.
"""

import hashlib
import time
from array import array
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan
from statistics import median
from typing import Any, Final, NamedTuple

from streammeta.engine import Outcome, Signal
from streammeta.engine.outcome import WEIGHT_OF
from streammeta.event import Event, Label
from streammeta.report import Figures, Tally, resident_bytes
from streammeta.review.baseline import Baseline
from streammeta.review.guesses import Guess, Guesses
from streammeta.review.trace import Trace, encode_errors

__all__ = ["STREAMMETA", "Comparison", "Detection"]

STREAMMETA: Final = "streammeta"
_DESCRIPTION = "meta-learns what tasks share, adapts to each with every event, detects drifts by itself"
_FOUND_WITHIN = 100  # events of a task after its concept changed in which a signal counts as finding that
_MOST_MARKS = 2_000  # drifts whose places are kept
_SAMPLE_EVENTS = 512  # between two looks at time and memory
_MOST_SAMPLES = 400
_MOST_TASKS = 1_000  # in the list of the worst
_FEW_LABELS = 10  # a task with fewer is listed after the others: its error says little
_MOST_TIMES = 200  # places at which the time is kept
_EPOCH = 1e8  # seconds; a time stamp below it is no date


@dataclass(slots=True)
class _Task:
    """What is known of one task."""

    events: int = 0
    since: int | None = None  # events since its concept truly changed; None: it never did
    changes: int = 0
    waits: bool = False  # for the last change to be found
    labels: int = 0
    errors: float = 0.0  # their sum
    drifts: int = 0  # signalled


class _Place(NamedTuple):
    """Where an event stands in its task."""

    age: int  # events of the task before it
    since: int | None  # of them, since its concept truly changed
    changes: int  # of its concept until then
    guess: Guess


class _Sample(NamedTuple):
    """How things stood at one moment."""

    labels: int
    events: int
    seconds: float  # of streammeta's own, so far
    resident_bytes: int
    learner: Mapping[str, list[float]]


@dataclass(slots=True)
class Detection:
    """Signals against true changes of concept."""

    true: int = 0
    false_alarms: int = 0
    missed: int = 0
    delays: list[int] = field(default_factory=list)  # events of the task from each change to its signal

    def figures(self, labels: int) -> Figures:
        """Ready for JSON; changes too near the end to be found or missed are undecided."""
        judged = len(self.delays) + self.missed
        return {
            "true_drifts": self.true,
            "found": len(self.delays),
            "missed": self.missed,
            "undecided": self.true - judged,
            "found_share": len(self.delays) / judged if judged else None,
            "median_delay": float(median(self.delays)) if self.delays else None,
            "false_alarms": self.false_alarms,
            "false_alarms_per_1000_labels": 1000 * self.false_alarms / labels if labels else None,
            "found_within_events": _FOUND_WITHIN,
            "delays": {str(delay): self.delays.count(delay) for delay in sorted(set(self.delays))},
        }


class Comparison:
    """Watches a run, and has baselines run along.

    Args:
        tally: streammeta's own figures; the service feeds it before this observer.
        baselines: the others.
        drifted: numbers of the events, from 0, with which a task's concept truly changed; None where unknown. It may
            grow while the run goes on, ahead of the events.
        look: what streammeta's learner reports of itself, now and then.
        clock: seconds.
    """

    def __init__(
        self,
        tally: Tally,
        baselines: Sequence[Baseline] = (),
        *,
        drifted: Container[int] | None = None,
        look: Callable[[], Mapping[str, list[float]]] = dict,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._baselines, self._drifted, self._look, self._clock = list(baselines), drifted, look, clock
        self._own = Trace(STREAMMETA, _DESCRIPTION, tally, fed=True)
        self._traces = [Trace(baseline.name, baseline.description, Tally(tally.kind)) for baseline in baselines]
        self._tasks: dict[str, _Task] = {}
        self._asked: dict[str, _Place] = {}  # by id, of events whose label has not come
        self._digest, self._labels, self._events = hashlib.sha256(), 0, 0
        self._memory: dict[str, int | None] = {}  # of baselines, when the figures are made
        self._marks: dict[str, array[int]] = {"true": array("q"), "signalled": array("q")}  # as labels seen by then
        self.detection = Detection()
        self._guesses = Guesses(tally.kind)
        self._times, self._now, self._in_time = array("d"), _EPOCH, True  # of each label; whether all go forward
        self._samples: list[_Sample] = []
        self._sample_at, self._sample_every = 0, _SAMPLE_EVENTS
        self._resumed = clock()

    @property
    def traces(self) -> list[Trace]:
        """streammeta's, then the baselines'."""
        return [self._own, *self._traces]

    def observe(self, outcomes: Sequence[Outcome], rejected: int) -> None:  # noqa: ARG002 the tally has counted them
        """Score one step's outcomes, and let the baselines take the same events."""
        self._own.seconds += self._clock() - self._resumed
        events = [outcome.event for outcome in outcomes]
        places = [self._place(outcome) for outcome in outcomes]
        ages, since = [place.age for place in places], [place.since for place in places]
        self._own.add(outcomes, ages, since)
        for baseline, trace in zip(self._baselines, self._traces, strict=True):
            if trace.failed is None:
                self._run(baseline, trace, events, ages, since)
        self._sample()
        self._resumed = self._clock()

    def figures(self) -> Figures:
        """Every learner's figures, and what was seen along the way."""
        for baseline, trace in zip(self._baselines, self._traces, strict=True):
            if trace.failed is None:
                self._memory[trace.name] = baseline.memory_bytes()
        learners = {trace.name: trace.figures() for trace in self.traces}
        for name, size in self._memory.items():
            learners[name]["memory_bytes"] = size
        return {
            "learners": learners,
            "labels_seen": {"count": self._labels, "sha256": self._digest.hexdigest()},
            "drift_marks": {name: list(marks[:_MOST_MARKS]) for name, marks in self._marks.items()},
            **({} if self._drifted is None else {"detection": self.detection.figures(self._labels)}),
            "guesses": {
                name: {"error": _mean(errors), "errors": encode_errors(errors, self._own.tally.kind)}
                for name, errors in self._guesses.errors.items()
            },
            "who_decides": self._who_decides(),
            "worst_tasks": self._worst_tasks(),
            "label_times": self._label_times(),
            "progress": {
                "labels": [sample.labels for sample in self._samples],
                "events": [sample.events for sample in self._samples],
                "seconds": [round(sample.seconds, 4) for sample in self._samples],
                "resident_bytes": [sample.resident_bytes for sample in self._samples],
                "learner": {
                    name: [sample.learner.get(name) for sample in self._samples]
                    for name in (self._samples[-1].learner if self._samples else {})
                },
            },
        }

    def _who_decides(self) -> Figures:
        """The weight of each part of the mixture, over the run and at its end, the heaviest first."""
        found = {
            name.removeprefix(WEIGHT_OF): [s.learner[name][0] for s in self._samples if name in s.learner]
            for name in (self._samples[-1].learner if self._samples else {})
            if name.startswith(WEIGHT_OF)
        }
        means = {part: sum(weights) / len(weights) for part, weights in found.items()}
        return {part: {"mean": means[part], "last": found[part][-1]} for part in sorted(means, key=lambda p: -means[p])}

    def _worst_tasks(self) -> list[Figures]:
        """Tasks with labels, by their error, the worst first; those with few labels last."""
        known = [(tag, task) for tag, task in self._tasks.items() if task.labels]
        known.sort(key=lambda one: (one[1].labels < _FEW_LABELS, -one[1].errors / one[1].labels))
        return [
            {
                "task": tag,
                "events": task.events,
                "labels": task.labels,
                "error": task.errors / task.labels,
                "drifts": task.drifts,
            }
            for tag, task in known[:_MOST_TASKS]
        ]

    def _label_times(self) -> Figures | None:
        """When labels counted, at some of them; None where events have no time, or do not come in its order."""
        if not self._in_time or not self._times:
            return None
        last = len(self._times) - 1
        at = sorted({round(i * last / _MOST_TIMES) for i in range(_MOST_TIMES + 1)})
        return {"labels": [i + 1 for i in at], "seconds": [self._times[i] for i in at]}

    def _run(
        self,
        baseline: Baseline,
        trace: Trace,
        events: Sequence[Event | Label],
        ages: Sequence[int],
        since: Sequence[Any],
    ) -> None:
        begun = self._clock()
        try:
            outcomes = baseline.take(events)
        except Exception as err:  # anything may go wrong in a model of somebody else; the run goes on
            trace.failed = f"after {trace.events:,} events: {type(err).__name__}: {err}"
            return
        trace.seconds += self._clock() - begun
        trace.add(outcomes, ages, since)

    def _place(self, outcome: Outcome) -> _Place:
        """Where the event stands in its task; a late label stands where its event stood."""
        event = outcome.event
        task = self._tasks.setdefault(event.task, _Task())
        if isinstance(event, Event):
            if self._drifted is not None and self._events in self._drifted:
                self._change(task)
            self._events += 1
            self._in_time &= event.ts is not None and event.ts >= self._now
            self._now = self._now if event.ts is None else event.ts
            place = _Place(task.events, task.since, task.changes, self._guesses.now(event.task))
            task.events += 1
            task.since = None if task.since is None else task.since + 1
            if event.y is None:
                if event.id is not None:
                    self._asked[event.id] = place
                return place
        else:
            now = _Place(task.events, task.since, task.changes, self._guesses.now(event.task))
            place = self._asked.pop(event.id, now)
        self._judge(task, place, signalled=outcome.signal is Signal.DRIFT)
        self._count(task, outcome, place)
        self._digest.update(f"{event.task}\x1f{event.y}\x1e".encode())
        self._labels += 1
        return place

    def _count(self, task: _Task, outcome: Outcome, place: _Place) -> None:
        """Take in a label: for its task, for the guesses, and when it came."""
        y = outcome.event.y
        if y is None:
            return
        task.labels += 1
        task.errors += 0.0 if outcome.error is None else outcome.error
        task.drifts += outcome.signal is Signal.DRIFT
        self._guesses.judge(outcome.event.task, y, place.guess)
        if self._in_time:
            self._times.append(self._now)

    def _change(self, task: _Task) -> None:
        self.detection.true += 1
        self.detection.missed += task.waits
        self._marks["true"].append(self._labels)
        task.since, task.waits = 0, True
        task.changes += 1

    def _judge(self, task: _Task, place: _Place, *, signalled: bool) -> None:
        """Does a signal, or the lack of one, decide about the last change? Late labels of the old concept do not."""
        under_new_concept = place.since is not None and place.changes == task.changes
        if task.waits and under_new_concept and (place.since or 0) >= _FOUND_WITHIN:
            self.detection.missed += 1
            task.waits = False
        if not signalled:
            return
        self._marks["signalled"].append(self._labels)
        if task.waits and under_new_concept:
            self.detection.delays.append((place.since or 0) + 1)
            task.waits = False
        else:
            self.detection.false_alarms += 1

    def _sample(self) -> None:
        if self._own.events < self._sample_at:
            return
        self._sample_at = self._own.events + self._sample_every
        self._samples.append(_Sample(self._labels, self._own.events, self._own.seconds, resident_bytes(), self._look()))
        if len(self._samples) >= _MOST_SAMPLES:
            self._samples = self._samples[::2]
            self._sample_every *= 2


def _mean(errors: Sequence[float]) -> float | None:
    known = [error for error in errors if not isnan(error)]
    return sum(known) / len(known) if known else None
