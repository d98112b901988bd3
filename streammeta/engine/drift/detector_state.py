"""What detectors remember, as bytes and back, without pickle.

Saved are numbers only. Which class they belong to, and which attribute each of them is, says the code below and never
the data. Every number is checked for its range and against its neighbours, so that damaged data is refused here and
neither Python nor compiled code meets it later.
"""

import math
import random
import struct
from collections import deque
from typing import Annotated, Any, Self, TypeAlias

import msgspec

from streammeta.bounds import Count

__all__ = ["STATES", "AdwinLevel", "AdwinState", "DetectorState"]

_Int32: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
_Finite: TypeAlias = Annotated[float, msgspec.Meta(ge=-1e30, le=1e30)]
_Positive: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1e30)]
_Detector: TypeAlias = Any  # River has no types
_Unit: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1)]
_NearUnit: TypeAlias = Annotated[float, msgspec.Meta(ge=-1e-6, le=1 + 1e-6)]  # a mean of such, rounded
_Words: TypeAlias = Annotated[bytes, msgspec.Meta(min_length=2496, max_length=2496)]
_Position: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=624)]

_SLACK = 1e-6  # of sums that were added up in another order
_MERSENNE = struct.Struct("<624I")  # the words of Python's random generator


class DetectorState(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What a detector remembers, beyond what its parameters say."""

    @classmethod
    def of(cls, detector: _Detector) -> Self:
        """Read it off."""
        raise NotImplementedError

    def into(self, detector: _Detector) -> None:
        """Put it into a fresh detector with the same parameters; ValueError when the numbers contradict each other."""
        raise NotImplementedError


class _Mean(DetectorState, frozen=True):
    n: Count
    mean: _NearUnit

    @classmethod
    def of(cls, detector: _Detector) -> Self:
        return cls(int(detector.n), detector.get())

    def into(self, detector: _Detector) -> None:
        detector.n, detector._mean = float(self.n), self.mean


class _PageHinkley(DetectorState, frozen=True):
    """A running mean and the two sums."""

    mean: _Mean
    increase: _Finite
    decrease: _Finite
    least_increase: _Finite | None  # None: infinite
    most_decrease: _Finite

    @classmethod
    def of(cls, detector: _Detector) -> Self:
        d = detector
        least = None if d._min_increase == math.inf else d._min_increase
        return cls(_Mean.of(d._x_mean), d._sum_increase, d._sum_decrease, least, float(d._max_decrease))

    def into(self, detector: _Detector) -> None:
        sums = (self.increase, self.decrease, self.least_increase or 0.0, self.most_decrease)
        if max(map(abs, sums)) > 2.0 * (self.mean.n + 1):
            raise ValueError(f"sums {sums} that {self.mean.n} values in [0, 1] cannot have")
        self.mean.into(detector._x_mean)
        detector._sum_increase, detector._sum_decrease = self.increase, self.decrease
        detector._min_increase = math.inf if self.least_increase is None else self.least_increase
        detector._max_decrease = self.most_decrease


class _Kswin(DetectorState, frozen=True):
    """The window, and the generator that samples from it."""

    n: Count
    window: list[_Unit]
    random: tuple[_Words, _Position] | None  # None: not yet used

    @classmethod
    def of(cls, detector: _Detector) -> Self:
        state = detector._rng.getstate()
        used = state != random.Random(detector.seed).getstate()
        words = (_MERSENNE.pack(*state[1][:-1]), state[1][-1]) if used else None
        return cls(detector.n, list(detector.window), words)

    def into(self, detector: _Detector) -> None:
        if len(self.window) > detector.window_size:
            raise ValueError(f"a window of {len(self.window)} values, wanted at most {detector.window_size}")
        detector.n, detector.window = self.n, deque(self.window, maxlen=detector.window_size)
        if self.random is not None:
            words = _MERSENNE.unpack(self.random[0])
            if not any(words[1:]):
                raise ValueError("a random generator that would only ever give zeros")
            detector._rng.setstate((3, (*words, self.random[1]), None))


class _Ddm(DetectorState, frozen=True):
    """The error rate now, and at its best."""

    n: Count
    mean: _Unit
    least: tuple[_Unit, _Unit] | None  # mean and deviation at the lowest sum so far

    @classmethod
    def of(cls, detector: _Detector) -> Self:
        least = None if detector._p_min is None else (detector._p_min, detector._s_min)
        return cls(int(detector._p.n), detector._p.get(), least)

    def into(self, detector: _Detector) -> None:
        detector._p.n, detector._p._mean = float(self.n), self.mean
        if self.least is not None:
            detector._p_min, detector._s_min = self.least
            detector._ps_min = sum(self.least)


class _Eddm(DetectorState, frozen=True):
    """Distances between errors."""

    distance: _Positive  # mean, between errors
    squares: _Positive
    n: Count
    last_error: Count
    errors: Count
    most: _Finite

    @classmethod
    def of(cls, detector: _Detector) -> Self:
        d, var = detector, detector._error_distances
        return cls(float(var.mean.get()), var._S, d._n, d._last_error, d._n_errors, float(d._p2s_prime_max))

    def into(self, detector: _Detector) -> None:
        span = self.last_error  # the distances add up to it
        fits = abs(self.distance * self.errors - span) <= _SLACK * (span + 1) and self.squares <= float(span) ** 2 + 1
        if span > self.n or self.errors > self.n or not fits or -1 < self.most <= 0:
            raise ValueError("distances between errors that no stream has")
        var = detector._error_distances
        var.mean.n, var.mean._mean, var._S = float(self.errors), self.distance, self.squares
        detector._n, detector._last_error, detector._n_errors = self.n, self.last_error, self.errors
        detector._p2s_prime_max = self.most


class _HddmA(DetectorState, frozen=True):
    """The mean of everything, and of the beginnings that were lowest and highest."""

    total: _Mean
    lowest: _Mean
    highest: _Mean

    @classmethod
    def of(cls, detector: _Detector) -> Self:
        return cls(_Mean.of(detector._z), _Mean.of(detector._x_min), _Mean.of(detector._x_max))

    def into(self, detector: _Detector) -> None:
        if max(self.lowest.n, self.highest.n) > self.total.n:
            raise ValueError("a part of the stream that is longer than all of it")
        self.total.into(detector._z)
        self.lowest.into(detector._x_min)
        self.highest.into(detector._x_max)


class _HddmW(DetectorState, frozen=True):
    """Weighted means of everything, and of the parts before and after a suspected rise or fall."""

    samples: tuple[tuple[_NearUnit | None, _Unit], ...]  # weighted mean (None: no value yet), bound
    cuts: tuple[_Finite | None, _Finite | None]  # None: infinite

    @classmethod
    def of(cls, detector: _Detector) -> Self:
        samples = tuple((float(s.ewma) if s.is_init else None, s.ibc) for s in _hddm_samples(detector))
        low, high = (None if math.isinf(c) else c for c in (detector._incr_cutpoint, detector._decr_cutpoint))
        return cls(samples, (low, high))

    def into(self, detector: _Detector) -> None:
        for sample, (mean, bound) in zip(_hddm_samples(detector), self.samples, strict=True):
            sample._ibc = bound
            if mean is not None:
                sample._ewma.update(mean)  # the first value is taken as it is
                sample._is_init = True
        low, high = self.cuts
        detector._incr_cutpoint = math.inf if low is None else low
        detector._decr_cutpoint = -math.inf if high is None else high


def _hddm_samples(detector: _Detector) -> tuple[Any, ...]:
    return detector._total, detector._s1_incr, detector._s2_incr, detector._s1_decr, detector._s2_decr


class AdwinLevel(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Buckets of 2^i values each."""

    totals: list[_Positive]
    variances: list[_Positive]


class AdwinState(DetectorState, frozen=True):
    """ADWIN's exponential histogram; its width follows from the levels."""

    total: _Finite
    variance: _Finite
    total_width: _Positive
    buckets: _Int32  # River counts them up, not down when two are merged; so they do not follow from the levels
    most_buckets: _Int32
    tick: _Int32
    detections: _Int32
    rows: Annotated[list[AdwinLevel], msgspec.Meta(min_length=1, max_length=40)]

    def check(self, max_buckets: int) -> None:
        """Refuse what no values in [0, 1] have, before it grows into infinities; ValueError says what it is."""
        counts = [len(row.totals) for row in self.rows]
        if max(counts) > max_buckets or counts != [len(row.variances) for row in self.rows]:
            raise ValueError(f"buckets {counts}, wanted at most {max_buckets} a row, each with a total and a variance")
        if 0 in counts and counts != [0]:
            raise ValueError(f"buckets {counts}, wanted none empty")
        width, total = 0, 0.0
        for i, (row, count) in enumerate(zip(self.rows, counts, strict=True)):
            if count and max(*row.totals, *row.variances) > 2.0**i + _SLACK:
                raise ValueError(f"row {i} has a bucket with a sum above its {2**i} values of at most 1")
            width += count << i
            total += sum(row.totals)
        if abs(self.total - total) > _SLACK * (width + 1) or abs(self.variance) > width + 1:
            raise ValueError(f"a sum of {self.total} and variance of {self.variance}, the {width} values have {total}")


class _Run(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """One hypothesis: the level has been the same for ``n`` values."""

    weight: _Unit
    n: Count
    total: _Positive
    before: _Unit


class _ChangePoint(DetectorState, frozen=True):
    """The belief about runs, and how much values scatter. Places of runs count: ties and rounding follow them."""

    runs: list[_Run]
    dispersion: tuple[_Positive, _Positive]

    @classmethod
    def of(cls, detector: _Detector) -> Self:
        runs = [_Run(weight, int(n), total, before) for weight, n, total, before in detector._runs.tolist()]
        return cls(runs, tuple(detector._dispersion.tolist()))

    def into(self, detector: _Detector) -> None:
        weight = sum(run.weight for run in self.runs)
        if len(self.runs) != detector.runs or abs(weight - 1) > _SLACK:
            raise ValueError(f"{len(self.runs)} runs of weight {weight}, wanted {detector.runs} of weight 1")
        if any(run.total > run.n + _SLACK * (run.n + 1) for run in self.runs):
            raise ValueError("a run whose sum is above its number of values of at most 1")
        squares, count = self.dispersion
        if count < 1 or squares > 100 * count:
            raise ValueError(f"a dispersion of {squares} / {count} that no values in [0, 1] have")
        detector._runs[:] = [(run.weight, run.n, run.total, run.before) for run in self.runs]
        detector._dispersion[:] = self.dispersion


STATES: dict[str, type[DetectorState]] = {
    "change-point": _ChangePoint,
    "page-hinkley": _PageHinkley,
    "kswin": _Kswin,
    "ddm": _Ddm,
    "eddm": _Eddm,
    "hddm-a": _HddmA,
    "hddm-w": _HddmW,
}
