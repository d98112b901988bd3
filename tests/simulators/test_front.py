"""The folder simulators/ at the top: a front of `streammeta.simulators` that the package itself never needs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import simulators
from streammeta import cli
from streammeta import simulators as package

RECIPES = re.findall(
    r"\| `streammeta (simulate [^`]+)` \|", (Path(simulators.__file__).with_name("README.md")).read_text()
)

USES = {
    "a replay in Python": "import streammeta; print(streammeta.replay('sea', limit=30).figures['events'])",
    "the command simulate": "from streammeta.cli import app; app(['simulate', 'sea', '--events', '3'])",
    "the command replay": "from streammeta.cli import app; app(['replay', 'sea', '--limit', '30'])",
}


@pytest.mark.parametrize("code", USES.values(), ids=USES.keys())
def test_a_users_own_simulators_module_breaks_nothing(code: str, tmp_path: Path) -> None:
    """A file of that name beside a notebook was imported in the package's place, and a replay failed."""
    (tmp_path / "simulators.py").write_text("raise RuntimeError('this is the user\\'s own module')\n")

    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=100)

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_front_offers_what_the_package_offers() -> None:
    """Code of this repository may use either name."""
    assert simulators.__all__ == package.__all__
    assert all(getattr(simulators, name) is getattr(package, name) for name in package.__all__)


def test_there_are_recipes() -> None:
    """The next test must not pass because the table changed its form."""
    assert len(RECIPES) >= 8


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_run(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorter than they stand there, and into a file."""
    monkeypatch.chdir(tmp_path)
    words = shlex.split(recipe)
    words[words.index("--to") + 1] = "events.jsonl"
    if "--events" in words:
        words[words.index("--events") + 1] = "60"
    else:
        words += ["--events", "60"]

    result = CliRunner().invoke(cli.app, words)

    assert result.exit_code == 0, result.output
    assert len((tmp_path / "events.jsonl").read_text().splitlines()) >= 60
