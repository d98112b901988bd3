"""An event's features crossed with the action."""

import numpy as np
import pytest

from streammeta.decisions import MetaDecider
from streammeta.decisions.crossing import crossed
from streammeta.engine.features import FeatureSpace, Filled
from streammeta.engine.settings import ACTION_OF


def test_a_feature_under_an_action_has_a_slot_of_its_own_and_the_same_value() -> None:
    """A number and a category's value alike; else a category would be a number that is always 1, and so nothing."""
    space = FeatureSpace(max_features=8)
    base = space.read({"hour": 9.0, "day": "monday"}, "here")

    filled = crossed(space, base.slots, "red", "here").beside(base)

    names = [(space.slots[slot].name, space.slots[slot].value) for slot in filled.slots]
    assert dict(zip(names, filled.values, strict=True)) == {
        ("hour", None): 9.0,
        ("day", "monday"): 1.0,
        (f"hour{ACTION_OF}red", None): 9.0,
        (f"day{ACTION_OF}red", "monday"): 1.0,
    }


def test_without_capacity_for_all_the_values_stay_with_their_own_features() -> None:
    """One slot too few must not move every value by one place."""
    space = FeatureSpace(max_features=5)
    base = space.read({"a": 1.0, "b": 2.0, "c": 3.0}, "here")

    filled = crossed(space, base.slots, "red", "here").beside(base)

    names = {space.slots[slot].name: value for slot, value in zip(filled.slots, filled.values, strict=True)}
    assert names == {"a": 1.0, "b": 2.0, "c": 3.0, f"a{ACTION_OF}red": 1.0, f"b{ACTION_OF}red": 2.0}


def test_events_of_other_slots_are_told_apart_in_a_table() -> None:
    """Events are filled in together where their slots are the very same."""
    space = FeatureSpace(max_features=4)
    first, second = space.read({"a": 1.0, "b": 2.0}, "here"), space.read({"b": 3.0}, "here")

    table = space.table([first, second, Filled(first.slots, [4.0, 5.0])])

    np.testing.assert_array_equal(table, [[1.0, 2.0], [np.nan, 3.0], [4.0, 5.0]])


@pytest.mark.parametrize(("limit", "crossed_features"), [(12, 12), (11, 0)])
def test_features_are_crossed_up_to_the_limit(limit: int, crossed_features: int) -> None:
    """Forty actions of many features must not make every task's window forty times as wide."""
    decider = MetaDecider(["x", "y", "z"], crossed=limit, settings={"meta": {"mode": "off"}})

    decider.choose_one({"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}, id=1)

    assert len(decider._engine.memory.features) == 3 + 4 + crossed_features
