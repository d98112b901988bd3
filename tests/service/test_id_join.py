"""Labels that name an event's id and no task: each goes to the one task that has an event of it, once."""

import json
import random
import threading
from collections import Counter
from contextlib import suppress

import pytest
from prometheus_client import CollectorRegistry

from streammeta.app.parts import label_reader
from streammeta.config import Settings
from streammeta.errors import TransactionError
from streammeta.event import LABEL_HEADER, ORIGIN_HEADER, Decoder, Origin, Record
from streammeta.service.id_join import IdJoin
from streammeta.service.metrics import Metrics
from streammeta.service.repartition import Repartition, event_sender, label_sender
from streammeta.transport.base import Message
from streammeta.transport.memory_log import MemoryLog, MemoryMember, MemoryTransactionalSink

SETTINGS = Settings(
    input={"topic": "orders", "repartition": True},
    labels={"topic": "returns", "join": "id", "fields": {"id": "order", "label": "returned"}},
)
SEND_LABEL = label_sender(label_reader(SETTINGS), by_id=True)


def event(id_: str, task: str) -> Message:
    value = json.dumps({"id": id_, "task": task, "x": [1]}).encode()
    _, note = event_sender(Decoder(), notes_ids=True)(Record(value, Origin("orders", 0, 0), b"k"))
    return note


def label(id_: str, y: object = 1, key: bytes | None = b"k") -> Message:
    value = json.dumps({"order": id_, "returned": y}).encode()
    (message,) = SEND_LABEL(Record(value, Origin("returns", 2, 9), key, (("h", b"v"),)))
    return message


def take(join: IdJoin, *given: Message, begin: int = 0) -> list[Message]:
    return [
        message
        for offset, one in enumerate(given, begin)
        for message in join.take(Record(one.value, Origin("app-ids", 0, offset), one.key, one.headers))
    ]


def reason(message: Message) -> str:
    return dict(message.headers)[LABEL_HEADER].decode()


def test_a_label_goes_to_the_task_of_its_event_before_it_or_after() -> None:
    """Keyed by order, in a topic of its own: nobody but the join knows whose it is."""
    early, late = take(IdJoin(10), label("o1"), event("o1", "Köln"), event("o2", "b"), label("o2", 0))

    assert [(json.loads(one.value or b""), one.key) for one in (early, late)] == [
        ({"id": "o1", "task": "Köln", "y": 1}, "Köln".encode()),
        ({"id": "o2", "task": "b", "y": 0}, b"b"),
    ]
    assert early.headers == ((ORIGIN_HEADER, b"returns/2/9"), (LABEL_HEADER, b""))


def test_an_id_of_two_tasks_is_refused_as_it_came_with_the_reason() -> None:
    """Learned in either, it would be wrong in half of the cases, and nobody would know."""
    (refused,) = take(IdJoin(10), event("1", "a"), event("1", "b"), label("1"))

    assert "'1' without a task, but events of that id are in 2 tasks (task 'a', task 'b'); name the `task`" in reason(
        refused
    )
    assert (refused.value, refused.key) == (b'{"order": "1", "returned": 1}', b"k")
    assert [name for name, _ in refused.headers] == ["h", ORIGIN_HEADER, LABEL_HEADER]


def test_what_waits_longer_than_the_window_is_refused_and_forgotten() -> None:
    """A stream of labels without events would fill the memory."""
    join = IdJoin(5)

    out = take(join, label("never"), label("o1"), *(event(f"e{i}", "a") for i in range(4)), label("e0"))
    assert [one.key for one in out] == [b"k", b"a"]
    assert (
        reason(out[0])
        == "a label for id 'never' and no event of that id came, before it or after ([memory] max_waiting)"
    )
    assert join.waiting == 1

    assert [one.key for one in take(join, event("z", "a"), label("e0"), label("e2"), begin=7)] == [b"k", b"a"]
    assert len(join._partitions[0].tasks) == 3, "e2, e3 and z"
    join.forget(0)
    assert join.waiting == 0


def test_what_is_remembered_hangs_on_the_last_two_windows_only() -> None:
    """Who takes a partition over reads no more than these again; a log of a week would take an hour."""
    draw, window = random.Random(3), 6
    given = [(event if draw.random() < 0.5 else label)(f"o{draw.randrange(12)}", draw.choice("ab")) for _ in range(300)]
    whole = IdJoin(window)
    by_offset = [take(whole, one, begin=offset) for offset, one in enumerate(given)]

    for start in range(2 * window + 1, 300, 7):
        begin = start - 2 * window - 1
        later = IdJoin(window)
        take(later, *given[begin:start], begin=begin)
        assert [take(later, one, begin=offset) for offset, one in enumerate(given[start:], start)] == by_offset[start:]


