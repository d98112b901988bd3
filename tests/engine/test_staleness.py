"""When φ is derived again."""

import numpy as np

from streammeta.engine.columns import Columns
from streammeta.engine.staleness import refresh


def columns(pushed: list[int], rest: int = 0) -> Columns:
    tasks = len(pushed)
    found = Columns()
    found |= {
        "rebuild_cooldown": np.full(tasks, rest),
        "version": np.zeros(tasks, np.int64),
        "window_count": np.array(pushed),
        "window_y": np.zeros((tasks, 64), np.float32),
    }
    return found


def test_a_task_follows_new_weights_at_its_next_event_and_then_rests() -> None:
    """A long window is not rebuilt at each change of θ: that would cost more than everything else together."""
    state, rows = columns([4, 64]), np.array([1, 0])
    end, stale = refresh(state, rows, 0, version=1)
    assert (end, stale.tolist()) == (2, [1, 0])

    for version in range(2, 7):
        end, stale = refresh(state, rows, 0, version)
        wanted = [1, 0] if version == 6 else [0]  # 64 events remembered: one in five; four: each time
        assert (end, stale.tolist()) == (2, wanted), version


def test_where_more_events_wait_than_can_be_taken_windows_are_derived_again_more_seldom() -> None:
    """It is what a backlog is worked off more slowly by, when meta-updates have had their share."""
    state, rows = columns([64]), np.array([0])

    derived = [version for version in range(1, 36) if refresh(state, rows, 0, version, has_backlog=True)[1].size]

    assert derived == [1, 18, 35]  # one in seventeen events, as 64 are remembered


def test_what_a_stretch_learns_comes_before_its_task_is_derived_again() -> None:
    """Else an event of the same poll would be missing from φ, and predictions would depend on polls."""
    state, rows = columns([64, 3], rest=1), np.array([0, 1, 0, 1, 1])
    end, stale = refresh(state, rows, 0, version=5)
    assert (end, stale.tolist()) == (2, [])  # both are due at their second event

    end, stale = refresh(state, rows, end, version=5)
    assert (end, stale.tolist()) == (5, [0, 1])
    assert state["version"].tolist() == [5, 5]


def test_nothing_is_derived_again_under_the_same_weights() -> None:
    """Events are counted all the same."""
    state = columns([9, 9], rest=3)
    end, stale = refresh(state, np.array([0, 1, 0]), 0, version=0)
    assert (end, stale.tolist(), state["rebuild_cooldown"].tolist()) == (3, [], [1, 2])
