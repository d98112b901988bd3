"""What a run found: one JSON line a (stream, learner, wiring, seed), added at once, so that it can be resumed."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from math import erf, isfinite, sqrt
from pathlib import Path

import numpy as np
import numpy.typing as npt

__all__ = ["COVERAGES", "Line", "read", "scores"]

COVERAGES = (50, 80, 90, 95)  # per cent
_BINS = 10
_WARM = 1_000  # events after which intervals are judged, where there are twice as many
_FIRST = (20, 100)


@dataclass(frozen=True)
class Line:
    """One learner on one stream."""

    stream: str
    learner: str
    wiring: str
    seed: int
    events: int
    scores: dict[str, float | None] = field(default_factory=dict)
    seconds: float = 0.0
    problem: str = ""

    @property
    def key(self) -> tuple[str, str, str, int, int]:
        """What must not be run twice."""
        return self.stream, self.learner, self.wiring, self.seed, self.events

    @property
    def error(self) -> float:
        """What is ranked: per cent of wrong classes, or the mean absolute error; infinite where it failed."""
        value = self.scores.get("error")
        return float("inf") if value is None else value

    def append(self, path: Path) -> None:
        """Add it to the file."""
        with path.open("a") as lines:
            lines.write(json.dumps(asdict(self)) + "\n")


def read(path: Path) -> list[Line]:
    """The lines of a file, the last of each key; a line cut off by a crash is left out."""
    found = {line.key: line for line in _lines(path)} if path.exists() else {}
    return list(found.values())


def _lines(path: Path) -> Iterator[Line]:
    for text in path.read_text().splitlines():
        try:
            yield Line(**json.loads(text))
        except json.JSONDecodeError:
            continue


def scores(
    kind: str, ys: npt.NDArray[np.float64], predictions: Sequence[float | None], sureness: Sequence[float | None]
) -> dict[str, float | None]:
    """The error over the stream and its first events, and how well the learner knows how sure it may be.

    Args:
        kind: of the stream.
        ys: [N]
        predictions: [N]; None, and what is not finite, is a wrong class or the value 0. Events that a learner which ran
            out of time did not reach count so too.
        sureness: [N]; the probability of the class predicted, or the standard deviation; None: it does not say.

    Returns:
        ``error`` (per cent, or mean absolute), ``first 20``, ``first 100``; with sureness ``ece`` (the mean difference
        of probability and share of right ones over ten bins, in points) or ``coverage 50`` and so on, in per cent.
    """
    known = [value is not None and isfinite(value) for value in predictions]
    said = np.full(len(ys), np.nan)
    said[: len(known)] = [value if is_known else np.nan for value, is_known in zip(predictions, known, strict=True)]
    classify = kind == "classification"
    errors = np.where(np.isnan(said) | (said != ys), 100.0, 0.0) if classify else np.abs(np.nan_to_num(said) - ys)
    found: dict[str, float | None] = {"error": float(errors.mean())}
    found |= {f"first {first}": float(errors[:first].mean()) for first in _FIRST}
    sure = np.full(len(ys), np.nan)
    sure[: len(sureness)] = [np.nan if value is None else value for value in sureness]
    is_known = np.isfinite(sure) & ~np.isnan(said)
    if 2 * is_known.sum() < len(ys):
        return found
    return found | (
        _calibration(sure[is_known], errors[is_known] == 0) if classify else _coverages(sure, said - ys, is_known)
    )


def _calibration(sure: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> dict[str, float | None]:
    bins = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    counts, sums = np.bincount(bins, minlength=_BINS), np.bincount(bins, sure - right, minlength=_BINS)
    return {"ece": float(100 * np.abs(sums).sum() / counts.sum())}


def _coverages(
    spread: npt.NDArray[np.float64], residuals: npt.NDArray[np.float64], is_known: npt.NDArray[np.bool_]
) -> dict[str, float | None]:
    """The share of targets inside the Gaussian's central interval."""
    begin = _WARM if len(residuals) >= 2 * _WARM else len(residuals) // 2
    kept = is_known & (np.arange(len(residuals)) >= begin)
    z = np.abs(residuals[kept]) / np.maximum(spread[kept], 1e-300)
    inside = np.array([erf(one / sqrt(2)) for one in z.tolist()])
    return {f"coverage {share}": float(100 * (inside <= share / 100).mean()) for share in COVERAGES}
