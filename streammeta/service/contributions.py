"""What each feature contributed to a prediction: for `streammeta explain`, and for prediction records on request.

Contributions are Shapley values: over all orders in which features become known, the mean change of the prediction when
this one does. They add up to the difference between the prediction and the one with no feature known. A feature that is
not known is a missing one, which every learner here takes; nothing has to be drawn in its place.

Of many features, orders are drawn, each with its reverse. One such pair is exact for what is additive, and for what two
features do together: each of the two comes first once. What is drawn decides about interactions of three and more.

Source: Lundberg & Lee (2017), arXiv:1705.07874; drawn orders, each with its reverse: Štrumbelj & Kononenko (2014).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from math import factorial
from typing import Final, Literal

import msgspec
import numpy as np

from streammeta.engine import Engine, Outcome
from streammeta.event import Event, Feature, LabelValue

__all__ = ["ORDERS", "Contribution", "Contributions", "attributed", "contributions", "shapley"]

ORDERS: Final = 60  # drawn where there are too many to go through all, in pairs
_EXACT_FEATURES: Final = 5  # up to so many all orders are gone through: 120
_MOST_PREDICTIONS: Final = 20_000


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one feature did."""

    feature: str
    value: Feature
    contribution: float  # to the prediction, in its unit
    error: float  # standard error of it, as orders were drawn; 0: it is exact


@dataclass(frozen=True, slots=True)
class Contributions:
    """What a prediction is made of."""

    of: Literal["probability", "mean"]  # what contributions add up to: the probability of the class, or the mean
    predicted: float  # that
    without_features: float  # the same with no feature known
    features: list[Contribution]  # the largest first

    def figures(self) -> dict[str, object]:
        """As a prediction's record has it."""
        return {
            "of": self.of,
            "without_features": self.without_features,
            "contributions": {one.feature: one.contribution for one in self.features},
        }


def contributions(engine: Engine, event: Event, *, orders: int = ORDERS, seed: int = 0) -> Contributions | None:
    """What the features of an event contribute to what an engine would predict for it; the engine stays as it is.

    Args:
        engine: as it would predict it.
        event: its label is not looked at.
        orders: drawn of more than five features, an even number.
        seed: of these.

    Returns:
        None where nothing is predicted: the engine refuses the event, or has learned nothing yet.
    """
    event = msgspec.structs.replace(event, y=None)
    (whole,) = engine.predict([event])
    if whole.rejected is not None or whole.prediction is None:
        return None
    target = whole.prediction
    assert isinstance(whole.event, Event)  # ours, with the features that were made of others: they are as these
    event = whole.event

    def predicted(part: Event) -> float:
        (found,) = engine.predict([part], extracted=True)
        return _number(found, target)

    of: Literal["probability", "mean"] = "mean" if whole.probabilities is None else "probability"
    return attributed(event, predicted, of=of, orders=orders, seed=seed)


def attributed(
    event: Event,
    predicted: Callable[[Event], float],
    *,
    of: Literal["probability", "mean"] = "mean",
    orders: int = ORDERS,
    seed: int = 0,
) -> Contributions:
    """What the features of an event contribute to any number that is predicted for it.

    Args:
        event: as it came.
        predicted: the number, for the event with some of its features missing.
        of: what kind of number that is.
        orders: drawn of more than five features, an even number.
        seed: of these.
    """
    features = dict(_named(event.x))
    names = [name for name, value in features.items() if value is not None]

    @cache
    def value_of(known: frozenset[str]) -> float:
        return predicted(msgspec.structs.replace(event, x=_only(event.x, known)))

    found, errors = shapley(names, value_of, orders=orders, seed=seed)
    ordered = sorted(names, key=lambda name: -abs(found[name]))
    return Contributions(
        of,
        value_of(frozenset(names)),
        value_of(frozenset()),
        [Contribution(name, features[name], found[name], errors[name]) for name in ordered],
    )


def shapley(
    names: Sequence[str], value_of: Callable[[frozenset[str]], float], *, orders: int = ORDERS, seed: int = 0
) -> tuple[dict[str, float], dict[str, float]]:
    """Shapley values of players, and their standard errors, where orders are drawn.

    >>> values, errors = shapley(["a", "b"], lambda known: 3.0 * ("a" in known) + 2.0 * (len(known) == 2))
    >>> values, errors
    ({'a': 4.0, 'b': 1.0}, {'a': 0.0, 'b': 0.0})

    Args:
        names: of the players.
        value_of: what a set of players achieves; it is asked again about the same ones.
        orders: drawn of more than five players, an even number.
        seed: of these.
    """
    exact = len(names) <= _EXACT_FEATURES
    chosen = [list(order) for order in permutations(names)] if exact else _drawn(names, orders, seed)
    gains: dict[str, list[float]] = {name: [] for name in names}
    for order in chosen:
        before: frozenset[str] = frozenset()
        for name in order:
            gains[name].append(value_of(before | {name}) - value_of(before))
            before |= {name}
    means = {name: float(np.mean(found)) for name, found in gains.items()}
    if exact:
        return means, dict.fromkeys(names, 0.0)
    pairs = {name: np.reshape(found, (-1, 2)).mean(1) for name, found in gains.items()}  # an order and its reverse
    return means, {name: float(found.std(ddof=1) / len(found) ** 0.5) for name, found in pairs.items()}


def _drawn(names: Sequence[str], wanted: int, seed: int) -> list[list[str]]:
    random = np.random.default_rng(seed)
    count = max(4, min(wanted, _MOST_PREDICTIONS // len(names), factorial(min(len(names), 8))))
    orders: list[list[str]] = []
    while len(orders) < count:
        order = [names[at] for at in random.permutation(len(names))]
        orders += [order, order[::-1]]
    return orders


def _number(outcome: Outcome, target: LabelValue) -> float:
    """The mean, or the probability of a class."""
    if outcome.probabilities is None:
        assert isinstance(outcome.prediction, int | float)  # a mean
        return float(outcome.prediction)
    return outcome.probabilities.get(target, 0.0)


def _named(x: Mapping[str, Feature] | Sequence[float | None]) -> list[tuple[str, Feature]]:
    return list(x.items()) if isinstance(x, Mapping) else [(str(at), value) for at, value in enumerate(x)]


def _only(
    x: Mapping[str, Feature] | Sequence[float | None], known: frozenset[str]
) -> Mapping[str, Feature] | Sequence[float | None]:
    if isinstance(x, Mapping):
        return {name: value if name in known else None for name, value in x.items()}
    return [value if str(at) in known else None for at, value in enumerate(x)]
