"""Decisions on a log in memory: whatever fails, and wherever, every record has the action and propensity it had."""

import json
from typing import Any

import numpy as np
import pytest

from streammeta.decisions import DecisionEngine
from streammeta.engine import EngineSettings, MetaSettings
from streammeta.engine.settings import DecideSettings
from streammeta.errors import TransactionError
from streammeta.meta.settings import LearnerSettings
from streammeta.testing import CRASH_POINTS, Crash, Crashes, Driver, MemoryLog
from tests.faults.states import tasks_of

SMALL = EngineSettings(
    kind="regression",
    decide=DecideSettings(actions=("red", "blue", "green"), cost=0.2),
    learner=LearnerSettings(hidden=8, encoded=4, memories=(20.0,), members=1),
    meta=MetaSettings(mode="off"),
    memory={"window": 32},
)


def log_of(count: int, crashes: Crashes | None = None, partitions: int = 1) -> MemoryLog:
    """Events of five tasks; the reward of each comes some events later, all of it as it would on a topic."""
    log, random = MemoryLog("events", partitions, at=crashes or Crashes()), np.random.default_rng(2)
    late: list[dict[str, Any]] = []
    for i in range(count):
        task = int(random.integers(5))
        x = {name: float(random.standard_normal()) for name in "abc"}
        log.append(json.dumps({"id": f"e{i}", "task": f"t{task}", "ts": float(i), "x": x}).encode(), task % partitions)
        late.append({"id": f"e{i}", "y": float(x["a"] > 0) + task, "task": f"t{task}"})
        if len(late) > 9:
            label = late.pop(int(random.integers(9)))
            log.append(json.dumps(label).encode(), int(label["task"][1:]) % partitions)
    return log


def decided(log: MemoryLog) -> dict[str, dict[str, Any]]:
    """What was decided for each event; no event twice."""
    made = [json.loads(value) for value in log.values("predictions")]
    assert len({one["source"] for one in made}) == len(made)
    return {one["source"]: one for one in made}


def through(log: MemoryLog, settings: EngineSettings = SMALL) -> int:
    """Members come and go until one comes through; says how many it took."""
    for attempt in range(10):
        member = Driver(log, f"m{attempt}", settings, poll_records=(7, 11, 3)[attempt % 3])
        try:
            member.finish()
        except Crash:
            member.leave()
        else:
            return attempt + 1
    raise AssertionError("never came through")


@pytest.fixture(scope="module")
def expected() -> MemoryLog:
    log = log_of(160)
    through(log)
    return log


def test_a_record_says_what_was_chosen_and_how_likely_all_was(expected: MemoryLog) -> None:
    made = decided(expected)

    assert len(made) == 160
    for one in made.values():
        assert one["propensity"] == one["propensities"][one["action"]] > 0
        assert sum(one["propensities"].values()) == pytest.approx(1.0)
        assert set(one["scores"]) == {"red", "blue", "green"}
    assert len({one["action"] for one in made.values()}) == 3
    assert len({one["propensity"] for one in made.values()}) > 40


@pytest.mark.parametrize("fault", [Crash(), TransactionError("nobody knows")])
@pytest.mark.parametrize("point", CRASH_POINTS)
@pytest.mark.parametrize("passing", [1, 4])
def test_after_a_fault_at_any_point_no_action_and_no_propensity_differs(
    point: str, passing: int, fault: BaseException, expected: MemoryLog
) -> None:
    """What somebody acted upon stays true: other polls, another process, the same decisions; each reward learned once."""
    crashes = Crashes({(point, passing): fault})
    log = log_of(160, crashes)
    through(log)

    assert point == "during restore" or crashes.passed[point] > passing
    assert decided(log) == decided(expected)
    assert tasks_of(log, SMALL) == tasks_of(expected, SMALL)
    assert log.values("dead-letters") == []


def test_a_second_reward_is_set_aside_also_after_a_crash() -> None:
    """Rewards count once: the one that comes again finds nothing that waits, in another process either."""
    log, reward = MemoryLog("events"), b'{"id": "7", "y": 1.0}'
    log.append(b'{"id": "7", "task": "shop", "x": {"a": 1.0}}', 0)
    log.append(reward, 0)
    through(log)
    before = tasks_of(log, SMALL)
    log.append(reward, 0)
    through(log)

    assert log.values("dead-letters") == [reward]
    assert tasks_of(log, SMALL) == before


def test_a_member_that_takes_over_decides_as_the_one_before(expected: MemoryLog) -> None:
    """State of tasks, and decisions that wait, come back from the changelog to the bit."""
    log = log_of(160)
    first = Driver(log, "first", SMALL)
    first.rounds(12)
    first.leave()
    log.leave("first")
    second = Driver(log, "second", SMALL)
    second.rounds(3)

    assert isinstance(second.engine, DecisionEngine)
    second.finish()
    assert decided(log) == decided(expected)
