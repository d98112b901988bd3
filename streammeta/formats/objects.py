"""From a topic's bytes to objects: JSON, MessagePack, CSV, and by a registry's schemas Avro, Protobuf and JSON."""

import io
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from streammeta.errors import EventError
from streammeta.event import RawEvent, Record, first_origin
from streammeta.formats.csv_lines import CsvSettings, RowReader
from streammeta.formats.fields import fits
from streammeta.formats.framing import unframed
from streammeta.formats.mapping import Mapper
from streammeta.formats.protobuf import MessageReader, ProtobufSettings
from streammeta.formats.registry import Registry, RegistrySettings, Schema
from streammeta.formats.tables import require
from streammeta.json_text import UNREADABLE, read_again

__all__ = ["Format", "MappedByTopic", "ReadObject", "Written", "avro_reader", "json_reader", "mapped", "object_reader"]

Format: TypeAlias = Literal["json", "msgpack", "avro", "json-schema", "protobuf", "csv"]
ReadObject: TypeAlias = Callable[[Record], Mapping[str, Any]]

_MOST_SCHEMAS = 1_000
_SHOWN = 200  # characters of a refused value that a message repeats


class Written(Protocol):
    """How a topic's records are written."""

    @property
    def format(self) -> Format:
        """The format's name."""

    @property
    def registry(self) -> RegistrySettings:
        """Where schemas are."""

    @property
    def csv(self) -> CsvSettings:
        """Of "csv": what the columns are."""

    @property
    def protobuf(self) -> ProtobufSettings:
        """Of "protobuf": what messages are, where no registry knows."""


def object_reader(written: Written) -> ReadObject:
    """What reads a record's value as an object.

    It raises EventError where the value is none, and TransactionError where a registry does not answer.

    Args:
        written: how values are written.

    Raises:
        ConfigError: a package that reads it is not installed, there is no registry's address, or a file of types cannot
            be used.
    """
    form = written.format
    if form == "avro":
        return avro_reader(Registry(written.registry))
    if form == "csv":
        return RowReader(written.csv)
    if form == "protobuf":
        return MessageReader(written.protobuf, None if written.registry.url is None else Registry(written.registry))
    return json_reader(form)


def json_reader(form: Literal["json", "msgpack", "json-schema"] = "json") -> ReadObject:
    """What reads JSON, its binary sibling, or JSON after a schema's id; as `object_reader`."""
    decode = msgspec.msgpack.Decoder(dict[str, Any]).decode if form == "msgpack" else None
    read = decode or msgspec.json.Decoder(dict[str, Any]).decode

    def plain(record: Record) -> Mapping[str, Any]:
        value = record.value or b""
        if form == "json-schema":
            value = unframed(record)[1]
        try:
            return read(value)
        except UNREADABLE as err:
            if form == "msgpack":
                raise EventError(f"{record.origin}: not an event: {str(err)[:_SHOWN]}") from err
            return read_again(read, value, record.origin, err)

    return plain


def mapped(read: ReadObject, mapper: Mapper) -> Callable[[Record], RawEvent]:
    """What a record says, by a mapping of its object."""

    def raw(record: Record) -> RawEvent:
        return mapper.read(read(record), record.origin, record)

    return raw


class MappedByTopic:
    """What a record says, by the mapping of the topic that it came from first.

    Args:
        read: a record's object.
        mapper: of all topics but those.
        others: by name or pattern of a topic; the first that fits counts.
    """

    def __init__(self, read: ReadObject, mapper: Mapper, others: Mapping[str, Mapper]) -> None:
        self._read, self._mapper, self._others = read, mapper, others
        self._found: dict[str, Mapper] = {}

    def __call__(self, record: Record) -> RawEvent:
        """Read one; raises EventError."""
        origin = first_origin(record)  # "topic/partition/offset"
        topic = record.origin.topic if origin is None else origin.rsplit("/", 2)[0]
        mapper = self._found.get(topic)
        if mapper is None:
            fitting = (one for pattern, one in self._others.items() if fits([topic], [pattern]))
            mapper = self._found[topic] = next(fitting, self._mapper)
        return mapper.read(self._read(record), record.origin, record)


def avro_reader(registry: Registry) -> ReadObject:
    """What reads Avro, each record by the schema that it was written with; see `object_reader`."""
    fastavro = require("fastavro", "avro", '[input] format = "avro"')
    parsed: OrderedDict[int, Any] = OrderedDict()

    def read(record: Record) -> Mapping[str, Any]:
        number, data = unframed(record)
        schema = parsed.get(number)
        if schema is None:
            schema = parsed[number] = _parsed(fastavro, registry.schema(number, record.origin), number, record)
            if len(parsed) > _MOST_SCHEMAS:
                parsed.popitem(last=False)
        stream = io.BytesIO(data)
        try:
            given = fastavro.schemaless_reader(stream, schema, None)
        except Exception as err:  # damaged data raise what happens to go wrong: EOFError, IndexError, UnicodeError, …
            raise EventError(
                f"{record.origin}: not Avro of schema {number}: {type(err).__name__} {str(err)[:_SHOWN]}"
            ) from err
        if stream.tell() != len(data):
            raise EventError(
                f"{record.origin}: not Avro of schema {number}: {len(data) - stream.tell()} bytes are left over"
            )
        if not isinstance(given, Mapping):
            raise EventError(f"{record.origin}: schema {number} is of a {type(given).__name__}, wanted a record")
        return given

    return read


def _parsed(fastavro: Any, schema: Schema, number: int, record: Record) -> Any:  # noqa: ANN401 fastavro has few types
    if schema.kind != "AVRO":
        raise EventError(f"{record.origin}: schema {number} is {schema.kind}, wanted AVRO; set [input] format")
    names: dict[str, Any] = {}
    try:
        for one in schema.references:
            fastavro.parse_schema(json.loads(one.text), named_schemas=names)
        return fastavro.parse_schema(json.loads(schema.text), named_schemas=names)
    except Exception as err:  # fastavro's own, and what a malformed schema happens to cause
        raise EventError(f"{record.origin}: schema {number} cannot be used: {str(err)[:_SHOWN]}") from err
