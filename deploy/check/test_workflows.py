"""GitHub's files, by actionlint and by the schemas of GitHub's own formats; and the check of a wheel."""

from pathlib import Path

import pytest

from deploy.check.conftest import ROOT
from deploy.check.wheel import complaints

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yaml"))
OTHERS = {
    ".github/ISSUE_TEMPLATE/bug.yaml": "vendor.github-issue-forms",
    ".github/ISSUE_TEMPLATE/feature.yaml": "vendor.github-issue-forms",
    ".github/ISSUE_TEMPLATE/config.yml": "vendor.github-issue-config",
    ".github/dependabot.yaml": "vendor.dependabot",
}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_taken(path: Path, tool, schema_errors) -> None:
    linted = tool("actionlint", "-shellcheck=", "-pyflakes=", path)

    assert linted.returncode == 0, linted.stdout
    assert schema_errors("vendor.github-workflows", path) == ""
    assert schema_errors("custom.github-workflows-require-timeout", path) == ""


@pytest.mark.parametrize(("name", "schema"), OTHERS.items())
def test_forms_follow_their_schemas(name: str, schema: str, schema_errors) -> None:
    assert schema_errors(schema, ROOT / name) == ""


@pytest.mark.parametrize(("name", "schema"), OTHERS.items())
def test_a_broken_form_fails_the_check(name: str, schema: str, schema_errors, tmp_path: Path) -> None:
    """Its first key misspelt."""
    first, colon, rest = (ROOT / name).read_text().partition(":")
    (tmp_path / "broken.yaml").write_text(f"{first}s{colon}{rest}")

    assert "validation errors" in schema_errors(schema, tmp_path / "broken.yaml")


def test_only_the_job_that_publishes_may_write_and_it_has_no_password() -> None:
    """Trusted publishing: a token of this run alone. Everything else may read the code and nothing more."""
    for path in WORKFLOWS:
        text = path.read_text()
        assert "\npermissions: {contents: read}\n" in text
        assert "secrets." not in text
        assert ("id-token: write" in text) == (path.stem == "release")


def test_what_the_workflows_run_exists() -> None:
    """A target that is gone shows on the next push only."""
    makefile = (ROOT / "Makefile").read_text()
    text = "\n".join(path.read_text() for path in WORKFLOWS)
    targets = [
        word for line in text.splitlines() if "run: make " in line for word in line.split("run: make ")[1].split()
    ]

    assert targets
    for target in targets:
        assert f"\n{target}:" in makefile, target
    for name in ("deploy/check/wheel.py", "deploy/Dockerfile", "deploy/compose.yaml", "benchmarks/throughput.py"):
        assert (ROOT / name).exists()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("runs-on: ubuntu", "run-on: ubuntu"), ("timeout-minutes: 90", "timeout: 90"), ("matrix.python", "matrix.pyton")],
)
def test_a_broken_workflow_fails_the_check(right: str, wrong: str, tool, tmp_path: Path) -> None:
    text = (ROOT / ".github/workflows/ci.yaml").read_text()
    assert right in text
    broken = tmp_path / "ci.yaml"
    broken.write_text(text.replace(right, wrong, 1))

    assert tool("actionlint", "-shellcheck=", "-pyflakes=", broken).returncode != 0


def test_a_wheel_with_a_second_package_or_a_test_is_complained_of() -> None:
    good = ["streammeta/__init__.py", "streammeta/py.typed", "streammeta-0.1.0.dist-info/METADATA"]

    assert complaints(good) == []
    assert len(complaints([*good, "simulators/__init__.py"])) == 1
    assert len(complaints([*good, "streammeta/tests/test_x.py"])) == 1
    assert len(complaints(good[:1])) == 1
