"""Whoever can write to a topic must not be able to run code here, nor bring the engine down without a word."""

import random
from collections.abc import Iterator

import pytest

from streammeta.engine import Engine
from streammeta.engine.handover.record import Key, parse_key
from streammeta.engine.weights import decode_weights, encode_weights
from streammeta.errors import EventError, SnapshotError
from streammeta.event import Decoder, Event, Origin, Record
from tests.faults.mutations import SETTINGS, eventful, mutated


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    one = eventful()
    yield one
    one.close()


@pytest.fixture(scope="module")
def records(engine: Engine) -> dict[bytes, bytes]:
    return {key: value for _, key, value in engine.handover().changes() if value is not None}


@pytest.mark.parametrize(
    "key",
    [Key("task", 0, ""), Key("task", 0, "a:b"), Key("page", 17, "3:x"), Key("wait", 0, "é"), Key("schema", 0, "00")],
)
def test_keys_come_back_whatever_a_tag_holds(key: Key) -> None:
    """A colon in a producer's tag must not make it another task's record."""
    assert parse_key(key.encode(), "here") == key


@pytest.mark.parametrize("raw", [None, b"", b"foreign", b"page:x:a", b"page:-1:a", b"task\xff:a", b"page:\xc2\xb2:a"])
def test_keys_that_are_not_ours_are_refused(raw: bytes | None) -> None:
    """A state topic that another application writes to is no state topic of ours."""
    with pytest.raises(SnapshotError, match="which streammeta did not write"):
        parse_key(raw, "state/0")


def test_records_of_another_version_are_refused_by_their_format(records: dict[bytes, bytes]) -> None:
    """After an upgrade it must be plain that nothing is damaged, and what can be done."""
    old = {key: value[:1] + b"\x01" + value[2:] for key, value in records.items()}
    with pytest.raises(
        SnapshotError, match=r"format 5 \(it is of format 1, which another version.*another \[app\] name"
    ):
        taken(old)


def taken(records: dict[bytes, bytes]) -> Engine:
    """A fresh engine with these records, that has worked with them."""
    fresh = Engine(SETTINGS)
    try:
        for _ in fresh.handover().take(0, records, "state/0"):
            pass
        fresh.step([Event({"a": 1.0, "b": 0.0}, f"t{i}", Origin("in", 0, i), y=i) for i in range(2)])
    finally:
        fresh.close()
    return fresh


def test_mutated_task_records_are_refused_with_a_reason_or_harmless(records: dict[bytes, bytes]) -> None:
    """2,000 of the million that `make fuzz` tries: no crash, no code run, and never an error without its place."""
    source = random.Random(11)
    keys, reasons = list(records), []
    for _ in range(1_000):
        key = source.choice(keys)
        try:
            taken(records | {key: mutated(records[key], source)})
        except SnapshotError as err:
            reasons.append(str(err))
    assert len(reasons) > 500
    places = ("state/0", "drift detector of row")
    assert [reason for reason in reasons if not reason.startswith(places)] == []


def test_mutated_weights_are_refused_with_a_reason_or_harmless(engine: Engine) -> None:
    """θ of a wrong shape would make compiled code read beyond its arrays."""
    source, reasons = random.Random(12), []
    value = encode_weights(engine.shared_weights())
    for _ in range(2_000):
        fresh = Engine(SETTINGS)
        try:
            fresh.adopt(decode_weights(mutated(value, source), "weights/0"), train=True)
            fresh.step([Event({"a": 1.0, "b": 0.0}, "t", Origin("in", 0, i), y=i % 2) for i in range(3)])
        except SnapshotError as err:
            reasons.append(str(err))
        finally:
            fresh.close()
    assert len(reasons) > 200
    places = ("weights/0", "the saved weights", "the published weights", "the published theta was made with")
    assert [reason for reason in reasons if not reason.startswith(places)] == []


def test_mutated_sums_are_refused_with_a_reason_or_harmless(engine: Engine) -> None:
    """A normalization that is no number would make every prediction one."""
    source, reasons = random.Random(14), []
    ((_, value),) = list(engine.changed_sums())
    for _ in range(2_000):
        fresh = Engine(SETTINGS)
        try:
            record = fresh.add_sums(0, mutated(value, source), "weights/0")
            fresh.own_sums([0], {0: record})
            fresh.step([Event({"a": 1.0, "b": 0.0}, "t", Origin("in", 0, i), y=i % 2) for i in range(3)])
        except SnapshotError as err:
            reasons.append(str(err))
        finally:
            fresh.close()
    assert len(reasons) > 200
    assert [reason for reason in reasons if not reason.startswith("weights/0")] == []


def test_mutated_input_records_are_refused_with_a_reason_or_read() -> None:
    """Every topic has somebody who writes nonsense to it some day."""
    source, decoder = random.Random(13), Decoder()
    value = (
        b'{"id": "7", "task": "store-17", "ts": 1732147200.1, "x": {"price": 1.2, "colour": "red", "n": null}, "y": 1}'
    )
    reasons = []
    for i in range(20_000):
        try:
            decoder.decode(Record(mutated(value, source), Origin("in", 0, i)))
        except EventError as err:
            reasons.append((i, str(err)))
    assert len(reasons) > 5_000
    assert [reason for i, reason in reasons if not reason.startswith(f"in/0/{i}: ")] == []
