"""The outer step: Adam on a method's meta-objective, refused when a number is not finite.

Source: Kingma & Ba (2015), arXiv:1412.6980, Algorithm 1; gradient clipping by global norm, Pascanu et al. (2013).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

from streammeta.meta.base import Episodes, MetaState, Theta

__all__ = ["MetaStep", "grow_outer", "outer_step", "start_outer"]

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


def outer_step(
    loss: Callable[[Theta, Episodes], torch.Tensor],
    state: MetaState,
    episodes: Episodes,
    *,
    rate: float,
    device: torch.device,
    threads: int = 1,
) -> MetaStep:
    """One Adam step on ``loss``, on so many CPU ``threads``: θ ← θ − rate · m̂ / (√v̂ + ε), the gradient first clipped to norm 1.

    The only synchronization with the device is the reading of loss and norm at the end. A step whose loss or gradient
    is not finite changes nothing and comes back with ``accepted`` False.
    """
    with _cpu_threads(threads):
        return _adam(loss, state, episodes, rate, device)


def _adam(
    loss: Callable[[Theta, Episodes], torch.Tensor],
    state: MetaState,
    episodes: Episodes,
    rate: float,
    device: torch.device,
) -> MetaStep:
    episodes = Episodes(*(tensor.to(device) for tensor in episodes))
    theta = {name: p.detach().to(device).requires_grad_() for name, p in state.theta.items()}
    value = loss(theta, episodes)
    gradients = torch.autograd.grad(value, list(theta.values()))
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
    shrink = (_LARGEST_NORM / (norm + 1e-6)).clamp(max=1.0)
    step = state.updates + 1
    new: tuple[Theta, Theta, Theta] = ({}, {}, {})
    with torch.no_grad():
        for (name, p), gradient in zip(theta.items(), gradients, strict=True):
            g = gradient * shrink
            first = state.first[name].to(device).lerp(g, 1 - _BETA1)
            second = state.second[name].to(device).mul(_BETA2).addcmul_(g, g, value=1 - _BETA2)
            scale = second.div(1 - _BETA2**step).sqrt_().add_(_EPSILON)
            moved = p.detach().addcdiv(first, scale, value=-rate / (1 - _BETA1**step))
            for kept, tensor in zip(new, (moved, first, second), strict=True):
                kept[name] = tensor.cpu()
    found, size = float(value.detach()), float(norm)
    if not (torch.isfinite(torch.tensor(found)) and torch.isfinite(torch.tensor(size))):
        return MetaStep(state, found, size, accepted=False)
    return MetaStep(MetaState(*new, step), found, size, accepted=True)
