"""The demonstration: simulated streams of many tasks through the service's own loop, beside two plain models.

The simulator knows when each task's law changed; the report uses that, the learners do not see it.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from rich.table import Table
from river import compose, feature_extraction, linear_model, optim, preprocessing

from simulators import Sample, simulate
from streammeta.engine import Outcome
from streammeta.event import Origin, Record
from streammeta.report import AGES, AgeCurve, Figures

__all__ = ["Comparison", "Rival", "comparison_table", "rivals", "stream"]

STREAMMETA = "streammeta"
_TOPIC = "memory"


class Rival(NamedTuple):
    """A plain model to compare with: each event is first predicted, then learned from, as streammeta does."""

    name: str
    told: str  # what it is, in a sentence
    predict_then_learn: Callable[[Sample], object]


def stream(events: int, seed: int) -> Iterator[Sample]:
    """Tasks with laws of their own, some there from the start and others arriving, that switch without telling."""
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


def rivals() -> list[Rival]:
    """Logistic regressions on products of two features, in which these tasks' laws are nearly linear."""
    one, each = _logistic_regression(), defaultdict(_logistic_regression)
    return [
        Rival(
            "one model for all",
            "an online logistic regression on products of two features; it goes on learning, but knows no tasks",
            lambda sample: _predict_then_learn(one, sample),
        ),
        Rival(
            "one model a task",
            "the same, one for each task: a new task starts from nothing, and after a drift from its old law",
            lambda sample: _predict_then_learn(each[sample.task], sample),
        ),
    ]


@dataclass(slots=True)
class _Score:
    """How wrong one learner was."""

    told: str
    errors: int = 0
    by_age: AgeCurve = field(default_factory=AgeCurve)
    after_drift: AgeCurve = field(default_factory=AgeCurve)


class Comparison:
    """Has the rivals predict the very events that streammeta predicts, and scores all alike, by the simulator's truth.

    Args:
        samples: the stream.
        rivals: the other learners.
        seconds: end the stream after so long; None: with its last sample.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        samples: Iterable[Sample],
        rivals: Sequence[Rival],
        *,
        seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._samples, self._rivals, self._clock = samples, rivals, clock
        self._end = None if seconds is None else clock() + seconds
        self._on_the_way: dict[int, Sample] = {}
        self._seen: dict[str, int] = {}
        self._since_drift: dict[str, int] = {}
        told = "meta-learns what the tasks share, adapts to each with every event, detects drifts by itself"
        self._scores = {STREAMMETA: _Score(told), **{rival.name: _Score(rival.told) for rival in rivals}}
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
        """Score one step's outcomes, and let the rivals predict and learn the same events."""
        for outcome in outcomes:
            sample = self._on_the_way.pop(outcome.event.origin.offset)
            if sample.drifted:
                self.drifts += 1
                self._since_drift[sample.task] = 0
            self._add(STREAMMETA, sample, outcome.prediction)
            for rival in self._rivals:
                self._add(rival.name, sample, rival.predict_then_learn(sample))
            self.events += 1
            self._seen[sample.task] = self._seen.get(sample.task, 0) + 1
            if sample.task in self._since_drift:
                self._since_drift[sample.task] += 1

    def figures(self) -> Figures:
        """Error of every learner: in all, at a task's n-th label, at the n-th label after a true drift."""
        return {
            name: {
                "what": score.told,
                "error": score.errors / self.events if self.events else None,
                "error_by_age": score.by_age.means(),
                "error_after_true_drift": score.after_drift.means(),
            }
            for name, score in self._scores.items()
        }

    def _add(self, name: str, sample: Sample, predicted: object) -> None:
        error, score = predicted != sample.y, self._scores[name]
        score.errors += error
        score.by_age.add(self._seen.get(sample.task, 0), error)
        since = self._since_drift.get(sample.task)
        if since is not None:
            score.after_drift.add(since, error)


def comparison_table(figures: Figures, *, curve: str, title: str) -> Table:
    """Error of every learner along one of the two curves."""
    table = Table(title=title, title_justify="left")
    for name in ("mean error", "all", *AGES):
        table.add_column(name, justify="left" if name == "mean error" else "right")
    for name, score in figures.items():
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
