"""What a scenario is: its settings and its world, as pure functions."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from pydantic import BaseModel, Field, field_validator

__all__ = ["DriftKind", "Floats", "Ints", "Schedule", "StreamSettings", "World"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
DriftKind: TypeAlias = Literal["abrupt", "gradual", "incremental", "none"]
Schedule: TypeAlias = Literal["uniform", "memoryless", "fixed"]


class StreamSettings(BaseModel, frozen=True, extra="forbid"):
    """What every scenario lets one set, in any combination; scenarios add their own."""

    tasks: int = Field(default=100, ge=1, le=1_000_000, description="Number of tasks.")
    start_tasks: int | None = Field(
        default=None, ge=1, description="Tasks there from the first event; all when not set."
    )
    new_task_every: int = Field(
        default=100, ge=1, description="Events between arrivals of the tasks that are not there at first."
    )
    popularity: float = Field(
        default=0.0, ge=0, le=5, description="Zipf exponent of how often tasks speak; 0: all alike."
    )
    clusters: int | None = Field(
        default=None,
        ge=1,
        description="Groups of tasks that pass through the same concepts, each task at times of its own.",
    )
    cluster_spread: float = Field(
        default=0.0, ge=0, le=1, description="How far a task's concept lies from its cluster's, towards one of its own."
    )
    drift: DriftKind = Field(
        default="abrupt", description="How a task passes from one concept to the next, without telling."
    )
    drift_width: int = Field(
        default=40, ge=1, description="Events of the task that a gradual or incremental change takes."
    )
    concept_events: int = Field(default=200, ge=1, description="Mean number of a task's events under one concept.")
    schedule: Schedule = Field(
        default="uniform",
        description="Length of a concept's reign: ± 25 % about the mean, by a constant hazard, or exactly the mean.",
    )
    concepts: int | None = Field(
        default=None,
        ge=2,
        description="Concepts in a pool that come back (recurring drift); when not set each concept is new.",
    )
    noise: float = Field(
        default=0.0, ge=0, description="Share of wrong labels, or standard deviation of the target's noise."
    )
    scale_spread: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="Units of a task's own: each feature, and a target, times 10^(this · N(0, 1)); 0: one for all.",
    )
    offset_spread: float = Field(
        default=0.0,
        ge=0,
        le=1e9,
        description="Zero points of a task's own: each feature, and a target, plus this · N(0, 1) of its units.",
    )
    missing: float = Field(
        default=0.0, ge=0, lt=1, description="Share of feature values that are missing; one of an event always stays."
    )
    imbalance: float = Field(
        default=0.0, ge=0, lt=1, description="Share of events for which one of class 0 is sought, in up to 8 draws."
    )
    label_delay: int = Field(
        default=0, ge=0, description="Events of the stream after which a label comes; 0: with its event."
    )
    label_delay_schedule: Literal["fixed", "memoryless"] = Field(
        default="fixed", description="Each label's delay: exactly that, or that in the mean by a constant hazard."
    )
    labelled: float = Field(default=1.0, ge=0, le=1, description="Share of events whose label ever comes.")
    events_per_second: float = Field(default=100.0, gt=0, description="Spacing of the time stamps.")

    @field_validator("start_tasks", "clusters", "concepts", mode="before")
    @classmethod
    def _unset(cls, value: object) -> object:
        """The command line's way to unset what a scenario sets: ``--set concepts=none``."""
        return None if value == "none" else value


@dataclass(frozen=True)
class World:
    """A scenario as pure functions: N events, Z hidden numbers each, D features, L numbers a concept."""

    features: tuple[str, ...]  # their names [D]
    draw: Callable[[Generator, int], Floats]  # (generator, N) -> z [N, Z]; event by event, so that blocks do not matter
    concept: Callable[[Generator, int], Floats]  # (generator, its number) -> concept [L]
    answer: Callable[[Floats, Floats], Floats]  # (z [N, Z], concept of each event [N, L]) -> label without noise [N]
    classes: int | None  # None: regression
    blends: bool = True  # a point between two concepts is a concept too, which incremental drift needs
    observe: Callable[[Floats, Floats], Floats] | None = None  # (z, concept [N, L]) -> x [N, D]; None: z is x
