"""A replay that keeps its state: stopped, and gone on with, as if it had never been."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streammeta.app.inspection import inspect
from streammeta.config import Settings
from streammeta.engine.settings import MetaSettings
from streammeta.errors import ConfigError, SnapshotError
from streammeta.meta.settings import LearnerSettings
from streammeta.review.study import Plan, opened, run
from streammeta.transport.file import FileSink

SETTINGS = Settings(learner=LearnerSettings(hidden=8, encoded=4), meta=MetaSettings(every_events=32))


def stream(path: Path, rows: int) -> Path:
    lines = (
        json.dumps({"task": f"t{i % 5}", "x": {"a": i % 7, "b": (i * i) % 11}, "y": int((i % 7) * (i % 5) > 6)})
        for i in range(rows)
    )
    path.write_text("\n".join(lines) + "\n")
    return path


def replayed(file: Path, out: Path, state: Path | None, *, limit: int | None = None) -> dict[str, object]:
    with opened(Plan(file, state=state, limit=limit), SETTINGS, kind="classification", seed=3) as ready:
        sink = FileSink(out, append=bool(ready.begun.positions))
        figures = run(ready, sink=sink)
        sink.close()
    return figures


def test_a_stopped_replay_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    """Predictions after the stop are those of a run that was never stopped, to the last digit, each of them once."""
    file = stream(tmp_path / "s.jsonl", 700)
    whole = replayed(file, tmp_path / "whole", None)

    first = replayed(file, tmp_path / "parts", tmp_path / "state", limit=301)
    second = replayed(file, tmp_path / "parts", tmp_path / "state", limit=302)
    third = replayed(file, tmp_path / "parts", tmp_path / "state")
    nothing = replayed(file, tmp_path / "parts", tmp_path / "state")

    assert [one["events"] for one in (whole, first, second, third, nothing)] == [700, 301, 1, 398, 0]
    assert third["stream"]["resumed_at"] == 302  # type: ignore[index]
    for name in ("predictions", "signals", "dead-letters"):
        assert (tmp_path / "parts" / f"{name}.jsonl").read_bytes() == (
            tmp_path / "whole" / f"{name}.jsonl"
        ).read_bytes()
    assert {task.task: task.labelled for task in inspect(tmp_path / "state")} == {f"t{i}": 140 for i in range(5)}


def test_sigint_stops_and_the_same_command_goes_on(tmp_path: Path) -> None:
    """As a user does it: Ctrl-C, a look with `inspect`, the same command again."""
    file = stream(tmp_path / "s.jsonl", 3000)
    program = Path(sys.executable).with_name("streammeta")
    settings = {
        "LEARNER__HIDDEN": "8",
        "LEARNER__ENCODED": "4",
        "META__EVERY_EVENTS": "32",
        "STATE__EVERY_SECONDS": "0.1",
    }
    environment = {**os.environ, **{f"STREAMMETA_{name}": value for name, value in settings.items()}}
    command = [program, "replay", file, "--kind", "classification", "--state", tmp_path / "state", "--out"]
    whole = [program, "replay", file, "--kind", "classification", "--out", tmp_path / "whole"]
    subprocess.run(whole, env=environment, capture_output=True, timeout=100, check=True)

    with subprocess.Popen([*command, tmp_path / "parts"], env=environment, stderr=subprocess.PIPE) as process:
        until = time.monotonic() + 60
        while not (tmp_path / "state" / "streammeta.engine.snapshot").exists() and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert inspect(tmp_path / "state")
    again = subprocess.run([*command, tmp_path / "parts"], env=environment, capture_output=True, text=True, timeout=100)

    assert again.returncode == 0, again.stderr
    assert "goes on at row" in again.stderr
    parts, undisturbed = (tmp_path / of / "predictions.jsonl" for of in ("parts", "whole"))
    assert parts.read_bytes() == undisturbed.read_bytes()


def test_a_state_of_another_stream_or_learner_is_refused(tmp_path: Path) -> None:
    """Going on with what belongs to another stream would be silent nonsense."""
    file, other = stream(tmp_path / "s.jsonl", 20), stream(tmp_path / "other.jsonl", 20)
    replayed(file, tmp_path / "out", tmp_path / "state")

    with pytest.raises(ConfigError, match=r"is of s.jsonl, and this is .*other.jsonl; name another directory"):
        replayed(other, tmp_path / "out", tmp_path / "state")
    larger = SETTINGS.model_copy(update={"learner": LearnerSettings(hidden=9, encoded=4)})
    with (
        pytest.raises(SnapshotError, match=r"learner.hidden"),
        opened(Plan(file, state=tmp_path / "state"), larger, kind="classification", seed=3),
    ):
        pass


@pytest.mark.parametrize(
    ("plan", "option"),
    [
        ({"against": ["river:naive_bayes.GaussianNB"]}, "--against"),
        ({"learners": ["maml"]}, "--learner"),
        ({"label_delay": 5}, "--label-delay"),
        ({"truth": Path("truth.jsonl")}, "--truth"),
    ],
)
def test_what_could_not_go_on_is_refused_beside_a_state(plan: dict[str, object], option: str, tmp_path: Path) -> None:
    """A baseline that begins in the middle would be compared with a learner that did not."""
    file = stream(tmp_path / "s.jsonl", 20)

    with (
        pytest.raises(ConfigError, match=f"cannot go on with {option}"),
        opened(Plan(file, state=tmp_path / "state", **plan), SETTINGS, seed=1),  # type: ignore[arg-type]
    ):
        pass


def test_a_scenario_keeps_no_state(tmp_path: Path) -> None:
    """Its events are drawn again each time."""
    with pytest.raises(ConfigError, match="wanted a recorded file"), opened(Plan("sea", state=tmp_path), SETTINGS):
        pass
