"""Files at other places than this machine's disk: s3://, gs://, https:// and so on, by fsspec, which is an extra.

Who we are there says the environment, or fsspec's own configuration, as for every program that uses it.
"""

import io
from collections.abc import Sequence
from functools import cached_property
from glob import has_magic
from pathlib import PurePosixPath
from typing import Any, cast
from urllib.parse import urlsplit

from streammeta.errors import ConfigError, TransportError
from streammeta.formats.tables import require

__all__ = ["Stored", "StoredFile", "is_address", "list_stored"]

_SHOWN = 200  # characters of a library's reason that a message repeats


def is_address(stream: object) -> bool:
    """Whether this is no path of this machine, but an address such as s3://bucket/file.csv."""
    return "://" in str(stream)


class StoredFile:
    """A file that fsspec opens, with as much of a path's interface as a reader needs.

    Args:
        system: fsspec's.
        path: in it.
        address: the whole of it, for messages.
    """

    def __init__(self, system: Any, path: str, address: str) -> None:  # noqa: ANN401 fsspec has no types
        self._system, self._path, self._address = system, path, address
        pure = PurePosixPath(path)
        self.name, self.suffixes = pure.name, pure.suffixes

    def __str__(self) -> str:
        return self._address

    def open(self) -> io.BufferedReader:
        """Open it for reading.

        Raises:
            TransportError: it is not there, or it is not let in.
        """
        try:
            return io.BufferedReader(Stored(self._system.open(self._path, "rb")))
        except Exception as err:  # each system has its own: OSError, botocore's, aiohttp's, …
            raise _failure(self._address, err) from err

    @cached_property
    def size(self) -> int:
        """Bytes; 0 where the system does not say."""
        try:
            return int(self._system.size(self._path) or 0)
        except Exception as err:  # as above
            raise _failure(self._address, err) from err


def list_stored(address: str) -> Sequence[StoredFile]:
    """The file of an address, all of a folder, or those that fit a pattern, in the order of their names.

    Raises:
        ConfigError: fsspec or its package for this kind of address is not installed, or the address has a password.
        TransportError: it cannot be looked at.
    """
    parts = urlsplit(address)
    if parts.password is not None:
        place = f"{parts.scheme}://{parts.hostname}"
        raise ConfigError(f"{place}…: has a password, which messages would repeat; wanted it in the environment")
    fsspec = require("fsspec", "storage", f"{parts.scheme}://")
    try:
        system, path = fsspec.core.url_to_fs(address)
        if has_magic(path):
            paths = sorted(system.glob(path))
        elif system.isdir(path):
            paths = sorted(system.find(path, maxdepth=1))
        else:
            return [StoredFile(system, path, address)]
        return [StoredFile(system, one, str(system.unstrip_protocol(one))) for one in paths]
    except ImportError as err:
        raise ConfigError(f"{address}: fsspec needs a package for it, which is not installed: {err}") from err
    except ValueError as err:  # a protocol that it does not know
        raise ConfigError(f"{address}: {err}") from err
    except Exception as err:  # as above
        raise _failure(address, err) from err


def _failure(address: str, err: Exception) -> TransportError:
    reason = str(err)[:_SHOWN] or type(err).__name__
    return TransportError(
        f"{address}: cannot be read ({reason}); wanted a file that is there, and the right to read it"
    )


class Stored(io.RawIOBase):
    """fsspec's file, with one kind of error: OSError."""

    def __init__(self, file: Any) -> None:  # noqa: ANN401 fsspec has no types
        self._file = file

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Whether the system can."""
        return bool(self._file.seekable())

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 a buffer, as the base class has it
        """The next bytes; OSError where the system has an error of its own."""
        try:
            content = self._file.read(len(buffer))
        except Exception as err:  # each system has its own
            raise OSError(str(err) or type(err).__name__) from err
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go there."""
        return cast(int, self._file.seek(offset, whence))

    def close(self) -> None:
        """Let go."""
        if not self.closed:
            self._file.close()
        super().close()
