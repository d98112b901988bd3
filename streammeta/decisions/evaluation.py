"""What another policy would have earned, estimated from decisions that were logged with their propensities.

    inverse propensity:  mean of w r                            w = π(a | x) / p(a | x)
    self-normalized:     Σ w r / Σ w
    doubly robust:       mean of Σ_b π(b | x) q(x, b) + w (r − q(x, a))

Each comes with a 95 % interval and the effective sample size (Σ w)² / Σ w². Where that is too small the estimate says
so, and nothing is to be concluded from it: the log's policy hardly ever did what the new one would do.

Sources: Horvitz & Thompson (1952); Swaminathan & Joachims (2015), The self-normalized estimator for counterfactual
learning, NeurIPS; Dudík, Langford & Li (2011), Doubly robust policy evaluation and learning, arXiv:1103.4601;
effective sample size: Kish (1965), Survey sampling.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from streammeta.decisions.exploration import Doubles
from streammeta.errors import ConfigError

__all__ = ["Estimate", "LoggedDecisions", "doubly_robust", "inverse_propensity", "self_normalized"]

_ALPHA = 0.05
_LEAST_EFFECTIVE = 100.0  # events; below it an interval of normal theory is not to be trusted
_ROUNDING = 1e-6  # by which probabilities may miss 1


@dataclass(frozen=True, slots=True)
class LoggedDecisions:
    """Decisions as they were logged, and what the policy in question would do in their place.

    Raises:
        ConfigError: lengths differ, a propensity is not in (0, 1], a probability not in [0, 1], or a number not finite.
    """

    actions: npt.NDArray[np.int64]  # [N] that were taken, 0 to K − 1
    rewards: Doubles  # [N]
    propensities: Doubles  # [N] of the actions that were taken, under the policy that took them
    policy: Doubles  # [N, K] probabilities of all actions under the policy in question

    def __post_init__(self) -> None:
        n, lengths = len(self.actions), {len(self.rewards), len(self.propensities), len(self.policy)}
        if lengths != {n} or self.policy.ndim != 2 or n == 0:
            raise ConfigError(
                f"off-policy evaluation: got {n} actions, {len(self.rewards)} rewards, {len(self.propensities)} "
                f"propensities and probabilities {self.policy.shape}; wanted N, N, N and [N, K] with N ≥ 1"
            )
        wrong = np.flatnonzero(~((self.propensities > 0) & (self.propensities <= 1)))
        if wrong.size:
            raise ConfigError(
                f"off-policy evaluation: decision {wrong[0]} has propensity {self.propensities[wrong[0]]}; wanted more "
                "than 0 and at most 1: log the probability with which the action was drawn"
            )
        if not ((self.policy >= 0) & (self.policy <= 1)).all() or np.abs(self.policy.sum(1) - 1).max() > _ROUNDING:
            raise ConfigError("off-policy evaluation: a row of the policy's probabilities does not add up to 1")
        if self.actions.min() < 0 or self.actions.max() >= self.policy.shape[1]:
            raise ConfigError(f"off-policy evaluation: an action is not one of 0 to {self.policy.shape[1] - 1}")
        if not np.isfinite(self.rewards).all():
            raise ConfigError("off-policy evaluation: a reward is not a finite number; leave its decision out")

    @property
    def weights(self) -> Doubles:
        """w = π(a | x) / p(a | x) of each decision [N]."""
        found: Doubles = self.policy[np.arange(len(self.actions)), self.actions] / self.propensities
        return found


@dataclass(frozen=True, slots=True)
class Estimate:
    """The mean reward that a policy would have had."""

    value: float
    low: float  # 95 % interval
    high: float
    events: int
    effective_events: float  # as many events of the policy itself would have said as much

    @property
    def conclusive(self) -> bool:
        """Whether enough of the log is about what the policy would do; where not, conclude nothing."""
        return self.effective_events >= _LEAST_EFFECTIVE

    def __str__(self) -> str:
        """In a line, for people."""
        shown = f"{self.value:.4g} (95 % interval {self.low:.4g} to {self.high:.4g}, {self.events:,} decisions)"
        if self.conclusive:
            return shown
        return (
            f"inconclusive: only {self.effective_events:.0f} effective decisions of {self.events:,}, wanted at least "
            f"{_LEAST_EFFECTIVE:.0f}; log more, or evaluate a policy nearer to the one that decided"
        )


def inverse_propensity(log: LoggedDecisions) -> Estimate:
    """Unbiased, and of a variance that grows with the largest weight."""
    return _estimate(log.weights * log.rewards, log)


def self_normalized(log: LoggedDecisions) -> Estimate:
    """Weights divided by their mean: a little biased, far steadier, and never out of the rewards' range."""
    weights = log.weights
    if weights.sum() == 0:
        return Estimate(float("nan"), -np.inf, np.inf, len(log.actions), 0.0)
    value = float((weights * log.rewards).sum() / weights.sum())
    around = weights * (log.rewards - value) / weights.mean()  # linearized: the delta method
    return _estimate(value + around, log)


def doubly_robust(log: LoggedDecisions, expected: Doubles) -> Estimate:
    """Unbiased where the propensities or the model are right, and steadier the better the model is.

    Args:
        log: the decisions.
        expected: q(x, a) [N, K], the model's expected reward of each action, made without these rewards.

    Raises:
        ConfigError: ``expected`` has another shape than the policy's probabilities, or is not finite.
    """
    if expected.shape != log.policy.shape or not np.isfinite(expected).all():
        raise ConfigError(f"doubly_robust: expected rewards {expected.shape}; wanted finite ones {log.policy.shape}")
    of_taken = expected[np.arange(len(log.actions)), log.actions]
    return _estimate((log.policy * expected).sum(1) + log.weights * (log.rewards - of_taken), log)


def _estimate(terms: Doubles, log: LoggedDecisions) -> Estimate:
    """Mean and interval of N terms."""
    n, weights, value = len(terms), log.weights, float(terms.mean())
    largest = weights.max(initial=0.0)
    shares = weights / largest if largest > 0 else weights  # their squares are numbers, however small a propensity was
    effective = float(shares.sum() ** 2 / (shares**2).sum()) if largest > 0 else 0.0
    if n < 2:
        return Estimate(value, -np.inf, np.inf, n, effective)
    widest = np.abs(terms - value).max()
    spread = widest * ((terms - value) / widest).std(ddof=1) if widest > 0 else 0.0  # likewise
    half = float(stats.t.ppf(1 - _ALPHA / 2, n - 1) * spread / np.sqrt(n))
    return Estimate(value, value - half, value + half, n, effective)