def test_a_label_without_id_or_value_says_what_it_lacks() -> None:
    """A remedy that names the task would be wrong here."""
    (message,) = SEND_LABEL(Record(b'{"returned": 1}', Origin("returns", 0, 0)))

    assert reason(message) == (
        "a label from a topic of its own has no id; wanted label and id: name their fields in [labels.fields]"
    )


class Killed(BaseException):
    """The process is gone: nothing may catch it."""


def filled(log: MemoryLog) -> MemoryLog:
    """Every label stands 40 offsets behind or before its event; a third of the tasks share an id with another."""
    notes = [event(f"o{i}", f"t{i % 3}") for i in range(60)]
    labels = [label(f"o{i}", i) for i in range(60)]
    for one in (*labels[:20], *notes, *labels[20:]):
        log.append(one.value, 0, one.key, one.headers)
    return log


def forward(log: MemoryLog, name: str, metrics: Metrics | None = None, *, window: int = 60) -> None:
    join = IdJoin(window)
    running = Repartition(
        MemoryTransactionalSink(log, name), join.take, join=join, commit_every_seconds=0.0, metrics=metrics
    )
    source = Few(
        log,
        name,
        on_revoked=running.revoked,
        on_assigned=running.assigned,
        on_lost=running.lost,
        on_coming=running.coming,
    )
    running.run(source, threading.Event())
    source.close()


class Few(MemoryMember):
    """Seven records a poll, and once no answer where to go back to."""

    asked = 0

    def poll(self, max_records: int, timeout_seconds: float):
        return super().poll(min(7, max_records), timeout_seconds)

    def rewind(self) -> None:
        Few.asked += 1
        if Few.asked == 1:
            raise TransactionError("no answer")
        super().rewind()


@pytest.mark.parametrize("point", ["after poll", "before send", "before commit", "after commit"])
@pytest.mark.parametrize("fault", [Killed(), TransactionError("nobody knows")])
@pytest.mark.parametrize("times", [1, 8, 14])
def test_each_label_goes_on_once_whoever_dies_and_whenever(point: str, fault: BaseException, times: int) -> None:
    """Who takes over knows only what the log says: a label that it joins again is learned twice, one that it takes for
    new waits for ever."""
    passed = Counter[str]()

    def at(passing: str) -> None:
        passed[passing] += 1
        if passing == point and passed[passing] == times:
            raise fault

    log, metrics = filled(MemoryLog("ids", at=at)), Metrics(CollectorRegistry())
    Few.asked = 0

    with suppress(Killed):
        forward(log, "a")
    log.leave("a")
    forward(log, "b", metrics)

    sent = [json.loads(entry.value or b"") for _, entry in log.read("repartition", 0)]
    assert sorted(one["y"] for one in sent) == list(range(60))
    assert {one["y"]: one["task"] for one in sent} == {i: f"t{i % 3}" for i in range(60)}
    assert all(not dict(entry.headers)[LABEL_HEADER] for _, entry in log.read("repartition", 0))
    assert log.open_transactions == []


def test_labels_that_were_joined_or_not_are_counted() -> None:
    """Of a stream whose labels find no event, an operator must see it."""
    log, registry = filled(MemoryLog("ids")), CollectorRegistry()
    for one in (event("o59", "other"), label("o59")):
        log.append(one.value, 0, one.key, one.headers)

    forward(log, "a", Metrics(registry))

    counts = {
        result: registry.get_sample_value("streammeta_joined_labels_total", {"result": result})
        for result in ("joined", "refused")
    }
    assert counts == {"joined": 60.0, "refused": 1.0}


def test_a_label_whose_event_the_logs_retention_may_have_deleted_says_so() -> None:
    """It was joined by the member before: "no event came" would be wrong, and an operator looks for it."""
    window, log = 20, MemoryLog("ids")
    given = [event("o", "a"), *(event(f"e{i}", "a") for i in range(5)), label("o")]
    many = [[event(f"{name}{i}", "a") for i in range(25)] for name in "fg"]
    later = [label("p"), *many[0], label("never"), *many[1]]
    for one in given:
        log.append(one.value, 0, one.key, one.headers)
    forward(log, "a", window=window)
    log.leave("a")
    for one in later:
        log.append(one.value, 0, one.key, one.headers)
    log.delete_before(0, 3)

    forward(log, "b", window=window)

    joined, *refused = (dict(entry.headers)[LABEL_HEADER].decode() for _, entry in log.read("repartition", 0))
    assert joined == ""
    cut = "is known: its event may have been before offset 3 of NAME-ids, where the topic's retention cut it"
    assert [(one.split()[4], cut in one) for one in refused] == [("'o'", True), ("'p'", True), ("'never'", False)]
