"""A partition's changelog while it is read: the last value of each key, on disk as soon as it is large.

What is held in memory is bounded for all partitions together, however many tasks they have: what is over it goes to an
SQLite file beside the spill. Keys come back in the order of their last records.
"""

import sqlite3
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from streammeta.engine.spill import open_scratch

__all__ = ["Changelog", "Held"]

_HELD_BYTES: Final = 64 * 2**20
_KEY_BYTES: Final = 200  # of Python's objects, about, beside key and value
_INSERT: Final = "INSERT OR REPLACE INTO row VALUES (?, ?, ?)"


class Held:
    """How much several changelogs hold in memory together.

    Args:
        directory: where they put what is over it; None: in the system's temporary one.
        most_bytes: what they may hold.
    """

    def __init__(self, directory: Path | None, most_bytes: int = _HELD_BYTES) -> None:
        self.directory, self.most_bytes = directory, most_bytes
        self.bytes = self.entries = 0
        self.peak_entries = 0  # the most at any time

    def add(self, entries: int, size: int) -> None:
        """So many more, or fewer."""
        self.entries += entries
        self.bytes += size
        self.peak_entries = max(self.peak_entries, self.entries)

    @property
    def is_full(self) -> bool:
        """Whether something has to go to disk."""
        return self.bytes > self.most_bytes


class Changelog(Mapping[bytes, bytes]):
    """Records of one partition, by key.

    Args:
        held: what it may hold in memory, together with others.
    """

    def __init__(self, held: Held) -> None:
        self._held = held
        self._recent: dict[bytes, bytes | None] = {}  # not on disk yet, in order; None: the key is forgotten
        self._recent_bytes = 0
        self._base: sqlite3.Connection | None = None
        self._next = 0
        self._discard: Callable[[], object] = bool

    @classmethod
    def in_memory(cls) -> "Changelog":
        """One that never goes to disk."""
        return cls(Held(None, sys.maxsize))

    def put(self, key: bytes, value: bytes | None) -> None:
        """This is the last value of its key, for now; None: the key is forgotten."""
        if key in self._recent:
            self._count(-1, key, self._recent.pop(key))
        if value is not None or self._base is not None:
            self._recent[key] = value
            self._count(1, key, value)
            if self._held.is_full:
                self._to_disk()

    def __getitem__(self, key: bytes) -> bytes:
        if key in self._recent:
            value = self._recent[key]
        elif self._base is None:
            value = None
        else:
            found = self._base.execute("SELECT value FROM row WHERE key = ?", (key,)).fetchone()
            value = None if found is None else bytes(found[0])
        if value is None:
            raise KeyError(key)
        return value

    def __iter__(self) -> Iterator[bytes]:
        if self._base is None:
            yield from self._recent
            return
        self._to_disk()
        for (key,) in self._base.execute("SELECT key FROM row ORDER BY number"):
            yield bytes(key)

    def __len__(self) -> int:
        if self._base is None:
            return len(self._recent)
        self._to_disk()
        return int(self._base.execute("SELECT count(*) FROM row").fetchone()[0])

    def close(self) -> None:
        """Hold nothing any more; may be called twice."""
        self._held.add(-len(self._recent), -self._recent_bytes)
        self._recent, self._recent_bytes, self._base = {}, 0, None
        self._discard()

    def _count(self, entries: int, key: bytes, value: bytes | None) -> None:
        size = entries * (len(key) + len(value or b"") + _KEY_BYTES)
        self._recent_bytes += size
        self._held.add(entries, size)

    def _to_disk(self) -> None:
        base = self._open()
        numbers = range(self._next, self._next + len(self._recent))
        self._next = numbers.stop
        rows = ((n, key, value) for n, (key, value) in zip(numbers, self._recent.items(), strict=True))
        base.executemany(_INSERT, (row for row in rows if row[2] is not None))
        gone = [(key,) for key, value in self._recent.items() if value is None]
        base.executemany("DELETE FROM row WHERE key = ?", gone)
        self._held.add(-len(self._recent), -self._recent_bytes)
        self._recent, self._recent_bytes = {}, 0

    def _open(self) -> sqlite3.Connection:
        if self._base is None:
            self._base, discard = open_scratch(self._held.directory, "changelog")
            self._discard = weakref.finalize(self, discard)
            self._base.execute("CREATE TABLE row (number INTEGER PRIMARY KEY, key BLOB UNIQUE, value BLOB)")
            self._base.execute("BEGIN")
        return self._base
