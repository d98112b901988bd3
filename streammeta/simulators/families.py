"""Families of tasks: worlds in which every task has concepts of its own, and all have something in common."""

from collections.abc import Callable

import numpy as np
from numpy.random import default_rng
from pydantic import Field

from streammeta.simulators.world import DriftKind, Floats, StreamSettings, World

__all__ = [
    "LevelSettings",
    "RecurringConceptsSettings",
    "SharedRepresentationSettings",
    "SinusoidsSettings",
    "hidden_features",
    "level",
    "shared_representation",
    "switching_sinusoids",
]

_WORLD = 3  # second number of a world's own seed
_CALIBRATION = 20_000  # draws that center and scale the hidden features


class SharedRepresentationSettings(StreamSettings, frozen=True, extra="forbid"):
    """Settings of `shared-representation`, and of `recurring-concepts`."""

    features: int = Field(default=6, ge=1, le=1000, description="Observed features, standard normal.")
    hidden: int = Field(default=4, ge=1, le=1000, description="Hidden features that all tasks share.")
    classes: int = Field(default=2, ge=2, le=1000, description="Classes.")
    noise: float = Field(default=0.02, ge=0, le=1, description="Share of wrong labels.")


class RecurringConceptsSettings(SharedRepresentationSettings, frozen=True, extra="forbid"):
    """Settings of `recurring-concepts`."""

    concepts: int | None = Field(default=4, ge=2, description="Concepts in the pool that all tasks share.")


class LevelSettings(StreamSettings, frozen=True, extra="forbid"):
    """Settings of `level`."""

    drift: DriftKind = Field(default="none", description="How a task passes from one level to the next.")
    features: int = Field(default=2, ge=1, le=1000, description="Observed features.")
    between: float = Field(default=2.0, ge=0, description="Standard deviation of the levels of tasks.")
    within: float = Field(default=0.5, gt=0, description="Standard deviation of a task's values about its level.")


class SinusoidsSettings(StreamSettings, frozen=True, extra="forbid"):
    """Settings of `switching-sinusoids`."""

    noise: float = Field(default=0.1, ge=0, description="Standard deviation of the target's noise.")


def hidden_features(settings: SharedRepresentationSettings, seed: int) -> Callable[[Floats], Floats]:
    """The representation that all tasks of `shared-representation` share: x [N, D] -> h [N, H].

        h = tanh(1.5 (x·u) (x·v)),  with u, v ~ N(0, 1/D), then centered and scaled to variance 1

    Products make it an even function: no linear model of x sees anything of it, and a small network learns it.
    """
    rng = default_rng((seed, _WORLD))
    u, v = rng.standard_normal((2, settings.features, settings.hidden)) / np.sqrt(settings.features)

    def products(x: Floats) -> Floats:
        hidden: Floats = np.tanh(1.5 * (x @ u) * (x @ v))
        return hidden

    sample = products(rng.standard_normal((_CALIBRATION, settings.features)))
    mean, deviation = sample.mean(axis=0), sample.std(axis=0)
    return lambda x: (products(x) - mean) / deviation


def shared_representation(settings: SharedRepresentationSettings, seed: int) -> World:
    """A concept is one readout of the hidden features a class, W ~ N(0, 1): y = argmax_c (h W)_c."""
    hidden, classes = settings.hidden, settings.classes
    represent = hidden_features(settings, seed)

    def answer(x: Floats, concept: Floats) -> Floats:
        readout = concept.reshape(-1, hidden, classes)
        label: Floats = np.einsum("nh,nhc->nc", represent(x), readout).argmax(axis=1).astype(np.float64)
        return label

    return World(
        features=tuple(f"x{i}" for i in range(settings.features)),
        draw=lambda rng, n: rng.standard_normal((n, settings.features)),
        concept=lambda rng, _number: rng.standard_normal(hidden * classes),
        answer=answer,
        classes=classes,
    )


def level(settings: LevelSettings, seed: int) -> World:
    """The absolute level decides, for all tasks alike: y = [w·x > 0] with one w for all; a concept is a task's level.

        x = m + within · z,  m ~ between · N(0, I),  z ~ N(0, I)

    Who normalizes each task by itself throws away what separates the classes.
    """
    w = default_rng((seed, _WORLD)).standard_normal(settings.features)

    def observe(z: Floats, concept: Floats) -> Floats:
        return concept + settings.within * z

    return World(
        features=tuple(f"x{i}" for i in range(settings.features)),
        draw=lambda rng, n: rng.standard_normal((n, settings.features)),
        concept=lambda rng, _number: settings.between * rng.standard_normal(settings.features),
        answer=lambda z, concept: (observe(z, concept) @ w > 0).astype(np.float64),
        classes=2,
        observe=observe,
    )


def switching_sinusoids() -> World:
    """A concept is an amplitude and a phase: y = A sin(x + φ), A ~ U[0.1, 5], φ ~ U[0, π] (Finn et al. 2017)."""
    return World(
        features=("x0",),
        draw=lambda rng, n: 10 * rng.random((n, 1)) - 5,
        concept=lambda rng, _number: np.array([0.1, 0.0]) + np.array([4.9, np.pi]) * rng.random(2),
        answer=lambda x, concept: concept[:, 0] * np.sin(x[:, 0] + concept[:, 1]),
        classes=None,
    )
