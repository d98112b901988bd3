"""The curve of an old θ is of servers that differ in nothing else."""

import json
from pathlib import Path

from benchmarks import staleness


def test_a_server_that_never_adopts_and_one_that_lags_for_ever_err_alike(tmp_path: Path) -> None:
    """And one without a lag sees what the trainer sees, so that the curve says what a lag costs, and nothing else."""
    assert staleness.main(["--events", "640", "--tasks", "8", "--seeds", "3", "--json", str(tmp_path / "out")]) == 0

    (curve,) = json.loads((tmp_path / "out").read_text())["curves"]
    assert list(curve) == ["0", "1", "10", "100", "1000", "never"]
    assert curve["1000"] == curve["never"]
    assert curve["0"] != curve["never"]
