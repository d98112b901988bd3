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
from typing import Any, Literal, NamedTuple, TypeAlias

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
        weights = _blocks([channels, *[width] * blocks], norm, generator)
        return weights if outputs is None else weights | _uniform("layer", (features, outputs), features, generator)

    def block(weights: Weights, i: int, h: torch.Tensor, *, networks: int, n: int) -> torch.Tensor:
        weight = weights[f"conv{i}.weight"].flatten(0, -4)
        if norm == "batch":
            affine = (weights[f"norm{i}.gain"].flatten(), weights[f"norm{i}.shift"].flatten())
            return torch.relu(_convolved_by_task(h, weight, *affine, networks=networks, n=n))
        if networks == 1:  # channels last, in which the convolution of a CPU is half as fast again
            weight = weight.contiguous(memory_format=torch.channels_last)
        h = functional.conv2d(h, weight, weights[f"conv{i}.bias"].flatten(), padding=1, groups=networks)
        if norm == "layer":  # where networks lie side by side, each by itself
            gain, shift = weights[f"norm{i}.gain"].flatten(), weights[f"norm{i}.shift"].flatten()
            h = functional.group_norm(h, networks, gain, shift, _EPSILON)
        return torch.relu(functional.max_pool2d(h, 2))

    def apply(weights: Weights, x: torch.Tensor) -> torch.Tensor:
        tasks, n = x.shape[:2]
        own = weights["conv0.weight"].dim() == 5  # a network a task: its channels go side by side, [N, T·C, H, W]
        h = x.transpose(0, 1).flatten(1, 2) if own else x.flatten(0, 1)
        for i in range(blocks):
            h = block(weights, i, h, networks=tasks if own else 1, n=n)
        z = h.reshape(n, tasks, features).transpose(0, 1) if own else h.reshape(tasks, n, features)
        return z if outputs is None else _linear(z, weights["layer.weight"], weights["layer.bias"])

    return Model(init, apply, features if outputs is None else outputs, ("layer.weight", "layer.bias"))


def _blocks(planes: Sequence[int], norm: Norm, generator: torch.Generator) -> Weights:
    """Of 3x3 convolutions from each number of planes to the next; batch statistics take the mean off, so no bias."""
    weights: Weights = {}
    for i, (planes_in, width) in enumerate(pairwise(planes)):
        weights |= _uniform(f"conv{i}", (width, planes_in, 3, 3), planes_in * 9, generator)
        weights |= {} if norm == "none" else _affine(f"norm{i}", width)
        if norm == "batch":
            del weights[f"conv{i}.bias"]
    return weights


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


def _convolved_by_task(
    h: torch.Tensor, weight: torch.Tensor, gain: torch.Tensor, shift: torch.Tensor, *, networks: int, n: int
) -> torch.Tensor:
    """Convolved, each channel normalized by its mean and spread over a task's n images, and pooled.

    Where gain ≥ 0 normalizing keeps the largest number the largest, so pooling comes first and leaves a quarter to
    normalize. (A channel with gain < 0 is that of the negative weights, with −gain.) Together with the moments' own
    gradient this halves what MAML's second derivatives take; batch_norm's make some thirty passes over all of h.

    Args:
        h: [N, networks·C, H, W], the T tasks' networks side by side; or [T·N, C, H, W] for one network.
        weight: [networks·C', C, 3, 3].
        gain: [networks·C'].
        shift: likewise.
        networks: how many.
        n: N.
    """
    sign = torch.where(gain.detach() < 0, -1, 1)
    h = h.to(memory_format=torch.channels_last)  # in which a CPU convolves faster, and pools many times faster
    h = functional.conv2d(h, weight * sign.view(-1, 1, 1, 1), padding=1, groups=networks)
    rows = h.shape[0]
    mean, square = (each.view(rows // n, n, -1).mean(1, keepdim=True) for each in _Moments.apply(h))
    scale = gain * sign * ((square - mean.square()).clamp(min=0) + _EPSILON).rsqrt()
    scale, offset = (each.expand(-1, n, -1).reshape(rows, -1, 1, 1) for each in (scale, shift - mean * scale))
    return torch.addcmul(offset, functional.max_pool2d(h, 2), scale)


class _Moments(torch.autograd.Function):
    """Mean and mean square of each plane [..., H, W], with a gradient of one pass, which has a gradient in its turn."""

    @staticmethod
    def forward(h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Both [...]."""
        return h.mean((-2, -1)), torch.linalg.vector_norm(h, dim=(-2, -1)).square() / (h.shape[-2] * h.shape[-1])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor], output: Any) -> None:  # noqa: ANN401, ARG004  torch's own
        """Remember h."""
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, of_mean: torch.Tensor, of_square: torch.Tensor) -> torch.Tensor:  # noqa: ANN401  torch's own
        """(slope of the mean + 2 h · slope of the mean square) / (H W)."""
        (h,) = ctx.saved_tensors
        size = h.shape[-2] * h.shape[-1]
        return torch.addcmul((of_mean / size)[..., None, None], h, (2 * of_square / size)[..., None, None])
