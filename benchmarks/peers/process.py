"""Runs one learner over one file in a process of its own, on one core."""

import json
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.peers.catalogue import Entry
from benchmarks.peers.environments import ROOT, child_environment, last_line, python_of
from benchmarks.peers.prequential import Job

__all__ = ["Result", "run_apart"]

_GRACE_SECONDS = 60  # for starting and writing, beyond the learner's own limit
Result: TypeAlias = dict[str, Any]


def run_apart(job: Job, entry: Entry, core: int) -> Result:
    """What the runner wrote, or the ``problem`` it had."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        pin = f"import os, runpy; os.sched_setaffinity(0, {{{core}}})"
        start = f"{pin}; runpy.run_module({entry.program!r}, run_name='__main__')"
        command = [str(python_of(entry.environment)), "-c", start, "--job", json.dumps(asdict(job)), "--out", str(out)]
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=child_environment(),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=job.seconds + _GRACE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"problem": f"did not end within {job.seconds + _GRACE_SECONDS:.0f} s"}
        if done.returncode != 0 or not out.exists():
            return {"problem": f"failed: {last_line(done.stderr) or f'exit status {done.returncode}'}"}
        result: Result = json.loads(out.read_text())
        return result
