"""Networks as two functions, ``init`` and ``apply``, batched over tasks.

``apply(weights, x [T, N, ...]) -> [T, N, outputs]`` takes the weights that ``init`` returned, shared by the T tasks, or
the same with a leading dimension T, one network a task. A batch of small networks is then a batch of matrix products,
with no loop and no ``vmap``; for weights of their own, convolutions run as groups.

No example looks at its neighbours, unless ``norm="batch"`` is asked for: that is the transductive normalization of the
published MAML and Reptile figures on images, which has no place in a stream.

Sources: layer norm, Ba, Kiros & Hinton (2016), arXiv:1607.06450; Conv-4, Vinyals et al. (2016), arXiv:1606.04080.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch.nn import functional

from streammeta.errors import ConfigError

__all__ = ["Activation", "Model", "Norm", "Weights", "conv4", "mlp"]

Weights: TypeAlias = dict[str, torch.Tensor]
Activation: TypeAlias = Literal["relu", "tanh"]
Norm: TypeAlias = Literal["none", "layer", "batch"]

_ACTIVATIONS: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {"relu": torch.relu, "tanh": torch.tanh}
_EPSILON = 1e-5


class Model(NamedTuple):
    """A network without weights of its own."""

    init: Callable[[torch.Generator], Weights]
    apply: Callable[[Weights, torch.Tensor], torch.Tensor]  # (weights, x [T, N, ...]) -> [T, N, outputs]
    outputs: int
    head: tuple[str, ...]  # names of the last layer's weights, which ANIL adapts


def mlp(
    inputs: int,
    hidden: Sequence[int],
    outputs: int,
    *,
    activation: Activation = "relu",
    norm: Literal["none", "layer"] = "none",
    activate_output: bool = False,
) -> Model:
    """A perceptron with hidden layers; whatever shape an example has is flattened first.

    Args:
        inputs: numbers an example has, D.
        hidden: width of each hidden layer.
        outputs: width of the last layer.
        activation: between layers.
        norm: "layer" normalizes each hidden layer before its activation.
        activate_output: also after the last layer, for an encoder whose features should be bounded.
    """
    sizes = [inputs, *hidden, outputs]
    if min(sizes) < 1:
        raise ConfigError(f"mlp: got sizes {sizes}; wanted whole numbers of at least 1")
    last = len(sizes) - 2
    act = _ACTIVATIONS[activation]

    def init(generator: torch.Generator) -> Weights:
        weights: Weights = {}
        for i, (fan_in, width) in enumerate(pairwise(sizes)):
            weights |= _uniform(f"layer{i}", (fan_in, width), fan_in, generator)
            if norm == "layer" and i < last:
                weights |= _affine(f"norm{i}", width)
        return weights

    def apply(weights: Weights, x: torch.Tensor) -> torch.Tensor:
        h = x.flatten(2)
        for i in range(last + 1):
            h = _linear(h, weights[f"layer{i}.weight"], weights[f"layer{i}.bias"])
            if norm == "layer" and i < last:
                gain, shift = weights[f"norm{i}.gain"], weights[f"norm{i}.shift"]  # [H] or [T, H]
                h = functional.layer_norm(h, h.shape[-1:]) * gain.unsqueeze(-2) + shift.unsqueeze(-2)
            if i < last or activate_output:
                h = act(h)
        return h

    return Model(init, apply, outputs, (f"layer{last}.weight", f"layer{last}.bias"))


def conv4(
    outputs: int | None, *, channels: int = 1, width: int = 64, side: int = 28, norm: Norm = "layer", blocks: int = 4
) -> Model:
    """The field's small image network: blocks of a 3x3 convolution, normalization, ReLU and 2x2 max pooling.

    Args:
        outputs: width of a linear layer on top; None for the flattened features themselves.
        channels: of an image.
        width: channels of each block.
        side: height and width of an image.
        norm: "layer" over each example's own features (GroupNorm of one group); "batch" over the examples of a task
            (transductive: an answer then depends on which questions are asked together).
        blocks: how many.
    """
    features = width * (side // 2**blocks) ** 2
    if min(channels, width, features, 1 if outputs is None else outputs) < 1:
        raise ConfigError(f"conv4: got {outputs=}, {channels=}, {width=}, {side=}; wanted 1 or more, and side >= 16")

    def init(generator: torch.Generator) -> Weights:
        weights: Weights = {}
        for i in range(blocks):
            planes = channels if i == 0 else width
            weights |= _uniform(f"conv{i}", (width, planes, 3, 3), planes * 9, generator)
            weights |= {} if norm == "none" else _affine(f"norm{i}", width)
        return weights if outputs is None else weights | _uniform("layer", (features, outputs), features, generator)

    def apply(weights: Weights, x: torch.Tensor) -> torch.Tensor:
        for i in range(blocks):
            x = _convolved(x, weights[f"conv{i}.weight"], weights[f"conv{i}.bias"])
            if norm != "none":
                normalized = _by_layer if norm == "layer" else _by_batch
                x = normalized(x, weights[f"norm{i}.gain"], weights[f"norm{i}.shift"])
            x = torch.relu(_pooled(x))
        h = x.flatten(2)
        return h if outputs is None else _linear(h, weights["layer.weight"], weights["layer.bias"])

    return Model(init, apply, features if outputs is None else outputs, ("layer.weight", "layer.bias"))


def _uniform(name: str, shape: tuple[int, ...], fan_in: int, generator: torch.Generator) -> Weights:
    """Weights and biases from U(−1/√fan_in, 1/√fan_in), as torch.nn does by default."""
    outputs = shape[-1] if len(shape) == 2 else shape[0]
    bound = fan_in**-0.5
    return {
        f"{name}.weight": (2 * torch.rand(shape, generator=generator) - 1) * bound,
        f"{name}.bias": (2 * torch.rand(outputs, generator=generator) - 1) * bound,
    }


def _affine(name: str, width: int) -> Weights:
    return {f"{name}.gain": torch.ones(width), f"{name}.shift": torch.zeros(width)}


def _linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    if weight.dim() == 2:
        return x @ weight + bias
    return torch.baddbmm(bias.unsqueeze(-2), x, weight)


def _convolved(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """A 3x3 convolution of x [T, N, C, H, W] by weight [O, C, 3, 3], or by [T, O, C, 3, 3], a group a task."""
    tasks, n, _, height, width = x.shape
    if weight.dim() == 4:
        out = functional.conv2d(x.flatten(0, 1), weight, bias, padding=1)
        return out.view(tasks, n, -1, height, width)
    planes = x.transpose(0, 1).flatten(1, 2)  # [N, T·C, H, W]
    out = functional.conv2d(planes, weight.flatten(0, 1), bias.flatten(), padding=1, groups=tasks)
    return out.view(n, tasks, -1, height, width).transpose(0, 1)


def _pooled(x: torch.Tensor) -> torch.Tensor:
    """The maximum of each 2x2 square of x [T, N, C, H, W]."""
    tasks, n, planes, height, width = x.shape
    return functional.max_pool2d(x.flatten(0, 1), 2).view(tasks, n, planes, height // 2, width // 2)


def _by_layer(x: torch.Tensor, gain: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Each image of x [T, N, C, H, W] by its own mean and spread; then gain and shift, [C] or [T, C]."""
    images = x.flatten(0, 1)
    if gain.dim() == 1:
        return functional.group_norm(images, 1, gain, shift, _EPSILON).view(x.shape)
    plain = functional.group_norm(images, 1, eps=_EPSILON).view(x.shape)
    return plain * gain[:, None, :, None, None] + shift[:, None, :, None, None]


def _by_batch(x: torch.Tensor, gain: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Each channel of x [T, N, C, H, W] by its mean and spread over a task's images: a channel a task and channel."""
    tasks, n, planes, height, width = x.shape
    side_by_side = x.transpose(0, 1).flatten(1, 2)  # [N, T·C, H, W]
    gain, shift = (p.expand(tasks, planes).flatten() for p in (gain, shift))
    out = functional.batch_norm(side_by_side, None, None, gain, shift, training=True, eps=_EPSILON)
    return out.view(n, tasks, planes, height, width).transpose(0, 1)
