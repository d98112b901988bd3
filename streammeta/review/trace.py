"""What one learner did in a run, kept so that it can be drawn and compared: error by error, and how sure it was.

Memory: four bytes a labelled event; everything else has a fixed size, whatever the number of tasks.
"""

import base64
import math
from array import array
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from streammeta.engine import Kind, Outcome
from streammeta.event import Event
from streammeta.report import AgeCurve, Figures, Tally

__all__ = ["LEVELS", "Calibration", "Trace", "decode_errors", "encode_errors"]

_BINS: Final = 10
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # of central intervals
_QUANTILES = (0.1257, 0.2533, 0.3853, 0.5244, 0.6745, 0.8416, 1.0364, 1.2816, 1.6449, 1.9600)  # |z| that bound them
_Doubles = npt.NDArray[np.float64]


class Calibration:
    """Were predictions as often right as they said?

    Classes: ten bins of confidence (the likeliest class's probability), each with its share of right answers. Targets:
    how many lay inside the central intervals that the Gaussian prediction gives.
    """

    def __init__(self, kind: Kind) -> None:
        self._classify = kind == "classification"
        self._count = np.zeros(_BINS)
        self._sure = np.zeros(_BINS)  # sums of confidence
        self._right = np.zeros(_BINS)

    def add(self, outcome: Outcome, error: float) -> None:
        """Take in one judged prediction."""
        if self._classify:
            if not outcome.probabilities:
                return
            sure = max(outcome.probabilities.values())
            at = min(int(sure * _BINS), _BINS - 1)
            self._count[at] += 1
            self._sure[at] += sure
            self._right[at] += error == 0
        elif outcome.variance is not None and outcome.variance > 0:
            z = error / math.sqrt(outcome.variance)
            self._count += 1
            self._right += [z <= bound for bound in _QUANTILES]

    def figures(self) -> Figures | None:
        """Points of the curve, and the mean gap between what was said and what was; None when nobody said anything."""
        known = self._count > 0
        if not known.any():
            return None
        share = self._right[known] / self._count[known]
        said = self._sure[known] / self._count[known] if self._classify else np.array(LEVELS)
        weight = self._count[known] / self._count.sum()
        return {
            "said": said.tolist(),
            "was": share.tolist(),
            "labels": self._count[known].astype(int).tolist(),
            "mean_gap": float(np.abs(said - share) @ weight),
        }


class Trace:
    """One learner's errors and figures.

    Args:
        name: what the report calls it.
        description: what it is, in a sentence.
        tally: its figures; the caller may feed it, then ``observe`` must not.
        fed: whether somebody else feeds the tally.
    """

    def __init__(self, name: str, description: str, tally: Tally, *, fed: bool = False) -> None:
        self.name, self.description, self.tally = name, description, tally
        self._fed = fed
        self.errors = array("f")  # of each label, in the order of the labels; NaN where nothing was predicted
        self.by_age = AgeCurve()
        self.after_true_drift = AgeCurve()
        self.calibration = Calibration(tally.kind)
        self.seconds = 0.0
        self.events = 0
        self.failed: str | None = None  # why it was left out from some event on

    def add(self, outcomes: Sequence[Outcome], ages: Sequence[int], since: Sequence[int | None]) -> None:
        """Add outcomes; for each, the task's labels before it, and those since its concept truly changed (if known)."""
        if not self._fed:
            self.tally.add(outcomes)
        for outcome, age, true in zip(outcomes, ages, since, strict=True):
            self.events += isinstance(outcome.event, Event)
            if outcome.event.y is None:
                continue
            error = outcome.error
            self.errors.append(math.nan if error is None else error)
            if error is None:
                continue
            self.by_age.add(age, error)
            self.calibration.add(outcome, error)
            if true is not None:
                self.after_true_drift.add(true, error)

    @property
    def error(self) -> float | None:
        """Mean of the errors so far; None before the first."""
        return self.tally.error

    def figures(self) -> Figures:
        """Everything, ready for JSON."""
        whole = self.tally.figures()
        apart = {"error_after_drift", "labels_after_drift", "events", "labelled", "rejected", "classes_of", "confusion"}
        return {
            "what": self.description,
            **({} if self.failed is None else {"failed": self.failed}),
            "error": self.error,
            **{name: value for name, value in whole.items() if name not in apart and "by_age" not in name},
            "seconds": self.seconds,
            "events_per_second": self.events / self.seconds if self.seconds > 0 else None,
            "error_by_age": self.by_age.means(),
            "error_after_true_drift": self.after_true_drift.means(),
            "calibration": self.calibration.figures(),
            "errors": encode_errors(self.errors, self.tally.kind),
        }


def encode_errors(errors: "Sequence[float] | array[float]", kind: Kind) -> Figures:
    """Errors of all labels as text for JSON: one bit each for classes, a float each for targets."""
    values = np.asarray(errors, np.float32)
    if kind == "classification":
        packed, encoding = np.packbits(np.nan_to_num(values, nan=1.0) != 0).tobytes(), "bits"
    else:
        packed, encoding = values.astype("<f4").tobytes(), "float32"
    return {"count": len(values), "encoding": encoding, "data": base64.b64encode(packed).decode("ascii")}


def decode_errors(encoded: Figures | Any) -> _Doubles:  # noqa: ANN401 it comes from a file
    """What ``encode_errors`` wrote, [N].

    >>> decode_errors(encode_errors([0.0, 1.0, 1.0], "classification")).tolist()
    [0.0, 1.0, 1.0]

    Raises:
        ValueError: it is damaged.
    """
    try:
        count, data = int(encoded["count"]), base64.b64decode(encoded["data"], validate=True)
        bits = encoded["encoding"] == "bits"
    except (KeyError, TypeError) as err:
        raise ValueError(f"not the errors of a run ({err!r})") from err
    if bits:
        values = np.unpackbits(np.frombuffer(data, np.uint8))[:count].astype(np.float64)
    else:
        values = np.frombuffer(data, "<f4").astype(np.float64)
    if len(values) != count:
        raise ValueError(f"{len(values)} errors, wanted {count}")
    return values
