"""confluent-kafka (librdkafka) as we need it: the settings in its words, connections and waits in a bounded time."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streammeta.errors import TransactionError, TransportError
from streammeta.transport.base import Partition
from streammeta.transport.kafka.client import await_any_broker, diagnose_connection
from streammeta.transport.kafka.settings import KafkaSettings

__all__ = ["Member", "bounded", "connect", "failure", "is_member", "reason", "wake"]

_CLIENT_LOG = logging.getLogger("kafka.librdkafka")  # below kafka-python's, so that one level holds for both
_SLICE_SECONDS: Final = 0.02
_WAKE_SECONDS: Final = 0.5
_TOKEN_SECONDS: Final = 60.0  # after which a token's file is read again: who writes it knows how long it is valid
_MEMBERSHIP: Final = b"CGMDv2:"  # how librdkafka writes it: this, the generation as a native int32, then names
_FATAL: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.UNSUPPORTED_VERSION,
        KafkaError._UNSUPPORTED_FEATURE,
    }
)
_T = TypeVar("_T")
_Client = TypeVar("_Client")


class Member(bytes):
    """Who we are in the group, as librdkafka writes it, and of which log what we commit is."""

    logs: Mapping[Partition, str]


def connect(
    client: Callable[[dict[str, Any]], _Client], settings: KafkaSettings, more: Mapping[str, object]
) -> _Client:
    """A client of confluent-kafka that a broker has answered, within ``connect_timeout_seconds``.

    Args:
        client: its class.
        settings: how to reach Kafka.
        more: of librdkafka's settings.

    Raises:
        TransportError: no broker answers, or it refuses us.
    """
    await_any_broker(settings)
    try:
        made: Any = client({**_options(settings), **more})
        let_in = _is_let_in(made, settings.connect_timeout_seconds)
        said = "no answer"
    except KafkaException as err:
        let_in, said = False, reason(err)
    if not let_in:
        raise TransportError(
            f"kafka: {settings.bootstrap_servers} does not let us in ({said}); {diagnose_connection(settings)}"
            "check security_protocol, sasl_* and ssl_*"
        )
    found: _Client = made
    return found


def _is_let_in(client: Any, seconds: float) -> bool:  # noqa: ANN401 (any of the client's)
    """Whether a broker identifies itself in time.

    Asked again and again: an answer that comes while librdkafka begins to wait for it is noticed a second later only.
    """
    deadline = time.monotonic() + seconds
    while True:
        is_last = time.monotonic() > deadline
        try:
            if client.cluster_id(_SLICE_SECONDS) is not None:
                return True
        except KafkaException as err:
            if is_last or err.args[0].code() != KafkaError._TIMED_OUT:
                raise
        if is_last:
            return False


def reason(err: KafkaException | KafkaError) -> str:
    """What it says, in one line."""
    said = err.args[0] if isinstance(err, KafkaException) and err.args else err
    return str(said.str()) if isinstance(said, KafkaError) else str(said)


def failure(where: str, err: KafkaException | KafkaError, about: str = "") -> TransportError:
    """A TransactionError where another attempt may help, a TransportError where none will."""
    said = err.args[0] if isinstance(err, KafkaException) else err
    if said.code() in _FATAL:
        hint = "check the topics' settings and our rights (ACLs) on topics, group and transactional id"
        return TransportError(f"{where}: refused: {about}{said.str()} ({said.name()}); {hint}")
    return TransactionError(f"{where}: {about}{said.str()} ({said.name()})")


def is_member(metadata: object) -> bool:
    """Whether this is of a member of a group, in some generation.

    With what librdkafka says before it has joined, and after it has left, a broker would take offsets from anybody.

    >>> is_member(b"CGMDv2:" + (3).to_bytes(4, sys.byteorder) + b"group")
    True
    >>> is_member(b"CGMDv2:" + (-1).to_bytes(4, sys.byteorder, signed=True) + b"group"), is_member(None)
    (False, False)
    """
    if not isinstance(metadata, bytes) or not metadata.startswith(_MEMBERSHIP):
        return False
    begin = len(_MEMBERSHIP)
    return int.from_bytes(metadata[begin : begin + 4], sys.byteorder, signed=True) >= 0


def wake(consumer: Consumer, partitions: Sequence[TopicPartition]) -> None:
    """Have partitions that were begun or resumed fetched now, each by its leader's thread in librdkafka.

    A thread that has had nothing to fetch looks up once a second, or when it is asked for something: so we ask.
    """
    with suppress(KafkaException):  # a leader that does not answer would not give records either
        for one in partitions:
            consumer.get_watermark_offsets(one, timeout=_WAKE_SECONDS, cached=False)


def bounded(call: Callable[[], _T], seconds: float) -> _T:
    """What the call returns or raises; TimeoutError after so long, and then it goes on by itself.

    For what has no time limit in the client.
    """
    ended: list[_T] = []
    faults: list[BaseException] = []

    def work() -> None:
        try:
            ended.append(call())
        except BaseException as err:
            faults.append(err)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError
    if faults:
        raise faults[0]
    return ended[0]


def _options(settings: KafkaSettings) -> dict[str, Any]:
    """What every client is given; holds the secrets in plain text."""
    options: dict[str, Any] = {
        "bootstrap.servers": ",".join(settings.servers),
        "client.id": settings.client_id,
        "reconnect.backoff.max.ms": 2000,
        "socket.keepalive.enable": True,
        "security.protocol": settings.security_protocol,
        "sasl.mechanism": settings.sasl_mechanism,
        "sasl.username": settings.sasl_username,
        "sasl.password": settings.secret("sasl_password"),
        "oauth_cb": _token_of(settings) if settings.sasl_token_file is not None else None,
        "ssl.ca.location": settings.ssl_cafile,
        "ssl.certificate.location": settings.ssl_certfile,
        "ssl.key.location": settings.ssl_keyfile,
        "ssl.key.password": settings.secret("ssl_password"),
        "ssl.endpoint.identification.algorithm": "https" if settings.ssl_check_hostname else "none",
        "logger": _CLIENT_LOG,
    }
    return {name: value for name, value in options.items() if value is not None}


def _token_of(settings: KafkaSettings) -> Callable[[str], tuple[str, float]]:
    """What gives librdkafka the token of OAUTHBEARER, and when to ask again; it does so before that time is over."""

    def give(_config: str) -> tuple[str, float]:
        return settings.secret("sasl_token") or "", time.time() + _TOKEN_SECONDS

    return give
