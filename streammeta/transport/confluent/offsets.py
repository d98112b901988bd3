"""Where reading starts in a partition, by confluent-kafka: the group's committed offset, if the log still has it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import structlog
from confluent_kafka import Consumer, KafkaException, TopicPartition

from streammeta.errors import TransactionError
from streammeta.transport.base import Partition
from streammeta.transport.confluent.client import failure
from streammeta.transport.kafka.input_log import InputLog, log_of
from streammeta.transport.kafka.lost import found_offset, offset_in_new_log
from streammeta.transport.kafka.settings import OnLostOffset

__all__ = ["Offsets"]

_log = structlog.get_logger(__name__)
_TRIES = 5  # to read of which log committed offsets are


class Position(NamedTuple):
    """An offset, and of which log it is; empty: not known."""

    offset: int | None
    log: str


class Offsets:
    """Asks the broker about a group's partitions.

    Args:
        consumer: the member.
        log: the log that is read.
        where: begins messages.
        seconds: the longest wait.
        on_lost_offset: what to do where the committed offset is not in the log any more.
    """

    def __init__(
        self, consumer: Consumer, log: InputLog, where: str, seconds: float, on_lost_offset: OnLostOffset
    ) -> None:
        self._consumer, self._log, self._where, self._seconds = consumer, log, where, seconds
        self._on_lost_offset: OnLostOffset = on_lost_offset

    def starts(self, partitions: Sequence[Partition], sought: dict[Partition, int]) -> dict[Partition, int]:
        """Where reading starts: at the committed offset, or at a later one that was sought, which is then used up."""
        starts = self._starts(self.committed(partitions))
        for partition, start in starts.items():
            starts[partition] = max(start, sought.pop(partition, start))
        return starts

    def again(self, positions: Mapping[Partition, int]) -> dict[Partition, int]:
        """Where to go on in partitions that are ours, in a log that may not be the one of these positions any more."""
        return self._starts({one: Position(at, self._log.placed_in(one)) for one, at in positions.items()})

    def _starts(self, positions: Mapping[Partition, Position]) -> dict[Partition, int]:
        if not positions:
            return {}
        self._log.ask()
        starts = {partition: self._start(partition, position) for partition, position in positions.items()}
        self._log.place(starts)
        return starts

    def _start(self, partition: Partition, position: Position) -> int:
        borders = self.borders(partition)
        if self._log.is_other(position.log):
            number = partition[1]
            return offset_in_new_log(
                position.offset, *borders, self._on_lost_offset, where=self._where, partition=number
            )
        return borders[0] if position.offset is None else self.found(partition, position.offset, borders)

    def found(self, partition: Partition, start: int, borders: tuple[int, int]) -> int:
        """Where to go on in a log with these borders: at ``start``, if it has (or already had) a record there.

        Raises:
            TransportError: it has not, and we are to stop then.
        """
        return found_offset(start, *borders, self._on_lost_offset, where=self._where, partition=partition[1])

    def committed(self, partitions: Sequence[Partition]) -> dict[Partition, Position]:
        """The group's committed offsets; None where there is none.

        Which log they are of may not be readable: librdkafka hands on what stands in memory after it, which need not
        be text. It is asked for again, as other bytes stand there then, and is not known where that does not help.
        """
        for _ in range(_TRIES):
            found = self._committed(partitions)
            if all(_can_be_read(at) for at in found):
                break
        else:
            _log.warning("of which log a committed offset is cannot be read; it is taken for the one that is there")
        return {(at.topic, at.partition): _position(at) for at in found}

    def _committed(self, partitions: Sequence[Partition]) -> list[TopicPartition]:
        if not partitions:
            return []
        try:
            found = self._consumer.committed([TopicPartition(*one) for one in partitions], timeout=self._seconds)
        except KafkaException as err:
            raise failure(f"{self._where}: committed offsets cannot be read", err) from err
        wrong = next((at.error for at in found if at.error is not None), None)
        if wrong is not None:
            raise failure(f"{self._where}: committed offsets cannot be read", wrong)
        return list(found)

    def borders(self, partition: Partition) -> tuple[int, int]:
        """The first offset in the log, and the one after the last record that can be read."""
        try:
            found: Any = self._consumer.get_watermark_offsets(TopicPartition(*partition), timeout=self._seconds)
        except KafkaException as err:
            raise failure(f"{self._where}: ends of partitions cannot be had", err) from err
        if found is None:
            raise TransactionError(f"{self._where}: ends of partitions cannot be had in {self._seconds:g} s")
        return int(found[0]), int(found[1])


def _can_be_read(at: TopicPartition) -> bool:
    try:
        log_of(at.metadata)
    except UnicodeDecodeError:
        return False
    return True


def _position(at: TopicPartition) -> Position:
    log = log_of(at.metadata) if _can_be_read(at) else ""
    return Position(at.offset if at.offset >= 0 else None, log)
