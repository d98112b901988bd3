"""Decisions instead of labels: choose an action, learn from its late reward, and judge policies on logged decisions.

`MetaDecider` chooses and learns; `exploration` turns scores into propensities; `evaluation` estimates from a log what
another policy would have earned.
"""

from streammeta.decisions.decider import Decision, MetaDecider
from streammeta.decisions.evaluation import (
    Estimate,
    LoggedDecisions,
    doubly_robust,
    inverse_propensity,
    self_normalized,
)
from streammeta.decisions.exploration import (
    Exploration,
    best_only,
    epsilon_greedy,
    inverse_gap_weighting,
    probability_of_best,
    upper_confidence,
)

__all__ = [
    "Decision",
    "Estimate",
    "Exploration",
    "LoggedDecisions",
    "MetaDecider",
    "best_only",
    "doubly_robust",
    "epsilon_greedy",
    "inverse_gap_weighting",
    "inverse_propensity",
    "probability_of_best",
    "self_normalized",
    "upper_confidence",
]
