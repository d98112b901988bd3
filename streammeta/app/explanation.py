"""`streammeta explain`: what each feature of an event contributed to its prediction, and how its task stands.

Contributions are Shapley values: over all orders in which features become known, the mean change of the prediction when
this one does. They add up to the difference between the prediction and the one with no feature known. A feature that is
not known is a missing one, which every learner here takes; nothing has to be drawn in its place.

Source: Lundberg & Lee (2017), arXiv:1705.07874; drawn orders, each with its reverse: Štrumbelj & Kononenko (2014).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from math import factorial
from statistics import median
from typing import Final

import msgspec
import numpy as np

from streammeta.engine import Engine, Outcome, TaskSummary
from streammeta.errors import ConfigError, EventError
from streammeta.event import Decoder, Event, Feature, LabelValue, Origin, Record

__all__ = ["Contribution", "Explanation", "explain", "read_event", "shapley"]

_EXACT_FEATURES: Final = 5  # up to so many all orders are gone through: 120
_ORDERS: Final = 60  # drawn where there are more, in pairs
_MOST_PREDICTIONS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one feature did."""

    feature: str
    value: Feature
    contribution: float  # to the prediction, in its unit
    error: float  # standard error of it, as orders were drawn; 0: it is exact


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a prediction is what it is."""

    task: str
    prediction: LabelValue
    of: str  # what contributions add up to: "probability" of that class, or "mean"
    predicted: float  # that
    without_features: float  # the same with no feature known
    contributions: list[Contribution]  # the largest first
    is_new: bool  # the task has no state yet: the prediction is of what all tasks share
    labelled: int  # labelled events of the task
    drifts: int  # of the task
    recent_error: float | None  # of the task; None: it had no label yet
    median_error: float | None  # of all tasks

    def figures(self) -> dict[str, object]:
        """Ready for JSON."""
        return asdict(self)


def read_event(text: str, decoder: Decoder) -> Event:
    """An event as a service would read it.

    Raises:
        ConfigError: it is none.
    """
    try:
        found = decoder.decode(Record(text.encode(), Origin("explain", 0, 0)))
    except EventError as err:
        raise ConfigError(f"{err}; wanted a record as the service reads them") from err
    if not isinstance(found, Event):
        raise ConfigError("explain: the record is a label, wanted an event: it has features")
    return found


def explain(engine: Engine, event: Event, *, seed: int = 0) -> Explanation:
    """Explain what an engine would predict for an event; the engine stays as it is.

    Args:
        engine: as it would predict it.
        event: its label is not looked at.
        seed: of the orders, where there are too many to go through all.

    Raises:
        ConfigError: the event cannot be predicted: the engine refuses it, or has learned nothing yet.
    """
    tasks = engine.tasks()
    own = next((task for task in tasks if task.task == event.task), None)
    partition = 0 if own is None else own.partition
    event = msgspec.structs.replace(event, y=None, origin=Origin("explain", partition, 0))
    features = dict(_named(event.x))
    names = [name for name, value in features.items() if value is not None]
    whole = _predicted(engine, event)
    assert whole.prediction is not None  # see `_predicted`
    target, of = (whole.prediction, "probability") if whole.probabilities is not None else (None, "mean")

    def value_of(known: frozenset[str]) -> float:
        part = msgspec.structs.replace(event, x=_only(event.x, known))
        return _number(_predicted(engine, part), target)

    found, errors = shapley(names, value_of, seed=seed)
    ordered = sorted(names, key=lambda name: -abs(found[name]))
    return Explanation(
        event.task,
        whole.prediction,
        of,
        _number(whole, target),
        value_of(frozenset()),
        [Contribution(name, features[name], found[name], errors[name]) for name in ordered],
        own is None,
        0 if own is None else own.labelled,
        0 if own is None else own.drifts,
        _error(own),
        median(known) if (known := [error for task in tasks if (error := _error(task)) is not None]) else None,
    )


def shapley(
    names: Sequence[str], value_of: Callable[[frozenset[str]], float], *, seed: int = 0
) -> tuple[dict[str, float], dict[str, float]]:
    """Shapley values of players, and their standard errors, where orders are drawn.

    >>> values, errors = shapley(["a", "b"], lambda known: 3.0 * ("a" in known) + 2.0 * (len(known) == 2))
    >>> values, errors
    ({'a': 4.0, 'b': 1.0}, {'a': 0.0, 'b': 0.0})

    Args:
        names: of the players.
        value_of: what a set of players achieves.
        seed: of the orders that are drawn.
    """
    known: dict[frozenset[str], float] = {}

    def value(players: frozenset[str]) -> float:
        if players not in known:
            known[players] = value_of(players)
        return known[players]

    exact = len(names) <= _EXACT_FEATURES
    orders = [list(order) for order in permutations(names)] if exact else _drawn(names, seed)
    gains: dict[str, list[float]] = {name: [] for name in names}
    for order in orders:
        before: frozenset[str] = frozenset()
        for name in order:
            gains[name].append(value(before | {name}) - value(before))
            before |= {name}
    means = {name: float(np.mean(found)) for name, found in gains.items()}
    if exact:
        return means, dict.fromkeys(names, 0.0)
    pairs = {name: np.reshape(found, (-1, 2)).mean(1) for name, found in gains.items()}  # an order and its reverse
    return means, {name: float(found.std(ddof=1) / len(found) ** 0.5) for name, found in pairs.items()}


def _drawn(names: Sequence[str], seed: int) -> list[list[str]]:
    random = np.random.default_rng(seed)
    count = max(4, min(_ORDERS, _MOST_PREDICTIONS // len(names), factorial(min(len(names), 8))))
    orders: list[list[str]] = []
    while len(orders) < count:
        order = [names[at] for at in random.permutation(len(names))]
        orders += [order, order[::-1]]
    return orders


def _predicted(engine: Engine, event: Event) -> Outcome:
    (outcome,) = engine.predict([event])
    if outcome.rejected is not None:
        raise ConfigError(f"explain: the event cannot be predicted: {outcome.rejected}")
    if outcome.prediction is None:
        raise ConfigError("explain: no label was learned yet, so there is no prediction; try again after some events")
    return outcome


def _number(outcome: Outcome, target: LabelValue | None) -> float:
    if outcome.probabilities is None:
        assert isinstance(outcome.prediction, int | float)  # a mean
        return float(outcome.prediction)
    assert target is not None  # a class, where there are probabilities
    return outcome.probabilities.get(target, 0.0)


def _named(x: Mapping[str, Feature] | Sequence[float | None]) -> list[tuple[str, Feature]]:
    return list(x.items()) if isinstance(x, Mapping) else [(str(at), value) for at, value in enumerate(x)]


def _only(
    x: Mapping[str, Feature] | Sequence[float | None], known: frozenset[str]
) -> Mapping[str, Feature] | Sequence[float | None]:
    if isinstance(x, Mapping):
        return {name: value if name in known else None for name, value in x.items()}
    return [value if str(at) in known else None for at, value in enumerate(x)]


def _error(task: TaskSummary | None) -> float | None:
    return None if task is None or np.isnan(task.error) else task.error
