"""Versions of θ as something one operates: kept, gone back to, pinned, released, taken in from a file."""

from pathlib import Path

import numpy as np
import pytest

from streammeta.app import theta
from streammeta.engine.weights import decode_weights, encode_weights
from streammeta.errors import ConfigError, SnapshotError, TransportError
from streammeta.service.published import History, Published
from streammeta.transport.base import Message
from streammeta.transport.memory_log import MemoryLog
from tests.service.test_exactly_once import SMALL, Worker
from tests.service.test_members import PARTITIONS, fill
from tests.service.test_trainer import SETTINGS, Training, members, serve, versions


def read(log: MemoryLog) -> Published:
    found = Published("weights/0")
    for _, entry in log.read("weights", 0):
        found.note(entry.key or b"", entry.value)
    return found


def write(log: MemoryLog, records: theta.Records) -> None:
    for key, value in records.items():
        log.write("weights", 0, Message("weights", value, key), None)


def trained(rounds: int = 12) -> tuple[MemoryLog, list[Worker], Training]:
    log = MemoryLog("in", PARTITIONS)
    fill(log, 9_000)
    group, trainer = members(log, 2), Training(log)
    serve(log, group, trainer, rounds)
    return log, group, trainer


def test_kept_versions_reach_back_twice_as_far_each() -> None:
    """A version a second would push out, in seconds, the one that somebody wants back after a bad day."""
    history, kept = History(6), dict[int, int]()
    for second in range(60, 200 * 60):
        slot = history.slot(float(second))
        if slot is not None:
            kept[slot] = second // 60

    assert kept == {0: 199, 1: 198, 2: 196, 3: 184, 4: 176, 5: 192}
    assert History(0).slot(6e9) is None


def test_a_rollback_is_a_new_version_that_all_adopt_and_nobody_overwrites() -> None:
    """Gone back to within two seconds, and still in force after the running trainer had time to overwrite it."""
    log, group, trainer = trained()
    published = read(log)
    (old, *_) = published.kept()
    serve(log, group, trainer, 8)

    write(log, theta.pinned(read(log), old.version, 1.8e9))
    back = read(log).newest
    serve(log, group, trainer, 1)
    assert {one.engine.stats().theta_version for one in group} == {back}
    serve(log, group, trainer, 12)

    assert {one.engine.stats().theta_version for one in group} == {back}
    found = read(log)
    assert found.theta is not None
    assert (found.theta.about.provenance, found.theta.about.of) == ("rollback", old.version)
    for one in group:
        np.testing.assert_array_equal(one.engine.meta_state.theta["b1"], old.arrays["theta.b1"])


def test_a_release_lets_training_go_on_from_the_version_gone_back_to() -> None:
    """What was pinned is the beginning of what comes, and not what was wrong before."""
    log, group, trainer = trained()
    write(log, theta.pinned(read(log), None, 1.8e9))
    serve(log, group, trainer, 3)
    pinned = read(log).newest

    write(log, theta.released(read(log), 1.8e9))
    serve(log, group, trainer, 25)

    newest = versions(log)[-1]
    assert newest.about.by == trainer.trainer._id
    assert newest.version > pinned + 1
    assert newest.about.segments >= versions(log)[0].about.segments
    assert min(one.engine.stats().theta_version for one in group) > pinned
    with pytest.raises(ConfigError, match="nothing is pinned"):
        theta.released(read(log), 1.8e9)


