"""Features made of a task's past where actions are chosen: of the task, whichever action was taken, exactly once."""

from typing import Any

import numpy as np
import pytest

from streammeta.app.explanation import explain_decision
from streammeta.decisions import DecisionEngine
from streammeta.event import Event, Label, Origin
from tests.decisions.test_decision_engine import ACTIONS, engine_of, said, steps, stream
from tests.engine.extraction.test_rolling import reference
from tests.engine.handover.test_handover import Log, take, write

ROLLING: list[dict[str, Any]] = [
    {"of": "f0", "make": ["lag", "mean", "since"], "events": 3},
    {"of": "label", "make": ["lag", "count"], "events": 5, "seconds": 40.0},
]
FEATURES = {"rolling": ROLLING}


@pytest.mark.parametrize(
    ("settings", "features"),
    [
        ({}, False),
        ({"memory": {"max_tasks": 10, "window": 64}}, False),
        ({"memory": {"forget_after": 150}}, False),
        ({"memory": {"max_known_tasks": 20}}, False),
        ({"decide": {"heads": "shared"}}, True),
        ({"decide": {"exploration": "thompson"}}, True),
    ],
)
def test_decisions_do_not_depend_on_polls(settings: dict[str, Any], features: bool) -> None:
    """Two decisions of a task in one poll: the second must see the first's features, as if it had come alone."""
    events = stream(220, features_of_actions=features)
    one = said(steps(engine_of(features=FEATURES, **settings), events, 1))

    assert said(steps(engine_of(features=FEATURES, **settings), events, 7)) == one
    assert said(steps(engine_of(features=FEATURES, **settings), events, 1000)) == one


@pytest.mark.parametrize("heads", ["each", "shared"])
def test_each_decision_has_what_the_list_of_all_before_it_says(heads: str) -> None:
    """The past is the task's, over all of its actions; rewards count from when they come."""
    engine, given = engine_of({"heads": heads}, features=FEATURES), stream(200)
    task_of = {one.id: one.task for one in given if isinstance(one, Event)}
    named = [Label(o.id, o.y, task_of[o.id], o.origin) if isinstance(o, Label) else o for o in given]
    found = []
    for one in given:
        if isinstance(one, Event):
            found.append(engine.extracted(one))
        engine.step([one])

    made = [{name: value for name, value in one.x.items() if name not in one.came} for one in found]  # type: ignore
    wanted = reference(named, "regression", ROLLING)
    assert all(one == pytest.approx(other) for one, other in zip(made, wanted, strict=True))
    assert len(made) == 200


@pytest.mark.parametrize("heads", ["each", "shared"])
def test_a_restored_and_a_moved_engine_go_on_to_the_bit(heads: str) -> None:
    """The row with a task's past is state as the others."""
    events = stream(240)
    stays, log = engine_of({"heads": heads}, features=FEATURES, meta={"mode": "off"}), Log()
    handover = stays.handover()
    for begin in range(0, 160, 20):
        stays.step(events[begin : begin + 20])
        write(log, handover)
    restored = DecisionEngine.restore(stays.settings, stays.snapshot())
    goes = DecisionEngine(stays.settings)
    goes.adopt(stays.shared_weights(), train=True)
    heard = {number: goes.add_sums(number, value, "weights/0") for number, value in stays.changed_sums()}
    take(goes.handover(), log, 0)
    goes.own_sums((0,), heard)

    rest = said(steps(stays, events[160:], 9))

    assert said(steps(restored, events[160:], 9)) == rest
    assert said(steps(goes, events[160:], 9)) == rest
    assert all("→" not in task.task or task.task[-1] != "→" for task in stays.tasks())


def test_what_the_event_before_showed_decides() -> None:
    """The right action is said one event ahead: without the past there is nothing to choose by."""
    earned = {}
    for name, features in (("past", {"rolling": [{"of": "sign", "make": ["lag"]}]}), ("none", {})):
        random, engine, total, before = np.random.default_rng(3), engine_of(features=features), 0.0, [0] * 4
        for i in range(600):
            task, sign = i % 4, int(random.integers(3))
            event = Event({"sign": float(sign)}, f"t{task}", Origin("e", 0, i), id=str(i))
            (done,) = engine.step([event])
            reward = float(done.action == ACTIONS[before[task]])
            before[task] = sign
            engine.step([Label(str(i), reward, "", Origin("e", 0, i))])
            total += reward if i >= 300 else 0.0
        earned[name] = total / 300

    assert earned["past"] > 0.7
    assert earned["none"] < 0.45


def test_an_explanation_has_them() -> None:
    """They are features as the others, and add up."""
    engine, given = engine_of(features=FEATURES), stream(150)
    engine.step(given[:-1])
    event = next(one for one in reversed(given) if isinstance(one, Event))

    found = explain_decision(engine, event)

    assert {"f0", "f0.lag_1", "f0.mean_3", "label.count_40s"} <= {one.feature for one in found.contributions}
    total = sum(one.contribution for one in found.contributions)
    assert total == pytest.approx(found.predicted - found.without_features, abs=1e-6)


def test_a_text_says_what_to_choose() -> None:
    """Text needs no past: nothing is kept beside the actions' tasks."""
    random, engine, total = np.random.default_rng(4), engine_of(features={"text": ["asked"]}), 0.0
    for i in range(500):
        wanted = int(random.integers(3))
        asked = f"please the {ACTIONS[wanted]} one, order {random.integers(1_000)}"
        (done,) = engine.step([Event({"asked": asked}, f"t{i % 4}", Origin("e", 0, i), id=str(i))])
        reward = float(done.action == ACTIONS[wanted])
        engine.step([Label(str(i), reward, "", Origin("e", 0, i))])
        total += reward if i >= 250 else 0.0

    assert total / 250 > 0.7
    assert engine.stats().tasks == 4 * len(ACTIONS)


def test_a_forgotten_tasks_past_is_forgotten() -> None:
    """With all of its actions."""
    engine = engine_of(features=FEATURES)
    events = [Event({"f0": float(i)}, "t", Origin("e", 0, i), id=str(i)) for i in range(4)]
    engine.step(events[:3])

    assert engine.forget(0, "t")

    assert "f0.lag_1" not in engine.extracted(events[3]).x
    assert engine.stats().tasks == 0
