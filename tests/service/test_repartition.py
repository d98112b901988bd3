import json
import threading
from collections import Counter
from contextlib import suppress

import pytest

from streammeta.errors import TransactionError
from streammeta.event import ORIGIN_HEADER, Decoder
from streammeta.service.repartition import Repartition
from streammeta.transport.memory_log import MemoryLog, MemoryMember, MemoryTransactionalSink


class Killed(BaseException):
    """The process is gone: nothing may catch it."""


def forward(log: MemoryLog, name: str) -> Repartition:
    running = Repartition(MemoryTransactionalSink(log, name), decoder=Decoder(), commit_every_seconds=0.0)
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
