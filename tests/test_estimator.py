"""The River estimators: River's own checks, and what River people do with a model."""

import copy
import json
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import polars as pl
import pytest
from river import (
    base,
    checks,
    compose,
    datasets,
    drift,
    ensemble,
    evaluate,
    linear_model,
    metrics,
    model_selection,
    preprocessing,
)
from river.drift import binary

from streammeta.app.replay import replay
from streammeta.config import Settings
from streammeta.engine import EngineSettings, Kind
from streammeta.errors import ConfigError, EventError
from streammeta.estimator import MetaClassifier, MetaRegressor
from streammeta.event import Event, Origin, Record
from streammeta.meta.stream import in_stream
from streammeta.report import Tally
from streammeta.transport.memory import MemorySource

LinearTasks = Callable[..., list[Event]]
SMALL = {"learner": {"hidden": 12, "encoded": 8}, "meta": {"tasks": 3, "length": 16}}
QUICK = {"learner": {"support": 4}, "meta": {"every_events": 100, "tasks": 1, "length": 8}}
VARIANTS: dict[str, tuple[type[base.Estimator], dict[str, Any]]] = {
    "classifier": (MetaClassifier, {}),
    "classifier, all arguments": (
        MetaClassifier,
        {"detector": drift.PageHinkley(delta=0.1, threshold=2.0), "response": "reset", "settings": SMALL, "seed": 7},
    ),
    "classifier, r2d2": (MetaClassifier, {"method": "r2d2", "settings": QUICK}),
    "classifier, protonet": (MetaClassifier, {"method": "protonet", "settings": QUICK}),
    "regressor": (MetaRegressor, {}),
    "regressor, r2d2": (MetaRegressor, {"method": "r2d2", "settings": QUICK}),
    "regressor, alpaca": (MetaRegressor, {"method": "alpaca", "settings": QUICK}),
}


def each_check() -> Iterator[Any]:
    for name, (estimator, arguments) in VARIANTS.items():
        model = estimator(**arguments)
        seen: Counter[str] = Counter()
        for check in checks.yield_checks(model):
            seen[check.__name__] += 1
            yield pytest.param(model, check, id=f"{name}-{check.__name__}-{seen[check.__name__]}")


@pytest.mark.parametrize(("model", "check"), list(each_check()))
def test_rivers_own_checks_pass(model: base.Estimator, check: Callable[[Any], None]) -> None:
    """A model that fails one of them surprises somebody's pipeline."""
    check(model.clone())


@pytest.mark.parametrize(("estimator", "least"), [(MetaClassifier, 60), (MetaRegressor, 25)])
def test_none_of_rivers_checks_is_skipped(estimator: type[base.Estimator], least: int) -> None:
    """A list of exceptions would make the line above worth less; without pandas, River itself leaves some out."""
    methods = {given.get("method", "exact-heads") for kind, given in VARIANTS.values() if kind is estimator}
    model = estimator()
    names = {check.__name__ for check in checks.yield_checks(model)}

    assert len(methods) >= 3
    assert not model._unit_test_skips()
    assert len(list(checks.yield_checks(model))) >= least
    assert {"check_learn_many_matches_learn_one", "check_shuffle_features_no_impact", "check_pickling"} <= names


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_an_estimator_predicts_what_the_service_predicts(linear_tasks: LinearTasks, kind: Kind) -> None:
    """One engine, three uses: numbers found in a notebook must hold in production."""
    events = linear_tasks(400, kind=kind, switch_at=200)
    settings = Settings(app={"kind": kind, "seed": 3}, **SMALL)  # type: ignore[arg-type]
    served: list[Any] = []
    records = [
        Record(json.dumps({"task": e.task, "x": dict(e.x), "y": e.y}).encode(), Origin("", 0, 0))  # type: ignore[call-overload]
        for e in events
    ]
    replay(
        settings,
        MemorySource(records),
        None,
        Tally(kind),
        observers=[lambda outcomes, _: served.extend(outcome.prediction for outcome in outcomes)],
    )
    model = (MetaClassifier if kind == "classification" else MetaRegressor)("store", settings=SMALL, seed=3)

    said = []
    for event in events:
        x = {"store": event.task, **event.x}  # type: ignore[dict-item]
        said.append(model.predict_one(x))
        model.learn_one(x, event.y)  # type: ignore[arg-type]

    first = 1 if kind == "classification" else 0
    assert said[first:] == served[first:]
    assert len(set(said)) > 1


