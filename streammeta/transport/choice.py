"""Which client library does the work: the same seams, by kafka-python or by confluent-kafka."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from streammeta.errors import ConfigError
from streammeta.transport.base import ChangelogReader, GroupSource, Sink, TransactionalSink
from streammeta.transport.kafka.changelog_reader import KafkaChangelogReader
from streammeta.transport.kafka.settings import KafkaSettings
from streammeta.transport.kafka.sink import KafkaSink
from streammeta.transport.kafka.source import KafkaSource
from streammeta.transport.kafka.transactional_sink import KafkaTransactionalSink

try:
    from streammeta.transport.confluent.changelog_reader import ConfluentChangelogReader
    from streammeta.transport.confluent.sink import ConfluentSink
    from streammeta.transport.confluent.source import ConfluentSource
    from streammeta.transport.confluent.transactional_sink import ConfluentTransactionalSink
except ImportError as missing:
    _MISSING: ImportError | None = missing
else:
    _MISSING = None

__all__ = ["Adapters", "adapters", "client"]


class Adapters(NamedTuple):
    """What a client library offers, all of one make: a ledger understands the source of its own only."""

    source: Callable[..., GroupSource]
    ledger: Callable[..., TransactionalSink]
    tables: Callable[[KafkaSettings, Mapping[str, str]], ChangelogReader]
    sink: Callable[[KafkaSettings, Mapping[str, str]], Sink]


_PYTHON = Adapters(KafkaSource, KafkaTransactionalSink, KafkaChangelogReader, KafkaSink)


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
    made: tuple[Any, ...] = (ConfluentSource, ConfluentTransactionalSink, ConfluentChangelogReader, ConfluentSink)
    return Adapters(*made)
