"""What reading costs: events/s for each format of a topic and a mapping of twenty fields.

    python -m benchmarks.formats [--events 10000] [--repeats 7]

The same events as JSON of the README's shape, as flat JSON with other names, as JSON after a schema's id, as
MessagePack, Avro, Protobuf and CSV. Twice: through the whole service, exactly once, with its transactions and its
state, over a log in memory; and through a turn of its loop only (decoded, predicted, learned, results made). Both with
the settings as they are shipped but without meta-updates, and without a broker: their shares make the differences
smaller. Processor time; all forms in turn, each as often as the others; what is printed is the median, its ratio to the
median of the README's JSON, and the least and greatest ratio within one repeat.
"""

import argparse
import io
import json
import random
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

import fastavro
import msgspec
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from prometheus_client import CollectorRegistry

from streammeta.config import InputSettings
from streammeta.engine import Engine, EngineSettings
from streammeta.event import Decoder, Origin, Record
from streammeta.formats.csv_lines import CsvSettings
from streammeta.formats.fields import Fields
from streammeta.formats.mapping import Mapper
from streammeta.formats.objects import Format, avro_reader, mapped, object_reader
from streammeta.formats.protobuf import ProtobufSettings
from streammeta.formats.registry import Registry, RegistrySettings, Schema
from streammeta.service import log
from streammeta.service.metrics import Metrics
from streammeta.service.turn import Turn
from streammeta.testing import Driver
from streammeta.transport.memory_log import MemoryLog

_POLL = 500
_COMMIT = 0.05  # by the driver's clock, a millisecond a look: every few thousand events
_SETTINGS = EngineSettings(meta={"mode": "off"})
_NAMES = [f"f{i}" for i in range(16)]
_FIELDS = {"label": "sold", "task": "store.id", "id": "order_id", "time": "at"}
_STORE = {"type": "record", "name": "Store", "fields": [{"name": "id", "type": "string"}]}
_SCHEMA = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "order_id", "type": "string"},
        {"name": "store", "type": _STORE},
        {"name": "at", "type": "long"},
        {"name": "sold", "type": "int"},
        *({"name": name, "type": "double"} for name in _NAMES),
    ],
}


class _Known(Registry):
    """A registry that knows one schema, and is not asked."""

    def schema(self, number: int, at: object) -> Schema:
        return Schema("AVRO", json.dumps(_SCHEMA))


