"""`meta-train` and `meta-eval`: what they leave behind, how they go on after a stop, and what they say."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from streammeta.cli import app
from streammeta.errors import ConfigError
from streammeta.offline.store import load

PROGRAM = str(Path(sys.executable).with_name("streammeta"))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _ran(*words: str) -> str:
    done = CliRunner().invoke(app, words)
    if done.exception is not None:
        raise done.exception
    return done.stdout


def test_training_leaves_weights_a_curve_and_figures():
    """The three things one looks at after a training."""
    _ran("meta-train", "r2d2", "sinusoids", "--updates", "150", "--tasks", "10")
    table = _ran("meta-eval", "theta.safetensors", "--tasks", "50", "--json", "figures.json")

    assert Path("theta.png").read_bytes().startswith(b"\x89PNG")
    figures = json.loads(Path("figures.json").read_text())
    assert figures["held_out"]["after"]["mse"]["mean"] < 0.5 * figures["held_out"]["before"]["mse"]["mean"]
    assert figures["job"]["method"] == "r2d2"
    assert len(load(Path("theta.safetensors")).about["curve"]) == 150
    assert "before adapting" in table


def test_a_stopped_training_goes_on_where_it_was_and_ends_the_same():
    """A real process, SIGTERM in the middle, the same command again: the weights of a run that nobody stopped."""
    words = ["meta-train", "maml", "sinusoids", "--updates", "1000000", "--tasks", "5"]
    running = subprocess.Popen([PROGRAM, *words], stderr=subprocess.PIPE, text=True)
    assert any(line.startswith("meta-train: ") for line in running.stderr)  # five seconds after it began
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=60)
    assert running.returncode == 0
    stopped = load(Path("theta.safetensors")).state.updates
    assert 0 < stopped < 1_000_000

    words[4] = str(stopped + 20)
    _ran(*words)
    _ran(*words, "--out", "whole.safetensors")

    resumed, whole = (load(Path(name)).state for name in ("theta.safetensors", "whole.safetensors"))
    assert resumed.updates == whole.updates == stopped + 20
    assert all(torch.equal(p, resumed.theta[n]) for n, p in whole.theta.items())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["meta-train", "mamml", "sinusoids"], "there is none of that name; there are maml"),
        (["meta-train", "protonet", "sinusoids"], "does not do regression; these do"),
        (["meta-train", "maml", "omniglot"], "reads a file: name it with --data"),
        (["meta-train", "maml", "sinusoids", "--device", "abacus"], "--device abacus: cannot be used here"),
        (["meta-eval", "nothing.safetensors"], "nothing.safetensors: not readable trained weights"),
    ],
)
def test_what_cannot_be_done_is_said(words: list[str], said: str):
    """With the word that was wrong and those that would do."""
    with pytest.raises(Exception, match=said):
        _ran(*words)


def test_another_job_does_not_go_on_in_the_same_file():
    """Or an hour's training would be overwritten by a typing error."""
    _ran("meta-train", "maml", "sinusoids", "--updates", "3")

    with pytest.raises(
        Exception, match=r"theta\.safetensors: was trained with method = maml, wanted anil; name another"
    ):
        _ran("meta-train", "anil", "sinusoids", "--updates", "3")


def test_a_recorded_stream_can_be_trained_on():
    """The file that `replay` reads, with tasks held out."""
    rows = [f"{i % 7},{(i * i) % 5},task-{i % 9},{int((i % 7 > 3) == (i % 9 > 4))}" for i in range(600)]
    Path("rows.csv").write_text("a,b,task,y\n" + "\n".join(rows) + "\n")

    _ran("meta-train", "r2d2", "table", "--data", "rows.csv", "--updates", "100", "--tasks", "8")
    figures = json.loads(_ran("meta-eval", "theta.safetensors", "--tasks", "40", "--json", "-"))

    assert figures["held_out"]["after"]["accuracy"]["mean"] > 0.8


def test_a_service_starts_from_what_was_trained():
    """θ learned on a recording must serve the next events of its kind better than a θ that knows nothing."""
    _ran("simulate", "switching-sinusoids", "--events", "3000", "--to", "past.jsonl", "--seed", "1")
    _ran("simulate", "switching-sinusoids", "--events", "600", "--to", "now.jsonl", "--seed", "2")
    train = ["meta-train", "r2d2", "table", "--data", "past.jsonl", "--kind", "regression"]
    _ran(*train, "--updates", "400", "--tasks", "10")
    settings = '[app]\nkind = "regression"\n[meta]\nmode = "off"\n[learner]\nmethod = "r2d2"\n'
    Path("fresh.toml").write_text(settings)
    Path("trained.toml").write_text(settings + 'start_from = "theta.safetensors"\n')

    errors = {}
    for name in ("fresh", "trained"):
        _ran("replay", "now.jsonl", "--config", f"{name}.toml", "--json", f"{name}.json")
        errors[name] = json.loads(Path(f"{name}.json").read_text())["mae"]

    assert errors["trained"] < 0.8 * errors["fresh"]
    Path("trained.toml").write_text(settings.replace("r2d2", "anil") + 'start_from = "theta.safetensors"\n')
    with pytest.raises(Exception, match="has r2d2 for regression, wanted anil for regression"):
        _ran("replay", "now.jsonl", "--config", "trained.toml")


def test_columns_of_other_names_are_named_as_in_a_replay_and_kept_for_the_evaluation():
    """`sold` and `store_id` are what columns are called; an id or a date among the features would be memorized."""
    rows = ["store_id;order_id;at;price;sold"]
    rows += [f"{i % 12};o{i};2024-01-{1 + i % 28:02};{i % 7},5;{int((i % 7 > 3) == (i % 2 > 0))}" for i in range(600)]
    Path("sales.csv").write_text("\n".join(rows) + "\n")
    named = ["--label", "sold", "--task", "store_id", "--id", "order_id", "--time", "at"]
    train = ["meta-train", "r2d2", "table", "--data", "sales.csv", "--updates", "20", "--tasks", "4"]

    _ran(*train, *named)
    _ran("meta-eval", "theta.safetensors", "--tasks", "20", "--json", "figures.json")

    job = json.loads(Path("figures.json").read_text())["job"]
    assert job["columns"] == {"label": "sold", "task": ["store_id"], "id": ["order_id"], "time": "at"}
    assert load(Path("theta.safetensors")).about["problem"]["inputs"] == 1
    with pytest.raises(ConfigError, match="was trained with columns = "):
        _ran(*train, *named[:4])
    with pytest.raises(ConfigError, match="--label: family 'sinusoids' does not use it; leave it out"):
        _ran("meta-train", "r2d2", "sinusoids", "--label", "sold", "--out", "other.safetensors")
