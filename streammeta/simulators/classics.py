"""The standard generators of the literature, with the concepts and distributions that River's generators have.

As arrays, so that they are fast, take any number of tasks, and drift in every way that their concepts allow; tests hold
each concept to River's own. Each is one stream of one task, as published, unless more tasks are asked for.
"""

import numpy as np
from pydantic import Field

from streammeta.simulators.world import DriftKind, Floats, Ints, Schedule, StreamSettings, World

__all__ = [
    "ClassicSettings",
    "FriedmanSettings",
    "HyperplaneSettings",
    "LedSettings",
    "MixedSettings",
    "RbfSettings",
    "SeaSettings",
    "StaggerSettings",
    "friedman",
    "hyperplane",
    "led",
    "mixed",
    "random_rbf",
    "sea",
    "stagger",
]

_SEA_BOUNDS = np.array([8.0, 9.0, 7.0, 9.5])
_SEGMENTS = np.array(  # which of seven segments each digit lights
    [
        [1, 1, 1, 0, 1, 1, 1],
        [0, 0, 1, 0, 0, 1, 0],
        [1, 0, 1, 1, 1, 0, 1],
        [1, 0, 1, 1, 0, 1, 1],
        [0, 1, 1, 1, 0, 1, 0],
        [1, 1, 0, 1, 0, 1, 1],
        [1, 1, 0, 1, 1, 1, 1],
        [1, 0, 1, 0, 0, 1, 0],
        [1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 0, 1, 1],
    ]
)
_LED_COLUMNS, _FRIEDMAN_COLUMNS = 24, 10


class ClassicSettings(StreamSettings, frozen=True, extra="forbid"):
    """Settings of a stream that is published as one."""

    tasks: int = Field(default=1, ge=1, le=1_000_000, description="Number of tasks.")
    concept_events: int = Field(default=2500, ge=1, description="Mean number of a task's events under one concept.")


class SeaSettings(ClassicSettings, frozen=True, extra="forbid"):
    """Settings of `sea`."""

    noise: float = Field(default=0.1, ge=0, le=1, description="Share of wrong labels.")
    concepts: int | None = Field(default=4, ge=2, le=4, description="Concepts in the pool: the published bounds.")


class StaggerSettings(ClassicSettings, frozen=True, extra="forbid"):
    """Settings of `stagger`."""

    concept_events: int = Field(default=500, ge=1, description="Mean number of a task's events under one concept.")
    concepts: int | None = Field(default=3, ge=2, le=3, description="Concepts in the pool: the published descriptions.")


class MixedSettings(ClassicSettings, frozen=True, extra="forbid"):
    """Settings of `mixed`."""

    concepts: int | None = Field(default=2, ge=2, le=2, description="Concepts in the pool: the classes change places.")


class HyperplaneSettings(ClassicSettings, frozen=True, extra="forbid"):
    """Settings of `hyperplane`: it never stands still, unless drift is abrupt or a change narrower than a reign."""

    features: int = Field(default=10, ge=1, le=1000, description="Features, uniform in [0, 1].")
    noise: float = Field(default=0.05, ge=0, le=1, description="Share of wrong labels.")
    drift: DriftKind = Field(default="incremental", description="How the plane passes from one place to the next.")
    drift_width: int = Field(default=2500, ge=1, description="Events that a gradual or incremental change takes.")
    schedule: Schedule = Field(default="fixed", description="Length of a concept's reign, as everywhere.")


class RbfSettings(ClassicSettings, frozen=True, extra="forbid"):
    """Settings of `random-rbf`."""

    features: int = Field(default=10, ge=1, le=1000, description="Features.")
    centroids: int = Field(default=50, ge=2, le=10_000, description="Centroids; the i-th has class i modulo classes.")
    classes: int = Field(default=2, ge=2, le=1000, description="Classes.")
    concepts: int | None = Field(
        default=3, ge=2, description="Concepts in a pool that come back; not set: each is new."
    )


class LedSettings(ClassicSettings, frozen=True, extra="forbid"):
    """Settings of `led`."""

    inverted: float = Field(default=0.1, ge=0, le=1, description="Chance that a segment is shown inverted.")
    concepts: int | None = Field(
        default=3, ge=2, description="Concepts in a pool that come back; not set: each is new."
    )


class FriedmanSettings(ClassicSettings, frozen=True, extra="forbid"):
    """Settings of `friedman`."""

    noise: float = Field(default=1.0, ge=0, description="Standard deviation of the target's noise.")
    concepts: int | None = Field(
        default=3, ge=2, description="Concepts in a pool that come back; not set: each is new."
    )


def sea() -> World:
    """A concept is a bound: y = 1 when x0 + x1 <= bound, x ~ U[0, 10], x2 does not matter (Street & Kim 2001)."""
    return World(
        features=_names(3),
        draw=lambda rng, n: 10 * rng.random((n, 3)),
        concept=lambda _rng, number: _SEA_BOUNDS[[number % len(_SEA_BOUNDS)]],
        answer=lambda x, concept: (x[:, 0] + x[:, 1] <= concept[:, 0]).astype(np.float64),
        classes=2,
    )


def stagger() -> World:
    """A concept is one of three descriptions of size, colour and shape in {0, 1, 2} (Schlimmer & Granger 1986)."""

    def answer(x: Floats, concept: Floats) -> Floats:
        size, colour, shape = x.T
        small_and_red = (size == 0) & (colour == 0)
        green_or_circle = (colour == 1) | (shape == 0)
        medium_or_large = size > 0
        chosen: Floats = np.choose(concept[:, 0].astype(np.int64), [small_and_red, green_or_circle, medium_or_large])
        return chosen.astype(np.float64)

    return World(
        features=("size", "colour", "shape"),
        draw=lambda rng, n: np.floor(3 * rng.random((n, 3))),
        concept=lambda _rng, number: np.array([float(number % 3)]),
        answer=answer,
        classes=2,
        blends=False,
    )


