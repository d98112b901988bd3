"""Task states as records of a compacted topic, and back: a versioned codec without pickle, that refuses what is wrong.

    schema:HASH   how the columns of a row lie, and what slots and classes the numbers mean; named by its content
    task:TAG      a task's row, its φ where that cannot be derived, its detector, and the labelled events since its last
                  full page
    page:N:TAG    16 labelled events of its window; N counts round, so that compaction keeps one window a task
    wait:N:TAG    events whose labels have not come yet
    part:N:NAME   8 kB of an array that an expert keeps of the partition, from 8 kB · N on
    own:NAME      of the partition, where members keep their events: its sums, its budget; the service's, no task's

An event changes its task's row and adds to its open page; full pages are written once. So a commit writes what changed
and not each window again. Whatever is read here is checked before it reaches compiled code.
"""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias, TypeVar, get_args

import msgspec
import numpy as np
import numpy.typing as npt

from streammeta.bounds import Count
from streammeta.errors import SnapshotError

__all__ = [
    "FORMAT",
    "PAGE",
    "PART",
    "Head",
    "Key",
    "Page",
    "Part",
    "Schema",
    "Wait",
    "WaitPage",
    "decode",
    "encode",
    "parse_key",
    "schema_id",
    "unpack_rows",
]

FORMAT: Final = 5
PAGE = 16  # labelled events in a page of the window
PART = 8192  # bytes in a piece of an array
_ID = 8  # bytes of a schema's hash
_MOST = 65_536  # dimensions, slots, classes: as many as settings allow
_Format: TypeAlias = Literal[3, 4, 5]  # read; below 5 rows know no pool, 3 does not say when a task was last seen
_Size: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]
_Id: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=_ID, max_length=_ID)]
_Dtype: TypeAlias = Literal["<f4", "<f8", "<i8"]
_Text: TypeAlias = Annotated[str, msgspec.Meta(max_length=1_000)]
_Layout: TypeAlias = list[tuple[_Text, _Dtype, Annotated[list[_Size], msgspec.Meta(max_length=4)]]]


