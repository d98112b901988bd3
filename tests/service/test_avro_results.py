"""Predictions in Avro: the same as in JSON, by a schema that the registry has."""

import io
import json
from typing import Any

import fastavro
import pytest

from streammeta.engine import Engine, EngineSettings
from streammeta.errors import ConfigError, TransportError
from streammeta.event import Event, Origin
from streammeta.formats.registry import Registry, RegistrySettings
from streammeta.meta.base import Kind
from streammeta.service.avro_results import PREDICTION, SIGNAL, AvroResults
from streammeta.service.result import PREDICTIONS, messages, theta_refused
from streammeta.transport.memory_log import MemoryLog, MemoryTransactionalSink
from tests.formats.registry_server import RegistryServer, registry_server


def results(kind: Kind, labels: list[Any]) -> list[Any]:
    engine = Engine(EngineSettings(kind=kind, meta={"mode": "off"}, interval=0.9 if kind == "regression" else None))
    events = [Event({"a": float(i % 3)}, "t", Origin("e", 0, i), y=y, id=str(i), ts=i) for i, y in enumerate(labels)]
    why = {"explanation": {"of": "mean", "without_features": 1, "contributions": {"a": 0.5}}}
    sent = [one for i, outcome in enumerate(engine.step(events)) for one in messages(outcome, why if i % 2 else {})]
    return [*sent, theta_refused(7, "it is not finite", 0)]


@pytest.mark.parametrize(
    ("kind", "labels"),
    [("classification", ["a", "b", "a", "b"]), ("classification", [0, 1, 2, 0]), ("regression", [1, 2.5, 3, 0.5])],
)
def test_predictions_in_avro_say_what_they_say_in_json(kind: Kind, labels: list[Any]) -> None:
    """A class is a number or a text, a mean a number, what has not been learned nothing: each has its branch."""
    log, sent = MemoryLog("in"), results(kind, labels)
    with registry_server(RegistryServer()) as known:
        sink = AvroResults(
            MemoryTransactionalSink(log, "a"),
            Registry(RegistrySettings(url=known.url)),
            {"predictions": "app-predictions", "signals": "app-signals"},
        )
        sink.send(sent)
        sink.commit({}, None)
    assert json.loads(known.by_version["app-predictions-value", 1]["schema"]) == PREDICTION
    assert json.loads(known.by_version["app-signals-value", 1]["schema"]) == SIGNAL

    schema = fastavro.parse_schema(PREDICTION)
    predictions = [json.loads(one.value) for one in sent if one.channel == PREDICTIONS]
    written = log.values(PREDICTIONS)
    assert all(one[:5] == b"\0\0\0\0\1" for one in written)
    read: list[Any] = [fastavro.schemaless_reader(io.BytesIO(one[5:]), schema, None) for one in written]
    assert [{name: value for name, value in one.items() if value is not None} for one in read] == [
        {name: value for name, value in one.items() if value is not None} for one in predictions
    ]
    signals = log.values("signals")
    assert all(one[:5] == b"\0\0\0\0\2" for one in signals)
    nothing = dict.fromkeys(field["name"] for field in SIGNAL["fields"])
    of_signals = fastavro.parse_schema(SIGNAL)
    assert [fastavro.schemaless_reader(io.BytesIO(one[5:]), of_signals, None) for one in signals] == [
        nothing | json.loads(one.value) for one in sent if one.channel == "signals"
    ]


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        ((409, {"message": "incompatible"}), ConfigError, "does not take /subjects/p-value/versions: .*incompatible"),
        ((200, {}), ConfigError, "takes no schema for the subject 'p-value'"),
        ((500, {}), TransportError, "cannot be asked for /subjects/p-value/versions: HTTP status 500"),
    ],
)
def test_a_registry_that_does_not_take_the_schema_ends_the_start(
    answer: tuple[int, Any], error: type[Exception], says: str
) -> None:
    """With the first prediction it would be too late."""
    known = RegistryServer()
    known.refuses = answer
    with registry_server(known):
        registry = Registry(RegistrySettings(url=known.url, timeout_seconds=0.2))
        with pytest.raises(error, match=says):
            AvroResults(MemoryTransactionalSink(MemoryLog("in"), "a"), registry, {"predictions": "p", "signals": "q"})
