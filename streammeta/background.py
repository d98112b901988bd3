"""Meta-updates in one thread of their own, so that a slow one never stops polling."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TypeAlias

from streammeta.engine import MetaResult

__all__ = ["Done", "MetaWorker"]

_Job: TypeAlias = Callable[[], MetaResult]


@dataclass(frozen=True, slots=True)
class Done:
    """A meta-update that ended: with a result, or with a fault."""

    result: MetaResult | None
    fault: Exception | None
    seconds: float


class MetaWorker:
    """At most one meta-update at a time. The thread starts with the first, and does not outlive the process.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._ended: SimpleQueue[Done] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self.busy = False

    def start(self, job: _Job) -> None:
        """Begin a meta-update; only when not ``busy``."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="meta-update", daemon=True)
            self._thread.start()
        self.busy = True
        self._jobs.put(job)

    def collect(self, timeout_seconds: float = 0.0) -> Done | None:
        """The meta-update that ended, once; None while there is none."""
        if not self.busy:
            return None
        try:
            done = self._ended.get(block=timeout_seconds > 0, timeout=timeout_seconds)
        except Empty:
            return None
        self.busy = False
        return done

    def close(self, timeout_seconds: float) -> None:
        """End the thread after the meta-update it is at; give it up if that takes longer. May be called twice."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join(timeout_seconds)
            self._thread = None

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            begun = self._clock()
            result, fault = None, None
            try:
                result = job()
            except Exception as err:  # handed to the loop, which logs and counts it; serving goes on with the old theta
                fault = err
            self._ended.put(Done(result, fault, self._clock() - begun))
