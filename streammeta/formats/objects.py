"""From a topic's bytes to objects: JSON, MessagePack, and in the registry's wire format Avro and JSON with a schema.

The wire format is Confluent's: a zero byte, four bytes with the schema's id, the data.
"""

import io
import json
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from streammeta.errors import EventError
from streammeta.event import RawEvent, Record
from streammeta.formats.mapping import Mapper
from streammeta.formats.registry import Registry, RegistrySettings, Schema
from streammeta.formats.tables import require

__all__ = ["Format", "ReadObject", "avro_reader", "mapped", "object_reader"]

Format: TypeAlias = Literal["json", "msgpack", "avro", "json-schema"]
ReadObject: TypeAlias = Callable[[Record], Mapping[str, Any]]

_MOST_SCHEMAS = 1_000
_HEAD = struct.Struct(">bI")
_SHOWN = 200  # characters of a refused value that a message repeats


def object_reader(form: Format, registry: RegistrySettings) -> ReadObject:
    """What reads a record's value as an object.

    It raises EventError where the value is none, and TransactionError where a registry does not answer.

    Args:
        form: how values are written.
        registry: where schemas are, of "avro".

    Raises:
        ConfigError: a package that reads it is not installed, or there is no registry's address.
    """
    if form == "avro":
        return avro_reader(Registry(registry))
    decode = msgspec.msgpack.Decoder(dict[str, Any]).decode if form == "msgpack" else None
    read = decode or msgspec.json.Decoder(dict[str, Any]).decode

    def plain(record: Record) -> Mapping[str, Any]:
        value = record.value or b""
        if form == "json-schema":
            value = _unframed(record)[1]
        try:
            return read(value)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as err:
            raise EventError(f"{record.origin}: not an event: {str(err)[:_SHOWN]}") from err

    return plain


def mapped(read: ReadObject, mapper: Mapper) -> Callable[[Record], RawEvent]:
    """What a record says, by a mapping of its object."""

    def raw(record: Record) -> RawEvent:
        return mapper.read(read(record), record.origin, record)

    return raw


def _unframed(record: Record) -> tuple[int, bytes]:
    """The schema's id, and the data."""
    value = record.value or b""
    if len(value) < _HEAD.size or value[0]:
        raise EventError(
            f"{record.origin}: begins with {value[: _HEAD.size].hex(' ') or 'nothing'}, wanted 00 and the four bytes "
            "of a schema's id: is this topic in the registry's wire format? If not, set [input] format"
        )
    return _HEAD.unpack_from(value)[1], value[_HEAD.size :]


def avro_reader(registry: Registry) -> ReadObject:
    """What reads Avro, each record by the schema that it was written with; see `object_reader`."""
    fastavro = require("fastavro", "avro", '[input] format = "avro"')
    parsed: OrderedDict[int, Any] = OrderedDict()

    def read(record: Record) -> Mapping[str, Any]:
        number, data = _unframed(record)
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