class _Record(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Something in the topic; its first field is the format."""


_Kind = TypeVar("_Kind", bound=_Record)


class Schema(_Record, frozen=True):
    """What the other records of a partition mean."""

    format: _Format
    settings: dict[str, bool | int | float | str]  # those that a task's state depends on
    layout: _Layout  # of a row
    phi: _Layout  # of what a row may leave out, as its window makes it again
    scale: _Layout  # of its own views, which it may not have
    slots: Annotated[list[tuple[_Text, _Text | None, _Size]], msgspec.Meta(max_length=_MOST)]
    own: Annotated[list[_Size], msgspec.Meta(max_length=_MOST)]  # the K slots that have a second float32
    width: _Size | None  # numbers in an event without names
    classes: Annotated[list[int | float | _Text], msgspec.Meta(max_length=_MOST)]


class Head(_Record, frozen=True):
    """A task, except for the full pages of its window."""

    format: _Format
    schema: _Id
    row: memoryview  # views of the record itself: most of it is copied once only, into the columns
    phi: memoryview  # empty: it is derived from the window when it is needed
    scale: memoryview  # its own views; empty: it has none
    open_x: memoryview  # float32 [n, D + K], n < PAGE: the labelled events since the last full page
    open_y: memoryview  # [n] float32 for classes, float64 for targets
    detector: bytes
    # when it was last seen in its partition: which event, the partition's time then, its last time stamp
    seen: tuple[Count, float, float] | None = None  # None: in format 3


class Page(_Record, frozen=True):
    """Labelled events number · PAGE to (number + 1) · PAGE − 1 of a task."""

    format: _Format
    schema: _Id
    number: Count
    x: memoryview  # float32 [PAGE, D + K]
    y: memoryview  # [PAGE] float32 for classes, float64 for targets


class Wait(_Record, frozen=True):
    """An event whose label has not come yet."""

    id: _Text
    slots: Annotated[list[_Size], msgspec.Meta(max_length=_MOST)]
    values: bytes  # float64, one a slot
    mean: bytes | None  # float64; what was predicted: probabilities, a mean, or a mean and its interval
    variance: float
    theta_version: Count
    parts: bytes | None = None  # float64; what experts said, when there are any
    context: tuple[_Size, _Size] | None = None  # the task's last label then, and how often it had come in a row
    ts: float | None = None  # of the event, where rolling features of labels need it


class WaitPage(_Record, frozen=True):
    """Some of a task's events that wait."""

    format: _Format
    schema: _Id
    events: list[Wait]


class Part(_Record, frozen=True):
    """A piece of what an expert knows of the partition."""

    format: _Format
    schema: _Id
    dtype: Literal["<f4", "<f8", "<i4", "<i8"]
    shape: Annotated[list[_Size], msgspec.Meta(max_length=4)]  # of the whole array
    data: memoryview


class Key(NamedTuple):
    """What a record is about."""

    kind: Literal["schema", "task", "page", "wait", "part", "own"]
    number: int
    tag: str  # of the task; for a schema its id in hexadecimal; for others the name

    def encode(self) -> bytes:
        """As it stands in the topic."""
        between = "" if self.kind in ("schema", "task", "own") else f"{self.number}:"
        return f"{self.kind}:{between}{self.tag}".encode()


def parse_key(raw: bytes | None, at: str) -> Key:
    """What a record of the topic is about; raises SnapshotError when it is none of ours."""
    try:
        kind, _, rest = (raw or b"").decode().partition(":")
        if kind == "task":
            return Key("task", 0, rest)
        if kind in ("schema", "own"):
            return Key(kind, 0, rest)  # type: ignore[arg-type]  # it is one of two
        if kind in ("page", "wait", "part"):
            number, _, tag = rest.partition(":")
            if number.isascii() and number.isdecimal() and len(number) <= 16:
                return Key(kind, int(number), tag)  # type: ignore[arg-type]  # it is one of three
    except UnicodeDecodeError:
        pass
    raise SnapshotError(
        f"{at}: the key is {raw!r:.100}, which streammeta did not write; wanted a topic of its own: "
        "choose another [app] name, or delete the topic if nobody needs it"
    )


_DECODERS: dict[type[_Record], msgspec.msgpack.Decoder[Any]] = {
    kind: msgspec.msgpack.Decoder(kind) for kind in (Schema, Head, Page, WaitPage, Part)
}
encode = msgspec.msgpack.Encoder().encode


def decode(kind: type[_Kind], value: bytes, at: str) -> _Kind:
    """A record of the topic; raises SnapshotError, with the reason, when it is not one."""
    try:
        found: _Kind = _DECODERS[kind].decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise SnapshotError(
            f"{at}: {len(value)} bytes that are no {kind.__name__.lower()} record of format {FORMAT} "
            f"({_other_format(value) or err}); wanted what this version of streammeta wrote: choose another [app] "
            "name, or delete the state topic to begin again"
        ) from err
    return found


def _other_format(value: bytes) -> str:
    """What a record says of its format, where that is another one."""
    try:
        first = msgspec.msgpack.decode(msgspec.msgpack.decode(value, type=list[msgspec.Raw])[0])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, IndexError):
        return ""
    is_other = isinstance(first, int) and first not in get_args(_Format)
    return f"it is of format {first}, which another version of streammeta wrote" if is_other else ""


def schema_id(data: bytes) -> bytes:
    """The name of a schema: a hash of its encoded form."""
    return hashlib.sha256(data).digest()[:_ID]


def unpack_rows(layout: _Layout, rows: Sequence[memoryview], at: str) -> dict[str, npt.NDArray[Any]]:
    """What ``pack_rows`` packed, by name [N, ...]; raises SnapshotError when a row has another size than it says."""
    sizes = [int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize for _, dtype, shape in layout]
    wrong = next((len(row) for row in rows if len(row) != sum(sizes)), None)
    if wrong is not None:
        raise SnapshotError(f"{at}: a row of {wrong} bytes, wanted {sum(sizes)}, as its schema says")
    joined = np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), sum(sizes))
    found, begin = {}, 0
    for (name, dtype, shape), size in zip(layout, sizes, strict=True):
        part = np.ascontiguousarray(joined[:, begin : begin + size])
        found[name] = part.view(dtype).reshape(len(rows), *shape)
        begin += size
    return found
