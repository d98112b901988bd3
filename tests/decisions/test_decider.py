import pickle
from typing import Any

import numpy as np
import pytest

from streammeta.decisions import MetaDecider
from streammeta.decisions.exploration import drawn, stable_uniform
from streammeta.errors import ConfigError, EventError

SHOPS = 6


def run(decider: MetaDecider, events: int, late: int = 0) -> list[tuple[str, float, float]]:
    """Offers to shops, each with a taste of its own; the reward comes ``late`` events later. Action, propensity, reward."""
    random = np.random.default_rng(5)
    taste = random.standard_normal((SHOPS, 2, 2))
    made, open_ = [], []
    for i in range(events):
        shop, x = i % SHOPS, random.standard_normal(2)
        found = decider.choose_one({"shop": shop, "a": x[0], "b": x[1]}, id=i)
        reward = float(taste[shop, ("red", "blue").index(found.action)] @ x > 0)
        made.append((found.action, found.propensity, reward))
        open_.append((i, reward))
        if len(open_) > late:
            decider.reward_one(*open_.pop(0))
    return made


@pytest.mark.parametrize("exploration", ["inverse_gap", "thompson", "upper_confidence", "epsilon_greedy", "greedy"])
def test_every_exploration_learns_which_action_pays(exploration: str) -> None:
    """Against the truth: by chance half of the rewards come; the best choice of two has three quarters."""
    made = run(MetaDecider(["red", "blue"], "shop", exploration=exploration), 900)

    assert np.mean([reward for _, _, reward in made[-400:]]) > 0.6


@pytest.mark.parametrize("exploration", ["inverse_gap", "thompson", "epsilon_greedy", "greedy"])
@pytest.mark.parametrize("pays", ["red", "green", "blue"])
def test_which_action_is_named_first_does_not_decide(exploration: str, pays: str) -> None:
    """Nothing is known of any for thirty decisions, and one action in three never pays: whoever begins with one that
    earns nothing, for good, learns nothing of the others.
    """
    decider, earned = MetaDecider(["red", "green", "blue"], exploration=exploration), list[float]()
    for i in range(150):
        earned.append(float(decider.choose_one({"a": 1.0}, id=i).action == pays))
        if i >= 30:
            decider.reward_one(i - 30, earned[i - 30])

    assert 3 < sum(earned[:30]) < 20
    assert np.mean(earned[-50:]) > 0.8


def test_late_rewards_are_learned_once_each() -> None:
    decider = MetaDecider(["red", "blue"], "shop")
    made = run(decider, 900, late=100)

    assert np.mean([reward for _, _, reward in made[-400:]]) > 0.58
    assert decider.stats.labelled == 800


def test_the_same_events_make_the_same_decisions() -> None:
    """After a crash a replay must not choose otherwise than what was already acted upon."""
    assert run(MetaDecider(["red", "blue"], "shop", seed=3), 150) == run(
        MetaDecider(["red", "blue"], "shop", seed=3), 150
    )


def test_logged_propensities_are_how_often_actions_are_drawn() -> None:
    """The draw and the number that is logged must be one and the same."""
    decider = MetaDecider(["red", "blue", "green"], exploration="epsilon_greedy", epsilon=0.6)
    decider.learn_one({"a": 1.0}, "red", 0.0)
    decider.learn_one({"a": 1.0}, "blue", 1.0)
    made = decider.choose_many([{"a": 1.0}] * 4000, ids=range(4000))

    assert made[0].propensities["blue"] == pytest.approx(0.6)
    for action in decider.actions:
        expected = sum(one.propensities[action] for one in made)
        assert sum(one.action == action for one in made) == pytest.approx(expected, abs=5 * np.sqrt(0.25 * 4000))
    assert all(one.propensity == one.propensities[one.action] for one in made)


def test_many_at_once_are_decided_as_one_by_one() -> None:
    """Which calls a program makes must not change what was decided."""
    random = np.random.default_rng(1)
    rows = [{"shop": int(random.integers(9)), "a": random.standard_normal()} for _ in range(300)]
    one, other = (MetaDecider(["red", "blue"], "shop", seed=4) for _ in range(2))
    single, together = [], []
    for begin in range(0, 300, 50):
        ids = range(begin, begin + 50)
        single += [one.choose_one(rows[i], id=i) for i in ids]
        together += other.choose_many(rows[begin : begin + 50], ids=ids)
        for i in ids:
            one.reward_one(i, float(rows[i]["a"] > 0))
        other.reward_many([(i, float(rows[i]["a"] > 0)) for i in ids])

    assert single == together


def test_what_was_decided_and_learned_survives_a_pickle() -> None:
    decider = MetaDecider(["red", "blue"], seed=1)
    for i in range(30):
        decider.choose_one({"a": float(i % 3)}, id=i)
        decider.reward_one(i, float(i % 2))
    again = pickle.loads(pickle.dumps(decider))  # noqa: S301 our own

    assert again.choose_one({"a": 1.0}, id="next") == decider.choose_one({"a": 1.0}, id="next")


