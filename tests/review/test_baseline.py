"""Other learners on the same events."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace
from river import datasets, forest, metrics
from river.evaluate import progressive_val_score

from streammeta.engine import Engine, EngineSettings
from streammeta.errors import ConfigError
from streammeta.event import Event, Label, Origin
from streammeta.review.baseline import EngineBaseline, RiverBaseline, river_model

LinearTasks = Callable[..., list[Event]]


def phishing(n: int) -> list[Event]:
    return [Event(x, "", Origin("phishing", 0, i), y=int(y)) for i, (x, y) in enumerate(datasets.Phishing().take(n))]


def test_a_river_baseline_is_as_right_as_in_rivers_own_evaluation() -> None:
    """A peer that does worse beside us than at home would make every comparison unfair."""
    baseline = RiverBaseline("ARF", forest.ARFClassifier(seed=3), "classification")
    data = [(event.x, event.y) for event in phishing(300)]

    outcomes = [outcome for event in phishing(300) for outcome in baseline.take([event])]

    at_home = progressive_val_score(data, forest.ARFClassifier(seed=3), metrics.Accuracy())
    description = [outcome for outcome in outcomes if outcome.prediction is not None]
    assert sum(outcome.error == 0 for outcome in description) / len(description) == pytest.approx(at_home.get())
    assert [outcome.age for outcome in outcomes] == list(range(300))


def test_late_labels_are_learned_when_they_come_and_judge_what_was_said_before() -> None:
    """Else a delayed comparison would let the peer peek."""
    baseline = RiverBaseline("ARF", forest.ARFClassifier(seed=3), "classification")
    event = replace(phishing(1)[0], y=None, id="7")
    label = Label("7", 1, "", Origin("labels", 0, 0))

    (asked,) = baseline.take([event])
    (judged,) = baseline.take([label])
    (again,) = baseline.take([replace(event, id="8")])

    assert asked.prediction is None
    assert asked.error is None
    assert (judged.prediction, judged.error) == (None, 1.0)
    assert again.prediction == 1


@pytest.mark.parametrize(("wiring", "least"), [("tag", 0.9), ("per-task", 0.9), ("global", 0.0)])
def test_wirings_tell_a_peer_of_tasks_or_not(wiring: str, least: float) -> None:
    """A peer must be shown at its best: with the task as a feature, or a model a task."""
    baseline = RiverBaseline(
        "tree", river_model("tree.HoeffdingTreeClassifier(grace_period=20)"), "classification", wiring
    )  # type: ignore[arg-type]
    events = [Event({"price": i // 2 % 2}, f"store-{i % 2}", Origin("test", 0, i), y=i % 2) for i in range(800)]

    errors = [outcome.error for outcome in baseline.take(events)][400:]

    right = 1 - sum(error or 0.0 for error in errors) / 400
    assert right >= least
    if wiring == "global":
        assert right < 0.7
    assert (baseline.memory_bytes() or 0) > 1000


def test_another_engine_is_a_baseline_too(linear_tasks: LinearTasks) -> None:
    """Methods are compared in the same run, on the very same events."""
    settings = EngineSettings.model_validate({"learner": {"members": 1, "hidden": 8, "encoded": 4}})
    events = linear_tasks(100)

    outcomes = EngineBaseline("small", settings, "one small encoder").take(events)

    assert outcomes == Engine(settings).step(events)


@pytest.mark.parametrize(
    "expression",
    [
        "forest.ARFClassifier(n_models=2, max_features='sqrt')",
        "ensemble.BaggingClassifier(tree.HoeffdingTreeClassifier(), n_models=2)",
        "(compose.SelectType(str) | preprocessing.OneHotEncoder) + (compose.SelectType(float) | "
        "preprocessing.StandardScaler) | linear_model.LogisticRegression(l2=-0.0)",
    ],
)
def test_an_expression_makes_a_model(expression: str) -> None:
    """Parameters, nesting, pipelines and unions: what people write in a notebook."""
    model = river_model(expression, seed=5)

    model.learn_one({"a": 1.0, "b": "x"}, True)
    assert model.predict_one({"a": 1.0, "b": "x"}) in (True, False)
    assert getattr(model, "seed", 5) == 5


@pytest.mark.parametrize(
    "expression",
    [
        "forest.ARF",
        "nowhere.ARFClassifier",
        "__import__('os').system('true')",
        "forest.ARFClassifier.__init__",
        "forest._x.Y",
        "forest.ARFClassifier(n_modelz=3)",
        "forest.ARFClassifier(",
        "[1, 2]",
        "lambda: 1",
        "drift.ADWIN",
        "utils.math.prod",
        "",
    ],
)
def test_nothing_else_can_be_named(expression: str) -> None:
    """An expression is read, never run: what stands in a command may have come from anywhere."""
    with pytest.raises(ConfigError, match="wanted a model of River's"):
        river_model(expression)
