"""The scenarios by name: worlds whose tasks change their laws without telling."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.random import default_rng
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from simulators.sample import Sample
from simulators.stream import StreamSettings, World, stream
from streammeta.errors import ConfigError

__all__ = ["SCENARIOS", "Scenario", "SharedRepresentationSettings", "hidden_features", "simulate"]

Floats: TypeAlias = NDArray[np.float64]

_WORLD = 3  # second number of a world's own seed (0, 1 and 2 are the stream's)
_CALIBRATION = 20_000  # draws that center and scale the hidden features
_SEA_BOUNDS = np.array([8.0, 9.0, 7.0, 9.5])  # Street & Kim (2001): positive when x0 + x1 <= bound


class SharedRepresentationSettings(StreamSettings, frozen=True, extra="forbid"):
    """Settings of `shared-representation`, and of `recurring-concepts`."""

    features: int = Field(default=6, ge=1, le=1000, description="Observed features, standard normal.")
    hidden: int = Field(default=4, ge=1, le=1000, description="Hidden features that all tasks share.")
    classes: int = Field(default=2, ge=2, le=1000, description="Classes.")
    noise: float = Field(default=0.02, ge=0, le=1, description="Share of wrong labels.")


class RecurringConceptsSettings(SharedRepresentationSettings, frozen=True, extra="forbid"):
    """Settings of `recurring-concepts`."""

    concepts: int | None = Field(default=4, ge=2, description="Laws in the pool that all tasks share.")


class SinusoidsSettings(StreamSettings, frozen=True, extra="forbid"):
    """Settings of `switching-sinusoids`."""

    noise: float = Field(default=0.1, ge=0, description="Standard deviation of the target's noise.")


class SeaSettings(StreamSettings, frozen=True, extra="forbid"):
    """Settings of `sea`: one stream, as published, unless more tasks are asked for."""

    tasks: int = Field(default=1, ge=1, le=1_000_000, description="Number of tasks.")
    noise: float = Field(default=0.1, ge=0, le=1, description="Share of wrong labels.")
    concept_events: int = Field(default=2500, ge=1, description="Mean number of a task's events under one law.")
    concepts: int | None = Field(default=4, ge=2, le=4, description="Laws in the pool: the published bounds.")


class StaggerSettings(StreamSettings, frozen=True, extra="forbid"):
    """Settings of `stagger`: one stream, as published, unless more tasks are asked for."""

    tasks: int = Field(default=1, ge=1, le=1_000_000, description="Number of tasks.")
    concept_events: int = Field(default=500, ge=1, description="Mean number of a task's events under one law.")
    concepts: int | None = Field(default=3, ge=2, le=3, description="Laws in the pool: the published descriptions.")


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


def _shared_representation(settings: StreamSettings, seed: int) -> World:
    """A law is one readout of the hidden features a class, W ~ N(0, 1): y = argmax_c (h W)_c."""
    if not isinstance(settings, SharedRepresentationSettings):
        raise TypeError(f"wanted SharedRepresentationSettings, got {type(settings).__name__}")
    hidden, classes = settings.hidden, settings.classes
    represent = hidden_features(settings, seed)

    def answer(x: Floats, law: Floats) -> Floats:
        readout = law.reshape(-1, hidden, classes)
        label: Floats = np.einsum("nh,nhc->nc", represent(x), readout).argmax(axis=1).astype(np.float64)
        return label

    return World(
        features=_names(settings.features),
        draw=lambda rng, n: rng.standard_normal((n, settings.features)),
        law=lambda rng, _number: rng.standard_normal(hidden * classes),
        answer=answer,
        classes=classes,
    )


def _switching_sinusoids(_settings: StreamSettings, _seed: int) -> World:
    """A law is an amplitude and a phase: y = A sin(x + φ), A ~ U[0.1, 5], φ ~ U[0, π] (Finn et al. 2017)."""
    return World(
        features=_names(1),
        draw=lambda rng, n: 10 * rng.random((n, 1)) - 5,
        law=lambda rng, _number: np.array([0.1, 0.0]) + np.array([4.9, np.pi]) * rng.random(2),
        answer=lambda x, law: law[:, 0] * np.sin(x[:, 0] + law[:, 1]),
        classes=None,
    )


def _sea(_settings: StreamSettings, _seed: int) -> World:
    """A law is a bound: y = 1 when x0 + x1 <= bound, x ~ U[0, 10], x2 does not matter (Street & Kim 2001)."""
    return World(
        features=_names(3),
        draw=lambda rng, n: 10 * rng.random((n, 3)),
        law=lambda _rng, number: _SEA_BOUNDS[[number % len(_SEA_BOUNDS)]],
        answer=lambda x, law: (x[:, 0] + x[:, 1] <= law[:, 0]).astype(np.float64),
        classes=2,
    )


def _stagger(_settings: StreamSettings, _seed: int) -> World:
    """A law is one of three descriptions of size, colour and shape in {0, 1, 2} (Schlimmer & Granger 1986)."""

    def answer(x: Floats, law: Floats) -> Floats:
        size, colour, shape = x.T
        small_and_red = (size == 0) & (colour == 0)
        green_or_circle = (colour == 1) | (shape == 0)
        medium_or_large = size > 0
        return np.choose(law[:, 0].astype(np.int64), [small_and_red, green_or_circle, medium_or_large]).astype(
            np.float64
        )

    return World(
        features=("size", "colour", "shape"),
        draw=lambda rng, n: np.floor(3 * rng.random((n, 3))),
        law=lambda _rng, number: np.array([float(number % 3)]),
        answer=answer,
        classes=2,
        blends=False,
    )


def _names(count: int) -> tuple[str, ...]:
    return tuple(f"x{i}" for i in range(count))


@dataclass(frozen=True)
class Scenario:
    """One entry of the registry."""

    summary: str  # one line
    kind: Literal["classification", "regression"]
    settings: type[StreamSettings]  # its keyword settings, with defaults and descriptions
    world: Callable[[StreamSettings, int], World]  # (settings, seed) -> world


SCENARIOS: dict[str, Scenario] = {
    "shared-representation": Scenario(
        "tasks read the same hidden nonlinear features, each by a law of its own that switches",
        "classification",
        SharedRepresentationSettings,
        _shared_representation,
    ),
    "switching-sinusoids": Scenario(
        "each task is a sine wave whose amplitude and phase switch",
        "regression",
        SinusoidsSettings,
        _switching_sinusoids,
    ),
    "recurring-concepts": Scenario(
        "all tasks switch among a few laws that come back",
        "classification",
        RecurringConceptsSettings,
        _shared_representation,
    ),
    "sea": Scenario(
        "the SEA concepts, a moving bound on a sum, 10 % wrong labels",
        "classification",
        SeaSettings,
        _sea,
    ),
    "stagger": Scenario(
        "the STAGGER concepts, three descriptions of size, colour and shape",
        "classification",
        StaggerSettings,
        _stagger,
    ),
}


def simulate(name: str, *, events: int | None, seed: int = 0, **settings: Any) -> Iterator[Sample]:  # noqa: ANN401 (checked by the scenario's settings model)
    """A seeded stream of one scenario.

    >>> first, *_ = simulate("switching-sinusoids", events=3, seed=7, tasks=2, drift="gradual")
    >>> first.task, sorted(first.x)
    ('task-1', ['x0'])

    Args:
        name: one of `SCENARIOS`.
        events: how many; endless when None.
        seed: the same seed and settings give the same stream, and a longer stream begins like a shorter one.
        **settings: fields of the scenario's settings model, such as ``tasks``, ``drift`` or ``noise``.

    Raises:
        ConfigError: the name or a setting is not known, or a setting is out of its range.
    """
    if name not in SCENARIOS:
        raise ConfigError(f"simulate: no scenario {name!r}; wanted one of {', '.join(SCENARIOS)}")
    if seed < 0 or (events is not None and events < 0):
        raise ConfigError(f"simulate {name}: got seed={seed}, events={events}; wanted neither below 0")
    scenario = SCENARIOS[name]
    try:
        checked = scenario.settings(**settings)
    except ValidationError as err:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}, got {e['input']!r}" for e in err.errors())
        known = ", ".join(scenario.settings.model_fields)
        raise ConfigError(f"simulate {name}: {wrong}; its settings are {known}") from err
    return stream(scenario.world(checked, seed), checked, seed=seed, events=events)
