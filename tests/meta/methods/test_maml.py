"""MAML against numbers made by hand."""

import pytest
import torch

from streammeta.errors import ConfigError
from streammeta.meta.learner import TaskBatch, examples, squared_error
from streammeta.meta.methods import maml
from streammeta.meta.optimizer import sgd
from streammeta.model import Model

LINE = Model(lambda _: {"w": torch.tensor([[2.0]])}, lambda w, x: x @ w["w"], 1, ("w",))  # y = w x


def _task(*pairs: tuple[float, float]):
    return examples(torch.tensor([[[float(x)] for x, _ in pairs]]), torch.tensor([[[float(y)] for _, y in pairs]]))


def _slope(*, first_order: bool) -> float:
    learner = maml(LINE, squared_error, inner=sgd(0.1), first_order=first_order)
    theta = {"w": torch.tensor([[2.0]], requires_grad=True)}
    loss = learner.loss(theta, TaskBatch(_task((1, 0)), _task((1, 1))))
    return torch.autograd.grad(loss, theta["w"])[0].item()


def test_outer_gradient_goes_through_the_inner_step():
    """φ = w − 0.1 · 2w = 0.8 w = 1.6, L = (φ − 1)²: dL/dw = 2 · 0.6 · 0.8, by the chain rule."""
    assert _slope(first_order=False) == pytest.approx(0.96)


def test_first_order_leaves_out_the_inner_derivative_and_nothing_else():
    """FOMAML's gradient is the query's at φ: 2 · 0.6. A detach too many would give 0."""
    assert _slope(first_order=True) == pytest.approx(1.2)


def test_two_steps_are_two_steps():
    """An off-by-one in the inner loop would still learn."""
    learner = maml(LINE, squared_error, inner=sgd(0.1), inner_steps=2)
    theta = {"w": torch.tensor([[2.0]])}

    phi = learner.adapt(theta, learner.start(theta, 1), _task((1, 0)))

    assert phi["w"].item() == pytest.approx(2 * 0.8**2)


def test_settings_out_of_range_are_refused():
    """Found when the learner is made, not after an hour of training."""
    with pytest.raises(ConfigError, match=r"inner_steps=0; wanted 1 or more"):
        maml(LINE, squared_error, inner_steps=0)
