"""Did a task's concept change? A detector by name for each task, on what each label was like before it was learned.

**What is watched.** Real-valued detectors see the *surprise* of a label, 1 − p(y) / max p: for classes the probability
missed, 1 − exp(−loss); for numbers 1 − exp(−z²/2), where the Gaussian prediction is off by z of its own standard
deviations. It lies in [0, 1] whatever the unit of the target, and varies less than the error does. Binary detectors see
the error of a class, and of a number whether it lies outside the interval that should hold 90 % of them.

**Only rises count.** DDM, EDDM, HDDM and Page-Hinkley (mode "up") look for nothing else. ADWIN and KSWIN also fire when
the loss falls, as it does while a task is learned: what is signalled is that the mean of the newer part lies above the
mean of before. After a fall they keep the newer part of their window, the better baseline, and nothing is signalled.

**Why these defaults.** The learner adapts to a new concept by itself, so a detector has about 15 events to notice, and
bounds made for windows of thousands (River's defaults) never do. ADWIN's delta is no probability any more above 1: the
bound it enters is that conservative on windows of a hundred events. Change-point is our own, see ``changepoint``
beside this file. Measured by ``benchmarks.detection`` with keep_events 0: drifts found, their median
delay in events of the task, false signals in 1,000 events, accuracy of the engine, and that on the 11th to 20th event
after each switch:

    ============  ============================================  ==========================  ========================
    ..            switch: 300 tasks, 441 switches               sea: 3 drifts               stagger: 3 drifts
    detector      found  delay  false  accuracy  11 to 20       found  delay  false  acc.   found  delay  false  acc.
    ============  ============================================  ==========================  ========================
    none              -      -      -     74.52      69.7           -      -      -  88.20      -      -      -  99.69
    adwin           252     12   0.08     75.40      67.9           3     75   1.30  88.16      3      5   0.00  99.76
    change-point    215      4   0.25     75.67      69.7           3     76   0.90  88.17      3      1   0.00  99.79
    hddm-a           93      6   0.17     74.90      69.1           3    231   0.30  88.22      3      9   0.00  99.76
    ddm              86     13   0.18     74.72      68.6           1   1307   0.15  88.22      3      5   0.00  99.73
    page-hinkley     89     10   0.00     74.82      68.9           3     74   1.30  88.20      3      5   0.00  99.76
    ============  ============================================  ==========================  ========================

**Why the slowest head keeps the last five.** A signal comes late: with keep_events 5 instead of 0, ADWIN's accuracy on
switch is 75.83 instead of 75.40, and 70.1 instead of 67.9 on the 11th to 20th event; elsewhere it moves by at most 0.05
(elec2 95.87 for 95.92, wisdm_mixed 86.38 for 86.40, agrawal 89.12 for 89.08, rbf 92.54 for 92.49). Change-point then
has 75.83 and 71.8; but where it signals after one or two events, five are too many, so set 0 where changes are clear.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from streammeta.bounds import Count
from streammeta.engine.drift.adwin import AdwinTable
from streammeta.engine.drift.detector_state import STATES, DetectorState
from streammeta.engine.drift.settings import PARAMETERS, DetectorName, DriftSettings, checked_parameters
from streammeta.errors import ConfigError, SnapshotError
from streammeta.native import _kernels as kernels

__all__ = ["Detectors", "settings_like"]

_Detector: TypeAlias = Any  # River has no types: an instance of one of the classes in _KINDS

_VERSION = 1  # of what `dump` writes


class Detectors:
    """The detectors of many tasks, by row; made when a row is first watched.

    An event costs about 0.1 µs (HDDM 3 to 4, KSWIN 70). A task takes 1 kB with ADWIN, 3 kB with HDDM-W, 6 kB with
    KSWIN, 1 kB with change-point, and about half a kB with the others.

    >>> detectors = Detectors(DriftSettings())
    >>> sure, wrong = 0.1, 2.3  # losses: -log of the probability given to the label
    >>> [at for at in range(90) if detectors.update(7, wrong if at >= 60 else sure, error=float(at >= 60))]
    [63]
    """

    def __init__(self, settings: DriftSettings) -> None:
        self._settings = settings
        kind = None if settings.detector == "none" else _KINDS[settings.detector]
        self.binary = kind is not None and kind.binary  # they see only if a prediction was right
        self._parameters = checked_parameters(settings)
        self._table = None if kind is None else _table(settings, kind, self._parameters)
        self._decoder = msgspec.msgpack.Decoder(self._table.state_type | None) if self._table else None
        self._print = zlib.crc32(repr((settings.detector, sorted(self._parameters.items()))).encode())

    def update(self, row: int, loss: float, error: float, variance: float | None = None) -> bool:
        """Observe one label's loss, as it was before its event was learned; was that a drift?

        After a drift the row starts again, as after `reset`. What is not a number is not watched.

        Args:
            row: the task.
            loss: negative log-likelihood of the label.
            error: 0 or 1 for classes, the absolute error for numbers.
            variance: of the prediction, for numbers; None for classes.
        """
        if variance is None:
            return self.watch(row, kernels.watched_class(loss, error, self.binary))
        return self.watch(row, kernels.watched_value(error, variance, self.binary))

    def watch(self, row: int, value: float) -> bool:
        """As `update`, of the number in [0, 1] that a detector sees of a label; see the module."""
        return self.watch_all([row], [value]) is not None

    def watch_all(self, rows: Sequence[int], values: Sequence[float]) -> int | None:
        """As `watch` of each in turn, up to the first drift; its place, or None where there is none."""
        return None if self._table is None else self._table.watch(rows, values)

    def reset(self, row: int) -> None:
        """Forget what was seen of this row."""
        if self._table is not None:
            self._table.reset(row)

    def dump(self, row: int) -> bytes:
        """This row's state, from which `load` goes on exactly as if nothing had happened; empty for a fresh row."""
        found = None if self._table is None else self._table.state(row)
        return b"" if found is None else _PACK.encode((_VERSION, self._print, *found))

    def load(self, row: int, data: bytes) -> None:
        """Take over what `dump` wrote; nothing changes when that fails.

        Raises:
            SnapshotError: the data is damaged, or comes from another detector or other parameters.
        """
        if not data or self._table is None or self._decoder is None:
            self.reset(row)
            return
        try:
            saved = _SAVED.decode(data)
            if saved.settings != self._print:
                raise SnapshotError(
                    f"drift detector of row {row}: saved with another detector or other parameters than "
                    f"{self._settings.detector} {self._parameters}; restore these settings, or drop the detectors"
                )
            self._table.load(row, saved.warm_up_seen, self._decoder.decode(saved.state))
        except (msgspec.DecodeError, ValueError, RecursionError) as err:
            raise SnapshotError(
                f"drift detector of row {row}: {len(data)} bytes that `dump` did not write: {err}"
            ) from err


