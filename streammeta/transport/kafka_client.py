"""The Kafka client as we need it: settings, connections in a bounded time, topics, a consumer that lets us act."""

import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Literal, Self, TypeAlias

from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import FencedInstanceIdError, KafkaError, TopicAlreadyExistsError, UnknownTopicOrPartitionError
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from streammeta.errors import TransportError

__all__ = ["Consumer", "KafkaSettings", "Move", "RebalanceListener", "connect", "create_topics", "ensure_topics"]

_Protocol: TypeAlias = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
_Mechanism: TypeAlias = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
Move: TypeAlias = Literal["assigned", "revoked", "lost"]
_RETRY_SECONDS = 0.2
_NO_TABLES: Mapping[str, int | None] = {}
_TABLE = {  # what is overwritten is cleaned away soon, so that reading a table takes as long as it is large
    "cleanup.policy": "compact",
    "segment.bytes": str(32 * 2**20),
    "segment.ms": "600000",
    "min.cleanable.dirty.ratio": "0.2",
}


class KafkaSettings(BaseModel):
    """How to reach Kafka, and how to read from and write to it. Secrets are kept out of messages and logs."""

    # an error of this model must not repeat its input: the input holds the password
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    bootstrap_servers: str = Field(
        "localhost:9092", description="brokers to ask first: host:port, several separated by commas"
    )
    group_id: str | None = Field(
        None, min_length=1, max_length=249, description="consumer group; without it the application's name"
    )
    group_instance_id: str | None = Field(
        None,
        pattern=r"^[a-zA-Z0-9._-]{1,249}$",
        description="name of this member within the group: a restart within the session timeout keeps its partitions",
    )
    client_id: str = Field("streammeta", min_length=1, description="name under which the broker logs this client")
    rebalance: Literal["cooperative", "eager"] = Field(
        "cooperative",
        description='"cooperative": members keep what does not move; "eager": all give up everything first',
    )
    session_timeout_seconds: float = Field(
        10.0, ge=1, le=1800, description="a member that is silent for so long loses its partitions"
    )
    max_poll_interval_seconds: float = Field(
        300.0, ge=1, le=86_400, description="a member that does not ask for records for so long loses its partitions"
    )
    stuck_seconds: float = Field(
        300.0, gt=0, le=86_400, description="records that wait for so long, and do not come, end the service"
    )
    max_poll_records: int = Field(5_000, ge=1, le=1_000_000, description="most records that one poll hands over")
    fetch_wait_seconds: float = Field(
        0.1, gt=0, le=10, description="how long the broker may wait for a fetch to become fetch_min_bytes large"
    )
    fetch_min_bytes: int = Field(1, ge=1, description="what a fetch waits for")
    fetch_partition_bytes: int = Field(4 * 2**20, ge=1024, description="most bytes of one partition in a fetch")
    linger_seconds: float = Field(0.01, ge=0, le=10, description="results are collected for so long and sent together")
    max_message_bytes: int = Field(
        4 * 2**20,
        ge=1024,
        description="longest result that is sent; created topics take it (a dead letter is longer than its record)",
    )
    connect_timeout_seconds: float = Field(
        10.0, gt=0, le=600, description="longest wait for a connection, for a commit, and for topics"
    )
    security_protocol: _Protocol = Field("PLAINTEXT", description='"PLAINTEXT", "SSL", "SASL_PLAINTEXT" or "SASL_SSL"')
    sasl_mechanism: _Mechanism | None = Field(
        None, description='with SASL: "PLAIN", "SCRAM-SHA-256" or "SCRAM-SHA-512"'
    )
    sasl_username: str | None = Field(None, description="with SASL: the user")
    sasl_password: SecretStr | None = Field(None, description="with SASL: the password")
    ssl_cafile: str | None = Field(None, description="with SSL: file of certificate authorities to trust")
    ssl_certfile: str | None = Field(None, description="with SSL: file of the client's certificate")
    ssl_keyfile: str | None = Field(None, description="with SSL: file of the client's private key")
    ssl_password: SecretStr | None = Field(None, description="with SSL: password of the private key")
    ssl_check_hostname: bool = Field(default=True, description="with SSL: whether the certificate must name the host")

    @field_validator("bootstrap_servers")
    @classmethod
    def _names_hosts_and_ports(cls, value: str) -> str:
        _addresses(value)
        return value

    @model_validator(mode="after")
    def _sasl_is_whole(self) -> Self:
        wanted = (self.sasl_mechanism, self.sasl_username, self.sasl_password)
        if self.security_protocol.startswith("SASL") and None in wanted:
            raise ValueError(f"{self.security_protocol} wants sasl_mechanism, sasl_username and sasl_password")
        return self

    def client_options(self) -> dict[str, Any]:
        """What every client of kafka-python is given; holds the secrets in plain text."""
        milliseconds = round(self.connect_timeout_seconds * 1000)
        options: dict[str, Any] = {
            "bootstrap_servers": [f"{_bracketed(host)}:{port}" for host, port in _addresses(self.bootstrap_servers)],
            "client_id": self.client_id,
            "bootstrap_timeout_ms": milliseconds,
            "reconnect_backoff_max_ms": 2000,
            "security_protocol": self.security_protocol,
            "sasl_mechanism": self.sasl_mechanism,
            "sasl_plain_username": self.sasl_username,
            "sasl_plain_password": _plain(self.sasl_password),
            "ssl_cafile": self.ssl_cafile,
            "ssl_certfile": self.ssl_certfile,
            "ssl_keyfile": self.ssl_keyfile,
            "ssl_password": _plain(self.ssl_password),
            "ssl_check_hostname": self.ssl_check_hostname,
        }
        return options


