"""θ from members that keep their events: local meta-updates, clipped and with noise, averaged by an outer step.

    member     θᵢ ← H steps of Adam from θ on the segments of its own tasks         Δᵢ = clip(θᵢ − θ, S)
    trainer    Δ = Σ wᵢ Δᵢ / Σ wᵢ        m ← μ m + Δ        θ ← θ + η (Δ + μ m)

With one step, H = 1, and tasks as clients this is FedMeta and Per-FedAvg; with many and Nesterov's momentum, DiLoCo.

**Differential privacy of a task.** Where a step is private, each task's gradient is clipped by itself, and noise is
added to the sum before anything else is computed of it::

    g = (Σ over sampled tasks i of clip(∇L_i(θ), C) + N(0, z² C² I)) / B

A task is sampled with probability q, each by itself. So two members that differ by one whole task have step sums that
differ by at most C, and all that follows (Adam, Δᵢ, θ) is computed from what is private already. What H steps cost is
in `streammeta.meta.privacy`.

Sources: Chen et al. (2018), FedMeta, arXiv:1802.07876; Fallah et al. (2020), Per-FedAvg, arXiv:2002.07948; Douillard
et al. (2023), DiLoCo, arXiv:2311.08105, Algorithm 1; Abadi et al. (2016), arXiv:1607.00133, Algorithm 1, a task in the
place of an example, as McMahan et al. (2018), arXiv:1710.06963, have a user; Holohan & Braghin (2021),
arXiv:2107.10138 (a sum of four normal numbers, so that none can be guessed from a result's last bits).
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from streammeta.meta.base import Episodes, Gradient, MetaState, Theta
from streammeta.meta.outer import join, outer_step, split

__all__ = [
    "LocalUpdate",
    "Noise",
    "SystemNoise",
    "averaged",
    "clipped",
    "local_update",
    "nesterov_step",
    "private_gradient",
]

Vector: TypeAlias = npt.NDArray[np.float64]
_SUMMED = 4  # normal numbers in one, by Holohan & Braghin
_BITS = 53  # of a uniform number


class Noise(Protocol):
    """Where the chance of privacy comes from."""

    def normal(self, count: int) -> Vector:
        """``count`` independent standard normal numbers."""

    def sampled(self, count: int, rate: float) -> npt.NDArray[np.bool_]:
        """For each of ``count``, whether it is taken: with probability ``rate``, each by itself."""


class SystemNoise:
    """The operating system's cryptographic generator.

    Never the seed of the settings: that is in the configuration and in every record of θ, and who knows it could take
    the noise off again.
    """

    def normal(self, count: int) -> Vector:
        """See ``Noise``."""
        parts = ndtri(self._uniform(_SUMMED * count)).reshape(_SUMMED, count)
        found: Vector = parts.sum(0) / math.sqrt(_SUMMED)
        return found

    def sampled(self, count: int, rate: float) -> npt.NDArray[np.bool_]:
        """See ``Noise``."""
        return np.asarray(self._uniform(count) < rate)

    @staticmethod
    def _uniform(count: int) -> Vector:
        """Uniform numbers inside (0, 1), neither end among them."""
        bits = np.frombuffer(os.urandom(8 * count), np.uint64) >> np.uint64(64 - _BITS)
        return (bits.astype(np.float64) + 0.5) * 2.0**-_BITS


class LocalUpdate(NamedTuple):
    """What local steps found."""

    state: MetaState  # θ after them, and the optimizer that the next ones go on with
    delta: Vector  # clip(θ after − θ before, S), the arrays of θ one after the other
    norm: float  # of θ after − θ before, before it was clipped
    loss: float  # mean over the steps; of the member's own tasks, and not private


def clipped(vector: npt.NDArray[np.floating], bound: float) -> Vector:
    """The vector, shortened to norm ``bound`` where it is longer; zeros where a number of it is not finite.

    >>> clipped(np.array([0.0, 4.0]), 1.0).tolist()
    [0.0, 1.0]
    >>> clipped(np.array([3.0, np.nan]), 1.0).tolist()
    [0.0, 0.0]
    """
    found = np.asarray(vector, np.float64)
    largest = float(np.abs(found).max(initial=0.0))
    if not math.isfinite(largest):
        return np.zeros_like(found)
    if largest == 0:
        return found.copy()
    scaled = found / largest  # so that no square is too large for a number
    norm = float(np.sqrt(np.square(scaled).sum()))  # of ``scaled``, ≥ 1
    return scaled * min(largest, bound / norm)


def private_gradient(gradient: Gradient, *, bound: float, multiplier: float, expected: float, noise: Noise) -> Gradient:
    """The gradient as a private sum over tasks: see the module's text.

    Args:
        gradient: (θ, episodes, device) -> value and gradient, a mean over segments.
        bound: C > 0, the norm to which each task's gradient is clipped.
        multiplier: z ≥ 0, standard deviations of noise in units of C.
        expected: B > 0, what the sum is divided by. It must not depend on the data; Adam's steps do not depend on it.
        noise: where the noise comes from.

    Returns:
        Of episodes [E, B, L, D] whose segment b is of one task, for all members of the ensemble. There may be none:
        then the gradient is noise. The value is the mean loss of tasks; it has no noise, and must not leave the member.
    """

    def private(theta: Theta, episodes: Episodes, device: str) -> tuple[float, Theta]:
        total, losses = np.zeros(sum(p.size for p in theta.values())), []
        for b in range(episodes.x.shape[1]):
            value, slopes = gradient(theta, Episodes(*(part[:, b : b + 1] for part in episodes)), device)
            total += clipped(join({name: slopes[name] for name in theta}), bound)
            losses.append(value)
        if multiplier:
            total += multiplier * bound * noise.normal(total.size)
        real = next(iter(theta.values())).dtype
        finite = [one for one in losses if math.isfinite(one)]
        return float(np.mean(finite)) if finite else 0.0, split((total / expected).astype(real), theta)

    return private


def local_update(
    state: MetaState,
    steps: Iterable[Episodes],
    gradient: Gradient,
    *,
    rate: float,
    bound: float,
    device: str = "cpu",
    pace: Mapping[str, float] | None = None,
) -> LocalUpdate:
    """H steps of Adam from θ, one for each of ``steps``; a step whose numbers are not finite is left out.

    Args:
        state: θ as it was published, with the optimizer of the local steps before; not changed.
        steps: what each step learns from.
        gradient: private or not.
        rate: step size.
        bound: S, the norm to which the change of θ is clipped.
        device: where gradients are computed.
        pace: of those arrays of θ whose steps are not of size ``rate``, the factor.
    """
    before, losses = join(state.theta).astype(np.float64), []
    for episodes in steps:
        done = outer_step(gradient, state, episodes, rate=rate, device=device, pace=pace)
        state = done.state
        losses.append(done.loss)
    moved = join(state.theta).astype(np.float64) - before
    loss = float(np.mean(losses)) if losses else 0.0
    return LocalUpdate(state, clipped(moved, bound), float(np.linalg.norm(moved)), loss)


def averaged(deltas: Sequence[Vector], weights: Sequence[float], bound: float) -> Vector:
    """Σ wᵢ clip(Δᵢ, S) / Σ wᵢ, of norm at most ``bound`` whatever was sent.

    Args:
        deltas: of the members [M], each [P].
        weights: ≥ 0 and finite, not all of them 0.
        bound: S; a member may not have clipped.

    >>> averaged([np.array([1.0]), np.array([-100.0])], [3.0, 1.0], bound=2.0).tolist()
    [0.25]
    """
    total = np.zeros_like(deltas[0], np.float64)
    for delta, weight in zip(deltas, weights, strict=True):
        total += weight * clipped(delta, bound)
    return total / sum(weights)


def nesterov_step(state: MetaState, delta: Vector, *, rate: float, momentum: float) -> MetaState:
    """One outer step: m ← μ m + Δ, θ ← θ + η (Δ + μ m).

    With η = 1 and μ = 0 it is FedAvg. The momentum is kept where Adam keeps its first moment; the second is not used.

    Args:
        state: θ and m; not changed.
        delta: Δ, the mean of what members found [P].
        rate: η.
        momentum: μ in [0, 1).

    Source:
        Douillard et al. (2023), arXiv:2311.08105, Algorithm 1, line 14: η = 0.7, μ = 0.9.
    """
    velocity = momentum * state.first.astype(np.float64) + delta
    moved = join(state.theta).astype(np.float64) + rate * (delta + momentum * velocity)
    real = state.first.dtype
    theta = split(moved.astype(join(state.theta).dtype), state.theta)
    return MetaState(theta, velocity.astype(real), np.zeros_like(state.second), state.updates + 1)
