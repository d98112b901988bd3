"""Members that keep their events, and their trainer: θ out of changes, and nothing of an event on the way."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace as replaced
from prometheus_client import CollectorRegistry

from streammeta.engine import Engine, EngineSettings
from streammeta.engine.episodes import UPDATE
from streammeta.engine.update import Update, decode_update, encode_update
from streammeta.engine.weights import Weights, decode_weights, encode_weights
from streammeta.errors import SnapshotError, TransactionError
from streammeta.meta.privacy import Budget
from streammeta.service.http import Health
from streammeta.service.metrics import Metrics
from streammeta.service.published import PINNED
from streammeta.service.trainer import TRAINER, Trainer, TrainerOptions
from streammeta.service.updates import BUDGET
from streammeta.transport.base import Message
from streammeta.transport.memory_log import MemoryChangelogReader, MemoryLog, MemoryTransactionalSink
from tests.service.test_exactly_once import Clock, Faults, Killed, Worker
from tests.service.test_members import PARTITIONS, TASKS, error_of, fill
from tests.service.test_trainer import Training as TrainingOfEpisodes

SECONDS = 30.0


def settings(**privacy: Any) -> EngineSettings:
    meta = {"trainer": "separate", "share": "updates", "local_steps": 4}
    privacy = {"noise_multiplier": 0.0} | privacy
    return EngineSettings.model_validate({"meta": meta | {"privacy": privacy}, "learner": {"experts": ()}})


PLAIN = settings()
PRIVATE = settings(noise_multiplier=6.0, epsilon=4.0)


class Training:
    """A `streammeta train` whose members keep their events, moved round by round."""

    def __init__(self, log: MemoryLog, chosen: EngineSettings = PLAIN) -> None:
        clock = Clock()
        clock.step = 0.01
        self.metrics = Metrics(CollectorRegistry())
        self.trainer = Trainer(
            lambda: Engine(chosen),
            MemoryTransactionalSink(log, TRAINER),
            MemoryChangelogReader(log),
            options=TrainerOptions(
                name="app", partitions=log.partitions, publish_every_seconds=0.0, poll_seconds=0.0, round_seconds=0.5
            ),
            metrics=self.metrics,
            health=Health(clock),
            clock=clock,
            wall=lambda: 1.7e9 + clock.now,
        )
        self.trainer.begin()

    def rounds(self, count: int = 1) -> None:
        for _ in range(count):
            self.trainer.turn(threading.Event())


class Faulty:
    """A trainer that meets faults; nobody else does."""

    def __init__(self, log: MemoryLog, trainer: Training, faults: Faults) -> None:
        self._log, self._trainer, self._faults = log, trainer, faults

    def rounds(self, count: int) -> None:
        self._log.at = self._faults
        try:
            self._trainer.rounds(count)
        finally:
            self._log.at = lambda _: None


def member(log: MemoryLog, name: str, chosen: EngineSettings = PLAIN, **options: Any) -> Worker:
    given = {"partitions": log.partitions, "trainer": "separate", "updates_every_seconds": 0.0, "poll_records": 50}
    return Worker(log, name, chosen, **given | options)


def count(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


def versions(log: MemoryLog) -> list[Weights]:
    return [decode_weights(e.value or b"", "here") for _, e in log.read("weights", 0) if e.key == b"theta"]


def sent(log: MemoryLog) -> list[Update]:
    entries = [e for number in range(log.partitions) for _, e in log.read("episodes", number)]
    assert {e.key for e in entries} <= {UPDATE}
    return [decode_update(e.value or b"", "here") for e in entries]


def fill_two(log: MemoryLog, count: int) -> None:
    """Events of eight tasks in two partitions."""
    random = np.random.default_rng(5)
    for i in range(count):
        task, (a, b) = i % 8, random.normal(size=2)
        event = {"task": f"t{task}", "x": {"a": float(a), "b": float(b)}, "y": int(a * (task % 3 - 1) + b > 0)}
        log.append(json.dumps(event).encode(), task % 2, f"t{task}".encode())


def until(condition: Callable[[], bool], *running: Worker | Training | Faulty) -> None:
    """Go round until it holds; members wait for their local steps, or events would be over before these are."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        for one in running:
            one.rounds(1)
            steps = one.service._updates._worker if isinstance(one, Worker) else None  # type: ignore[union-attr]
            while steps is not None and steps.busy and steps._ended.empty():
                time.sleep(0.001)


def done(log: MemoryLog, group: list[Worker]) -> bool:
    waits = any(sum(one.member.lag().values()) for one in group)
    return not waits and all(one.member.assigned() for one in group)


def caught_up(log: MemoryLog, group: list[Worker]) -> bool:
    """All is learned, and all have the θ that was published last."""
    return done(log, group) and {one.engine.stats().theta_version for one in group} == {versions(log)[-1].version}


