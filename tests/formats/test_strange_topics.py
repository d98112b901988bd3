"""Records of topics that a stranger brought: Debezium, CloudEvents, Connect, keys that are JSON, and what is none at all."""

import gzip
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from streammeta.app.parts import decoder, label_reader
from streammeta.config import Settings
from streammeta.errors import EventError
from streammeta.event import Event, Origin, Record
from streammeta.service.repartition import label_sender

AT = Origin("t", 0, 0)
CHANGE = {
    "before": None,
    "after": {"id": 7, "store": "s1", "price": 2.5, "sold": True},
    "op": "c",
    "ts_ms": 1_700_000_000_000,
    "source": {"db": "x", "lsn": 123},
}
SALE = {
    "specversion": "1.0",
    "id": "e1",
    "source": "/shop/5",
    "time": "2024-01-02T03:04:05Z",
    "data": {"price": 1.5, "sold": "no"},
}
CONNECT = {"schema": {"type": "struct", "fields": []}, "payload": {"store": 1, "price": 2.5, "sold": 0}}
PACKED = msgspec.msgpack.encode(
    {"store": "s", "at": datetime(2024, 1, 1, tzinfo=UTC), "blob": b"\1", "n": 3, "sold": 1}
)


def decoded(value: Any, key: bytes | None = None, headers: Any = (), **settings: Any) -> Event:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    event = decoder(Settings(input=settings)).decode(Record(content, AT, key, headers))
    assert isinstance(event, Event)
    return event


@pytest.mark.parametrize(
    ("value", "settings", "x", "task", "y", "ts"),
    [
        (
            CHANGE,
            {"fields": {"task": "after.store", "label": "after.sold", "id": "after.id", "time": "ts_ms", "include": ["after.*"]}},
            {"after.price": 2.5}, "s1", 1, 1_700_000_000.0,
        ),
        (
            SALE,
            {"fields": {"task": "source", "label": "data.sold", "time": "time", "include": ["data.*"]}},
            {"data.price": 1.5}, "/shop/5", "no", 1_704_164_645.0,
        ),
        (
            CONNECT,
            {"fields": {"task": "payload.store", "label": "payload.sold", "include": ["payload.*"]}},
            {"payload.price": 2.5}, "1", 0, None,
        ),
        (
            PACKED,
            {"format": "msgpack", "fields": {"task": "store", "label": "sold", "time": "at", "exclude": ["blob"]}},
            {"n": 3.0}, "s", 1, 1_704_067_200.0,
        ),
        (b'{"a": NaN, "sold": 1}', {"fields": {"label": "sold"}}, {"a": None}, "", 1, None),
        (b'\xef\xbb\xbf{"x": {"a": NaN, "b": "NaN"}, "y": 1}', {}, {"a": None, "b": "NaN"}, "", 1, None),
        ({"a": 1, "y": 1, "at": 1_700_000_000_500_000}, {"fields": {"time": "at"}}, {"a": 1.0}, "", 1, 1_700_000_000.5),
        ({"a": 1, "y": 1, "at": "31.01.2024"}, {"fields": {"time": "at"}}, {"a": 1.0}, "", 1, 1_706_659_200.0),
        ({"a": 1, "y": 1, "at": "2024/01/31"}, {"fields": {"time": "at"}}, {"a": 1.0}, "", 1, 1_706_659_200.0),
        ({"a": 1, "y": 1, "at": "Wed, 31 Jan 2024 00:00:00 GMT"}, {"fields": {"time": "at"}}, {"a": 1.0}, "", 1, 1_706_659_200.0),
    ],
)  # fmt: skip
def test_envelopes_and_what_python_writes_are_read(
    value: Any, settings: dict[str, Any], x: Any, task: str, y: Any, ts: float | None
) -> None:
    """A topic is rarely made for us: what is around a row must neither be a feature nor a dead letter."""
    event = decoded(value, **settings)

    assert (event.x, event.task, event.y, event.ts) == (x, task, y, ts)


def test_a_task_may_be_made_of_headers_fields_and_fields_of_a_key() -> None:
    """Keys of Connect and of Debezium are JSON objects."""
    row, key, headers = {"a": 1, "store": 5, "sold": 1}, b'{"store": {"id": 5}, "n": 1}', (("tenant", b"acme"),)

    joined = decoded(row, key, headers, fields={"task": ["header:tenant", "store"], "label": "sold"})
    of_key = decoded(row, key, fields={"task": "key.store.id", "id": "key.n", "label": "sold"})
    whole = decoded(row, key, fields={"task": "key", "label": "sold"})
    field = decoded({"a": 1, "key": {"n": 2}, "sold": 1}, key, fields={"task": "key.n", "label": "sold"})

    assert [one.task for one in (joined, of_key, whole, field)] == ["acme/5", "5", key.decode(), "2"]
    assert (of_key.id, of_key.x) == ("1", {"a": 1.0, "store": 5.0})
    with pytest.raises(EventError, match=r"the key is b'5;1', wanted a JSON object with 'n'"):
        decoded(row, b"5;1", fields={"task": "key.n", "label": "sold"})
    with pytest.raises(EventError, match="wanted UTF-8 text; name a field of the record instead"):
        decoded(row, b"\xff\xff", fields={"task": "key", "label": "sold"})


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"\0\0\0\0\1abc", "it begins as a registry's wire format does"),
        (gzip.compress(b"{}", mtime=0), "it is packed by gzip"),
        ('{"x": {}}'.encode("utf-16"), "it is UTF-16; wanted UTF-8"),
        (b"<event/>", "it looks like XML; wanted JSON"),
        (b'[{"x": {"a": 1}, "y": 0}]', "it holds a list; wanted one object a record"),
        (json.dumps(json.dumps({"x": {}})).encode(), "it is a text, of which JSON may have been made twice"),
        (msgspec.msgpack.encode({"a": 1}), 'is \\[input\\] format "msgpack"?'),
    ],
)
@pytest.mark.parametrize("settings", [{}, {"fields": {"label": "sold"}}])
def test_what_is_no_json_is_named(value: bytes, says: str, settings: dict[str, Any]) -> None:
    """ "Invalid character (byte 0)" of a million records says nothing; what they look like says what to set."""
    with pytest.raises(EventError, match=f"t/0/0: not an event: .*; {says}"):
        decoded(value, **settings)


def test_an_id_is_the_same_whatever_its_type() -> None:
    """The events' producer writes 17, the labels' one "17": they are one order."""
    settings = Settings(
        input={"topic": "orders", "repartition": True, "fields": {"task": "store", "id": "order"}},
        labels={"topic": "returns", "join": "id", "fields": {"id": "of", "label": "back"}},
    )
    event = decoder(settings).decode(Record(b'{"order": 17, "store": "s", "a": 1}', AT))
    send_on = label_sender(label_reader(settings), by_id=True)
    ids = {
        send_on(Record(value, AT, b"k"))[0].key for value in (b'{"of": "17", "back": 1}', b'{"of": 17.0, "back": true}')
    }

    assert isinstance(event, Event)
    assert event.id == "17"
    assert ids == {b"17"}
