"""Predictions in Avro, in the registry's wire format, with a schema that is registered at the start."""

import io
import json
import struct
from collections.abc import Sequence
from typing import Any

import msgspec

from streammeta.errors import TransactionError, TransportError
from streammeta.formats.registry import Registry
from streammeta.formats.tables import require
from streammeta.service.result import PREDICTIONS
from streammeta.transport.base import Message, Positions, TransactionalSink

__all__ = ["PREDICTION", "AvroResults"]

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


class AvroResults:
    """A transactional sink that hands predictions on in Avro; all else goes on as it is.

    Args:
        sink: where they go.
        registry: where the schema is registered.
        topic: of the predictions; the schema's subject is TOPIC-value.

    Raises:
        ConfigError: the registry does not take the schema, or the package is not installed.
        TransportError: it does not answer.
    """

    def __init__(self, sink: TransactionalSink, registry: Registry, topic: str) -> None:
        self._sink = sink
        fastavro = require("fastavro", "avro", '[output] format = "avro"')
        self._write, self._schema = fastavro.schemaless_writer, fastavro.parse_schema(PREDICTION)
        self._read = msgspec.json.Decoder(dict[str, Any]).decode
        try:
            number = registry.register(f"{topic}-value", json.dumps(PREDICTION))
        except TransactionError as err:
            raise TransportError(str(err)) from err
        self._head = struct.pack(">bI", 0, number)

    def send(self, messages: Sequence[Message]) -> None:
        """As the sink's own."""
        self._sink.send([self._encoded(one) if one.channel == PREDICTIONS else one for one in messages])

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
        said = self._read(message.value or b"{}")
        stream = io.BytesIO()
        stream.write(self._head)
        self._write(stream, self._schema, said)
        return msgspec.structs.replace(message, value=stream.getvalue())
