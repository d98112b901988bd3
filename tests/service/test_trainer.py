"""A trainer as a process of its own: everybody's episodes in, θ out; whatever becomes of it, members go on."""

import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from streammeta.engine import Engine, EngineSettings
from streammeta.engine.weights import Weights, decode_weights, encode_weights
from streammeta.errors import SnapshotError, TransportError
from streammeta.service.http import Health
from streammeta.service.metrics import Metrics
from streammeta.service.published import History
from streammeta.service.trainer import TRAINER, Trainer, TrainerOptions
from streammeta.transport.base import Message
from streammeta.transport.memory_log import MemoryChangelogReader, MemoryLog, MemoryTransactionalSink
from tests.service.test_exactly_once import Clock, Faults, Killed, Worker, published
from tests.service.test_members import PARTITIONS, error_of, fill

SETTINGS = EngineSettings.model_validate({"meta": {"mode": "sync", "trainer": "separate"}})
NO_THETA = b"no theta"


class Training:
    """A `streammeta train` that is moved round by round."""

    def __init__(self, log: MemoryLog, settings: EngineSettings = SETTINGS) -> None:
        clock = Clock()
        clock.step = 0.01
        self.metrics = Metrics(CollectorRegistry())
        self.trainer = Trainer(
            lambda: Engine(settings),
            MemoryTransactionalSink(log, TRAINER),
            MemoryChangelogReader(log),
            options=TrainerOptions(name="app", partitions=log.partitions, publish_every_seconds=0.1, poll_seconds=0.0),
            metrics=self.metrics,
            health=Health(clock),
            clock=clock,
            wall=lambda: 1.7e9 + clock.now,
        )
        self.trainer.begin()

    def rounds(self, count: int = 1) -> None:
        for _ in range(count):
            self.trainer.turn(threading.Event())

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


def members(log: MemoryLog, count: int, **options: Any) -> list[Worker]:
    chosen = {"poll_records": 50, "save_every_seconds": 0.02, "partitions": log.partitions, "trainer": "separate"}
    return [Worker(log, f"m{i}", SETTINGS, **chosen, **options) for i in range(count)]


def versions(log: MemoryLog) -> list[Weights]:
    """Every θ that was published, in order."""
    return [decode_weights(e.value or b"", "here") for _, e in log.read("weights", 0) if e.key == b"theta"]


def serve(log: MemoryLog, group: list[Worker], trainer: Training | None, rounds: int) -> None:
    for _ in range(rounds):
        for one in group:
            one.rounds(1)
        if trainer is not None:
            trainer.rounds(1)


def disturbed(log: MemoryLog, group: list[Worker], trainer: Training, faults: Faults) -> None:
    """Go round until the trainer, and nobody else, meets its fault."""
    for _ in range(60):
        serve(log, group, None, 1)
        log.at = faults
        try:
            trainer.rounds(1)
        finally:
            log.at = lambda _: None


def backlog(group: list[Worker]) -> bool:
    return any(sum(one.member.lag().values()) for one in group) or not all(one.member.assigned() for one in group)


def test_members_with_a_trainer_elsewhere_predict_as_well_as_one_that_trains_itself() -> None:
    """Members then only serve; what they predict by must still come from all tasks."""
    alone = MemoryLog("in", PARTITIONS)
    truth = fill(alone, 5_000)
    Worker(alone, "a", SETTINGS, poll_records=50, save_every_seconds=0.02, partitions=PARTITIONS).run()
    log = MemoryLog("in", PARTITIONS)
    fill(log, 5_000)
    group, trainer = members(log, 2), Training(log)

    while backlog(group):
        serve(log, group, trainer, 1)
    for one in group:
        one.service._commit()

    assert abs(error_of(log, truth) - error_of(alone, truth)) <= 0.02
    assert not any(one.service._leads for one in group)
    found = versions(log)
    assert len(found) > 10
    assert all(a.version < b.version for a, b in pairwise(found))
    assert all(one.about.loss is not None and one.about.judged >= 32 for one in found)
    adopted = {one.engine.stats().theta_version for one in group}
    assert adopted <= {one.version for one in found[-3:]}


