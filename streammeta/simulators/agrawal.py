"""Agrawal's ten functions: who is given a loan (Agrawal, Imieliński & Swami 1993), as River and MOA number them."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from streammeta.simulators.classics import ClassicSettings
from streammeta.simulators.world import Floats, World

__all__ = ["AgrawalSettings", "agrawal"]

_NAMES = ("salary", "commission", "age", "elevel", "car", "zipcode", "hvalue", "hyears", "loan")
_Bools = NDArray[np.bool_]


class AgrawalSettings(ClassicSettings, frozen=True, extra="forbid"):
    """Settings of `agrawal`."""

    perturbation: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Half-width of what is added to the numbers seen, in parts of their range.",
    )
    concepts: int | None = Field(
        default=10, ge=2, le=10, description="Concepts in the pool: the first functions of the paper."
    )


def agrawal(settings: AgrawalSettings) -> World:
    """A concept is one of ten functions of nine numbers about a person; what is seen of six of them is perturbed."""
    return World(
        features=_NAMES,
        draw=_draw,
        concept=lambda _rng, number: np.array([float(number % len(_FUNCTIONS))]),
        answer=_answer,
        classes=2,
        blends=False,
        observe=lambda z, _concept: _perturbed(z, settings.perturbation),
    )


def _draw(rng: np.random.Generator, n: int) -> Floats:
    """Nine numbers, and six uniform ones that perturb [N, 15]."""
    z = rng.random((n, 15))
    u = z[:, :9].T
    salary = 20_000 + 130_000 * u[0]
    zipcode = np.floor(9 * u[5])
    z[:, :9] = np.stack(
        [
            salary,
            np.where(salary >= 75_000, 0.0, 10_000 + 75_000 * u[1]),
            20 + np.floor(61 * u[2]),
            np.floor(5 * u[3]),
            1 + np.floor(20 * u[4]),
            zipcode,
            (8 - zipcode) * 100_000 * (0.5 + u[6]),
            1 + np.floor(30 * u[7]),
            500_000 * u[8],
        ],
        axis=1,
    )
    return z


def _perturbed(z: Floats, share: float) -> Floats:
    """What is seen of the nine numbers, within their ranges; no commission stays none, years stay whole."""
    x = z[:, :9].copy()
    if share == 0:
        return x
    low = np.array([20_000.0, 10_000.0, 20.0, 0.0, 1.0, 0.0])  # salary, commission, age, hvalue, hyears, loan
    high = np.array([150_000.0, 85_000.0, 80.0, 1_200_000.0, 30.0, 500_000.0])
    places = [0, 1, 2, 6, 7, 8]
    moved = np.clip(x[:, places] + (high - low) * (2 * z[:, 9:] - 1) * share, low, high)
    moved[:, 1] = np.where(x[:, 1] > 0, moved[:, 1], 0.0)
    moved[:, [2, 4]] = np.rint(moved[:, [2, 4]])
    x[:, places] = moved
    return x


def _answer(z: Floats, concept: Floats) -> Floats:
    labels = np.empty(len(z))
    for function in np.unique(concept[:, 0]):
        mine = concept[:, 0] == function
        labels[mine] = _FUNCTIONS[int(function)](*z[mine, :9].T)
    return labels


def _between(low: float, value: Floats, high: float) -> _Bools:
    return (low <= value) & (value <= high)


def _by_age(age: Floats, cases: Sequence[_Bools]) -> _Bools:
    """Below 40, below 60, and older."""
    chosen: _Bools = np.select([age < 40, age < 60], cases[:2], cases[2])
    return chosen


def _levels(age: Floats, elevel: Floats) -> _Bools:
    return _by_age(age, [elevel <= 1, _between(1, elevel, 3), elevel >= 2])


def _incomes(age: Floats, income: Floats) -> _Bools:
    bounds = ((50_000, 100_000), (75_000, 125_000), (25_000, 75_000))
    return _by_age(age, [_between(low, income, high) for low, high in bounds])


def _salary_by_level(age: Floats, elevel: Floats, salary: Floats) -> _Bools:
    low, middle, high = (_between(at, salary, at + 50_000) for at in (25_000, 50_000, 75_000))
    inside = _by_age(age, [low, middle, middle])
    outside = _by_age(age, [middle, high, low])
    return np.where(_levels(age, elevel), inside, outside)


def _loan_by_salary(age: Floats, salary: Floats, loan: Floats) -> _Bools:
    """River's text of this one asks for a salary where the paper's asks for the loan; this is the paper's."""
    inside = _by_age(age, [_between(at, loan, at + 200_000) for at in (100_000, 200_000, 300_000)])
    bounds = ((200_000, 400_000), (300_000, 500_000), (75_000, 300_000))
    outside = _by_age(age, [_between(low, loan, high) for low, high in bounds])
    return np.where(_incomes(age, salary), inside, outside)


def _poor(salary: Floats, commission: Floats, costs: Floats, allowance: float) -> _Bools:
    return 2 * (salary + commission) / 3 - costs - allowance <= 1


def _equity(hvalue: Floats, hyears: Floats) -> Floats:
    return np.where(hyears >= 20, hvalue * (hyears - 20) / 10, 0.0)


_FUNCTIONS: tuple[
    Callable[..., _Bools], ...
] = (  # of (salary, commission, age, elevel, car, zip, hvalue, hyears, loan)
    lambda _s, _c, age, *_: (age < 40) | (age >= 60),
    lambda s, _c, age, *_: _incomes(age, s),
    lambda _s, _c, age, elevel, *_: _levels(age, elevel),
    lambda s, _c, age, elevel, *_: _salary_by_level(age, elevel, s),
    lambda s, _c, age, *rest: _loan_by_salary(age, s, rest[-1]),
    lambda s, c, age, *_: _incomes(age, s + c),
    lambda s, c, _age, *rest: _poor(s, c, rest[-1] / 5, 20_000),
    lambda s, c, _age, elevel, *_: _poor(s, c, 5_000 * elevel, 20_000),
    lambda s, c, _age, elevel, *rest: _poor(s, c, 5_000 * elevel + rest[-1] / 5, 10_000),
    lambda s, c, _age, elevel, _car, _zip, hvalue, hyears, _loan: _poor(
        s, c, 5_000 * elevel - _equity(hvalue, hyears) / 5, 10_000
    ),
)
