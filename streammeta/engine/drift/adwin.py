"""ADWIN of many tasks: a window of each one's recent values, cut where the means of its two parts differ.

It does what `river.drift.ADWIN` does, bit by bit, but that after a cut it keeps the newer part, as River's own
documentation says, where River's class throws that away, too. The work is done by `streammeta/native/adwin.cpp`.

Source: Bifet & Gavaldà (2007), Learning from time-changing data with adaptive windowing, SDM.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from streammeta.engine.drift.detector_state import AdwinLevel, AdwinState, DetectorState
from streammeta.native import _kernels as kernels

__all__ = ["AdwinTable"]


class AdwinTable:
    """The windows of many tasks, by row; one that drifted begins again.

    Args:
        parameters: as River's; README's table of settings has their ranges.
        warm_up: values of a row let pass before watching begins.

    >>> settings = {"delta": 0.002, "clock": 32, "max_buckets": 5, "min_window_length": 5, "grace_period": 10}
    >>> table = AdwinTable(settings, warm_up=0)
    >>> [at for at in range(128) if table.watch([7], [float(at >= 48)]) is not None]
    [95]
    """

    state_type: type[DetectorState] = AdwinState

    def __init__(self, parameters: Mapping[str, float], warm_up: int) -> None:
        whole = (int(parameters[name]) for name in ("clock", "max_buckets", "min_window_length", "grace_period"))
        self._max_buckets = int(parameters["max_buckets"])
        self._windows = kernels.Adwins(warm_up, parameters["delta"], *whole)

    def watch(self, rows: Sequence[int], values: Sequence[float]) -> int | None:
        """Let each row see its value, in order, up to the first after which its mean rose; its place, None: no such."""
        at = self._windows.watch(np.array(rows, np.int64), np.array(values, np.float64))
        return None if at < 0 else at

    def reset(self, row: int) -> None:
        """Forget what was seen of this row."""
        self._windows.reset(row)

    def state(self, row: int) -> tuple[int, AdwinState | None] | None:
        """Values let pass, and the window, if watching has begun; None: nothing was seen."""
        found = self._windows.state(row)
        if found is None:
            return None
        passed, sums, counts, levels = found
        return passed, AdwinState(*sums, *counts, [AdwinLevel(*level) for level in levels]) if levels else None

    def load(self, row: int, passed: int, state: DetectorState | None) -> None:
        """Go on from what ``state`` gave; ValueError where its numbers contradict each other."""
        if state is None:
            self._windows.load(row, passed, (0.0, 0.0, 0.0), (0, 0, 0, 0), [])
            return
        assert isinstance(state, AdwinState)  # as ``state_type`` says
        state.check(self._max_buckets)
        sums, counts = (state.total, state.variance, state.total_width), (state.buckets, state.most_buckets)
        levels = [(level.totals, level.variances) for level in state.rows]
        self._windows.load(row, passed, sums, (*counts, state.tick, state.detections), levels)