def in_theta(log: MemoryLog) -> int:
    """Changes that the last θ includes: those before the offsets in it."""
    entries = {number: [offset for offset, _ in log.read("episodes", number)] for number in range(log.partitions)}
    return sum(offset < end for number, end in versions(log)[-1].about.positions for offset in entries[number])


def test_members_learn_one_theta_and_no_record_of_it_has_anything_of_an_event() -> None:
    """What the whole of it is for; looked for in the bytes as they are there. Values of categories count as names."""
    log = MemoryLog("in", PARTITIONS)
    truth = fill(log, 5_000)
    group, trainer = [member(log, name, updates_every_seconds=0.05) for name in "ab"], Training(log)

    until(lambda: done(log, group) and len(versions(log)) > 6, *group, trainer)
    until(lambda: caught_up(log, group), *group)
    for one in group:
        one.service._commit()

    alone = MemoryLog("in", PARTITIONS)
    fill(alone, 5_000)
    Worker(alone, "a", PLAIN, poll_records=50, partitions=PARTITIONS).run()
    assert error_of(log, truth) <= error_of(alone, truth) + 0.02
    assert {number for one in sent(log) for number in one.partitions} == set(range(PARTITIONS))
    assert {e.key for _, e in log.read("weights", 0)} <= {b"theta", b"trainer", *(b"kept:%d" % i for i in range(30))}
    shared = b"".join(log.values("weights") + log.values("episodes"))
    raw = [json.loads(value)["x"] for value in log.values("in")]
    values = [value for x in raw for value in x.values() if isinstance(value, float)]
    for one in group:  # what the member knows of its own tasks together
        values += [float(mean) for mean in one.engine.memory.shared.frame.shared.shift if mean]
    assert len(values) > 9_000
    assert not [value for value in values if np.float64(value).tobytes() in shared]
    headers = [encode_update(one._replace(delta={})) for one in sent(log)]  # in arrays three bytes are there by chance
    headers += [encode_weights(replace(one, arrays={})) for one in versions(log)]
    assert not [number for number in range(10, TASKS) if any(b"t%d" % number in header for header in headers)]


@pytest.mark.parametrize("point", ["before send", "before commit", "after commit"])
def test_a_trainer_that_dies_takes_each_change_once(point: str) -> None:
    """Its offsets say what is in θ: one taken twice would count double, one left out is work of a member for nothing."""
    log = MemoryLog("in", PARTITIONS)
    fill(log, 3_000)
    group, trainer = [member(log, name) for name in "ab"], Training(log)
    until(lambda: len(versions(log)) > 4, *group, trainer)
    faults = Faults({(point, 1): Killed()})
    with pytest.raises(Killed):
        until(lambda: not faults.plan, *group, Faulty(log, trainer, faults))
    before = versions(log)[-1].version

    later = Training(log)
    until(lambda: done(log, group) and versions(log)[-1].version > before + 3, *group, later)

    assert versions(log)[-1].about.segments == in_theta(log) > 4
    numbers = [one.version for one in versions(log)]
    assert numbers == sorted(set(numbers))
    assert not count(later.metrics, "streammeta_updates_refused_total", reason="version")


def test_a_change_counts_with_its_members_transaction() -> None:
    """It is of events that count then; where the transaction fails, they are read again, and so it would come twice."""
    log = MemoryLog("in", PARTITIONS)
    truth = fill(log, 3_000)
    one, trainer = member(log, "a"), Training(log)
    until(lambda: len(sent(log)) > 2, one, trainer)
    log.at = Faults({("before commit", n): TransactionError("no") for n in (1, 4)})

    until(lambda: done(log, [one]) and len(sent(log)) > 8, one, trainer)
    one.service._commit()

    assert (
        count(one.metrics, "streammeta_transactions_total", result="failed")
        + count(trainer.metrics, "streammeta_transactions_total", result="failed")
        == 2
    )
    assert count(one.metrics, "streammeta_updates_total", fate="sent") == len(sent(log))
    assert error_of(log, truth) < 0.5


def test_who_takes_a_partition_over_goes_on_with_its_normalization() -> None:
    """It is in no shared topic; without it each rebalance would begin the scale of all tasks again."""
    log = MemoryLog("in", 2)
    fill_two(log, 600)
    one = member(log, "a")
    until(lambda: done(log, [one]), one)
    one.service._commit()
    before, scale = one.engine.memory.sums.total, one.engine.memory.shared.frame.shared
    log.leave("a")

    later = member(log, "b")
    until(lambda: later.engine.stats().tasks == 8, later)
    later.rounds(2)

    assert later.engine.memory.sums.total == before == 600
    np.testing.assert_array_equal(later.engine.memory.shared.frame.shared.shift, scale.shift)
    assert not [e for _, e in log.read("weights", 0)]


