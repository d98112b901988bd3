"""Transactions that members left open when they died are ended, so that others can read past them.

Done by kafka-python for every client: librdkafka has no way to ask for open transactions.
"""

import time
from contextlib import suppress
from typing import Any, Final

import structlog
from kafka import KafkaAdminClient, KafkaProducer
from kafka.errors import KafkaError

from streammeta.errors import TransportError
from streammeta.transport.kafka.client import connect, patiently
from streammeta.transport.kafka.settings import KafkaSettings

__all__ = ["BACKOFF_MS", "abort_leftover", "end_producer", "evict", "transactional_id"]

BACKOFF_MS: Final = 10  # the default, 100 ms, is the tail of every transaction's latency
_log = structlog.get_logger(__name__)
_ONGOING: Final = "Ongoing"
_BETWEEN: Final = "/"  # neither an application's name nor a member's can hold it
_CLOSE_SECONDS: Final = 1.0


def transactional_id(name: str, member: str) -> str:
    """The name of a member's producer: a member that comes back fences what it left open.

    >>> transactional_id("fraud", "a"), transactional_id("fraud/repartition", "a")
    ('fraud/a', 'fraud/repartition/a')
    """
    return f"{name}{_BETWEEN}{member}"


def evict(settings: KafkaSettings, application: str, group: str, *, own: str, timeout_ms: int) -> None:
    """Abort what is open of an application's producers whose members are not in the group (any more).

    Without it, everybody would wait for the broker to do so, which takes a minute. Failing, it only costs that.

    Args:
        settings: how to reach Kafka.
        application: its members' producers are called APPLICATION/MEMBER; nobody else's are touched.
        group: the consumer group, where MEMBER is a member's client id.
        own: our own producer's name.
        timeout_ms: for the transactions of the producer that takes a dead one's name.
    """
    try:
        for name in _dead(settings, application, group, own):
            seconds = _fence(settings, name, timeout_ms)
            _log.info("ended the transaction of a lost member", member=name, seconds=round(seconds, 2))
    except (KafkaError, TransportError) as err:
        _log.warning("transactions of lost members cannot be ended; they end by themselves", reason=str(err))


def abort_leftover(settings: KafkaSettings, name: str, timeout_ms: int) -> None:
    """Abort what an earlier process left open under a producer's name, and wait until that is done.

    A new producer of the name does so, too; but librdkafka, when that is not done yet, asks again after half a second
    only. Failing, it only costs that.
    """
    try:
        _fence(settings, name, timeout_ms)
    except (KafkaError, TransportError) as err:
        _log.debug("what was left open is ended by the client itself", reason=str(err))


def end_producer(producer: Any) -> None:  # noqa: ANN401 (kafka-python has no types)
    """Close a producer without waiting for what it has not sent: that is not to count."""
    producer._sender.force_close()
    with suppress(KafkaError):
        producer.close(timeout=_CLOSE_SECONDS)


def _dead(settings: KafkaSettings, application: str, group: str, own: str) -> list[str]:
    admin = connect(KafkaAdminClient, settings, request_timeout_ms=settings.milliseconds)
    try:
        listed = admin.list_transactions(state_filters=[_ONGOING])
        names = {one.transactional_id for listings in listed.values() for one in listings}
        members = {name: _member(name, application) for name in names - {own}}
        ours = {name: member for name, member in members.items() if member is not None}
        if not ours:
            return []
        found = patiently(lambda: admin.describe_groups([group])[group], settings.milliseconds / 1000)
        alive = {member["client_id"] for member in found["members"]}
    finally:
        admin.close()
    return [name for name, member in ours.items() if member not in alive]


def _member(name: str, application: str) -> str | None:
    """Whose producer it is, if the application's; its name counts as a whole, for others may begin like it.

    >>> _member("fraud/a", "fraud"), _member("fraud-eu/a", "fraud"), _member("fraud/repartition/a", "fraud")
    ('a', None, None)
    """
    owner, _, member = name.rpartition(_BETWEEN)
    return member if owner == application and member else None


def _fence(settings: KafkaSettings, name: str, timeout_ms: int) -> float:
    """Take a dead producer's name, which aborts what it left open; returns the seconds that took."""
    begun = time.monotonic()
    producer = connect(
        KafkaProducer,
        settings,
        transactional_id=name,
        transaction_timeout_ms=timeout_ms,
        retry_backoff_ms=BACKOFF_MS,
        max_block_ms=settings.milliseconds,
    )
    try:
        producer.init_transactions()
    finally:
        end_producer(producer)
    return time.monotonic() - begun
