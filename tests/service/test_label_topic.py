"""Labels in a topic of their own: they go on after their events, each once, and what is no label says why."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from streammeta.app.parts import decoder, label_reader
from streammeta.config import Settings, load
from streammeta.engine import Engine, EngineSettings
from streammeta.errors import ConfigError, EventError, TransactionError
from streammeta.event import LABEL_HEADER, ORIGIN_HEADER, Label, Origin, Record
from streammeta.service.metrics import Metrics
from streammeta.service.repartition import Repartition, label_sender
from streammeta.service.turn import Turn
from streammeta.transport.base import Message
from streammeta.transport.memory_log import MemoryLog, MemoryMember, MemoryTransactionalSink

SETTINGS = Settings(
    input={"topic": "orders", "repartition": True, "fields": {"task": "store", "id": "order", "label": "never"}},
    labels={"topic": "returns", "fields": {"task": "shop.id", "id": "order_id", "label": "returned"}},
)
AT = Origin("app-repartition", 1, 5)


def received(message: Message) -> Record:
    return Record(message.value, AT, message.key, message.headers)


def test_a_label_goes_on_under_its_task_in_a_shape_that_the_events_mapping_does_not_touch() -> None:
    """Events and labels have names of their own; behind the repartition they are read by one decoder."""
    send_on = label_sender(label_reader(SETTINGS))
    given = {"order_id": 17, "shop": {"id": "s1"}, "returned": True, "why": "too small"}

    (message,) = send_on(Record(json.dumps(given).encode(), Origin("returns", 0, 3), b"17"))

    assert message.key == b"s1"
    assert decoder(SETTINGS).decode(received(message)) == Label("17", 1, "s1", AT, source="returns/0/3")


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (
            b'{"order_id": 17, "returned": true}',
            "a label from a topic of its own has no task; wanted label, id and task",
        ),
        (b'{"shop": {"id": 1}, "returned": true}', "has no id"),
        (b'{"shop": {"id": 1}, "order_id": 17}', "has no label"),
        (b"broken", "not an event: JSON is malformed"),
    ],
)
def test_what_is_no_label_is_set_aside_as_it_came_with_the_reason(value: bytes, says: str) -> None:
    """A dead letter of it must be the producer's bytes."""
    (message,) = label_sender(label_reader(SETTINGS))(Record(value, Origin("returns", 0, 3), b"17"))

    assert message.value == value
    assert dict(message.headers)[ORIGIN_HEADER] == b"returns/0/3"
    with pytest.raises(EventError) as refused:
        decoder(SETTINGS).decode(received(message))
    assert str(refused.value).startswith("app-repartition/1/5: ")
    assert says in str(refused.value)


class Stamped(MemoryMember):
    """Records whose time is their offset."""

    def poll(self, max_records: int, timeout_seconds: float):
        return [
            Record(one.value, one.origin, one.key, one.headers, float(one.origin.offset))
            for one in super().poll(max_records, timeout_seconds)
        ]


def forward(log: MemoryLog, name: str, may_go: Callable[[float], bool]) -> Repartition:
    now = iter(range(10_000_000))
    running = Repartition(
        MemoryTransactionalSink(log, name),
        label_sender(label_reader(SETTINGS)),
        commit_every_seconds=0.0,
        may_go=may_go,
        loop="labels",
        clock=lambda: float(next(now)),
    )
    source = Stamped(
        log,
        name,
        on_revoked=running.revoked,
        on_assigned=lambda _: None,
        on_lost=running.lost,
        on_coming=running.coming,
    )
    running.run(source, threading.Event())
    source.close()
    return running


def filled() -> MemoryLog:
    log = MemoryLog("returns")
    for i in range(30):
        log.append(json.dumps({"order_id": i, "shop": {"id": "s"}, "returned": i % 2}).encode(), 0, b"k")
    return log


def sent(log: MemoryLog) -> list[str]:
    return [json.loads(entry.value or b"")["id"] for _, entry in log.read("repartition", 0)]


def test_labels_wait_until_their_events_have_gone_on_and_keep_their_order() -> None:
    """A label that overtakes its event is a dead letter, and what it says is never learned."""
    log, asked = filled(), list[tuple[float, int]]()

    def may_go(time: float) -> bool:
        asked.append((time, len(sent(log))))
        return time <= len(asked)  # events come a little further each time

    forward(log, "a", may_go)

    assert sent(log) == [str(i) for i in range(30)]
    assert all(count <= len(asked) + 1 for _, count in asked)
    assert all(dict(entry.headers)[LABEL_HEADER] == b"" for _, entry in log.read("repartition", 0))


def test_a_broker_that_does_not_answer_delays_labels_and_loses_none() -> None:
    """What waits is not committed, so that it is read again."""
    log, times = filled(), list[float]()

    def may_go(time: float) -> bool:
        times.append(time)
        if len(times) in (2, 3):
            raise TransactionError("no answer")
        return len(times) > 4 or time < 10

    forward(log, "a", may_go)

    assert sent(log) == [str(i) for i in range(30)]


def test_a_record_without_a_value_is_set_aside_or_passed_over_as_said() -> None:
    """A compacted topic says with them that a key is gone: no event, and no fault of anybody."""
    for setting, dead, counted in (("dead-letter", 1, 0.0), ("ignore", 0, 1.0)):
        metrics = Metrics(CollectorRegistry())
        turn = Turn(
            Engine(EngineSettings()),
            decoder=decoder(Settings(input={"tombstones": setting})),
            metrics=metrics,
            batch_events=None,
            meta=None,
            observers=(),
            clock=lambda: 0.0,
        )
        records = [Record(None, Origin("t", 0, 0), b"k"), Record(b'{"x": [1], "y": 0}', Origin("t", 0, 1))]

        messages = turn.take(records)

        assert [one.channel for one in messages].count("dead-letters") == dead
        assert (turn.records, turn.rejected) == (2, dead)
        assert metrics.registry.get_sample_value("streammeta_events_total", {"fate": "tombstone"}) == counted
        turn.engine.close()


def test_more_topics_want_a_repartition(tmp_path: Path) -> None:
    """Partition 1 of two topics is not one partition of tasks."""
    (tmp_path / "s.toml").write_text('[input]\ntopics = ["orders-*"]\n')

    with pytest.raises(
        ConfigError, match=r"\[input\] topics: are sent on to NAME-repartition; set \[input\] repartition"
    ):
        load(tmp_path / "s.toml")
