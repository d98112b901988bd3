"""Settings of drift detection, and the ranges of every detector's parameters. Without River, which takes a second."""

from typing import Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, Field

from streammeta.errors import ConfigError

__all__ = ["PARAMETERS", "DetectorName", "DriftResponseName", "DriftSettings", "Range", "checked_parameters"]

DetectorName: TypeAlias = Literal[
    "adwin", "change-point", "page-hinkley", "kswin", "ddm", "eddm", "hddm-a", "hddm-w", "none"
]
DriftResponseName: TypeAlias = Literal["mix", "reset", "recall"]


class DriftSettings(BaseModel, frozen=True, extra="forbid"):
    """How a change of a task's concept is noticed, and what is done about it."""

    detector: DetectorName = Field(
        default="adwin", description="What watches every task: a detector of River's by name, or change-point."
    )
    parameters: dict[str, float] = Field(
        default_factory=dict,
        description="Settings of that detector by their names there; the others keep our defaults.",
    )
    response: DriftResponseName = Field(
        default="mix",
        description="On drift: let the mixture decide between old and new (mix), begin again (reset), or as mix but "
        "with earlier concepts of the task that fit what came since (recall).",
    )
    concepts: int = Field(default=6, ge=1, le=64, description="Of recall: earlier concepts kept of each task.")
    concept_events: int = Field(
        default=32, ge=8, le=1024, description="Of recall: labelled events kept of each concept."
    )
    keep_events: int = Field(
        default=5,
        ge=0,
        description="Labels before a drift's signal that already count as of the new concept, with the response mix.",
    )
    warm_up_labels: int = Field(
        default=10,
        ge=0,
        description="Labels of a new task, or after a drift, that are not watched: it is still learning.",
    )

    def model_post_init(self, _context: object) -> None:
        """Check the parameters against the detector's, so that a typing error is found before the first poll."""
        checked_parameters(self)


class Range(NamedTuple):
    """A parameter of a detector: our default, and the values that it can stand."""

    default: float
    least: float
    most: float
    whole: bool = False


_TINY, _HUGE = 1e-9, 1e9
PARAMETERS: dict[DetectorName, dict[str, Range]] = {
    "none": {},
    "adwin": {
        "delta": Range(1.5, _TINY, 10),
        "clock": Range(1, 1, 10_000, whole=True),
        "max_buckets": Range(5, 2, 100, whole=True),
        "min_window_length": Range(3, 1, 10_000, whole=True),
        "grace_period": Range(10, 1, 1_000_000, whole=True),
    },
    "change-point": {
        "hazard": Range(0.005, _TINY, 0.5),
        "threshold": Range(0.9, _TINY, 1),
        "runs": Range(16, 2, 256, whole=True),
    },
    "page-hinkley": {
        "min_instances": Range(10, 1, 1_000_000, whole=True),
        "delta": Range(0.1, 0, 1),
        "threshold": Range(2.0, _TINY, _HUGE),
        "alpha": Range(0.9999, _TINY, 1),
    },
    "kswin": {
        "alpha": Range(0.005, _TINY, 1),
        "window_size": Range(60, 4, 10_000, whole=True),
        "stat_size": Range(20, 2, 5_000, whole=True),
        "seed": Range(1, 0, 2**32, whole=True),
    },
    "ddm": {"warm_start": Range(30, 1, 1_000_000, whole=True), "drift_threshold": Range(2.5, _TINY, 100)},
    "eddm": {"warm_start": Range(15, 1, 1_000_000, whole=True), "beta": Range(0.8, _TINY, 0.95)},
    "hddm-a": {"drift_confidence": Range(0.02, _TINY, 1)},
    "hddm-w": {"drift_confidence": Range(0.01, _TINY, 1), "lambda_val": Range(0.05, _TINY, 1)},
}


def checked_parameters(settings: DriftSettings) -> dict[str, float]:
    """The detector's parameters, complete and in range."""
    known = PARAMETERS[settings.detector]
    unknown = ", ".join(settings.parameters.keys() - known.keys())
    if unknown:
        wanted = ", ".join(known) or "none"
        raise ConfigError(f"drift.parameters: detector {settings.detector} has no {unknown}; wanted any of: {wanted}")
    values: dict[str, float] = {}
    for name, allowed in known.items():
        value = settings.parameters.get(name, allowed.default)
        if not allowed.least <= value <= allowed.most or (allowed.whole and value != int(value)):
            wanted = f"{'a whole number' if allowed.whole else 'a number'} from {allowed.least:g} to {allowed.most:g}"
            raise ConfigError(f"drift.parameters.{name}: got {value} for detector {settings.detector}, wanted {wanted}")
        values[name] = int(value) if allowed.whole else float(value)
    if settings.detector == "kswin" and values["window_size"] < 2 * values["stat_size"]:
        raise ConfigError(f"drift.parameters: kswin got {values}, wanted a window_size of at least twice the stat_size")
    return values
