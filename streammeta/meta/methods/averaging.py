"""Averages: over methods, over meta-updates, over bags of tasks. Cheap, and nearly always better than each part."""

from collections.abc import Sequence
from typing import Literal

import torch

from streammeta.errors import ConfigError
from streammeta.meta.base import Kind
from streammeta.meta.learner import (
    Examples,
    Learner,
    OuterState,
    Phi,
    Predictive,
    TaskBatch,
    Theta,
    named,
    negative_log_likelihood,
    part,
)

__all__ = ["averaged", "mixture"]


def mixture(members: Sequence[Learner], *, kind: Kind, weights: Literal["uniform", "bayesian"] = "uniform") -> Learner:
    """M learners as one: the mean of their answers, each trained by its own update on its own bag of tasks.

        p(y|x) = Σ_m w_m p_m(y|x)        uniform: w_m = 1/M
        bayesian: w_m ∝ Π over calls of ``adapt`` of p_m(examples | what it knew before them)

    Adapting event by event, the Bayesian weights are exact; a whole support set at once is judged by the prior.

    Args:
        members: of any make, for the same outputs. Member m learns from tasks m, m + M, m + 2M, … of a batch.
        kind: of prediction. Classes are mixed as probabilities, a regression by its mean and variance.
        weights: of the mean.

    Raises:
        ConfigError: a setting is out of range.

    Sources:
        Breiman (1996), Bagging predictors; Hoeting, Madigan, Raftery & Volinsky (1999), Bayesian model averaging.
    """
    if not members:
        raise ConfigError("mixture: got no members; wanted one or more learners")
    size = len(members)
    numbered = list(enumerate(members))

    def init(generator: torch.Generator) -> Theta:
        return {name: p for m, learner in numbered for name, p in named(f"{m}", learner.init(generator)).items()}

    def start(theta: Theta, tasks: int) -> Phi:
        parts = {n: p for m, each in numbered for n, p in named(f"{m}", each.start(part(theta, f"{m}"), tasks)).items()}
        return parts | {"evidence": next(iter(theta.values())).new_zeros(tasks, size)}

    def answers(theta: Theta, phi: Phi, x: torch.Tensor) -> list[Predictive]:
        return [each.predict(part(theta, f"{m}"), part(phi, f"{m}"), x) for m, each in numbered]

    def predict(theta: Theta, phi: Phi, x: torch.Tensor) -> Predictive:
        log_weights = phi["evidence"].log_softmax(-1)
        if weights == "uniform":
            log_weights = torch.full_like(log_weights, 1 / size).log()
        mix = _mixed_classes if kind == "classification" else _mixed_regression
        return mix(answers(theta, phi, x), log_weights)

    def adapt(theta: Theta, phi: Phi, support: Examples) -> Phi:
        likelihoods = [-negative_log_likelihood(each, support.y) for each in answers(theta, phi, support.x)]
        gained = (torch.stack(likelihoods, -1) * support.mask.unsqueeze(-1)).sum(1)  # [T, M]
        found = {"evidence": phi["evidence"] + gained}
        for m, each in numbered:
            found |= named(f"{m}", each.adapt(part(theta, f"{m}"), part(phi, f"{m}"), support))
        return found

    def bag(tasks: TaskBatch, m: int) -> TaskBatch:
        if tasks.query.x.shape[0] < size:
            return tasks
        return TaskBatch(*(Examples(*(tensor[m::size] for tensor in half)) for half in tasks))

    def loss(theta: Theta, tasks: TaskBatch) -> torch.Tensor:
        return torch.stack([each.loss(part(theta, f"{m}"), bag(tasks, m)) for m, each in numbered]).mean()

    def begin(theta: Theta) -> OuterState:
        return _gathered([each.begin(part(theta, f"{m}")) for m, each in numbered])

    def update(state: OuterState, tasks: TaskBatch) -> OuterState:
        return _gathered([each.update(_own(state, m), bag(tasks, m)) for m, each in numbered])

    return Learner(init, start, predict, adapt, loss, begin, update)


def averaged(base: Learner, *, decay: float | None = None) -> Learner:
    """A learner that trains on as before and serves the mean of its θ over the meta-updates (`learner.served`).

        SWA (decay None): θ̄ = mean of all θ        EMA: θ̄ ← decay · θ̄ + (1 − decay) · θ

    Args:
        base: the learner.
        decay: of the moving average, in (0, 1).

    Raises:
        ConfigError: a setting is out of range.

    Sources:
        Polyak & Juditsky (1992); Izmailov et al. (2018), arXiv:1803.05407 (SWA).
    """
    if decay is not None and not 0 < decay < 1:
        raise ConfigError(f"averaged: got {decay=}; wanted 0 < decay < 1, or None for the mean of all")

    def begin(theta: Theta) -> OuterState:
        state = base.begin(theta)
        return state._replace(memory=state.memory | named("average", theta))

    def update(state: OuterState, tasks: TaskBatch) -> OuterState:
        average = part(state.memory, "average")
        memory = {name: m for name, m in state.memory.items() if not name.startswith("average.")}
        after = base.update(state._replace(memory=memory), tasks)
        share = 1 / after.updates if decay is None else 1 - decay
        mean = {name: p + share * (after.theta[name] - p) for name, p in average.items()}
        return after._replace(memory=after.memory | named("average", mean))

    return base._replace(begin=begin, update=update)


def _mixed_classes(answers: Sequence[Predictive], log_weights: torch.Tensor) -> Predictive:
    """The mixture's log-probabilities; log_weights [T, M]."""
    each = torch.stack([answer.output.log_softmax(-1) for answer in answers], -1)  # [T, N, C, M]
    return Predictive((each + log_weights[:, None, None]).logsumexp(-1))


def _mixed_regression(answers: Sequence[Predictive], log_weights: torch.Tensor) -> Predictive:
    """The mixture's mean, and its variance where every member has one."""
    weights = log_weights.exp()[:, None, None]
    means = torch.stack([answer.output for answer in answers], -1)  # [T, N, C, M]
    mean = (means * weights).sum(-1)
    variances = [answer.variance for answer in answers if answer.variance is not None]
    if len(variances) < len(answers):
        return Predictive(mean)
    apart = (means - mean.unsqueeze(-1)).square()
    return Predictive(mean, ((torch.stack(variances, -1) + apart) * weights).sum(-1))


def _own(state: OuterState, m: int) -> OuterState:
    parts = (part(state.theta, f"{m}"), part(state.memory, f"{m}"), part(state.anchor, f"{m}"))
    return OuterState(*parts, state.updates, state.refused, state.loss)


def _gathered(states: Sequence[OuterState]) -> OuterState:
    def together(parts: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        return {name: p for m, own in enumerate(parts) for name, p in named(f"{m}", own).items()}

    theta = together([state.theta for state in states])
    memory, anchor = together([state.memory for state in states]), together([state.anchor for state in states])
    loss = torch.stack([state.loss for state in states]).mean()
    refused = torch.stack([state.refused for state in states]).amax()  # updates that at least one member refused
    return OuterState(theta, memory, anchor, states[0].updates, refused, loss)
