"""State on disk: one file, replaced as a whole (``packing``), with the offsets that belong to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from streammeta.engine.packing import DAMAGE, pack, unpack, write_whole
from streammeta.errors import SnapshotError
from streammeta.transport.base import Partition, Positions

__all__ = ["Snapshot", "read_snapshot", "saved_array", "write_snapshot"]

_FORMAT = 4
_READABLE = (3, 4)  # 3 does not say when a task was last seen


class _File(msgspec.Struct, frozen=True):
    format: int
    engine: dict[str, Any]
    positions: list[tuple[str, int, int]]  # topic, partition, next offset


_DECODER = msgspec.msgpack.Decoder(_File)


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
    data = pack(header, snapshot.arrays)
    try:
        write_whole(path, data)
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
    advice = "restore it from a copy, or move it away to begin again"
    try:
        file, arrays = unpack(path.read_bytes(), _DECODER)
    except (OSError, *DAMAGE) as err:
        raise SnapshotError(f"{path}: not a readable snapshot ({err}); {advice}") from err
    if file.format not in _READABLE:
        raise SnapshotError(f"{path}: snapshot format {file.format}, wanted {_FORMAT}; {advice}")
    return Snapshot(file.engine, arrays), {(topic, number): offset for topic, number, offset in file.positions}


def saved_array(
    arrays: Mapping[str, npt.NDArray[Any]], name: str, shape: tuple[int | None, ...], dtype: npt.DTypeLike
) -> npt.NDArray[Any]:
    """A copy of an array from elsewhere, of these sizes (None: any) and this dtype.

    Raises:
        SnapshotError: it is missing, of another shape or dtype, or has numbers that are not finite.
    """
    found = arrays.get(name)
    fits = (
        found is not None
        and found.dtype == np.dtype(dtype)
        and len(found.shape) == len(shape)
        and all(wanted in (None, size) for wanted, size in zip(shape, found.shape, strict=True))
    )
    if found is None or not fits or not np.isfinite(found).all():
        came = "none" if found is None else f"{found.dtype} of shape {found.shape}"
        wanted = "×".join("any" if size is None else str(size) for size in shape)
        raise SnapshotError(
            f"the saved weights have {came} as {name}, wanted finite {np.dtype(dtype)} of {wanted} numbers"
        )
    return found.copy()
