"""A trainer among members in chaos: it is killed and restarted, and what it published is checked afterwards."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from streammeta.engine.weights import Weights, decode_weights
from streammeta.errors import SnapshotError

__all__ = ["SEPARATE", "TrainerLife", "wrong_predictions", "wrong_versions"]

# A drift is found in predictions, which depend on when which θ came; and it shortens windows, which are compared
SEPARATE = {
    "STATE__FROZEN": "false",
    "META__MODE": "sync",
    "META__TRAINER": "separate",
    "DRIFT__DETECTOR": "none",
}
_PATIENCE = 60.0
_LEAST_UP = 4.0  # seconds from when it trains to a SIGKILL: one that never got so far as to learn shows little


class TrainerLife:
    """A `streammeta train` that is killed so often, at moments by chance; the next comes when predictions have gone on.

    Args:
        environment: of the process.
        log: its output.
        kills: SIGKILLs to come.
        seconds: over which they are spread.
        away_seconds: from a SIGKILL to the next trainer, at least.
        predicted_since: whether there was a prediction since then (monotonic seconds).
        choice: draws the moments.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        log: Path,
        *,
        kills: int,
        seconds: float,
        away_seconds: float,
        predicted_since: Callable[[float], bool],
        choice: random.Random,
    ) -> None:
        self._predicted_since = predicted_since
        self._environment, self._log, self._away = dict(environment), log, away_seconds
        begun = time.monotonic()
        self._due = [begun + seconds * (i + choice.uniform(0.4, 1.0)) / (kills + 1) for i in range(kills)]
        self.wrong: list[str] = []
        self._killed_at = 0.0
        self._process: subprocess.Popen[bytes] | None = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self._up_at: float | None = None
        with self._log.open("ab") as out:
            self._read_from = out.tell()
            command = [sys.executable, "-m", "streammeta", "train"]
            return subprocess.Popen(command, env=self._environment, stdout=out, stderr=out)

    @property
    def is_done(self) -> bool:
        """Whether all its kills have been."""
        return not self._due and self._process is not None

    def tend(self, *, excused: bool, nothing_waits: bool) -> str | None:
        """Kill it or start it again where that is due; returns what was done.

        Args:
            excused: whether it may have ended by itself, as there was no broker.
            nothing_waits: whether no more records come, so that there may be no more predictions.
        """
        now = time.monotonic()
        if self._process is None:
            if now < self._killed_at + self._away:
                return None
            if not nothing_waits and not self._predicted_since(self._killed_at):
                if now < self._killed_at + _PATIENCE:
                    return None
                self.wrong.append(f"no prediction while no trainer was there, in {_PATIENCE:.0f} s")
            self._process = self._start()
            return "a trainer started"
        if self._process.poll() is not None:
            assert excused, f"the trainer ended by itself:\n{self.tail()}"
            self._process = self._start()
            return "the trainer had found no broker, and started"
        if self._up_at is None and b"training" in self._log.read_bytes()[self._read_from :]:
            self._up_at = now
        if self._due and self._up_at is not None and now > max(self._due[0], self._up_at + _LEAST_UP):
            self._due.pop(0)
            self._process.kill()
            self._process.wait(_PATIENCE)
            self._process, self._killed_at = None, now
            return "SIGKILL of the trainer"
        return None

    def stop(self) -> None:
        """Let it end."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            status = self._process.wait(_PATIENCE)
            assert status in (0, -signal.SIGTERM), f"the trainer ended with {status}:\n{self.tail()}"

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait(_PATIENCE)

    def tail(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-8000:]


def wrong_versions(values: Sequence[bytes | None], segments: Sequence[Sequence[int]]) -> tuple[int, list[str]]:
    """The versions of θ that were published, and what is wrong with them.

    Args:
        values: the records of the key ``theta``, in order.
        segments: of each partition, the offsets of the committed segments of episodes.
    """
    found, wrong = list[Weights](), list[str]()
    for number, value in enumerate(values):
        try:
            found.append(decode_weights(value or b"", f"theta {number}"))
        except SnapshotError as err:
            wrong.append(f"torn: {err}")
    for one, other in pairwise(found):
        if other.version <= one.version:
            wrong.append(f"version {other.version} was published after {one.version}")
        reached = dict(other.about.positions)
        if any(reached[number] < offset for number, offset in one.about.positions):
            wrong.append(f"version {other.version} includes less than {one.version}")
    for one in found:
        included = sum(sum(offset < until for offset in segments[number]) for number, until in one.about.positions)
        if one.about.segments != included:
            wrong.append(f"version {one.version} learned {one.about.segments} segments, of which there were {included}")
    return len(found), wrong


def wrong_predictions(predictions: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    """Predictions [partition][...] by a θ older than one before, in any partition."""
    return [
        f"{other['source']} was predicted by version {other['theta_version']}, after {one['theta_version']}"
        for values in predictions
        for one, other in pairwise(values)
        if other["theta_version"] < one["theta_version"]
    ]
