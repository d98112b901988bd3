"""θ as one record, with its optimizer, the normalization it was learned under, and what slots and classes mean.

The process that learns θ publishes it; the others go on with it, and so does the next that learns. A safetensors
file in a record: arrays, and MessagePack of plain values. Nothing is pickled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from streammeta.errors import SnapshotError
from streammeta.event import LabelValue

__all__ = ["About", "Provenance", "Weights", "decode_weights", "encode_weights"]

_HEADER = "__header__"
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Size: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=65_536)]
_Slot: TypeAlias = tuple[str, str | None, _Size]
Provenance: TypeAlias = Literal["learned", "rollback", "import"]


class About(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Where a version of θ comes from. The engine, which has no clock, leaves it blank."""

    made: float = 0.0  # seconds since 1970; 0: not known
    by: str = ""  # the process that made it
    segments: _Count = 0  # of other processes' labelled events that θ has been learned from, over all versions
    loss: float | None = None  # on newest events, that it was not learned from; None: not judged
    loss_before: float | None = None  # of the version before, on the same events
    judged: _Count = 0  # those events
    # of each partition of NAME-episodes, where it has been learned to: θ includes what is before, and nothing after
    positions: Annotated[list[tuple[_Count, _Count]], msgspec.Meta(max_length=65_536)] = []
    provenance: Provenance = "learned"
    of: _Count | None = None  # the version that it is a copy of


_BLANK = About()


@dataclass(frozen=True, slots=True)
class Weights:
    """θ, with all that its next change goes on from; ``version`` counts its changes."""

    settings: dict[str, Any]  # those that it depends on
    slots: Sequence[tuple[str, str | None, int]]  # features: name, category's value, fan-in
    width: int | None  # numbers in an event without names
    classes: list[LabelValue]
    counts: dict[str, int]  # events seen, by which θ's next change is due
    random: dict[str, Any]
    shared: dict[str, Any]
    arrays: dict[str, npt.NDArray[Any]]
    about: About = _BLANK

    @property
    def version(self) -> int:
        """Of θ."""
        return int(self.shared["version"])


class _Shared(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    outputs: _Size
    version: _Count
    theta_id: _Count
    scaling_id: _Count
    updates: _Count
    own: list[_Size]
    epoch: _Count


class _Header(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    format: Literal[3, 4]
    settings: dict[str, bool | int | float | str]
    slots: Annotated[list[_Slot], msgspec.Meta(max_length=65_536)]
    width: _Size | None
    classes: Annotated[list[int | float | str], msgspec.Meta(max_length=65_536)]
    counts: dict[str, _Count]
    random: dict[str, Any]
    shared: _Shared
    about: About = About()  # not in format 3


_DECODER = msgspec.msgpack.Decoder(_Header)


def encode_weights(weights: Weights) -> bytes:
    """The record."""
    w = weights
    header = (4, w.settings, w.slots, w.width, w.classes, w.counts, w.random, w.shared, w.about)
    packed = np.frombuffer(msgspec.msgpack.encode(header), np.uint8)
    data: bytes = save({_HEADER: packed, **{name: np.asarray(array, order="C") for name, array in w.arrays.items()}})
    return data


def decode_weights(value: bytes, at: str) -> Weights:
    """What ``encode_weights`` wrote.

    Raises:
        SnapshotError: it is something else, or damaged; the message begins with ``at``.
    """
    try:
        arrays = load(value)
        header = _DECODER.decode(arrays.pop(_HEADER).tobytes())
    except (SafetensorError, msgspec.DecodeError, KeyError, TypeError, ValueError, RecursionError) as err:
        raise SnapshotError(
            f"{at}: {len(value)} bytes that are no weights of format 4 ({err}); wanted what this version of "
            "streammeta wrote: choose another [app] name, or delete the topic to begin again"
        ) from err
    shared = msgspec.structs.asdict(header.shared)
    return Weights(
        header.settings,
        header.slots,
        header.width,
        header.classes,
        header.counts,
        header.random,
        shared,
        arrays,
        header.about,
    )
