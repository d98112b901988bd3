"""What follows from the engine's settings: the learner, and what saved state must fit."""

from typing import Any

from streammeta.engine.sampling import TaskSampler, Uniform
from streammeta.engine.settings import EngineSettings
from streammeta.errors import ConfigError
from streammeta.meta.base import Method
from streammeta.meta.exact.heads import exact_heads
from streammeta.meta.job import Renew

__all__ = ["fingerprint", "gaussians_above", "make_method", "make_renewal", "make_sampler"]


def gaussians_above(settings: EngineSettings) -> int:
    """Classes above which each gets a Gaussian of its own, where that expert was not named; 0: never."""
    learner = settings.learner
    named = any((one if isinstance(one, str) else one.name) == "gaussian" for one in learner.experts)
    if settings.kind != "classification" or learner.method != "exact-heads" or named:
        return 0
    return learner.many_classes


def make_method(settings: EngineSettings) -> Method:
    """The learner that the settings name.

    Raises:
        ConfigError: it wants PyTorch, which is not installed.
    """
    learner = settings.learner
    if learner.method == "exact-heads":
        return exact_heads(learner, settings.kind, settings.seed)
    try:  # these import torch, which the default does without
        from streammeta.meta.catalogue import Tuning  # noqa: PLC0415
        from streammeta.meta.stream import in_stream  # noqa: PLC0415
    except ModuleNotFoundError as err:
        if err.name != "torch":
            raise
        raise ConfigError(
            f"[learner] method: {learner.method!r} wants PyTorch, which is not installed; install it, or exact-heads"
        ) from err

    tuning = Tuning(learner.inner_rate, learner.inner_steps)
    return in_stream(learner.method, settings.kind, seed=settings.seed, support=learner.support, tuning=tuning)


def make_sampler(settings: EngineSettings) -> TaskSampler:
    """What draws tasks for meta-updates, as the settings say."""
    meta, sampler = settings.meta, Uniform()
    if meta.sampling != "uniform":
        from streammeta.contrib.sampling import Preferring  # noqa: PLC0415  seldom named

        sampler = Preferring(meta.sampling)
    if not meta.escalate_events:
        return sampler
    from streammeta.contrib.escalation import Escalation  # noqa: PLC0415  seldom named

    return Escalation(meta.escalate_events, sampler)


def make_renewal(settings: EngineSettings) -> Renew | None:
    """What lets hidden units begin again, if the settings want it."""
    if not settings.meta.renew_every:
        return None
    from streammeta.contrib.renewal import Renewal  # noqa: PLC0415  seldom named

    return Renewal(settings.meta.renew_every)


def fingerprint(settings: EngineSettings) -> dict[str, Any]:
    """The settings that saved state depends on."""
    drift = settings.drift
    recall = {"drift.concepts": drift.concepts, "drift.concept_events": drift.concept_events}
    decide = {} if settings.decide is None else {"decide.heads": settings.decide.heads}
    return (
        (recall if drift.response == "recall" else {})
        | decide
        | {
            "app.kind": settings.kind if settings.decide is None else "decision",
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
    )
