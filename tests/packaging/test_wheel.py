"""The wheel as users get it: nothing is compiled on their machine, and nothing is written there."""

import json
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import streammeta
from tests.test_readme import README, examples

pytestmark = [
    pytest.mark.timeout(600),  # what is built, unpacked and compiled to byte code counts for the first test
    pytest.mark.xdist_group("wheel"),  # two builds at once would be in one folder
]
ROOT = Path(__file__).parents[2]
_BUILD = "import sys; from scikit_build_core.build import build_wheel; print(build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the project's own build backend, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run([sys.executable, "-c", _BUILD, folder], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel alone; what it depends on lies beside."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (installed,) = [path for path in map(Path, sys.path) if (path / "river").is_dir()]
    (site / "dependencies.pth").write_text(str(installed))  # a .pth inside it, of the clone, is not followed
    subprocess.run([folder / "bin/python", "-m", "compileall", "-q", site / "streammeta"], check=True, timeout=200)
    for path in [site, *site.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    return folder / "bin/python"


def test_it_holds_what_runs_and_no_sources_of_it(wheel: Path) -> None:
    """A wheel that misses the module is one that only works where it was built; tests and sources are ballast."""
    with zipfile.ZipFile(wheel) as archive:
        names, size = archive.namelist(), sum(entry.file_size for entry in archive.infolist())

    assert [name for name in names if re.fullmatch(r"streammeta/native/_kernels\..*(so|pyd)", name)]
    assert [name for name in names if re.fullmatch(r"streammeta/native/_processor\..*(so|pyd)", name)]
    assert {name.partition("/")[0] for name in names} == {
        "streammeta",
        f"streammeta-{streammeta.__version__}.dist-info",
    }
    assert not [name for name in names if re.search(r"\.([ch]pp|c|h|o|a)$|CMake", name)]
    assert not [name for name in names if "__pycache__" in name]
    assert size < 30e6


def test_the_first_prediction_compiles_nothing_and_writes_nothing(python: Path, tmp_path: Path) -> None:
    """After `pip install`, the first predictions took two minutes, or failed for a user without a home."""
    (tmp_path / "example.py").write_text(next(code for code in examples(README, "python") if "MetaClassifier" in code))
    rows = [f"{i % 5},{i % 3},{int(i % 5 > i % 3)}" for i in range(300)]
    (tmp_path / "events.csv").write_text("\n".join(["a,b,y", *rows]) + "\n")
    child = tmp_path / "child.py"
    child.write_text((Path(__file__).parent / "child.py").read_text())
    before = sorted(path for path in python.parents[1].rglob("*"))

    done = subprocess.run(
        [python, child, "example.py", "events.csv", "torch"],
        cwd=tmp_path,
        env={"PATH": "/nowhere", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=300,
    )

    assert done.returncode == 0, done.stderr
    accuracy, *_, found = done.stdout.splitlines()
    assert float(re.search(r"Accuracy: ([\d.]+)%", accuracy)[1]) > 85
    assert Path(json.loads(found)["from"]).is_relative_to(python.parents[1])
    assert json.loads(found)["events"] == 300
    assert json.loads(found)["seen"] == []
    assert sorted(path for path in python.parents[1].rglob("*")) == before
