"""The bills of materials of the images: all that is locked, nothing else, and nothing of the machine that made them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from deploy.check.conftest import ROOT

LOCKED = re.compile(r"^([a-zA-Z0-9_.-]+)(?:\[[^]]*\])?==([^\s;\\]+)", re.MULTILINE)


@pytest.mark.parametrize("image", ["serve", "train"])
def test_it_names_every_locked_package_with_version_and_hashes(image: str, tool, tmp_path: Path) -> None:
    """A scanner that looks for a vulnerable version must find it here, and a list that lacks one is worse than none."""
    lock, made = ROOT / f"deploy/image/{image}.txt", tmp_path / "bom.json"

    done = tool(
        *("cyclonedx-py", "requirements", "--pyproject", ROOT / "pyproject.toml"),
        *("--output-reproducible", "--validate", "-o", made, lock),
    )

    assert done.returncode == 0, done.stderr
    bom: dict[str, Any] = json.loads(made.read_text())
    parts = {(one["name"], one["version"]): one for one in bom["components"]}
    assert set(parts) == set(LOCKED.findall(lock.read_text()))
    assert all(one["purl"].startswith("pkg:pypi/") for one in parts.values())
    assert all(one["externalReferences"][0]["hashes"] for one in parts.values())
    assert bom["metadata"]["component"]["name"] == "streammeta"
    assert str(ROOT) not in made.read_text()


def test_the_service_needs_no_torch_and_the_trainer_does() -> None:
    """The one is small because of it."""
    serve, train = (
        {name for name, _ in LOCKED.findall((ROOT / f"deploy/image/{one}.txt").read_text())}
        for one in ("serve", "train")
    )

    assert "torch" not in serve
    assert serve | {"torch"} <= train
