"""Names to slots, numbers to scale."""

import numpy as np
import pytest
from hypothesis import strategies as st

from streammeta.engine.features import SHARED, FeatureSpace
from streammeta.errors import EventError
from streammeta.event import Origin

NUMBERS = st.floats(-1e6, 1e6, width=32)


def test_names_keep_their_slots_whatever_the_order() -> None:
    """River's checks, and real producers, shuffle, drop and add features."""
    space = FeatureSpace(10)

    space.read({"a": 1.0, "b": 2.0}, "here")
    shuffled = space.read({"c": 3.0, "b": 2.0, "a": 1.0}, "here")

    assert dict(zip(*shuffled, strict=True)) == {0: 1.0, 1: 2.0, 2: 3.0}


def test_features_that_come_together_get_the_same_slots_in_any_order() -> None:
    """An encoder's first weights go by slot: the order of a producer's keys must not be a reason for another result."""
    one, other = FeatureSpace(10), FeatureSpace(10)

    forth = one.read({"a": 1.0, "b": 2.0, "colour": "red"}, "here")
    back = other.read({"colour": "red", "b": 2.0, "a": 1.0}, "here")

    assert dict(zip(*forth, strict=True)) == dict(zip(*back, strict=True))
    assert one.table([forth]).tolist() == other.table([back]).tolist()


def test_a_fork_learns_names_that_its_origin_does_not_see() -> None:
    """A prediction may look at new features, but must not leave them behind."""
    space = FeatureSpace(10)
    space.read({"a": 1.0}, "here")
    before = space.dump()

    filled = space.fork().read({"b": 2.0, "a": 1.0}, "here")

    assert filled == ((1, 0), [2.0, 1.0])
    assert space.dump() == before


def test_every_value_of_a_category_has_a_slot_apart_from_the_number_of_that_name() -> None:
    """A field that is sometimes text must not be read as a number."""
    space = FeatureSpace(10)

    filled = [space.read({"size": value}, "here") for value in ("L", 3.0, "M", "L", True)]

    assert filled == [((0,), [1.0]), ((1,), [3.0]), ((2,), [1.0]), ((0,), [1.0]), ((1,), [1.0])]
    assert space.categories.tolist() == [True, False, True]


def test_names_beyond_the_limit_are_left_out_and_counted() -> None:
    """A producer that puts ids into names must not fill the memory."""
    space = FeatureSpace(2)

    filled = space.read({"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}, "here")

    assert filled == ((0, 1), [1.0, 2.0])
    assert space.ignored == 2


def test_the_fan_in_of_a_slot_is_how_many_features_its_event_had() -> None:
    """Weights are scaled by it, so it may not depend on what came before: elsewhere that was something else."""
    space, other = FeatureSpace(10), FeatureSpace(10)

    for event in ({"a": 1.0, "b": 2.0}, {"c": 1.0, "colour": "red", "a": 1.0}):
        space.read(event, "here")
    for event in ({"c": 1.0, "colour": "red", "a": 1.0}, {"a": 1.0, "b": 2.0}):
        other.read(event, "here")

    assert [slot.fan_in for slot in space.slots] == [2, 2, 3, 3]
    assert {slot for slot in space.slots if slot.name != "a"} == {slot for slot in other.slots if slot.name != "a"}


def test_dump_and_load_make_the_same_space() -> None:
    """After a restart, a slot that meant something else would be silent nonsense."""
    space = FeatureSpace(10)
    space.read({"a": 1.0, "colour": "red"}, "here")
    space.read([1.0, 2.0], "here")

    again = FeatureSpace(10)
    again.load(space.dump())

    assert again.read({"colour": "red", "a": 2.0}, "here") == ((1, 0), [1.0, 2.0])
    assert again.slots == space.slots
    with pytest.raises(EventError, match="has 3 numbers, wanted 2"):
        again.read([1.0, 2.0, 3.0], "here")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e39, 10**400])
def test_numbers_that_float32_cannot_hold_are_refused(bad: float) -> None:
    """One of them would turn every sum it enters into inf."""
    with pytest.raises(EventError, match="topic/1/2: a feature is"):
        FeatureSpace(10).read({"a": bad}, Origin("topic", 1, 2))


