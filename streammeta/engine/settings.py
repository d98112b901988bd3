"""What the engine can be told, and what follows from it: the learner, what keeps earlier laws, and what must fit."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from streammeta.engine.buffer import SegmentSettings
from streammeta.engine.drift import DriftSettings
from streammeta.engine.recall import Recall
from streammeta.engine.sampling import Sampling
from streammeta.engine.tasks import MemorySettings
from streammeta.errors import ConfigError
from streammeta.meta import LearnerSettings, Method, exact_heads, in_stream
from streammeta.meta.base import Kind
from streammeta.meta.catalogue import Tuning

__all__ = ["EngineSettings", "MetaSettings", "fingerprint", "gaussians_above", "make_method", "make_recall"]


class MetaSettings(SegmentSettings, frozen=True, extra="forbid"):
    """When θ learns, and from what."""

    mode: Literal["sync", "background", "off"] = Field(
        "sync", description="In the step (repeatable), in a thread beside it (never stops polling), or not at all."
    )
    every_events: int = Field(16, ge=1, description="Events and labels between two meta-updates while θ changes.")
    stretch: int = Field(
        4, ge=1, le=1024, description="How many times longer that may become while the loss is steady; 1: not at all."
    )
    rate: float = Field(5e-3, gt=0, le=1, description="Step size of the outer Adam.")
    pull: float = Field(
        2.0,
        ge=0,
        le=10,
        description="How strongly the encoder is pulled to its start (L2), against stuck units; 0: not.",
    )
    renew_every: int = Field(
        0,
        ge=0,
        description="Meta-updates after which each encoder's least useful hidden unit is made anew, for the same; "
        "0: never.",
    )
    escalate_events: int = Field(
        0,
        ge=0,
        description="Labels after which a task that errs far more than others of its age gets more, and more frequent, "
        "meta-updates; 0: never.",
    )
    sampling: Sampling = Field(
        "uniform",
        description='Which tasks it learns from, of those alive: all alike ("uniform"), who spoke most and last '
        '("recency"), who errs most ("loss"), or who looks like a task whose law is young ("nearest").',
    )


class EngineSettings(BaseModel, frozen=True, extra="forbid"):
    """Everything the engine can be told."""

    kind: Kind = "classification"
    seed: int = Field(0, ge=0, lt=2**31)
    learner: LearnerSettings = LearnerSettings()
    meta: MetaSettings = MetaSettings()
    drift: DriftSettings = DriftSettings()
    memory: MemorySettings = MemorySettings()


def gaussians_above(settings: EngineSettings) -> int:
    """Classes above which each gets a Gaussian of its own, though no expert was named; 0: never."""
    learner = settings.learner
    if settings.kind != "classification" or learner.method != "exact-heads" or learner.experts:
        return 0
    return learner.many_classes


def make_recall(method: Method, settings: EngineSettings) -> Recall | None:
    """What keeps earlier laws, where the settings want it; raises ConfigError for a learner that cannot."""
    if settings.drift.response != "recall":
        return None
    if not {"A", "B"} <= set(method.phi_layout(1, 1)):
        raise ConfigError(
            f'[drift] response: "recall" mixes the sums of exact heads, and [learner] method is '
            f'{settings.learner.method!r}; wanted method = "exact-heads", or response = "mix"'
        )
    return Recall(method, classify=settings.kind == "classification")


def make_method(settings: EngineSettings) -> Method:
    """The learner that the settings name."""
    learner = settings.learner
    if learner.method == "exact-heads":
        return exact_heads(learner, settings.kind, settings.seed)
    tuning = Tuning(learner.inner_rate, learner.inner_steps)
    return in_stream(learner.method, settings.kind, seed=settings.seed, support=learner.support, tuning=tuning)


def fingerprint(settings: EngineSettings) -> dict[str, Any]:
    """The settings that saved state depends on."""
    drift = settings.drift
    recall = {"drift.concepts": drift.concepts, "drift.concept_events": drift.concept_events}
    return (recall if drift.response == "recall" else {}) | {
        "app.kind": settings.kind,
        "learner.method": settings.learner.method,
        "learner.support": settings.learner.support,
        "learner.experts": ", ".join(one if isinstance(one, str) else one.name for one in settings.learner.experts),
        "learner.many_classes": gaussians_above(settings),
        "learner.members": settings.learner.members,
        "learner.hidden": settings.learner.hidden,
        "learner.encoded": settings.learner.encoded,
        "learner.memories": len(settings.learner.memories),
        "memory.window": settings.memory.window,
        "drift.detector": settings.drift.detector,
    }
