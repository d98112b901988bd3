"""How far a group has come in a topic, by the records' own times: what waits for its events asks it."""

from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from streammeta.errors import TransactionError
from streammeta.transport.kafka.client import connect, patiently
from streammeta.transport.kafka.settings import KafkaSettings

__all__ = ["GroupProgress"]

_END, _BEGIN = -1, -2  # as the protocol numbers them
_LOOK_MILLISECONDS = 500


class GroupProgress:
    """Whether a group has committed all records of a topic that were made until some time.

    Args:
        settings: how to reach Kafka.
        topic: what the group reads.
        group: its name.
        partitions: of the topic.

    Raises:
        TransportError: no broker answers in time, or it refuses us.
    """

    def __init__(self, settings: KafkaSettings, topic: str, group: str, partitions: int) -> None:
        self._where = f"kafka: how far group {group!r} is in topic {topic!r} on {settings.bootstrap_servers}"
        self._group, self._wait_ms = group, settings.milliseconds
        self._partitions = [TopicPartition(topic, number) for number in range(partitions)]
        self._admin: Any = connect(KafkaAdminClient, settings, request_timeout_ms=self._wait_ms)
        self._consumer: Any = connect(
            KafkaConsumer,
            settings,
            group_id=None,
            isolation_level="read_committed",
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            max_poll_records=1,
        )

    def has_passed(self, seconds: float) -> bool:
        """Whether every record with a time up to this one, in seconds since 1970, was read by the group.

        Raises:
            TransactionError: the broker does not say it in time.
        """
        try:
            later = self._offsets(round(seconds * 1000) + 1)
            begins, ends = self._offsets(_BEGIN), self._offsets(_END)
            asked = {self._group: self._partitions}
            found = patiently(lambda: self._admin.list_group_offsets(asked), self._wait_ms / 1000)[self._group]
            silent = []  # partitions with no later record, and something before their end
            for at in self._partitions:
                known = found.get(at)
                committed = begins[at] if known is None or known.offset < 0 else known.offset
                if committed < later[at]:
                    return False
                if later[at] < 0 and committed < ends[at]:
                    silent.append((at, committed, ends[at]))
            return all(self._is_empty(*one) for one in silent)
        except KafkaError as err:
            raise TransactionError(f"{self._where}: cannot be had: {err}") from err

    def close(self) -> None:
        """Let go of the connections."""
        self._consumer.close(autocommit=False)
        self._admin.close()

    def _offsets(self, spec: int) -> dict[TopicPartition, int]:
        """By partition: of the first record from a time in milliseconds on, -1 where there is none; or of an end."""
        found = self._admin.list_partition_offsets(dict.fromkeys(self._partitions, spec), timeout_ms=self._wait_ms)
        return {at: -1 if found.get(at) is None else found[at].offset for at in self._partitions}

    def _is_empty(self, at: TopicPartition, begin: int, end: int) -> bool:
        """Whether no record lies between these offsets, but only the ends of transactions."""
        self._consumer.assign([at])
        self._consumer.seek(at, begin)
        for records in self._consumer.poll(timeout_ms=_LOOK_MILLISECONDS).values():
            return bool(records[0].offset >= end)
        return bool(self._consumer.position(at) >= end)
