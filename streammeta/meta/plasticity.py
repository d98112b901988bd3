"""Against loss of plasticity: months of gradient steps can leave units that say the same to every event.

Two remedies, both off unless asked for, and what tells whether they are needed:

* ``towards_start`` pulls the network's weights a little to where they began, θ ← θ − share · (θ − θ₀), so that no unit
  can run away into saturation. Source: Kumar et al. (2023), arXiv:2308.11958 (L2 Init, here decoupled from Adam).
* ``renew_least`` gives each member's least useful hidden unit fresh input weights, and none to what comes after it, so
  that no prediction changes at once. How useful: what it adds to the next layer, E|h − E h| · Σ|w|. Source: Dohare et
  al. (2024), Loss of plasticity in deep continual learning, Nature 632 (continual backprop; here one unit at a time,
  seldom enough that a fresh one has grown up by the next).
* ``saturated_share``: of the hidden units' outputs, those at their bounds; and the ``norm`` of θ.
"""

import math

import numpy as np
import torch

from streammeta.meta.base import Floats, MetaState, Theta
from streammeta.meta.outer import join, split

__all__ = ["norm", "renew_least", "saturated_share", "towards_start"]

_NETWORK = ("w1", "b1", "w2", "b2")
_BOUND = math.atanh(0.98)  # of what goes into a tanh: beyond, hardly any gradient passes
_SEEDS = 1_000_003


def towards_start(state: MetaState, start: Theta, share: float) -> MetaState:
    """θ after a pull by this share of the way to ``start``; heads, memories and scales are left alone."""
    theta = dict(state.theta)
    for name in [name for name in theta if name in _NETWORK or "w1" not in theta]:
        theta[name] = torch.lerp(theta[name], start[name], share)
    return state._replace(theta=theta)


def renew_least(state: MetaState, start: Theta, x: torch.Tensor) -> MetaState:
    """θ with each member's least useful hidden unit made anew; the optimizer forgets it.

    Args:
        state: θ of exact heads; not changed.
        start: θ before all learning: how large fresh weights are.
        x: normalized events [E, ..., D], on which units are judged.
    """
    theta = {name: p.clone() for name, p in state.theta.items()}
    moments = [{name: p.clone() for name, p in split(one, state.theta).items()} for one in (state.first, state.second)]
    hidden = _hidden(theta, x)
    spread = (hidden - hidden.mean(1, keepdim=True)).abs().mean(1)  # [E, H]
    least = (spread * (theta["w2"].abs().sum(2) + theta["u"].abs().sum(2))).argmin(1).tolist()
    for member, unit in enumerate(least):
        random = torch.Generator().manual_seed(_SEEDS * state.updates + member)
        size = start["w1"][member].std(1, correction=0)
        theta["w1"][member, :, unit] = torch.randn(size.shape, generator=random) * size
        theta["b1"][member, unit] = 0
        for part in (theta, *moments):
            part["w2"][member, unit], part["u"][member, unit] = 0, 0
        for part in moments:
            part["w1"][member, :, unit], part["b1"][member, unit] = 0, 0
    return MetaState(theta, join(moments[0]), join(moments[1]), state.updates)


def saturated_share(theta: Theta, x: Floats) -> float:
    """Of the hidden units' outputs at normalized events x [N, D], those at their bounds; 0 without any."""
    if "w1" not in theta or not x.size:
        return 0.0
    before = x @ theta["w1"].numpy() + theta["b1"].numpy()[:, None]  # [E, N, H]; numpy wakes no threads for it
    return float((np.abs(before) > _BOUND).mean())


def norm(theta: Theta) -> float:
    """The Euclidean norm of all of θ."""
    return math.sqrt(sum(float(np.square(p.numpy(), dtype=np.float64).sum()) for p in theta.values()))


def _hidden(theta: Theta, x: torch.Tensor) -> torch.Tensor:
    """Hidden units [E, N, H] at x [E, ..., D]."""
    return torch.tanh(x.reshape(x.shape[0], -1, x.shape[-1]) @ theta["w1"] + theta["b1"][:, None])
