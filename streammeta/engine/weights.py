"""θ as one record, with its optimizer, the normalization it was learned under, and what slots and classes mean.

The process that learns θ publishes it; the others go on with it, and so does the next that learns. What changes with
every event (counts, draws, rhythm) is a small record of its own, so that θ need not be written again for it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from streammeta.bounds import Count, Size
from streammeta.engine.packing import DAMAGE, pack, unpack
from streammeta.errors import SnapshotError
from streammeta.event import LabelValue

__all__ = [
    "About",
    "Progress",
    "Provenance",
    "Weights",
    "decode_progress",
    "decode_weights",
    "encode_progress",
    "encode_weights",
]

_LASTING = ("theta.", "outer.", "scale.", "reference.")  # arrays that change with θ or the normalization only
_Kind = TypeVar("_Kind")
_Slot: TypeAlias = tuple[str, str | None, Size]
Provenance: TypeAlias = Literal["learned", "rollback", "import"]


class About(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Where a version of θ comes from. The engine, which has no clock, leaves it blank."""

    made: float = 0.0  # seconds since 1970; 0: not known
    by: str = ""  # the process that made it
    segments: Count = 0  # of other processes' labelled events that θ has been learned from, over all versions
    loss: float | None = None  # on newest events, that it was not learned from; None: not judged
    loss_before: float | None = None  # of the version before, on the same events
    judged: Count = 0  # those events
    # of each partition of NAME-episodes, where it has been learned to: θ includes what is before, and nothing after
    positions: Annotated[list[tuple[Count, Count]], msgspec.Meta(max_length=65_536)] = []
    provenance: Provenance = "learned"
    of: Count | None = None  # the version that it is a copy of


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

    @property
    def progress(self) -> "Progress":
        """What of it changes with every event."""
        arrays = {name: array for name, array in self.arrays.items() if not name.startswith(_LASTING)}
        return Progress(self.version, self.shared["theta_id"], self.counts, self.random, self.about, arrays)

    def after(self, progress: "Progress | None") -> "Weights":
        """The same, with what has changed since it was written; as it is where the progress is of another θ."""
        if progress is None or (progress.version, progress.theta_id) != (self.version, self.shared["theta_id"]):
            return self
        arrays = self.arrays | progress.arrays
        return replace(self, counts=progress.counts, random=progress.random, about=progress.about, arrays=arrays)

    def digest(self) -> bytes:
        """Of all but its progress: while it stays the same, this need not be written again."""
        found = hashlib.blake2b(digest_size=16)
        found.update(msgspec.msgpack.encode((self.settings, self.slots, self.width, self.classes, self.shared)))
        for name in sorted(self.arrays):
            if name.startswith(_LASTING):
                array = np.ascontiguousarray(self.arrays[name])
                found.update(f"{name} {array.dtype.str} {array.shape}".encode())
                found.update(array.tobytes())
        return found.digest()


@dataclass(frozen=True, slots=True)
class Progress:
    """What of θ's learning changes with every event."""

    version: int  # of the θ that it belongs to
    theta_id: int  # likewise
    counts: dict[str, int]
    random: dict[str, Any]
    about: About
    arrays: dict[str, npt.NDArray[Any]]  # what tasks share beside θ and the normalization


class _Shared(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    outputs: Size
    version: Count
    theta_id: Count
    scaling_id: Count
    updates: Count
    own: list[Size]
    epoch: Count


class _Header(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    format: Literal[3, 4]
    settings: dict[str, bool | int | float | str]
    slots: Annotated[list[_Slot], msgspec.Meta(max_length=65_536)]
    width: Size | None
    classes: Annotated[list[int | float | str], msgspec.Meta(max_length=65_536)]
    counts: dict[str, Count]
    random: dict[str, Any]
    shared: _Shared
    about: About = About()  # not in format 3


class _ProgressHeader(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    format: Literal[1]
    version: Count
    theta_id: Count
    counts: dict[str, Count]
    random: dict[str, Any]
    about: About


_DECODER = msgspec.msgpack.Decoder(_Header)
_PROGRESS_DECODER = msgspec.msgpack.Decoder(_ProgressHeader)


def encode_weights(weights: Weights) -> bytes:
    """The record."""
    w = weights
    return pack((4, w.settings, w.slots, w.width, w.classes, w.counts, w.random, w.shared, w.about), w.arrays)


def encode_progress(progress: Progress) -> bytes:
    """The record."""
    p = progress
    return pack((1, p.version, p.theta_id, p.counts, p.random, p.about), p.arrays)


def decode_progress(value: bytes, at: str) -> Progress:
    """What ``encode_progress`` wrote.

    Raises:
        SnapshotError: it is something else, or damaged; the message begins with ``at``.
    """
    header, arrays = _loaded(value, _PROGRESS_DECODER, f"{at}: {len(value)} bytes that are no progress of format 1")
    return Progress(header.version, header.theta_id, header.counts, header.random, header.about, arrays)


def _loaded(
    value: bytes, decoder: msgspec.msgpack.Decoder[_Kind], what: str
) -> tuple[_Kind, dict[str, npt.NDArray[Any]]]:
    try:
        return unpack(value, decoder)
    except DAMAGE as err:
        raise SnapshotError(
            f"{what} ({err}); wanted what this version of streammeta wrote: choose another [app] name, or delete the "
            "topic to begin again"
        ) from err


def decode_weights(value: bytes, at: str) -> Weights:
    """What ``encode_weights`` wrote.

    Raises:
        SnapshotError: it is something else, or damaged; the message begins with ``at``.
    """
    header, arrays = _loaded(value, _DECODER, f"{at}: {len(value)} bytes that are no weights of format 4")
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
