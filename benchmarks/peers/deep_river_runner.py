"""Runs deep-river's classifier and regressor around a multi-layer perceptron; both get all classes and tags."""

from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from deep_river.classification import Classifier
from deep_river.regression import Regressor

from benchmarks.peers.prequential import Job, Learner, Prediction, Row, Rows, each_task, runner
from benchmarks.peers.running_scale import RunningScale

__all__ = ["make"]

_UNITS, _RATE = 64, 0.01


def _network(fan_in: int, outputs: int) -> torch.nn.Module:
    layers = [torch.nn.Linear(fan_in, _UNITS), torch.nn.ReLU(), torch.nn.Linear(_UNITS, _UNITS), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(_UNITS, outputs))


class _DeepRiver:
    def __init__(self, job: Job, width: int, tags: dict[str, int], classes: int) -> None:
        self._classify = job.kind == "classification"
        self._tags, self._one_hot = tags, np.eye(len(tags))
        self._names = [f"x{i:05d}" for i in range(width + len(tags))]  # deep-river sorts features by name
        self._scale, self._target = RunningScale(width), RunningScale(1)
        torch.manual_seed(job.seed)
        common: dict[str, Any] = {"optimizer_fn": "sgd", "lr": _RATE, "seed": job.seed}
        if self._classify:
            self._model = Classifier(_network(len(self._names), max(classes, 2)), "cross_entropy", **common)
            self._model.observed_classes.update(range(classes))
        else:
            self._model = Regressor(_network(len(self._names), 1), "mse", **common)

    def _features(self, row: Row) -> dict[str, float]:
        z = self._scale.scaled(row.x)
        if self._tags:
            z = np.append(z, self._one_hot[self._tags[row.task]])
        return dict(zip(self._names, z.tolist(), strict=True))

    def predict(self, row: Row) -> Prediction:
        predicted = self._model.predict_one(self._features(row))
        if self._classify:
            return None if predicted is None else float(predicted)
        return float(self._target.unscaled(np.array([predicted]))[0])

    def learn(self, row: Row) -> None:
        self._scale.learn(row.x)
        if self._classify:
            self._model.learn_one(self._features(row), int(row.y))
        else:
            target = np.array([row.y])
            self._target.learn(target)
            self._model.learn_one(self._features(row), float(self._target.scaled(target)[0]))


def make(job: Job, rows: Rows) -> Learner:
    """A perceptron of two hidden layers; the tag is one column a task."""
    torch.set_num_threads(1)
    tasks = sorted(set(rows.tasks)) if job.wiring == "tag" else []
    classes = int(rows.ys.max()) + 1 if job.kind == "classification" else 1
    tags = {task: i for i, task in enumerate(tasks)}
    return each_task(job, lambda: _DeepRiver(job, len(rows.names), tags, classes))


if __name__ == "__main__":
    runner(make, lambda: {name: version(name) for name in ("deep-river", "river", "torch")})
