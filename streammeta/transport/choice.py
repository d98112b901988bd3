"""Which client library does the work: the same seams, by kafka-python or by confluent-kafka."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from streammeta.errors import ConfigError
from streammeta.transport.base import GroupSource, Ledger, Sink, Tables
from streammeta.transport.kafka.ledger import KafkaLedger
from streammeta.transport.kafka.settings import KafkaSettings
from streammeta.transport.kafka.sink import KafkaSink
from streammeta.transport.kafka.source import KafkaSource
from streammeta.transport.kafka.tables import KafkaTables

try:
    from streammeta.transport.confluent.ledger import ConfluentLedger
    from streammeta.transport.confluent.sink import ConfluentSink
    from streammeta.transport.confluent.source import ConfluentSource
    from streammeta.transport.confluent.tables import ConfluentTables
except ImportError as missing:
    _MISSING: ImportError | None = missing
else:
    _MISSING = None

__all__ = ["Adapters", "adapters", "client"]


class Adapters(NamedTuple):
    """What a client library offers, all of one make: a ledger understands the source of its own only."""

    source: Callable[..., GroupSource]
    ledger: Callable[..., Ledger]
    tables: Callable[[KafkaSettings, Mapping[str, str]], Tables]
    sink: Callable[[KafkaSettings, Mapping[str, str]], Sink]


_PYTHON = Adapters(KafkaSource, KafkaLedger, KafkaTables, KafkaSink)


def client(settings: KafkaSettings) -> Literal["kafka-python", "confluent"]:
    """The library that these settings choose on this machine.

    Raises:
        ConfigError: they want one that is not installed.
    """
    if settings.client == "confluent" and _MISSING is not None:
        raise ConfigError(
            f'[kafka] client: got "confluent", but confluent-kafka cannot be imported ({_MISSING}); '
            'install streammeta[confluent], or choose "kafka-python"'
        )
    if settings.client == "kafka-python" or _MISSING is not None:
        return "kafka-python"
    return "confluent"


def adapters(settings: KafkaSettings) -> Adapters:
    """The chosen library's adapters."""
    if client(settings) == "kafka-python":
        return _PYTHON
    made: tuple[Any, ...] = (ConfluentSource, ConfluentLedger, ConfluentTables, ConfluentSink)
    return Adapters(*made)