class _Table(Protocol):
    """Detectors of one kind, by row; made when a row is first watched."""

    state_type: type[DetectorState]

    def watch(self, rows: Sequence[int], values: Sequence[float]) -> int | None:
        """Let each row see its value, in order, up to the first drift, after which its row begins again; its place."""

    def reset(self, row: int) -> None:
        """Forget what was seen of this row."""

    def state(self, row: int) -> tuple[int, DetectorState | None] | None:
        """Labels let pass, and the state, if watching has begun; None: nothing was seen."""

    def load(self, row: int, passed: int, state: DetectorState | None) -> None:
        """Go on from what ``state`` gave; nothing changes where that raises ValueError: numbers contradict others."""


def _table(settings: DriftSettings, kind: "_Kind", parameters: dict[str, Any]) -> _Table:
    if settings.detector == "adwin":
        return AdwinTable(parameters, settings.warm_up_labels)
    return _Objects(kind, parameters, settings.warm_up_labels, STATES[settings.detector])


class _Objects:
    """A detector of River's, or one like it, for each row."""

    def __init__(
        self, kind: "_Kind", parameters: dict[str, Any], warm_up: int, state_type: type[DetectorState]
    ) -> None:
        self._kind, self._parameters, self._warm_up, self.state_type = kind, parameters, warm_up, state_type
        self._rows: dict[int, _Watch] = {}

    def watch(self, rows: Sequence[int], values: Sequence[float]) -> int | None:
        for i, (row, value) in enumerate(zip(rows, values, strict=True)):
            if 0.0 <= value <= 1.0 and self._rises(row, value):  # NaN is not
                del self._rows[row]
                return i
        return None

    def _rises(self, row: int, value: float) -> bool:
        watch = self._rows.get(row)
        if watch is None:
            watch = self._rows[row] = _Watch()
        if watch.warm_up_seen < self._warm_up:
            watch.warm_up_seen += 1
            return False
        if watch.detector is None:
            watch.detector = self._made()
        return self._kind.rises(watch.detector, value)

    def _made(self) -> _Detector:
        return self._kind.make(**self._parameters, **self._kind.fixed)

    def reset(self, row: int) -> None:
        self._rows.pop(row, None)

    def state(self, row: int) -> tuple[int, DetectorState | None] | None:
        watch = self._rows.get(row)
        if watch is None:
            return None
        return watch.warm_up_seen, None if watch.detector is None else self.state_type.of(watch.detector)

    def load(self, row: int, passed: int, state: DetectorState | None) -> None:
        watch = _Watch(passed)
        if state is not None:
            watch.detector = self._made()
            state.into(watch.detector)
        self._rows[row] = watch


