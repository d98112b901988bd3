import gzip
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from streammeta import cli
from streammeta.app.inspection import snapshot_path
from streammeta.config import example
from streammeta.engine import Engine, EngineSettings
from streammeta.engine.snapshot import write_snapshot
from streammeta.event import Event, Origin
from streammeta.meta.settings import LearnerSettings
from streammeta.transport.base import Message
from streammeta.transport.file import FileSink

RUNNER = CliRunner()
CLASSIFICATION = {"accuracy", "kappa", "macro_f1", "log_loss"}
REGRESSION = {"mae", "rmse", "r2"}
ALWAYS = {
    "events",
    "labelled",
    "tasks",
    "seconds",
    "events_per_second",
    "meta_updates",
    "drifts",
    "peak_rss_bytes",
    "error_by_age",
    "error_after_drift",
    "rejected",
    "seed",
    "versions",
    "settings",
    "file",
}


@pytest.fixture(autouse=True)
def _a_small_learner(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands read the environment, which here makes them quick; and they set up logs, which is undone."""
    for name, value in {"LEARNER__HIDDEN": "8", "LEARNER__ENCODED": "4", "META__EVERY_EVENTS": "64"}.items():
        monkeypatch.setenv(f"STREAMMETA_{name}", value)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def invoke(*arguments: object, code: int = 0) -> tuple[str, str]:
    result = RUNNER.invoke(cli.app, [str(one) for one in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout, result.stderr


def failing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit status and standard error of a command that fails, run as `streammeta` is."""
    monkeypatch.setattr(sys, "argv", ["streammeta", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0), capsys.readouterr().err


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    file = tmp_path / "stream.jsonl.gz"
    invoke("simulate", "shared-representation", "--events", 400, "--tasks", 5, "--seed", 2, "--to", file)
    return file


def test_replay_reports_everything_that_was_promised(stream: Path, tmp_path: Path) -> None:
    """The report's JSON is what scripts and comparisons are built on."""
    out, err = invoke("replay", stream, "--limit", 300, "--seed", 3, "--json", tmp_path / "new" / "report.json")

    report = json.loads((tmp_path / "new" / "report.json").read_text())
    assert report.keys() >= ALWAYS | CLASSIFICATION
    assert (report["events"], report["labelled"], report["tasks"], report["seed"]) == (300, 300, 5, 3)
    assert list(report["error_by_age"]) == ["1", "2", "3-5", "6-10", "11-20", "21-50", "51+"]
    assert report["settings"]["learner"]["encoded"] == 4
    assert "accuracy: " in out
    assert "classification (2 different whole numbers in the first 400 labels" not in err
    assert "classification (2 different whole numbers in the first 300 labels, at most 50)" in err


def test_replay_of_numbers_is_a_regression_without_being_told(tmp_path: Path) -> None:
    """`streammeta replay FILE` must do the right thing for the two kinds of files people have."""
    file = tmp_path / "sines.csv"
    file.write_text("a,task,y\n" + "".join(f"{i % 7},t{i % 2},{i % 7 * 0.5 + 0.25}\n" for i in range(200)))

    invoke("replay", file, "--json", tmp_path / "report.json")

    report = json.loads((tmp_path / "report.json").read_text())
    assert report.keys() >= ALWAYS | REGRESSION
    assert (report["kind"], report["events"], report["tasks"]) == ("regression", 200, 2)


def test_replay_twice_with_a_seed_is_the_same_replay(stream: Path) -> None:
    """A figure nobody can repeat is no figure."""
    told = [json.loads(invoke("replay", stream, "--seed", 5, "--json", "-")[0]) for _ in range(2)]

    assert without_costs(told[0]) == without_costs(told[1])


def without_costs(report: Any) -> Any:
    """A report less what depends on the machine and its mood."""
    if not isinstance(report, dict):
        return report
    costs = {"seconds", "events_per_second", "peak_rss_bytes", "resident_bytes", "memory_bytes", "command"}
    return {name: without_costs(value) for name, value in report.items() if name not in costs}


def test_replay_runs_other_learners_beside_and_draws_a_report(stream: Path, tmp_path: Path) -> None:
    """The command that people try first, with their own file and what they use now."""
    peers = ["--against", "river:tree.HoeffdingTreeClassifier", "--against", "river:linear_model.LogisticRegression"]
    html, pictures = tmp_path / "r.html", tmp_path / "pictures"

    out, _ = invoke("replay", stream, *peers, "--label-delay", 5, "--html", html, "--pictures", pictures)

    assert "river:tree.HoeffdingTreeClassifier: accuracy 0." in out
    assert "events/s; no difference shown (p " in out or "is better (p " in out
    assert "failed after 0 events" in out
    assert "labels come late by 5 events" in html.read_text("utf-8")
    assert (pictures / "error.png").exists()


def test_a_scenario_is_replayed_by_name_and_its_detection_scored() -> None:
    """No file is needed to see how soon drifts are found."""
    out, _ = invoke("replay", "stagger", "--limit", 300, "--set", "concept_events=100", "--seed", 1)

    assert "drift detection: " in out
    assert "true drifts" in out


def test_compare_says_better_only_of_the_same_events(
    stream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two runs of one stream are paired; of two streams they are refused."""
    for name, options in {"a": ["--seed", 1], "b": ["--seed", 2], "short": ["--limit", 100]}.items():
        invoke("replay", stream, *options, "--json", tmp_path / f"{name}.json")

    out, _ = invoke("compare", tmp_path / "a.json", tmp_path / "b.json")
    as_json, _ = invoke("compare", tmp_path / "a.json", tmp_path / "a.json", "--json")
    code, err = failing(monkeypatch, capsys, "compare", tmp_path / "a.json", tmp_path / "short.json")

    assert out.startswith("A: streammeta 0.")
    assert "400 events" in out
    assert json.loads(as_json)[0]["verdict"] == "no difference shown"
    assert code == 2
    assert "wanted two replays of one stream" in err


def test_replay_writes_what_kafka_would_get(stream: Path, tmp_path: Path) -> None:
    """With --out a replay is a dry run of the service: the same records, in files."""
    records = gzip.decompress(stream.read_bytes()).splitlines()
    broken = tmp_path / "broken.jsonl"
    broken.write_bytes(b"\n".join([*records[:50], b"not json", b'{"x": [1, "a"]}', *records[50:100]]) + b"\n")

    out, _ = invoke("replay", broken, "--out", tmp_path / "out")

    predictions = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_bytes().splitlines()]
    dead = [json.loads(line) for line in (tmp_path / "out" / "dead-letters.jsonl").read_bytes().splitlines()]
    assert len(predictions) == 100
    assert predictions[-1]["source"] == "broken.jsonl/0/101"
    assert [one["headers"]["origin"] for one in dead] == ["broken.jsonl/0/50", "broken.jsonl/0/51"]
    assert "rejected: 2" in out


def test_configuration_says_what_to_predict_unless_the_command_line_does(stream: Path, tmp_path: Path) -> None:
    """The nearer instruction wins, and the reason is told."""
    config = tmp_path / "c.toml"
    config.write_text('[app]\nkind = "regression"\n')

    _, configured = invoke("replay", stream, "--config", config, "--limit", 20)
    _, asked = invoke("replay", stream, "--config", config, "--kind", "classification", "--limit", 20)
    _, chosen = invoke("replay", stream, "--config", config, "--kind", "auto", "--limit", 20)

    assert "regression (as the configuration says)" in configured
    assert "classification (as asked for)" in asked
    assert "classification (2 different whole numbers" in chosen


def test_simulate_sends_the_same_stream_for_the_same_seed() -> None:
    """A seed is a promise."""
    first, _ = invoke("simulate", "switching-sinusoids", "--events", 30, "--seed", 4, "--set", "drift=gradual")
    second, err = invoke("simulate", "switching-sinusoids", "--events", 30, "--seed", 4, "--set", "drift=gradual")
    other, _ = invoke("simulate", "switching-sinusoids", "--events", 30, "--seed", 5, "--set", "drift=gradual")

    assert first == second != other
    assert [json.loads(line)["id"] for line in first.splitlines()] == [str(i) for i in range(30)]
    assert "30 events sent to -" in err


def test_simulate_lists_its_scenarios_with_their_settings() -> None:
    """Nobody should have to read the code to find a scenario's name."""
    out, _ = invoke("simulate", "--list")

    for name in ("shared-representation", "switching-sinusoids", "recurring-concepts", "concept_events=", "agrawal"):
        assert name in out


def test_simulated_labels_that_come_late_are_records_of_their_own_and_learned(tmp_path: Path) -> None:
    """A replay with real life's delay begins with a stream that has it."""
    file = tmp_path / "late.jsonl"
    options = ["--set", "label_delay=20", "--set", "missing=0.2", "--set", "imbalance=0.5", "--tasks", 3]
    _, err = invoke("simulate", "agrawal", "--events", 200, *options, "--to", file)
    invoke("replay", file, "--kind", "classification", "--json", tmp_path / "report.json")

    records = [json.loads(line) for line in file.read_text().splitlines()]
    report = json.loads((tmp_path / "report.json").read_text())
    assert "200 events sent" in err
    assert len(records) == 400
    assert [set(record) for record in records[:21]] == [{"id", "task", "ts", "x"}] * 21
    assert set(records[21]) == {"id", "task", "y"}
    assert (report["events"], report["labelled"]) == (200, 200)


def test_a_simulation_tells_its_truth_beside_the_stream_and_is_played_again(tmp_path: Path) -> None:
    """A recording with known drifts is what detectors are compared on."""
    file, truth, again = tmp_path / "sea.jsonl", tmp_path / "truth.jsonl", tmp_path / "again.jsonl"
    invoke("simulate", "sea", "--events", 300, "--set", "concept_events=100", "--to", file, "--truth", truth)
    _, err = invoke("play", file, "--limit", 200, "--speed", 1000, "--to", again)

    assert 1 <= len(truth.read_text().splitlines()) <= 4
    assert "play: 200 events sent" in err
    assert again.read_text().splitlines() == file.read_text().splitlines()[:200]


def test_demo_ends_by_itself_and_compares(tmp_path: Path) -> None:
    """The first thing a newcomer runs; it must end, and it must say something."""
    out, err = invoke("demo", "--events", 600, "--json", tmp_path / "demo.json")

    report = json.loads((tmp_path / "demo.json").read_text())
    assert report["events"] == 600
    assert set(report["learners"]) == {"streammeta", "one model for all", "one model a task"}
    assert report["learners"]["streammeta"]["error"] == pytest.approx(1 - report["accuracy"])
    assert report["published"]["predictions"] == 600
    assert "metrics at http://127.0.0.1:" in err
    assert "error at a task's n-th label" in out


def test_inspect_lists_the_worst_tasks_first_for_people_and_for_programs(tmp_path: Path) -> None:
    """Per-task numbers are in no metric: this is where one sees which task is in trouble."""
    engine = Engine(EngineSettings(learner=LearnerSettings(hidden=8, encoded=4)))
    engine.step([Event([1.0], f"t{i % 3}", Origin("e", 0, i), y=int(i % 3 == 2 and i % 2), ts=1e9) for i in range(60)])
    write_snapshot(snapshot_path(tmp_path), engine.snapshot(), {})
    engine.close()

    shown, _ = invoke("inspect", tmp_path, "--sort", "error", "--limit", 2)
    told = json.loads(invoke("inspect", snapshot_path(tmp_path), "--sort", "error", "--json")[0])

    assert "2 of 3 tasks" in shown
    assert "2001-09-09 01:46:40" in shown
    assert told[0]["task"] == "t2"
    assert {one["labelled"] for one in told} == {20}
    assert [one["error"] for one in told] == sorted((one["error"] for one in told), reverse=True)


def test_config_prints_the_example() -> None:
    """`streammeta config > streammeta.toml` is how one begins."""
    assert invoke("config")[0] == example()


def test_version_and_help_are_there() -> None:
    """What everybody tries first."""
    assert invoke("--version")[0].startswith("streammeta 0.")
    help_, _ = invoke("--help")
    for command in ("run", "replay", "simulate", "play", "demo", "inspect", "config"):
        assert command in help_


@pytest.mark.parametrize(
    ("arguments", "code", "description"),
    [
        (["replay", "nowhere.csv"], 1, "nowhere.csv: cannot be read"),
        (["replay", "data.parquet"], 1, "data.parquet: cannot be read (No such file"),
        (["run", "--config", "nowhere.toml"], 2, "nowhere.toml: no such file"),
        (["simulate", "no-such-world", "--to", "-"], 2, "no scenario 'no-such-world'"),
        (["simulate", "sea", "--set", "noise"], 2, "--set noise: wanted name=value"),
        (["simulate", "sea", "--set", "noise=much"], 2, "noise"),
        (["simulate", "sea", "--rate", "5", "--speed", "2"], 2, "--rate 5.0 and --speed 2.0: wanted one of them"),
        (["simulate", "sea", "--to", "kafka://localhost:9092"], 2, "wanted kafka://host:port/topic"),
        (["simulate", "sea", "--to", "kafka://localhost/topic"], 2, "wanted host:port"),
        (["simulate", "sea", "--to", "sea.csv"], 2, "wanted a .jsonl or .jsonl.gz file"),
        (["inspect", "nowhere"], 1, "nowhere: no snapshot there"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    arguments: list[str],
    code: int,
    description: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A traceback tells a developer where; a line tells a user what to do."""
    status, err = failing(monkeypatch, capsys, *arguments)

    (line,) = err.splitlines()
    assert status == code
    assert line.startswith("streammeta: error: ")
    assert description in line


def test_every_wrong_setting_is_a_line_and_the_status_is_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 2 tells a supervisor that starting again will not help."""
    config = tmp_path / "c.toml"
    config.write_text('[app]\nkind = "fast"\n[inputs]\n[http]\nport = "x"\n')
    missing = failing(monkeypatch, capsys, "run", "--config", config)
    config.write_text('[app]\nkind = "fast"\n[http]\nport = "x"\n')
    wrong = failing(monkeypatch, capsys, "run", "--config", config)

    assert missing[0] == wrong[0] == 2
    first, *others = missing[1].splitlines()
    assert first == f"streammeta: error: {config}: [inputs]: no such section; did you mean input?"
    assert others == wrong[1].splitlines()  # a misspelt name hides no other mistake
    assert [line.split(": ")[3] for line in others] == ["[app] kind", "[http] port"]


def test_an_unreachable_broker_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second commonest failure at start; it must end, and soon."""
    with socket.socket() as unheard:  # bound, but nobody listens
        unheard.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unheard.getsockname()[1]}"
        monkeypatch.setenv("STREAMMETA_KAFKA__BOOTSTRAP_SERVERS", address)
        monkeypatch.setenv("STREAMMETA_KAFKA__CONNECT_TIMEOUT_SECONDS", "0.3")
        monkeypatch.setenv("STREAMMETA_HTTP__PORT", "0")
        monkeypatch.setenv("STREAMMETA_LOG__LEVEL", "error")

        status, err = failing(monkeypatch, capsys, "run")

    (line,) = err.splitlines()
    assert status == 1
    assert line.startswith(f"streammeta: error: kafka: no broker answers on {address}")


def test_a_port_in_use_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Of two services on one machine, one must not serve the other's metrics."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setenv("STREAMMETA_HTTP__HOST", "127.0.0.1")
        monkeypatch.setenv("STREAMMETA_HTTP__PORT", str(taken.getsockname()[1]))
        port = failing(monkeypatch, capsys, "run")

    assert (port[0], "is in use by another process" in port[1]) == (1, True)


def test_the_installed_program_leaves_no_traceback(tmp_path: Path) -> None:
    """What a shell or a supervisor sees: status and standard error of the real process."""
    program = Path(sys.executable).with_name("streammeta")
    environment = {**os.environ, "STREAMMETA_META__MOED": "sync"}

    result = subprocess.run(
        [program, "run"], capture_output=True, text=True, timeout=60, env=environment, cwd=tmp_path, check=False
    )

    assert result.returncode == 2
    assert (
        result.stderr
        == "streammeta: error: environment STREAMMETA_META__MOED: [meta] moed: no such setting; did you mean mode?\n"
    )
    assert result.stdout == ""


def test_an_endless_simulation_ends_on_sigterm_with_whole_lines(tmp_path: Path) -> None:
    """A producer that is stopped must not leave half a record behind."""
    program = Path(sys.executable).with_name("streammeta")
    command = [program, "simulate", "sea", "--rate", "2000", "--to", "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        rest, err = process.stdout.read(), process.stderr.read()
        process.wait(timeout=60)

    lines = (first + rest).splitlines()
    assert process.returncode == 0
    assert all(json.loads(line)["x"] for line in lines)
    assert f"{len(lines):,} events sent".encode() in err


@pytest.mark.parametrize("command", ["import streammeta.cli", "import streammeta.config; streammeta.config.example()"])
def test_what_only_shows_help_or_settings_does_not_load_the_learner(command: str) -> None:
    """PyTorch, River and matplotlib take four seconds, for each `streammeta --version` and in each restart of a service."""
    heavy = "torch", "river.drift", "scipy", "sklearn", "pandas", "matplotlib"
    code = f"import sys; {command}; print([name for name in {heavy!r} if name in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.strip() == "[]"


def test_a_service_does_not_load_what_it_does_not_use() -> None:
    """A static member is to be back before anybody notices; these were half of its start."""
    unused = "matplotlib", "sklearn", "pandas", "scipy.stats", "river.drift", "jinja2", "torch._dynamo"
    unused += ("streammeta.simulators",)
    code = f"""
import sys
from streammeta import cli
from streammeta.app import parts, serve
from streammeta.config import load
parts.new_engine(load()).close()
print([name for name in {unused!r} if name in sys.modules])"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.strip() == "[]"


def test_results_are_in_their_files_though_the_run_raises(
    stream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was predicted before a fault is what one looks at to find it; it must not stay in a buffer."""
    opened: list[FileSink] = []

    def fails(*_: Any, sink: FileSink, **__: Any) -> None:
        opened.append(sink)
        sink.send([Message("predictions", b'{"prediction": 1}')])
        raise RuntimeError("a fault")

    monkeypatch.setattr("streammeta.review.study.run", fails)

    result = RUNNER.invoke(cli.app, ["replay", str(stream), "--out", str(tmp_path / "out")])

    assert repr(result.exception) == "RuntimeError('a fault')"
    assert (tmp_path / "out" / "predictions.jsonl").read_bytes() == b'{"prediction": 1}\n'
    assert opened[0]._files == {}


def test_dead_letters_are_also_sent_again_by_the_word_replay() -> None:
    """It is what others call it, and an operator in a hurry types it first."""
    result = RUNNER.invoke(cli.app, ["dead-letters", "replay"])

    assert "dead-letters retry: wanted letters" in str(result.exception)
