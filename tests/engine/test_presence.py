"""Which tasks are to be forgotten, and when."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streammeta.config import load
from streammeta.engine.presence import ForgetAfter, LastSeen, Presence, parse_forget_after
from streammeta.engine.tasks import MemorySettings
from streammeta.errors import ConfigError


def seen(presence: Presence, tags: str, begin: float | None = None) -> list[tuple[str, str]]:
    """Events of these tasks, a second apart; the tag of each event with those that it makes forgotten."""
    found = []
    for i, tag in enumerate(tags):
        gone = presence.see((0, tag), None if begin is None else begin + i)
        found += [(tag, other) for _, other in gone]
    return found


def test_a_task_is_forgotten_after_that_number_of_events_without_one_of_it() -> None:
    """One too early, and a task that comes every third event is new each time."""
    assert seen(Presence(100, ForgetAfter(events=3)), "abcabc") == []
    assert seen(Presence(100, ForgetAfter(events=3)), "abcd") == [("d", "a")]


def test_of_too_many_tasks_the_one_seen_least_recently_is_forgotten() -> None:
    """Not the one that came first: that may be the busiest."""
    presence = Presence(2, ForgetAfter())

    assert seen(presence, "abac") == [("c", "b")]
    assert presence.forgotten == {"age": 0, "limit": 1, "asked": 0}


def test_a_task_is_forgotten_after_that_time_by_the_stamps_of_its_partition() -> None:
    """By the log, not by a clock of ours: a replay of last year's log forgets what the service forgot."""
    assert seen(Presence(100, ForgetAfter(seconds=3)), "abbb", begin=1e9) == []
    assert seen(Presence(100, ForgetAfter(seconds=3)), "abbbb", begin=1e9) == [("b", "a")]


def test_one_wrong_time_stamp_forgets_nobody() -> None:
    """A producer whose clock is a year ahead must not cost every other task its state."""
    presence = Presence(100, ForgetAfter(seconds=60))
    seen(presence, "ab", begin=1e9)

    assert not presence.see((0, "c"), 2e9)
    assert seen(presence, "ab", begin=1e9 + 3) == []
    assert not presence.see((0, "c"), 1e9 + 5)


def test_events_without_a_time_stamp_age_nobody_by_time() -> None:
    """They say nothing of how much time has gone."""
    assert seen(Presence(100, ForgetAfter(seconds=1)), "abcabc") == []


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.none() | st.floats(0, 100)), max_size=60),
    st.integers(1, 4),
    st.integers(1, 10),
    st.integers(1, 30),
)
def test_what_is_forgotten_is_the_same_when_a_restore_comes_in_between(
    events: list[tuple[str, float | None]], most: int, after: int, seconds: int
) -> None:
    """All that is asked is kept with the tasks that are still known."""
    settings = most, ForgetAfter(after, seconds)
    one, found, other = Presence(*settings), [], []
    for tag, ts in events:
        found.append(list(one.see((0, tag), ts)))

    two = Presence(*settings)
    for tag, ts in events:
        again = Presence(*settings)
        assert again.load(0, [(key[1], last) for key, last in two.items()]) == []
        two = again
        other.append(list(two.see((0, tag), ts)))

    assert other == found


def test_tasks_of_before_that_was_kept_are_older_than_all_others() -> None:
    """State that the former version wrote does not say when a task was seen."""
    presence = Presence(2, ForgetAfter())

    assert presence.load(0, [("old", None), ("a", LastSeen(7, -math.inf, math.nan)), ("older", None)]) == [(0, "old")]
    assert presence.see((0, "b"), None) == [(0, "older")]


@pytest.mark.parametrize("value", [0, -1, "soon", "3w", "0d", "", "-1h", "nan", "1e400s"])
def test_a_span_that_is_none_is_refused(value: int | str) -> None:
    """A typing error that means "never" fills a disk; one that means "at once" forgets everything."""
    with pytest.raises(ValueError, match="wanted events"):
        parse_forget_after(value)


def test_a_wrong_span_is_told_with_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found before the first poll."""
    monkeypatch.setenv("STREAMMETA_MEMORY__FORGET_AFTER", "30 days")

    with pytest.raises(ConfigError, match=r"\[memory\] forget_after: got '30 days', wanted events"):
        load()


@pytest.mark.parametrize(
    ("memory", "known"), [({}, 100_000), ({"max_tasks": 300_000}, 300_000), ({"max_known_tasks": 5}, 5)]
)
def test_what_has_room_in_memory_is_known_by_default(memory: dict[str, int], known: int) -> None:
    """Who gave memory for 300,000 tasks did not mean 200,000 of them to be forgotten."""
    assert MemorySettings(**memory).known_tasks == known
