"""The River estimators: River's own checks, and what River people do with a model."""

import copy
import json
import pickle
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import numpy as np
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
            if arguments and check.__name__ == "check_bounded_memory_growth" and seen[check.__name__] > 1:
                continue  # what is kept of events is the engine's, and its default is checked on every stream
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
    """Opposite concepts in one stream are learnable only with the tag."""
    tagged, blind = MetaClassifier(task="store"), MetaClassifier(settings=SMALL)
    right, draw = Counter[str](), random.Random(1)  # no order by which the next label could be known

    for i in range(200):
        store, price = draw.choice(("north", "south")), float(draw.randrange(2))
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
    with pytest.raises(EventError, match="feature 'a' is a bytes"):
        MetaClassifier().learn_one({"a": b"raw"}, y=True)
    with pytest.raises(EventError, match="a feature is inf"):
        MetaClassifier().predict_one({"a": float("inf")})
    with pytest.raises(EventError, match="the target is 'nan', wanted a number"):
        MetaRegressor().learn_one({"a": 1.0}, "nan")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"settings\.decide is of decisions, which are not made here"):
        MetaClassifier(settings={"decide": {"actions": ["a", "b"]}})
    with pytest.raises(ConfigError, match="settings: got 5; wanted EngineSettings, or a mapping"):
        MetaClassifier(settings=5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="method: got a int; wanted a name"):
        MetaClassifier(method=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("memories", [[0], [-1], [float("nan")], [float("inf")]], ids=str)
def test_a_memory_of_no_event_is_refused(memories: list[float]) -> None:
    with pytest.raises(ConfigError, match=r"learner.memories.0: Input should be .* got"):
        MetaRegressor(settings={"learner": {"memories": memories}})


def test_a_model_pickled_by_a_version_with_fewer_settings_goes_on() -> None:
    """People keep models over an upgrade; pydantic pickles values, and reads no more than there are."""
    model = MetaClassifier(settings=QUICK)
    for x, y in datasets.Phishing().take(50):
        model.learn_one(x, y)
    wanted = [model.predict_proba_one(x) for x, _ in datasets.Phishing().take(80)]
    settings = model.engine.settings
    for section, name in ((settings, "features"), (settings, "elapsed"), (settings.meta, "privacy")):
        del vars(section)[name]

    again = pickle.loads(pickle.dumps(model))  # noqa: S301 our own

    assert [again.predict_proba_one(x) for x, _ in datasets.Phishing().take(80)] == wanted
    assert again.engine.settings == MetaClassifier(settings=QUICK).engine.settings


def test_whole_numbers_without_end_are_refused_in_few_words() -> None:
    """Python writes no more than 4,300 digits of one, and makes no float of it."""
    for number in (10**400, -(10**5000)):
        with pytest.raises(EventError, match=r"the target is a whole number of [0-9]+ bits, wanted a finite number"):
            MetaRegressor().learn_one({"a": 1.0}, number)
        with pytest.raises(EventError, match=r"a feature is a whole number of [0-9]+ bits, wanted a finite number"):
            MetaRegressor().learn_one({"a": number}, 1.0)
    with pytest.raises(EventError, match="MetaClassifier/0/0: a tag or id is a whole number of 16610 bits"):
        MetaClassifier(task="shop").learn_one({"shop": 10**5000}, "a")


@pytest.mark.parametrize("x", [{0: 1.0, "0": 2.0}, {"a": {"b": 1.0}, "a.b": 2.0}], ids=str)
def test_two_features_of_one_name_are_refused_and_none_is_lost(x: dict[Any, Any]) -> None:
    with pytest.raises(EventError, match=r"two features have one name in .* wanted each once"):
        MetaClassifier().learn_one(x, y=True)


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


NO_VALUES = [None, float("nan"), np.nan, np.float32("nan"), pd.NA, pd.NaT, np.datetime64("NaT"), Decimal("NaN")]


@pytest.mark.parametrize("missing", NO_VALUES, ids=repr)
@pytest.mark.parametrize("estimator", [MetaClassifier, MetaRegressor])
def test_a_missing_label_teaches_nothing_and_is_no_class(estimator: type[Any], missing: object) -> None:
    """A NaN differs from itself: it was a new class each time it came, twelve of them after a hundred events."""
    model = estimator(settings=SMALL)
    for i in range(10):
        model.learn_one({"a": float(i % 2)}, i % 2)
    before = model.engine.stats()

    model.learn_one({"a": 1.0}, missing)
    model.learn_many(pd.DataFrame({"a": [0.0, 1.0]}), pd.Series([missing, missing], dtype=object))

    after = model.engine.stats()
    assert (after.labelled, after.classes) == (before.labelled, before.classes)
    assert after.events == before.events + 3
    if estimator is MetaClassifier:
        assert set(model.predict_proba_one({"a": 1.0})) == {0, 1}


@pytest.mark.parametrize("missing", NO_VALUES, ids=repr)
@pytest.mark.parametrize("estimator", [MetaClassifier, MetaRegressor])
def test_a_missing_feature_is_as_if_it_were_not_there(estimator: type[Any], missing: object) -> None:
    """In learning and predicting, row by row and in frames."""
    models = [estimator(settings=SMALL) for _ in range(3)]
    rows = [({"a": float(i % 2), "b": 1.0 + i % 3}, i % 2) for i in range(20)]

    for model, with_b in zip(models, [{"b": missing}, {}, {"b": missing}], strict=True):
        for x, y in rows:
            model.learn_one(x, y)
        if model is models[2]:
            model.learn_many(pd.DataFrame({"a": [1.0], "b": pd.Series([missing], dtype=object)}), pd.Series([1]))
        else:
            model.learn_one({"a": 1.0} | with_b, 1)

    said = [model.predict_one({"a": 0.0, "b": missing}) for model in models]
    assert said[0] == said[1] == said[2] == models[0].predict_one({"a": 0.0})
    assert models[0].predict_many(pd.DataFrame({"a": [0.0], "b": pd.Series([missing], dtype=object)}))[0] == said[0]


@pytest.mark.parametrize("estimator", [MetaClassifier, MetaRegressor])
def test_nullable_columns_are_learned(estimator: type[Any]) -> None:
    """`convert_dtypes()` is what careful people call first; categories, times and decimals are columns too."""
    frame = pd.DataFrame(
        {
            "whole": pd.array([1, None, 3], dtype="Int64"),
            "real": pd.array([0.5, None, 1.5], dtype="Float64"),
            "flag": pd.array([True, None, False], dtype="boolean"),
            "text": pd.array(["x", None, "y"], dtype="string"),
            "kind": pd.Categorical(["p", None, "q"]),
            "when": pd.to_datetime(["2024-01-01", None, "2024-01-02"]),
            "took": pd.to_timedelta(["1h", None, "2h"]),
            "price": [Decimal("1.5"), None, Decimal("2.5")],
        }
    )
    y = pd.Series([0, None, 1], dtype="Int64")
    model, by_one = estimator(settings=SMALL), estimator(settings=SMALL)

    model.learn_many(frame, y)
    for (_, x), label in zip(frame.iterrows(), y, strict=True):
        by_one.learn_one(dict(x), label)
    polars = estimator(settings=SMALL)
    polars.learn_many(pl.from_dicts([_as_none(x) for _, x in frame.iterrows()]), pl.Series([0, None, 1]))

    assert model.engine.stats().labelled == 2
    said = [one.predict_one(dict(frame.iloc[0])) for one in (model, by_one, polars)]
    assert said[0] == said[1] == said[2]


def _as_none(x: "pd.Series[Any]") -> dict[str, Any]:
    return {str(name): None if pd.isna(value) else value for name, value in x.items()}


@pytest.mark.parametrize(
    ("estimator", "column", "ys", "message"),
    [
        (MetaClassifier, [1.0, 1 + 2j], ["a", "b"], "feature 'f' is a complex"),
        (MetaClassifier, [1.0, float("inf")], ["a", "b"], "a feature is inf"),
        (MetaClassifier, [1.0, 2.0], ["a", ["b"]], "the label is a list"),
        (MetaRegressor, [1.0, 2.0], [1.0, "two"], "the target is 'two', wanted a number"),
        (MetaRegressor, [1.0, 2.0], [1.0, float("inf")], "wanted a finite number"),
        (MetaRegressor, [1.0, object()], [1.0, 2.0], "feature 'f' is a object"),
    ],
)
def test_learn_many_learns_all_rows_or_none(
    estimator: type[Any], column: list[Any], ys: list[Any], message: str
) -> None:
    """With one bad value it had learned the rows before it: whoever mends the frame and tries again learns them twice."""
    model = estimator(settings=SMALL)

    with pytest.raises(EventError, match=message):
        model.learn_many(pd.DataFrame({"f": pd.Series(column, dtype=object)}), pd.Series(ys, dtype=object))

    assert model.engine.stats().events == 0
    model.learn_many(pd.DataFrame({"f": [1.0, 2.0]}), pd.Series([1, 0]))
    if estimator is MetaClassifier:
        assert set(model.predict_proba_one({"f": 1.0})) == {0, 1}


def test_too_many_classes_in_a_frame_teach_nothing() -> None:
    """The limit is found before the first row is learned, and what was refused is no label of the model."""
    model = MetaClassifier(settings={**SMALL, "memory": {"max_classes": 3}})

    with pytest.raises(EventError, match="class 4; wanted at most 3"):
        model.learn_many(pd.DataFrame({"f": [1.0, 2.0, 3.0, 4.0]}), pd.Series(list("abcd")))
    model.learn_many(pd.DataFrame({"f": [1.0, 2.0]}), pd.Series(["d", "c"]))

    assert model.engine.stats().labelled == 2
    assert set(model.predict_proba_one({"f": 1.0})) == {"c", "d"}


def test_several_threads_may_use_one_model() -> None:
    """An error from inside NumPy, or a torn state, is what two threads got; now their calls take turns."""
    model = MetaClassifier(task="t", settings=SMALL)
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for i in range(150):
                model.learn_one({"t": f"{name}{i % 40}", f"f{name}": i % 2, "g": 1.0}, f"{name}{i % 2}")
                model.predict_proba_one({"t": name, f"f{name}": 1})
        except BaseException as err:
            failures.append(err)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)

    assert not failures
    assert model.engine.stats().labelled == 600
    assert model.engine.stats().classes == 8
    assert copy.deepcopy(model).predict_one({"t": "a", "fa": 1}) == model.predict_one({"t": "a", "fa": 1})


def test_a_regressor_says_intervals_as_rivers_conformal_models_do() -> None:
    """A wrapper of River's around it would be calibrated by another, coarser rule."""
    model, inside = MetaRegressor(interval=0.9, settings={"meta": {"mode": "off"}}), 0
    for x, y in datasets.TrumpApproval().take(600):
        inside += y in model.predict_one(x, with_interval=True)
        model.learn_one(x, y)

    assert inside / 600 == pytest.approx(0.9, abs=0.04)
    assert model.clone().interval == 0.9
    with pytest.raises(ConfigError, match=r"wanted interval=0\.9"):
        MetaRegressor().predict_one({"a": 1.0}, with_interval=True)
    with pytest.raises(ConfigError, match=r"interval: Input should be less than or equal to 0\.99"):
        MetaRegressor(interval=90.0)
