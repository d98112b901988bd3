"""The outer step: Adam on a method's meta-objective, refused when a number is not finite.

Source: Kingma & Ba (2015), arXiv:1412.6980, Algorithm 1; gradient clipping by global norm, Pascanu et al. (2013).
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

import torch

from streammeta.meta.base import Episodes, MetaState, Theta

__all__ = ["Gradient", "MetaStep", "by_autograd", "grow_outer", "outer_step", "start_outer"]

Gradient: TypeAlias = Callable[[Theta, Episodes], tuple[torch.Tensor, Theta]]

_BETA1, _BETA2, _EPSILON = 0.9, 0.99, 1e-8
_LARGEST_NORM = 1.0


class MetaStep(NamedTuple):
    """One outer step: the new state, or the old one where the step was refused."""

    state: MetaState
    loss: float
    gradient_norm: float
    accepted: bool


def start_outer(theta: Theta) -> MetaState:
    """θ with an optimizer that has seen nothing."""
    zeros = {name: torch.zeros_like(p) for name, p in theta.items()}
    return MetaState(theta, zeros, dict(zeros), 0)


def grow_outer(state: MetaState, theta: Theta) -> MetaState:
    """The same optimizer for a θ that has grown: what is new has had no gradient yet."""
    moments = []
    for moment in (state.first, state.second):
        padded = {name: torch.zeros_like(p) for name, p in theta.items()}
        for name, old in moment.items():
            padded[name][tuple(slice(n) for n in old.shape)] = old
        moments.append(padded)
    return MetaState(theta, moments[0], moments[1], state.updates)


@contextmanager
def _cpu_threads(wanted: int) -> Iterator[None]:
    """Let torch use so many threads; for small matrices more than one only wait for each other."""
    before = torch.get_num_threads()
    if before == wanted:
        yield
        return
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def by_autograd(loss: Callable[[Theta, Episodes], torch.Tensor]) -> Gradient:
    """The value and gradient of a loss by torch's reverse mode."""

    def gradient(theta: Theta, episodes: Episodes) -> tuple[torch.Tensor, Theta]:
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
    threads: int = 1,
) -> MetaStep:
    """One Adam step: θ ← θ − rate · m̂ / (√v̂ + ε), the gradient first clipped to norm 1.

    All tensors of θ are one vector meanwhile, so that the step is a dozen operations however many there are. The device
    is waited for once, when loss and norm are read at the end. A step whose loss or gradient is not finite changes
    nothing and comes back with ``accepted`` False.

    Args:
        gradient: (θ, episodes) -> value and gradient of the meta-objective.
        state: θ and what the optimizer remembers; not changed.
        episodes: what to learn from.
        rate: step size.
        device: where to compute; the new state is on the CPU.
        threads: how many CPU threads torch may use.
    """
    with _cpu_threads(threads), torch.no_grad():
        theta = {name: p.to(device) for name, p in state.theta.items()}
        with torch.enable_grad():
            value, slopes = gradient(theta, Episodes(*(tensor.to(device) for tensor in episodes)))
        g = _flat({name: slopes[name] for name in theta})  # in the order of θ, whatever the gradient's
        norm = torch.linalg.vector_norm(g)
        g = g * (_LARGEST_NORM / (norm + 1e-6)).clamp(max=1.0)
        step = state.updates + 1
        first = _flat(state.first).to(device).lerp_(g, 1 - _BETA1)
        second = _flat(state.second).to(device).mul_(_BETA2).addcmul_(g, g, value=1 - _BETA2)
        scale = second.div(1 - _BETA2**step).sqrt_().add_(_EPSILON)
        moved = _flat(theta).addcdiv_(first, scale, value=-rate / (1 - _BETA1**step))
        found, size = torch.stack([value, norm]).tolist()
        if not (math.isfinite(found) and math.isfinite(size)):
            return MetaStep(state, found, size, accepted=False)
        parts = [_like(vector.cpu(), state.theta) for vector in (moved, first, second)]
    return MetaStep(MetaState(parts[0], parts[1], parts[2], step), found, size, accepted=True)


def _flat(parts: Theta) -> torch.Tensor:
    return torch.cat([part.reshape(-1) for part in parts.values()])


def _like(vector: torch.Tensor, theta: Theta) -> Theta:
    """The vector cut into the shapes of θ."""
    pieces = torch.split(vector, [p.numel() for p in theta.values()])
    return {name: piece.view(p.shape) for (name, p), piece in zip(theta.items(), pieces, strict=True)}
