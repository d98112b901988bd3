"""What the engine answers: values, frozen."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal, TypeAlias

import msgspec

from streammeta.engine.interval import Bounds
from streammeta.engine.presence import Reason
from streammeta.event import Event, Label, LabelValue
from streammeta.meta.outer import MetaStep

__all__ = ["WEIGHT_OF", "Correction", "EngineStats", "Limit", "MetaResult", "Outcome", "Signal", "TaskSummary"]

Limit: TypeAlias = Literal[
    "max_features", "feature_values", "max_classes", "max_waiting", "max_tasks", "max_known_tasks", "max_record_bytes"
]


WEIGHT_OF: Final = "weight of "  # so begin the names of parts of the mixture in what an engine says of itself


class Signal(StrEnum):
    """What the engine thinks happened to a task's concept with this event."""

    STEADY = "steady"
    DRIFT = "drift"
    NEW_TASK = "new_task"


class Outcome(msgspec.Struct, frozen=True):
    """What became of one event or late label."""

    event: Event | Label
    prediction: LabelValue | None = None  # the likeliest class, or the mean; None while nothing is known
    probabilities: dict[LabelValue, float] | None = None  # classification only
    variance: float | None = None  # regression only
    signal: Signal = Signal.STEADY
    theta_version: int = 0
    loss: float | None = None  # negative log-likelihood of the label under the prediction made before learning
    error: float | None = None  # 0 or 1, or the absolute error; None while there is no label
    age: int = 0  # labelled events of the task before this one
    since_drift: int | None = None  # labelled events since its last detected drift, from 0; None: never one
    rejected: str | None = None  # why the engine refused it; then nothing else is filled
    interval: Bounds | None = None  # lower and upper, with ``EngineSettings.interval``; a late label's as it was said


class Correction(Outcome, frozen=True):
    """A second label took the place of the first: nothing was predicted or scored by it."""


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """One task as ``streammeta inspect`` shows it."""

    task: str
    partition: int
    events: int  # seen
    labelled: int  # learned from
    error: float  # running mean error (0/1 or absolute) over about the last 50 labelled events; NaN before the first
    drifts: int
    last_drift_at: float | None  # ts of the event at which the last drift was signalled
    last_seen_at: float | None  # ts of the last event


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counts since the engine began; they survive snapshots."""

    events: int
    labelled: int
    tasks: int
    tasks_in_memory: int
    drifts: int
    meta_updates: int
    theta_version: int
    pending_labels: int
    expired: int  # events that left without a label, because more waited than [memory] max_waiting
    replaced: int  # the same, because another event of their task and id came
    refused: int
    corrected: int  # labels of an event that had one, with [labels] on_second = "relearn"
    resets: int  # of those refused, by a prediction that was not a finite number: the task began again
    classes: int
    features: int
    features_ignored: int  # because all slots were taken; this and the next three since this process began
    values_shared: int  # values of categories that share a slot with others, so that later features have slots
    classes_refused: int  # labels of a class beyond [memory] max_classes
    tasks_spilled: int  # tasks sent to disk, because more than [memory] max_tasks were in memory
    forgotten_by_age: int  # tasks forgotten since this process began, because of [memory] forget_after
    forgotten_by_limit: int  # because of [memory] max_known_tasks
    forgotten_as_asked: int
    waiting_forgotten: int  # events that left without a label, because their task was forgotten
    theta_norm: float  # Euclidean
    saturated: float  # share of the hidden units' outputs, at recent events, where hardly any gradient passes

    @property
    def tasks_forgotten(self) -> dict[Reason, int]:
        """Why tasks were forgotten, and how many."""
        return {"age": self.forgotten_by_age, "limit": self.forgotten_by_limit, "asked": self.forgotten_as_asked}

    @property
    def limits(self) -> dict[Limit, int]:
        """How often each limit of the engine was reached."""
        return {
            "max_features": self.features_ignored,
            "feature_values": self.values_shared,
            "max_classes": self.classes_refused,
            "max_waiting": self.expired,
            "max_tasks": self.tasks_spilled,
            "max_known_tasks": self.forgotten_by_limit,
        }


@dataclass(frozen=True, slots=True)
class MetaResult:
    """A meta-update made in the background, not yet adopted."""

    step: MetaStep

    @property
    def loss(self) -> float:
        """The meta-objective before the step."""
        return self.step.loss

    @property
    def accepted(self) -> bool:
        """Whether all its numbers were finite."""
        return self.step.accepted
