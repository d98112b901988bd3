"""Every method by its name, with a network and settings that suit a small problem: for configuration and comparison.

`build("maml", Problem("regression", inputs=1, outputs=1))` is a `Learner`. For other networks or settings,
calls the factories in `streammeta.meta.methods`.
"""

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

from streammeta.errors import ConfigError
from streammeta.meta.base import Kind
from streammeta.meta.learner import Learner, TaskLoss, cross_entropy, squared_error
from streammeta.meta.methods import (
    adversarial,
    alpaca,
    anil,
    averaged,
    cavia,
    gaussian,
    imaml,
    learned_optimizer,
    maml,
    maml_plus_plus,
    meta_sgd,
    mixture,
    prototypes,
    recurrent,
    reptile,
    ridge,
    svm,
)
from streammeta.meta.objective import Outer
from streammeta.meta.optimizer import sgd
from streammeta.model import Model, conv4, mlp

__all__ = ["METHODS", "Problem", "Tuning", "build", "methods_for"]


class Problem(NamedTuple):
    """What is to be predicted from what."""

    kind: Kind
    inputs: int  # numbers an example has
    outputs: int  # classes, or targets of a regression
    image_side: int | None = None  # for a convolutional network: examples are images [1, side, side]
    hidden: tuple[int, ...] = (40, 40)


class Tuning(NamedTuple):
    """The settings that are worth searching; None: as the method has them."""

    inner_rate: float | None = None
    inner_steps: int | None = None
    outer: Outer | None = None
    task_loss: TaskLoss | None = None  # by default squared error, or cross-entropy


_Builder: TypeAlias = Callable[[Problem, Tuning], Learner]


def build(name: str, problem: Problem, tuning: Tuning | None = None) -> Learner:
    """The method of that name for a problem.

    Raises:
        ConfigError: there is no such method, or it does not do this kind of prediction.
    """
    if name not in METHODS:
        raise ConfigError(f"method {name!r}: there is none of that name; there are {', '.join(METHODS)}")
    kinds, builder = METHODS[name]
    if problem.kind not in kinds:
        fitting = ", ".join(methods_for(problem.kind))
        raise ConfigError(f"method {name!r} does not do {problem.kind}; these do: {fitting}")
    return builder(problem, tuning or Tuning())


def methods_for(kind: Kind) -> list[str]:
    """Names of the methods that do this kind of prediction."""
    return [name for name, (kinds, _) in METHODS.items() if kind in kinds]


def _network(problem: Problem, extra_inputs: int = 0) -> Model:
    if problem.image_side is not None and not extra_inputs:
        return conv4(problem.outputs, side=problem.image_side)
    return mlp(problem.inputs + extra_inputs, problem.hidden, problem.outputs)


def _encoder(problem: Problem) -> Model:
    if problem.image_side is not None:
        return conv4(None, side=problem.image_side)
    return mlp(problem.inputs, (64, 64), 32, activation="tanh", activate_output=True)


def _loss(problem: Problem, tuning: Tuning) -> TaskLoss:
    return tuning.task_loss or (squared_error if problem.kind == "regression" else cross_entropy)


def _maml(problem: Problem, tuning: Tuning, *, first_order: bool = False) -> Learner:
    return maml(
        _network(problem),
        _loss(problem, tuning),
        inner=sgd(tuning.inner_rate or 0.01),
        inner_steps=tuning.inner_steps or 1,
        first_order=first_order,
        outer=tuning.outer,
    )


def _maml_plus_plus(problem: Problem, tuning: Tuning) -> Learner:
    return maml_plus_plus(
        _network(problem),
        _loss(problem, tuning),
        inner_rate=tuning.inner_rate or 0.01,
        inner_steps=tuning.inner_steps or 5,
        outer=tuning.outer,
    )


def _reptile(problem: Problem, tuning: Tuning) -> Learner:
    return reptile(
        _network(problem),
        _loss(problem, tuning),
        inner=sgd(tuning.inner_rate or 0.02),
        inner_steps=tuning.inner_steps or 8,
        meta_rate=0.1,
    )


