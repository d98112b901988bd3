"""The outer step: Adam on a method's meta-objective, refused when a number is not finite.

A part of θ named ``average.NAME`` is not learned: after each step it follows NAME, θ̄ ← 0.99 θ̄ + 0.01 θ.

Source: Kingma & Ba (2015), arXiv:1412.6980, Algorithm 1; gradient clipping by global norm, Pascanu et al. (2013).
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from streammeta.meta.base import Axes, Episodes, Gradient, Ints, MetaState, Theta

__all__ = [
    "Gradient",
    "MetaStep",
    "arranged",
    "grow_outer",
    "join",
    "outer_step",
    "placed",
    "split",
    "start_outer",
]

_Vector: TypeAlias = npt.NDArray[np.floating]
_BETA1, _BETA2, _EPSILON = 0.9, 0.99, 1e-8
_LARGEST_NORM = 1.0
_AVERAGE, _AVERAGE_SHARE = "average.", 0.01


class MetaStep(NamedTuple):
    """One outer step: the new state, or the old one where the step was refused."""

    state: MetaState
    loss: float
    gradient_norm: float
    accepted: bool


def start_outer(theta: Theta) -> MetaState:
    """θ with an optimizer that has seen nothing."""
    zeros = np.zeros_like(join(theta))
    return MetaState(theta, zeros, zeros, 0)


def grow_outer(state: MetaState, theta: Theta) -> MetaState:
    """The same optimizer for a θ that has grown: what is new has had no gradient yet."""
    if all(p.shape == state.theta[name].shape for name, p in theta.items()):
        return state._replace(theta=theta)
    moments = []
    for moment in (state.first, state.second):
        padded = {name: np.zeros_like(p) for name, p in theta.items()}
        for name, old in split(moment, state.theta).items():
            padded[name][tuple(slice(n) for n in old.shape)] = old
        moments.append(join(padded))
    return MetaState(theta, moments[0], moments[1], state.updates)


def arranged(state: MetaState, into: Theta, axes: Axes, features: Ints, outputs: Ints) -> MetaState:
    """θ and optimizer of another order of features and outputs, in the order of ``into``.

    Args:
        state: of the other order; not changed.
        into: θ in ours, as it begins: what ``state`` does not have stays so, and has had no gradient yet.
        axes: where features and outputs lie, in either.
        features: the slot here of each slot there [D']; −1: none.
        outputs: the index here of each output there [C']; −1: none.
    """
    moments = []
    for moment in (state.first, state.second):
        zeros = {name: np.zeros_like(p) for name, p in into.items()}
        moments.append(join(placed(split(moment, state.theta), zeros, axes, (features, outputs))))
    theta = placed(state.theta, into, axes, (features, outputs))
    return MetaState(theta, moments[0], moments[1], state.updates)


def placed(parts: Theta, into: Theta, axes: Axes, numbers: tuple[Ints, Ints]) -> Theta:
    """Arrays of θ of another order of features and outputs, in the order of ``into``; see ``arranged``."""
    found = dict(into)
    for name, theirs in parts.items():
        axis = axes.get(name)
        if axis is None:
            found[name] = theirs
            continue
        source, target = [np.arange(n) for n in theirs.shape], [np.arange(n) for n in theirs.shape]
        for along, of in zip((axis.features, axis.outputs), numbers, strict=True):
            if along is not None:
                same, known = np.arange(axis.before), np.flatnonzero(of >= 0)
                source[along] = np.concatenate([same, axis.before + known])
                target[along] = np.concatenate([same, axis.before + of[known]])
        moved = into[name].copy()
        moved[np.ix_(*target)] = theirs[np.ix_(*source)]
        found[name] = moved
    return found


def outer_step(
    gradient: Gradient,
    state: MetaState,
    episodes: Episodes,
    *,
    rate: float,
    device: str = "cpu",
    pace: Mapping[str, float] | None = None,
) -> MetaStep:
    """One Adam step: θ ← θ − rate · pace · m̂ / (√v̂ + ε), the gradient first clipped to norm 1.

    All arrays of θ are one vector meanwhile, so that the step is a dozen operations however many there are. A step
    whose loss or gradient is not finite changes nothing and comes back with ``accepted`` False.

    Args:
        gradient: (θ, episodes) -> value and gradient of the meta-objective.
        state: θ and what the optimizer remembers; not changed.
        episodes: what to learn from.
        rate: step size.
        device: where the gradient is computed; another one than "cpu" wants torch.
        pace: of those arrays of θ whose steps are not of size ``rate``, the factor.
    """
    value, slopes = gradient(state.theta, episodes, device)
    g = join({name: slopes[name] for name in state.theta})  # in the order of θ, whatever the gradient's
    step = state.updates + 1
    with np.errstate(all="ignore"):  # what is not finite shows in the norm
        moved, first, second, norm = _adam((join(state.theta), state.first, state.second, g), step, rate)
    if not (math.isfinite(value) and math.isfinite(norm)):
        return MetaStep(state, value, norm, accepted=False)
    after = split(moved, state.theta)
    for name, factor in (pace or {}).items():
        after[name] = _between(state.theta[name], after[name], factor)
    after = _averaged(after)
    return MetaStep(MetaState(after, first, second, step), value, norm, accepted=True)


def _between(start: Any, end: Any, share: float) -> Any:  # noqa: ANN401 of one type
    return start + (end - start) * start.dtype.type(share)


def _averaged(theta: Theta) -> Theta:
    """θ whose moving averages have come one step nearer to it."""
    followed = {at: theta[at.removeprefix(_AVERAGE)] for at in theta if at.startswith(_AVERAGE)}
    return theta | {at: _between(theta[at], p, _AVERAGE_SHARE) for at, p in followed.items()}


def _adam(
    vectors: tuple[_Vector, _Vector, _Vector, _Vector], step: int, rate: float
) -> tuple[_Vector, _Vector, _Vector, float]:
    """θ and both moments after a step, and the norm of ``g`` before it was clipped.

    ``vectors`` are θ, both moments and the gradient g. Numbers of the type of θ, one operation after the other: the
    same bits on every processor.
    """
    theta, first, second, g = vectors
    real = theta.dtype.type
    norm = math.sqrt(float(np.square(g, dtype=np.float64).sum()))
    g = g * real(_LARGEST_NORM / norm if norm > _LARGEST_NORM else 1.0)
    first = first + (g - first) * real(1 - _BETA1)
    second = second * real(_BETA2) + g * g * real(1 - _BETA2)
    scale = np.sqrt(second * real(1 / (1 - _BETA2**step))) + real(_EPSILON)
    return theta - first / scale * real(rate / (1 - _BETA1**step)), first, second, norm


def join(parts: Mapping[str, _Vector]) -> _Vector:
    """All arrays as one vector, one after the other."""
    return np.concatenate([part.reshape(-1) for part in parts.values()])


def split(vector: _Vector, theta: Mapping[str, _Vector]) -> Theta:
    """The vector cut into the shapes of θ."""
    found, at = {}, 0
    for name, p in theta.items():
        found[name] = vector[at : at + p.size].reshape(p.shape)
        at += p.size
    return found
