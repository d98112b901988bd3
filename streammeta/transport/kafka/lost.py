"""Committed offsets that the log does not have any more: records were deleted, or the topic was made anew."""

import structlog

from streammeta.errors import TransportError
from streammeta.transport.kafka.settings import OnLostOffset

__all__ = ["found_offset"]

_log = structlog.get_logger(__name__)


def found_offset(start: int, begin: int, end: int, on_lost: OnLostOffset, *, where: str, partition: int) -> int:
    """Where to start in a log that holds ``begin`` to ``end``: at ``start``, if it has (or already had) a record there.

    Raises:
        TransportError: it has not, and ``on_lost`` is "stop".
    """
    if begin <= start <= end:
        return start
    lost = f"{where}: partition {partition} was read up to offset {start}, but holds {begin} to {end}"
    if on_lost == "stop":
        raise TransportError(
            f"{lost}: records were deleted before they were read, or the topic was made anew; "
            'set [input] on_lost_offset to "earliest" or "latest" to go on without them'
        )
    to = begin if on_lost == "earliest" else end
    _log.error("records were lost", where=lost, going_on_from=to)
    return to
