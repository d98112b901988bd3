"""From scores to propensities: how likely each action is to be chosen. Pure functions of arrays over actions.

All of them give the exact probability with which each action is drawn, Thompson sampling too, because off-policy
evaluation divides by it: a propensity that was only estimated biases every later conclusion. Arrays are [..., K]: the
propensities of one decision have the same bits alone and among others.
"""

import hashlib
import math
from collections.abc import Hashable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from streammeta.decisions.scoring import Scores
from streammeta.engine.settings import DecideSettings, Exploration
from streammeta.errors import ConfigError

__all__ = [
    "Doubles",
    "Exploration",
    "best_only",
    "drawn",
    "epsilon_greedy",
    "explore",
    "inverse_gap_weighting",
    "plausible_gap_weighting",
    "probability_of_best",
    "stable_uniform",
    "upper_confidence",
]

Doubles: TypeAlias = npt.NDArray[np.float64]

_NODES = 256  # of the quadrature in `probability_of_best`
_REACH = 8.0  # standard deviations around the means that it covers; beyond them lies less than 1e-15
_LEAST_DEVIATION = 1e-9  # of the largest one and of the means' range: an action that is known for certain
_LEAST_DOUBT = 1e-300  # of a mean that is known for certain
_LEAST_GAIN = 1e-3  # deviations that can be gained, at least
_UNIT = 2.0**-53


def explore(scores: Scores, how: DecideSettings) -> Doubles:
    """Propensities [N, K] of N decisions, as the settings say.

    Where actions are compared for what trying them costs, each counts as no worse than the floor. What a head expects
    of an action that was given up is an extrapolation, which may lie far below all rewards that there are; then it
    would never be tried again, however little the others earn. And trying may cost a share of what could be gained by
    it, at most of a deviation: where the best action earns nearly all that there is, there is nothing to find.
    """
    means, doubts = scores.means, scores.doubts
    floored = np.maximum(means, scores.floors[:, None])
    match how.exploration:
        case "inverse_gap":
            gain = np.clip(scores.ceilings - floored.max(-1), _LEAST_GAIN * scores.spreads, scores.spreads)
            return plausible_gap_weighting(floored, doubts, how.width, how.cost * gain)
        case "thompson":
            return np.stack([probability_of_best(*one) for one in zip(floored, doubts, strict=True)])
        case "upper_confidence":
            return upper_confidence(means, doubts, how.width)
        case "epsilon_greedy":
            return epsilon_greedy(means, how.epsilon)
        case _:
            return best_only(means)


def best_only(scores: Doubles) -> Doubles:
    """Probability 1 for the best score; the best of equal scores share it [..., K].

    So nothing depends on the order in which actions are named: before any reward all scores are equal, and while all
    rewards are the same they stay so. The first of them alone would be taken as long as that lasts, which may be for
    ever.

    >>> best_only(np.array([[1.0, 3.0, 2.0], [2.0, 2.0, 1.0]])).tolist()
    [[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]]
    """
    is_best = scores == scores.max(-1, keepdims=True)
    chosen: Doubles = is_best / is_best.sum(-1, keepdims=True)
    return chosen


def epsilon_greedy(scores: Doubles, epsilon: float) -> Doubles:
    """The best score with probability 1 − ε + ε/K, each other action with ε/K [..., K]; equals as in ``best_only``.

    Raises:
        ConfigError: ε is not in [0, 1].
    """
    if not 0 <= epsilon <= 1:
        raise ConfigError(f"epsilon_greedy: got epsilon={epsilon}; wanted a share from 0 to 1")
    found: Doubles = epsilon / scores.shape[-1] + (1 - epsilon) * best_only(scores)
    return found


def inverse_gap_weighting(scores: Doubles, gamma: float) -> Doubles:
    """The further an action's score is from the best, the more seldom it is tried.

        p(a) = 1 / (K + γ (max score − score(a)))   for each a that is not the best;   p(best) = 1 − their sum

    Args:
        scores: expected reward of each action [..., K], in units for which γ is meant.
        gamma: ≥ 0; 0 chooses uniformly, ∞ the best.

    Returns:
        Propensities [..., K].

    Raises:
        ConfigError: γ is negative or NaN.

    Source:
        Foster & Rakhlin (2020), Beyond UCB: optimal and efficient contextual bandits with regression oracles
        (SquareCB), arXiv:2002.04926, Algorithm 1; after Abe & Long (1999).
    """
    if not gamma >= 0:
        raise ConfigError(f"inverse_gap_weighting: got gamma={gamma}; wanted a number that is not negative")
    gaps = scores.max(-1, keepdims=True) - scores
    return _rest_to_best(scores, 1.0 / (scores.shape[-1] + gamma * gaps))


