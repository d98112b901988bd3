"""Runs Vowpal Wabbit, and LightGBM retrained on a window of the last labels: what many teams do."""

from importlib.metadata import version
from typing import Any

import lightgbm
import numpy as np
from vowpalwabbit import pyvw

from benchmarks.peers.prequential import Job, Learner, Prediction, Row, Rows, each_task, runner

__all__ = ["make"]

_WINDOW, _FEWEST, _MOST_PAIRED = 2_000, 50, 30


class _VowpalWabbit:
    """Numbers as they come, as it scales them itself; the task and categories are tokens."""

    def __init__(self, job: Job, rows: Rows, classes: int, *, tag: bool) -> None:
        pairs = "-q ::" if len(rows.names) <= _MOST_PAIRED else ""
        loss = f"--oaa {max(classes, 2)} --loss_function logistic" if job.kind == "classification" else ""
        self._model = pyvw.Workspace(f"--quiet --coin {pairs} {loss} --random_seed {job.seed}")
        self._classify, self._tag, self._categories = job.kind == "classification", tag, rows.categories

    def _text(self, row: Row) -> str:
        cells = [
            f"c{d}_{value:.0f}" if d in self._categories else f"x{d}:{value:.6g}"
            for d, value in enumerate(row.x.tolist())
        ]
        return f"|f {' '.join(cells)}" + (f" |t t{abs(hash(row.task))}" if self._tag else "")

    def predict(self, row: Row) -> Prediction:
        said = float(self._model.predict(self._text(row)))
        return said - 1 if self._classify else said

    def learn(self, row: Row) -> None:
        label = f"{int(row.y) + 1}" if self._classify else f"{row.y:.6g}"
        self._model.learn(f"{label} {self._text(row)}")


class _LightGBM:
    """A hundred rounds on the window, again whenever it has seen a tenth (at least 50 labels) more."""

    def __init__(self, job: Job, rows: Rows, classes: int, tags: dict[str, int]) -> None:
        self._xs: list[np.ndarray] = []
        self._ys: list[float] = []
        self._seen = self._next = 0
        self._model: Any = None
        self._classify, self._tags, self._classes = job.kind == "classification", tags, classes
        self._categories = [*rows.categories, *([len(rows.names)] if tags else [])]
        objective = {"objective": "multiclass", "num_class": max(classes, 2)} if self._classify else {"objective": "l2"}
        self._parameters = {"verbosity": -1, "num_threads": 1, "seed": job.seed, "min_data_in_leaf": 5, **objective}

    def _x(self, row: Row) -> np.ndarray:
        return np.append(row.x, self._tags[row.task]) if self._tags else row.x

    def predict(self, row: Row) -> Prediction:
        if self._model is None:
            return self._ys[-1] if self._ys else None
        said = self._model.predict(self._x(row)[None])[0]
        return float(np.argmax(said)) if self._classify else float(said)

    def learn(self, row: Row) -> None:
        self._xs, self._ys = [*self._xs, self._x(row)][-_WINDOW:], [*self._ys, row.y][-_WINDOW:]
        self._seen += 1
        if self._seen < max(self._next, _FEWEST):
            return
        self._next = self._seen + max(_FEWEST, min(self._seen, _WINDOW) // 10)
        data = lightgbm.Dataset(np.array(self._xs), np.array(self._ys), categorical_feature=self._categories)
        self._model = lightgbm.train(self._parameters, data, 100 if self._classes <= 2 else 30)


def make(job: Job, rows: Rows) -> Learner:
    """The learner of this name."""
    classes = int(rows.ys.max()) + 1 if job.kind == "classification" else 1
    tasks = sorted(set(rows.tasks)) if job.wiring == "tag" else []
    if job.learner == "LightGBM":
        tags = {task: i for i, task in enumerate(tasks)}
        return each_task(job, lambda: _LightGBM(job, rows, classes, tags))
    return each_task(job, lambda: _VowpalWabbit(job, rows, classes, tag=bool(tasks)))


if __name__ == "__main__":
    runner(make, lambda: {name: version(name) for name in ("vowpalwabbit", "lightgbm")})
