"""Topics in Protobuf: in the registry's wire format, or bare messages of a type that a file describes.

The wire format has between the schema's id and the message which of the schema's messages it is: a count and as many
indexes, from the file down through nested types, as zigzag varints; the single byte 0 is the first message.
Nothing is generated or run: descriptors are data, and messages are made of them.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, Field

from streammeta.errors import ConfigError, EventError
from streammeta.event import Record
from streammeta.formats.framing import framed_id, unframed
from streammeta.formats.registry import Registry, Schema
from streammeta.formats.tables import require

__all__ = ["MessageReader", "ProtobufSettings"]

_MOST_SCHEMAS = 1_000
_DEEPEST = 32  # messages inside messages
_SHOWN = 200  # characters of a library's reason that a message repeats
_WELL_KNOWN = ("any", "duration", "empty", "field_mask", "struct", "timestamp", "wrappers")


class ProtobufSettings(BaseModel, frozen=True, extra="forbid"):
    """What messages are, with format = "protobuf", where no registry knows."""

    descriptor: Path | None = Field(
        None,
        description="A file with the compiled types, of `protoc --include_imports --descriptor_set_out=FILE x.proto`.",
    )
    message: str | None = Field(None, description='Of these types, the one of a record, as "shop.Order".')


class MessageReader:
    """Reads a record's value as a message; calling it raises EventError where it is none.

    Args:
        settings: of a file with types, or neither of its settings.
        registry: knows schemas by their ids, where there is no such file.

    Raises:
        ConfigError: the package is not installed, or the file cannot be used.
    """

    def __init__(self, settings: ProtobufSettings, registry: Registry | None) -> None:
        what = '[input] format = "protobuf"'
        self._descriptors, self._pools, self._factory = (
            require(f"google.protobuf.{name}", "protobuf", what)
            for name in ("descriptor_pb2", "descriptor_pool", "message_factory")
        )
        self._registry = registry
        self._classes: OrderedDict[tuple[int, tuple[int, ...]], Any] = OrderedDict()
        self._fixed = None if settings.descriptor is None else self._of_file(settings.descriptor, settings.message)

    def __call__(self, record: Record) -> Mapping[str, Any]:
        """The message's fields by their names, messages in it as objects; an optional one that was not set is None."""
        value = record.value or b""
        if self._fixed is not None and value[:1] != b"\0":  # no message begins with 0
            return self._parsed(self._fixed, value, record)
        number, data = unframed(record)
        indexes, data = _indexes(data, record)
        kind = self._fixed or self._classes.get((number, indexes)) or self._of_registry(number, indexes, record)
        return self._parsed(kind, data, record)

    def _parsed(self, kind: Any, data: bytes, record: Record) -> Mapping[str, Any]:  # noqa: ANN401 protobuf has no types
        message = kind()
        try:
            message.ParseFromString(data)
            return _plain(message, _DEEPEST)
        except Exception as err:  # DecodeError, and what wrong data happen to cause: ValueError, OverflowError, …
            raise EventError(
                f"{record.origin}: not a message {kind.DESCRIPTOR.full_name} of Protobuf: {str(err)[:_SHOWN]}"
            ) from err

    def _of_file(self, path: Path, name: str | None) -> Any:  # noqa: ANN401 as above
        try:
            files = self._descriptors.FileDescriptorSet.FromString(path.read_bytes()).file
            pool = self._pool(files)
        except Exception as err:  # DecodeError, OSError, TypeError of a pool that lacks an import
            raise ConfigError(
                f"[input.protobuf] descriptor {path}: cannot be used ({str(err)[:_SHOWN]}); wanted a file of `protoc "
                "--include_imports --descriptor_set_out=FILE x.proto`"
            ) from err
        names = [f"{one.package}.{kind.name}".lstrip(".") for one in files for kind in one.message_type]
        if name not in names:
            raise ConfigError(
                f"[input.protobuf] message: got {name!r}, wanted one of {', '.join(names) or 'none'} in {path}"
            )
        return self._factory.GetMessageClass(pool.FindMessageTypeByName(name))

    def _of_registry(self, number: int, indexes: tuple[int, ...], record: Record) -> Any:  # noqa: ANN401 as above
        if self._registry is None:
            raise EventError(f"{record.origin}: is in a registry's wire format, and [input.registry] url is not set")
        schema = self._registry.schema(number, record.origin, serialized=True)
        if schema.kind != "PROTOBUF":
            raise EventError(f"{record.origin}: schema {number} is {schema.kind}, wanted PROTOBUF; set [input] format")
        try:
            files = [self._file(one, one.name or f"{i}.proto") for i, one in enumerate(schema.references)]
            files.append(self._file(schema, f"schema-{number}.proto"))
            kind = self._pool(files).FindFileByName(files[-1].name)
            nested = files[-1].message_type
            path = [kind.package] if kind.package else []
            for index in indexes:
                path.append(nested[index].name)
                nested = nested[index].nested_type
            found = self._factory.GetMessageClass(kind.pool.FindMessageTypeByName(".".join(path)))
        except Exception as err:  # DecodeError, IndexError, TypeError of a pool that lacks an import
            raise EventError(
                f"{record.origin}: message {list(indexes)} of schema {number} cannot be used: {str(err)[:_SHOWN]}"
            ) from err
        self._classes[number, indexes] = found
        if len(self._classes) > _MOST_SCHEMAS:
            self._classes.popitem(last=False)
        return found

    def _file(self, schema: Schema, name: str) -> Any:  # noqa: ANN401 as above
        file = self._descriptors.FileDescriptorProto.FromString(schema.serialized)
        file.name = name  # by which others import it
        return file

    def _pool(self, files: Sequence[Any]) -> Any:  # noqa: ANN401 as above
        pool = self._pools.DescriptorPool()
        theirs = {one.name for one in files}
        for name in _WELL_KNOWN:
            if f"google/protobuf/{name}.proto" not in theirs:
                known = require(f"google.protobuf.{name}_pb2", "protobuf", "Protobuf")
                pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
        for one in files:
            pool.AddSerializedFile(one.SerializeToString())
        return pool


