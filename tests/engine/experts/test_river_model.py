"""River's models as experts."""

from pathlib import Path

import numpy as np
import pytest
import structlog
from msgspec.structs import replace
from river import base, forest, linear_model

from streammeta.engine import Engine, EngineSettings, Outcome
from streammeta.engine.experts import Case
from streammeta.engine.experts.river_model import RiverModel
from streammeta.engine.snapshot import write_snapshot
from streammeta.event import Event, Label, Origin
from streammeta.service.loop import restore

NO_META = {"meta": {"mode": "off"}}


def settings(*experts: object, **more: object) -> EngineSettings:
    return EngineSettings.model_validate({"learner": {"experts": experts, "hidden": 12, "encoded": 8}} | more)


def boxes(n: int, seed: int) -> list[Event]:
    """Short tasks, under one concept made of steps: what a tree over all tasks learns, and no young head."""
    random = np.random.default_rng(seed)
    events = []
    for i in range(n):
        a, b = random.uniform(0, 4, size=2)
        y = (int(a) + 2 * int(b)) % 3
        events.append(Event({"a": float(a), "b": float(b)}, f"t{i // 50}", Origin("boxes", 0, i), y=y))
    return events


def errors(outcomes: list[Outcome]) -> float:
    return sum(outcome.error or 0.0 for outcome in outcomes) / len(outcomes)


class Spy(base.Classifier):
    """Notes what it is shown; fails when told to."""

    def __init__(self, fails_after: int = 1_000) -> None:
        self.seen: list[dict[str, object]] = []
        self.fails_after = fails_after

    @property
    def _multiclass(self) -> bool:
        return True

    def learn_one(self, x: dict[str, object], y: int) -> None:  # noqa: ARG002  River calls it so
        self.seen.append(dict(x))
        if len(self.seen) > self.fails_after:
            raise KeyError("a secret feature")

    def predict_one(self, x: dict[str, object]) -> int:  # noqa: ARG002  River calls it so
        return 1


def cases(tags: str) -> list[Case]:
    return [Case(0, tag, np.array([i, i % 2, np.nan], np.float32)) for i, tag in enumerate(tags)]


def spied(fails_after: int = 1_000) -> tuple[RiverModel, Spy]:
    spy = Spy(fails_after)
    return RiverModel("spy", spy, "classification", lambda: [("n", None, 3), ("c", "red", 3), ("m", None, 3)]), spy


def test_a_forest_helps_where_one_law_of_steps_holds_for_young_tasks() -> None:
    """The reason for experts of other make: trees err elsewhere than smooth heads do."""
    events = boxes(1500, seed=3)

    with_it, without = (
        errors(Engine(one).step(events)[700:]) for one in (settings("river:forest.ARFClassifier"), settings())
    )

    assert with_it < 0.8 * without


def test_a_linear_model_helps_young_tasks_of_a_regression() -> None:
    """The same for targets, whose scale the model must not have to know."""
    random = np.random.default_rng(0)
    events = []
    for i in range(900):
        x = random.normal(size=6) * [1, 10, 100, 1, 1, 1]
        y = 1e4 + 500 * float(x @ [1, 0.1, 0.01, -1, 2, 0.5]) + float(random.normal())
        events.append(Event({f"f{k}": float(v) for k, v in enumerate(x)}, f"t{i // 30}", Origin("r", 0, i), y=y))
    kind = {"kind": "regression"} | NO_META

    with_it, without = (
        errors(Engine(one).step(events)[300:])
        for one in (settings("river:linear_model.BayesianLinearRegression", **kind), settings(**kind))
    )

    assert with_it < 0.8 * without


