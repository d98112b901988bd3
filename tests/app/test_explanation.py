import math
from contextlib import closing

import msgspec
import numpy as np
import pytest

from streammeta.app.explanation import explain, explain_decision, read_event
from streammeta.app.parts import decoder
from streammeta.config import Settings
from streammeta.decisions import DecisionEngine
from streammeta.engine import Engine, EngineSettings
from streammeta.engine.settings import DecideSettings, MetaSettings
from streammeta.errors import ConfigError
from streammeta.event import Decoder, Event, Label, Origin
from streammeta.meta.settings import LearnerSettings
from streammeta.service.contributions import shapley

SMALL = {"learner": LearnerSettings(hidden=8, encoded=4), "meta": MetaSettings(mode="off")}


def trained(kind: str, events: int = 300) -> Engine:
    """Of three features only the first decides, positively; another task wants it the other way round."""
    random, engine = np.random.default_rng(3), Engine(EngineSettings(kind=kind, **SMALL))
    for number in range(events):
        a, b, c = random.normal(size=3)
        for task, sign in (("up", 1), ("down", -1)):
            y = 3.0 * sign * a if kind == "regression" else ("no", "yes")[int(sign * a > 0)]
            engine.step([Event({"a": a, "b": b, "c": c}, task, Origin("t", 0, number), y=y)])
    return engine


@pytest.mark.parametrize("kind", ["regression", "classification"])
def test_contributions_add_up_and_name_the_feature_that_decides_in_this_task(kind: str) -> None:
    """The truth is known: "a" alone decides, and in the other task with the other sign."""
    engine = trained(kind)
    x = {"a": 1.5, "b": -0.7, "c": 0.2}

    up, down = (explain(engine, Event(x, task, Origin("t", 0, 999))) for task in ("up", "down"))

    for found in (up, down):
        total = sum(one.contribution for one in found.contributions)
        assert math.isclose(found.without_features + total, found.predicted, abs_tol=1e-9)
        assert found.contributions[0].feature == "a"
        assert abs(found.contributions[0].contribution) > 3 * abs(found.contributions[1].contribution)
        assert (found.is_new, found.labelled) == (False, 300)
    if kind == "regression":
        assert up.contributions[0].contribution > 2.0
        assert down.contributions[0].contribution < -2.0
    else:
        assert (up.prediction, down.prediction) == ("yes", "no")
    engine.close()


def test_an_explanation_says_the_interval_where_there_is_one() -> None:
    """It would have to be looked up in the predictions, of another moment."""
    with closing(Engine(EngineSettings(kind="regression", interval=0.9, **SMALL))) as engine:
        for number in range(50):
            engine.step([Event({"a": float(number % 5)}, "t", Origin("t", 0, number), y=number % 5 + number % 2)])

        found = explain(engine, Event({"a": 2.0}, "t", Origin("t", 0, 99)))

    assert found.interval is not None
    assert found.interval[0] < found.predicted < found.interval[1]
    assert found.figures()["interval"] == found.interval


def test_to_explain_changes_nothing() -> None:
    """It is asked of an engine that may go on; the next prediction must be what it would have been."""
    engine, untouched = trained("regression", 40), trained("regression", 40)
    event = Event({"a": 0.3, "b": 0.1}, "up", Origin("t", 0, 400), y=1.0)

    explain(engine, event)

    (after,), (without,) = engine.step([event]), untouched.step([event])
    assert after.prediction == without.prediction
    engine.close()
    untouched.close()


def test_many_features_are_sampled_and_the_error_says_how_well() -> None:
    """With ten features there are three million orders; sampled values must cover the true ones, and add up all the same."""
    names = [f"f{at}" for at in range(10)]
    weights = dict(zip(names, np.arange(10.0), strict=True))

    def value(known: frozenset[str]) -> float:
        return sum(weights[name] for name in known) + 10.0 * ({"f0", "f9"} <= known)

    found, errors = shapley(names, value)

    assert math.isclose(sum(found.values()), value(frozenset(names)))
    truth = weights | {"f0": 5.0, "f9": 14.0}
    for name in names:
        assert abs(found[name] - truth[name]) <= 4 * errors[name] + 1e-9
    assert errors["f1"] < 1e-9


