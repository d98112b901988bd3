"""Runs streammeta as a user would: the engine, one event at a time, with the task as its tag."""

from importlib.metadata import version

import torch

from benchmarks.peers.prequential import Job, Learner, Prediction, Row, Rows, runner
from streammeta.engine import Engine, EngineSettings
from streammeta.event import Event, Label, Origin

__all__ = ["make"]


class _Streammeta:
    def __init__(self, job: Job, rows: Rows) -> None:
        settings = EngineSettings.model_validate({"kind": job.kind, "seed": job.seed, **job.overrides})
        self._engine = Engine(settings)
        self._names = rows.names
        self._number = int if job.kind == "classification" else float

    def event(self, row: Row, *, labelled: bool) -> Prediction:
        event = Event(
            dict(zip(self._names, row.x.tolist(), strict=True)),
            row.task,
            Origin("benchmark", 0, row.number),
            y=self._number(row.y) if labelled else None,
            id=str(row.number),
        )
        predicted = self._engine.step([event])[0].prediction
        return None if predicted is None else float(predicted)

    def label(self, row: Row) -> None:
        origin = Origin("benchmark", 0, row.number)
        self._engine.step([Label(str(row.number), self._number(row.y), row.task, origin)])


def make(job: Job, rows: Rows) -> Learner:
    """The engine with the job's settings."""
    torch.set_num_threads(1)
    return _Streammeta(job, rows)


if __name__ == "__main__":
    runner(make, lambda: {name: version(name) for name in ("streammeta", "numpy", "torch")})
