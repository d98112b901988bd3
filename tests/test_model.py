"""Networks: shared or one a task, the same numbers; and no image looks at its neighbours unless asked to."""

import pytest
import torch

from streammeta.errors import ConfigError
from streammeta.meta.learner import TaskBatch, cross_entropy, examples
from streammeta.meta.methods import maml
from streammeta.meta.optimizer import sgd
from streammeta.model import Model, conv4, mlp

MODELS = {
    "mlp": (mlp(4, (5, 5), 3), (4,)),
    "mlp with layer norm": (mlp(4, (5, 5), 3, norm="layer", activation="tanh", activate_output=True), (4,)),
    "conv4": (conv4(3, width=4, side=16), (1, 16, 16)),
    "conv4 with batch statistics": (conv4(3, width=4, side=16, norm="batch"), (1, 16, 16)),
    "conv4 features": (conv4(None, width=4, side=16, norm="none"), (1, 16, 16)),
}


@pytest.fixture(params=MODELS)
def case(request) -> tuple[str, Model, dict[str, torch.Tensor], torch.Tensor]:
    model, shape = MODELS[request.param]
    generator = torch.Generator().manual_seed(0)
    return request.param, model, model.init(generator), torch.randn(2, 6, *shape, generator=generator)


def test_weights_of_ones_own_and_shared_weights_give_the_same(case):
    """The batched path is what MAML learns through; the shared path is what everything is compared with."""
    _, model, weights, x = case

    own = {name: torch.stack([p, p]) for name, p in weights.items()}

    torch.testing.assert_close(model.apply(own, x), model.apply(weights, x), atol=1e-5, rtol=1e-5)
    assert model.apply(weights, x).shape == (2, 6, model.outputs)
    one = {name: torch.stack([p, 0 * p]) for name, p in weights.items()}
    torch.testing.assert_close(model.apply(one, x)[0], model.apply(weights, x)[0], atol=1e-5, rtol=1e-5)


def test_only_batch_statistics_look_at_the_neighbours(case):
    """A stream answers one event at a time: who else asks may not matter."""
    name, model, weights, x = case

    alone = model.apply(weights, x[:, :1])

    same = torch.allclose(alone, model.apply(weights, x)[:, :1], atol=1e-5)
    assert same == ("batch" not in name)


def test_head_names_the_last_layer(case):
    """ANIL adapts what it names."""
    name, model, weights, _ = case

    if "features" not in name:
        assert [weights[part].shape[-1] for part in model.head] == [model.outputs, model.outputs]


def test_sizes_that_cannot_be_are_refused():
    """An image of 8 pixels does not survive four poolings."""
    with pytest.raises(ConfigError, match="side >= 16"):
        conv4(3, side=8)
    with pytest.raises(ConfigError, match="at least 1"):
        mlp(0, (5,), 1)


@pytest.mark.parametrize("norm", ["layer", "batch", "none"])
def test_second_derivatives_of_images_are_the_finite_differences(norm: str):
    """MAML differentiates the network's own gradient; fused normalizations have such derivatives written by hand."""
    learner = maml(conv4(3, width=4, side=16, norm=norm), cross_entropy, inner=sgd(0.1))
    generator = torch.Generator().manual_seed(0)
    theta = {n: p.double().requires_grad_() for n, p in learner.init(generator).items()}
    x = torch.randn(2, 2, 3, 1, 16, 16, generator=generator, dtype=torch.float64)
    y = torch.tensor([[0, 1, 2], [2, 0, 1]])
    tasks = TaskBatch(examples(x[0], y), examples(x[1], y))
    way = {n: torch.randn(p.shape, generator=generator, dtype=torch.float64) for n, p in theta.items()}

    slopes = torch.autograd.grad(learner.loss(theta, tasks), list(theta.values()))

    def at(size: float) -> float:
        return learner.loss({n: (p + size * way[n]).detach() for n, p in theta.items()}, tasks).item()

    expected = (at(1e-8) - at(-1e-8)) / 2e-8
    found = sum((slope * way[n]).sum().item() for n, slope in zip(theta, slopes, strict=True))
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
