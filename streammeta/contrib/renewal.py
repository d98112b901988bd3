"""Fresh hidden units for useless ones, against loss of plasticity: `[meta] renew_every`.

``renew_least`` gives each member's least useful hidden unit fresh input weights, and none to what comes after it, so
that no prediction changes at once. How useful: what it adds to the next layer, E|h − E h| · Σ|w|.

Source: Dohare et al. (2024), Loss of plasticity in deep continual learning, Nature 632 (continual backprop; here one
unit at a time, seldom enough that a fresh one has grown up by the next).
"""

import numpy as np
import numpy.typing as npt

from streammeta.meta.base import MetaState, Theta
from streammeta.meta.outer import join, split
from streammeta.meta.plasticity import before_hidden

__all__ = ["Renewal", "renew_least"]


class Renewal:
    """Renews after so many meta-updates.

    Args:
        every: meta-updates.
    """

    def __init__(self, every: int) -> None:
        self._every = every

    def __call__(self, state: MetaState, start: Theta, x: npt.NDArray[np.floating]) -> MetaState:
        """See ``MetaJob.renew``."""
        return renew_least(state, start, x) if state.updates % self._every == 0 else state


def renew_least(state: MetaState, start: Theta, x: npt.NDArray[np.floating]) -> MetaState:
    """θ with each member's least useful hidden unit initialized again; the optimizer forgets it.

    Args:
        state: θ of exact heads; not changed.
        start: θ before all learning: how large fresh weights are.
        x: normalized events [E, ..., D], on which units are judged.
    """
    theta = {name: p.copy() for name, p in state.theta.items()}
    moments = [{name: p.copy() for name, p in split(one, state.theta).items()} for one in (state.first, state.second)]
    hidden = np.tanh(before_hidden(theta, x))
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
