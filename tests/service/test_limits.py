"""What was reached is counted, and said once."""

import json
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from streammeta.app.replay import replay
from streammeta.config import InputSettings, Settings
from streammeta.engine import Engine, EngineSettings, EngineStats
from streammeta.engine.tasks import MemorySettings
from streammeta.event import Event, Label, Origin
from streammeta.report import Tally, lines
from streammeta.service.limits import LimitWatch
from streammeta.service.metrics import Metrics
from streammeta.transport.file import FileSource

SMALL = MemorySettings(max_tasks=2, max_known_tasks=3, max_features=8, max_classes=2, max_waiting=1)


def count(metrics: Metrics, limit: str) -> float | None:
    return metrics.registry.get_sample_value("streammeta_limit_reached_total", {"limit": limit})


def reached() -> EngineStats:
    """Of an engine that has reached each of its limits, each another number of times."""
    engine = Engine(EngineSettings(memory=SMALL))
    events: list[Event | Label] = [
        Event({"note": f"text {i}"}, f"task {i % 4}", Origin("events", 0, i), y=i % 2) for i in range(1_100)
    ]
    events += [Event({"a": 1.0}, "task 0", Origin("events", 0, 2_000 + i), y=f"class {i}") for i in range(3)]
    events += [Event({"a": 1.0}, "task 0", Origin("events", 0, 3_000 + i), id=f"id {i}") for i in range(5)]
    events += [Event({f"name {i}": 1.0}, "task 0", Origin("events", 0, 4_000 + i), y=0) for i in range(20)]
    engine.step(events)
    return engine.stats()


def test_each_limit_of_the_engine_is_counted() -> None:
    """They were reached in silence: accuracy fell from 1.00 to 0.50, and nothing said why."""
    limits = reached().limits

    assert limits["max_classes"] == 3
    assert limits["max_waiting"] == 4
    assert limits["max_features"] >= 13
    assert limits["feature_values"] > 1_000
    assert limits["max_tasks"] >= 2
    assert limits["max_known_tasks"] > 1_000


def test_a_limit_is_warned_of_once_and_counted_every_time() -> None:
    """A warning a second hides all others; none hides the cause."""
    metrics, stats = Metrics(CollectorRegistry()), reached()
    watch = LimitWatch(metrics)

    with capture_logs() as logs:
        watch.look(Engine(EngineSettings()).stats(), 0)
        watch.look(stats, 2)
        watch.look(stats, 5)

    assert sorted(line["limit"] for line in logs) == sorted([*stats.limits, "max_record_bytes"])
    assert {line["log_level"] for line in logs} == {"warning"}
    assert count(metrics, "max_classes") == 3
    assert count(metrics, "max_record_bytes") == 5


def test_the_engine_after_a_failed_transaction_counts_from_nothing() -> None:
    """A counter that went back would be read as a restart of the process."""
    metrics, stats = Metrics(CollectorRegistry()), reached()
    watch = LimitWatch(metrics)

    for one in (stats, Engine(EngineSettings()).stats(), stats):
        watch.look(one, 1)

    assert count(metrics, "max_classes") == 6
    assert count(metrics, "max_record_bytes") == 1


@pytest.mark.parametrize("long_records", [0, 3])
def test_the_report_says_what_was_reached_and_nothing_otherwise(tmp_path: Path, long_records: int) -> None:
    """Whoever reads the report of a dry run would else learn of it in production."""
    path = tmp_path / "events.jsonl"
    rows = [{"x": {"a": 1.0}, "y": i % 2} for i in range(20)] + [{"x": {"a": "b" * 200}, "y": 0}] * long_records
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = Settings(input=InputSettings(max_record_bytes=100))

    with closing(FileSource(path)) as source:
        figures = replay(settings, source, None, Tally("classification"))

    assert figures["limits_reached"] == ("max_record_bytes 3 times" if long_records else None)
    assert any(line.startswith("limits_reached") for line in lines(figures)) == bool(long_records)
