"""The demonstration: simulated streams of many tasks through the service's own loop, beside two plain models.

The simulator knows when each task's concept changed; the report uses that, the learners do not see it.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from river import compose, feature_extraction, linear_model, optim, preprocessing

from streammeta.app.replay import Monitor, replay
from streammeta.config import Settings
from streammeta.engine import Outcome
from streammeta.event import Origin, Record
from streammeta.report import AGES, AgeCurve, Figures, Tally
from streammeta.service.http import Health
from streammeta.service.metrics import Metrics
from streammeta.service.result import CHANNELS
from streammeta.service.turn import Observe
from streammeta.simulators import Sample, simulate
from streammeta.transport.memory import MemorySink, MemorySource

__all__ = ["Baseline", "Comparison", "baselines", "lines", "run", "stream", "tables"]

STREAMMETA = "streammeta"
_TOPIC = "memory"
_WHEN = ", second half of the stream"


class Baseline(NamedTuple):
    """A plain model to compare with: each event is first predicted, then learned from, as streammeta does."""

    name: str
    description: str  # what it is, in a sentence
    predict_then_learn: Callable[[Sample], object]


def stream(events: int, seed: int) -> Iterator[Sample]:
    """Tasks with concepts of their own, some there from the start and others arriving, that switch without notice."""
    arriving = max(1, events // 200)
    return simulate(
        "shared-representation",
        events=events,
        seed=seed,
        tasks=20 + arriving,
        start_tasks=20,
        new_task_every=200,
        concept_events=120,
    )


def baselines() -> list[Baseline]:
    """Logistic regressions on products of two features, in which these tasks' concepts are nearly linear."""
    one: Any = _logistic_regression()
    each: defaultdict[str, Any] = defaultdict(_logistic_regression)
    return [
        Baseline(
            "one model for all",
            "an online logistic regression on products of two features; it goes on learning, but knows no tasks",
            lambda sample: _predict_then_learn(one, sample),
        ),
        Baseline(
            "one model a task",
            "the same, one for each task: a new task starts from nothing, and after a drift from its old concept",
            lambda sample: _predict_then_learn(each[sample.task], sample),
        ),
    ]


@dataclass(slots=True)
class _Score:
    """How wrong one learner was."""

    description: str
    errors: int = 0
    by_age: AgeCurve = field(default_factory=AgeCurve)
    after_drift: AgeCurve = field(default_factory=AgeCurve)


class Comparison:
    """The baselines predict the same events as streammeta, and all are scored alike, by the simulator's truth.

    Args:
        samples: the stream.
        baselines: the other learners.
        warm_up: events before the curves over labels begin; all learners learn from the first event on.
        seconds: end the stream after so long; None: with its last sample.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        samples: Iterable[Sample],
        baselines: Sequence[Baseline],
        *,
        warm_up: int = 0,
        seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._samples, self._baselines, self._warm_up, self._clock = samples, baselines, warm_up, clock
        self._end = None if seconds is None else clock() + seconds
        self._on_the_way: dict[int, Sample] = {}
        self._seen: dict[str, int] = {}
        self._since_drift: dict[str, int] = {}
        description = "meta-learns what the tasks share, adapts to each with every event, detects drifts by itself"
        self._scores = {
            STREAMMETA: _Score(description),
            **{baseline.name: _Score(baseline.description) for baseline in baselines},
        }
        self.events = 0
        self.drifts = 0  # true ones

    def records(self) -> Iterator[Record]:
        """The stream as a topic of one partition; each sample is kept until its outcome was observed."""
        for offset, sample in enumerate(self._samples):
            if self._end is not None and self._clock() > self._end:
                return
            self._on_the_way[offset] = sample
            yield Record(sample.to_json(), Origin(_TOPIC, 0, offset), sample.task.encode(), timestamp=sample.ts)

    def observe(self, outcomes: Sequence[Outcome], rejected: int) -> None:  # noqa: ARG002 simulated records are sound
        """Score one step's outcomes, and let the baselines predict and learn the same events."""
        for outcome in outcomes:
            sample = self._on_the_way.pop(outcome.event.origin.offset)
            if sample.drifted:
                self.drifts += 1
                self._since_drift[sample.task] = 0
            self._add(STREAMMETA, sample, outcome.prediction)
            for baseline in self._baselines:
                self._add(baseline.name, sample, baseline.predict_then_learn(sample))
            self.events += 1
            self._seen[sample.task] = self._seen.get(sample.task, 0) + 1
            if sample.task in self._since_drift:
                self._since_drift[sample.task] += 1

    def figures(self) -> Figures:
        """Error of every learner: in all, and after the warm-up by labels since a task or its concept began."""
        return {
            name: {
                "what": score.description,
                "error": score.errors / self.events if self.events else None,
                "error_by_age": score.by_age.means(),
                "error_after_true_drift": score.after_drift.means(),
            }
            for name, score in self._scores.items()
        }

    def _add(self, name: str, sample: Sample, predicted: object) -> None:
        error, score = predicted != sample.y, self._scores[name]
        score.errors += error
        if self.events < self._warm_up:
            return
        score.by_age.add(self._seen.get(sample.task, 0), error)
        since = self._since_drift.get(sample.task)
        if since is not None:
            score.after_drift.add(since, error)