def main() -> None:
    """Print a line for each format."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    log.configure("warning")
    rows = list(_rows(options.events))
    cases: dict[str, tuple[Callable[[dict[str, Any]], bytes], Decoder]] = {
        "json, the README's shape": (_readme, Decoder()),
        "json, twenty fields mapped": (msgspec.json.encode, _decoder("json")),
        "json-schema, mapped": (_after_id, _decoder("json-schema")),
        "msgpack, mapped": (msgspec.msgpack.encode, _decoder("msgpack")),
        "avro, mapped": (_avro, _decoder("avro")),
        "protobuf, mapped": (_message, _decoder("protobuf")),
        "csv, mapped": (_row, _decoder("csv")),
    }
    values = {name: list(map(encode, rows)) for name, (encode, _) in cases.items()}
    for what, speed in (("the whole service", _service), ("a turn of its loop", _turn)):
        found: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(options.repeats):
            for name, (_, read) in cases.items():
                found[name].append(speed(values[name], read))
        _print(what, found)


def _print(what: str, found: Mapping[str, Sequence[float]]) -> None:
    usual = next(iter(found.values()))
    print(what)
    for name, speeds in found.items():
        ratios = [one / other for one, other in zip(speeds, usual, strict=True)]
        ratio = median(speeds) / median(usual)
        print(f"  {name:28} {median(speeds):9,.0f} events/s  {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def _turn(values: Sequence[bytes], read: Decoder) -> float:
    """Events a second of processor time, through a turn of the loop."""
    records = [Record(value, Origin("t", 0, i)) for i, value in enumerate(values)]
    engine = Engine(_SETTINGS)
    turn = Turn(
        engine,
        decoder=read,
        metrics=Metrics(CollectorRegistry()),
        batch_events=None,
        meta=None,
        observers=(),
        clock=time.monotonic,
    )
    begun = time.process_time()
    for i in range(0, len(records), _POLL):
        turn.take(records[i : i + _POLL])
    seconds = time.process_time() - begun
    engine.close()
    return len(records) / seconds


def _service(values: Sequence[bytes], read: Decoder) -> float:
    """Events a second of processor time, through the service with its transactions."""
    log = MemoryLog("events")
    for value in values:
        log.append(value, 0, b"k")
    driver = Driver(log, settings=_SETTINGS, decoder=read, poll_records=_POLL, commit_every_seconds=_COMMIT)
    begun = time.process_time()
    driver.finish()
    seconds = time.process_time() - begun
    written = len(log.values("predictions"))
    if written != len(values):
        raise SystemExit(f"{written} predictions of {len(values)} events: what was measured is not what was wanted")
    return len(values) / seconds


def _rows(count: int) -> Iterator[dict[str, Any]]:
    source = random.Random(0)
    for i in range(count):
        row = {"order_id": str(i), "store": {"id": f"s{i % 50}"}, "at": 1_700_000_000_000 + i}
        yield row | {"sold": int(source.random() < 0.5)} | {name: source.gauss(0, 1) for name in _NAMES}


def _readme(row: dict[str, Any]) -> bytes:
    features = {name: row[name] for name in _NAMES}
    fields = {
        "id": row["order_id"],
        "task": row["store"]["id"],
        "ts": row["at"] / 1000,
        "y": row["sold"],
        "x": features,
    }
    return msgspec.json.encode(fields)


def _after_id(row: dict[str, Any]) -> bytes:
    return b"\0" + struct.pack(">I", 1) + msgspec.json.encode(row)


def _avro(row: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, _SCHEMA, row)
    return b"\0" + struct.pack(">I", 1) + stream.getvalue()


def _row(row: dict[str, Any]) -> bytes:
    cells = [row["order_id"], row["store"]["id"], row["at"], row["sold"], *(row[name] for name in _NAMES)]
    return ",".join(map(str, cells)).encode()


def _message(row: dict[str, Any]) -> bytes:
    content: bytes = _MESSAGE(**row).SerializeToString()
    return content


def _file() -> Any:  # noqa: ANN401 protobuf has no types
    """The types of `_SCHEMA`."""
    file = descriptor_pb2.FileDescriptorProto(name="order.proto", syntax="proto3")
    store, order = (file.message_type.add(name=name) for name in ("Store", "Order"))
    store.field.add(name="id", number=1, type=9, label=1)
    for number, (name, kind) in enumerate((("order_id", 9), ("store", 11), ("at", 3), ("sold", 5)), 1):
        order.field.add(name=name, number=number, type=kind, label=1)
    order.field[1].type_name = ".Store"
    for number, name in enumerate(_NAMES, 5):
        order.field.add(name=name, number=number, type=1, label=1)
    return file


def _message_class() -> Any:  # noqa: ANN401 as above
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(_file().SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Order"))


_MESSAGE = _message_class()


def _decoder(form: Format) -> Decoder:
    fields = _FIELDS
    if form == "avro":
        read = avro_reader(_Known(RegistrySettings(url="http://never-asked")))
    elif form == "protobuf":
        with tempfile.NamedTemporaryFile() as file:
            file.write(descriptor_pb2.FileDescriptorSet(file=[_file()]).SerializeToString())
            file.flush()
            settings = ProtobufSettings(descriptor=file.name, message="Order")
            read = object_reader(InputSettings(format=form, protobuf=settings))
    else:
        columns = ("order_id", "store", "at", "sold", *_NAMES)
        read = object_reader(InputSettings(format=form, csv=CsvSettings(columns=columns)))
        fields = fields | ({"task": "store"} if form == "csv" else {})
    return Decoder(read=mapped(read, Mapper(Fields(**fields))))


if __name__ == "__main__":
    main()
