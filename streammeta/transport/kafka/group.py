"""A consumer group and its input, looked at from outside by tools: what is committed, who is in it, where logs end.

By kafka-python for every client.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import KafkaError

from streammeta.errors import TransportError
from streammeta.transport.base import Partition
from streammeta.transport.kafka.client import Consumer, connect, patiently
from streammeta.transport.kafka.input_log import log_of
from streammeta.transport.kafka.settings import KafkaSettings
from streammeta.transport.kafka.transaction import Offset

__all__ = ["Group", "InputNow", "input_now", "log_ids"]


@dataclass(frozen=True, slots=True)
class InputNow:
    """An input topic as it is."""

    id: str  # of the log that its name stands for; empty: the broker knows no ids
    begins: Mapping[int, int]  # the first offset there is, by partition
    ends: Mapping[int, int]  # the next offset
    found: Mapping[int, int]  # the first offset of the asked time, or later; the end where there is none


class Group:
    """A group in which we are not.

    Args:
        settings: how to reach Kafka.
        name: the group's.

    Raises:
        TransportError: no broker answers in time, or it refuses us.
    """

    def __init__(self, settings: KafkaSettings, name: str) -> None:
        self._name, self._where = name, f"kafka: group {name!r} on {settings.bootstrap_servers}"
        self._wait_ms = settings.milliseconds
        self._consumer: Any = connect(
            Consumer, settings, group_id=name, isolation_level="read_committed", enable_auto_commit=False
        )
        try:
            self._admin: Any = connect(KafkaAdminClient, settings, request_timeout_ms=self._wait_ms)
        except TransportError:
            self._consumer.close(autocommit=False)
            raise

    def offsets(self, topic: str, partitions: int) -> dict[Partition, Offset]:
        """What is committed for a topic, in partitions where anything is; transactions that are ending are waited for.

        Raises:
            TransportError: it cannot be had.
        """
        wanted = [TopicPartition(topic, number) for number in range(partitions)]
        try:
            found = self._consumer.committed_offsets(wanted, self._wait_ms)
        except (KafkaError, AssertionError) as err:
            raise TransportError(f"{self._where}: committed offsets cannot be read: {err!r}; check our rights") from err
        return {(at.topic, at.partition): Offset(one.offset, one.metadata or "") for at, one in found.items()}

    def members(self) -> int:
        """How many are in it now.

        Raises:
            TransportError: it cannot be had.
        """
        try:
            found = patiently(lambda: self._admin.describe_groups([self._name])[self._name], self._wait_ms / 1000)
            return len(found["members"])
        except (KafkaError, AssertionError) as err:
            raise TransportError(f"{self._where}: cannot be described: {err!r}; check our rights (ACLs)") from err

    def close(self) -> None:
        """Let go of everything; may be called twice."""
        self._consumer.close(autocommit=False)
        self._admin.close()


def log_ids(offsets: Mapping[Partition, Offset]) -> set[str]:
    """The ids of the logs that committed offsets are of, as far as they were committed with them."""
    return {log_of(one.metadata) for one in offsets.values()} - {""}


def input_now(settings: KafkaSettings, topic: str, *, since: float | None = None) -> InputNow:
    """Look at an input topic.

    Args:
        settings: how to reach Kafka.
        topic: its name; it must exist.
        since: seconds since 1970, for ``found``; None: its first record.

    Raises:
        TransportError: it cannot be looked at.
    """
    admin: Any = connect(KafkaAdminClient, settings, request_timeout_ms=settings.milliseconds)
    try:
        (described,) = admin.describe_topics([topic])
        ats = [TopicPartition(topic, number) for number in range(len(described["partitions"]))]
        begins, ends = (admin.list_partition_offsets(dict.fromkeys(ats, spec)) for spec in (-2, -1))
        found = begins if since is None else admin.list_partition_offsets(dict.fromkeys(ats, round(since * 1000)))
    except (KafkaError, AssertionError) as err:
        raise TransportError(f"kafka: {topic} on {settings.bootstrap_servers} cannot be looked at: {err!r}") from err
    finally:
        admin.close()
    late = {at: ends[at].offset if found[at].offset < 0 else found[at].offset for at in ats}
    return InputNow(
        str(described["topic_id"] or ""),
        {at.partition: begins[at].offset for at in ats},
        {at.partition: ends[at].offset for at in ats},
        {at.partition: late[at] for at in ats},
    )
