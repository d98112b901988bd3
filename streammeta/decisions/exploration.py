"""From scores to propensities: how likely each action is to be chosen. Pure functions of arrays over actions.

All of them give the exact probability with which each action is drawn, Thompson sampling too, because off-policy
evaluation divides by it: a propensity that was only estimated biases every later conclusion.
"""

from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from streammeta.errors import ConfigError

__all__ = [
    "Doubles",
    "Exploration",
    "best_only",
    "epsilon_greedy",
    "inverse_gap_weighting",
    "probability_of_best",
    "upper_confidence",
]

Doubles: TypeAlias = npt.NDArray[np.float64]
Exploration: TypeAlias = Literal["inverse_gap", "thompson", "upper_confidence", "epsilon_greedy", "greedy"]

_NODES = 256  # of the quadrature in `probability_of_best`
_REACH = 8.0  # standard deviations around the means that it covers; beyond them lies less than 1e-15
_LEAST_DEVIATION = 1e-9  # of the largest one and of the means' range: an action that is known for certain


def best_only(scores: Doubles) -> Doubles:
    """Probability 1 for the best score, the first of equals [K]."""
    chosen = np.zeros(scores.size)
    chosen[int(np.argmax(scores))] = 1.0
    return chosen


def epsilon_greedy(scores: Doubles, epsilon: float) -> Doubles:
    """The best score with probability 1 − ε + ε/K, each other action with ε/K [K].

    Raises:
        ConfigError: ε is not in [0, 1].
    """
    if not 0 <= epsilon <= 1:
        raise ConfigError(f"epsilon_greedy: got epsilon={epsilon}; wanted a share from 0 to 1")
    return epsilon / scores.size + (1 - epsilon) * best_only(scores)


def inverse_gap_weighting(scores: Doubles, gamma: float) -> Doubles:
    """The further an action's score is from the best, the more seldom it is tried.

        p(a) = 1 / (K + γ (max score − score(a)))   for each a that is not the best;   p(best) = 1 − their sum

    Args:
        scores: expected reward of each action [K], in units for which γ is meant.
        gamma: ≥ 0; 0 chooses uniformly, ∞ the best.

    Returns:
        Propensities [K].

    Raises:
        ConfigError: γ is negative or NaN.

    Source:
        Foster & Rakhlin (2020), Beyond UCB: optimal and efficient contextual bandits with regression oracles
        (SquareCB), arXiv:2002.04926, Algorithm 1; after Abe & Long (1999).
    """
    if not gamma >= 0:
        raise ConfigError(f"inverse_gap_weighting: got gamma={gamma}; wanted a number that is not negative")
    best = int(np.argmax(scores))
    gaps = scores[best] - scores
    propensities: Doubles = 1.0 / (scores.size + gamma * gaps)
    propensities[best] = 0.0
    propensities[best] = 1.0 - propensities.sum()
    return propensities


def upper_confidence(means: Doubles, variances: Doubles, width: float) -> Doubles:
    """Probability 1 for the largest mean + ``width`` standard deviations: optimism [K].

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
