"""Against loss of plasticity: months of gradient steps can leave units that say the same to every event.

Two remedies (the first is on by default), and the measures of a unit's state; figures are in benchmarks/README.md:

* ``towards_start`` pulls the input weights of a hidden unit to where they began, w ← w − share · (w − w₀), by as much
  as events saturate it, so that none can run away; others are left alone. Source: Kumar et al. (2023),
  arXiv:2308.11958 (L2 Init; here decoupled from Adam, and only where it is needed).
* ``renew_least`` gives each member's least useful hidden unit fresh input weights, and none to what comes after it, so
  that no prediction changes at once. How useful: what it adds to the next layer, E|h − E h| · Σ|w|. Source: Dohare et
  al. (2024), Loss of plasticity in deep continual learning, Nature 632 (continual backprop; here one unit at a time,
  seldom enough that a fresh one has grown up by the next).
* ``saturated_share``: of the hidden units' outputs, those at their bounds; and the ``norm`` of θ.
"""

import math

import numpy as np
import numpy.typing as npt

from streammeta.meta.base import Floats, MetaState, Theta
from streammeta.meta.outer import join, split
from streammeta.native import _kernels as kernels

__all__ = [
    "has_encoder",
    "norm",
    "pulled",
    "renew_least",
    "saturated_counts",
    "saturated_share",
    "towards_start",
]

_BOUND = math.atanh(0.98)  # of what goes into a tanh: beyond, hardly any gradient passes


def has_encoder(theta: Theta) -> bool:
    """Whether θ is of exact heads; other learners are as their papers have them."""
    return "log_precision" in theta


def towards_start(state: MetaState, start: Theta, x: npt.NDArray[np.floating], strength: float) -> MetaState:
    """θ after each hidden unit's input weights were pulled to their start, by the share of events that saturate it.

    Args:
        state: θ of exact heads; not changed.
        start: θ before all learning.
        x: normalized events [E, B, L, D], on which units are judged.
        strength: the part of the way that a unit goes that every event saturates.
    """
    counts = saturated_counts(state.theta, x)
    return pulled(state, start, counts[:-1] / counts[-1], strength)


def saturated_counts(theta: Theta, x: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Of events x [E, B, L, D], how many saturate each hidden unit, and how many there are [E · H + 1]."""
    counts = (np.abs(_before(theta, x)) > _BOUND).sum(1, dtype=np.float64)
    return np.append(counts, float(math.prod(x.shape[1:-1])))


def pulled(state: MetaState, start: Theta, share: npt.NDArray[np.float64], strength: float) -> MetaState:
    """As ``towards_start``, where the share of events that saturate each hidden unit is known [E · H]."""
    members, _, hidden = start["w1"].shape
    pull, theta = (share.reshape(members, 1, hidden) * strength).astype(np.float32), dict(state.theta)
    theta["w1"] = theta["w1"] + (start["w1"] - theta["w1"]) * pull
    theta["b1"] = theta["b1"] + (start["b1"] - theta["b1"]) * pull[:, 0]
    return state._replace(theta=theta)


def renew_least(state: MetaState, start: Theta, x: npt.NDArray[np.floating]) -> MetaState:
    """θ with each member's least useful hidden unit initialized again; the optimizer forgets it.

    Args:
        state: θ of exact heads; not changed.
        start: θ before all learning: how large fresh weights are.
        x: normalized events [E, ..., D], on which units are judged.
    """
    theta = {name: p.copy() for name, p in state.theta.items()}
    moments = [{name: p.copy() for name, p in split(one, state.theta).items()} for one in (state.first, state.second)]
    hidden = np.tanh(_before(theta, x))
    spread = np.abs(hidden - hidden.mean(1, keepdims=True)).mean(1)  # [E, H]
    least = (spread * (np.abs(theta["w2"]).sum(2) + np.abs(theta["u"]).sum(2))).argmin(1).tolist()
    for member, unit in enumerate(least):
        random = np.random.default_rng((state.updates, member))
        size = start["w1"][member].std(1)
        theta["w1"][member, :, unit] = random.standard_normal(size.shape, np.float32) * size
        theta["b1"][member, unit] = 0
        for part in (theta, *moments):
            part["w2"][member, unit], part["u"][member, unit] = 0, 0
        for part in moments:
            part["w1"][member, :, unit], part["b1"][member, unit] = 0, 0
    return MetaState(theta, join(moments[0]), join(moments[1]), state.updates)


def saturated_share(theta: Theta, x: Floats) -> float:
    """Of the hidden units' outputs at normalized events x [N, D], those at their bounds; 0 without any."""
    if not has_encoder(theta) or not len(x):
        return 0.0
    return float((np.abs(_before(theta, x[None])) > _BOUND).mean())


def norm(theta: Theta) -> float:
    """The Euclidean norm of all of θ."""
    return math.sqrt(sum(float(np.square(p, dtype=np.float64).sum()) for p in theta.values()))


def _before(theta: Theta, x: npt.NDArray[np.floating]) -> Floats:
    """What goes into the hidden units [E, N, H] at x [E, ..., D], or [1, ..., D] for all members."""
    members, features, hidden = theta["w1"].shape
    count = math.prod(x.shape[1:-1])  # not -1: nothing can be inferred where there are no features
    events = np.ascontiguousarray(x.reshape(len(x), count, features), np.float32)
    before = np.empty((members, events.shape[1], hidden), np.float32)
    for e in range(members):
        w1, b1 = (np.ascontiguousarray(theta[name][e], np.float32) for name in ("w1", "b1"))
        kernels.linear(events[e % len(events)], w1, b1, before[e])
    return before
