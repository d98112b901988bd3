"""A value that is kept: a header of plain values and arrays, as one run of bytes; and a file that is all there or not.

The bytes are a safetensors file: each array with its dtype and shape, and the header as MessagePack among them. Nothing
is pickled. Who keeps something says in its header which version of its format it is, and checks that at reading.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

__all__ = ["DAMAGE", "pack", "unpack", "write_whole"]

DAMAGE = (
    SafetensorError,
    msgspec.DecodeError,
    UnicodeDecodeError,
    RecursionError,
    ValueError,
)  # what ``unpack`` raises
_HEADER, _NO_HEADER = "__header__", np.zeros(0, np.uint8)
_Header = TypeVar("_Header")


def pack(header: object, arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """A header that MessagePack can hold, and arrays by name, as bytes."""
    packed = np.frombuffer(msgspec.msgpack.encode(header), np.uint8)
    data: bytes = save({_HEADER: packed, **{name: np.asarray(array, order="C") for name, array in arrays.items()}})
    return data


def unpack(data: bytes, decoder: msgspec.msgpack.Decoder[_Header]) -> tuple[_Header, dict[str, npt.NDArray[Any]]]:
    """The header and the arrays of what ``pack`` made; raises one of ``DAMAGE`` where it is something else."""
    arrays = load(data)
    return decoder.decode(arrays.pop(_HEADER, _NO_HEADER).tobytes()), arrays


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is either all there, also after a power failure, or as it was before; raises OSError."""
    beside = path.with_name(path.name + ".new")
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