@dataclass(slots=True)
class _Watch:
    warm_up_seen: int = 0  # labels let pass before watching began
    detector: _Detector | None = None


def _signals(detector: _Detector, value: float) -> bool:
    """Update a detector that looks for rises only."""
    detector.update(value)
    return bool(detector.drift_detected)


def _kswin_rises(detector: _Detector, value: float) -> bool:
    """Update KSWIN; when its newest values stand out, are they the higher ones?"""
    window, size = detector.window, detector.stat_size
    detector.update(value)
    if not detector.drift_detected:
        return False
    detector._drift_detected = False  # or its next update throws the newer part away
    values = list(window)  # River has put a new, shorter one in its place
    return bool(sum(values[-size:]) / size > sum(values[:-size]) / (len(values) - size))


@dataclass(frozen=True)
class _Kind:
    path: str  # of the class
    fixed: dict[str, str] = field(default_factory=dict)
    binary: bool = False
    rises: Callable[[_Detector, float], bool] = _signals

    @property
    def make(self) -> type[_Detector]:
        """The class; imported when the first task needs it, as `river.drift` takes most of a second."""
        return _class_at(self.path)


@cache
def _class_at(path: str) -> type[_Detector]:
    module, _, name = path.rpartition(".")
    found: type[_Detector] = getattr(import_module(module), name)
    return found


_KINDS: dict[DetectorName, _Kind] = {
    "adwin": _Kind("river.drift.ADWIN"),  # whose parameters ours takes: see ``AdwinTable``
    "change-point": _Kind("streammeta.engine.drift.changepoint.ChangePoint"),
    "page-hinkley": _Kind("river.drift.PageHinkley", fixed={"mode": "up"}),
    "kswin": _Kind("river.drift.KSWIN", rises=_kswin_rises),
    "ddm": _Kind("river.drift.binary.DDM", binary=True),
    "eddm": _Kind("river.drift.binary.EDDM", binary=True),
    "hddm-a": _Kind("river.drift.binary.HDDMA", binary=True),
    "hddm-w": _Kind("river.drift.binary.HDDMW", binary=True),
}


def settings_like(detector: str | _Detector) -> dict[str, Any]:
    """The settings that watch every task as this detector would: a name, or one of River's objects.

    >>> from river import drift
    >>> settings_like(drift.ADWIN(delta=0.01, clock=8))["parameters"]["delta"]
    0.01

    Raises:
        ConfigError: none of the detectors is of this kind.
    """
    if isinstance(detector, str):
        return {"detector": detector}
    if isinstance(detector, _class_at("river.drift.NoDrift")):
        return {"detector": "none"}
    for name, kind in _KINDS.items():
        if type(detector) is _class_at(kind.path):
            given = {known: getattr(detector, known) for known in PARAMETERS[name]}
            return {"detector": name, "parameters": {n: float(v) for n, v in given.items() if v is not None}}
    wanted = ", ".join((kind.path).rpartition(".")[2] for kind in _KINDS.values())
    raise ConfigError(
        f"drift detector: got a {type(detector).__name__}, whose state cannot be kept for each task; "
        f"wanted one of {wanted}, NoDrift, or a name"
    )


class _Saved(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    version: Literal[1]
    settings: int  # checksum of detector and parameters
    warm_up_seen: Count
    state: msgspec.Raw  # of the detector's kind; nil before the detector is made


_SAVED = msgspec.msgpack.Decoder(_Saved)
_PACK = msgspec.msgpack.Encoder()
