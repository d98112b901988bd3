"""Topics: looked at, created where they are not there, refused where state would not be found in them again."""

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, TopicAlreadyExistsError, UnknownTopicOrPartitionError

from streammeta.errors import TransportError
from streammeta.transport.kafka.client import connect
from streammeta.transport.kafka.settings import KafkaSettings

__all__ = ["create_topics", "ensure_topics", "find_topics"]

_NO_TABLES: Mapping[str, int | None] = {}
_NO_KINDS: Mapping[str, Mapping[str, str]] = {}
_RING = {"cleanup.policy": "compact,delete", "retention.ms": str(24 * 3_600_000)}
_TABLE = {  # what is overwritten is cleaned away soon, so that reading a table takes as long as it is large
    "cleanup.policy": "compact",
    "segment.bytes": str(32 * 2**20),
    "segment.ms": "600000",
    "min.cleanable.dirty.ratio": "0.2",
}


def ensure_topics(
    settings: KafkaSettings,
    topic: str,
    outputs: Collection[str],
    tables: Mapping[str, int | None] = _NO_TABLES,
    *,
    rings: Collection[str] = (),
) -> int:
    """Make sure that the input topic is there, and create the output topics that are not, with as many partitions.

    Args:
        settings: how to reach Kafka.
        topic: the input topic.
        outputs: topics for results.
        tables: compacted topics with their number of partitions; None: as many as the input.
        rings: topics that keep the last value of each key, and that for a day only; as many partitions as the input.

    Returns:
        The number of partitions of the input topic.

    Raises:
        TransportError: no broker answers, the input topic does not exist, or an output topic cannot be created.
    """
    admin = connect(KafkaAdminClient, settings, request_timeout_ms=settings.milliseconds)
    try:
        found = _partitions(admin, [topic, *outputs, *tables, *rings])
        if topic not in found:
            raise TransportError(
                f"kafka: topic {topic!r} does not exist on {settings.bootstrap_servers}; create it, with as many "
                "partitions as workers will ever share it (4 are a good start), or name another topic"
            )
        wanted = dict.fromkeys([*outputs, *rings], found[topic])
        wanted |= {name: n or found[topic] for name, n in tables.items()}
        _check_partitions(settings, topic, found, {name: wanted[name] for name in (*tables, *rings)})
        kinds = dict.fromkeys(tables, _TABLE) | dict.fromkeys(rings, _TABLE | _RING)
        _create(admin, settings, {name: n for name, n in wanted.items() if name not in found}, kinds=kinds)
        _check_compacted(admin, settings, [name for name in tables if name in found])
        return found[topic]
    except KafkaError as err:
        raise TransportError(f"kafka: topics on {settings.bootstrap_servers} cannot be had: {err}") from err
    finally:
        admin.close()


def find_topics(settings: KafkaSettings, patterns: Sequence[str], *, without: Collection[str] = ()) -> list[str]:
    """The topics of these names, and those whose whole names fit a pattern with ``*`` or ``?``, in order.

    Args:
        settings: how to reach Kafka.
        patterns: names and patterns.
        without: names that are not looked for.

    Raises:
        TransportError: no broker answers, a topic does not exist, or none fits a pattern.
    """
    admin = connect(KafkaAdminClient, settings, request_timeout_ms=settings.milliseconds)
    try:
        there = sorted(name for name in admin.list_topics() if not name.startswith("__") and name not in without)
    except KafkaError as err:
        raise TransportError(f"kafka: topics on {settings.bootstrap_servers} cannot be listed: {err}") from err
    finally:
        admin.close()
    found: dict[str, None] = {}
    for pattern in patterns:
        fitting = [name for name in there if name == pattern or fnmatchcase(name, pattern)]
        if not fitting:
            raise TransportError(
                f"kafka: no topic on {settings.bootstrap_servers} is called, or fits, {pattern!r} of [input] topics; "
                "create it, or leave it out"
            )
        found |= dict.fromkeys(fitting)
    return list(found)


def create_topics(settings: KafkaSettings, topics: Mapping[str, int]) -> None:
    """Create topics, given with their number of partitions; those that exist stay as they are.

    Raises:
        TransportError: no broker answers, or it refuses.
    """
    admin = connect(KafkaAdminClient, settings, request_timeout_ms=settings.milliseconds)
    try:
        _create(admin, settings, topics)
    except KafkaError as err:
        wanted = ", ".join(topics)
        raise TransportError(f"kafka: {wanted} cannot be created on {settings.bootstrap_servers}: {err}") from err
    finally:
        admin.close()


def _partitions(admin: Any, topics: Collection[str]) -> dict[str, int]:  # noqa: ANN401 (kafka-python has no types)
    """The number of partitions of those topics that exist."""
    described = admin.describe_topics(list(topics))
    return {topic["name"]: len(topic["partitions"]) for topic in described if _exists(topic)}


def _exists(topic: Mapping[str, Any]) -> bool:
    return topic["error_code"] != UnknownTopicOrPartitionError.errno and bool(topic["partitions"])


def _check_partitions(settings: KafkaSettings, topic: str, found: Mapping[str, int], wanted: Mapping[str, int]) -> None:
    """A task must find its state in the partition it comes in."""
    for name, partitions in wanted.items():
        if name in found and found[name] != partitions:
            raise TransportError(
                f"kafka: topic {name!r} on {settings.bootstrap_servers} has {found[name]} partitions, wanted "
                f"{partitions}, as {topic!r} has now: was the number changed? Tasks would not find their state. Begin "
                "again under another [app] name, or with a new input topic that holds the events again"
            )


def _check_compacted(admin: Any, settings: KafkaSettings, names: Collection[str]) -> None:  # noqa: ANN401 (kafka-python has no types)
    """State kept in a topic that deletes is lost some day."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, ["cleanup.policy"]) for name in names]
    described = admin.describe_configs(resources, config_filter="all").get("topic", {}) if resources else {}
    for name, configs in described.items():
        policy = configs["cleanup.policy"]["value"]
        if policy != "compact":
            raise TransportError(
                f"kafka: topic {name!r} on {settings.bootstrap_servers} has cleanup.policy {policy!r}, wanted "
                "'compact', or state is lost some day; set it back, or choose another [app] name"
            )


def _create(
    admin: Any,  # noqa: ANN401 (kafka-python has no types)
    settings: KafkaSettings,
    topics: Mapping[str, int],
    *,
    kinds: Mapping[str, Mapping[str, str]] = _NO_KINDS,
) -> None:
    configs = {"max.message.bytes": str(settings.max_message_bytes)}
    for name, partitions in topics.items():  # one by one: another worker may be creating them too
        chosen = configs | dict(kinds.get(name, {}))
        wanted = {"num_partitions": partitions, "replication_factor": -1, "configs": chosen}
        try:
            admin.create_topics({name: wanted}, timeout_ms=settings.milliseconds, wait_for_metadata=True)
        except TopicAlreadyExistsError:
            continue
