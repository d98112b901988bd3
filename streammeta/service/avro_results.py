"""Predictions and signals in Avro, in the registry's wire format, with schemas that are registered at the start."""

import io
import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from streammeta.errors import TransactionError, TransportError
from streammeta.formats.registry import Registry
from streammeta.formats.tables import require
from streammeta.service.result import PREDICTIONS, SIGNALS
from streammeta.transport.base import Message, Positions, TransactionalSink

__all__ = ["PREDICTION", "SIGNAL", "AvroResults"]

_ANY = ["null", "long", "double", "string"]
_EXPLANATION = {
    "type": "record",
    "name": "Explanation",
    "fields": [
        {"name": "of", "type": "string"},
        {"name": "without_features", "type": "double"},
        {"name": "contributions", "type": {"type": "map", "values": "double"}},
    ],
}
PREDICTION: dict[str, Any] = {
    "type": "record",
    "name": "Prediction",
    "namespace": "streammeta",
    "fields": [
        {"name": "id", "type": ["null", "string"], "default": None},
        {"name": "task", "type": "string"},
        {"name": "ts", "type": ["null", "double"], "default": None},
        {"name": "prediction", "type": _ANY, "default": None},
        {"name": "probabilities", "type": ["null", {"type": "map", "values": "double"}], "default": None},
        {"name": "mean", "type": ["null", "double"], "default": None},
        {"name": "variance", "type": ["null", "double"], "default": None},
        {"name": "lower", "type": ["null", "double"], "default": None},
        {"name": "upper", "type": ["null", "double"], "default": None},
        {"name": "signal", "type": "string"},
        {"name": "theta_version", "type": "long"},
        {"name": "source", "type": "string"},
        {"name": "explanation", "type": ["null", _EXPLANATION], "default": None},
    ],
}


SIGNAL: dict[str, Any] = {
    "type": "record",
    "name": "Signal",
    "namespace": "streammeta",
    "fields": [
        {"name": "id", "type": ["null", "string"], "default": None},
        {"name": "task", "type": ["null", "string"], "default": None},  # null: it concerns all
        {"name": "ts", "type": ["null", "double"], "default": None},
        {"name": "signal", "type": "string"},
        {"name": "reason", "type": ["null", "string"], "default": None},
        {"name": "age", "type": ["null", "long"], "default": None},
        {"name": "error", "type": ["null", "double"], "default": None},
        {"name": "theta_version", "type": ["null", "long"], "default": None},
        {"name": "source", "type": ["null", "string"], "default": None},
    ],
}
_SCHEMAS = {PREDICTIONS: PREDICTION, SIGNALS: SIGNAL}


class _Written(NamedTuple):
    """How a channel's messages are written."""

    schema: Any  # as fastavro has parsed it
    head: bytes  # before each


class AvroResults:
    """A transactional sink that hands predictions and signals on in Avro; all else goes on as it is.

    Args:
        sink: where they go.
        registry: where the schemas are registered.
        topics: of each channel; the subject of its schema is TOPIC-value.

    Raises:
        ConfigError: the registry does not take a schema, or the package is not installed.
        TransportError: it does not answer.
    """

    def __init__(self, sink: TransactionalSink, registry: Registry, topics: Mapping[str, str]) -> None:
        self._sink = sink
        fastavro = require("fastavro", "avro", '[output] format = "avro"')
        self._write = fastavro.schemaless_writer
        self._read = msgspec.json.Decoder(dict[str, Any]).decode
        self._written: dict[str, _Written] = {}
        for channel, schema in _SCHEMAS.items():
            try:
                number = registry.register(f"{topics[channel]}-value", json.dumps(schema))
            except TransactionError as err:
                raise TransportError(str(err)) from err
            self._written[channel] = _Written(fastavro.parse_schema(schema), struct.pack(">bI", 0, number))

    def send(self, messages: Sequence[Message]) -> None:
        """As the sink's own."""
        self._sink.send([self._encoded(one) if one.channel in self._written else one for one in messages])

    def commit(self, positions: Positions, member: object) -> None:
        """As the sink's own."""
        self._sink.commit(positions, member)

    def reset(self) -> None:
        """As the sink's own."""
        self._sink.reset()

    def evict(self) -> None:
        """As the sink's own."""
        self._sink.evict()

    def close(self) -> None:
        """As the sink's own."""
        self._sink.close()

    def _encoded(self, message: Message) -> Message:
        written, said = self._written[message.channel], self._read(message.value or b"{}")
        stream = io.BytesIO()
        stream.write(written.head)
        self._write(stream, written.schema, said)
        return msgspec.structs.replace(message, value=stream.getvalue())