def test_memory_does_not_grow_with_tasks_that_are_gone() -> None:
    """Thousands of tasks come and go: of what is kept, nothing may grow for ever."""
    decider = MetaDecider(["red", "blue"], "shop", settings={"memory": {"max_known_tasks": 20, "max_tasks": 20}})
    for i in range(400):
        decider.choose_one({"shop": i, "a": 1.0}, id=i)
        decider.reward_one(i, 1.0)

    assert decider.stats.tasks == 20


def test_a_new_task_starts_from_what_others_were_rewarded_for() -> None:
    """What tasks share is the point: all shops prefer by one weather, and a new shop is served so from its first event."""
    decider = MetaDecider(["red", "blue"], "shop", heads="shared", seed=1)
    random = np.random.default_rng(2)
    right = []
    for i in range(1000):
        shop, x = i // 25, random.standard_normal(3)
        found = decider.choose_one({"shop": shop, "a": x[0], "b": x[1], "c": x[2]}, id=i)
        good = ("red", "blue")[int(x[0] > 0)]
        decider.reward_one(i, float(found.action == good))
        right.append(found.action == good)
    first_five = np.array(right).reshape(40, 25)[20:, :5]

    assert first_five.mean() > 0.9


def test_a_reward_without_its_decision_is_refused_and_changes_nothing() -> None:
    decider = MetaDecider(["red", "blue"], max_waiting=2)
    for i in range(3):
        decider.choose_one({"a": 1.0}, id=i)
    decider.reward_one(2, 1.0)

    assert decider.stats.expired == 1
    with pytest.raises(EventError, match="a reward for id '2', but no decision of that id waits"):
        decider.reward_one(2, 1.0)
    with pytest.raises(EventError, match=r"a reward for id '0', but no decision .* waited too long"):
        decider.reward_one(0, 1.0)
    with pytest.raises(EventError, match="decision 1: the reward is nan, wanted a finite number"):
        decider.reward_one(1, float("nan"))
    with pytest.raises(EventError, match="a decision with the id '1' waits for its reward already"):
        decider.choose_one({"a": 1.0}, id=1)
    assert decider.stats.labelled == 1


@pytest.mark.parametrize("reward", [None, "much", float("inf"), 10**5000], ids=["none", "text", "inf", "digits"])
def test_what_is_no_reward_is_refused_by_its_decision(reward: Any) -> None:
    decider = MetaDecider(["red", "blue"])
    decider.choose_one({"a": 1.0}, id="order")

    with pytest.raises(EventError, match=r"decision 'order': the reward is .* wanted a finite number"):
        decider.reward_one("order", reward)
    with pytest.raises(EventError, match=r"the reward is .* wanted a finite number"):
        decider.learn_one({"a": 1.0}, "red", reward)
    assert decider.stats.labelled == 0


def test_an_id_or_a_tag_too_long_to_be_written_is_refused() -> None:
    """Python writes 4,300 digits of a number."""
    decider = MetaDecider(["red", "blue"], task="shop")

    with pytest.raises(EventError, match="an id cannot be written"):
        decider.choose_one({"a": 1.0}, id=10**5000)
    with pytest.raises(EventError, match="an id cannot be written"):
        decider.reward_one(10**5000, 1.0)
    with pytest.raises(EventError, match="a tag or id is a whole number of 16610 bits"):
        decider.choose_one({"a": 1.0, "shop": 10**5000}, id=1)


def test_rewards_in_another_unit_make_the_same_decisions() -> None:
    """Cents or euros: γ is of no unit."""
    one, other = (MetaDecider(["red", "blue"], seed=2) for _ in range(2))
    random = np.random.default_rng(0)
    for i in range(120):
        x = {"a": random.standard_normal()}
        first, second = one.propensities_one(x), other.propensities_one(x)
        assert i < 12 or abs(first["red"] - second["red"]) < 0.2  # the first rewards come before there is a unit
        action, reward = ("red", "blue")[i % 2], float(x["a"] * (1 if i % 2 else -1) > 0)
        one.learn_one(x, action, reward)
        other.learn_one(x, action, reward * 4096.0)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="wanted two or more, all different"):
        MetaDecider(["red", "red"])
    with pytest.raises(ConfigError, match=r"decide.exploration: Input should be 'inverse_gap', .* got 'bold'"):
        MetaDecider(["red", "blue"], exploration="bold")  # type: ignore[arg-type]
    with pytest.raises(EventError, match="got the action 'green'; wanted one of 'red', 'blue'"):
        MetaDecider(["red", "blue"]).learn_one({"a": 1.0}, "green", 1.0)


def test_the_draw_is_one_of_the_actions_that_may_be() -> None:
    assert drawn(np.array([0.5, 0.5, 0.0]), np.array(1 - 2**-53)) == 1
    assert drawn(np.array([0.0, 1.0]), np.array(0.0)) == 1
    assert [stable_uniform(1, "events", 0, 7), stable_uniform(2, "events", 0, 7)] == [
        0.2629762979549489,
        0.8048837454760248,
    ]
    uniform = [stable_uniform(1, "events", 0, i) for i in range(4000)]
    assert 0 <= min(uniform) <= max(uniform) < 1
    assert np.mean(uniform) == pytest.approx(0.5, abs=0.025)