def plausible_gap_weighting(means: Doubles, doubts: Doubles, width: float, most: float | Doubles = math.inf) -> Doubles:
    """Inverse-gap weighting among the actions that may be the best, with the γ that suits how well they are known.

        A    = {a: max μ − μ(a) ≤ width · √(v(a) + v(best))},     v̄ = mean of v over A
        p(a) = 1 / (|A| + γ (max μ − μ(a)))  in A but for the best,      γ = max(2 √(|A| / v̄), (|A| − 1) / most)

    An action outside A has propensity 0: trying what is known to be worse earns nothing and teaches what is known. The
    first γ makes the bound |A| / γ + γ v̄ / 4 on the regret of one decision least: it has no schedule to tune, is of no
    unit, and is large for a new task whose prior is sharp. The second one bounds what is given away knowingly, as
    Σ p(a) (max μ − μ(a)) ≤ (|A| − 1) / γ: where actions look alike, trying is free, and where they do not, it is rare.

    Args:
        means: expected reward of each action [..., K].
        doubts: variances of those expectations [..., K], ≥ 0.
        width: ≥ 0; 0 chooses the best.
        most: [...] of its expected reward that a decision may give away, > 0; ∞: whatever the first γ says.

    Returns:
        Propensities [..., K].

    Sources:
        The first bound: Foster & Rakhlin (2020), arXiv:2002.04926, Lemma 3. The set A: Foster, Rakhlin, Simchi-Levi &
        Xu (2020), Instance-dependent complexity of contextual bandits and reinforcement learning (AdaCB),
        arXiv:2010.03104. A bound on what exploring costs: Wu, Shariff, Lattimore & Szepesvári (2016), Conservative
        bandits, arXiv:1602.04282. That v is a Bayesian posterior's, and the bound one decision's, is our choice.
    """
    best = means.argmax(-1)[..., None]
    gaps = means.max(-1, keepdims=True) - means
    errors = np.sqrt(doubts + np.take_along_axis(doubts, best, -1))
    plausible = gaps <= width * errors
    np.put_along_axis(plausible, best, True, -1)
    count = plausible.sum(-1, keepdims=True).astype(np.float64)
    doubt = np.maximum(_sum(np.where(plausible, doubts, 0.0)) / count, _LEAST_DOUBT)
    gamma = np.maximum(2.0 * np.sqrt(count / doubt), (count - 1.0) / np.asarray(most)[..., None])
    return _rest_to_best(means, np.where(plausible, 1.0 / (count + gamma * gaps), 0.0))


def _rest_to_best(scores: Doubles, propensities: Doubles) -> Doubles:
    """What the others [..., K] leave is the best one's."""
    best = scores.argmax(-1)[..., None]
    np.put_along_axis(propensities, best, 0.0, -1)
    np.put_along_axis(propensities, best, 1.0 - _sum(propensities), -1)
    return propensities


def _sum(numbers: Doubles) -> Doubles:
    """Sums over the actions [..., 1], one after the other: the same bits for any number of decisions."""
    total: Doubles = numbers.cumsum(-1)[..., -1:]
    return total


def upper_confidence(means: Doubles, variances: Doubles, width: float) -> Doubles:
    """Probability 1 for the largest mean + ``width`` standard deviations: optimism [..., K]; equals share it.

    Source:
        Li, Chu, Langford & Schapire (2010), A contextual-bandit approach to personalized news article recommendation
        (LinUCB), arXiv:1003.0146, Algorithm 1.
    """
    return best_only(means + width * np.sqrt(variances))


def probability_of_best(means: Doubles, variances: Doubles) -> Doubles:
    """The probability that each of K independent Gaussian rewards is the largest: Thompson sampling, drawn exactly.

        p(a) = ∫ N(t; μ(a), σ²(a)) ∏_{b ≠ a} Φ((t − μ(b)) / σ(b)) dt

    by the midpoint rule in the quantiles of each action. An action of no variance counts as one of a tiny one.

    Args:
        means: [K]
        variances: [K], ≥ 0

    Returns:
        Propensities [K], which add up to 1.

    Source:
        Thompson (1933), On the likelihood that one unknown probability exceeds another, Biometrika 25.
    """
    spread = float(means.max() - means.min())
    deviations = np.sqrt(variances)
    least = _LEAST_DEVIATION * max(float(deviations.max()), spread)
    if least == 0:
        return np.full(means.size, 1.0 / means.size)
    deviations = np.maximum(deviations, least)
    steps = (np.arange(_NODES) + 0.5) / _NODES * 2 * _REACH - _REACH
    weights = np.exp(-0.5 * steps**2)
    weights /= weights.sum()
    at = means[:, None] + deviations[:, None] * steps  # [K, nodes], where each action's own density is
    below = ndtr((at[:, :, None] - means) / deviations)  # [K, nodes, K]: the others are smaller
    below[np.arange(means.size), :, np.arange(means.size)] = 1.0
    found: Doubles = below.prod(2) @ weights
    found /= found.sum()
    return found


def stable_uniform(seed: int, *key: Hashable) -> float:
    """A number in [0, 1) that depends on seed and key alone: the same on every machine and after every crash.

    Args:
        seed: of the run.
        key: what the choice is for, as values whose ``repr`` is stable: topic, partition and offset of a record.
    """
    digest = hashlib.blake2b(repr((seed, *key)).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) * _UNIT


def drawn(propensities: Doubles, uniform: Doubles) -> npt.NDArray[np.int64]:
    """The actions [...] that numbers in [0, 1) [...] fall on; never one of probability 0.

    >>> drawn(np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]), np.array([0.7, 0.0])).tolist()
    [1, 1]
    """
    cumulative = propensities.cumsum(-1)
    index = (cumulative <= uniform[..., None] * cumulative[..., -1:]).sum(-1)
    last = propensities.shape[-1] - 1 - (propensities[..., ::-1] > 0).argmax(-1)
    found: npt.NDArray[np.int64] = np.minimum(index, last)
    return found