def test_while_theta_is_pinned_nobody_sends_or_publishes_and_then_it_goes_on() -> None:
    """An operator went back to a version: a change made meanwhile, of the θ that was left, would undo that."""
    log = MemoryLog("in", PARTITIONS)
    fill(log, 3_000)
    one, trainer = member(log, "a"), Training(log)
    until(lambda: len(versions(log)) > 3, one, trainer)
    pinned = replace(versions(log)[1], about=replaced(versions(log)[1].about, provenance="rollback", by="operator"))
    log.write("weights", 0, Message("weights", encode_weights(pinned), PINNED), None)
    until(lambda: one.engine.stats().theta_version == pinned.version, one, trainer)
    one.rounds(3)
    before = len(sent(log)), len(versions(log))

    for _ in range(20):
        one.rounds(1)
        trainer.rounds(1)

    assert (len(sent(log)), len(versions(log))) == before
    log.write("weights", 0, Message("weights", None, PINNED), None)
    until(lambda: done(log, [one]) and len(versions(log)) > before[1] + 2, one, trainer)
    assert one.engine.stats().theta_version > pinned.version


def test_what_a_trainer_cannot_use_is_counted_and_it_goes_on() -> None:
    """One member with other settings, or of another version, must not end the training of all."""
    log = MemoryLog("in", PARTITIONS)
    fill(log, 2_000)
    one, trainer = member(log, "a"), Training(log)
    until(lambda: len(sent(log)) > 2, one, trainer)
    last = sent(log)[-1]
    other = last._replace(settings=last.settings | {"learner.hidden": 7})
    poison = last._replace(delta={name: np.full_like(p, np.nan) for name, p in last.delta.items()})
    wrong = [
        (UPDATE, encode_update(other)),
        (UPDATE, b"damaged"),
        (b"t1#0", b"a segment"),
        (UPDATE, encode_update(poison)),
    ]
    for key, value in wrong:
        log.write("episodes", 0, Message("episodes", value, key), None)

    until(lambda: done(log, [one]) and len(versions(log)) > 9, one, trainer)

    refused = {
        reason: count(trainer.metrics, "streammeta_updates_refused_total", reason=reason)
        for reason in ("settings", "damaged", "episodes")
    }
    assert refused == {"settings": 1, "damaged": 1, "episodes": 1}
    assert all(np.isfinite(p).all() for p in versions(log)[-1].arrays.values() if p.dtype.kind == "f")


def test_a_trainer_of_episodes_says_that_a_member_sends_changes() -> None:
    """Half of the members with one setting, half with the other: θ would be learned of one half only, and none would see it."""
    log = MemoryLog("in", 1)
    episodes = EngineSettings.model_validate({"meta": {"trainer": "separate"}})
    trainer = TrainingOfEpisodes(log, episodes)
    log.write("episodes", 0, Message("episodes", b"whatever", UPDATE), None)

    with pytest.raises(SnapshotError, match=r"share"):
        trainer.rounds(5)


# -- with noise --------------------------------------------------------------------------------------------------------


def budgets(log: MemoryLog) -> list[list[Budget]]:
    """Of each partition, its budgets as they were kept, in order."""
    found = [[e.value for _, e in log.read("state", number) if e.key == BUDGET] for number in range(log.partitions)]
    return [[Budget.decode(value or b"", "here") for value in values] for values in found]


def steps(budget: Budget) -> int:
    return sum(one.steps for one in budget.spent)


def test_what_is_private_is_paid_for_before_it_is_sent_and_ends_with_the_budget() -> None:
    """ε is a promise: one change too many breaks it, and who reads the topic has it for ever."""
    log = MemoryLog("in", 2)
    fill_two(log, 600)
    one, trainer = member(log, "a", PRIVATE), Training(log, PRIVATE)
    withheld = lambda: count(one.metrics, "streammeta_updates_total", fate="withheld") > 0  # noqa: E731

    until(withheld, one, trainer)

    changes = [update for update in sent(log) if update.delta]
    for kept in budgets(log):
        assert kept[-1].cost <= 4.0
        assert steps(kept[-1]) == 4 * len(changes)
        assert len(kept) == len(changes) > 3
    assert {update.weight for update in changes} == {0}
    assert count(one.metrics, "streammeta_privacy_epsilon") == pytest.approx(budgets(log)[0][-1].cost)
    later = member(log, "a", PRIVATE)  # it is back, and has not forgotten
    until(lambda: count(later.metrics, "streammeta_updates_total", fate="withheld") > 0, later, Training(log, PRIVATE))
    assert len([update for update in sent(log) if update.delta]) == len(changes)


def test_a_crash_between_paying_and_sending_costs_budget_and_never_privacy() -> None:
    """Steps that are made again have other noise: each of them is paid for."""
    log = MemoryLog("in", 2)
    fill_two(log, 600)
    one, trainer = member(log, "a", PRIVATE), Training(log, PRIVATE)
    until(lambda: bool(budgets(log)[0]), one, trainer)
    log.leave("a")

    later, other = member(log, "b", PRIVATE), Training(log, PRIVATE)
    until(lambda: any(update.delta for update in sent(log)), later, other)

    changes = [update for update in sent(log) if update.delta]
    assert steps(budgets(log)[0][-1]) == 4 * (len(changes) + 1)
