"""Replays of real files: what the README says of them must stay true."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from streammeta.commands.init import draft
from streammeta.config import Settings

pytestmark = [pytest.mark.data, pytest.mark.slow]
DataFile = Callable[[str], Path]
AGES = ["1", "2", "3-5", "6-10", "11-20", "21-50", "51+"]


def replay(path: Path, limit: int, out: Path, *options: str) -> dict[str, object]:
    command = [str(Path(sys.executable).with_name("streammeta")), "replay", str(path), "--limit", str(limit)]
    subprocess.run([*command, "--json", str(out), *options], check=True, capture_output=True, timeout=110)
    figures: dict[str, object] = json.loads(out.read_text())
    return figures


def test_elec2_is_predicted_better_than_by_twenty_online_learners(data_file: DataFile, tmp_path: Path) -> None:
    """The best of twenty River, CapyMOA and deep-river learners on these rows is right in 91.9 % of them."""
    figures = replay(data_file("streams/elec2.csv.gz"), 10_000, tmp_path / "out.json")

    assert figures["events"] == figures["labelled"] == 10_000
    assert isinstance(figures["accuracy"], float)
    assert figures["accuracy"] >= 0.95


@pytest.mark.parametrize(
    ("name", "kind", "wanted"),
    [
        ("wisdm_users", "classification", {"accuracy", "kappa", "macro_f1", "log_loss"}),
        ("movielens_users", "classification", {"accuracy", "kappa", "macro_f1", "log_loss"}),
        ("school", "regression", {"mae", "rmse", "r2"}),
    ],
)
def test_streams_of_many_tasks_run_through_and_tell_error_by_age(
    data_file: DataFile, tmp_path: Path, name: str, kind: str, wanted: set[str]
) -> None:
    """A file as it lies on somebody's disk: its kind is found, its tasks are told apart."""
    figures = replay(data_file(f"streams/{name}.csv.gz"), 2_000, tmp_path / "out.json")

    ages = figures["error_by_age"]
    assert figures["kind"] == kind
    assert wanted <= figures.keys()
    assert {"seconds", "events_per_second", "meta_updates", "drifts", "peak_rss_bytes", "tasks"} <= figures.keys()
    assert isinstance(ages, dict)
    assert list(ages) == AGES


@pytest.mark.parametrize(
    ("name", "kind", "has_tasks"),
    [
        ("elec2", "classification", False),
        ("outdoor", "classification", False),
        ("gas_drift", "classification", False),
        ("wisdm_users", "classification", True),
        ("wisdm_mixed", "classification", True),
        ("movielens_users", "classification", True),
        ("school", "regression", True),
        ("beijing_air", "regression", True),
    ],
)
def test_init_finds_label_task_and_kind_of_each_recording(
    data_file: DataFile, name: str, kind: str, has_tasks: bool
) -> None:
    """Forty classes that are whole numbers, exam scores that are, too: one wrong guess is a wrong model."""
    made = draft(str(data_file(f"streams/{name}.csv.gz")), Settings(), fixed={})

    assert f'\nkind = "{kind}"  # ' in made.toml
    assert '\nlabel = "y"  # by its name' in made.toml
    assert ('\ntask = "task"  # by its name' in made.toml) == has_tasks
    assert "\n#id = none" in made.toml
    assert made.unsure == []
