"""A real schema registry, as producers' serializers fill it: what the stand-in of `tests/formats` only claims to be."""

import json
from typing import Any

import pytest

from streammeta.app.parts import decoder
from streammeta.config import Settings
from streammeta.errors import ConfigError, EventError, TransactionError
from streammeta.event import Event, Record
from streammeta.formats.registry import Registry, RegistrySettings
from streammeta.service.avro_results import PREDICTION
from tests.broker.registry import RunningRegistry, registry
from tests.formats.test_objects import AT, FIELDS, GIVEN, ORDER, STORE, WANTED, WRONG, avro, framed

__all__ = ["registry"]


def decode(running: RunningRegistry, value: bytes, form: str = "avro", **more: Any) -> Any:
    settings = Settings(input={"format": form, "fields": FIELDS, "registry": running.settings | more})
    return decoder(settings).decode(Record(value, AT))


def test_avro_is_read_by_the_schema_that_each_record_names(registry: RunningRegistry) -> None:
    """A field that a later version adds is a feature from then on; records of both are in one topic."""
    newer = {**ORDER, "fields": [*ORDER["fields"], {"name": "size", "type": "double", "default": 0.0}]}
    old, new = registry.add("evolves-value", ORDER), registry.add("evolves-value", newer)

    assert old != new
    assert decode(registry, framed(old, avro(ORDER, GIVEN))) == WANTED
    after = decode(registry, framed(new, avro(newer, GIVEN | {"size": 2.0})))
    assert isinstance(after, Event)
    assert after.x == {**WANTED.x, "size": 2.0}


def test_a_schema_may_refer_to_one_of_another_subject(registry: RunningRegistry) -> None:
    """As teams share a type: the registry has its text once, and the other names it."""
    registry.add("shared-store", STORE)
    fields = [{**one, "type": "shop.Store"} if one["name"] == "store" else one for one in ORDER["fields"]]
    number = registry.add("refers-value", {**ORDER, "fields": fields}, references=[("shop.Store", "shared-store", 1)])

    assert decode(registry, framed(number, avro(ORDER, GIVEN))) == WANTED


def test_json_after_the_id_of_its_schema_is_read(registry: RunningRegistry) -> None:
    """The schema itself is not asked for: JSON says what it is."""
    number = registry.add(
        "json-value", {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}, kind="JSON"
    )
    row = {"order_id": "o-1", "store": {"id": 4}, "placed_at": "2024-01-02", "price": 9.5, "sold": True}

    event = decode(registry, framed(number, json.dumps(row).encode()), "json-schema")

    assert (event.x, event.task, event.y, event.id) == ({"price": 9.5}, "4", 1, "o-1")


def test_who_may_not_ask_and_what_is_not_there_are_told_apart(registry: RunningRegistry) -> None:
    """The one is the service's fault, and must lose no record; the other is the record's."""
    with pytest.raises(TransactionError, match=r"refuses us \(HTTP status 401\); check its username and password"):
        decode(registry, framed(1, b""), password=WRONG)
    with pytest.raises(TransactionError, match="certificate verify failed"):
        decode(registry, framed(1, b""), ca_file=None, timeout_seconds=0.3)
    with pytest.raises(EventError, match="its schema has the id 123456, which the registry"):
        decode(registry, framed(123456, b""))


def test_records_are_read_on_after_their_subject_is_deleted(registry: RunningRegistry) -> None:
    """Somebody tidies up; the topic still has the records. A registry keeps what an id means."""
    number = registry.add("vanishes-value", {**ORDER, "name": "shop.Vanishing"})
    settings = Settings(input={"format": "avro", "fields": FIELDS, "registry": registry.settings})
    reader, record = decoder(settings), Record(framed(number, avro(ORDER, GIVEN)), AT)
    before = reader.decode(record)

    registry.ask("/subjects/vanishes-value", method="DELETE")
    registry.ask("/subjects/vanishes-value?permanent=true", method="DELETE")

    assert "vanishes-value" not in registry.ask("/subjects")
    assert reader.decode(record) == before == WANTED
    assert decoder(settings).decode(record) == WANTED, "who starts afterwards"


def test_the_schema_of_predictions_is_registered_once_and_a_foreign_one_refuses_it(registry: RunningRegistry) -> None:
    """Restarts must not make new versions; under a subject whose schemas are kept compatible ours may not fit."""
    known = Registry(RegistrySettings(**registry.settings))
    first, again = (known.register("said-value", json.dumps(PREDICTION)) for _ in range(2))
    registry.add("taken-value", {"type": "record", "name": "Theirs", "fields": [{"name": "a", "type": "int"}]})
    registry.ask("/config/taken-value", {"compatibility": "FULL"}, method="PUT")

    assert first == again
    assert registry.ask("/subjects/said-value/versions") == [1]
    with pytest.raises(ConfigError, match=r"does not take /subjects/taken-value/versions"):
        known.register("taken-value", json.dumps(PREDICTION))
