"""Reptile against numbers made by hand."""

import pytest
import torch

from streammeta.meta.learner import TaskBatch, examples, joined, squared_error
from streammeta.meta.methods import reptile
from streammeta.meta.optimizer import linear, sgd
from streammeta.model import Model

LINE = Model(lambda _: {"w": torch.zeros(1, 1)}, lambda w, x: x @ w["w"], 1, ("w",))  # y = w x


def _tasks(*slopes: float) -> TaskBatch:
    x = torch.ones(len(slopes), 1, 1)
    y = torch.tensor(slopes).view(-1, 1, 1)
    return TaskBatch(examples(x, y), examples(x, y))


def test_full_meta_rate_lands_on_the_mean_of_the_adapted_weights():
    """Fixes the scale of the pull: half of it would still pass a 'the loss goes down' test."""
    learner = reptile(LINE, squared_error, inner=sgd(0.25), inner_steps=2, meta_rate=1.0)
    before = learner.begin(learner.init(torch.Generator()))
    tasks = _tasks(4.0, 8.0)

    after = learner.update(before, tasks)

    # w ← w − 0.25 · 2 (w − a) = (w + a)/2: after two steps ¾ a
    assert after.theta["w"].item() == pytest.approx((3.0 + 6.0) / 2)
    phi = learner.adapt(before.theta, learner.start(before.theta, 2), joined(*tasks))
    torch.testing.assert_close(after.theta["w"], phi["w"].mean(0))
    assert before.theta["w"].item() == 0.0


def test_meta_rate_follows_its_schedule():
    """Reptile's published numbers need the rate to fall to 0; at the end nothing may move."""
    learner = reptile(LINE, squared_error, inner=sgd(0.25), inner_steps=1, meta_rate=linear(1.0, 0.0, 2))
    state = learner.begin(learner.init(torch.Generator()))
    path = []
    for _ in range(3):
        state = learner.update(state, _tasks(4.0))
        path.append(state.theta["w"].item())

    assert path == pytest.approx([2.0, 2.5, 2.5])  # half the way to 4; half of half of the rest; nothing
