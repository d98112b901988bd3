"""The outer loop: J(θ) = mean task loss + λ R(θ), and one step down its gradient.

R is the L1 norm, the squared L2 norm, or the squared distance to an earlier θ (the anchor, renewed every few
updates), which keeps θ near what served before. A step whose loss or gradient is not finite changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

import torch

from streammeta.errors import ConfigError
from streammeta.meta.learner import OuterState, Theta
from streammeta.meta.optimizer import Optimizer, adam
from streammeta.meta.settings import Penalty

__all__ = ["Loss", "Outer", "Update", "begin", "descend", "descend_in_stages", "penalized"]

Data = TypeVar("Data")  # what the loss is of: episodes as a `TaskBatch`, or trials of an agent
Loss: TypeAlias = Callable[[Theta, Data], torch.Tensor]
Update: TypeAlias = Callable[[OuterState, Data], OuterState]


@dataclass(frozen=True, slots=True)
class Outer:
    """How θ is learned from the meta-objective."""

    optimizer: Optimizer = field(default_factory=lambda: adam(1e-3))
    penalty: Penalty = "none"
    weight: float = 0.0  # λ ≥ 0
    anchor_every: int = 100  # updates between two anchors of the distance penalty
    largest_norm: float = 10.0  # longer gradients are cut to this length

    def __post_init__(self) -> None:
        if self.weight < 0 or self.anchor_every < 1 or not self.largest_norm > 0:
            found = f"weight={self.weight}, anchor_every={self.anchor_every}, largest_norm={self.largest_norm}"
            raise ConfigError(f"outer loop: got {found}; wanted weight >= 0, anchor_every >= 1, largest_norm > 0")


def penalized(theta: Theta, anchor: Theta, penalty: Penalty) -> torch.Tensor:
    """R(θ), a scalar; 0 without a penalty."""
    match penalty:
        case "none":
            return torch.zeros((), device=next(iter(theta.values())).device)
        case "l1":
            return torch.stack([p.abs().sum() for p in theta.values()]).sum()
        case "l2":
            return torch.stack([p.square().sum() for p in theta.values()]).sum()
        case "distance":
            return torch.stack([(p - anchor[name]).square().sum() for name, p in theta.items()]).sum()


def begin(outer: Outer) -> Callable[[Theta], OuterState]:
    """The function that starts the outer loop from some θ."""

    def start(theta: Theta) -> OuterState:
        anchor = theta if outer.penalty == "distance" else {}
        zero = torch.zeros((), device=next(iter(theta.values())).device)
        return OuterState(theta, outer.optimizer.start({"theta": _flat(theta)}), anchor, 0, zero, zero)

    return start


def descend(loss: Loss[Data], outer: Outer) -> Update[Data]:
    """The function that takes one step down the gradient of J, ``loss`` being the mean task loss."""
    return descend_in_stages(lambda _: loss, outer)


def descend_in_stages(loss_at: Callable[[int], Loss[Data]], outer: Outer) -> Update[Data]:
    """The same for a loss that changes as training goes on: ``loss_at`` gets the number of updates made.

    All of θ is one vector meanwhile, so that a step is a dozen operations however many tensors there are.
    """

    def update(state: OuterState, tasks: Data) -> OuterState:
        value, slope = _value_and_slope(loss_at(state.updates), outer, state, tasks)
        with torch.no_grad():
            norm = torch.linalg.vector_norm(slope)
            accepted = torch.isfinite(norm) & torch.isfinite(value)
            safe = torch.where(accepted, slope * (outer.largest_norm / (norm + 1e-12)).clamp(max=1), 0)
            flat = {"theta": _flat(state.theta)}
            stepped, remembered = outer.optimizer.step(flat, {"theta": safe}, state.memory, state.updates)
            vector = torch.where(accepted, stepped["theta"], flat["theta"])
            memory = {name: torch.where(accepted, m, state.memory[name]) for name, m in remembered.items()}
            theta = _like(vector, state.theta)
        renew = outer.penalty == "distance" and (state.updates + 1) % outer.anchor_every == 0
        anchor = theta if renew else state.anchor
        return OuterState(theta, memory, anchor, state.updates + 1, state.refused + ~accepted, value)

    return update


def _value_and_slope(
    loss: Loss[Data], outer: Outer, state: OuterState, tasks: Data
) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.enable_grad():
        theta = {name: p.detach().requires_grad_() for name, p in state.theta.items()}
        value = loss(theta, tasks)
        if outer.penalty != "none":
            value = value + outer.weight * penalized(theta, state.anchor, outer.penalty)
        slopes = torch.autograd.grad(value, list(theta.values()), allow_unused=True, materialize_grads=True)
    return value.detach(), torch.cat([slope.reshape(-1) for slope in slopes])


def _flat(theta: Theta) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in theta.values()])


def _like(vector: torch.Tensor, theta: Theta) -> Theta:
    """The vector cut into the shapes of θ; copies, for the rounding of a product depends on where its memory begins."""
    pieces = torch.split(vector, [p.numel() for p in theta.values()])
    return {name: piece.view(p.shape).clone() for (name, p), piece in zip(theta.items(), pieces, strict=True)}
