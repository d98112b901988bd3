"""Windows, and the drawing of episodes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streammeta.engine.buffer import RecentRows, as_encoded, draw_episodes, push, window
from streammeta.engine.columns import Columns
from streammeta.engine.scale import SCALE_ROWS, shared_frame
from streammeta.engine.settings import SegmentSettings

FRAME = shared_frame(2, classify=True)


def columns(rows: int, size: int = 4) -> Columns:
    found = Columns()
    found |= {
        "window_x": np.full((rows, size, 2), np.nan, np.float32),
        "window_low": np.zeros((rows, size, 0), np.float32),
        "window_y": np.zeros((rows, size), np.float32),
        "scale.x": np.zeros((rows, SCALE_ROWS, 2)),
        "scale.y": np.zeros((rows, SCALE_ROWS, 1)),
        "window_count": np.zeros(rows, np.int64),
        "labels_since_drift": np.zeros(rows, np.int64),
    }
    return found


def fill(table: Columns, row: int, n: int) -> None:
    for t in range(n):
        push(table, np.array([row]), np.array([[t, -t]], np.float32), np.zeros((1, 0), np.float32), np.array([t % 2]))


def test_a_window_holds_the_last_events_oldest_first() -> None:
    """Rebuilding φ in another order would weigh the past as the present."""
    table = columns(2)
    fill(table, 1, 6)

    xs, ys = window(table, 1, FRAME)

    assert xs[:, 0].tolist() == [2.0, 3.0, 4.0, 5.0]
    assert ys.tolist() == [0.0, 1.0, 0.0, 1.0]
    assert window(table, 1, FRAME, last=2)[0][:, 0].tolist() == [4.0, 5.0]
    assert len(window(table, 0, FRAME)[0]) == 0


def test_recent_rows_forget_what_is_old_and_what_is_dropped() -> None:
    """Meta-updates must not draw from rows that now hold another task."""
    recent = RecentRows(3)
    recent.add(np.array([5, 6, 5, 7]))
    assert sorted(recent.rows()) == [5, 6, 7]

    recent.add(np.array([8]))
    recent.drop(7)

    assert sorted(recent.rows()) == [5, 8]


@given(st.integers(1, 6), st.lists(st.tuples(st.booleans(), st.integers(0, 4))))
def test_recent_rows_are_the_last_labels_of_rows_that_were_not_dropped(size: int, told: list[tuple[bool, int]]) -> None:
    """A row that a task left and another one took keeps nothing of the first one's labels."""
    recent, plain = RecentRows(size), list[int]()
    for is_drop, row in told:
        if is_drop:
            recent.drop(row)
            plain = [kept for kept in plain if kept != row]
        else:
            recent.add(np.array([row]))
            plain = [*plain, row][-size:]
        assert sorted(recent.rows()) == sorted(set(plain))
        assert recent._recent.entries() <= 2 * size
    assert recent.dump({row: row for row in range(5)})["ring"] == plain
    assert recent.weights(1e9).keys() == set(plain)


def test_recent_rows_restore_with_their_order() -> None:
    """The order decides what a seeded draw picks."""
    recent = RecentRows(4)
    recent.add(np.array([3, 1, 3, 2, 3]))
    again = RecentRows(4)

    again.load(recent.dump({1: 0, 2: 1, 3: 2}), [10, 20, 30])

    assert again.rows().tolist() == [{1: 10, 2: 20, 3: 30}[row] for row in recent.rows()]


def test_episodes_are_consecutive_events_of_one_task() -> None:
    """A segment that mixed tasks would teach the average, not how to adapt."""
    table, recent = columns(3, size=32), RecentRows(100)
    for row in (0, 2):
        fill(table, row, 20)
        table["window_x"][row, :, 1] = row
        recent.add(np.array([row]))
    settings = SegmentSettings(tasks=8, length=6, burn_in_share=0.5)

    random = np.random.default_rng(0)
    drawn = recent.draw(16, table["window_count"], settings.shortest, random)
    episodes = draw_episodes(table, drawn, FRAME, settings, "classification", 2, random)

    assert episodes is not None
    assert episodes.x.shape == (2, 8, 6, 2)
    assert episodes.y.dtype == np.int64
    for e, b in np.ndindex(2, 8):
        rows = as_encoded(np.arange(20, dtype=np.float32))
        steps = episodes.x[e, b, :, 0].tolist()
        assert steps == sorted(steps)
        assert set(steps) <= set(rows.tolist())
        assert len(set(episodes.x[e, b, :, 1].tolist())) == 1
    assert episodes.scored.sum(2).tolist() == [[6.0] * 4 + [3.0] * 4] * 2


def test_no_task_old_enough_means_no_episode() -> None:
    """A meta-update on two events would be noise."""
    table, recent = columns(1), RecentRows(10)
    fill(table, 0, 3)
    recent.add(np.array([0]))

    random = np.random.default_rng(0)
    drawn = recent.draw(2, table["window_count"], SegmentSettings().shortest, random)

    assert draw_episodes(table, drawn, FRAME, SegmentSettings(), "classification", 1, random) is None


def test_normalization_cuts_and_fills() -> None:
    """Torch must see what the event path sees: cut at six deviations, missing as the mean, nothing infinite."""
    assert as_encoded(np.array([[np.nan, 20.0], [2.0, -np.inf]], np.float32)).tolist() == [[0.0, 6.0], [2.0, -6.0]]
