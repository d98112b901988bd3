"""The engine that decides, under the promises that hold of every engine: the same bits however records come."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from msgspec.structs import replace

from streammeta.decisions import DecisionEngine, DecisionOutcome
from streammeta.engine import EngineSettings
from streammeta.engine.settings import DecideSettings
from streammeta.engine.snapshot import write_snapshot
from streammeta.errors import ConfigError
from streammeta.event import Event, Label, Origin

ACTIONS = ("red", "blue", "green")


def engine_of(decide: dict[str, Any] | None = None, **settings: Any) -> DecisionEngine:
    how = DecideSettings(actions=ACTIONS, **(decide or {}))
    return DecisionEngine(EngineSettings(kind="regression", decide=how, **settings))


def stream(events: int, *, features_of_actions: bool = False) -> list[Event | Label]:
    """Events of twelve tasks, a feature that comes late, and rewards some of which come much later than others."""
    random = np.random.default_rng(0)
    out: list[Event | Label] = []
    waiting: list[Label] = []
    for i in range(events):
        x = {f"f{k}": float(random.standard_normal()) for k in range(3 + (i > events // 3))}
        actions = {name: {"price": float(random.standard_normal())} for name in ACTIONS[: 2 + i % 2]}
        given = {"actions": actions} if features_of_actions else {}
        out.append(Event(x, f"t{random.integers(12)}", Origin("e", 0, len(out)), id=str(i), ts=float(i), **given))
        waiting.append(Label(str(i), float(random.standard_normal() + x["f0"]), "", Origin("e", 0, 0)))
        if len(waiting) > 20 or random.random() < 0.3:
            late = waiting.pop(int(random.integers(len(waiting))))
            out.append(Label(late.id, late.y, "", Origin("e", 0, len(out))))
    return out


def said(outcomes: Sequence[Any]) -> list[Any]:
    return [
        (o.action, o.propensity, o.propensities, o.scores, o.reward, o.rejected, o.signal, o.theta_version, o.error)
        for o in outcomes
    ]


def steps(engine: DecisionEngine, events: Sequence[Event | Label], size: int) -> list[Any]:
    return [o for begin in range(0, len(events), size) for o in engine.step(events[begin : begin + size])]


@pytest.mark.parametrize(
    ("settings", "features"),
    [
        ({}, False),
        ({"memory": {"max_tasks": 10, "window": 64}}, False),
        ({"memory": {"forget_after": 150}}, False),
        ({"drift": {"response": "recall"}}, False),
        ({"decide": {"heads": "shared"}}, True),
        ({"decide": {"exploration": "thompson"}}, True),
    ],
)
def test_decisions_do_not_depend_on_polls(settings: dict[str, Any], features: bool) -> None:
    """A replay after a crash polls otherwise: then a record must get the action and the propensity that it had."""
    events = stream(220, features_of_actions=features)
    one = said(steps(engine_of(**settings), events, 1))

    assert said(steps(engine_of(**settings), events, 7)) == one
    assert said(steps(engine_of(**settings), events, 1000)) == one
    assert len({p for _, p, *_ in one}) > 20


@pytest.mark.parametrize("decide", [{}, {"crossed": 0}, {"crossed": 9}, {"heads": "shared"}, {"exploration": "greedy"}])
def test_decisions_taken_together_are_those_taken_one_by_one(decide: dict[str, Any], tmp_path: Path) -> None:
    """Events that name the configured actions themselves go another way, of which nothing may be seen."""
    events = stream(300)
    named = [replace(one, actions=list(ACTIONS)) if isinstance(one, Event) else one for one in events]
    together, alone = engine_of(decide), engine_of(decide)

    assert said(steps(together, events, 64)) == said(steps(alone, named, 64))
    assert together.stats() == alone.stats()
    for number, engine in enumerate((together, alone)):
        write_snapshot(tmp_path / str(number), engine.snapshot(), {})
    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes()


def test_a_reward_that_names_its_task_finds_its_decision_and_says_the_action() -> None:
    """By both kinds of heads, together with others or alone."""
    for heads in ("each", "shared"):
        for size in (1, 40):
            engine = engine_of({"heads": heads})
            events = [Event({"a": float(i)}, f"t{i % 5}", Origin("e", 0, i), id=str(i)) for i in range(20)]
            labels = [Label(str(i), 1.0, f"t{i % 5}", Origin("e", 0, 20 + i)) for i in range(20)]
            found = steps(engine, [*events, *labels], size)

            assert [one.action for one in found[20:]] == [one.action for one in found[:20]]
            assert all(one.reward == 1.0 for one in found[20:])


def test_more_decisions_wait_than_may_and_the_oldest_has_no_reward_any_more() -> None:
    """A decision and the reward of the one that it pushes out may come together."""
    events: list[Event | Label] = [Event({"a": float(i)}, "t", Origin("e", 0, i), id=str(i)) for i in range(12)]
    events += [Label("1", 1.0, "t", Origin("e", 0, 12)), Label("11", 1.0, "t", Origin("e", 0, 13))]
    settings = {"memory": {"max_waiting": 4}}
    one = said(steps(engine_of(**settings), events, 1))

    assert said(steps(engine_of(**settings), events, 20)) == one
    assert "no decision of that id waits" in str(one[12][5])
    assert one[13][5] is None


def test_a_restored_engine_goes_on_to_the_bit() -> None:
    """Snapshot in the middle, with decisions waiting for their reward."""
    events, undisturbed = stream(300), engine_of()
    expected = said(steps(undisturbed, events, 50))
    first = engine_of()
    steps(first, events[:200], 50)
    second = DecisionEngine.restore(first.settings, first.snapshot())

    assert said(steps(second, events[200:], 50)) == expected[200:]
    assert second.stats() == undisturbed.stats()


def test_a_decision_and_its_reward_are_one_record_of_the_log() -> None:
    """Late, once, for the action that was taken; a second reward, and one of another task, is refused."""
    engine = engine_of()
    events = [
        Event({"a": 1.0}, "shop", Origin("e", 0, 0), id="7"),
        Label("7", 2.0, "other", Origin("e", 0, 1)),
        Label("7", 2.0, "shop", Origin("e", 0, 2)),
        Label("7", 2.0, "shop", Origin("e", 0, 3)),
        Label("8", 1.0, "", Origin("e", 0, 4)),
    ]
    made, wrong, reward, twice, unknown = engine.step(events)

    assert made.event is events[0]
    assert reward.event is events[2]
    assert (reward.action, reward.reward) == (made.action, 2.0)
    assert (
        wrong.rejected
        == "e/0/1: a reward for id '7' of task 'other', but the decision of that id that waits is of 'shop'"
    )
    assert "had its reward already" in str(twice.rejected)
    assert "no decision of that id waits" in str(unknown.rejected)
    assert engine.stats().labelled == 1


def test_a_decision_made_elsewhere_is_learned() -> None:
    """A log, or a rule that ran before: the action comes with the event, its reward with it or later."""
    engine = engine_of()
    found = engine.step(
        [
            Event({"a": 1.0}, "shop", Origin("e", 0, 0), y=1.0, action="blue"),
            Event({"a": 1.0}, "shop", Origin("e", 0, 1), id="9", action="red"),
            Label("9", 0.0, "", Origin("e", 0, 2)),
            Event({"a": 1.0}, "shop", Origin("e", 0, 3), y=1.0, action="pink"),
            Event({"a": 1.0}, "shop", Origin("e", 0, 4), y=1.0),
        ]
    )

    assert [(o.action, o.reward) for o in found[:3]] == [("blue", 1.0), ("red", None), ("red", 0.0)]
    assert found[3].rejected == "e/0/3: `action` is 'pink'; wanted one of red, blue, green"
    assert "a reward `y` without the `action` that earned it" in str(found[4].rejected)
    assert engine.stats().labelled == 2


def test_labels_become_rewards_where_the_settings_say_so() -> None:
    engine = engine_of({"rewards": "label"})
    now, later, label = engine.step(
        [
            Event({"a": 1.0}, "", Origin("e", 0, 0), y="blue"),
            Event({"a": 1.0}, "", Origin("e", 0, 1), id="1"),
            Label("1", "red", "", Origin("e", 0, 2)),
        ]
    )

    assert now.reward == float(now.action == "blue")
    assert label.reward == float(later.action == "red")


@pytest.mark.parametrize(
    ("actions", "complaint"),
    [
        (["red"], "wanted a list of 2 to 1,000 different names"),
        (["red", "red"], "wanted a list of 2 to 1,000 different names"),
        ("red", "wanted a list of 2 to 1,000 different names"),
        (["red", "a→b"], "wanted a name of at most 1,000 characters without '→'"),
        (["red", True], "wanted a name of at most"),
        ({"red": {}, "blue": 3}, "action 'blue' has 3; wanted an object of features"),
        ({"red": {}, "blue": {"a": [1]}}, "feature 'a' of action 'blue' is '[1]'; wanted a number"),
    ],
)
def test_actions_that_are_none_are_refused_with_the_reason(actions: Any, complaint: str) -> None:
    engine = engine_of()
    (found,) = engine.step([Event({"a": 1.0}, "t", Origin("e", 0, 3), actions=actions)])

    assert isinstance(found, DecisionOutcome)
    assert str(found.rejected).startswith("e/0/3: ")
    assert complaint in str(found.rejected)
    assert engine.stats().events == 0


def test_a_task_is_forgotten_with_all_of_its_actions() -> None:
    engine = engine_of()
    steps(engine, [Event({"a": 1.0}, f"t{i % 2}", Origin("e", 0, i)) for i in range(60)], 60)
    before = engine.stats().tasks

    assert before == 6
    assert engine.forget(0, "t1")
    assert not engine.forget(0, "t1")
    assert engine.stats().tasks == 3


def test_what_is_foreseen_is_what_is_decided() -> None:
    """`propensities` looks without touching: it must say what `step` would."""
    engine, events = engine_of(), stream(200)
    steps(engine, events, 50)
    event = Event({"f0": 0.3, "f1": -1.0, "new": 2.0}, "t3", Origin("e", 0, 9_999))
    propensities, scores = engine.propensities(event)
    (made,) = engine.step([event])

    assert propensities == made.propensities
    assert scores == made.scores


def test_settings_that_cannot_decide_are_refused() -> None:
    with pytest.raises(ConfigError, match="wanted a regression with `decide`"):
        DecisionEngine(EngineSettings())
    with pytest.raises(ConfigError, match="experts: are not used"):
        engine_of(learner={"experts": ("persistence",)})
    with pytest.raises(ValueError, match="wanted two or more, all different"):
        DecideSettings(actions=("red",))


def turns(random: np.random.Generator, *, late: bool) -> list[Event | Label]:
    """Twenty-eight turns of decisions of three tasks, then their rewards; or these come late, among decisions of the next."""
    events, rewards = list[Event | Label](), list[Label]()
    for turn in range(28):
        due, rewards = rewards, []
        for i in range(int(random.integers(10, 60))):
            x, task = {f"f{k}": float(random.standard_normal()) for k in range(3)}, f"t{random.integers(3)}"
            events.append(Event(x, task, Origin("e", 0, len(events)), id=f"{turn}.{i}"))
            rewards.append(Label(f"{turn}.{i}", 50.0 * (turn > 14) + float(x["f0"]), task, events[-1].origin))
            if late and due and random.random() < 0.8:
                events.append(replace(due.pop(), origin=Origin("e", 0, len(events))))
        if not late:
            due, rewards = rewards, []
        events += [replace(one, origin=Origin("e", 0, len(events) + i)) for i, one in enumerate(due)]
    return events


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("heads", ["each", "shared"])
def test_decisions_that_wait_for_others_in_their_midst_are_those_taken_one_by_one(
    late: bool, heads: Literal["each", "shared"], tmp_path: Path
) -> None:
    """Heads derived again, looks at tasks, and rewards of the same task: all come in waves, of which nothing is seen."""
    events = turns(np.random.default_rng(3), late=late)
    together, alone = engine_of({"heads": heads}), engine_of({"heads": heads})

    assert said(steps(together, events, 1_000)) == said(steps(alone, events, 1))
    assert together.stats() == alone.stats()
    assert together.stats().meta_updates > 0
    for number, engine in enumerate((together, alone)):
        write_snapshot(tmp_path / str(number), engine.snapshot(), {})
    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes()
