"""Policies judged on a log: against the truth that only a simulation knows."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from streammeta.cli import app
from streammeta.decisions.logged import judge_policy
from streammeta.engine import EngineSettings, MetaSettings
from streammeta.engine.settings import DecideSettings
from streammeta.errors import ConfigError, EventError
from streammeta.event import Decoder, Origin, Record

ACTIONS = ("blue", "green", "red")
SETTINGS = EngineSettings(kind="regression", decide=DecideSettings(), meta=MetaSettings(mode="off"))


def log(count: int) -> Iterator[dict[str, Any]]:
    """Chosen by chance, green as often as the others together; red pays where a > 0, blue where it is not."""
    random = np.random.default_rng(4)
    for _ in range(count):
        a, k = float(random.choice([-1.0, 1.0])), int(random.choice(3, p=[0.25, 0.5, 0.25]))
        pays = (0.8 if a < 0 else 0.2, 0.4, 0.8 if a > 0 else 0.2)[k]
        reward = float(random.random() < pays)
        yield {"x": {"a": a}, "action": ACTIONS[k], "propensity": (0.25, 0.5, 0.25)[k], "y": reward}


def records(rows: Iterator[dict[str, Any]]) -> list[Record]:
    return [Record(json.dumps(row).encode(), Origin("log", 0, i)) for i, row in enumerate(rows)]


@pytest.mark.parametrize(("policy", "truth"), [("always:green", 0.4), ("uniform", (0.5 + 0.4 + 0.5) / 3)])
def test_intervals_hold_the_truth(policy: str, truth: float) -> None:
    """Of policies whose worth is known; the log's own is worth 0.25 · 0.5 + 0.5 · 0.4 + 0.25 · 0.5."""
    found = judge_policy(records(log(500)), SETTINGS, policy, Decoder())

    for one in (*found.estimates.values(),):
        assert one.low <= truth <= one.high
        assert one.conclusive
    assert found.logged.low <= 0.45 <= found.logged.high
    assert found.estimates["doubly_robust"].high - found.estimates["doubly_robust"].low <= (
        found.estimates["inverse_propensity"].high - found.estimates["inverse_propensity"].low
    )


def test_a_policy_that_learns_from_the_log_is_worth_more_than_the_log() -> None:
    """The best there is earns 0.8; it has to be learned from the log first."""
    found = judge_policy(records(log(500)), SETTINGS, "greedy", Decoder())

    assert found.estimates["doubly_robust"].low > found.logged.high
    assert found.estimates["doubly_robust"].value == pytest.approx(0.8, abs=0.12)


def test_too_little_is_said_to_be_too_little() -> None:
    found = judge_policy(records(log(60)), SETTINGS, "greedy", Decoder())

    assert not found.figures()["self_normalized"]["conclusive"]
    assert "inconclusive" in "\n".join(found.lines())


def test_what_is_no_logged_decision_is_counted_with_its_reason() -> None:
    rows = [*log(30), {"x": {"a": 1.0}, "y": 1.0}, {"x": {"a": 1.0}, "action": "red", "propensity": 0.0, "y": 1.0}]
    found = judge_policy(records(iter(rows)), SETTINGS, "uniform", Decoder())

    reasons = [str(one["reason"]) for one in found.refusals.figures()]
    assert found.refusals.count == 2
    assert any("log/0/30: no logged decision; wanted `x`, `action`, `propensity`" in one for one in reasons)
    assert any("log/0/31: `propensity` is 0.0; wanted the probability" in one for one in reasons)
    with pytest.raises(EventError, match="no logged decision can be used"):
        judge_policy(records(iter([{"x": {}, "y": 1.0}])), SETTINGS, "uniform", Decoder())
    with pytest.raises(ConfigError, match=r"wanted inverse_gap, thompson, .* uniform or always:ACTION"):
        judge_policy(records(log(30)), SETTINGS, "bold", Decoder())
    with pytest.raises(ConfigError, match="always:pink: no such action; wanted one of blue, green, red"):
        judge_policy(records(log(30)), SETTINGS, "always:pink", Decoder())


def test_the_command_judges_a_file(tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in log(40)))
    done = CliRunner().invoke(
        app, ["replay", str(file), "--decide", "always:green", "--json", str(tmp_path / "out.json")]
    )

    assert done.exit_code == 0, done.output
    assert "always:green, doubly robust: " in done.output
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["doubly_robust"]["decisions"] == 40
    assert figures["policy"] == "always:green"