def _meta_sgd(problem: Problem, tuning: Tuning) -> Learner:
    rate, steps = tuning.inner_rate or 0.01, tuning.inner_steps or 1
    return meta_sgd(_network(problem), _loss(problem, tuning), inner_rate=rate, inner_steps=steps, outer=tuning.outer)


def _anil(problem: Problem, tuning: Tuning) -> Learner:
    inner, steps = sgd(tuning.inner_rate or 0.01), tuning.inner_steps or 5
    return anil(_network(problem), _loss(problem, tuning), inner=inner, inner_steps=steps, outer=tuning.outer)


def _cavia(problem: Problem, tuning: Tuning) -> Learner:
    rate, steps = tuning.inner_rate or 1.0, tuning.inner_steps or 1
    network = _network(problem, extra_inputs=5)
    return cavia(network, _loss(problem, tuning), context=5, inner_rate=rate, inner_steps=steps, outer=tuning.outer)


def _imaml(problem: Problem, tuning: Tuning) -> Learner:
    return imaml(_network(problem), _loss(problem, tuning), inner_steps=tuning.inner_steps or 3, outer=tuning.outer)


def _ridge(problem: Problem, tuning: Tuning) -> Learner:
    scale = 10.0 if problem.kind == "classification" else 1.0
    return ridge(_encoder(problem), _loss(problem, tuning), outputs=problem.outputs, scale=scale, outer=tuning.outer)


def _recurrent(problem: Problem, tuning: Tuning, *, cell: Literal["lstm", "gru"] = "lstm") -> Learner:
    return recurrent(_encoder(problem), _loss(problem, tuning), outputs=problem.outputs, cell=cell, outer=tuning.outer)


def _learned_optimizer(problem: Problem, tuning: Tuning) -> Learner:
    return learned_optimizer(
        _network(problem), _loss(problem, tuning), steps=tuning.inner_steps or 5, width=10, outer=tuning.outer
    )


_BOTH: frozenset[Kind] = frozenset({"classification", "regression"})
_CLASSES: frozenset[Kind] = frozenset({"classification"})
_NUMBERS: frozenset[Kind] = frozenset({"regression"})

METHODS: Mapping[str, tuple[frozenset[Kind], _Builder]] = {
    "maml": (_BOTH, _maml),
    "fomaml": (_BOTH, lambda problem, tuning: _maml(problem, tuning, first_order=True)),
    "maml++": (_BOTH, _maml_plus_plus),
    "reptile": (_BOTH, _reptile),
    "meta-sgd": (_BOTH, _meta_sgd),
    "anil": (_BOTH, _anil),
    "cavia": (_BOTH, _cavia),
    "imaml": (_BOTH, _imaml),
    "r2d2": (_BOTH, _ridge),
    "alpaca": (
        _NUMBERS,
        lambda problem, tuning: alpaca(_encoder(problem), outputs=problem.outputs, outer=tuning.outer),
    ),
    "metaoptnet": (
        _CLASSES,
        lambda problem, tuning: svm(_encoder(problem), classes=problem.outputs, outer=tuning.outer),
    ),
    "protonet": (
        _CLASSES,
        lambda problem, tuning: prototypes(_encoder(problem), classes=problem.outputs, outer=tuning.outer),
    ),
    "gemcl": (
        _CLASSES,
        lambda problem, tuning: gaussian(_encoder(problem), classes=problem.outputs, outer=tuning.outer),
    ),
    "lstm": (_BOTH, _recurrent),
    "gru": (_BOTH, lambda problem, tuning: _recurrent(problem, tuning, cell="gru")),
    "learned-optimizer": (_BOTH, _learned_optimizer),
    "adml": (
        _BOTH,
        lambda problem, tuning: adversarial(_maml(problem, tuning), radius=0.05, arms="crossed", outer=tuning.outer),
    ),
    "aq": (_BOTH, lambda problem, tuning: adversarial(_ridge(problem, tuning), radius=0.05, outer=tuning.outer)),
    "maml-ema": (_BOTH, lambda problem, tuning: averaged(_maml(problem, tuning), decay=0.99)),
    "mixture": (
        _BOTH,
        lambda problem, tuning: mixture(
            [_ridge(problem, tuning), _ridge(problem, tuning), _recurrent(problem, tuning, cell="gru")],
            kind=problem.kind,
        ),
    ),
}
