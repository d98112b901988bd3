"""State on disk: one safetensors file, replaced atomically, with the offsets that belong to it.

Nothing is pickled: arrays are raw bytes with a dtype and a shape, everything else is MessagePack of plain values.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from streammeta.errors import SnapshotError
from streammeta.transport.base import Partition, Positions

__all__ = ["Snapshot", "read_snapshot", "write_snapshot"]

_FORMAT = 2
_HEADER = "__header__"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An engine's whole state as plain values."""

    header: dict[str, Any]  # what MessagePack can hold
    arrays: dict[str, npt.NDArray[Any]]


def write_snapshot(path: Path, snapshot: Snapshot, positions: Positions) -> int:
    """Write state and next offsets as one file that is either all there or not changed; returns its bytes.

    Raises:
        SnapshotError: the file cannot be written.
    """
    header = {
        "format": _FORMAT,
        "engine": snapshot.header,
        "positions": [[topic, partition, offset] for (topic, partition), offset in positions.items()],
    }
    packed = np.frombuffer(msgspec.msgpack.encode(header), dtype=np.uint8)
    arrays = {name: np.asarray(array, order="C") for name, array in snapshot.arrays.items()}
    data = save({_HEADER: packed, **arrays})
    beside = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as err:
        raise SnapshotError(f"{path}: the snapshot cannot be written ({err}); name another place") from err
    return len(data)


def read_snapshot(path: Path) -> tuple[Snapshot, dict[Partition, int]] | None:
    """What ``write_snapshot`` wrote, or None where there is no file.

    Raises:
        SnapshotError: the file is damaged, or of another format.
    """
    if not path.exists():
        return None
    advice = "restore it from a copy, or move it away to begin anew"
    try:
        arrays = load_file(path)
        header = msgspec.msgpack.decode(arrays.pop(_HEADER).tobytes())
        found = header["format"]
        positions = {(topic, partition): offset for topic, partition, offset in header["positions"]}
        engine = header["engine"]
    except (OSError, SafetensorError, msgspec.DecodeError, KeyError, TypeError, ValueError) as err:
        raise SnapshotError(f"{path}: not a readable snapshot ({err}); {advice}") from err
    if found != _FORMAT:
        raise SnapshotError(f"{path}: snapshot format {found}, wanted {_FORMAT}; {advice}")
    return Snapshot(engine, arrays), positions
