"""A schema registry that goes away under a service: records wait, and nothing of them is lost or doubled."""

import json
import threading
import time
from collections import Counter

from prometheus_client import CollectorRegistry

from streammeta.app.parts import decoder
from streammeta.config import Settings
from streammeta.engine import Engine, EngineSettings
from streammeta.service.exactly_once import ExactlyOnce
from streammeta.service.http import Health
from streammeta.service.loop import Options
from streammeta.service.metrics import Metrics
from streammeta.transport.memory_log import MemoryChangelogReader, MemoryLog, MemoryMember, MemoryTransactionalSink
from tests.formats.registry_server import RegistryServer, registry_server
from tests.formats.test_objects import avro, framed

SCHEMA = {
    "type": "record",
    "name": "Event",
    "fields": [
        {"name": "shop", "type": "string"},
        {"name": "price", "type": "double"},
        {"name": "sold", "type": ["null", "int"]},
    ],
}
NEWER = {**SCHEMA, "fields": [*SCHEMA["fields"], {"name": "size", "type": "double"}]}  # type: ignore[misc]


def test_records_of_a_schema_that_cannot_be_had_wait_for_it() -> None:
    """Set aside they would be lost, and the registry's bad hour would be a hole in what was learned."""
    log = MemoryLog("events")
    with registry_server(RegistryServer()) as known:
        settings = Settings(
            input={
                "format": "avro",
                "fields": {"task": "shop", "label": "sold"},
                "registry": {"url": known.url, "timeout_seconds": 0.2},
            }
        )
        health = Health(time.monotonic)
        service = ExactlyOnce(
            lambda: Engine(EngineSettings(meta={"mode": "off"})),
            MemoryTransactionalSink(log, "a"),
            MemoryChangelogReader(log),
            decoder=decoder(settings),
            options=Options(poll_records=8, poll_seconds=0.0, save_every_seconds=0.0, name="app"),
            metrics=Metrics(CollectorRegistry()),
            health=health,
        )
        member = MemoryMember(
            log,
            "a",
            on_revoked=service.revoked,
            on_assigned=service.assigned,
            on_lost=service.lost,
            on_coming=service.coming,
        )
        old, new = known.add(SCHEMA), known.add(NEWER)
        for i in range(40):
            row = {"shop": f"s{i % 3}", "price": float(i), "sold": i % 2, "size": 1.0}
            log.append(framed(new if i >= 20 else old, avro(NEWER if i >= 20 else SCHEMA, row)), 0, b"k")
        log.append(b"broken", 0, b"k")
        stop = threading.Event()
        service.begin(member)
        while len(log.values("predictions")) < 16:
            service.turn(stop)
        known.fail = 1_000  # away when the newer schema is met
        for _ in range(6):
            service.turn(stop)
        waiting = len(log.values("predictions"))
        known.fail = 0
        for _ in range(12):
            service.turn(stop)
        service.run(member, stop)
        member.close()

    origins = Counter(json.loads(value)["source"] for value in log.values("predictions"))
    assert 0 < waiting < 40, waiting
    assert len(origins) == 40
    assert set(origins.values()) == {1}
    assert len(log.values("dead-letters")) == 1
