"""Decisions instead of labels: choose an action, learn from its late reward, and judge policies on logged decisions.

`MetaDecider` chooses and learns; `engine` does so for the service and a replay; `exploration` turns scores into
propensities; `evaluation` estimates from a log what another policy would have earned.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streammeta.decisions.decider import Decision, MetaDecider
    from streammeta.decisions.engine import DecisionEngine
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
        plausible_gap_weighting,
        probability_of_best,
        upper_confidence,
    )
    from streammeta.decisions.outcome import DecisionOutcome

__all__ = [
    "Decision",
    "DecisionEngine",
    "DecisionOutcome",
    "Estimate",
    "Exploration",
    "LoggedDecisions",
    "MetaDecider",
    "best_only",
    "doubly_robust",
    "epsilon_greedy",
    "inverse_gap_weighting",
    "inverse_propensity",
    "plausible_gap_weighting",
    "probability_of_best",
    "self_normalized",
    "upper_confidence",
]

_MODULES = {
    "Decision": "decider",
    "DecisionEngine": "engine",
    "DecisionOutcome": "outcome",
    "Estimate": "evaluation",
    "LoggedDecisions": "evaluation",
    "MetaDecider": "decider",
    "doubly_robust": "evaluation",
    "inverse_propensity": "evaluation",
    "self_normalized": "evaluation",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 whatever is asked for
    """Fetch what is offered here when it is first asked for: a service needs no statistics of evaluation."""
    if name not in __all__:
        raise AttributeError(f"{__name__} has no {name!r}")
    return getattr(import_module(f"streammeta.decisions.{_MODULES.get(name, 'exploration')}"), name)
