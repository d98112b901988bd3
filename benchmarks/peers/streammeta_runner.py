"""Runs streammeta as a user would: the engine, one event at a time, with the task as its tag."""

import math
from importlib.metadata import version

import numpy as np
import torch

from benchmarks.peers.prequential import Job, Learner, Prediction, Row, Rows, runner
from streammeta.engine import Engine, EngineSettings
from streammeta.event import Event, Feature, Label, Origin

__all__ = ["make"]


class _Streammeta:
    def __init__(self, job: Job, rows: Rows) -> None:
        settings = EngineSettings.model_validate({"kind": job.kind, "seed": job.seed, **job.overrides})
        self._engine = Engine(settings)
        self._names, self._categories = rows.names, rows.categories
        self.sureness: Prediction = None  # the probability of the class predicted, or the target's standard deviation
        self._number = int if job.kind == "classification" else float

    def event(self, row: Row, *, labelled: bool) -> Prediction:
        event = Event(
            self._features(row),
            row.task,
            Origin("benchmark", 0, row.number),
            y=self._number(row.y) if labelled else None,
            id=str(row.number),
        )
        outcome = self._engine.step([event])[0]
        if outcome.variance is not None:
            self.sureness = math.sqrt(max(outcome.variance, 0.0))
        elif outcome.probabilities is not None:
            self.sureness = max(outcome.probabilities.values(), default=None)
        return None if outcome.prediction is None else float(outcome.prediction)

    def _features(self, row: Row) -> dict[str, Feature]:
        """By name; what is missing is left out, and a category is a text."""
        x: dict[str, Feature] = dict(zip(self._names, row.x.tolist(), strict=True))
        for d in self._categories:
            x[self._names[d]] = f"c{row.x[d]:.0f}"
        known = np.isfinite(row.x)
        return (
            x if known.all() else {name: x[name] for name, is_known in zip(self._names, known, strict=True) if is_known}
        )

    def label(self, row: Row) -> None:
        origin = Origin("benchmark", 0, row.number)
        self._engine.step([Label(str(row.number), self._number(row.y), row.task, origin)])


def make(job: Job, rows: Rows) -> Learner:
    """The engine with the job's settings."""
    torch.set_num_threads(1)
    return _Streammeta(job, rows)


if __name__ == "__main__":
    runner(make, lambda: {name: version(name) for name in ("streammeta", "numpy", "torch")})
