import json
import re
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import pytest
from prometheus_client import CollectorRegistry

from streammeta.errors import ThreadError, TransactionError
from streammeta.event import ORIGIN_HEADER, TIME_HEADER, Decoder, Origin, Record, time_made
from streammeta.service.http import Health
from streammeta.service.metrics import Metrics
from streammeta.service.repartition import Repartition, event_sender
from streammeta.service.result import TIMESTAMP_HEADER, dead_letter
from streammeta.service.threads import watched
from streammeta.transport.base import Message
from streammeta.transport.memory_log import MemoryLog, MemoryMember, MemoryTransactionalSink

LAGS = ("lag_records", "repartition_lag_records")


class Killed(BaseException):
    """The process is gone: nothing may catch it."""


def forward(log: MemoryLog, name: str) -> Repartition:
    running = Repartition(MemoryTransactionalSink(log, name), event_sender(Decoder()), commit_every_seconds=0.0)
    source = MemoryMember(
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


def filled(log: MemoryLog) -> MemoryLog:
    for i in range(30):
        log.append(json.dumps({"task": f"t{i % 3}", "x": [i]}).encode() if i % 7 else b"broken", i % 2, b"whatever")
    return log


def test_records_go_on_under_their_task_with_where_they_came_from() -> None:
    """A task whose events lie in two partitions would be two tasks, each with half of what there is to learn."""
    log = filled(MemoryLog("in", 2))

    forward(log, "a")

    sent = [entry for _, entry in log.read("repartition", 0)]
    assert Counter(entry.key for entry in sent) == {b"t0": 8, b"t1": 8, b"t2": 9, b"whatever": 5}
    assert {dict(entry.headers)[ORIGIN_HEADER] for entry in sent} == {
        f"in/{number}/{offset}".encode() for number in range(2) for offset in range(15)
    }
    assert all(
        json.loads(entry.value or b"")["task"].encode() == entry.key for entry in sent if entry.value != b"broken"
    )


def test_an_event_keeps_the_time_at_which_its_record_was_made() -> None:
    """`ts` and `elapsed` of an event without a time of its own were those of the sending on: a backlog of a day, a second."""
    made = Record(b'{"task": "t", "x": [1]}', Origin("in", 0, 3), b"k", (("trace", b"1"),), 1_700_000_000.25)
    (message,) = event_sender(Decoder())(made)
    sent_on = Record(message.value, Origin("app-repartition", 1, 5), message.key, message.headers, 1_800_000_000.0)

    (again,) = event_sender(Decoder())(sent_on)
    letter = dead_letter(sent_on, "why")

    assert Decoder().decode(sent_on).ts == 1_700_000_000.25
    assert dict(again.headers)[TIME_HEADER] == dict(letter.headers)[TIMESTAMP_HEADER] == b"1700000000.25"
    assert time_made(Record(b"", Origin("in", 0, 0), None, ((TIME_HEADER, b"yesterday"),), 5.0)) == 5.0
    assert time_made(Record(b"", Origin("in", 0, 0))) is None


@pytest.mark.parametrize("point", ["after poll", "before send", "before commit", "after commit"])
@pytest.mark.parametrize("fault", [Killed(), TransactionError("nobody knows")])
def test_each_record_goes_on_once_whatever_fails(point: str, fault: BaseException) -> None:
    """What is doubled here is predicted twice further on, however exact that is."""
    passed = Counter[str]()

    def at(passing: str) -> None:
        passed[passing] += 1
        if passing == point and passed[passing] == 1:
            raise fault

    log = filled(MemoryLog("in", 2, at=at))

    with suppress(Killed):
        forward(log, "a")
    log.leave("a")
    forward(log, "b")

    origins = [dict(entry.headers)[ORIGIN_HEADER] for _, entry in log.read("repartition", 0)]
    assert len(origins) == len(set(origins)) == 30
    assert log.open_transactions == []


def test_a_poll_that_takes_a_partition_away_loses_no_record_of_another() -> None:
    """Its records went into what was held before the revocation: gone without a word, and committed as sent."""

    def at(passing: str) -> None:
        if passing == "after commit" and "b" not in log._members:
            log.join("b")  # takes partition 1 in the next poll, which also brings what is left of partition 0

    log = MemoryLog("in", 2, at=at)
    for i in range(1_200):
        log.append(json.dumps({"task": "t", "x": [i]}).encode(), 0)

    forward(log, "a")

    assert "b" in log._members
    assert len({dict(entry.headers)[ORIGIN_HEADER] for _, entry in log.read("repartition", 0)}) == 1_200


class Broken(MemoryTransactionalSink):
    """A client that fails in a way nobody foresaw."""

    def send(self, messages: Sequence[Message]) -> None:  # noqa: ARG002
        raise AssertionError("a fault of the client")


def _run(thread: threading.Thread) -> None:
    thread.start()
    thread.join(10)


def test_an_end_that_nobody_foresaw_stops_the_service_with_its_reason() -> None:
    """The loop beside it turns and has nothing to read: it would be taken for healthy for ever."""
    log = filled(MemoryLog("in", 2))
    health, stop = Health(lambda: 0.0), threading.Event()
    health.restored()
    health.reading(1)
    running = Repartition(Broken(log, "a"), event_sender(Decoder()), commit_every_seconds=0.0, health=health)
    source = MemoryMember(
        log, "a", on_revoked=running.revoked, on_assigned=lambda _: None, on_lost=running.lost, on_coming=running.coming
    )

    thread = threading.Thread(target=running.run, args=(source, stop), name="repartition")
    with pytest.raises(ThreadError, match=r"'repartition' ended unexpectedly: AssertionError\('a fault"), watched(stop):
        _run(thread)

    assert stop.is_set()
    assert "a fault of the client" in str(running.failure)
    assert not health.ready().ok
    assert "a fault of the client" in health.ready().reason


def test_transactions_that_fail_again_and_again_end_it_with_the_cause() -> None:
    """A refusal that lasts, retried for ever, looks like a slow day."""

    def at(point: str) -> None:
        if point == "before commit":
            raise TransactionError("the topic has no partition 4")

    now = [0.0]

    def clock() -> float:
        now[0] += 1.0
        return now[0]

    log = filled(MemoryLog("in", 2, at=at))
    stop = threading.Event()
    stop.wait = lambda _=None: False  # type: ignore[method-assign]  # no test waits for pauses
    running = Repartition(
        MemoryTransactionalSink(log, "a"),
        event_sender(Decoder()),
        commit_every_seconds=0.0,
        stuck_seconds=60.0,
        clock=clock,
    )
    source = MemoryMember(
        log, "a", on_revoked=running.revoked, on_assigned=lambda _: None, on_lost=running.lost, on_coming=running.coming
    )

    running.run(source, stop)

    assert stop.is_set()
    assert re.search(
        r"repartition: transactions failed \d+ times in 6\d s, .*because of: the topic has no partition 4",
        str(running.failure),
    )


def test_what_waits_in_the_real_input_is_counted() -> None:
    """With repartition the loop reads another topic: a lag of 0 there says nothing when records are not sent on."""
    log, metrics = filled(MemoryLog("in", 2)), Metrics(CollectorRegistry())
    running = Repartition(
        MemoryTransactionalSink(log, "a"), event_sender(Decoder()), commit_every_seconds=0.0, metrics=metrics
    )
    source = MemoryMember(
        log, "a", on_revoked=running.revoked, on_assigned=lambda _: None, on_lost=running.lost, on_coming=running.coming
    )
    running._source = source
    metrics.source(1, 5)
    waiting = sum(source.lag().values())

    running._look()
    before = [metrics.registry.get_sample_value(f"streammeta_{name}") for name in LAGS]
    running._look_at = 0.0
    running.run(source, threading.Event())
    running._look_at = 0.0
    running._look()
    after = [metrics.registry.get_sample_value(f"streammeta_{name}") for name in LAGS]

    assert before == [waiting + 5, waiting]
    assert after == [5, 0]
    assert metrics.registry.get_sample_value("streammeta_repartitioned_records_total") == 30
