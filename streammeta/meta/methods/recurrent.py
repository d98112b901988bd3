"""A recurrent meta-learner: reading examples is learning, and the hidden state is what was learned."""

from typing import Literal

import torch

from streammeta.errors import ConfigError
from streammeta.meta.learner import (
    Examples,
    Learner,
    Phi,
    Predictive,
    TaskBatch,
    TaskLoss,
    Theta,
    joined,
    named,
    part,
    targets,
    task_mean,
)
from streammeta.meta.objective import Outer, begin, descend
from streammeta.model import Model

__all__ = ["recurrent"]


def recurrent(
    encoder: Model,
    task_loss: TaskLoss,
    *,
    outputs: int,
    cell: Literal["lstm", "gru"] = "lstm",
    width: int = 64,
    outer: Outer | None = None,
) -> Learner:
    """A cell fed (f(x), previous y); its answer is read from the hidden state.

        h_t = cell([f_θ(x_t); y_{t−1}], h_{t−1})        output_t = V h_t + v        φ = (h, c, y)

    The meta-objective is the loss of every answer along support and then query, each given before its label is fed.

    Args:
        encoder: f, from an example to the cell's input.
        task_loss: (outputs, y) -> [T, N].
        outputs: classes (fed one-hot), or targets of a regression.
        cell: "lstm", or "gru".
        width: of the hidden state.
        outer: how θ is learned; by default Adam with 0.001.

    Raises:
        ConfigError: a setting is out of range.

    Sources:
        Hochreiter, Younger & Conwell (2001); Santoro et al. (2016), arXiv:1605.06065 (labels one step late); cells:
        Hochreiter & Schmidhuber (1997), Cho et al. (2014), arXiv:1406.1078.
    """
    if min(outputs, width) < 1:
        raise ConfigError(f"recurrent: got {outputs=}, {width=}; wanted 1 or more")
    outer = outer or Outer()
    run, gates = (_lstm, 4) if cell == "lstm" else (_gru, 3)
    inputs = encoder.outputs + outputs

    def init(generator: torch.Generator) -> Theta:
        def uniform(*shape: int) -> torch.Tensor:
            return torch.empty(shape).uniform_(-(width**-0.5), width**-0.5, generator=generator)

        bias = torch.zeros(gates * width)
        bias[:width] = 1.0  # the first gate keeps: remember by default
        read = {"read.weight": uniform(width, outputs), "read.bias": torch.zeros(outputs)}
        own = {"cell.input": uniform(inputs, gates * width), "cell.hidden": uniform(width, gates * width)}
        return named("encoder", encoder.init(generator)) | own | {"cell.bias": bias} | read

    def start(theta: Theta, tasks: int) -> Phi:
        like = theta["read.bias"]
        zeros = like.new_zeros(tasks, width)
        return {"h": zeros, "c": zeros.clone(), "y": like.new_zeros(tasks, outputs)}

    def inputs_of(theta: Theta, x: torch.Tensor) -> torch.Tensor:
        return encoder.apply(part(theta, "encoder"), x)  # [T, N, F]

    def advance(theta: Theta, phi: Phi, z: torch.Tensor, of: Examples) -> tuple[Phi, torch.Tensor]:
        """φ after the examples, and the outputs [T, N, C] given before each label; z are their inputs."""
        labels, answers = targets(of.y, outputs, z.dtype), []
        for t in range(z.shape[1]):
            h, c = run(theta, torch.cat([z[:, t], phi["y"]], -1), phi["h"], phi["c"])
            answers.append(h)
            there = of.mask[:, t].unsqueeze(-1) > 0
            fresh = {"h": h, "c": c, "y": labels[:, t]}
            phi = {name: torch.where(there, fresh[name], phi[name]) for name in phi}
        return phi, torch.stack(answers, 1) @ theta["read.weight"] + theta["read.bias"]

    def adapt(theta: Theta, phi: Phi, support: Examples) -> Phi:
        return advance(theta, phi, inputs_of(theta, support.x), support)[0]

    def predict(theta: Theta, phi: Phi, x: torch.Tensor) -> Predictive:
        z = inputs_of(theta, x)
        n = z.shape[1]
        every = {name: p.unsqueeze(1).expand(-1, n, -1) for name, p in phi.items()}
        h, _ = run(theta, torch.cat([z, every["y"]], -1), every["h"], every["c"])
        return Predictive(h @ theta["read.weight"] + theta["read.bias"])

    def loss(theta: Theta, tasks: TaskBatch) -> torch.Tensor:
        of = joined(tasks.support, tasks.query)
        _, answers = advance(theta, start(theta, of.x.shape[0]), inputs_of(theta, of.x), of)
        return task_mean(task_loss(answers, of.y), of.mask).mean()

    return Learner(init, start, predict, adapt, loss, begin(outer), descend(loss, outer))


def _lstm(theta: Theta, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    gates = x @ theta["cell.input"] + h @ theta["cell.hidden"] + theta["cell.bias"]
    keep, write, show, new = gates.chunk(4, -1)
    c = keep.sigmoid() * c + write.sigmoid() * new.tanh()
    return show.sigmoid() * c.tanh(), c


def _gru(theta: Theta, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    keep, reset, new = (x @ theta["cell.input"] + theta["cell.bias"]).chunk(3, -1)
    old_keep, old_reset, old_new = (h @ theta["cell.hidden"]).chunk(3, -1)
    keep = (keep + old_keep).sigmoid()
    new = (new + (reset + old_reset).sigmoid() * old_new).tanh()
    return keep * h + (1 - keep) * new, c
