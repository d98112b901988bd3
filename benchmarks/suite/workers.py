"""One process a learner, which takes one stream after the other: starting an interpreter for each would cost more."""

import contextlib
import json
import os
import select
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.peers.catalogue import Entry
from benchmarks.peers.environments import ROOT, child_environment, python_of
from benchmarks.peers.prequential import Job

__all__ = ["Worker", "last_core"]

_GRACE_SECONDS = 60  # for starting and writing, beyond the learner's own limit


class Worker:
    """A runner that waits for jobs. A context manager; its process is started when the first job comes."""

    def __init__(self, entry: Entry, core: int) -> None:
        self._entry, self._core = entry, core
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def run(self, job: Job) -> dict[str, Any]:
        """What the runner wrote, or the ``problem`` it had; after one, the next job gets a fresh process."""
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "result.json"
            process = self._process = self._process or self._start()
            assert process.stdin is not None  # both are pipes
            assert process.stdout is not None
            try:
                process.stdin.write(json.dumps([asdict(job), str(out)]) + "\n")
                process.stdin.flush()
                ready, _, _ = select.select([process.stdout], [], [], job.seconds + _GRACE_SECONDS)
                line = process.stdout.readline() if ready else ""
            except BrokenPipeError:
                ready, line = [process.stdout], ""
            if not line:
                self._stop()
                reason = f"its process ended ({process.returncode})" if ready else "did not end"
                return {"problem": f"{reason} within {job.seconds + _GRACE_SECONDS:.0f} s"}
            problem: dict[str, Any] = json.loads(line)
            if problem:
                self._stop()
                return problem
            result: dict[str, Any] = json.loads(out.read_text())
            return result

    def _start(self) -> subprocess.Popen[str]:
        pin = f"import os, runpy; os.sched_setaffinity(0, {{{self._core}}})"
        start = f"{pin}; runpy.run_module({self._entry.program!r}, run_name='__main__')"
        return subprocess.Popen(
            [str(python_of(self._entry.environment)), "-c", start, "--jobs"],
            cwd=ROOT,
            env=child_environment() | {"PYTHONWARNINGS": "ignore"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def last_core() -> int:
    """The core that learners run on."""
    return max(os.sched_getaffinity(0))
