"""A savepoint as files: a folder with a manifest, and a table of records for each partition of state, and for θ.

    manifest.json      what it is: format, versions, application, offsets, and of each table and itself the SHA-256
    state-0.records    the compacted topic NAME-state, partition 0; and so on for each partition
    weights.records    the compacted topic NAME-weights

A table is a line of its own, then records: two little-endian lengths of 4 bytes, the key, the value. What the values
are is said where they are made (`engine.handover.record`, `engine.weights`, `engine.sums`), and checked there.
"""

import hashlib
import os
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from streammeta.errors import SnapshotError, TransportError

__all__ = ["Manifest", "Table", "begin", "finish", "read_manifest", "read_table", "write_table"]

_MANIFEST: Final = "manifest.json"
_HEAD: Final = b"streammeta savepoint table 1\n"
_LENGTHS: Final = struct.Struct("<II")
_LONGEST: Final = 2**30  # bytes of a key or a value: Kafka takes no longer record
_PARTIAL: Final = ".partial"
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a table must be."""

    records: _Count
    bytes: _Count  # of the file
    sha256: _Digest


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a savepoint is."""

    format: Literal[1]
    streammeta: str  # the version that made it
    application: str
    kind: str  # what is predicted
    made_at: str  # ISO 8601
    topic: str  # that was read
    log: str  # the id of the topic's log; empty: not known
    offsets: dict[int, _Count]  # the next one to read, by partition; partitions of which nothing was read are not there
    tasks: _Count
    theta_version: _Count | None  # None: no θ was published yet
    state: dict[int, Table]  # by partition: all of them, from 0
    weights: Table
    sha256: str = ""  # of all this, as JSON without spaces, with this left empty


def begin(folder: Path) -> Path:
    """Make the folder in which tables are written; it becomes ``folder`` by `finish`.

    Raises:
        TransportError: something is there already, or nothing can be written there.
    """
    if folder.exists():
        raise TransportError(f"{folder}: is there already; a savepoint is not written over, name another folder")
    partial = folder.with_name(folder.name + _PARTIAL)
    try:
        partial.mkdir(parents=True)
    except FileExistsError as err:
        raise TransportError(
            f"{partial}: is there already, of a savepoint that is being made or was not finished; if nobody makes one "
            "now, delete it"
        ) from err
    except OSError as err:
        raise TransportError(f"{partial}: cannot be made ({err}); name another folder") from err
    return partial


def write_table(partial: Path, name: str, rows: Iterable[tuple[bytes, bytes]]) -> Table:
    """Write a table into a folder that `begin` made.

    Raises:
        TransportError: it cannot be written.
    """
    digest, size, records = hashlib.sha256(), 0, 0
    file = partial / f"{name}.records"
    try:
        with file.open("xb") as out:

            def write(content: bytes) -> int:
                digest.update(content)
                return out.write(content)

            size += write(_HEAD)
            for key, value in rows:
                size += write(_LENGTHS.pack(len(key), len(value)) + key + value)
                records += 1
            out.flush()
            os.fsync(out.fileno())
    except OSError as err:
        raise TransportError(f"{file}: cannot be written ({err}); is the disk full?") from err
    return Table(records, size, digest.hexdigest())


def finish(partial: Path, folder: Path, manifest: Manifest) -> Manifest:
    """Write the manifest, and give the folder its name: now it is a savepoint. Returns what was written.

    Raises:
        TransportError: it cannot be written.
    """
    manifest = msgspec.structs.replace(manifest, sha256=_digest(manifest))
    try:
        with (partial / _MANIFEST).open("xb") as out:
            out.write(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
            out.flush()
            os.fsync(out.fileno())
        partial.rename(folder)
    except OSError as err:
        raise TransportError(f"{partial}: the savepoint cannot be finished ({err})") from err
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """What a savepoint is.

    Raises:
        SnapshotError: it is none, of another version, or damaged.
    """
    file = folder / _MANIFEST
    try:
        content = file.read_bytes()
    except OSError as err:
        raise SnapshotError(
            f"{file}: cannot be read ({err}); wanted a folder that `streammeta savepoint` made"
        ) from err
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as err:
        raise SnapshotError(
            f"{file}: not the manifest of a savepoint of format 1 ({err}); restore it by the version that made it, or "
            "from a copy"
        ) from err
    if manifest.sha256 != _digest(manifest):
        raise SnapshotError(f"{file}: was changed after it was written, or is damaged; restore it from a copy")
    if (
        sorted(manifest.state) != list(range(len(manifest.state)))
        or not manifest.offsets.keys() <= manifest.state.keys()
    ):
        raise SnapshotError(
            f"{file}: partitions are {sorted(manifest.state)}, wanted all from 0; restore it from a copy"
        )
    return manifest


def read_table(folder: Path, name: str, table: Table, put: Callable[[bytes, bytes], object]) -> None:
    """Hand each record of a table to ``put``, in bounded memory; only at the end it is known whether all is as it was.

    Raises:
        SnapshotError: it cannot be read, or is not what the manifest says.
    """
    file = folder / f"{name}.records"
    digest, records, left = hashlib.sha256(), 0, table.bytes

    def read(size: int) -> bytes:
        nonlocal left
        left -= size
        content = source.read(size) if 0 <= size <= _LONGEST and left >= 0 else b""
        if len(content) != size:
            raise SnapshotError(f"{file}: ends too early, or is damaged after record {records}; restore it from a copy")
        digest.update(content)
        return content

    try:
        with file.open("rb") as source:
            if read(len(_HEAD)) != _HEAD:
                raise SnapshotError(
                    f"{file}: is no table of a savepoint, or of another version; restore it from a copy"
                )
            while left:
                key, value = _LENGTHS.unpack(read(_LENGTHS.size))
                put(read(key), read(value))
                records += 1
            surplus = source.read(1)
    except OSError as err:
        raise SnapshotError(f"{file}: cannot be read ({err}); restore it from a copy") from err
    if surplus or records != table.records or digest.hexdigest() != table.sha256:
        raise SnapshotError(
            f"{file}: is not what the manifest says ({records} records): damaged; restore it from a copy"
        )


def _digest(manifest: Manifest) -> str:
    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(manifest, sha256=""))).hexdigest()