def _indexes(data: bytes, record: Record) -> tuple[tuple[int, ...], bytes]:
    """Which message of the schema it is, and the message."""
    numbers: list[int] = []
    wanted, value, shift = 1, 0, 0
    for place, byte in enumerate(data):
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte & 0x80:
            continue
        number = (value >> 1) ^ -(value & 1)
        if wanted == 1 and not numbers and number == 0:
            return (0,), data[place + 1 :]
        numbers.append(number)
        wanted, value, shift = numbers[0] + 1, 0, 0
        if not 1 <= numbers[0] <= _DEEPEST or min(numbers) < 0:
            break
        if len(numbers) == wanted:
            return tuple(numbers[1:]), data[place + 1 :]
    raise EventError(
        f"{record.origin}: after the id of schema {framed_id(record)} come no indexes of a message; is this Protobuf?"
    )


class _Field(NamedTuple):
    """Of a message's field, what has to be known to read it."""

    name: str
    read: Callable[[Any, int], Any] | None  # of a value, or of each; None: it is as it is
    value: Literal["always", "where set", "or None", "many", "by key"]


@lru_cache(_MOST_SCHEMAS)
def _fields(descriptor: Any) -> tuple[_Field, ...]:  # noqa: ANN401 protobuf has no types
    return tuple(map(_field, descriptor.fields))


def _field(field: Any) -> _Field:  # noqa: ANN401 as above
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return _Field(field.name, _reader(field.message_type.fields_by_name["value"]), "by key")
    if field.is_repeated:
        return _Field(field.name, _reader(field), "many")
    if not field.has_presence:
        return _Field(field.name, _reader(field), "always")
    return _Field(field.name, _reader(field), "or None" if field.message_type is None else "where set")


def _plain(message: Any, levels: int) -> dict[str, Any]:  # noqa: ANN401 as above
    """A message as an object; nested ones that were not set are left out."""
    if not levels:
        raise ValueError(f"messages nested more than {_DEEPEST} deep")
    found: dict[str, Any] = {}
    for name, read, kind in _fields(message.DESCRIPTOR):
        if kind == "always":
            value = getattr(message, name)
            found[name] = value if read is None else read(value, levels)
        elif kind == "many":
            values = getattr(message, name)
            found[name] = list(values) if read is None else [read(one, levels) for one in values]
        elif kind == "by key":
            items = getattr(message, name).items()
            found[name] = {str(key): one if read is None else read(one, levels) for key, one in items}
        elif message.HasField(name):
            value = getattr(message, name)
            found[name] = value if read is None else read(value, levels)
        elif kind == "or None":
            found[name] = None
    return found


def _reader(field: Any) -> Callable[[Any, int], Any] | None:  # noqa: ANN401 as above
    """What reads a single value of a field; None: it is as it is."""
    if field.enum_type is not None:
        names = {number: one.name for number, one in field.enum_type.values_by_number.items()}
        return lambda value, _: names.get(value, value)
    if field.message_type is None:
        return None
    single = _SINGLE.get(field.message_type.full_name)
    return (lambda value, levels: _plain(value, levels - 1)) if single is None else lambda value, _: single(value)


def _of_struct(value: Any) -> Any:  # noqa: ANN401 as above
    return require("google.protobuf.json_format", "protobuf", "Protobuf").MessageToDict(value)


_SINGLE: Mapping[str, Callable[[Any], Any]] = {
    "google.protobuf.Timestamp": lambda value: value.ToDatetime(tzinfo=UTC),
    "google.protobuf.Duration": lambda value: value.ToTimedelta(),
    **{f"google.protobuf.{name}": _of_struct for name in ("ListValue", "Struct", "Value")},
    **{
        f"google.protobuf.{name}Value": attrgetter("value")
        for name in ("Bool", "Bytes", "Double", "Float", "Int32", "Int64", "String", "UInt32", "UInt64")
    },
}