def run(
    settings: Settings,
    comparison: Comparison,
    tally: Tally,
    *,
    observers: Sequence[Observe],
    stop: threading.Event,
    metrics: Metrics,
    health: Health,
) -> Figures:
    """Replay the comparison's stream from memory; the report says how each learner did, and what was published."""
    source, sink = MemorySource(comparison.records(), topic=_TOPIC, forget_committed=True), MemorySink()
    watched = [comparison.observe, *observers]
    figures = replay(settings, source, sink, tally, observers=watched, stop=stop, monitor=Monitor(metrics, health))
    return {
        **figures,
        "true_drifts": comparison.drifts,
        "published": {channel: len(sink[channel]) for channel in CHANNELS},
        "learners": comparison.figures(),
    }


def tables(figures: Figures) -> RenderableType:
    """The learners' errors, for a terminal."""
    learners = figures["learners"]
    return Group(
        _curve(learners, "error_by_age", f"Error at a task's n-th label{_WHEN}"),
        _curve(learners, "error_after_true_drift", f"Error at the n-th label after a task's concept changed{_WHEN}"),
        *(f"{name}: {score['what']}" for name, score in learners.items()),
    )


def lines(figures: Figures) -> Iterator[str]:
    """The learners' errors, as plain lines."""
    for name, score in figures["learners"].items():
        yield f"{name} ({score['what']})"
        yield f"  error in all: {score['error']:.1%}"
        yield f"  error at a task's n-th label{_WHEN}: {_shown(score['error_by_age'])}"
        yield f"  error at the n-th label after a concept change{_WHEN}: {_shown(score['error_after_true_drift'])}"


def _shown(curve: Mapping[str, float | None]) -> str:
    return ", ".join(f"{age}: {mean:.1%}" for age, mean in curve.items() if mean is not None)


def _curve(learners: Figures, curve: str, title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for name in ("mean error", "all", *AGES):
        table.add_column(name, justify="left" if name == "mean error" else "right")
    for name, score in learners.items():
        means = [score["error"], *(score[curve][age] for age in AGES)]
        table.add_row(name, *("-" if mean is None else f"{mean:.1%}" for mean in means))
    return table


def _logistic_regression() -> Any:  # noqa: ANN401 River is not typed
    return compose.Pipeline(
        feature_extraction.PolynomialExtender(degree=2),
        preprocessing.StandardScaler(),
        linear_model.LogisticRegression(optimizer=optim.SGD(0.1)),
    )


def _predict_then_learn(model: Any, sample: Sample) -> object:  # noqa: ANN401 River is not typed
    predicted: object = model.predict_one(sample.x)
    model.learn_one(sample.x, sample.y)
    return predicted
