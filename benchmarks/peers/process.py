"""Runs one learner over one file in a process of its own, on one core."""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.peers.catalogue import Entry
from benchmarks.peers.environments import ROOT, child_environment, last_line, python_of
from benchmarks.peers.prequential import Job

__all__ = ["Result", "answer", "run_apart"]

_GRACE_SECONDS = 60  # for starting and writing, beyond the learner's own limit
Result: TypeAlias = dict[str, Any]


def run_apart(job: Job, entry: Entry, core: int) -> Result:
    """What the runner wrote, or the ``problem`` it had."""
    pin = f"import os, runpy; os.sched_setaffinity(0, {{{core}}})"
    start = f"{pin}; runpy.run_module({entry.program!r}, run_name='__main__')"
    command = [str(python_of(entry.environment)), "-c", start, "--job", json.dumps(asdict(job))]
    return answer(command, job.seconds + _GRACE_SECONDS)


def answer(command: Sequence[str], seconds: float) -> Result:
    """What a runner writes to the file that it is given as ``--out``, or the ``problem`` it had.

    Args:
        command: starts it, without ``--out``.
        seconds: that it may take, all in all.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        try:
            done = subprocess.run(
                [*command, "--out", str(out)],
                cwd=ROOT,
                env=child_environment(),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"problem": f"did not end within {seconds:.0f} s"}
        if done.returncode != 0 or not out.exists():
            return {"problem": f"failed: {last_line(done.stderr) or f'exit status {done.returncode}'}"}
        result: Result = json.loads(out.read_text())
        return result
