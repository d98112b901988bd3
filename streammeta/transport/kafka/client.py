"""kafka-python as we need it: connections in a bounded time, a consumer that lets us act."""

import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from typing import Any, Final, Literal, TypeAlias, TypeVar

from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka.errors import FencedInstanceIdError, KafkaConfigurationError, KafkaError, UnsupportedCodecError
from kafka.net.sasl.oauth import AbstractTokenProvider
from kafka.structs import ConsumerGroupMetadata

from streammeta.errors import TransportError
from streammeta.transport.base import Partition
from streammeta.transport.kafka.settings import KafkaSettings

__all__ = [
    "Consumer",
    "Member",
    "Move",
    "RebalanceListener",
    "await_any_broker",
    "codec_advice",
    "connect",
    "diagnose_connection",
    "patiently",
]

Move: TypeAlias = Literal["assigned", "revoked", "lost"]
_RETRY_SECONDS = 0.2
_METADATA_MILLISECONDS = 1000
_ALERT_SECONDS = 1.0  # for a broker to refuse our certificate after the handshake
_CODECS: Final = {"snappy": "python-snappy", "lz4": "lz4", "zstd": "zstandard"}  # and the package that reads it


_Answer = TypeVar("_Answer")


def patiently(ask: Callable[[], _Answer], seconds: float) -> _Answer:
    """The answer of a broker; asked again while it says that it cannot answer yet, as on a cluster's first day.

    A new cluster has no group coordinator until the first group makes the topic that it works with.

    Args:
        ask: a question, which can be asked again.
        seconds: the longest wait.

    Raises:
        KafkaError: asking again does not help, or did not in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except KafkaError as err:
            if not err.retriable or time.monotonic() >= deadline:
                raise
        time.sleep(_RETRY_SECONDS)


class Consumer(KafkaConsumer):  # type: ignore[misc]  # kafka-python has no types
    """A consumer that lets its owner act between two rounds of a poll, and that takes up every join it began.

    kafka-python (3.0.12) leaves a join running when a poll's time is over, and the next poll should take up its result.
    It does not where the join ends between two polls: it joins again, which makes every other member join again too,
    so that a group whose members work between their polls can go on like that for minutes. And where the join was
    asked for by new metadata, it forgets the join altogether: the member stays without partitions, and without a word.
    A static member whose name another one took learns so at its next heartbeat, and also keeps it to itself.
    Where the log does not hold the next record any more, it goes on with another one, and says nothing.
    And it joins before it knows its topics: a leader then shares out no partitions, and a second later all join again.
    """

    between_rounds: Callable[[], None] = staticmethod(lambda: None)
    before_join: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, **configs: Any) -> None:  # noqa: ANN401 (kafka-python has no types)
        super().__init__(**configs)
        self.beyond: set[TopicPartition] = set()  # paused: the log does not hold their next record
        reset = self._subscription.request_offset_reset

        def note_and_reset(partition: TopicPartition, offset_reset_strategy: int | None = None) -> None:
            if offset_reset_strategy is None:  # nobody asked for it
                self.pause(partition)
                self.beyond.add(partition)
            reset(partition, offset_reset_strategy)

        self._subscription.request_offset_reset = note_and_reset
        coordinator = self._coordinator
        join: Callable[[], Awaitable[bytes]] = coordinator._do_join_and_sync_async
        finished: list[bytes] = []  # what the last join brought, unless it failed

        async def join_once() -> bytes:
            if not (finished and coordinator.rebalance_in_progress()):  # in progress until a poll takes it up
                finished.clear()
                finished.append(await join())
            return finished[0]

        coordinator._do_join_and_sync_async = join_once

    def committed_offsets(
        self, partitions: Collection[TopicPartition], timeout_ms: int
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        """Next offsets that the group has committed, for the partitions where it has, asked now and in one question.

        The client's own ``committed`` takes the answer to an earlier question that came too late for that one.

        Raises:
            KafkaError: they cannot be had; KafkaTimeoutError: not in time.
        """
        self._coordinator._offset_fetch_futures.clear()
        found: dict[TopicPartition, OffsetAndMetadata] = self._coordinator.fetch_committed_offsets(
            list(partitions), timeout_ms=timeout_ms
        )
        return found

    def _poll_once(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 (kafka-python has no types)
        coordinator = self._coordinator
        if coordinator.rebalance_in_progress():
            coordinator.request_rejoin()  # do not forget it
        elif coordinator.stable() and not (coordinator.rejoining or coordinator._heartbeat_enabled):
            raise FencedInstanceIdError(coordinator.group_instance_id)  # nothing else ends a member's heartbeat
        if coordinator.need_rejoin() and not coordinator.rebalance_in_progress():
            self._know_topics()
            self.before_join()
        records = super()._poll_once(*args, **kwargs)
        self.between_rounds()
        return records

    def _know_topics(self) -> None:
        """Wait a moment for the partitions of what we subscribed to."""
        for _ in range(2):  # the first answer may be to a request of before we subscribed
            if all(self._cluster.partitions_for_topic(topic) for topic in self._subscription.subscription or ()):
                return
            with suppress(KafkaError):
                self._net.run(self._manager.wait_for, self._cluster.request_update(), _METADATA_MILLISECONDS)


class _Token(AbstractTokenProvider):  # type: ignore[misc]  # kafka-python has no types
    """The token of OAUTHBEARER, from its file, for each connection again.

    Args:
        settings: name the file.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        super().__init__()
        self._settings = settings

    def token(self) -> str:
        """Called by the client on its network thread."""
        try:
            return self._settings.secret("sasl_token") or ""
        except TransportError as err:
            raise KafkaConfigurationError(str(err)) from err


