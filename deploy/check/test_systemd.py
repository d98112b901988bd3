"""The unit, by systemd-analyze."""

import re
from pathlib import Path

import pytest

from deploy.check.conftest import ROOT

FILE = ROOT / "deploy/systemd/streammeta.service"
MOST_EXPOSURE = 20  # tenths; systemd calls up to 2 "safe", 4 "ok"


def verified(text: str, folder: Path, tool) -> str:
    """What systemd says of the unit; its program is not installed here, so that one is set to one that is."""
    unit = folder / "streammeta.service"
    unit.write_text(re.sub(r"(?m)^ExecStart=.*$", "ExecStart=/bin/true", text))
    done = tool("systemd-analyze", "verify", "--man=no", unit)
    return done.stdout + done.stderr


def test_systemd_takes_the_unit(tool, tmp_path: Path) -> None:
    assert verified(FILE.read_text(), tmp_path, tool) == ""


def test_it_may_do_little(tool) -> None:
    done = tool("systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSURE}", FILE)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("ProtectSystem=strict", "ProtectSystems=strict"), ("TimeoutStopSec=60", "TimeoutStopSec=soon")],
)
def test_a_broken_unit_fails_the_check(right: str, wrong: str, tool, tmp_path: Path) -> None:
    assert right in FILE.read_text()

    assert verified(FILE.read_text().replace(right, wrong), tmp_path, tool) != ""


def test_a_unit_that_may_do_more_fails_the_check(tool, tmp_path: Path) -> None:
    open_unit = tmp_path / "streammeta.service"
    open_unit.write_text(re.sub(r"(?m)^(Protect|Restrict|Private|System|Dynamic|Cap|NoNew).*\n", "", FILE.read_text()))

    assert tool("systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSURE}", open_unit).returncode
