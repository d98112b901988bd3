"""The scenarios by name: worlds whose tasks change their concepts without telling."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from streammeta.errors import ConfigError
from streammeta.simulators.agrawal import AgrawalSettings, agrawal
from streammeta.simulators.classics import (
    FriedmanSettings,
    HyperplaneSettings,
    LedSettings,
    MixedSettings,
    RbfSettings,
    SeaSettings,
    StaggerSettings,
    friedman,
    hyperplane,
    led,
    mixed,
    random_rbf,
    sea,
    stagger,
)
from streammeta.simulators.families import (
    LevelSettings,
    RecurringConceptsSettings,
    SharedRepresentationSettings,
    SinusoidsSettings,
    level,
    shared_representation,
    switching_sinusoids,
)
from streammeta.simulators.sample import Sample
from streammeta.simulators.stream import stream
from streammeta.simulators.world import StreamSettings, World

__all__ = ["SCENARIOS", "Scenario", "simulate"]


@dataclass(frozen=True)
class Scenario:
    """One entry of the registry."""

    summary: str  # one line
    kind: Literal["classification", "regression"]
    settings: type[StreamSettings]  # its keyword settings, with defaults and descriptions
    world: Callable[[Any, int], World]  # (settings of that type, seed) -> world


SCENARIOS: dict[str, Scenario] = {
    "shared-representation": Scenario(
        "tasks read the same hidden nonlinear features, each by a concept of its own that switches",
        "classification",
        SharedRepresentationSettings,
        shared_representation,
    ),
    "switching-sinusoids": Scenario(
        "each task is a sine wave whose amplitude and phase switch",
        "regression",
        SinusoidsSettings,
        lambda _settings, _seed: switching_sinusoids(),
    ),
    "recurring-concepts": Scenario(
        "all tasks switch among a few concepts that come back",
        "classification",
        RecurringConceptsSettings,
        shared_representation,
    ),
    "level": Scenario(
        "the absolute level of the features decides, for all tasks alike, and tasks lie at levels of their own",
        "classification",
        LevelSettings,
        level,
    ),
    "sea": Scenario(
        "the SEA concepts, a moving bound on a sum, 10 % wrong labels",
        "classification",
        SeaSettings,
        lambda _settings, _seed: sea(),
    ),
    "stagger": Scenario(
        "the STAGGER concepts, three descriptions of size, colour and shape",
        "classification",
        StaggerSettings,
        lambda _settings, _seed: stagger(),
    ),
    "agrawal": Scenario(
        "Agrawal's ten functions, who is given a loan, of nine perturbed numbers",
        "classification",
        AgrawalSettings,
        lambda settings, _seed: agrawal(settings),
    ),
    "hyperplane": Scenario(
        "a hyperplane that keeps turning, 5 % wrong labels",
        "classification",
        HyperplaneSettings,
        lambda settings, _seed: hyperplane(settings),
    ),
    "random-rbf": Scenario(
        "fifty random centroids with a class each; whole sets of them come back",
        "classification",
        RbfSettings,
        lambda settings, _seed: random_rbf(settings),
    ),
    "led": Scenario(
        "the digit on a display of seven faulty segments, among 17 columns without meaning; columns change places",
        "classification",
        LedSettings,
        lambda settings, _seed: led(settings),
    ),
    "mixed": Scenario(
        "two flags and two numbers around a sine; the classes change places",
        "classification",
        MixedSettings,
        lambda _settings, _seed: mixed(),
    ),
    "friedman": Scenario(
        "Friedman's function of five of ten features; which five changes",
        "regression",
        FriedmanSettings,
        lambda _settings, _seed: friedman(),
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
