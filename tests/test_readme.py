"""The examples of the README and of docs/, run as a reader would run them."""

import logging
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from prometheus_client import CollectorRegistry
from typer.testing import CliRunner

from streammeta import cli
from streammeta.service.metrics import Metrics

README = Path(__file__).parents[1] / "README.md"
DOCS = sorted((README.parent / "docs").glob("*.md"))
WRITES = ("--to", "--json", "--html", "--pictures", "--out", "--truth")
EXAMPLE = re.compile(r"<!-- tested: (\w+) -->\n```\w+\n(.*?)```", re.DOTALL)


def examples(page: Path, kind: str) -> list[str]:
    return [code for found, code in EXAMPLE.findall(page.read_text()) if found == kind]


@pytest.mark.parametrize("code", examples(README, "python"))
def test_python_examples_run(code: str, tmp_path: Path) -> None:
    """An example that fails is the first thing a newcomer sees."""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=100)

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("page", [README, *DOCS], ids=lambda page: page.stem)
def test_metrics_that_are_told_of_exist(page: Path) -> None:
    """Who watches a name that nobody sets watches nothing."""
    metrics = Metrics(CollectorRegistry())
    known = {sample.name for family in metrics.registry.collect() for sample in family.samples}
    known |= {family.name for family in metrics.registry.collect()}
    told = set(re.findall(r"`(streammeta_[a-z_]+)`", page.read_text()))
    assert told - known - {name + "_total" for name in known} == set()


def test_shell_examples_run(tmp_path: Path) -> None:
    """The shell examples too, in the order they stand."""
    for command in commands(README):
        words = [str(Path(sys.executable).with_name("streammeta")), *command[1:]]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr

    assert_written(README, tmp_path)


@pytest.mark.parametrize(
    "code",
    [pytest.param(code, id=f"{page.stem}-{at}") for page in DOCS for at, code in enumerate(examples(page, "python"))],
)
def test_python_examples_of_the_docs_run(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process, which is quicker."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "example.py").write_text(code)

    runpy.run_path("example.py")

    assert capsys.readouterr().out.strip()


@pytest.fixture
def _logs_as_before() -> Iterator[None]:
    """Commands set up logs for their process, which is not theirs here."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.mark.usefixtures("_logs_as_before")
@pytest.mark.parametrize("page", [page for page in DOCS if examples(page, "replay")], ids=lambda page: page.stem)
def test_shell_examples_of_the_docs_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the command line would, in this process."""
    monkeypatch.chdir(tmp_path)

    for command in commands(page):
        result = CliRunner().invoke(cli.app, command[1:])
        assert result.exit_code == 0, (command, result.output, result.exception)

    assert_written(page, tmp_path)


def commands(page: Path) -> list[list[str]]:
    return [shlex.split(line) for block in examples(page, "replay") for line in block.splitlines()]


def assert_written(page: Path, folder: Path) -> None:
    """Every file that a command names as its output is there."""
    made = {words[at + 1] for words in commands(page) for at, one in enumerate(words) if one in WRITES}
    assert made
    assert all((folder / name).exists() for name in made)


def test_links_between_pages_lead_somewhere() -> None:
    """A picture or a page that is not there is worse than none."""
    for page in [README, *DOCS]:
        for link in re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


@pytest.mark.data
def test_the_mnist_example_learns(data_file: Callable[[str], Path], tmp_path: Path) -> None:
    """The example that explains MAML must show what it says: chance before, most of it right after one step."""
    (tmp_path / "data").symlink_to(data_file("mnist").parent)
    (code,) = examples(README.parent / "docs" / "meta-learners.md", "mnist")

    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=110)

    assert done.returncode == 0, done.stderr
    before, after = (float(found) for found in re.findall(r": (0\.\d+) ±", done.stdout))
    assert before < 0.35
    assert after > 0.8


def test_every_make_target_the_readme_names_exists() -> None:
    """A command that is not there is worse than none."""
    makefile = README.with_name("Makefile").read_text()

    for target in set(re.findall(r"`?make ([\w-]+)", README.read_text())):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
