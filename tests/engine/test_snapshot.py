"""State on disk."""

from pathlib import Path

import numpy as np
import pytest

from streammeta.engine.snapshot import Snapshot, read_snapshot, write_snapshot
from streammeta.errors import SnapshotError

STATE = Snapshot({"counts": {"events": 3}, "tasks": [[0, "a", b"\x00\x01"]]}, {"w": np.arange(6.0).reshape(2, 3)})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """State and offsets belong together: one file holds both."""
    size = write_snapshot(tmp_path / "deep" / "state", STATE, {("events", 1): 42})
    found = read_snapshot(tmp_path / "deep" / "state")

    assert found is not None
    assert found[0].header == STATE.header
    np.testing.assert_array_equal(found[0].arrays["w"], STATE.arrays["w"])
    assert found[1] == {("events", 1): 42}
    assert size == (tmp_path / "deep" / "state").stat().st_size


def test_no_file_is_no_snapshot(tmp_path: Path) -> None:
    """The first start is not an error."""
    assert read_snapshot(tmp_path / "none") is None


@pytest.mark.parametrize("damage", [b"", b"\x00" * 20, b"not a snapshot at all", None])
def test_a_damaged_file_is_refused_with_its_name(tmp_path: Path, damage: bytes | None) -> None:
    """Half a state, taken for a whole one, would be silent nonsense."""
    path = tmp_path / "state"
    write_snapshot(path, STATE, {})
    path.write_bytes(path.read_bytes()[:-7] if damage is None else damage)

    with pytest.raises(SnapshotError, match=r"state: not a readable snapshot"):
        read_snapshot(path)


def test_a_file_that_cannot_be_written_is_named_and_the_old_one_stays(tmp_path: Path) -> None:
    """A full disk must cost the new snapshot, never the old one."""
    path = tmp_path / "state"
    write_snapshot(path, STATE, {("events", 0): 1})
    path.with_name("state.new").mkdir()

    with pytest.raises(SnapshotError, match="cannot be written"):
        write_snapshot(path, STATE, {("events", 0): 2})

    found = read_snapshot(path)
    assert found is not None
    assert found[1] == {("events", 0): 1}


def test_a_single_number_stays_a_single_number(tmp_path: Path) -> None:
    """An array without dimensions that comes back with one is another θ."""
    write_snapshot(tmp_path / "state", Snapshot({}, {"alpha": np.float32(0.5).reshape(())}), {})

    found = read_snapshot(tmp_path / "state")

    assert found is not None
    assert found[0].arrays["alpha"].shape == ()
