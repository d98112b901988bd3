"""The task table and its spill."""

from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from streammeta.engine.columns import Column
from streammeta.engine.tasks import MemorySettings, TaskTable
from streammeta.errors import ConfigError, SnapshotError

KINDS = {"count": Column((), np.int64), "sums": Column((3,), np.float32), "window": Column((2, 1), np.float32, np.nan)}


class Extras:
    """What else belongs to a row, as the engine's detectors do."""

    def __init__(self) -> None:
        self.of: dict[int, bytes] = {}
        self.released: list[int] = []

    def dump(self, row: int) -> bytes:
        return self.of.get(row, b"")

    def load(self, row: int, data: bytes) -> None:
        self.of[row] = data


def table(max_tasks: int, directory: Path | None = None) -> tuple[TaskTable, Extras]:
    extras = Extras()
    settings = MemorySettings(max_tasks=max_tasks, spill_directory=directory)
    made = TaskTable(KINDS, settings, dump_extra=extras.dump, load_extra=extras.load, on_release=extras.released.append)
    return made, extras


def test_a_spilled_task_comes_back_with_its_bytes() -> None:
    """What goes to disk and comes back must be the same task."""
    tasks, extras = table(1)
    row, is_new = tasks.touch((0, "a"))
    assert is_new
    tasks.columns["count"][row], tasks.columns["sums"][row], extras.of[row] = 7, [1, 2, 3], b"detector"
    tasks.touch((0, "b"))

    tasks.shrink()
    assert (tasks.in_memory, len(tasks), extras.released) == (1, 2, [row])
    again, is_new = tasks.touch((0, "a"))

    assert not is_new
    assert tasks.columns["count"][again] == 7
    assert tasks.columns["sums"][again].tolist() == [1.0, 2.0, 3.0]
    assert extras.of[again] == b"detector"
    tasks.close()


def test_the_least_recently_seen_goes_first() -> None:
    """Whoever is active must stay in memory."""
    tasks, _ = table(2)
    for tag in ("a", "b", "c", "a"):
        tasks.touch((0, tag))

    tasks.shrink()

    assert [tag for (_, tag), _ in tasks.rows()] == ["c", "a"]
    assert [tag for (_, tag), _ in tasks.stored()] == ["b"]
    tasks.close()


def test_a_row_given_to_another_task_is_blank() -> None:
    """One tenant's sums in another tenant's row would be a leak."""
    tasks, extras = table(1)
    row, _ = tasks.touch((0, "a"))
    tasks.columns["count"][row], tasks.columns["window"][row] = 5, 1.0
    tasks.touch((0, "b"))
    tasks.shrink()

    other, _ = tasks.touch((0, "c"))

    assert other == row
    assert tasks.columns["count"][other] == 0
    assert np.isnan(tasks.columns["window"][other]).all()
    assert extras.of[other] == b""
    tasks.close()


def test_widening_keeps_what_was_there_also_in_the_spill() -> None:
    """Features and classes that come late must not cost a task its memory."""
    tasks, _ = table(1)
    row, _ = tasks.touch((0, "a"))
    tasks.columns["window"][row] = [[1.0], [2.0]]
    tasks.touch((0, "b"))
    tasks.shrink()

    tasks.widen("window", (2, 4))
    again, _ = tasks.touch((0, "a"))

    assert tasks.columns["window"][again, :, 0].tolist() == [1.0, 2.0]
    assert np.isnan(tasks.columns["window"][again, :, 1:]).all()
    tasks.close()


def test_dump_and_restore_keep_order_and_bytes() -> None:
    """Snapshots hold every task, the spilled ones too."""
    tasks, _ = table(2)
    for i, tag in enumerate("abc"):
        row, _ = tasks.touch((i, tag))
        tasks.columns["count"][row] = i
    tasks.shrink()
    dumped, place = tasks.dump()

    other, _ = table(2)
    rows = other.restore(dumped, len(dumped) - len(place))

    assert [tag for _, tag, _ in dumped] == ["a", "b", "c"]
    assert rows[0] == -1
    assert [other.columns["count"][other.touch((i, tag))[0]] for i, tag in enumerate("abc")] == [0, 1, 2]
    tasks.close()
    other.close()


@pytest.mark.parametrize("data", [b"", b"\x93", b"\x82\xa7columns\x80\xa5extra\xc4\x00"])
def test_damaged_rows_are_refused(data: bytes) -> None:
    """Guessing at a task's state is worse than stopping."""
    tasks, _ = table(2)

    with pytest.raises(SnapshotError):
        tasks.restore([(0, "a", data)], 0)


def test_an_unusable_spill_directory_is_named(tmp_path: Path) -> None:
    """The operator must learn which setting to change."""
    file = tmp_path / "file"
    file.touch()
    tasks, _ = table(1, file / "below")
    tasks.touch((0, "a"))
    tasks.touch((0, "b"))

    with pytest.raises(ConfigError, match="spill_directory"):
        tasks.shrink()


def test_any_thread_may_let_go_of_the_spill(tmp_path: Path) -> None:
    """Garbage is collected by whatever thread comes along; the spill's file must go then, and nothing may be raised."""
    tasks, _ = table(1, tmp_path)
    for tag in ("a", "b"):
        tasks.touch((0, tag))
    tasks.shrink()
    assert list(tmp_path.iterdir())

    other = Thread(target=tasks.close)  # what a garbage collection does
    other.start()
    other.join(10)

    assert not list(tmp_path.iterdir())
