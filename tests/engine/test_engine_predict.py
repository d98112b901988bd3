"""`Engine.predict`: what would be said of an event, without taking it in."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from streammeta.engine import Engine, EngineSettings, Signal
from streammeta.event import Event, Origin

_SETTINGS: dict[str, dict[str, Any]] = {
    "classes": {},
    "targets": {"kind": "regression"},
    "classes with experts": {"learner": {"experts": ["persistence", "neighbours"]}},
    "targets with neighbours": {"kind": "regression", "learner": {"experts": ["neighbours"]}},
    "a model of River": {"learner": {"experts": ["river:naive_bayes.GaussianNB"]}},
    "tasks in the spill": {"memory": {"max_tasks": 2}},
    "another method": {"learner": {"method": "r2d2", "support": 8}, "meta": {"every_events": 40}},
    "another method for targets": {
        "kind": "regression",
        "learner": {"method": "alpaca", "support": 8},
        "meta": {"every_events": 40},
    },
    "without an ensemble": {"learner": {"members": 1}, "drift": {"response": "reset"}},
}


def messy(n: int, kind: str) -> list[Event]:
    """Events whose features and classes come late and vanish, of six tasks whose concepts switch."""
    random = np.random.default_rng(7)
    events = []
    for i in range(n):
        task = int(random.integers(6))
        x: dict[str, Any] = {name: float(v) for name, v in zip("cab", random.normal(size=3), strict=True)}
        x["colour"] = str(random.choice(["red", "blue", "green"][: 1 + i // 100]))
        if i > 150:
            x["late"] = float(random.normal())
        del x[str(random.choice(list(x)))]
        value = (-1) ** (task + i // 150) * x.get("a", 0.0) + x.get("b", 0.0)
        y = int(value > 0) + 2 * int(i > 200 and value > 1) if kind == "classification" else value
        events.append(Event(x, f"task-{task}", Origin("test", 0, i), y=y))
    return events


@pytest.mark.parametrize("settings", _SETTINGS.values(), ids=_SETTINGS.keys())
def test_it_says_what_step_then_says(settings: dict[str, Any]) -> None:
    """Else an estimator that predicts and then learns would not be the service."""
    engine = Engine(EngineSettings.model_validate(settings))

    for event in messy(320, engine.settings.kind):
        (said,) = engine.predict([event])
        (outcome,) = engine.step([event])

        then = replace(outcome, loss=None, error=None, signal=said.signal)
        assert said == then
        assert (said.signal is Signal.NEW_TASK) == (outcome.signal is Signal.NEW_TASK)


@pytest.mark.parametrize("settings", _SETTINGS.values(), ids=_SETTINGS.keys())
def test_it_changes_nothing(settings: dict[str, Any]) -> None:
    """A prediction that counts, or makes room for a feature, would change every later one."""
    asked, left_alone = (Engine(EngineSettings.model_validate(settings)) for _ in range(2))
    events = messy(300, asked.settings.kind)
    strangers = [Event({"new": 1.0, "colour": "pink"}, task, Origin("test", 0, 0)) for task in ("task-0", "nobody")]

    for i, event in enumerate(events):
        asked.step([event])
        left_alone.step([event])
        if i % 10 == 0:
            asked.predict([*strangers, *events[:5]])

    one, other = asked.snapshot(), left_alone.snapshot()
    assert one.header == other.header
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name], err_msg=name)


def test_a_bad_event_is_refused_with_its_reason(linear_tasks: Callable[..., list[Event]]) -> None:
    """As in `step`: the others go on."""
    engine = Engine(EngineSettings())
    events = linear_tasks(60)
    engine.step(events)

    bad, good = engine.predict([Event({"a": float("inf")}, "task-1", Origin("test", 3, 9)), events[0]])

    assert bad.rejected is not None
    assert bad.rejected.startswith("test/3/9: a feature is inf")
    assert good.prediction in (0, 1)
