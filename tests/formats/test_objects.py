"""Topics in Avro, JSON with a schema, MessagePack: as their producers' serializers write them."""

import io
import json
import shutil
import struct
import subprocess
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import pytest

from streammeta.app.parts import decoder
from streammeta.config import Settings, load
from streammeta.errors import ConfigError, EventError, TransactionError
from streammeta.event import Event, Label, Origin, Record
from streammeta.formats.registry import Registry, RegistrySettings
from tests.formats.registry_server import RegistryServer, registry_server

AT = Origin("orders", 0, 7)
SECRET, WRONG = "s3cret", "hunter2"
STORE = {
    "type": "record",
    "name": "shop.Store",
    "fields": [{"name": "id", "type": "int"}, {"name": "city", "type": "string"}],
}
ORDER: dict[str, Any] = {
    "type": "record",
    "name": "shop.Order",
    "fields": [
        {"name": "order_id", "type": "string"},
        {"name": "store", "type": STORE},
        {"name": "placed_at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "shelf", "type": {"type": "enum", "name": "shop.Shelf", "symbols": ["TOP", "BOTTOM"]}},
        {"name": "sizes", "type": {"type": "array", "items": "double"}},
        {"name": "sold", "type": ["null", "boolean"], "default": None},
    ],
}
GIVEN: dict[str, Any] = {
    "order_id": "o-1",
    "store": {"id": 4, "city": "Köln"},
    "placed_at": datetime(2024, 1, 2, tzinfo=UTC),
    "price": Decimal("9.50"),
    "shelf": "TOP",
    "sizes": [1.0, 2.5],
    "sold": True,
}
FIELDS = {"label": "sold", "task": "store.id", "id": "order_id", "time": "placed_at"}
WANTED = Event(
    x={"store.city": "Köln", "price": 9.5, "shelf": "TOP", "sizes.0": 1.0, "sizes.1": 2.5},
    task="4",
    origin=AT,
    y=1,
    id="o-1",
    ts=1704153600.0,
)


def framed(number: int, data: bytes) -> bytes:
    return struct.pack(">bI", 0, number) + data


def avro(schema: Any, given: Any) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), given)
    return stream.getvalue()


def settings(url: str, **registry: Any) -> Settings:
    return Settings(
        input={"format": "avro", "fields": FIELDS, "registry": {"url": url, "timeout_seconds": 1, **registry}}
    )


def decode(chosen: Settings, value: bytes) -> Event | Label:
    return decoder(chosen).decode(Record(value, AT))


def test_avro_of_a_nested_schema_is_the_event_that_its_json_would_be() -> None:
    """Enums, unions, decimals, times: what they mean does not hang on how they travel."""
    with registry_server(RegistryServer()) as known:
        reader = decoder(settings(known.url))
        value = framed(known.add(ORDER), avro(ORDER, GIVEN))

        events = [reader.decode(Record(value, AT)) for _ in range(3)]

    assert events == [WANTED] * 3
    assert known.asked == ["/schemas/ids/1"], "a schema is asked for once"


def test_a_schema_that_evolves_is_read_by_the_one_that_each_record_was_written_with() -> None:
    """Producers are upgraded one by one: both kinds of records come, mixed."""
    newer = {**ORDER, "fields": [*ORDER["fields"][:-1], {"name": "colour", "type": "string"}, ORDER["fields"][-1]]}
    with registry_server(RegistryServer()) as known:
        reader = decoder(settings(known.url))
        first, second = known.add(ORDER), known.add(newer)
        old = reader.decode(Record(framed(first, avro(ORDER, GIVEN)), AT))
        new = reader.decode(Record(framed(second, avro(newer, GIVEN | {"colour": "red"})), AT))

    assert old == WANTED
    assert isinstance(new, Event)
    assert new.x == {**dict(WANTED.x), "colour": "red"}  # type: ignore[arg-type]


def test_a_schema_may_refer_to_others() -> None:
    """A registry keeps shared types once; a circle of them must not hang."""
    inner = {"type": "record", "name": "shop.City", "fields": [{"name": "name", "type": "string"}]}
    store = {
        "type": "record",
        "name": "shop.Store",
        "fields": [{"name": "id", "type": "int"}, {"name": "city", "type": "shop.City"}],
    }
    order = {
        "type": "record",
        "name": "shop.Order",
        "fields": [{"name": "store", "type": "shop.Store"}, {"name": "sold", "type": "int"}],
    }
    whole = json.loads(
        json.dumps(order).replace('"shop.Store"', json.dumps(store).replace('"shop.City"', json.dumps(inner)), 1)
    )
    with registry_server(RegistryServer()) as known:
        known.add(inner, subject="city/value")
        known.add(store, subject="store", references=[("city/value", 1)])
        number = known.add(order, references=[("store", 1)])
        known.by_version["city/value", 1]["references"] = [{"name": "store", "subject": "store", "version": 1}]

        event = decode(
            settings(known.url), framed(number, avro(whole, {"store": {"id": 4, "city": {"name": "Ulm"}}, "sold": 1}))
        )

    assert isinstance(event, Event)
    assert (event.task, event.x, event.y) == ("4", {"store.city.name": "Ulm"}, 1)


