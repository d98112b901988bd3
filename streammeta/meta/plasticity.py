"""Against loss of plasticity: months of gradient steps can leave units that say the same to every event.

A remedy (`streammeta.contrib.renewal` is another), and the measures of a unit's state; figures: benchmarks/README.md.

* ``towards_start`` pulls the input weights of a hidden unit to where they began, w ← w − share · (w − w₀), by as much
  as events saturate it, so that none can run away; others are left alone. Source: Kumar et al. (2023),
  arXiv:2308.11958 (L2 Init; here decoupled from Adam, and only where it is needed).
* ``saturated_share``: of the hidden units' outputs, those at their bounds; and the ``norm`` of θ.
"""

import math

import numpy as np
import numpy.typing as npt

from streammeta.meta.base import Floats, MetaState, Theta
from streammeta.native import _kernels as kernels

__all__ = ["before_hidden", "has_encoder", "norm", "pulled", "saturated_counts", "saturated_share", "towards_start"]

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
    counts = (np.abs(before_hidden(theta, x)) > _BOUND).sum(1, dtype=np.float64)
    return np.append(counts, float(math.prod(x.shape[1:-1])))


def pulled(state: MetaState, start: Theta, share: npt.NDArray[np.float64], strength: float) -> MetaState:
    """As ``towards_start``, where the share of events that saturate each hidden unit is known [E · H]."""
    members, _, hidden = start["w1"].shape
    pull, theta = (share.reshape(members, 1, hidden) * strength).astype(np.float32), dict(state.theta)
    theta["w1"] = theta["w1"] + (start["w1"] - theta["w1"]) * pull
    theta["b1"] = theta["b1"] + (start["b1"] - theta["b1"]) * pull[:, 0]
    return state._replace(theta=theta)


def saturated_share(theta: Theta, x: Floats) -> float:
    """Of the hidden units' outputs at normalized events x [N, D], those at their bounds; 0 without any."""
    if not has_encoder(theta) or not len(x):
        return 0.0
    return float((np.abs(before_hidden(theta, x[None])) > _BOUND).mean())


def norm(theta: Theta) -> float:
    """The Euclidean norm of all of θ."""
    return math.sqrt(sum(float(np.square(p, dtype=np.float64).sum()) for p in theta.values()))


def before_hidden(theta: Theta, x: npt.NDArray[np.floating]) -> Floats:
    """What goes into the hidden units [E, N, H] at x [E, ..., D], or [1, ..., D] for all members."""
    members, features, hidden = theta["w1"].shape
    count = math.prod(x.shape[1:-1])  # not -1: nothing can be inferred where there are no features
    events = np.ascontiguousarray(x.reshape(len(x), count, features), np.float32)
    before = np.empty((members, events.shape[1], hidden), np.float32)
    for e in range(members):
        w1, b1 = (np.ascontiguousarray(theta[name][e], np.float32) for name in ("w1", "b1"))
        kernels.linear(events[e % len(events)], w1, b1, before[e])
    return before
