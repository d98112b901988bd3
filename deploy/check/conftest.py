"""What the checks share: the tools, and the chart as it is rendered."""

import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from check_jsonschema.cli import main as check_jsonschema
from click.testing import CliRunner

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/streammeta"
KUBERNETES = "1.31.0"

Tool = Callable[..., subprocess.CompletedProcess[str]]
Schema = Callable[[str, Path], str]


@pytest.fixture(scope="session")
def tool() -> Tool:
    """Run a tool of `make deploy-tools` by name; a tool that is missing fails the check."""
    here = ROOT / ".tools/deploy/bin"
    path = f"{here}{os.pathsep}{os.environ['PATH']}"

    def run(name: str, *arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
        found = shutil.which(name, path=path)
        if found is None:
            pytest.fail(f"{name} is not there; run make deploy-tools")
        words = [found, *(str(one) for one in arguments)]
        return subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)

    return run


@pytest.fixture(scope="session")
def schema_errors() -> Schema:
    """What a schema that check-jsonschema brings has against a file; "": nothing. Here, as its start takes two seconds."""

    def check(schema: str, path: Path) -> str:
        done = CliRunner().invoke(check_jsonschema, ["--builtin-schema", schema, str(path)])
        return done.output or repr(done.exception) if done.exit_code else ""

    return check


@pytest.fixture(scope="session")
def rendered(tool: Tool) -> Callable[..., list[dict[str, Any]]]:
    """The chart's objects for a file of values."""

    @cache
    def text(values: Path, chart: Path, release: str) -> str:
        done = tool("helm", "template", release, chart, "--kube-version", KUBERNETES, "-f", values)
        if done.returncode:
            raise AssertionError(done.stderr)
        return done.stdout

    def render(values: Path, *, chart: Path = CHART, release: str = "a-release") -> list[dict[str, Any]]:
        return [one for one in yaml.load_all(text(values, chart, release), yaml.CSafeLoader) if one]

    return render
