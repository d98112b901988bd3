"""Topics in Protobuf, as producers' serializers write them: types from a registry, or from a file of protoc."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2, wrappers_pb2

from streammeta.app.parts import decoder
from streammeta.config import Settings, load
from streammeta.errors import ConfigError, EventError
from streammeta.event import Event, Origin, Record
from tests.formats.registry_server import RegistryServer, registry_server
from tests.formats.test_objects import framed

AT = Origin("orders", 0, 7)
STRING, DOUBLE, INT64, BOOL, ENUM, MESSAGE, BYTES = 9, 1, 3, 8, 14, 11, 12
FIELDS = {"label": "sold", "task": "store.id", "id": "order_id", "time": "placed_at", "exclude": ("raw",)}


def add(message: Any, name: str, kind: int, *, many: bool = False, type_name: str = "", optional: bool = False) -> None:
    field = message.field.add(name=name, number=len(message.field) + 1, type=kind, label=3 if many else 1)
    if type_name:
        field.type_name = type_name
    if optional:
        message.oneof_decl.add(name=f"_{name}")
        field.proto3_optional, field.oneof_index = True, len(message.oneof_decl) - 1


def store_file() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="store.proto", package="shop", syntax="proto3")
    store = file.message_type.add(name="Store")
    add(store, "id", INT64)
    add(store, "city", STRING)
    return file


def order_file() -> Any:
    """An order in a message of its own, after one that is not meant, with whatever fields can be."""
    file = descriptor_pb2.FileDescriptorProto(
        name="order.proto",
        package="shop",
        syntax="proto3",
        dependency=["store.proto", "google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto"],
    )
    file.message_type.add(name="Other")
    outer = file.message_type.add(name="Shop")
    order = outer.nested_type.add(name="Order")
    shelf = order.enum_type.add(name="Shelf")
    for number, name in enumerate(("TOP", "BOTTOM")):
        shelf.value.add(name=name, number=number)
    entry = order.nested_type.add(name="PricesEntry", options=descriptor_pb2.MessageOptions(map_entry=True))
    add(entry, "key", STRING)
    add(entry, "value", DOUBLE)
    add(order, "order_id", STRING)
    add(order, "store", MESSAGE, type_name=".shop.Store")
    add(order, "placed_at", MESSAGE, type_name=".google.protobuf.Timestamp")
    add(order, "prices", MESSAGE, many=True, type_name=".shop.Shop.Order.PricesEntry")
    add(order, "shelf", ENUM, type_name=".shop.Shop.Order.Shelf")
    add(order, "sizes", DOUBLE, many=True)
    add(order, "stock", INT64)
    add(order, "weight", MESSAGE, type_name=".google.protobuf.DoubleValue")
    add(order, "colour", STRING, optional=True)
    add(order, "raw", BYTES)
    add(order, "sold", BOOL, optional=True)
    return file


def order_bytes() -> bytes:
    pool = descriptor_pool.DescriptorPool()
    files = (timestamp_pb2.DESCRIPTOR.serialized_pb, wrappers_pb2.DESCRIPTOR.serialized_pb)
    for file in (*files, store_file().SerializeToString(), order_file().SerializeToString()):
        pool.AddSerializedFile(file)
    kind: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Shop.Order"))
    order = kind(
        order_id="o-1",
        store={"id": 4, "city": "Köln"},
        prices={"net": 9.5},
        shelf="BOTTOM",
        sizes=[1.0, 2.5],
        stock=2**40,
        raw=b"\0\xff",
        sold=True,
    )
    order.placed_at.FromDatetime(datetime(2024, 1, 2, tzinfo=UTC))
    content: bytes = order.SerializeToString()
    return content


WANTED = Event(
    x={
        "store.city": "Köln",
        "prices.net": 9.5,
        "shelf": "BOTTOM",
        "sizes.0": 1.0,
        "sizes.1": 2.5,
        "stock": float(2**40),
        "colour": None,
    },
    task="4",
    origin=AT,
    y=1,
    id="o-1",
    ts=1704153600.0,
)


def settings(**given: Any) -> Settings:
    return Settings(input={"format": "protobuf", "fields": FIELDS, **given})


def test_a_nested_message_of_a_schema_with_references_is_the_event_that_it_says() -> None:
    """64-bit numbers are numbers, enums their names, what was not set is missing: as no generic text form of it says."""
    with registry_server(RegistryServer()) as known:
        known.add_file(store_file().SerializeToString(), subject="store")
        number = known.add_file(
            order_file().SerializeToString(), subject="orders-value", references=[("store.proto", "store", 1)]
        )
        reader = decoder(settings(registry={"url": known.url, "timeout_seconds": 1}))
        value = framed(number, b"\x04\x02\x00" + order_bytes())  # two indexes: message 1, in it message 0

        events = [reader.decode(Record(value, AT)) for _ in range(2)]

    assert events == [WANTED] * 2
    assert known.asked == ["/schemas/ids/2?format=serialized", "/subjects/store/versions/1?format=serialized"]


def test_a_file_of_protoc_will_do_with_or_without_a_schema_id(tmp_path: Path) -> None:
    """Many write bare messages, and have no registry."""
    timestamp, wrappers = descriptor_pb2.FileDescriptorProto(), descriptor_pb2.FileDescriptorProto()
    timestamp_pb2.DESCRIPTOR.CopyToProto(timestamp)
    wrappers_pb2.DESCRIPTOR.CopyToProto(wrappers)
    order = order_file()
    order.message_type.append(order.message_type[1].nested_type[0])  # a message at the top as well
    order.message_type[2].name = "Order"
    for path in (tmp_path / "all.desc",):
        files = [timestamp, wrappers, store_file(), order]
        path.write_bytes(descriptor_pb2.FileDescriptorSet(file=files).SerializeToString())
    reader = decoder(settings(protobuf={"descriptor": tmp_path / "all.desc", "message": "shop.Order"}))

    assert reader.decode(Record(order_bytes(), AT)) == WANTED
    assert reader.decode(Record(framed(9, b"\0" + order_bytes()), AT)) == WANTED
    with pytest.raises(EventError, match=r"orders/0/7: not a message shop.Order of Protobuf"):
        reader.decode(Record(b"\xff\xff\xff", AT))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"\x0a\x01a", "begins with 0a 01 61, wanted 00 and the four bytes of a schema's id"),
        (framed(1, b"\xff"), "after the id of schema 1 come no indexes of a message; is this Protobuf?"),
        (framed(1, b"\x02\x12"), r"message \[9\] of schema 1 cannot be used"),
        (framed(1, b"\x01"), "after the id of schema 1 come no indexes"),
        (framed(2, b"\0"), "schema 2 is AVRO, wanted PROTOBUF"),
        (framed(3, b"\0"), "its schema has the id 3, which the registry"),
        (framed(1, b"\0\x0a\xff"), "not a message shop.Store of Protobuf"),
    ],
)
def test_what_is_no_message_says_why(value: bytes, says: str) -> None:
    """Each is a dead letter, and its reason all that its producer gets."""
    with registry_server(RegistryServer()) as known:
        known.add_file(store_file().SerializeToString(), subject="store")
        known.add({"type": "string"})
        known.by_id[2]["serialized"] = ""
        reader = decoder(settings(registry={"url": known.url, "timeout_seconds": 1}))
        with pytest.raises(EventError, match=says):
            reader.decode(Record(value, AT))


def test_a_file_that_is_no_descriptor_or_lacks_the_type_is_refused_at_the_start(tmp_path: Path) -> None:
    """At the first record it would be too late."""
    (tmp_path / "x.desc").write_bytes(descriptor_pb2.FileDescriptorSet(file=[store_file()]).SerializeToString())
    (tmp_path / "x.proto").write_text('syntax = "proto3";')

    with pytest.raises(ConfigError, match=r"message: got 'Order', wanted one of shop.Store in .*x.desc"):
        decoder(settings(protobuf={"descriptor": tmp_path / "x.desc", "message": "Order"}))
    with pytest.raises(
        ConfigError, match=r"descriptor .*x.proto: cannot be used .* wanted a file of `protoc --include_"
    ):
        decoder(settings(protobuf={"descriptor": tmp_path / "x.proto", "message": "Order"}))
    (tmp_path / "a.toml").write_text('[input]\nformat = "protobuf"\n')
    with pytest.raises(ConfigError, match=r"\[input.registry\] url: is not set, and format = 'protobuf' needs it, or"):
        load(tmp_path / "a.toml")
