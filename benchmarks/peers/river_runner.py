"""Runs River's learners, and the last label."""

from collections.abc import Callable, Mapping
from typing import Any

import river
from river import (
    ensemble,
    feature_extraction,
    forest,
    linear_model,
    multiclass,
    neighbors,
    optim,
    preprocessing,
    tree,
)

from benchmarks.peers.prequential import Job, Learner, Prediction, Row, Rows, each_task, runner

__all__ = ["make"]


class _LastLabel:
    def __init__(self) -> None:
        self._y: Prediction = None

    def predict(self, row: Row) -> Prediction:
        return self._y

    def learn(self, row: Row) -> None:
        self._y = row.y


class _River:
    """A River estimator, after a StandardScaler if wanted.

    The tag is a category, a column a task (neither is scaled), or a number counted up from the first task: River's
    regression trees have linear leaves, which fail on a category.
    """

    def __init__(self, model: Any, job: Job, rows: Rows, *, scale: bool, tag: str) -> None:  # noqa: ANN401
        self._model, self._names, self._categories = model, rows.names, rows.categories
        self._one_hot = tag != "category"
        self._scaler = preprocessing.StandardScaler() if scale else None
        self._tag = tag if job.wiring == "tag" else ""
        self._codes: dict[str, float] = {}
        self._number = int if job.kind == "classification" else float
        self._intercept = tag == "one-hot and intercept"

    def _features(self, row: Row, *, learn: bool) -> dict[str, Any]:
        x: dict[str, Any] = dict(zip(self._names, row.x.tolist(), strict=True))
        kinds = {self._names[d]: f"{x.pop(self._names[d]):.0f}" for d in self._categories}
        if self._tag == "number":
            x["task"] = self._codes.setdefault(row.task, float(len(self._codes)))
        if self._scaler is not None:
            if learn:
                self._scaler.learn_one(x)
            x = self._scaler.transform_one(x)
        x |= {f"{name}={value}": 1.0 for name, value in kinds.items()} if self._one_hot else kinds
        if self._tag == "category":
            x["task"] = row.task
        elif self._tag.startswith("one-hot"):
            x[f"task={row.task}"] = 1.0
        if self._intercept:
            x["1"] = 1.0
        return x

    def predict(self, row: Row) -> Prediction:
        predicted = self._model.predict_one(self._features(row, learn=False))
        return None if predicted is None else float(predicted)

    def learn(self, row: Row) -> None:
        self._model.learn_one(self._features(row, learn=True), self._number(row.y))


def _logistic(_: int) -> object:
    return multiclass.OneVsRestClassifier(linear_model.LogisticRegression(optim.SGD(0.01)))


def _products(_: int) -> object:
    model = linear_model.LogisticRegression(optim.SGD(0.1))
    scaled = feature_extraction.PolynomialExtender(degree=2) | preprocessing.StandardScaler()
    return scaled | multiclass.OneVsRestClassifier(model)


def _adam(_: int) -> object:
    # the target scaler asks for a prediction before anything was learned, which this model answers with 0
    return preprocessing.TargetStandardScaler(linear_model.LinearRegression(optim.Adam(0.01)))


def _bagging(seed: int) -> object:
    return ensemble.LeveragingBaggingClassifier(tree.HoeffdingTreeClassifier(), n_models=10, seed=seed)


_HAT, _HAT_VALUES = tree.HoeffdingAdaptiveTreeClassifier, tree.HoeffdingAdaptiveTreeRegressor
# name -> estimator from a seed, whether to scale, and how the tag is given
_MODELS: Mapping[str, tuple[Callable[[int], object], bool, str]] = {
    "River logistic regression": (_logistic, True, "one-hot"),
    "River logistic regression, products": (_products, False, "one-hot"),
    "River HAT": (lambda seed: _HAT(seed=seed), False, "category"),
    "River ARF": (lambda seed: forest.ARFClassifier(seed=seed), False, "category"),
    "River SRP": (lambda seed: ensemble.SRPClassifier(seed=seed), False, "category"),
    "River LeveragingBagging": (_bagging, False, "category"),
    "River AMF": (lambda seed: forest.AMFClassifier(seed=seed), False, "one-hot"),
    "River kNN": (lambda _: neighbors.KNNClassifier(), True, "one-hot"),
    "River linear, Adam": (_adam, True, "one-hot"),
    "River Bayesian linear": (lambda _: linear_model.BayesianLinearRegression(), True, "one-hot and intercept"),
    "River ARF regressor": (lambda seed: forest.ARFRegressor(seed=seed), True, "number"),
    "River HAT regressor": (lambda seed: _HAT_VALUES(seed=seed), True, "number"),
}


def make(job: Job, rows: Rows) -> Learner:
    """The learner of this name."""
    if job.learner == "last label":
        return each_task(job, _LastLabel)
    build, scale, tag = _MODELS[job.learner]
    return each_task(job, lambda: _River(build(job.seed), job, rows, scale=scale, tag=tag))


if __name__ == "__main__":
    runner(make, lambda: {"river": river.__version__})