def test_every_member_takes_twenty_versions_one_after_the_other_under_load() -> None:
    """A server that adopts one version and never a second looks well in every short test."""
    log = MemoryLog("in", PARTITIONS)
    fill(log, 8_000)
    group, trainer = members(log, 2), Training(log)
    trainer.trainer._options = replace(trainer.trainer._options, publish_every_seconds=0.0)
    seen: list[set[int]] = [set(), set()]

    while backlog(group) and min(map(len, seen)) < 21:
        serve(log, group, trainer, 1)
        for one, versions_of_one in zip(group, seen, strict=True):
            versions_of_one.add(one.engine.stats().theta_version)

    assert min(map(len, seen)) >= 21
    refused = [
        one.metrics.registry.get_sample_value("streammeta_theta_refused_total", {"reason": "worse"}) for one in group
    ]
    assert refused == [0, 0]


def test_without_a_trainer_members_go_on_with_the_theta_that_they_have() -> None:
    """Servers never wait for a trainer; how old their θ is has a metric."""
    log = MemoryLog("in", PARTITIONS)
    fill(log, 4_000)
    group, trainer = members(log, 2), Training(log)
    serve(log, group, trainer, 15)
    before = {one.engine.stats().theta_version for one in group}

    while backlog(group):
        serve(log, group, None, 1)
    for one in group:
        one.service._look(force=True)

    assert sum(log.end("in", n) for n in range(PARTITIONS)) == 4_000
    for one in group:
        one.service._commit()
    assert len(published(log)) == 4_000
    last = versions(log)[-1].version
    assert {one.engine.stats().theta_version for one in group} == {last}
    assert max(before) <= last
    assert all((one.metrics.registry.get_sample_value("streammeta_theta_age_seconds") or 0) > 1e6 for one in group)
    assert [one.metrics.registry.get_sample_value("streammeta_trains") for one in group] == [0.0] * len(group)
    assert trainer.count("streammeta_trains") == 1


@pytest.mark.parametrize("point", ["before send", "before commit", "after commit"])
def test_a_trainer_killed_anywhere_is_followed_by_one_that_learns_nothing_twice(point: str) -> None:
    """θ says up to which offsets it was learned: no segment may be in it twice, and no version comes again."""
    faults = Faults()
    log = MemoryLog("in", PARTITIONS)
    fill(log, 6_000)
    group = members(log, 2)
    for number in range(3):
        trainer = Training(log)
        faults.plan = {(point, faults.passed[point] + 3 + number): Killed()}
        with pytest.raises(Killed):
            disturbed(log, group, trainer, faults)
    last = Training(log)
    while backlog(group):
        serve(log, group, last, 1)
    last.rounds(60)

    found = versions(log)
    assert all(a.version < b.version for a, b in pairwise(found))
    about = found[-1].about
    offsets = dict(about.positions)
    written = sum(offset < offsets[n] for n in range(PARTITIONS) for offset, _ in log.read("episodes", n))
    assert about.segments == written > 100
    assert last.count("streammeta_episode_segments_total", fate="remembered") > 0


def test_the_trainer_that_starts_last_goes_on_and_the_other_ends_with_the_reason() -> None:
    """Two that change θ would tear it."""
    log = MemoryLog("in", PARTITIONS)
    fill(log, 2_000)
    group, first = members(log, 1), Training(log)
    serve(log, group, first, 10)
    second = Training(log)
    second.rounds(2)

    with pytest.raises(TransportError, match="another trainer has taken over"):
        first.rounds(50)

    serve(log, group, second, 20)
    assert versions(log)[-1].about.by == second.trainer._id


def test_a_trainer_that_was_only_fenced_goes_on() -> None:
    """A member that ends transactions of who is not in the group ends the trainer's, too."""
    log = MemoryLog("in", PARTITIONS)
    fill(log, 2_000)
    group, trainer = members(log, 1), Training(log)
    serve(log, group, trainer, 10)
    before = versions(log)[-1].version
    log.fence(TRAINER)

    serve(log, group, trainer, 25)

    assert versions(log)[-1].version > before
    assert trainer.count("streammeta_transactions_total", result="failed") == 1


def test_a_candidate_that_is_worse_on_newest_events_is_held_back() -> None:
    """Whatever spoils a meta-update, members must not get it; and training goes on from what they have."""
    log = MemoryLog("in", PARTITIONS)
    fill(log, 6_000)
    group, trainer = members(log, 1), Training(log)
    serve(log, group, trainer, 25)
    engine, before = trainer.trainer.engine, versions(log)[-1].version
    trainer.trainer._candidate = None
    state = engine.meta_state
    engine.memory.shared.adopt(state._replace(theta={name: -p for name, p in state.theta.items()}))

    serve(log, group, trainer, 12)

    assert trainer.count("streammeta_theta_judged_total", verdict="held_back") >= 1
    assert versions(log)[-1].version == before
    trainer.trainer._held_back = 19
    serve(log, group, trainer, 50)
    good = versions(log)[-1]
    assert good.version > before
    assert good.about.loss is not None
    assert good.about.loss < 1.0


