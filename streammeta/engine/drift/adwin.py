"""ADWIN, by River's compiled window itself: `river.drift` around it takes most of a second to import.

It does what `river.drift.ADWIN` does, but that after a cut it keeps the newer part, as River's own documentation says,
where River's class throws that away, too.

Source: Bifet & Gavaldà (2007), Learning from time-changing data with adaptive windowing, SDM.
"""

from river._river_rust.drift import AdaptiveWindowing

__all__ = ["Adwin"]


class Adwin:
    """A window of recent values that is cut where the means of its two parts differ; parameters as River's.

    >>> adwin = Adwin(delta=0.002, clock=32, max_buckets=5, min_window_length=5, grace_period=10)
    >>> [at for at in range(128) if adwin.rises(float(at >= 48))]
    [95]
    """

    __slots__ = ("clock", "delta", "grace_period", "max_buckets", "min_window_length", "window")

    def __init__(self, delta: float, clock: int, max_buckets: int, min_window_length: int, grace_period: int) -> None:
        self.delta, self.clock, self.max_buckets = delta, clock, max_buckets
        self.min_window_length, self.grace_period = min_window_length, grace_period
        self.window = AdaptiveWindowing(delta, clock, max_buckets, min_window_length, grace_period)

    def rises(self, value: float) -> bool:
        """Take a value; was the window cut, and is its mean higher than before?"""
        window = self.window
        before = (window.get_total() + value) / (window.get_width() + 1)
        return bool(window.update(value) and window.get_total() / window.get_width() > before)
