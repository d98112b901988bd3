"""Runs CapyMOA's learners. They get all classes, and all task tags, before they begin: MOA's header wants that."""

from collections.abc import Callable, Mapping
from typing import Any

import capymoa
import numpy as np
from capymoa.classifier import (
    AdaptiveRandomForestClassifier,
    DynamicEnsembleMemberSelection,
    LeveragingBagging,
    SAMkNN,
    StreamingGradientBoostedTrees,
    StreamingRandomPatches,
)
from capymoa.core import LabeledInstance, RegressionInstance
from capymoa.regressor import SOKNL
from capymoa.stream import Schema

from benchmarks.peers.prequential import Job, Learner, Prediction, Row, Rows, each_task, runner
from benchmarks.peers.running_scale import RunningScale

__all__ = ["make"]

_MODELS: Mapping[str, Callable[[Schema, int], Any]] = {
    "CapyMOA ARF-30": lambda schema, seed: AdaptiveRandomForestClassifier(schema, random_seed=seed, ensemble_size=30),
    "CapyMOA ARF": lambda schema, seed: AdaptiveRandomForestClassifier(schema, random_seed=seed),
    "CapyMOA SRP": lambda schema, seed: StreamingRandomPatches(schema, random_seed=seed, ensemble_size=10),
    "CapyMOA LeveragingBagging": lambda schema, seed: LeveragingBagging(schema, random_seed=seed),
    "CapyMOA DEMS": lambda schema, seed: DynamicEnsembleMemberSelection(schema, random_seed=seed, ensemble_size=10),
    "CapyMOA SAM-kNN": lambda schema, seed: SAMkNN(schema, random_seed=seed),
    "CapyMOA SAM-kNN, scaled": lambda schema, seed: SAMkNN(schema, random_seed=seed),
    "CapyMOA SGBT": lambda schema, seed: StreamingGradientBoostedTrees(schema, random_seed=seed),
    "CapyMOA SOKNL": lambda schema, seed: SOKNL(schema, random_seed=seed, ensemble_size=30),
}


class _CapyMOA:
    def __init__(self, job: Job, schema: Schema, tags: Mapping[str, int], width: int) -> None:
        self._model = _MODELS[job.learner](schema, job.seed + 1)  # MOA's own default seed is 1
        self._schema, self._tags = schema, tags
        self._classify = job.kind == "classification"
        self._scale = RunningScale(width) if job.learner.endswith("scaled") else None
        self._one_hot = np.eye(len(tags)) if "kNN" in job.learner else None

    def _instance(self, row: Row) -> Any:  # noqa: ANN401 (a Java object)
        x = row.x if self._scale is None else self._scale.scaled(row.x)
        if self._tags:
            tag = self._tags[row.task]
            x = np.append(x, float(tag) if self._one_hot is None else self._one_hot[tag])
        make = LabeledInstance.from_array if self._classify else RegressionInstance.from_array
        return make(self._schema, x, row.y)

    def predict(self, row: Row) -> Prediction:
        predicted = self._model.predict(self._instance(row))
        return None if predicted is None else float(predicted)

    def learn(self, row: Row) -> None:
        if self._scale is not None:
            self._scale.learn(row.x)
        self._model.train(self._instance(row))


def make(job: Job, rows: Rows) -> Learner:
    """The learner of this name; the tag is a category, and for neighbours one column a task."""
    tasks = sorted(set(rows.tasks)) if job.wiring == "tag" else []
    names = [f"x{i}" for i in range(len(rows.names))]
    categories = {names[d]: [f"c{v}" for v in range(int(np.nanmax(rows.xs[:, d])) + 1)] for d in rows.categories}
    tag_columns: list[str] = []
    if tasks and "kNN" in job.learner:
        tag_columns = [f"task{i}" for i in range(len(tasks))]
    elif tasks:
        tag_columns, categories["task"] = ["task"], [f"t{i}" for i in range(len(tasks))]
    if job.kind == "classification":
        categories["y"] = [str(c) for c in range(int(rows.ys.max()) + 1)]
    schema = Schema.from_custom([*names, *tag_columns, "y"], "y", categories, "stream")
    tags = {task: i for i, task in enumerate(tasks)}
    return each_task(job, lambda: _CapyMOA(job, schema, tags, len(names)))


if __name__ == "__main__":
    runner(make, lambda: {"capymoa": capymoa.__version__})
