"""Several members serve one stream, and what they predict must not depend on how many they are."""

import json
from dataclasses import replace

import numpy as np
import pytest

from streammeta.engine import EngineSettings
from streammeta.engine.weights import decode_weights, encode_weights
from streammeta.transport.base import Message
from streammeta.transport.memory_log import MemoryLog
from tests.service.test_exactly_once import Worker, published

PARTITIONS, TASKS = 8, 32


def fill(log: MemoryLog, count: int, *, seed: int = 1) -> dict[str, int]:
    """Events of partitions that differ: in level, in the order in which names come, and in words of their own."""
    random, truth = np.random.default_rng(seed), dict[str, int]()
    concepts = random.normal(size=(TASKS, 2))
    offsets = [0] * PARTITIONS
    for i in range(count):
        task = int(random.integers(TASKS))
        partition = task % PARTITIONS
        a, b = random.normal(size=2)
        y = int(concepts[task] @ (a, b) > 0)
        names = ["a", "b", "shop"] if partition % 2 else ["shop", "b", "a"]
        own = {"a": partition + float(a), "b": 10.0 * float(b), "shop": f"shop-{partition}-{task % 3}"}
        x = {name: own[name] for name in names if i > 200 or name != names[partition % 3]}
        label = "up" if y else "down"
        event = {"task": f"t{task}", "x": x, "y": label}
        log.append(json.dumps(event).encode(), partition, f"t{task}".encode())
        truth[f"in/{partition}/{offsets[partition]}"] = y
        offsets[partition] += 1
    return truth


def error_of(log: MemoryLog, truth: dict[str, int]) -> float:
    """Over the second half of each partition."""
    found, wrong = published(log), list[bool]()
    for source, y in truth.items():
        partition, offset = source.rsplit("/", 1)
        if int(offset) >= log.end("in", int(partition.rsplit("/", 1)[1])) // 2:
            wrong.append(found[source]["prediction"] != ("up" if y else "down"))
    return float(np.mean(wrong))


def served_by(members: int, count: int) -> tuple[float, list[float], int]:
    """The error, the engines that each member made, and by how many versions of θ members were apart in the end."""
    log = MemoryLog("in", PARTITIONS)
    truth = fill(log, count)
    options = {"poll_records": 100, "save_every_seconds": 0.01, "partitions": PARTITIONS}
    group = [Worker(log, f"m{i}", EngineSettings(), **options) for i in range(members)]
    while any(sum(one.member.lag().values()) for one in group) or not all(one.member.assigned() for one in group):
        for one in group:
            one.rounds(1)
    for one in group:
        one.service._commit()
    for _ in range(3):
        for one in group:
            one.rounds(1)
    versions = [one.engine.stats().theta_version for one in group]
    made = [one.metrics.registry.get_sample_value("streammeta_engines_made_total") or 0.0 for one in group]
    return error_of(log, truth), made, max(versions) - min(versions)


@pytest.mark.parametrize("members", [2, 4, 8])
def test_the_error_does_not_depend_on_how_many_members_serve(members: int) -> None:
    """A follower that normalized only what the leader had seen was at chance; one that began again lost its time."""
    alone, made_alone, _ = served_by(1, 6_000)

    together, made, apart = served_by(members, 6_000)

    assert abs(together - alone) <= 0.01
    assert made == [1.0] * members
    assert made_alone == [1.0]
    assert apart == 0


def test_a_poisoned_theta_is_refused_by_who_serves_and_said() -> None:
    """Published by hand, or by a trainer gone wrong: predictions go on by the version before, and an alarm can see it."""
    log = MemoryLog("in", PARTITIONS)
    fill(log, 2_000)
    group = [Worker(log, f"m{i}", EngineSettings(), poll_records=50, save_every_seconds=0.01) for i in range(2)]
    for _ in range(12):
        for one in group:
            one.rounds(1)
    _, last = [entry for entry in log.read("weights", 0) if entry[1].key == b"theta"][-1]
    good = decode_weights(last.value or b"", "here")
    flipped = {name: -array if name.startswith("theta.") else array for name, array in good.arrays.items()}
    bad = replace(good, shared=good.shared | {"version": good.version + 1}, arrays=flipped)
    follower = next(one for one in group if not one.service._leads)
    before = follower.engine.stats().theta_norm
    log.write("weights", 0, Message("weights", encode_weights(bad), b"theta"), None)

    follower.service._follow()
    follower.service._commit()

    refused = follower.metrics.registry.get_sample_value("streammeta_theta_refused_total", {"reason": "worse"})
    assert refused == 1
    assert follower.engine.stats().theta_norm == before
    signals = [json.loads(value) for value in log.values("signals")]
    assert [s["reason"] for s in signals if s["signal"] == "theta_refused"] == ["worse"]