def test_a_table_has_missing_numbers_where_nothing_came() -> None:
    """Events with all features and events with some stand in one table."""
    space = FeatureSpace(10)
    events = [
        space.read(x, "here") for x in ({"a": 1.0, "b": 2.0}, {"b": 3.0}, {"b": 4.0, "a": 5.0}, {"a": 6.0, "b": 7.0})
    ]

    table = space.table(events)

    np.testing.assert_array_equal(table, [[1, 2], [np.nan, 3], [5, 4], [6, 7]])
    np.testing.assert_array_equal(space.table(events[3:]), [[6, 7]])


def test_a_text_that_differs_in_every_event_leaves_slots_to_what_comes_later() -> None:
    """It took all 256 slots, and a category that came later, and decided every label, was not seen."""
    space = FeatureSpace(256)
    for i in range(10_000):
        space.read({"note": f"text {i}"}, "here")
    slots, shared = len(space), space.shared

    filled = [space.read({"note": "new", "colour": colour}, "here") for colour in ("red", "blue", "red")]
    number = space.read({"price": 2.5}, "here")

    assert slots == 64 + SHARED
    assert shared == 10_000 - 64
    assert filled[0] == filled[2]
    assert filled[0] != filled[1]
    assert number == ((slots + 2,), [2.5])
    assert space.ignored == 0


def test_many_texts_that_differ_in_every_event_still_leave_slots() -> None:
    """Each takes a share of what is left, so the fifth is not the one that finds nothing."""
    space = FeatureSpace(256)
    for name in "abcde":
        for i in range(1_000):
            space.read({name: f"text {i}"}, "here")

    assert space.read({"price": 2.5, "colour": "red"}, "here").slots == (len(space) - 1, len(space) - 2)
    assert space.ignored == 0


def test_values_without_a_slot_of_their_own_share_the_same_one_after_a_restore_and_in_a_fork() -> None:
    """A value that moved to another slot would be another feature from one event to the next."""
    space = FeatureSpace(32)
    values = [f"value {i}" for i in range(200)]
    first = [space.read({"note": value}, "here") for value in values]
    again = FeatureSpace(32)

    again.load(space.dump())

    for one in (space, again, space.fork()):
        assert [one.read({"note": value}, "here") for value in values] == first
    assert len({filled.slots for filled in first}) == len(space)


def test_a_producers_value_that_is_spelled_like_a_shared_slot_shares_it() -> None:
    """Slots are known by name and value: two of the same key would be one of them lost."""
    space = FeatureSpace(32)
    for i in range(200):
        space.read({"note": f"value {i}"}, "here")
    (shared,) = [slot for slot in space.slots if slot.value == "\0shared:3"]

    filled = space.read({"note": "\0shared:3"}, "here")

    assert filled.slots == (space.slots.index(shared),)


def test_a_shared_slot_says_which_of_its_values_it_stands_for() -> None:
    """In the last bits of a number that is 1 in single precision, so that it goes wherever the features go."""
    space = FeatureSpace(32)
    texts = [f"value {i}" for i in range(400)]
    filled = [space.read({"note": text, "size": 2.0}, "here") for text in texts]
    again = [space.find({"size": 2.0, "note": text}, "here") for text in texts]
    other = FeatureSpace(32)
    other.load(space.dump())

    exact, found = space.table(filled), space.shared_values(space.table(filled))

    has_own = np.array([slot.value is not None and not slot.value.startswith("\0") for slot in space.slots])
    shares = np.isnan(exact[:, has_own]).all(axis=1)
    assert found.shape == (400, 1)
    assert shares.sum() > 300
    assert (found[~shares] == -1).all()
    assert len(set(found[shares, 0].tolist())) == shares.sum()
    np.testing.assert_array_equal(space.shared_values(space.table([one for one in again if one])), found)
    np.testing.assert_array_equal(other.shared_values(exact), found)
    categories = exact[:, space.categories].astype(np.float32)
    assert (categories[~np.isnan(categories)] == 1).all()


def test_values_that_share_slots_are_told_by_name_and_number_in_events_of_several() -> None:
    space = FeatureSpace(32)
    for i in range(300):
        space.read({"from": f"place {i}", "to": f"place {i}"}, "here")
    events = [{"from": "place 200", "to": "place 200"}, {"to": "place 200"}, {"from": "\0shared:1"}, {}]

    both, one, spelled, none = space.shared_values(space.table([space.read(x, "here") for x in events])).tolist()

    assert len({*both, -1}) == 3
    assert (one[0] in both, one[1]) == (True, -1)
    assert spelled == none == [-1, -1]
