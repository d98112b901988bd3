"""Networks: shared or one a task, the same numbers; and no image looks at its neighbours unless asked to."""

import pytest
import torch

from streammeta.errors import ConfigError
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
