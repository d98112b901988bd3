"""Decisions in a replay: rewards in the file, or the classes of any labelled stream as the actions."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streammeta.config import Settings, load
from streammeta.errors import ConfigError
from streammeta.review import study
from streammeta.review.study import Plan
from streammeta.transport.file import FileSink


def written(path: Path, records: Iterator[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def labelled(count: int) -> Iterator[dict[str, Any]]:
    random = np.random.default_rng(0)
    for i in range(count):
        x = {name: float(random.standard_normal()) for name in "ab"}
        yield {"id": str(i), "task": f"t{i % 3}", "x": x, "y": ("low", "high")[int(x["a"] > 0)]}


def figures_of(plan: Plan, settings: Settings, out: Path | None = None, **options: Any) -> dict[str, Any]:
    with study.opened(plan, settings, **options) as ready:
        if out is None:
            return study.run(ready)
        with closing(FileSink(out)) as sink:
            return study.run(ready, sink=sink)


def config(path: Path, text: str) -> Settings:
    path.write_text(text)
    return load(path)


def test_labels_as_rewards_earn_more_than_chance(tmp_path: Path) -> None:
    """Both at once and late: a class is an action, and only whether it was right is learned."""
    stream, found = written(tmp_path / "s.jsonl", labelled(400)), {}
    for delay in ("0", "20"):
        plan = Plan(stream, as_decisions=True, label_delay=delay)
        found[delay] = figures_of(plan, Settings(), tmp_path / delay)
    made = [json.loads(line) for line in (tmp_path / "0" / "predictions.jsonl").read_text().splitlines()]

    assert [one["decisions"] for one in found.values()] == [400, 400]
    assert found["0"]["kind"] == "decision"
    assert found["0"]["mean_reward"] > 0.75
    assert found["20"]["mean_reward"] > 0.7
    assert {one["action"] for one in made} == {"low", "high"}
    assert all(set(one["propensities"]) == {"low", "high"} for one in made)


def test_rewards_in_the_file_are_joined_by_id(tmp_path: Path) -> None:
    """A log of what was done, and then of what it earned; the configuration names the actions."""

    def records() -> Iterator[dict[str, Any]]:
        for i in range(60):
            yield {"id": f"e{i}", "task": "shop", "x": {"a": i % 3}}
            yield {"id": f"e{i}", "y": 1.0}

    settings = config(tmp_path / "c.toml", '[app]\nkind = "decision"\n[decide]\nactions = ["red", "blue"]\n')
    found = figures_of(Plan(written(tmp_path / "s.jsonl", records())), settings)

    assert (found["decisions"], found["rewards"], found["mean_reward"]) == (60, 60, 1.0)
    assert found["rejected"] == 0


def test_a_replay_that_stopped_goes_on_with_the_same_decisions(tmp_path: Path) -> None:
    stream = written(tmp_path / "s.jsonl", labelled(120))
    whole = Plan(stream, as_decisions=True)
    figures_of(whole, Settings(), tmp_path / "whole")
    for limit, out in ((70, "first"), (120, "second")):
        plan = Plan(stream, as_decisions=True, state=tmp_path / "state", limit=limit)
        figures_of(
            plan,
            config(tmp_path / "c.toml", '[decide]\nactions = ["high", "low"]\n[app]\nkind = "decision"\n'),
            tmp_path / out,
        )
    parts = [(tmp_path / name / "predictions.jsonl").read_text() for name in ("first", "second")]

    assert "".join(parts) == (tmp_path / "whole" / "predictions.jsonl").read_text()


def test_what_cannot_be_decided_is_refused(tmp_path: Path) -> None:
    stream = written(tmp_path / "s.jsonl", ({"x": {"a": i}, "y": i + 0.5} for i in range(30)))

    with pytest.raises(ConfigError, match="--as-decisions: wanted a stream with classes"):
        figures_of(Plan(stream, as_decisions=True), Settings())
    one = written(tmp_path / "one.jsonl", ({"x": {"a": i}, "y": 1} for i in range(30)))
    with pytest.raises(ConfigError, match="--as-decisions: the stream has the classes"):
        figures_of(Plan(one, as_decisions=True), Settings(), kind="classification")
    with pytest.raises(ConfigError, match=r"\[decide\] actions: is not used with \[app\] kind = 'classification'"):
        config(tmp_path / "c.toml", '[decide]\nactions = ["red", "blue"]\n')
    with pytest.raises(ConfigError, match=r"\[decide\] epsilon: is not used with exploration = 'inverse_gap'"):
        config(tmp_path / "c.toml", '[app]\nkind = "decision"\n[decide]\nepsilon = 0.1\n')
