"""The public interface: what docs/api.md lists is what is exported, documented, and found."""

import inspect
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import streammeta
from docs.generate_api import PAGE, PUBLIC, page

ROOT = Path(__file__).parents[1]
NAMES = [(module, name) for module in PUBLIC for name in import_module(module).__all__ if not name.startswith("__")]


def test_the_documented_list_is_what_is_exported() -> None:
    """A name that appears or goes is a decision; it shows in the page's diff. Made by python -m docs.generate_api."""
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m docs.generate_api"


@pytest.mark.parametrize(("module", "name"), NAMES, ids=lambda one: one)
def test_every_public_class_and_function_has_a_docstring(module: str, name: str) -> None:
    """A name without a word on it is not documented, however it is listed."""
    found = getattr(import_module(module), name)
    if inspect.isclass(found) or inspect.isfunction(found):
        assert (found.__doc__ or "").strip()
        assert not (found.__doc__ or "").startswith(f"{name}("), "only what a dataclass makes by itself"


def test_names_at_the_top_are_found_typed_and_completed() -> None:
    """They are imported when they are asked for; a type checker and a shell need to know them before."""
    source = Path(streammeta.__file__).read_text()
    typed = source[source.index("if TYPE_CHECKING:") : source.index("__version__ =")]

    for name in streammeta.__all__:
        assert hasattr(streammeta, name)
        assert name.startswith("__") or re.search(rf"\b{name}\b", typed), name
    assert dir(streammeta) == sorted(streammeta.__all__)


def test_importing_streammeta_loads_nothing_heavy() -> None:
    """`import streammeta` for a version number must not take seconds."""
    code = "import sys, streammeta; print([one for one in ('torch', 'river', 'numpy', 'kafka') if one in sys.modules])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.strip() == "[]"


def test_the_version_is_the_same_everywhere() -> None:
    """In the code, the package, the chart and the image."""
    version = streammeta.__version__

    assert f'\nversion = "{version}"\n' in (ROOT / "pyproject.toml").read_text()
    assert f'\nappVersion: "{version}"\n' in (ROOT / "deploy/helm/streammeta/Chart.yaml").read_text()
    assert f"\nARG VERSION={version}\n" in (ROOT / "deploy/Dockerfile").read_text()
    assert (
        f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
        or "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()
    )


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "SECURITY.md", "GLOSSARY.md", "examples/README.md"])
def test_files_that_a_page_names_exist(name: str) -> None:
    """A path that is gone sends a newcomer away."""
    text = (ROOT / name).read_text()
    paths = re.findall(r"`((?:streammeta|tests|deploy|docs|benchmarks|simulators|examples)/[\w./-]+)`", text)
    links = re.findall(r"\]\((?!\w+:)([^)#]+)\)", text)

    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert [link for link in links if not ((ROOT / name).parent / link).exists()] == []


def test_contributing_names_the_ten_changes_each_in_at_most_four_files() -> None:
    """The measure of whether the code is cut along the changes that people make."""
    rows = re.findall(
        r"^\| ([^|]*\*\*[^|]*) \| ([^|]+) \| ([^|]+) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE
    )

    assert len(rows) >= 10
    for what, where, _ in rows:
        assert 1 <= len(re.findall(r"`[\w./-]+/[\w./-]+`", where)) <= 4, what
