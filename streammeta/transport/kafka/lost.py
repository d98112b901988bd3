"""Committed offsets that the log does not have: records were deleted, or the topic was created again."""

import structlog

from streammeta.errors import TransportError
from streammeta.transport.kafka.settings import OnLostOffset

__all__ = ["found_offset", "offset_in_new_log"]

_log = structlog.get_logger(__name__)
_REMEDY = 'set [input] on_lost_offset to "earliest" or "latest" to go on'


def found_offset(start: int, begin: int, end: int, on_lost: OnLostOffset, *, where: str, partition: int) -> int:
    """Where to start in a log that holds ``begin`` to ``end``: at ``start``, if it has (or already had) a record there.

    Raises:
        TransportError: it has not, and ``on_lost`` is "stop".
    """
    if begin <= start <= end:
        return start
    lost = f"{where}: partition {partition} was read up to offset {start}, but holds {begin} to {end}"
    remedy = f"records were deleted before they were read, or the topic was created again; {_REMEDY} without them"
    return _go_on(lost, begin, end, on_lost, remedy)


def offset_in_new_log(
    start: int | None, begin: int, end: int, on_lost: OnLostOffset, *, where: str, partition: int
) -> int:
    """Where to start in a log that took the place of the one we read, up to ``start`` as far as that is known.

    Raises:
        TransportError: ``on_lost`` is "stop".
    """
    read = "" if start is None else f" up to offset {start}"
    lost = (
        f"{where}: the topic was deleted and created again since partition {partition} was read{read}: it is another "
        f"log now, which holds {begin} to {end}"
    )
    return _go_on(lost, begin, end, on_lost, f"{_REMEDY} in the new one")


def _go_on(lost: str, begin: int, end: int, on_lost: OnLostOffset, remedy: str) -> int:
    if on_lost == "stop":
        raise TransportError(f"{lost}: {remedy}")
    to = begin if on_lost == "earliest" else end
    _log.error("records were lost", where=lost, going_on_from=to)
    return to