def poisons(good: Weights) -> list[bytes]:
    """A published θ by hand: with its sign flipped, with NaN, random, and bytes that are no θ."""
    draw = np.random.default_rng(5)
    ways: list[Callable[[Any], Any]] = [
        lambda p: -p,
        lambda p: np.full_like(p, np.nan),
        lambda p: draw.normal(size=p.shape).astype(p.dtype),
    ]
    about = msgspec.structs.replace(good.about, by="hand")
    found = []
    for later, change in enumerate(ways, 1):
        arrays = {name: change(p) if name.startswith("theta.") else p for name, p in good.arrays.items()}
        shared = good.shared | {"version": good.version + later}
        found.append(encode_weights(replace(good, about=about, shared=shared, arrays=arrays)))
    return [*found, NO_THETA]


def test_a_poisoned_theta_by_hand_is_refused_by_the_trainer_too() -> None:
    """It would train on from it, and what it then publishes is as bad; a NaN ended it, and each one that came after."""
    log = MemoryLog("in", PARTITIONS)
    fill(log, 4_000)
    group, trainer = members(log, 2), Training(log)
    serve(log, group, trainer, 20)
    good = versions(log)[-1]

    for value in poisons(good):
        log.write("weights", 0, Message("weights", value, b"theta"), None)
        serve(log, group, trainer, 1)

    assert trainer.count("streammeta_theta_refused_total", reason="worse") == 2
    assert trainer.count("streammeta_theta_refused_total", reason="damaged") == 2
    refused = [one.metrics.registry.get_sample_value for one in group]
    assert [(r("streammeta_theta_refused_total", {"reason": "worse"})) for r in refused] == [2, 2]
    assert [(r("streammeta_theta_refused_total", {"reason": "damaged"})) for r in refused] == [2, 2]
    serve(log, group, trainer, 20)
    serve(log, group, None, 2)
    healed = [e.value or b"" for _, e in log.read("weights", 0) if e.key == b"theta"][-1]
    assert decode_weights(healed, "here").version > good.version + 3
    assert {one.engine.stats().theta_version for one in group} == {decode_weights(healed, "here").version}


def test_a_refused_theta_lends_predictions_neither_its_version_nor_its_number() -> None:
    """Members said that they predict with the version that they refused, went back by one, and did not see its namesake."""
    log = MemoryLog("in", PARTITIONS)
    fill(log, 4_000)
    group, trainer = members(log, 2), Training(log)
    serve(log, group, trainer, 20)
    good = versions(log)[-1]
    log.write("weights", 0, Message("weights", poisons(good)[0], b"theta"), None)  # the trainer has not seen it yet

    serve(log, group, None, 2)
    refused = [one.metrics.registry.get_sample_value for one in group]
    assert [get("streammeta_theta_refused_total", {"reason": "worse"}) for get in refused] == [1, 1]
    assert {one.engine.stats().theta_version for one in group} == {good.version}

    namesake = replace(good, shared=good.shared | {"version": good.version + 1})  # the trainer was about to publish it
    log.write("weights", 0, Message("weights", encode_weights(namesake), b"theta"), None)
    serve(log, group, None, 2)
    assert {one.engine.stats().theta_version for one in group} == {good.version + 1}


def test_a_trainer_that_starts_on_a_theta_of_nan_goes_on_from_one_that_was_kept() -> None:
    """Else it ends, and so does each one that is started after it, until somebody mends the topic by hand."""
    log = MemoryLog("in", PARTITIONS)
    fill(log, 3_000)
    group, first = members(log, 1), Training(log)
    first.trainer._history = History(4)
    serve(log, group, first, 25)
    good = versions(log)[-1]
    kept = [e.value or b"" for _, e in log.read("weights", 0) if (e.key or b"").startswith(b"kept:")]
    log.write("weights", 0, Message("weights", poisons(good)[1], b"theta"), None)

    second = Training(log)
    second.rounds(1)

    assert second.count("streammeta_theta_refused_total", reason="damaged") == 1
    assert second.trainer._version == decode_weights(kept[-1], "here").version
    assert second.trainer.engine.stats().theta_version > good.version  # no version comes twice
    bare = MemoryLog("in", PARTITIONS)
    bare.write("weights", 0, Message("weights", poisons(good)[1], b"theta"), None)
    with pytest.raises(SnapshotError, match="bad numbers"):
        Training(bare).rounds(2)


