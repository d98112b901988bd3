"""Folders for what a process keeps on disk while it lives: each with its owner's lock, so that those of the dead go.

A process that is killed cannot remove its folder. The next one that starts does, if it can take the lock in it, which
the system lets go of when its owner dies. What has no such lock, or holds anything but our own files, stays.
"""

import os
import re
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

try:
    import fcntl
except ImportError:  # no such locks on this system: nothing is swept, as nobody can know whose a folder is
    _LOCKS = False
else:
    _LOCKS = True

__all__ = ["claim", "sweep"]

_log = structlog.get_logger(__name__)
_BEGIN: Final = "streammeta-spill-"
_FOLDER: Final = re.compile(re.escape(_BEGIN) + r"[a-z0-9_]{8}")
_OURS: Final = re.compile(r"\.?owner|[a-z]+(-[0-9]+)?\.sqlite(-journal)?")
_OWNER: Final = "owner"  # names this machine; locked while its process lives


def claim(directory: Path | None) -> tuple[Path, Callable[[], None]]:
    """A new folder of our own, and what removes it again.

    Args:
        directory: in which; None: the system's temporary one.

    Raises:
        OSError: it cannot be made.
    """
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix=_BEGIN, dir=directory))
    lock = os.open(home / f".{_OWNER}", os.O_RDWR | os.O_CREAT, 0o600)
    os.write(lock, socket.gethostname().encode())
    if _LOCKS:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    (home / f".{_OWNER}").rename(home / _OWNER)  # under its name only once it is locked: who sweeps looks for that

    def discard() -> None:
        _remove(home)
        with suppress(OSError):
            os.close(lock)

    return home, discard


def sweep(directory: Path | None) -> list[Path]:
    """Remove the folders of processes of this machine that died; returns those that are gone.

    Args:
        directory: where to look; None: the system's temporary one.
    """
    where = Path(tempfile.gettempdir()) if directory is None else directory
    gone = []
    try:
        found = [entry for entry in os.scandir(where) if _FOLDER.fullmatch(entry.name)] if _LOCKS else []
    except OSError:
        return []  # it is not there yet, or not ours to look into
    for entry in found:
        with suppress(OSError):
            if entry.is_dir(follow_symlinks=False) and _is_left(Path(entry.path)):
                gone.append(Path(entry.path))
    if gone:
        _log.info("removed what killed processes left", folders=len(gone), directory=str(where))
    return gone


def _is_left(home: Path) -> bool:
    """Whether its owner is dead, and it is gone now."""
    lock = os.open(home / _OWNER, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # an OSError while its owner lives
        if os.read(lock, 300) != socket.gethostname().encode():  # on a disk of several machines, not all see locks
            return False
        _remove(home)
    finally:
        os.close(lock)
    return not home.exists()


def _remove(home: Path) -> None:
    with suppress(OSError):
        for file in home.iterdir():
            if _OURS.fullmatch(file.name):
                file.unlink(missing_ok=True)
        home.rmdir()  # an OSError where somebody keeps something else there
