"""θ in the topic: the large record where θ changed, a small one with every commit, and both when somebody goes on."""

import json

import numpy as np

from streammeta.engine import EngineSettings
from streammeta.engine.weights import decode_progress, decode_weights
from streammeta.testing import Driver, MemoryLog


def filled(events: int) -> MemoryLog:
    log = MemoryLog("events")
    for i in range(events):
        event = {"task": f"t{i % 5}", "x": {"a": float(i * 7 % 11), "b": float(i % 3)}, "y": i % 2, "id": str(i)}
        log.append(json.dumps(event).encode(), 0)
    return log


def written(log: MemoryLog, key: bytes) -> list[bytes]:
    return [entry.value or b"" for _, entry in log.read("weights", 0) if entry.key == key]


def settings(**meta: object) -> EngineSettings:
    return EngineSettings.model_validate({"meta": meta})


def test_theta_is_written_where_it_changed_and_not_every_second() -> None:
    """With both moments it is the largest record there is: 11 GB a day, written for nothing."""
    log = filled(900)
    driver = Driver(log, settings=settings(mode="off"), commit_every_seconds=0.005)
    driver.rounds(40)
    early = len(written(log, b"theta"))
    driver.finish()

    theta, progress = written(log, b"theta"), written(log, b"progress")
    assert len(progress) > 40
    assert len(theta) < 20 < 2 * len(progress)
    assert len(theta) - early < 10  # the normalization, each time the events have grown by a quarter
    assert len(progress[-1]) < len(theta[-1]) / 10
    assert len(set(theta)) == len(theta)


def test_who_goes_on_has_both() -> None:
    """Counts and draws of when θ was written last would let the next member repeat meta-updates, or leave some out."""
    log = filled(640)
    first = Driver(log, "first", settings=settings(mode="sync", every_events=48, tasks=2, length=16))
    first.rounds(150)
    first.leave()
    log.leave("first")
    theta, progress = (written(log, key)[-1] for key in (b"theta", b"progress"))
    second = Driver(log, "second", settings=settings(mode="sync", every_events=48, tasks=2, length=16))
    while not second.engine.tasks():
        second.rounds(1)

    weights, kept = decode_weights(theta, "theta"), decode_progress(progress, "progress")
    now = second.engine.shared_weights().progress
    assert weights.counts["seen"] < kept.counts["seen"]
    assert (now.version, now.counts, now.random) == (kept.version, kept.counts, kept.random)
    assert now.version == weights.version > 0
    for name, array in kept.arrays.items():
        np.testing.assert_array_equal(now.arrays[name], array)


def test_progress_of_another_theta_is_not_taken() -> None:
    """A θ that was put there by hand, an earlier one, has its own counts."""
    log = filled(600)
    driver = Driver(log, settings=settings(mode="sync", every_events=48, tasks=2, length=16))
    driver.finish()
    records = [decode_weights(value, "theta") for value in written(log, b"theta")]
    progress = decode_progress(written(log, b"progress")[-1], "progress")

    assert records[0].version < progress.version
    assert records[0].after(progress) is records[0]
    assert records[-1].after(progress).counts == progress.counts
    assert records[-1].after(None) is records[-1]
