"""How much of its time a loop works, and how much it waits for records: what a scaler needs beside the lag."""

import math
import time
from collections.abc import Callable, Sequence

from streammeta.event import Record
from streammeta.service.metrics import Metrics
from streammeta.transport.base import Source

__all__ = ["Busy"]

_MEMORY_SECONDS = 30.0  # the gauge is a mean of about this much time


class Busy:
    """The share of time at work, as `streammeta_busy_ratio` and `streammeta_busy_seconds_total`.

    Time inside a poll is waiting, unless the poll came back with half of what it may take or more: then records were
    there, and reading them was work.

    Args:
        metrics: shows the share.
        clock: monotonic seconds.
    """

    def __init__(self, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics, self._clock = metrics, clock
        self._shown_at = clock()
        self._waited = 0.0  # seconds since then
        self._share: float | None = None  # before the first look nothing is known

    def poll(self, source: Source, max_records: int, wait_seconds: float) -> Sequence[Record]:
        """Poll ``source``, and note how long it waited."""
        begun = self._clock()
        records = source.poll(max_records, wait_seconds)
        if 2 * len(records) < max_records:
            self._waited += self._clock() - begun
        return records

    def show(self) -> None:
        """Show the share up to now; call it about once a second."""
        now = self._clock()
        elapsed = now - self._shown_at
        if elapsed <= 0:
            return
        worked = max(0.0, elapsed - self._waited)
        past = 0.0 if self._share is None else math.exp(-elapsed / _MEMORY_SECONDS)
        self._share = past * (self._share or 0.0) + (1 - past) * worked / elapsed
        self._metrics.worked(worked, self._share)
        self._shown_at, self._waited = now, 0.0
