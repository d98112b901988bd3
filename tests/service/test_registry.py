"""A schema registry that goes away under a service: records wait, and nothing of them is lost or doubled."""

from collections import Counter

from streammeta.app.parts import decoder
from streammeta.config import Settings
from streammeta.testing import Driver
from streammeta.transport.memory_log import MemoryLog
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
        driver = Driver(log, decoder=decoder(settings), poll_records=8, commit_every_seconds=0.0)
        old, new = known.add(SCHEMA), known.add(NEWER)
        for i in range(40):
            row = {"shop": f"s{i % 3}", "price": float(i), "sold": i % 2, "size": 1.0}
            log.append(framed(new if i >= 20 else old, avro(NEWER if i >= 20 else SCHEMA, row)), 0, b"k")
        log.append(b"broken", 0, b"k")
        while len(driver.predictions()) < 16:
            driver.rounds()
        known.fail = 1_000  # away when the newer schema is met
        driver.rounds(6)
        waiting = len(driver.predictions())
        known.fail = 0
        driver.finish()

    origins = Counter(one["source"] for one in driver.predictions())
    assert 0 < waiting < 40, waiting
    assert len(origins) == 40
    assert set(origins.values()) == {1}
    assert driver.dead_letters() == [b"broken"]