def test_features_come_by_name_standardized_and_the_tag_once_there_are_two_tasks() -> None:
    """A model that got slots instead of names, or raw thousands, would be another model than the user chose."""
    expert, spy = spied()

    for case in cases("ssst"):
        expert.predict({}, case, 2)
        expert.learn({}, case, 1.0)

    assert [set(x) for x in spy.seen] == [{"n", "c=red"}] * 3 + [{"n", "c=red", "(task)=t"}]
    assert spy.seen[-1]["n"] == pytest.approx(1.5 / np.std([0, 1, 2, 3]))
    assert [x["c=red"] for x in spy.seen] == [0.0, 1.0, 0.0, 1.0]


def test_trees_are_told_the_tag_as_a_category_and_numbers_as_they_are() -> None:
    """A forest splits on the tag at once, and on a number wherever it lies."""
    model = forest.ARFClassifier(n_models=1, seed=0)
    expert = RiverModel("f", model, "classification", lambda: [("n", None, 3), ("c", "red", 3), ("m", None, 3)])

    for case in cases("st"):
        expert.learn({}, case, 1.0)

    assert expert._features(cases("sts")[2]) == {"n": 2.0, "c=red": 0.0, "(task)": "s"}


def test_a_model_that_fails_is_left_out_and_the_stream_goes_on() -> None:
    """A library of others must not stop a service; and what it said of a feature must not get into the log."""
    expert, _ = spied(fails_after=2)

    with structlog.testing.capture_logs() as logs:
        said = []
        for case in cases("ssss"):
            said.append(expert.predict({}, case, 2))
            expert.learn({}, case, 1.0)

    assert [one is None for one in said] == [False, False, False, True]
    errors = [line for line in logs if line["log_level"] == "error"]
    assert [line["expert"] for line in errors] == ["spy"]
    assert "secret" not in str(errors)


def test_a_binary_model_learns_many_classes() -> None:
    """River's logistic regression knows two; it is put one against the rest."""
    expert = RiverModel("l", linear_model.LogisticRegression(), "classification", lambda: [("n", None, 1)])
    for i in range(300):
        expert.learn({}, Case(0, "t", np.array([i % 3], np.float32)), float(i % 3))

    said = [expert.predict({}, Case(0, "t", np.array([n], np.float32)), 3) for n in (0, 2)]

    assert [int(one.argmax()) for one in said if one is not None] == [0, 2]


def test_it_begins_anew_after_a_restore_says_so_and_all_else_goes_on(linear_tasks, tmp_path: Path) -> None:
    """No pickle, so no memory of River's; the warning is how an operator knows. The learner's own part is the same."""
    name = "river:forest.ARFClassifier"
    events = linear_tasks(300)
    engine = Engine(settings(name))
    engine.step(events[:200])
    write_snapshot(tmp_path / "state", engine.snapshot(), {("test", 0): 200})

    with structlog.testing.capture_logs() as logs:
        again, positions = restore(settings(name), tmp_path / "state")
    here, there = engine.step(events[200:]), again.step(events[200:])

    assert [line["experts"] for line in logs if line["log_level"] == "warning"] == [name]
    assert positions == {("test", 0): 200}
    assert engine.stats() == again.stats()
    assert [o.theta_version for o in here] == [o.theta_version for o in there]
    assert errors(there) < errors(here) + 0.1
    assert there != here


def test_a_late_label_is_held_against_what_was_said_then(linear_tasks) -> None:
    """Judged again when the label comes, "as last time" would seem right of labels that it could not know in time."""
    events = linear_tasks(400, tasks=1)
    late: list[Event | Label] = []
    for i, event in enumerate(events):
        late.append(replace(event, y=None))
        if i >= 10:
            late.append(Label(str(i - 10), events[i - 10].y, "task-0", Origin("labels", 0, i)))
    engine = Engine(settings("neighbours", "river:linear_model.LogisticRegression"))

    outcomes = engine.step(late)

    said = {o.event.id: o.probabilities for o in outcomes if isinstance(o.event, Event)}
    judged = [o for o in outcomes if isinstance(o.event, Label)]
    assert all(o.probabilities == pytest.approx(said[o.event.id], abs=1e-6) for o in judged)
    assert errors(judged[100:]) < 0.25
