"""Search for the inner rate, the inner steps and λ on validation tasks, by optuna (`streammeta[search]`)."""

from collections.abc import Callable
from typing import NamedTuple

import optuna
import torch

from streammeta.episode.family import Family
from streammeta.errors import ConfigError
from streammeta.meta.catalogue import Tuning, build
from streammeta.meta.learner import served
from streammeta.meta.objective import Outer
from streammeta.meta.optimizer import adam
from streammeta.meta.settings import Penalty
from streammeta.offline.evaluation import evaluate
from streammeta.offline.training import Schedule, train

__all__ = ["Found", "Space", "search"]

_VALIDATION_TASKS = 100


class Space(NamedTuple):
    """Where to look."""

    inner_rate: tuple[float, float] = (1e-3, 1.0)  # on a logarithmic scale
    inner_steps: tuple[int, int] = (1, 5)
    outer_rate: tuple[float, float] = (3e-4, 1e-2)  # on a logarithmic scale
    penalty: Penalty = "l2"
    weight: tuple[float, float] = (1e-7, 1e-3)  # λ, on a logarithmic scale


class Found(NamedTuple):
    """The best settings, and the loss (NLL after adapting) that validation tasks had with them."""

    tuning: Tuning
    settings: dict[str, float]
    loss: float
    trials: int


def search(
    method: str,
    family: Family,
    schedule: Schedule,
    *,
    trials: int = 20,
    space: Space | None = None,
    watch: Callable[[int, float], None] | None = None,
) -> Found:
    """Train with each of some settings for ``schedule``, judge on validation tasks, keep the best.

    The validation tasks are drawn from the family's ``test`` with a seed of their own: give a family whose ``test`` are
    validation tasks, where the final figure needs others. A trial whose loss is not finite has failed.

    Args:
        method: a name of the catalogue.
        family: where tasks come from.
        schedule: of each trial; its seed also seeds the sampler.
        trials: how many settings to try.
        space: where to look.
        watch: called with each trial's number and loss.
    """
    if trials < 1:
        raise ConfigError(f"search: got {trials=}; wanted 1 or more")
    where = space or Space()
    validation = family.test(
        torch.Generator().manual_seed(schedule.seed + 1), _VALIDATION_TASKS, schedule.support, schedule.query
    )

    def objective(trial: optuna.Trial) -> float:
        learner = build(method, family.problem, tuned(_suggested(trial, where), where))
        theta = served(train(learner, family, schedule))
        loss = evaluate(learner, theta, validation).after["nll"].mean
        if watch is not None:
            watch(trial.number, loss)
        return loss

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=schedule.seed))
    study.optimize(objective, n_trials=trials)  # optuna sets a trial that returns NaN aside as failed
    if not any(trial.state == optuna.trial.TrialState.COMPLETE for trial in study.trials):
        raise ConfigError(f"search: none of {trials} trials of {method!r} had a finite loss; look at smaller rates")
    return Found(tuned(study.best_params, where), dict(study.best_params), study.best_value, trials)


def tuned(settings: dict[str, float], space: Space) -> Tuning:
    """The settings as the catalogue takes them."""
    outer = Outer(adam(settings["outer_rate"]), penalty=space.penalty, weight=settings["weight"])
    return Tuning(settings["inner_rate"], int(settings["inner_steps"]), outer)


def _suggested(trial: optuna.Trial, space: Space) -> dict[str, float]:
    return {
        "inner_rate": trial.suggest_float("inner_rate", *space.inner_rate, log=True),
        "inner_steps": trial.suggest_int("inner_steps", *space.inner_steps),
        "outer_rate": trial.suggest_float("outer_rate", *space.outer_rate, log=True),
        "weight": trial.suggest_float("weight", *space.weight, log=True),
    }
