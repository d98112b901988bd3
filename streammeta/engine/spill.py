"""Rows on disk: where tasks go that were not seen lately."""

import sqlite3
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from streammeta.engine import scratch
from streammeta.errors import ConfigError

__all__ = ["Spill", "TaskKey", "open_scratch"]

_PRAGMAS = (  # nothing in the file outlives the process
    "page_size = 16384",
    "journal_mode = OFF",
    "synchronous = OFF",
    "locking_mode = EXCLUSIVE",
    "cache_size = -4096",
)
TaskKey: TypeAlias = tuple[int, str]  # partition, tag: a tag seen in two partitions is two tasks


class Spill:
    """Rows on disk, by key: an SQLite file that belongs to this process alone and goes away with it."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._base: sqlite3.Connection | None = None
        self._discard: Callable[[], object] = bool  # nothing to let go of yet
        self._keys: dict[TaskKey, int] = {}  # in the order they came, each with its number in the file
        self._next = 0

    def __len__(self) -> int:
        return len(self._keys)

    def put(self, keys: Sequence[TaskKey], states: Iterable[bytes]) -> None:
        """Keep these; what was there of the same keys is gone."""
        base = self._open()
        numbers = range(self._next, self._next + len(keys))
        self._next = numbers.stop
        base.executemany("INSERT INTO task VALUES (?, ?)", zip(numbers, states, strict=True))
        self._drop([self._keys.pop(key) for key in keys if key in self._keys])
        self._keys.update(zip(keys, numbers, strict=True))

    def get(self, key: TaskKey) -> bytes | None:
        """What is kept of a task; None: nothing."""
        return self._fetch(self._keys[key]) if key in self._keys else None

    def pop(self, key: TaskKey) -> bytes | None:
        """As ``get``, and keep it no more."""
        number = self._keys.pop(key, None)
        if number is None:
            return None
        data = self._fetch(number)
        self._drop([number])
        return data

    def drop(self, key: TaskKey) -> None:
        """Keep nothing of a task."""
        self._drop([self._keys.pop(key)])

    def __contains__(self, key: TaskKey) -> bool:
        return key in self._keys

    def forget(self, partition: int) -> None:
        """Keep nothing of a partition."""
        self._drop([self._keys.pop(key) for key in [key for key in self._keys if key[0] == partition]])

    def items(self) -> Iterator[tuple[TaskKey, bytes]]:
        """Everything, in the order it came."""
        for key, number in list(self._keys.items()):
            yield key, self._fetch(number)

    def close(self) -> None:
        """Remove the file."""
        self._discard()

    def _fetch(self, number: int) -> bytes:
        return bytes(self._open().execute("SELECT state FROM task WHERE number = ?", (number,)).fetchone()[0])

    def _drop(self, numbers: Sequence[int]) -> None:
        if numbers:
            self._open().executemany("DELETE FROM task WHERE number = ?", [(number,) for number in numbers])

    def _open(self) -> sqlite3.Connection:
        if self._base is None:
            self._base, discard = open_scratch(self._directory, "tasks")
            self._discard = weakref.finalize(self, discard)
            self._base.execute("CREATE TABLE task (number INTEGER PRIMARY KEY, state BLOB)")
            self._base.execute("BEGIN")  # and never a commit: the file is nobody else's, and goes away with the process
        return self._base


def open_scratch(directory: Path | None, name: str) -> tuple[sqlite3.Connection, Callable[[], None]]:
    """An SQLite file in a folder of its own, which belongs to this process alone, and what closes and removes it.

    Args:
        directory: where the folder is made; None: in the system's temporary one.
        name: of the file, in small letters.

    Raises:
        ConfigError: it cannot be made there.
    """
    try:
        home, remove = scratch.claim(directory)
        # one thread at a time has the engine, but any of them may collect it as garbage, and so close this
        base = sqlite3.connect(home / f"{name}.sqlite", isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as err:
        where = directory or tempfile.gettempdir()
        raise ConfigError(f"[memory] spill_directory: {where} cannot be used ({err}); name another") from err
    for setting in _PRAGMAS:
        base.execute(f"PRAGMA {setting}")

    def discard() -> None:
        base.close()
        remove()

    return base, discard