class Consumer(KafkaConsumer):  # type: ignore[misc]  # kafka-python has no types
    """A consumer that lets its owner act between two rounds of a poll, and that takes up every join it began.

    kafka-python (3.0.12) leaves a join running when a poll's time is over, and the next poll should take up its result.
    It does not where the join ends between two polls: it joins again, which makes every other member join again too,
    so that a group whose members work between their polls can go on like that for minutes. And where the join was
    asked for by new metadata, it forgets the join altogether: the member stays without partitions, and without a word.
    A static member whose name another one took is told so at its next heartbeat, and also keeps it to itself.
    """

    between_rounds: Callable[[], None] = staticmethod(lambda: None)
    before_join: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, **configs: Any) -> None:  # noqa: ANN401 (kafka-python has no types)
        super().__init__(**configs)
        coordinator = self._coordinator
        join: Callable[[], Awaitable[bytes]] = coordinator._do_join_and_sync_async
        finished: list[bytes] = []  # what the last join brought, unless it failed

        async def join_once() -> bytes:
            if not (finished and coordinator.rebalance_in_progress()):  # in progress until a poll takes it up
                finished.clear()
                finished.append(await join())
            return finished[0]

        coordinator._do_join_and_sync_async = join_once

    def _poll_once(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 (kafka-python has no types)
        coordinator = self._coordinator
        if coordinator.rebalance_in_progress():
            coordinator.request_rejoin()  # do not forget it
        elif coordinator.stable() and not (coordinator.rejoining or coordinator._heartbeat_enabled):
            raise FencedInstanceIdError(coordinator.group_instance_id)  # nothing else ends a member's heartbeat
        if coordinator.need_rejoin() and not coordinator.rebalance_in_progress():
            self.before_join()
        records = super()._poll_once(*args, **kwargs)
        self.between_rounds()
        return records


class RebalanceListener(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """Passes on what the group tells."""

    def __init__(self, note: Callable[[Move, Collection[TopicPartition]], None]) -> None:
        self._note = note

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Called by the client on its network thread."""
        self._note("revoked", revoked)

    def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
        """Called by the client on its network thread: others may have had these for a while."""
        self._note("lost", lost)

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Called by the client on its network thread."""
        self._note("assigned", assigned)


def connect(client: Callable[..., Any], settings: KafkaSettings, **options: Any) -> Any:  # noqa: ANN401 (kafka-python has no types)
    """A client of kafka-python, connected within ``connect_timeout_seconds``.

    Raises:
        TransportError: no broker answers, or it refuses us.
    """
    _await_any_broker(settings)
    networks: list[Any] = []

    def network(**configs: Any) -> Any:  # noqa: ANN401 (kafka-python has no types)
        networks.append(KafkaAdminClient.DEFAULT_CONFIG["kafka_client"](**configs))
        return networks[-1]

    try:
        return client(**settings.client_options(), **options, kafka_client=network)
    except (KafkaError, OSError, ValueError) as err:
        for started in networks:  # a client that fails to start would go on reconnecting in its thread
            started.close()
        where = settings.bootstrap_servers
        raise TransportError(
            f"kafka: {where} does not let us in ({err}); {_suspicion(settings)}"
            "check security_protocol, sasl_* and ssl_*"
        ) from err


def ensure_topics(
    settings: KafkaSettings, topic: str, outputs: Collection[str], tables: Mapping[str, int | None] = _NO_TABLES
) -> int:
    """Make sure that the input topic is there, and create the output topics that are not, with as many partitions.

    Args:
        settings: how to reach Kafka.
        topic: the input topic.
        outputs: topics for results.
        tables: compacted topics with their number of partitions; None: as many as the input.

    Returns:
        The number of partitions of the input topic.

    Raises:
        TransportError: no broker answers, the input topic does not exist, or an output topic cannot be created.
    """
    admin = connect(KafkaAdminClient, settings, request_timeout_ms=_milliseconds(settings))
    try:
        found = _partitions(admin, [topic, *outputs, *tables])
        if topic not in found:
            raise TransportError(
                f"kafka: topic {topic!r} does not exist on {settings.bootstrap_servers}; create it, with as many "
                "partitions as workers will ever share it (4 are a good start), or name another topic"
            )
        wanted = dict.fromkeys(outputs, found[topic]) | {name: n or found[topic] for name, n in tables.items()}
        _check_partitions(settings, topic, found, {name: wanted[name] for name in tables})
        _create(admin, settings, {name: n for name, n in wanted.items() if name not in found}, compacted=tables)
        _check_compacted(admin, settings, [name for name in tables if name in found])
        return found[topic]
    except KafkaError as err:
        raise TransportError(f"kafka: topics on {settings.bootstrap_servers} cannot be had: {err}") from err
    finally:
        admin.close()


def create_topics(settings: KafkaSettings, topics: Mapping[str, int]) -> None:
    """Create topics, given with their number of partitions; those that exist stay as they are.

    Raises:
        TransportError: no broker answers, or it refuses.
    """
    admin = connect(KafkaAdminClient, settings, request_timeout_ms=_milliseconds(settings))
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
                "anew under another [app] name, or with a new input topic that holds the events again"
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
    compacted: Collection[str] = (),
) -> None:
    configs = {"max.message.bytes": str(settings.max_message_bytes)}
    for name, partitions in topics.items():  # one by one: another worker may be creating them too
        chosen = configs | _TABLE if name in compacted else configs
        wanted = {"num_partitions": partitions, "replication_factor": -1, "configs": chosen}
        try:
            admin.create_topics({name: wanted}, timeout_ms=_milliseconds(settings), wait_for_metadata=True)
        except TopicAlreadyExistsError:
            continue


def _await_any_broker(settings: KafkaSettings) -> None:
    deadline = time.monotonic() + settings.connect_timeout_seconds
    while True:
        reasons = []
        for address in _addresses(settings.bootstrap_servers):
            left = max(0.1, deadline - time.monotonic())
            try:
                socket.create_connection(address, timeout=left).close()
            except OSError as err:
                reasons.append(err.strerror or str(err))
            else:
                return
        if time.monotonic() + _RETRY_SECONDS >= deadline:
            raise TransportError(
                f"kafka: no broker answers on {settings.bootstrap_servers} within "
                f"{settings.connect_timeout_seconds:g} s ({', '.join(dict.fromkeys(reasons))}); "
                "start it (`make broker` runs one on this machine), or correct bootstrap_servers"
            )
        time.sleep(_RETRY_SECONDS)


def _suspicion(settings: KafkaSettings) -> str:
    """What the client does not tell: whether the certificate is to blame, or what comes after it."""
    if settings.security_protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=settings.ssl_cafile)
        context.check_hostname = settings.ssl_check_hostname
        host, port = _addresses(settings.bootstrap_servers)[0]
        try:
            with (
                socket.create_connection((host, port), timeout=settings.connect_timeout_seconds) as plain,
                context.wrap_socket(plain, server_hostname=host),
            ):
                pass
        except ssl.SSLCertVerificationError as err:
            return f"its certificate is not trusted ({err.verify_message}): wrong ssl_cafile? "
        except OSError as err:
            return f"no TLS there ({err}): wrong security_protocol or port? "
    if settings.security_protocol.startswith("SASL"):
        return "the connection stands: wrong sasl_username, sasl_password or sasl_mechanism? "
    return "the connection stands: does it want a user and a password? "


def _addresses(servers: str) -> list[tuple[str, int]]:
    found = []
    for server in servers.split(","):
        host, _, port = server.strip().rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError(
                f"bootstrap_servers: got {server.strip()!r}, wanted host:port, several separated by commas"
            )
        found.append((host.strip("[]"), int(port)))
    return found


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _plain(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _milliseconds(settings: KafkaSettings) -> int:
    return round(settings.connect_timeout_seconds * 1000)