def test_a_tag_makes_tasks_and_is_no_feature() -> None:
    """Opposite laws in one stream are learnable only with the tag."""
    tagged, blind = MetaClassifier(task="store"), MetaClassifier(settings=SMALL)
    right: Counter[str] = Counter()

    for i in range(200):
        store, price = ("north", "south")[i % 2], float(i // 2 % 2)
        y = (store == "north") == bool(price)
        if i >= 100:
            right["tagged"] += tagged.predict_one({"store": store, "price": price}) == y
            right["blind"] += blind.predict_one({"price": price}) == y
        tagged.learn_one({"store": store, "price": price}, y)
        blind.learn_one({"price": price}, y)

    assert right["tagged"] == 100
    assert right["blind"] < 80
    assert {task.task for task in tagged.engine.tasks()} == {"north", "south"}
    assert tagged.engine.stats().features == 1


def test_it_works_in_a_pipeline_behind_rivers_transformers() -> None:
    """The two lines that a River user changes must be the only two."""
    numbers = compose.Select("ordinal_date", "gallup", "ipsos") | preprocessing.StandardScaler()
    text = compose.Select("pollster") | preprocessing.OneHotEncoder()
    pipeline = (numbers + text) | MetaRegressor(settings=SMALL)
    data = [(x | {"pollster": ("a", "b")[i % 2]}, y) for i, (x, y) in enumerate(datasets.TrumpApproval().take(300))]

    score = evaluate.progressive_val_score(data, pipeline, metrics.MAE())

    assert isinstance(pipeline, base.Regressor)
    assert score.get() < 2.0


def test_it_beats_a_logistic_regression_under_label_delay() -> None:
    """`progressive_val_score` with a delay asks for many predictions before it gives the first label."""
    scores = []
    for model in (MetaClassifier(), preprocessing.StandardScaler() | linear_model.LogisticRegression()):
        data = datasets.Phishing().take(800)
        scores.append(evaluate.progressive_val_score(data, model, metrics.Accuracy(), delay=50).get())

    assert scores[0] > 0.85
    assert scores[0] > scores[1] - 0.02


def test_it_works_in_rivers_ensembles_and_model_selection() -> None:
    """They clone, seed, pickle and compare models."""
    bag = ensemble.BaggingClassifier(MetaClassifier(settings=SMALL), n_models=2, seed=1)
    chosen = model_selection.GreedyRegressor(
        [MetaRegressor(settings=SMALL, seed=seed) for seed in range(2)], metric=metrics.MAE()
    )

    accuracy = evaluate.progressive_val_score(datasets.Phishing().take(200), bag, metrics.Accuracy())
    error = evaluate.progressive_val_score(datasets.TrumpApproval().take(200), chosen, metrics.MAE())

    assert accuracy.get() > 0.7
    assert error.get() < 2.0


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_frames_come_back_in_their_own_kind(frame: type[Any]) -> None:
    """narwhals promises that to River's users; pandas keep their index, too."""
    rows = [{"a": float(i % 3), "b": float(i % 2), "store": f"s{i % 2}"} for i in range(60)]
    X = frame(rows)
    series = type(X["a"])
    classifier, regressor = MetaClassifier("store", settings=SMALL), MetaRegressor("store", settings=SMALL)

    classifier.learn_many(X, series([("no", "yes")[int(row["b"])] for row in rows]))
    regressor.learn_many(X, X["a"])

    labels, probabilities = classifier.predict_many(X), classifier.predict_proba_many(X)
    assert isinstance(labels, series)
    assert labels.to_list() == [classifier.predict_one(row) for row in rows]
    assert isinstance(probabilities, frame)
    assert set(probabilities.columns) == {"no", "yes"}
    assert regressor.predict_many(X).to_list() == [regressor.predict_one(row) for row in rows]
    if frame is pd.DataFrame:
        shifted = X.set_index(X.index + 7)
        assert classifier.predict_many(shifted).index.equals(shifted.index)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])  # noqa: S301
def test_a_copy_goes_on_where_the_original_stood(again: Callable[[Any], Any]) -> None:
    """River's people save models with pickle; a restored one that forgot its detectors would drift apart unseen."""
    data = list(datasets.Phishing().take(300))
    model = MetaClassifier(detector="page-hinkley", settings=SMALL)
    for x, y in data[:200]:
        model.learn_one(x, y)

    other = again(model)

    for x, y in data[200:]:
        assert model.predict_proba_one(x) == other.predict_proba_one(x)
        model.learn_one(x, y)
        other.learn_one(x, y)
        assert model.drift_detected == other.drift_detected


def test_a_clone_with_attributes_knows_what_the_model_knew() -> None:
    """River's retraining wrappers clone so."""
    model = MetaClassifier(settings=SMALL)
    for x, y in datasets.Phishing().take(50):
        model.learn_one(x, y)

    fresh, knowing = model.clone(), model.clone(include_attributes=True)

    assert fresh.predict_proba_one(x) == {}
    assert knowing.predict_proba_one(x) == model.predict_proba_one(x)
    assert knowing.engine is not model.engine


