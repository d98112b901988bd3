"""The outer step: Adam on a method's meta-objective, refused when a number is not finite.

A part of θ named ``average.NAME`` is not learned: after each step it follows NAME, θ̄ ← 0.99 θ̄ + 0.01 θ.

Source: Kingma & Ba (2015), arXiv:1412.6980, Algorithm 1; gradient clipping by global norm, Pascanu et al. (2013).
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

from streammeta.meta.base import Axes, Episodes, Ints, MetaState, Theta

__all__ = [
    "Gradient",
    "MetaStep",
    "arranged",
    "by_autograd",
    "cpu_threads",
    "grow_outer",
    "join",
    "outer_step",
    "split",
    "start_outer",
]

Gradient: TypeAlias = Callable[[Theta, Episodes], tuple[torch.Tensor, Theta]]

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
    zeros = torch.zeros_like(join(theta))
    return MetaState(theta, zeros, zeros, 0)


def grow_outer(state: MetaState, theta: Theta) -> MetaState:
    """The same optimizer for a θ that has grown: what is new has had no gradient yet."""
    if all(p.shape == state.theta[name].shape for name, p in theta.items()):
        return state._replace(theta=theta)
    moments = []
    for moment in (state.first, state.second):
        padded = {name: torch.zeros_like(p) for name, p in theta.items()}
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
        zeros = {name: torch.zeros_like(p) for name, p in into.items()}
        moments.append(join(_moved(split(moment, state.theta), zeros, axes, (features, outputs))))
    theta = _moved(state.theta, into, axes, (features, outputs))
    return MetaState(theta, moments[0], moments[1], state.updates)


def _moved(parts: Theta, into: Theta, axes: Axes, numbers: tuple[Ints, Ints]) -> Theta:
    found = dict(into)
    for name, theirs in parts.items():
        axis = axes.get(name)
        if axis is None:
            found[name] = theirs
            continue
        source, target = [torch.arange(n) for n in theirs.shape], [torch.arange(n) for n in theirs.shape]
        for along, of in zip((axis.features, axis.outputs), numbers, strict=True):
            if along is not None:
                same, known = np.arange(axis.before), np.flatnonzero(of >= 0)
                source[along] = torch.from_numpy(np.concatenate([same, axis.before + known]))
                target[along] = torch.from_numpy(np.concatenate([same, axis.before + of[known]]))
        moved = into[name].clone()
        moved[torch.meshgrid(*target, indexing="ij")] = theirs[torch.meshgrid(*source, indexing="ij")]
        found[name] = moved
    return found


@contextmanager
def cpu_threads(wanted: int) -> Iterator[None]:
    """Let torch use ``threads`` threads; for small matrices more than one only wait for each other."""
    before = torch.get_num_threads()
    if before == wanted:
        yield
        return
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def by_autograd(loss: Callable[[Theta, Episodes], torch.Tensor], *, threads: int = 1) -> Gradient:
    """The value and gradient of a loss by torch's reverse mode, with ``threads`` CPU threads."""

    def gradient(theta: Theta, episodes: Episodes) -> tuple[torch.Tensor, Theta]:
        with cpu_threads(threads):
            inputs = {name: p.detach().requires_grad_() for name, p in theta.items()}
            value = loss(inputs, episodes)
            slopes = torch.autograd.grad(value, list(inputs.values()))
            return value.detach(), dict(zip(inputs, slopes, strict=True))

    return gradient


def outer_step(
    gradient: Gradient,
    state: MetaState,
    episodes: Episodes,
    *,
    rate: float,
    device: torch.device,
    pace: Mapping[str, float] | None = None,
) -> MetaStep:
    """One Adam step: θ ← θ − rate · pace · m̂ / (√v̂ + ε), the gradient first clipped to norm 1.

    All tensors of θ are one vector meanwhile, so that the step is a dozen operations however many there are: numpy's on
    the CPU, where torch would wake its threads for each, torch's on a GPU, which is waited for once, when loss and norm
    are read. A step whose loss or gradient is not finite changes nothing and comes back with ``accepted`` False.

    Args:
        gradient: (θ, episodes) -> value and gradient of the meta-objective.
        state: θ and what the optimizer remembers; not changed.
        episodes: what to learn from.
        rate: step size.
        device: where to compute; the new state is on the CPU.
        pace: of those tensors of θ whose steps are not of size ``rate``, the factor.
    """
    theta = {name: p.to(device) for name, p in state.theta.items()}
    value, slopes = gradient(theta, Episodes(*(tensor.to(device) for tensor in episodes)))
    g = join({name: slopes[name] for name in theta})  # in the order of θ, whatever the gradient's
    vectors = [part.to(device) for part in (join(theta), state.first, state.second, g)]
    step = state.updates + 1
    if device.type == "cpu":
        with np.errstate(all="ignore"):  # what is not finite shows in the norm
            *moved, norm = _adam([vector.numpy() for vector in vectors], step, rate)
        found, size = float(value), float(norm)
    else:
        *moved, norm = _adam(vectors, step, rate)
        found, size = torch.stack([value, norm]).tolist()
    if not (math.isfinite(found) and math.isfinite(size)):
        return MetaStep(state, found, size, accepted=False)
    parts = [torch.as_tensor(part).cpu() for part in moved]
    after = split(parts[0], state.theta)
    for name, factor in (pace or {}).items():
        after[name] = torch.lerp(state.theta[name], after[name], factor)
    after = _averaged(after)
    return MetaStep(MetaState(after, parts[1], parts[2], step), found, size, accepted=True)


def _averaged(theta: Theta) -> Theta:
    """θ whose moving averages have come one step nearer to it."""
    followed = {at: theta[at.removeprefix(_AVERAGE)] for at in theta if at.startswith(_AVERAGE)}
    return theta | {at: torch.lerp(theta[at], p, _AVERAGE_SHARE) for at, p in followed.items()}


def _adam(vectors: Sequence[Any], step: int, rate: float) -> tuple[Any, Any, Any, Any]:
    """θ and both moments after a step, and the norm of ``g`` before it was clipped; vectors of numpy or of torch.

    ``vectors`` are θ, both moments and the gradient g.
    """
    theta, first, second, g = vectors
    norm = (g @ g) ** 0.5
    g = g * (2 * _LARGEST_NORM / (norm + _LARGEST_NORM + abs(norm - _LARGEST_NORM)))  # a maximum without a host's look
    first = first + (g - first) * (1 - _BETA1)
    second = second * _BETA2 + g * g * (1 - _BETA2)
    scale = (second / (1 - _BETA2**step)) ** 0.5 + _EPSILON
    return theta - first / scale * (rate / (1 - _BETA1**step)), first, second, norm


def join(parts: Theta) -> torch.Tensor:
    """All tensors as one vector, one after the other."""
    return torch.cat([part.reshape(-1) for part in parts.values()])


def split(vector: torch.Tensor, theta: Theta) -> Theta:
    """The vector cut into the shapes of θ."""
    pieces = torch.split(vector, [p.numel() for p in theta.values()])
    return {name: piece.view(p.shape) for (name, p), piece in zip(theta.items(), pieces, strict=True)}
