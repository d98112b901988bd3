"""What actions are expected to earn, and at least."""

import numpy as np
import pytest

from streammeta.decisions import DecisionEngine
from streammeta.decisions.scoring import score, seen_table
from streammeta.engine import EngineSettings
from streammeta.engine.settings import DecideSettings
from streammeta.event import Event, Label, Origin

ACTIONS = ("red", "blue", "green")


def test_an_action_earns_no_less_and_no_more_than_its_task_remembers_of_rewards() -> None:
    """By hand: of all actions of the task together; or a deviation below the mean of all, where none was worse."""
    engine = DecisionEngine(EngineSettings(kind="regression", decide=DecideSettings(actions=ACTIONS)))
    random, earned = np.random.default_rng(0), dict[str, list[float]]()
    for i in range(60):
        task = f"t{i % 3}"
        engine.step([Event({"a": float(random.standard_normal())}, task, Origin("e", 0, 2 * i), id=str(i))])
        earned.setdefault(task, []).append(float(random.normal()) if i % 3 else abs(float(random.normal())) / 2)
        engine.step([Label(str(i), earned[task][-1], task, Origin("e", 0, 2 * i + 1))])
    memory = engine.memory
    rows = np.array([memory.tasks.find(0, [f"{task}→{action}" for action in ACTIONS]) for task in (*earned, "new")])
    exact = np.full((rows.size, len(memory.features)), np.nan)

    seen = seen_table(memory.fixed.frame, memory.tasks.columns, rows.reshape(-1), exact)
    found = score(memory.fixed, memory.tasks.columns, rows, seen)

    shared = memory.fixed.frame.shared
    below = float(shared.y_shift[0] - 1 / shared.y_gain[0])
    assert found.floors.tolist() == [*(min(*rewards, below) for rewards in earned.values()), below]
    above = below + 2 / float(shared.y_gain[0])
    assert found.ceilings.tolist() == pytest.approx([*(max(*rewards, above) for rewards in earned.values()), above])
    assert found.floors[0] == below > found.floors[1:3].max()
