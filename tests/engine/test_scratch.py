import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streammeta.engine import scratch
from streammeta.engine.scratch import claim, sweep
from streammeta.engine.spill import Spill

HOLD = """
import sys, time
from pathlib import Path
from streammeta.engine.spill import Spill
spill = Spill(Path(sys.argv[1]))
spill.put([(0, "a")], [b"state"])
print("ready", flush=True)
time.sleep(120)
"""


def process(directory: Path) -> subprocess.Popen[bytes]:
    """A process with something in its spill."""
    started = subprocess.Popen([sys.executable, "-c", HOLD, str(directory)], stdout=subprocess.PIPE)
    assert started.stdout is not None
    with started.stdout as said:
        assert said.readline() == b"ready\n"
    return started


def test_what_a_killed_process_left_goes_and_what_a_living_one_has_stays(tmp_path: Path) -> None:
    """A service that is killed each night would fill the disk; one that runs would lose its tasks."""
    living, killed = process(tmp_path), process(tmp_path)
    before = set(tmp_path.iterdir())
    killed.send_signal(signal.SIGKILL)
    killed.wait(10)
    try:
        gone = sweep(tmp_path)

        assert len(before) == 2
        (left,) = tmp_path.iterdir()
        assert {left, *gone} == before
        assert (left / "tasks.sqlite").exists()
        assert sweep(tmp_path) == []
    finally:
        living.kill()
        living.wait(10)
    assert sweep(tmp_path) == [left]
    assert list(tmp_path.iterdir()) == []


def left_behind(directory: Path) -> Path:
    """A folder whose owner is gone."""
    home, _ = claim(directory)
    content = (home / "owner").read_bytes()
    (home / "owner").unlink()
    (home / "owner").write_bytes(content)  # nobody has a lock on this one
    return home


def test_folders_that_are_not_ours_stay(tmp_path: Path) -> None:
    """The temporary directory is everybody's: what merely looks like ours, or holds more than ours does, is not."""
    other = tmp_path / "streammeta-spill-of-another"
    other.mkdir()
    (other / "owner").write_bytes((left_behind(tmp_path) / "owner").read_bytes())
    without_lock = tmp_path / "streammeta-spill-abcdefgh"
    without_lock.mkdir()
    (without_lock / "tasks.sqlite").write_bytes(b"")
    with_more = left_behind(tmp_path)
    (with_more / "notes.txt").write_text("somebody's")
    elsewhere = left_behind(tmp_path)
    (elsewhere / "owner").write_text("another-machine")
    target = left_behind(tmp_path / "below")
    link = tmp_path / "streammeta-spill-12345678"
    link.symlink_to(target)

    gone = sweep(tmp_path)

    assert len(gone) == 1
    assert (with_more / "notes.txt").read_text() == "somebody's"
    assert all(one.exists() for one in (other / "owner", without_lock / "tasks.sqlite", elsewhere / "owner", link))
    assert (target / "owner").exists()


def test_a_spill_that_is_closed_or_forgotten_leaves_nothing(tmp_path: Path) -> None:
    """A notebook makes many."""
    closed, forgotten = Spill(tmp_path), Spill(tmp_path)
    for spill in (closed, forgotten):
        spill.put([(0, "a")], [b"state"])
    assert len(list(tmp_path.iterdir())) == 2

    closed.close()
    del forgotten, spill

    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there_or_not_ours_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start must not fail for want of something to tidy; nor where the system knows no such locks."""
    assert sweep(tmp_path / "nothing") == []
    left = left_behind(tmp_path)
    monkeypatch.setattr(scratch, "_LOCKS", False)
    assert sweep(tmp_path) == []
    assert left.exists()
    assert os.listdir(left) == ["owner"]