def test_what_is_taken_in_from_a_file_is_refused_by_members_where_it_is_poisoned(tmp_path: Path) -> None:
    """By hand as by a trainer gone wrong: signs flipped, random, not finite; predictions go on by the version before."""
    log, group, trainer = trained()
    theta.export(read(log), None, tmp_path / "good")
    with pytest.raises(TransportError, match="is not there yet"):
        theta.export(read(log), None, tmp_path / "good")
    good = decode_weights((tmp_path / "good").read_bytes(), "good")
    before = [one.engine.stats().theta_norm for one in group]
    random = np.random.default_rng(1)

    for name, spoil in {
        "flipped": lambda p: -p,
        "random": lambda p: random.normal(size=p.shape).astype(p.dtype),
        "nan": lambda p: p * np.float32("nan"),
    }.items():
        arrays = {key: spoil(p) if key.startswith("theta.") else p for key, p in good.arrays.items()}
        bad = encode_weights(theta.replace(good, arrays=arrays))
        write(log, theta.take_in(read(log), bad, name, 1.8e9))
        for one in group:
            one.service._follow()

    assert [one.engine.stats().theta_norm for one in group] == before
    refused = [
        sum(
            one.metrics.registry.get_sample_value("streammeta_theta_refused_total", {"reason": r}) or 0
            for r in ("worse", "damaged")
        )
        for one in group
    ]
    assert refused == [3, 3]
    write(log, theta.released(read(log), 1.8e9, discard=True))
    serve(log, group, trainer, 20)
    assert versions(log)[-1].about.by == trainer.trainer._id


def test_a_file_of_other_settings_is_refused_by_name() -> None:
    """θ of another shape cannot be served; better said before anybody pins it."""
    log, _, _ = trained()
    other = MemoryLog("in", 1)
    fill(other, 100)
    small = Worker(other, "a", SMALL)
    small.run()
    value = encode_weights(small.engine.shared_weights())

    with pytest.raises(SnapshotError, match=r"learner\.hidden"):
        theta.take_in(read(log), value, "file", 1.8e9)


def test_a_file_that_is_no_theta_is_said_to_be_none() -> None:
    """The advice for a topic, to delete it and begin again, would be a disaster for a wrong file name."""
    log, _, _ = trained()

    with pytest.raises(
        SnapshotError, match=r"^a\.txt: 6 bytes that are no θ.* wanted a file that `streammeta"
    ) as caught:
        theta.take_in(read(log), b"hallo\n", "a.txt", 1.8e9)

    assert "topic" not in str(caught.value)


def test_versions_are_listed_with_what_they_were_learned_from() -> None:
    """Which one to go back to, is asked on a bad day."""
    log, _, _ = trained()
    found = theta.versions(read(log))

    newest = found[0].figures()
    assert newest["in_force"]
    assert not newest["pinned"]
    assert isinstance(newest["held_out_loss"], float)
    assert isinstance(newest["segments"], int)
    assert newest["segments"] > 10
    apart = {
        name: (gap, norm)
        for name, gap, norm in theta.differences(read(log), found[0].weights.version, found[-1].weights.version)
    }
    assert all(gap >= 0 for gap, _ in apart.values())
    assert any(gap > 0 for gap, _ in apart.values()) or len(found) == 1
    with pytest.raises(ConfigError, match="is not kept"):
        theta.pinned(read(log), 10**6, 1.8e9)


def test_a_task_that_is_forgotten_is_forgotten_where_theta_is_learned_too() -> None:
    """Who asks for it means all of it: the topic of episodes, and the trainer's windows."""
    log, group, trainer = trained()
    key = next(k for k in trainer.trainer.engine.memory.exchange.known)
    owner = next(one for one in group if -1 - key[0] in {n for _, n in one.service._positions})

    assert owner.engine.forget(-1 - key[0], key[1])
    owner.service._changed = True
    owner.service._commit()
    trainer.rounds(5)

    assert key not in trainer.trainer.engine.memory.exchange.known
    newest = {e.key: e.value for _, e in log.read("episodes", -1 - key[0])}
    of_it = [value for k, value in newest.items() if (k or b"").startswith(f"{key[1]}#".encode())]
    assert of_it
    assert set(of_it) == {None}


def test_where_a_member_trains_the_version_in_force_is_named_too() -> None:
    """There what changes with every event is a record apart."""
    log = MemoryLog("in", PARTITIONS)
    fill(log, 1_500)
    alone = Worker(log, "a", poll_records=50, save_every_seconds=0.02, settings=SETTINGS, partitions=PARTITIONS)
    alone.rounds(20)

    found = theta.versions(read(log))

    assert [one.in_force for one in found] == [True] + [False] * (len(found) - 1)
    assert found[0].figures()["by"] == "member"
