"""The unit, by systemd-analyze."""

import re
from pathlib import Path

import pytest

from deploy.check.conftest import ROOT

FOLDER = ROOT / "deploy/systemd"
FILE = FOLDER / "streammeta.service"
UNITS = sorted(FOLDER.glob("*.service"))
MOST_EXPOSURE = 20  # tenths; systemd calls up to 2 "safe", 4 "ok"


def verified(text: str, folder: Path, tool) -> str:
    """What systemd says of the unit; its program is not installed here, so that one is set to one that is."""
    unit = folder / "streammeta.service"
    unit.write_text(re.sub(r"(?m)^ExecStart=.*$", "ExecStart=/bin/true", text))
    done = tool("systemd-analyze", "verify", "--man=no", unit)
    return done.stdout + done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_systemd_takes_the_unit(unit: Path, tool, tmp_path: Path) -> None:
    assert verified(unit.read_text(), tmp_path, tool) == ""


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_it_may_do_little(unit: Path, tool) -> None:
    done = tool("systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSURE}", unit)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("ProtectSystem=strict", "ProtectSystems=strict"), ("TimeoutStopSec=60", "TimeoutStopSec=soon")],
)
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_a_broken_unit_fails_the_check(unit: Path, right: str, wrong: str, tool, tmp_path: Path) -> None:
    assert right in unit.read_text()

    assert verified(unit.read_text().replace(right, wrong), tmp_path, tool) != ""


def test_a_unit_that_may_do_more_fails_the_check(tool, tmp_path: Path) -> None:
    open_unit = tmp_path / "streammeta.service"
    open_unit.write_text(re.sub(r"(?m)^(Protect|Restrict|Private|System|Dynamic|Cap|NoNew).*\n", "", FILE.read_text()))

    assert tool("systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSURE}", open_unit).returncode


def test_the_trainer_may_do_what_a_member_may_and_is_no_member_of_the_group() -> None:
    """Two lists of rights drift apart; and as a member it would take partitions that it does not serve."""
    member, trainer = (read(FOLDER / f"{name}.service") for name in ("streammeta", "streammeta-trainer"))
    differ = {line.partition("=")[0] for line in member ^ trainer}

    assert differ == {"Description", "ExecStart", "ExecReload", "CacheDirectory", "Environment"}
    assert "ExecStart=/opt/streammeta/bin/streammeta train --config /etc/streammeta/streammeta.toml" in trainer
    assert "Environment=STREAMMETA_META__TRAINER=separate" in trainer
    assert not [line for line in trainer if "GROUP_INSTANCE_ID" in line]


def read(unit: Path) -> set[str]:
    """The unit's settings."""
    return {line for line in unit.read_text().splitlines() if line and not line.startswith("#")}
