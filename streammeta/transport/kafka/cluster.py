"""A broker looked at, without changing anything: its limits, and the topics that a service uses."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec
from kafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    TransactionalIdAuthorizationFailedError,
)

from streammeta.errors import TransportError
from streammeta.transport.kafka.client import connect, patiently
from streammeta.transport.kafka.settings import KafkaSettings

__all__ = ["Cluster", "Topic", "look"]

_LIMITS = ["group.min.session.timeout.ms", "group.max.session.timeout.ms", "offsets.retention.minutes"]
_AUTHORIZATION = "GroupAuthorization"
_TOPIC = ["cleanup.policy", "max.message.bytes", "min.insync.replicas", "retention.ms"]


def _number(configs: Mapping[str, str], name: str) -> int:
    value = configs.get(name, "")
    return int(value) if value.lstrip("-").isdecimal() else -1


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic."""

    partitions: int
    replicas: int  # of its first partition
    offline: int = 0  # partitions without a leader
    configs: Mapping[str, str] = field(default_factory=dict)
    rights: frozenset[str] | None = None  # what our user may do with it, as Kafka names it; None: not known
    newest: float | None = None  # the latest time of a record, in seconds since 1970; None: empty, or not known

    def number(self, name: str) -> int:
        """A configuration that is a whole number; -1 where it is not known, or has no limit."""
        return _number(self.configs, name)


@dataclass(frozen=True, slots=True)
class Cluster:
    """What was looked at."""

    brokers: int
    configs: Mapping[str, str]  # of one broker
    topics: Mapping[str, Topic]  # those that exist
    rights: frozenset[str] | None = None  # of our user, on the cluster
    refused: tuple[str, ...] = ()  # what our user may not use beside topics: the group, the transactional id
    version: tuple[int, ...] | None = None  # of the oldest broker, by its protocol; None: not known

    def number(self, name: str) -> int:
        """A broker's limit; -1 where it is not known."""
        return _number(self.configs, name)


def look(settings: KafkaSettings, names: Sequence[str], *, groups: Sequence[str], transactional_id: str) -> Cluster:
    """Look at a cluster and at those of the topics ``names`` that exist, and whether we may use groups and an id.

    What the user has no right to see is left out, and is then not known.

    Raises:
        TransportError: no broker answers, or it does not let us in.
    """
    admin = connect(KafkaAdminClient, settings, request_timeout_ms=settings.milliseconds)
    try:
        described_cluster = admin.describe_cluster()
        brokers = described_cluster["brokers"]
        described = {one["name"]: one for one in admin.describe_topics(list(names)) if one["partitions"]}
        limits = _configs(admin, ConfigResourceType.BROKER, [_id(brokers[0])], _LIMITS)
        configs = _configs(admin, ConfigResourceType.TOPIC, list(described), _TOPIC)
        newest = {name: _newest(admin, name, len(one["partitions"])) for name, one in described.items()}
        version = _version(admin, [one["broker_id"] if "broker_id" in one else one["node_id"] for one in brokers])
        refused = tuple(_refused(admin, groups, transactional_id, settings.connect_timeout_seconds))
    except KafkaError as err:
        raise TransportError(f"kafka: {settings.bootstrap_servers} cannot be looked at: {err}") from err
    finally:
        admin.close()
    topics = {
        name: Topic(
            len(one["partitions"]),
            len(one["partitions"][0]["replica_nodes"]),
            sum(partition["leader_id"] < 0 for partition in one["partitions"]),
            configs.get(name, {}),
            _rights(one),
            newest[name],
        )
        for name, one in described.items()
    }
    limit = limits.get(_id(brokers[0]), {})
    return Cluster(len(brokers), limit, topics, _rights(described_cluster), refused, version)


def _newest(admin: Any, name: str, partitions: int) -> float | None:  # noqa: ANN401 (kafka-python has no types)
    """The latest time of a topic's records, which a broker before Kafka 3.0 does not say."""
    specs = {TopicPartition(name, number): OffsetSpec.MAX_TIMESTAMP for number in range(partitions)}
    try:
        found = admin.list_partition_offsets(specs)
    except KafkaError:
        return None
    return max((one.timestamp / 1000 for one in found.values() if one.timestamp >= 0), default=None)


def _version(admin: Any, brokers: Sequence[int]) -> tuple[int, ...] | None:  # noqa: ANN401 (kafka-python has no types)
    """Of the oldest one, as rolling upgrades have two."""
    try:
        return min(tuple(admin.get_broker_version_data(number).broker_version) for number in brokers)
    except KafkaError:
        return None


def _rights(described: Mapping[str, Any]) -> frozenset[str] | None:
    """What our user may do; None where the broker does not say it, or has no rights at all switched on."""
    found = described.get("authorized_operations")
    return None if not found else frozenset(found)


def _refused(
    admin: Any,  # noqa: ANN401 (kafka-python has no types)
    groups: Sequence[str],
    transactional_id: str,
    seconds: float,
) -> Iterator[str]:
    """What our user may not use; what the broker does not say in time, as on its first day, is not known."""
    for group in groups:
        described = _answer(partial(_described, admin, group), seconds)
        if isinstance(described, GroupAuthorizationFailedError):
            yield f"group {group}"
        elif isinstance(described, Mapping):
            rights = _rights(described)
            if _AUTHORIZATION in str(described.get("error")) or (rights is not None and "READ" not in rights):
                yield f"group {group}"
    state = _answer(lambda: admin.describe_transactions([transactional_id]), seconds)
    if isinstance(state, TransactionalIdAuthorizationFailedError):
        yield f"transactional id {transactional_id}"


def _described(admin: Any, group: str) -> object:  # noqa: ANN401 (kafka-python has no types)
    return admin.describe_groups([group])[group]


def _answer(ask: Callable[[], object], seconds: float) -> object:
    """The answer, or the error that is the answer; a coordinator that is only being made is waited for."""
    try:
        return patiently(ask, seconds)
    except KafkaError as err:
        return err


def _id(broker: Mapping[str, Any]) -> str:
    return str(broker["broker_id"] if "broker_id" in broker else broker["node_id"])


def _configs(
    admin: Any,  # noqa: ANN401 (kafka-python has no types)
    kind: ConfigResourceType,
    names: Sequence[str],
    wanted: Sequence[str],
) -> dict[str, dict[str, str]]:
    """Configurations by resource; empty where we have no right to see them."""
    if not names:
        return {}
    try:
        found = admin.describe_configs(
            [ConfigResource(kind, name, list(wanted)) for name in names], config_filter="all"
        )
    except KafkaError:
        return {}
    by_name: Mapping[str, Any] = next(iter(found.values()), {})
    return {
        name: {key: str(one["value"]) for key, one in configs.items() if one["value"] is not None}
        for name, configs in by_name.items()
    }
