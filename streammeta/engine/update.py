"""What a member that keeps its events sends of a round, as a value and as a record.

The change of θ; the names of features, with the values of categories, and of classes; which θ it began from; how many
tasks it is of, and 0 where it is private, as that would be a count of the data. No event, no value of a feature, no
statistic of any.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from streammeta.bounds import Count, Size
from streammeta.engine.packing import DAMAGE, pack, unpack
from streammeta.errors import SnapshotError
from streammeta.meta.base import Theta

__all__ = ["Update", "decode_update", "encode_update"]

_DELTA = "delta."


class _Header(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    format: Literal[1]
    settings: dict[str, bool | int | float | str]
    version: Count
    theta_id: Count
    slots: Annotated[list[tuple[str, str | None, Size]], msgspec.Meta(max_length=65_536)]
    width: Size | None
    classes: Annotated[list[int | float | str], msgspec.Meta(max_length=65_536)]
    new_slots: Annotated[list[tuple[str, str | None, Size]], msgspec.Meta(max_length=65_536)]
    new_classes: Annotated[list[int | float | str], msgspec.Meta(max_length=65_536)]
    partitions: Annotated[list[Count], msgspec.Meta(max_length=65_536)]
    weight: Count


_DECODER = msgspec.msgpack.Decoder(_Header)


class Update(NamedTuple):
    """What a member sends of a round."""

    settings: dict[str, Any]  # those that θ depends on
    version: int  # of the θ that it began from
    theta_id: int  # likewise
    slots: Sequence[tuple[str, str | None, int]]  # features of that θ: name, category's value, fan-in
    width: int | None  # numbers in an event without names
    classes: Sequence[int | float | str]
    new_slots: Sequence[tuple[str, str | None, int]]  # features that the member has beside them
    new_classes: Sequence[int | float | str]
    partitions: Sequence[int]  # whose tasks it is of
    weight: int  # tasks; 0: it is private, and counts as any other
    delta: Theta  # change of θ, in the order of ``slots`` and ``classes``; none: the member has names only


def encode_update(update: Update) -> bytes:
    """The record."""
    return pack((1, *update[:-1]), {_DELTA + name: p for name, p in update.delta.items()})


def decode_update(value: bytes, at: str) -> Update:
    """What ``encode_update`` wrote.

    Raises:
        SnapshotError: it is something else, or damaged; the message begins with ``at``.
    """
    try:
        header, arrays = unpack(value, _DECODER)
    except DAMAGE as err:
        raise SnapshotError(f"{at}: {len(value)} bytes that are no update of format 1 ({err})") from err
    delta = {name.removeprefix(_DELTA): p for name, p in arrays.items() if name.startswith(_DELTA)}
    return Update(**{name: getattr(header, name) for name in Update._fields[:-1]}, delta=delta)