@pytest.mark.parametrize("later", [1, 10_000])  # as the next version, and as one that much could have happened before
def test_a_trainer_that_starts_on_a_poisoned_theta_goes_on_from_one_that_was_kept(later: int) -> None:
    """Its numbers are finite: members refused it, the trainer took it, and what it made of it was as bad for hours."""
    log = MemoryLog("in", PARTITIONS)
    fill(log, 4_000)
    group, first = members(log, 2), Training(log)
    first.trainer._history = History(4)
    serve(log, group, first, 25)
    good = versions(log)[-1]
    poison = decode_weights(poisons(good)[0], "here")
    poison = replace(poison, shared=poison.shared | {"version": good.version + later})
    log.write("weights", 0, Message("weights", encode_weights(poison), b"theta"), None)
    serve(log, group, None, 2)
    refused = [one.metrics.registry.get_sample_value for one in group]
    assert [get("streammeta_theta_refused_total", {"reason": "worse"}) for get in refused] == [1, 1]

    second = Training(log)
    serve(log, group, second, 30)

    assert second.count("streammeta_theta_refused_total", reason="worse") == 1
    healed = versions(log)[-1]
    assert healed.version > good.version + later
    assert healed.about.loss is not None
    assert healed.about.loss < 1.0
    serve(log, group, None, 2)
    assert {one.engine.stats().theta_version for one in group} == {healed.version}


def test_a_member_that_changes_theta_beside_the_trainer_is_named() -> None:
    """Settings that differ between processes: θ of one would overwrite that of the other, again and again."""
    log = MemoryLog("in", PARTITIONS)
    fill(log, 2_000)
    trainer = Training(log)
    trainer.rounds(2)
    alone = Worker(log, "a", SETTINGS, poll_records=50, save_every_seconds=0.02, partitions=PARTITIONS)
    alone.rounds(10)

    with pytest.raises(TransportError, match="a member changes θ, too"):
        trainer.rounds(20)


def test_versions_are_kept_and_a_pin_holds_for_all_until_it_is_released() -> None:
    """A rollback that the running trainer overwrites a second later is none."""
    log = MemoryLog("in", PARTITIONS)
    fill(log, 9_000)
    group, trainer = members(log, 2), Training(log)
    serve(log, group, trainer, 10)
    good = [e.value for _, e in log.read("weights", 0) if e.key == b"theta"][-1]
    version = decode_weights(good or b"", "here").version
    log.write("weights", 0, Message("weights", good, b"pinned"), None)

    serve(log, group, trainer, 20)

    assert {one.engine.stats().theta_version for one in group} == {version}
    assert len([one for one in versions(log) if one.version > version]) <= 1  # what was under way
    newest = versions(log)[-1].version
    log.write("weights", 0, Message("weights", None, b"pinned"), None)
    serve(log, group, trainer, 30)
    assert versions(log)[-1].version > newest
    assert min(one.engine.stats().theta_version for one in group) > newest
    assert np.isfinite(trainer.trainer.engine.stats().theta_norm)


def test_a_pin_holds_for_a_member_that_trains_itself_too() -> None:
    """The same where no trainer is: the leader stops, and goes on when it is released."""
    log = MemoryLog("in", PARTITIONS)
    fill(log, 6_000)
    options = {"poll_records": 50, "save_every_seconds": 0.02, "partitions": PARTITIONS}
    group = [Worker(log, f"m{i}", SETTINGS, **options) for i in range(2)]
    serve(log, group, None, 10)
    good = [e.value for _, e in log.read("weights", 0) if e.key == b"theta"][-1]
    log.write("weights", 0, Message("weights", good, b"pinned"), None)

    serve(log, group, None, 10)

    pinned = decode_weights(good or b"", "here").version
    assert {one.engine.stats().theta_version for one in group} == {pinned}
    assert not any(one.service._leads for one in group)
    log.write("weights", 0, Message("weights", None, b"pinned"), None)
    serve(log, group, None, 10)
    assert [one.service._leads for one in group].count(True) == 1
    assert versions(log)[-1].version > pinned