def test_a_registry_that_is_away_costs_no_record() -> None:
    """A dead letter for each of its records would lose them; asked again, they are read."""
    with registry_server(RegistryServer()) as known:
        known.fail = 2
        value = framed(known.add(ORDER), avro(ORDER, GIVEN))
        reader = decoder(settings(known.url))
        assert reader.decode(Record(value, AT)) == WANTED
        port = int(known.url.rpartition(":")[2])
    assert reader.decode(Record(value, AT)) == WANTED, "a schema that is known needs no registry"
    fresh = decoder(settings(known.url, timeout_seconds=0.2))

    with pytest.raises(
        TransactionError, match=r"schema registry http://127.0.0.1:\d+: cannot be asked for /schemas/ids/1"
    ):
        fresh.decode(Record(value, AT))
    with registry_server(known, port=port):
        assert fresh.decode(Record(value, AT)) == WANTED


def test_what_is_truly_unreadable_is_refused_with_the_reason() -> None:
    """It goes to the dead letters, and a reader there must see why."""
    with registry_server(RegistryServer()) as known:
        number, other = known.add(ORDER), known.add({"type": "object"}, kind="JSON")
        text = known.add("string")
        reader = decoder(settings(known.url))
        good = avro(ORDER, GIVEN)

        def refused(value: bytes) -> str:
            with pytest.raises(EventError) as err:
                reader.decode(Record(value, AT))
            return str(err.value)

        assert "begins with 7b 22 61 22 3a, wanted 00 and the four bytes of a schema's id" in refused(b'{"a": 1}')
        assert f"its schema has the id 99, which the registry {known.url} does not know" in refused(framed(99, good))
        assert "not Avro of schema 1: " in refused(framed(number, good[:-5]))
        assert "not Avro of schema 1: 3 bytes are left over" in refused(framed(number, good + b"abc"))
        assert "schema 2 is JSON, wanted AVRO" in refused(framed(other, good))
        assert "schema 3 is of a str, wanted a record" in refused(framed(text, avro("string", "a")))
        before = len(known.asked)
        refused(framed(99, good))
        assert len(known.asked) == before, "an id that is not known is not asked for again at once"


def test_schemas_are_kept_in_a_bounded_number() -> None:
    """Ids are in the producers' hands: a million of them must not fill the memory."""
    registry = Registry(RegistrySettings(url="http://127.0.0.1:1"))
    for number in range(3_000):
        registry._remember(registry._known, number, number)

    assert len(registry._known) == 1_000


def test_it_lets_in_who_has_the_password_over_tls(tmp_path: Path) -> None:
    """A registry outside has both; the password is in no message."""
    tool = shutil.which("openssl")
    certificate = None
    if tool is not None:
        key, pem = tmp_path / "key.pem", tmp_path / "cert.pem"
        made = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
        ]
        names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(pem)]
        subprocess.run([tool, *made, *names], check=True, capture_output=True, timeout=60)
        certificate = (pem, key)
    with registry_server(RegistryServer("meta", SECRET), certificate=certificate) as known:
        value = framed(known.add(ORDER), avro(ORDER, GIVEN))
        trust = {} if certificate is None else {"ca_file": certificate[0]}
        assert decode(settings(known.url, username="meta", password=SECRET, **trust), value) == WANTED
        with pytest.raises(TransactionError, match=r"refuses us \(HTTP status 401\)") as wrong:
            decode(settings(known.url, username="meta", password=WRONG, **trust), value)
        assert WRONG not in str(wrong.value)
        if certificate is not None:
            with pytest.raises(TransactionError, match="CERTIFICATE_VERIFY_FAILED"):
                decode(settings(known.url, username="meta", password=SECRET, timeout_seconds=0.3), value)


def test_json_with_a_schema_and_messagepack_are_read() -> None:
    """The same record in three coats."""
    given = {"sold": 1, "store": {"id": 4}, "price": 2.5}
    for form, value in (
        ("json", json.dumps(given).encode()),
        ("json-schema", framed(3, json.dumps(given).encode())),
        ("msgpack", msgspec.msgpack.encode(given)),
    ):
        event = decode(Settings(input={"format": form, "fields": FIELDS}), value)
        assert isinstance(event, Event)
        assert (event.x, event.task, event.y) == ({"price": 2.5}, "4", 1)
    with pytest.raises(EventError, match="not an event"):
        decode(Settings(input={"format": "msgpack", "fields": FIELDS}), b"\xc1")
    with pytest.raises(EventError, match=r"feature 'a' is a whole number of .* bits"):
        decode(Settings(input={"fields": FIELDS}), b'{"sold": 1, "a": 1' + b"0" * 300 + b"}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('format = "avro"', r"\[input.registry\] url: is not set, and format = 'avro' needs it"),
        ('[input.registry]\nurl = "http://r:8081"', r"\[input.registry\]: is not used with \[input\] format = 'json'"),
        ('format = "avro"\n[input.registry]\nurl = "file:///etc/passwd"', "url: wanted http://host:port"),
        ('format = "avro"\n[input.registry]\nurl = "http://a:b@r"', "secrets belong into username and password"),
        ('format = "thrift"', "got 'thrift'"),
    ],
)
def test_what_cannot_be_is_refused_at_the_start(text: str, says: str, tmp_path: Path) -> None:
    """Before the first poll, and with the key's name."""
    (tmp_path / "s.toml").write_text(f"[input]\n{text}\n")

    with pytest.raises(ConfigError, match=says) as refused:
        load(tmp_path / "s.toml")

    assert "a:b" not in str(refused.value)
