"""Each example runs as a reader would run it, and shows what it says it shows."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py") if path.name != "service.py")  # that one wants a broker
WANTED = {
    "cross_modal.py": r"photo: Accuracy: [89]\d\..*\ntext: Accuracy: 9\d\..*\nboth: Accuracy: 9\d\.",
    "engine.py": r"event 3\d\d: the concept has changed\n.*\n.*\na restored engine says the same: True",
    "meta_reinforcement.py": r"RL² +earns 6\.[1-4]",
    "meta_training.py": r"after five examples: 0\.0\d",
    "replay.py": r"streammeta +0\.(8[5-9]|9)",
    "river_pipeline.py": r"in all: Accuracy: [6-9]\d\.",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_runs_and_shows_what_it_says(name: str, tmp_path: Path) -> None:
    """What a newcomer copies first must work, from any folder."""
    done = subprocess.run([sys.executable, FOLDER / name], cwd=tmp_path, capture_output=True, text=True, timeout=110)

    assert done.returncode == 0, done.stderr
    assert re.search(WANTED[name], done.stdout), done.stdout


def test_the_notebooks_cells_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cell's last line is an expression or a statement, as a notebook has it; all are run in one namespace."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    cells = json.loads((FOLDER / "replay.ipynb").read_text())["cells"]
    space: dict[str, object] = {"__name__": "notebook"}

    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []  # outputs of some machine say nothing, and change with each run
            exec(compile("".join(cell["source"]), cell["id"], "exec"), space)  # noqa: S102 our own file

    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_the_table_of_examples_is_complete() -> None:
    """An example that is in no table is found by nobody."""
    named = set(re.findall(r"^\| \[([\w.]+)\]", (FOLDER / "README.md").read_text(), re.MULTILINE))

    assert named == {path.name for path in FOLDER.iterdir() if path.suffix in {".py", ".ipynb"}}
    assert set(WANTED) == set(SCRIPTS)
