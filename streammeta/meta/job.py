"""A meta-update as a value: all that it reads, and the pure function that makes it.

    MetaJob(θ, optimizer, episodes, rate) → MetaStep(θ, optimizer, loss)

A replay calls it between two events, a lone service in a thread, a trainer in its own process or in several, where
``gradient`` is a mean over all of them.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from streammeta.meta.base import Episodes, Gradient, MetaState, Theta
from streammeta.meta.outer import MetaStep, outer_step
from streammeta.meta.plasticity import pulled, towards_start

__all__ = ["MetaJob", "Renew", "meta_update"]

# (θ after a step, θ as it began, normalized events [E, B, L, D]) -> θ with some hidden units that begin again
Renew: TypeAlias = Callable[[MetaState, Theta, npt.NDArray[np.floating]], MetaState]


class MetaJob(NamedTuple):
    """All that a meta-update reads; nobody changes any of it in place."""

    state: MetaState  # θ, and what the optimizer remembers
    episodes: Episodes  # what to learn from
    rate: float  # step size of the outer Adam
    start: Theta | None = None  # θ as it began, for saturated units to be pulled to; None: nothing is pulled
    pull: float = 0.0  # how strongly, in steps of ``rate``
    saturated: npt.NDArray[np.float64] | None = None  # of each unit the share of events [E · H]; None: see ``episodes``
    renew: Renew | None = None  # lets hidden units begin again; None: none does


def meta_update(
    job: MetaJob, gradient: Gradient, *, device: str = "cpu", pace: Mapping[str, float] | None = None
) -> MetaStep:
    """Make it: the same job gives the same step, wherever it is made; the job's own arrays stay as they are.

    Args:
        job: what to learn, from what.
        gradient: (θ, episodes, device) -> value and gradient of the meta-objective.
        device: where the gradient is computed.
        pace: of those arrays of θ whose steps are not of size ``rate``, the factor.
    """
    step = outer_step(gradient, job.state, job.episodes, rate=job.rate, device=device, pace=pace)
    if job.start is None or not step.accepted:
        return step
    strength = min(job.rate * job.pull, 1.0)
    if job.saturated is None:
        kept = towards_start(step.state, job.start, job.episodes.x, strength)
    else:
        kept = pulled(step.state, job.start, job.saturated, strength)
    if job.renew is not None:
        kept = job.renew(kept, job.start, job.episodes.x)
    return step._replace(state=kept)