class Member(ConsumerGroupMetadata):  # type: ignore[misc]  # kafka-python has no types
    """Who we are in the group, and of which log what we commit is."""

    logs: Mapping[Partition, str]


class RebalanceListener(ConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """Passes on the group's assignments."""

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
    await_any_broker(settings)
    networks: list[Any] = []

    def network(**configs: Any) -> Any:  # noqa: ANN401 (kafka-python has no types)
        networks.append(KafkaAdminClient.DEFAULT_CONFIG["kafka_client"](**configs))
        return networks[-1]

    try:
        return client(**_options(settings), **options, kafka_client=network)
    except (KafkaError, OSError, ValueError) as err:
        for started in networks:  # a client that fails to start would go on reconnecting in its thread
            started.close()
        where = settings.bootstrap_servers
        raise TransportError(
            f"kafka: {where} does not let us in ({err}); "
            f"{diagnose_connection(settings)}check security_protocol, sasl_* and ssl_*"
        ) from err


def await_any_broker(settings: KafkaSettings) -> None:
    """Return as soon as one of them takes a connection; raises TransportError when none does in time."""
    deadline = time.monotonic() + settings.connect_timeout_seconds
    while True:
        reasons = []
        for address in settings.addresses:
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
                "is Kafka running there? Start it, or correct [kafka] bootstrap_servers"
            )
        time.sleep(_RETRY_SECONDS)


def codec_advice(err: BaseException) -> str | None:
    """What to install where records are compressed in a way that the client cannot read; None: it is not that.

    >>> codec_advice(UnsupportedCodecError("Libraries for lz4 compression codec not found"))
    'its records are compressed with lz4, which kafka-python reads with another package: pip install lz4, or pip \
install "streammeta[confluent]", whose client needs none'
    >>> codec_advice(KafkaError("no answer"))
    """
    cause: BaseException | None = err
    while cause is not None and not isinstance(cause, UnsupportedCodecError):
        nested = next((arg for arg in cause.args if isinstance(arg, BaseException)), None)
        cause = nested or cause.__cause__
    if cause is None:
        return None
    for codec, package in _CODECS.items():
        if codec in str(cause).lower().split():
            return (
                f"its records are compressed with {codec}, which kafka-python reads with another package: "
                f'pip install {package}, or pip install "streammeta[confluent]", whose client needs none'
            )
    return f"its records are compressed in a way that kafka-python does not know ({cause})"


def diagnose_connection(settings: KafkaSettings) -> str:
    """What the client does not say: whether the certificate is to blame, or what comes after it."""
    if settings.security_protocol.endswith("SSL"):
        found = _diagnose_tls(settings)
        if found:
            return found
    if settings.security_protocol.startswith("SASL"):
        what = "sasl_token_file" if settings.sasl_mechanism == "OAUTHBEARER" else "sasl_username, sasl_password"
        return f"the connection stands: wrong {what} or sasl_mechanism? "
    return "the connection stands: does it want a user and a password? "


def _diagnose_tls(settings: KafkaSettings) -> str:
    """What is wrong with TLS; empty: nothing."""
    try:
        context = ssl.create_default_context(cafile=settings.ssl_cafile)
        context.check_hostname = settings.ssl_check_hostname
        if settings.ssl_certfile is not None:
            context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, settings.secret("ssl_password") or "")
    except OSError as err:
        return f"ssl_cafile, ssl_certfile and ssl_keyfile cannot be used ({err}): wrong files, or wrong ssl_password? "
    host, port = settings.addresses[0]
    try:
        with (
            socket.create_connection((host, port), timeout=settings.connect_timeout_seconds) as plain,
            context.wrap_socket(plain, server_hostname=host) as encrypted,
        ):
            encrypted.settimeout(_ALERT_SECONDS)
            encrypted.recv(1)  # TLS 1.3 refuses a client's certificate only now; else the broker waits for us to speak
    except ssl.SSLCertVerificationError as err:
        return f"its certificate is not trusted ({err.verify_message}): wrong ssl_cafile? "
    except TimeoutError:
        return ""
    except OSError as err:
        if isinstance(err, ssl.SSLError) and any(word in str(err).lower() for word in ("alert", "certificate")):
            return f"it does not take our certificate ({err.reason}): wrong or missing ssl_certfile and ssl_keyfile? "
        return f"no TLS there ({err}): wrong security_protocol or port? "
    return ""


def _options(settings: KafkaSettings) -> dict[str, Any]:
    """What every client of kafka-python is given; holds the secrets in plain text."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.servers,
        "client_id": settings.client_id,
        "bootstrap_timeout_ms": settings.milliseconds,
        "reconnect_backoff_max_ms": 2000,
        "security_protocol": settings.security_protocol,
        "sasl_mechanism": settings.sasl_mechanism,
        "sasl_oauth_token_provider": _Token(settings) if settings.sasl_token_file is not None else None,
        "sasl_plain_username": settings.sasl_username,
        "sasl_plain_password": settings.secret("sasl_password"),
        "ssl_cafile": settings.ssl_cafile,
        "ssl_certfile": settings.ssl_certfile,
        "ssl_keyfile": settings.ssl_keyfile,
        "ssl_password": settings.secret("ssl_password"),
        "ssl_check_hostname": settings.ssl_check_hostname,
    }
    return options
