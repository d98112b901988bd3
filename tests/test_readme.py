"""The README's examples, run as a reader would run them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
EXAMPLE = re.compile(r"<!-- tested: (\w+) -->\n```\w+\n(.*?)```", re.DOTALL)


def examples(kind: str) -> list[str]:
    return [code for found, code in EXAMPLE.findall(README.read_text()) if found == kind]


@pytest.mark.parametrize("code", examples("python"))
def test_python_examples_run(code: str, tmp_path: Path) -> None:
    """An example that fails is the first thing a newcomer sees."""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=100)

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_replay_examples_run(tmp_path: Path) -> None:
    """The shell examples too, in the order they stand."""
    commands = [line for block in examples("replay") for line in block.splitlines()]
    assert commands

    for command in commands:
        words = [str(Path(sys.executable).with_name("streammeta")), *command.split()[1:]]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr

    assert (tmp_path / "report.json").exists()


def test_every_make_target_the_readme_names_exists() -> None:
    """A command that is not there is worse than none."""
    makefile = README.with_name("Makefile").read_text()

    for target in set(re.findall(r"`?make (\w+)", README.read_text())):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