def mixed() -> World:
    """A concept says which class is where two of v, w and x3 < 0.5 + 0.3 sin(3π x2) hold (Gama et al. 2004)."""

    def answer(x: Floats, concept: Floats) -> Floats:
        v, w, x2, x3 = x.T
        below = x3 < 0.5 + 0.3 * np.sin(3 * np.pi * x2)
        most = v + w + below >= 2
        label: Floats = np.where(concept[:, 0] == 0, ~most, most).astype(np.float64)
        return label

    def draw(rng: np.random.Generator, n: int) -> Floats:
        x = rng.random((n, 4))
        x[:, :2] = x[:, :2] >= 0.5
        return x

    return World(
        features=_names(4),
        draw=draw,
        concept=lambda _rng, number: np.array([float(number % 2)]),
        answer=answer,
        classes=2,
        blends=False,
    )


def hyperplane(settings: HyperplaneSettings) -> World:
    """A concept is a vector of weights w ~ U[0, 1]: y = 1 when w·x >= ½ Σ w, x ~ U[0, 1] (Hulten et al. 2001)."""
    return World(
        features=_names(settings.features),
        draw=lambda rng, n: rng.random((n, settings.features)),
        concept=lambda rng, _number: rng.random(settings.features),
        answer=lambda x, concept: ((x * concept).sum(axis=1) >= concept.sum(axis=1) * 0.5).astype(np.float64),
        classes=2,
    )


def random_rbf(settings: RbfSettings) -> World:
    """A concept is the centroids: a place, a spread and a weight each, all ~ U[0, 1] (Bifet et al. 2009).

    An event takes a centroid by weight, and lies from it in a random direction, as far as N(0, spread²) says. What
    moves in an incremental drift are the centroids themselves.
    """
    width, count = settings.features, settings.centroids

    def centroid(z: Floats, concept: Floats) -> tuple[Floats, Ints]:
        concepts = concept.reshape(-1, count, width + 2)
        weights = concepts[:, :, -1].cumsum(axis=1)
        chosen = (weights <= z[:, :1] * weights[:, -1:]).sum(axis=1)
        return concepts, np.minimum(chosen, count - 1)

    def observe(z: Floats, concept: Floats) -> Floats:
        concepts, chosen = centroid(z, concept)
        of_event = concepts[np.arange(len(z)), chosen]
        direction = 2 * z[:, 3:] - 1
        length = np.maximum(np.sqrt((direction**2).sum(axis=1)), 1e-9)
        normal = np.sqrt(-2 * np.log(np.maximum(1 - z[:, 1], 1e-9))) * np.cos(2 * np.pi * z[:, 2])  # Box & Muller
        x: Floats = of_event[:, :width] + direction * (normal * of_event[:, width] / length)[:, None]
        return x

    def answer(z: Floats, concept: Floats) -> Floats:
        label: Floats = (centroid(z, concept)[1] % settings.classes).astype(np.float64)
        return label

    return World(
        features=_names(width),
        draw=lambda rng, n: rng.random((n, width + 3)),
        concept=lambda rng, _number: rng.random(count * (width + 2)),
        answer=answer,
        classes=settings.classes,
        observe=observe,
    )


def led(settings: LedSettings) -> World:
    """Seven segments of a digit and 17 columns without meaning (Breiman et al. 1984); a concept is the columns' order.

    Each segment is inverted with the chance ``inverted``; with 0.1, 74 % can be known.
    """

    def observe(z: Floats, concept: Floats) -> Floats:
        segments = _SEGMENTS[z[:, 0].astype(np.int64)] != (z[:, 1:8] < settings.inverted)
        columns = np.concatenate([segments, z[:, 8:] < 0.5], axis=1).astype(np.float64)
        shown: Floats = np.take_along_axis(columns, concept.astype(np.int64), axis=1)
        return shown

    def draw(rng: np.random.Generator, n: int) -> Floats:
        z = rng.random((n, 1 + _LED_COLUMNS))
        z[:, 0] = np.floor(10 * z[:, 0])
        return z

    return World(
        features=_names(_LED_COLUMNS),
        draw=draw,
        concept=lambda rng, number: _order(rng, number, _LED_COLUMNS),
        answer=lambda z, _concept: z[:, 0],
        classes=10,
        blends=False,
        observe=observe,
    )


def friedman() -> World:
    """y = 10 sin(π x_a x_b) + 20 (x_c - ½)² + 10 x_d + 5 x_e, x ~ U[0, 1] (Friedman 1991); a concept is a, b, c, d, e.

    Concept 0 is the published one, features 0 to 4; 5 to 9 matter only after a drift.
    """

    def answer(x: Floats, concept: Floats) -> Floats:
        a, b, c, d, e = np.take_along_axis(x, concept.astype(np.int64), axis=1).T
        y: Floats = 10 * np.sin(np.pi * a * b) + 20 * (c - 0.5) ** 2 + 10 * d + 5 * e
        return y

    return World(
        features=_names(_FRIEDMAN_COLUMNS),
        draw=lambda rng, n: rng.random((n, _FRIEDMAN_COLUMNS)),
        concept=lambda rng, number: _order(rng, number, _FRIEDMAN_COLUMNS)[:5],
        answer=answer,
        classes=None,
        blends=False,
    )


def _order(rng: np.random.Generator, number: int, count: int) -> Floats:
    """Concept 0 leaves columns where they are."""
    columns = np.arange(count) if number == 0 else rng.permutation(count)
    return columns.astype(np.float64)


def _names(count: int) -> tuple[str, ...]:
    return tuple(f"x{i}" for i in range(count))
