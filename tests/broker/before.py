"""The version before this one, installed beside it: of the newest tag, or of a fixed commit while there is none."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import streammeta.native
from deploy.kafka_jars import cache_folder

__all__ = ["before", "record_format"]

ROOT = Path(__file__).parents[2]
COMMIT = "be41a98"  # of 26 November 2026; a release's tag takes its place
_BUILD = "import sys; from scikit_build_core.build import build_wheel; build_wheel(sys.argv[1])"
_NATIVE = "streammeta/native"


def git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, timeout=60, check=False)


def version_before() -> str:
    """The newest tag before this commit, else COMMIT; skips where the clone has no history, but not in CI."""
    tag = git("describe", "--tags", "--abbrev=0", "HEAD~1")
    name = tag.stdout.decode().strip() if tag.returncode == 0 else COMMIT
    if git("cat-file", "-e", f"{name}^{{commit}}").returncode:
        why = f"this clone has no commit {name}: it is no git repository, or a shallow one; git fetch --unshallow"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    return name


@pytest.fixture(scope="session")
def before() -> Path:
    """The interpreter of an environment that holds the version before; what it depends on lies beside."""
    commit = git("rev-parse", version_before()).stdout.decode().strip()
    folder = cache_folder() / f"before-{commit[:12]}-{sys.implementation.cache_tag}"
    python = folder / "bin/python"
    if (folder / "ready").exists():
        return python
    venv.create(folder, with_pip=False, clear=True)
    (site,) = folder.glob("lib/python*/site-packages")
    with_archive(commit, folder / "source")
    if git("diff", "--quiet", commit, "--", _NATIVE).returncode == 0:  # nothing to compile: ours is the same
        (folder / "source/streammeta").rename(site / "streammeta")
        for module in (module for path in streammeta.native.__path__ for module in Path(path).glob("_*.so")):
            (site / _NATIVE / module.name).write_bytes(module.read_bytes())
    else:
        build(folder / "source", site)
    (installed,) = [path for path in map(Path, sys.path) if (path / "river").is_dir()]
    (site / "dependencies.pth").write_text(str(installed))  # a .pth inside it, of the clone, is not followed
    (folder / "ready").touch()
    return python


def with_archive(commit: str, folder: Path) -> None:
    """The files of a commit."""
    folder.mkdir()
    archive = git("archive", commit)
    assert archive.returncode == 0, archive.stderr.decode()
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True, timeout=60)


def build(source: Path, site: Path) -> None:
    """A wheel, by the project's own build backend, unpacked."""
    done = subprocess.run(
        [sys.executable, "-c", _BUILD, source / "dist"],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (source / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)


def record_format(python: Path) -> int:
    """Of tasks' states, as that version writes them."""
    code = "from streammeta.engine.handover.record import FORMAT; print(FORMAT)"
    done = subprocess.run([python, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return int(done.stdout)
