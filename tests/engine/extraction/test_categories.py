"""Numbers that are names: a shop's number is no amount."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from streammeta import MetaRegressor
from streammeta.decisions import MetaDecider
from streammeta.engine import Engine, EngineSettings
from streammeta.event import Event, Origin


def events(kind: str, *, as_text: bool, count: int = 400) -> list[Event]:
    """Targets by 40 shops, whose numbers say nothing as amounts."""
    draw = np.random.default_rng(3)
    numbers, worth = draw.permutation(9_000)[:40] + 1_000, draw.normal(size=40)
    found = []
    for i in range(count):
        shop, a = int(draw.integers(40)), float(draw.normal())
        y = float(worth[shop] + 0.3 * a)
        named: Any = str(numbers[shop]) if as_text else float(numbers[shop])
        x = {"shop": named, "a": a} if i % 9 else {"shop": None, "a": a}
        found.append(Event(x, f"t{i % 3}", Origin("in", 0, i), y if kind == "regression" else int(y > 0), str(i)))
    return found


def settings(kind: str, *names: str) -> EngineSettings:
    return EngineSettings.model_validate({"kind": kind, "features": {"categories": names}})


def run(engine: Engine, given: Sequence[Event], poll: int) -> list[Any]:
    return [one for i in range(0, len(given), poll) for one in engine.step(given[i : i + poll])]


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_a_number_that_is_a_name_is_learned_as_its_text_is_to_the_bit(kind: str) -> None:
    """Also through a snapshot, and in other polls."""
    texts, numbers = events(kind, as_text=True), events(kind, as_text=False)
    chosen = settings(kind, "shop")

    wanted = [one.prediction for one in run(Engine(settings(kind)), texts, 50)]
    engine = Engine(chosen)
    first = run(engine, numbers[:200], 7)
    rest = run(Engine.restore(chosen, engine.snapshot()), numbers[200:], 100)

    assert [one.prediction for one in first + rest] == wanted
    assert engine.predict(numbers[300:301])[0].prediction is not None


def test_only_numbers_become_names_and_whole_ones_lose_their_point() -> None:
    """A flag is a flag, a text was one already, and pandas writes whole numbers beside missing ones as 7.0."""
    given: list[Any] = [7.0, 7, "7", 7.5, True, None]
    engine = Engine(settings("classification", "shop", "never"))

    found = engine.step([Event({"shop": one}, "", Origin("in", 0, i), i % 2, str(i)) for i, one in enumerate(given)])

    assert [one.event.x for one in found] == [{"shop": one} for one in ("7", "7", "7", "7.5", True, None)]


def test_rows_of_river_and_decisions_have_it_too() -> None:
    """One setting for every way in; a record of a topic comes as `engine.step` has it."""
    names = {"features": {"categories": ["shop"]}}
    model, texts = MetaRegressor(settings=names), MetaRegressor()
    decider, of_texts = (MetaDecider(["a", "b"], settings=one, seed=1) for one in (names, {}))
    for i in range(120):
        shop = i * 7 % 13
        assert model.predict_one({"shop": shop}) == texts.predict_one({"shop": str(shop)})
        model.learn_one({"shop": shop}, shop % 3)
        texts.learn_one({"shop": str(shop)}, shop % 3)

        choice = decider.choose_one({"shop": shop}, id=i)
        assert choice.action == of_texts.choose_one({"shop": str(shop)}, id=i).action
        for one in (decider, of_texts):
            one.reward_one(i, float((choice.action == "a") == (shop % 2 == 0)))


@pytest.mark.parametrize("other", ["text", "encoders"])
def test_a_category_is_nothing_else_besides(other: str) -> None:
    """Which of the two it would be is not guessed."""
    given = {"categories": ["a"], other: {"a": "math:sqrt"} if other == "encoders" else ["a"]}

    with pytest.raises(ValidationError, match="got 'a' twice, in text, encoders or categories; wanted each once"):
        EngineSettings.model_validate({"features": given})