def test_nothing_can_be_mutated_in_a_running_model() -> None:
    """A seed or a tag that changes midway would be a lie in the model's `repr`."""
    with pytest.raises(ValueError, match="'seed' is not a mutable attribute"):
        MetaClassifier().mutate({"seed": 3})


@pytest.mark.parametrize(
    ("detector", "name"),
    [
        (drift.ADWIN(delta=0.01), "adwin"),
        (drift.PageHinkley(), "page-hinkley"),
        (drift.KSWIN(), "kswin"),
        (binary.DDM(), "ddm"),
        (binary.EDDM(), "eddm"),
        (binary.HDDMA(), "hddm-a"),
        (binary.HDDMW(), "hddm-w"),
        (drift.NoDrift(), "none"),
        ("kswin", "kswin"),
    ],
)
def test_rivers_detectors_are_taken_with_their_parameters(detector: Any, name: str) -> None:
    """An object whose delta is silently replaced by ours would be worse than none."""
    model = MetaClassifier(detector=detector, settings=SMALL)

    settings = model.engine.settings.drift

    assert settings.detector == name
    assert all(getattr(detector, key) == value for key, value in settings.parameters.items())
    if name == "adwin":
        assert settings.parameters["delta"] == 0.01


def test_what_cannot_be_is_said_at_once() -> None:
    """Before the first event, with what came and what was wanted."""

    class Own(drift.ADWIN):  # type: ignore[misc]
        pass

    with pytest.raises(ConfigError, match=r"got a Own, .* wanted one of ADWIN"):
        MetaClassifier(detector=Own())
    with pytest.raises(ConfigError, match=r"MetaRegressor: learner.hiden"):
        MetaRegressor(settings={"learner": {"hiden": 3}})
    with pytest.raises(ConfigError, match="has no thread beside it"):
        MetaClassifier(settings={"meta": {"mode": "background"}})
    with pytest.raises(EventError, match="feature 'a' is a list"):
        MetaClassifier().learn_one({"a": [1]}, y=True)
    with pytest.raises(EventError, match="a feature is inf"):
        MetaClassifier().predict_one({"a": float("inf")})
    with pytest.raises(EventError, match="`y` is 'nan'"):
        MetaRegressor().learn_one({"a": 1.0}, float("nan"))


def test_a_method_can_be_given_as_an_object() -> None:
    """Somebody's own meta-learner needs no entry in our catalogue."""
    data = list(datasets.Phishing().take(120))
    named = MetaClassifier(method="protonet", settings=QUICK)
    given = MetaClassifier(method=in_stream("protonet", "classification", support=4), settings=QUICK)
    for x, y in data[:100]:
        named.learn_one(x, y)
        given.learn_one(x, y)

    again = copy.deepcopy(given)

    for x, _ in data[100:]:
        assert given.predict_proba_one(x) == named.predict_proba_one(x) == again.predict_proba_one(x)
    assert given.clone().predict_proba_one(data[0][0]) == {}


def test_settings_as_an_object_keep_what_was_chosen() -> None:
    """And kind and seed are the estimator's own."""
    settings = EngineSettings.model_validate({"kind": "regression", "seed": 9, "learner": {"members": 2}})

    chosen = MetaClassifier(settings=settings, seed=4).engine.settings

    assert (chosen.kind, chosen.seed, chosen.learner.members) == ("classification", 4, 2)


def test_odd_names_and_labels_are_taken(linear_tasks: LinearTasks) -> None:
    """River's features and labels may be anything that can be a key; NaN is missing."""
    model = MetaClassifier(settings=SMALL)

    for event in linear_tasks(80, tasks=1):
        a, b, c = event.x.values()  # type: ignore[union-attr]
        model.learn_one({0: a, ("b", 1): b, "c": c, "d": float("nan"), "e": None}, ("label", event.y))

    assert set(model.predict_proba_one({0: 1.0})) == {("label", 0), ("label", 1)}
    assert model.engine.stats().features == 3


def test_a_regressor_tells_how_sure_it_is(linear_tasks: LinearTasks) -> None:
    """Far from what was seen, the variance is larger."""
    model = MetaRegressor(settings=SMALL)
    for event in linear_tasks(200, tasks=1, kind="regression"):
        model.learn_one(dict(event.x), event.y)  # type: ignore[arg-type, call-overload]

    _, near = model.predict_with_variance_one({"a": 0.0, "b": 0.0, "c": 0.0})
    _, far = model.predict_with_variance_one({"a": 4.0, "b": -4.0, "c": 4.0})

    assert 0 < near < far
