"""benchmarks.reinforcement: a table that stops and goes on."""

import json
import re
from pathlib import Path

import pytest

from benchmarks import recurrent_replay, reinforcement
from streammeta.offline.store import load


def test_a_row_has_every_rule_and_its_published_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A figure beside the wrong one, or a policy that was never trained, would pass for a result."""
    arguments = ["--quick", "--only", "mdp-25", "--out", str(tmp_path), "--json", str(tmp_path / "rows.json")]

    assert reinforcement.main(arguments) == 0

    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert set(row["found"]) == set(reinforcement.SETUPS["mdp-25"].published)
    assert row["found"]["random"]["mean"] == pytest.approx(250.2, abs=25)
    assert "RL²" in capsys.readouterr().out
    assert load(tmp_path / "mdp-25.safetensors").state.updates == 8
    assert load(tmp_path / "mdp-10.safetensors").about["stage"] == 1


def test_a_training_goes_on_where_its_file_stops(tmp_path: Path) -> None:
    """The seconds are of all sittings; what is trained already is not trained again."""
    first, seconds = reinforcement.trained("bandit-10-5", tmp_path, 0.01, 0.2)
    again, longer = reinforcement.trained("bandit-10-5", tmp_path, 0.01, 0.2)
    further, _ = reinforcement.trained("bandit-10-5", tmp_path, 0.02, 0.2)

    assert (first.updates, again.updates, further.updates) == (48, 48, 96)
    assert longer == pytest.approx(seconds, abs=1)


def test_replay_is_compared_from_every_seed_and_measured_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mean over other seeds for each variant would compare seeds."""
    arguments = ["--quick", "--seeds", "0", "1", "--json", str(tmp_path / "rows.json")]

    assert recurrent_replay.main(arguments) == 0
    first = capsys.readouterr().out
    assert recurrent_replay.main(arguments) == 0
    again = capsys.readouterr().out

    rows = json.loads((tmp_path / "rows.json").read_text())
    assert {(row["start"], row["burn_in"], row["seed"]) for row in rows} == {
        (start, burn_in, seed) for start in ("zero", "stored") for burn_in in (0, 12) for seed in (0, 1)
    }
    assert first.endswith(again)
    best = re.search(r"a perfect memory: ([\d.]+) ± ([\d.]+)", again)
    assert best is not None
    assert abs(float(best[1]) - 7.25) < 2 * float(best[2])  # as docs/meta-reinforcement.md says
