"""The version before this one, installed beside it: of the newest tag, or of a fixed commit while there is none."""

import os
import platform
import subprocess
import sys
import tempfile
import venv
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

__all__ = ["before", "record_format"]

ROOT = Path(__file__).parents[2]
COMMIT = "be41a98"  # of 26 November 2026; a release's tag takes its place
_BUILD = "import sys; from scikit_build_core.build import build_wheel; build_wheel(sys.argv[1])"


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
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the version before; what it depends on lies beside."""
    commit = git("rev-parse", version_before()).stdout.decode().strip()
    folder = tmp_path_factory.mktemp("before")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel_of(commit)) as archive:
        archive.extractall(site)
    (installed,) = [path for path in map(Path, sys.path) if (path / "river").is_dir()]
    (site / "dependencies.pth").write_text(str(installed))  # a .pth inside it, of the clone, is not followed
    return folder / "bin/python"


def wheel_of(commit: str) -> Path:
    """A commit's wheel, by its own build backend; kept beside uv's and pip's, as its kernels take a while to compile."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streammeta/wheels"
    kept = cache / f"{commit[:12]}-{sys.implementation.cache_tag}-{platform.machine()}"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as made:
            build(commit, Path(made))
            with suppress(OSError):  # another run was first
                (Path(made) / "dist").rename(kept)
    (wheel,) = kept.glob("*.whl")
    return wheel


def build(commit: str, folder: Path) -> None:
    """Compile a commit into ``folder``/dist."""
    archive = git("archive", commit)
    assert archive.returncode == 0, archive.stderr.decode()
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True, timeout=60)
    done = subprocess.run(
        [sys.executable, "-c", _BUILD, "dist"], cwd=folder, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def record_format(python: Path) -> int:
    """Of tasks' states, as that version writes them."""
    code = "from streammeta.engine.handover.record import FORMAT; print(FORMAT)"
    done = subprocess.run([python, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return int(done.stdout)
