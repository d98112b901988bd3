"""`streammeta forget --state`: a task leaves the state that a replay keeps."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streammeta import cli
from streammeta.app.forgetting import forget_in_snapshot
from streammeta.app.inspection import inspect, state_held
from streammeta.errors import ConfigError, SnapshotError

LINES = [{"task": f"t{i % 3}", "x": {"a": float(i % 7)}, "y": int(i % 7 > 3), "id": str(i)} for i in range(90)]


def replayed(folder: Path, lines: list[dict[str, object]], *more: str) -> str:
    """A replay that keeps its state; it goes on where there is one."""
    stream = folder / "events.jsonl"
    stream.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = CliRunner().invoke(
        cli.app,
        [
            "replay",
            str(stream),
            *(more or ("--kind", "classification")),
            "--state",
            str(folder / "state"),
            "--json",
            "-",
        ],
    )
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_task_leaves_the_state_and_the_replay_goes_on(tmp_path: Path) -> None:
    """The others keep all they have; the one that left begins again, where its tag comes again."""
    replayed(tmp_path, LINES[:60])

    done = CliRunner().invoke(cli.app, ["forget", "t1", "--state", str(tmp_path / "state")])

    assert (done.exit_code, "task 't1' is forgotten" in done.stdout) == (0, True)
    assert {task.task: task.events for task in inspect(tmp_path / "state")} == {"t0": 20, "t2": 20}
    replayed(tmp_path, LINES)
    assert {task.task: task.events for task in inspect(tmp_path / "state")} == {"t0": 30, "t1": 10, "t2": 30}


def test_a_task_that_is_not_there_is_said(tmp_path: Path) -> None:
    """A typing error in the tag must not look like a task that is gone."""
    replayed(tmp_path, LINES[:6])
    before = (tmp_path / "state" / "streammeta.engine.snapshot").read_bytes()

    done = CliRunner().invoke(cli.app, ["forget", "T1", "--state", str(tmp_path / "state")])

    assert done.exit_code == 1
    assert "no task 'T1'" in done.output
    assert (tmp_path / "state" / "streammeta.engine.snapshot").read_bytes() == before


def test_a_task_of_decisions_leaves_with_all_of_its_actions(tmp_path: Path) -> None:
    """What is learned of each action is a task of the engine: none of them may stay, and nobody else's may go."""
    replayed(tmp_path, LINES[:60], "--as-decisions")
    assert {task.task for task in inspect(tmp_path / "state")} == {f"t{i}→{y}" for i in range(3) for y in range(2)}

    done = CliRunner().invoke(cli.app, ["forget", "t1", "--state", str(tmp_path / "state")])

    assert (done.exit_code, "task 't1' is forgotten" in done.stdout) == (0, True)
    assert {task.task for task in inspect(tmp_path / "state")} == {f"t{i}→{y}" for i in (0, 2) for y in range(2)}
    explained = [
        "explain",
        '{"task": "t0", "x": {"a": 6.0}, "actions": ["0", "1"]}',
        "--state",
        str(tmp_path / "state"),
    ]
    said = CliRunner().invoke(cli.app, explained)
    assert said.exit_code == 0
    assert "expected reward" in said.stdout
    assert "new" not in said.stdout


def test_the_state_of_a_replay_that_runs_is_left_alone(tmp_path: Path) -> None:
    """The replay would write over what was changed, and the task would be back without a word."""
    replayed(tmp_path, LINES[:60])
    state = tmp_path / "state"

    with state_held(state), pytest.raises(ConfigError, match="a replay that runs now keeps its state there"):
        forget_in_snapshot(state, "t1")
    with state_held(state):
        second = CliRunner().invoke(cli.app, ["replay", str(tmp_path / "events.jsonl"), "--state", str(state)])
    assert "a replay that runs now keeps its state there" in str(second.exception)
    assert {task.task for task in inspect(state)} == {"t0", "t1", "t2"}
    assert forget_in_snapshot(state, "t1") == 1


def test_a_folder_without_a_state_is_refused(tmp_path: Path) -> None:
    """Nothing is made there."""
    with pytest.raises(SnapshotError, match="no state there; wanted the folder of `streammeta replay --state`"):
        forget_in_snapshot(tmp_path, "t")
    assert list(tmp_path.iterdir()) == []


def test_a_tag_that_no_task_can_have_is_refused(tmp_path: Path) -> None:
    """The service would set the request aside."""
    with pytest.raises(ConfigError, match="has 1001 characters"):
        forget_in_snapshot(tmp_path, "t" * 1_001)