def test_a_new_task_is_explained_by_what_all_share_and_nothing_learned_is_said() -> None:
    """The first question about a new shop, and about a new service."""
    engine, empty = trained("classification", 60), Engine(EngineSettings(kind="classification", **SMALL))

    found = explain(engine, Event({"a": 1.0}, "new", Origin("t", 0, 0)))

    assert (found.is_new, found.labelled, found.recent_error) == (True, 0, None)
    assert found.median_error is not None
    with pytest.raises(ConfigError, match="no label was learned yet"):
        explain(empty, Event({"a": 1.0}, "new", Origin("t", 0, 0)))
    for one in (engine, empty):
        one.close()


@pytest.mark.parametrize("heads", ["each", "shared"])
def test_a_decision_is_explained_by_its_actions_and_by_what_the_best_one_is_expected_to_earn(heads: str) -> None:
    """The truth is known: red earns "a", blue earns its opposite, "b" earns nothing; both were tried."""
    how = DecideSettings(actions=("red", "blue"), exploration="epsilon_greedy", epsilon=0.5, heads=heads)
    engine, random = DecisionEngine(EngineSettings(kind="regression", decide=how, **SMALL)), np.random.default_rng(0)
    for number in range(300):
        a, b = random.normal(size=2)
        (chosen,) = engine.step([Event({"a": a, "b": b}, "s", Origin("t", 0, 2 * number), id=str(number))])
        earned = a if chosen.action == "red" else -a
        engine.step([Label(str(number), earned, "s", Origin("t", 0, 2 * number + 1))])
    event = Event({"a": 1.5, "b": 0.2}, "s", Origin("t", 0, 999))

    found, new = explain_decision(engine, event), explain_decision(engine, msgspec.structs.replace(event, task="new"))

    propensities, scores = engine.propensities(event)
    assert {one.action: one.expected for one in found.actions} == scores
    assert {one.action: one.propensity for one in found.actions} == propensities
    assert sum(one.labelled for one in found.actions) == (300 if heads == "each" else 600)
    assert (found.best, found.is_new, found.contributions[0].feature) == ("red", False, "a")
    assert math.isclose(
        found.without_features + sum(one.contribution for one in found.contributions), found.predicted, abs_tol=1e-9
    )
    if heads == "each":  # one head for all needs meta-updates, which are off here, to see what an action does to "a"
        assert found.contributions[0].contribution > 1.0 > 10 * abs(found.contributions[1].contribution)
    assert (new.is_new, {one.labelled for one in new.actions}) == (True, {0})
    with pytest.raises(ConfigError, match="wanted a list of 2 to"):
        explain_decision(engine, msgspec.structs.replace(event, actions=["one"]))
    engine.close()


def test_an_event_is_written_as_json_whatever_the_topics_format() -> None:
    """Nobody can type Avro: of such a topic nothing could be explained."""
    settings = Settings(
        input={
            "format": "avro",
            "registry": {"url": "http://127.0.0.1:9"},
            "fields": {"task": "store.id", "label": "sold"},
        }
    )

    event = read_event('{"store": {"id": "s1"}, "price": 0.7}', decoder(settings, as_json=True))

    assert (event.task, dict(event.x)) == ("s1", {"price": 0.7})


def test_what_is_no_event_is_refused_with_the_decoders_reason() -> None:
    """It is typed by hand."""
    with pytest.raises(ConfigError, match="not an event"):
        read_event("{", Decoder())
    with pytest.raises(ConfigError, match="is a label"):
        read_event('{"id": "1", "y": 2}', Decoder())
