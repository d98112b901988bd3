"""Meta-updates in one thread of their own, so that a slow one never stops polling.

A loop that only ran ahead would starve meta-learning: a thousand events a batch, one meta-update. So between two
batches of records at hand the loop waits for the meta-update under way, within a budget that grows with the time it
spends on records: `patience` seconds of waiting a second of work, and never over a second.

That is for a loop that keeps up. One with a *backlog*, so that more records wait in the broker than it takes at once,
does not wait; and as the thread would still take a core from whatever else works there, and every change of θ has
tasks' φ derived again, a meta-update is then under way in a `share` of the time only. A backlog of 60,000 events of 200
tasks was worked off at 35 % of the speed of a bare consume-and-produce loop before, half of it spent on waiting.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

import structlog

from streammeta.engine import Engine, MetaResult
from streammeta.service.metrics import Metrics

__all__ = ["Done", "MetaUpdates", "Worker"]

_log = structlog.get_logger(__name__)
_MOST_PATIENCE_SECONDS = 1.0
_LAST_SECONDS = 5.0  # how long an end waits for the meta-update under way
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Done(Generic[_Result]):
    """Work that ended: with a result, or with a fault."""

    result: _Result | None
    fault: BaseException | None
    seconds: float


class Worker(Generic[_Result]):
    """One piece of work at a time. The thread starts with the first, and does not outlive the process.

    Args:
        clock: monotonic seconds.
        name: of the thread.
    """

    def __init__(self, clock: Callable[[], float], name: str = "meta-update") -> None:
        self._clock, self._name = clock, name
        self._jobs: SimpleQueue[Callable[[], _Result] | None] = SimpleQueue()
        self._ended: SimpleQueue[Done[_Result]] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self.busy = False

    def start(self, job: Callable[[], _Result]) -> None:
        """Begin it; only when not ``busy``."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            self._thread.start()
        self.busy = True
        self._jobs.put(job)

    def collect(self, timeout_seconds: float = 0.0) -> Done[_Result] | None:
        """What ended, once; None while there is nothing."""
        if not self.busy:
            return None
        try:
            done = self._ended.get(block=timeout_seconds > 0, timeout=timeout_seconds)
        except Empty:
            return None
        self.busy = False
        return done

    def close(self, timeout_seconds: float) -> None:
        """End the thread after the work it is at; give it up if that takes longer. May be called twice."""
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
            except BaseException as err:  # for the loop, which logs and counts it; serving goes on with the old theta
                fault = err
            self._ended.put(Done(result, fault, self._clock() - begun))


class MetaUpdates:
    """An engine's meta-updates in the background: begun, waited for within a budget, and taken in between two batches.

    Args:
        engine: whose θ learns.
        metrics: counts them.
        patience: seconds of waiting for meta-updates a second of work on records, while more records are at hand.
        share: of the time in which one may be under way while the loop has a backlog.
        clock: monotonic seconds.
    """

    def __init__(
        self, engine: Engine, metrics: Metrics, *, patience: float, clock: Callable[[], float], share: float = 1.0
    ) -> None:
        self._engine, self._metrics, self._patience, self._clock = engine, metrics, patience, clock
        self._worker: Worker[MetaResult] = Worker(clock)
        self._share = share
        self._budget = 0.0
        self._allowed = 0.0  # seconds that meta-updates may take during a backlog; less than 0: they took too much
        self._looked = clock()

    def between(self, *, worked_seconds: float = 0.0, more: bool = False, has_backlog: bool = False) -> bool:
        """Take in the meta-update that ended, begin the next that is due; whether θ changed.

        Args:
            worked_seconds: what the last batch took.
            more: whether another batch is at hand.
            has_backlog: whether more records wait than the loop takes at once.
        """
        since, self._looked = self._looked, self._clock()
        self._engine.has_backlog = has_backlog
        if has_backlog:
            self._allowed = min(self._allowed + self._share * (self._looked - since), _MOST_PATIENCE_SECONDS)
            changed = self._adopt(self._worker.collect())
            if self._allowed > 0:
                self._begin()
            return changed
        self._allowed = 0.0
        self._budget = min(self._budget + self._patience * worked_seconds, _MOST_PATIENCE_SECONDS)
        begun = self._clock()
        changed = self._adopt(self._worker.collect(self._budget if more and self._engine.meta_due else 0.0))
        if more:
            self._budget = max(0.0, self._budget - (self._clock() - begun))
        self._begin()
        return changed

    def _begin(self) -> None:
        if not self._worker.busy and self._engine.meta_due:
            job = self._engine.begin_meta_update()
            if job is not None:
                self._worker.start(job)

    def end(self) -> bool:
        """Take in the last meta-update, unless it takes too long, and end the thread; whether θ changed."""
        changed = self._adopt(self._worker.collect(_LAST_SECONDS))
        self.close()
        return changed

    def close(self) -> None:
        """End the thread; may be called twice."""
        self._worker.close(_LAST_SECONDS)

    def _adopt(self, done: Done[MetaResult] | None) -> bool:
        if done is None:
            return False
        self._allowed -= done.seconds
        if done.result is None:
            self._metrics.meta_update("failed", done.seconds)
            _log.error("meta-update failed; serving goes on with the weights as they were", exc_info=done.fault)
            return False
        self._engine.finish_meta_update(done.result)
        self._metrics.meta_update("accepted" if done.result.accepted else "refused", done.seconds, done.result.loss)
        return True
