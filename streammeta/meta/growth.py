"""θ of a stream: it grows with the features and classes that turn up, and carries its moving average where one is kept.

Beside a learner's own tensors θ then has two of zeros, ``features`` and ``outputs``, whose lengths say what it
has grown to (and are learned from slopes of zero), and ``average.NAME`` for each NAME where the average is served.
"""

from collections.abc import Sequence

import torch

from streammeta.meta.base import Theta
from streammeta.meta.learner import Learner, named, part

__all__ = ["fitted", "own", "served_weights", "sized", "sizes"]

_SEED_STRIDE = 1_000_003
_FIRST_LAYER = "layer0.weight"  # has a row a feature, after those of the network's other inputs
_SIZES = ("features", "outputs")
_AVERAGE = "average"


def sizes(theta: Theta) -> tuple[int, int]:
    """How many features and outputs θ is for; none if it does not say."""
    features, outputs = (theta[size].numel() if size in theta else 0 for size in _SIZES)
    return features, outputs


def own(theta: Theta) -> Theta:
    """What the learner itself knows as θ, and learns."""
    return {name: p for name, p in theta.items() if name not in _SIZES and not name.startswith(_AVERAGE + ".")}


def served_weights(theta: Theta) -> Theta:
    """The θ to answer by: the average where one is kept, else the learner's own."""
    return part(theta, _AVERAGE) or own(theta)


def fitted(old: Theta, learner: Learner, fan_in: Sequence[int], to: tuple[int, int], seed: int) -> Theta:
    """θ for ``features`` and ``outputs``; what was there is unchanged.

    Args:
        old: θ so far; empty at the start.
        learner: of as many outputs as are wanted.
        fan_in: features that each feature stands beside, which sets the spread of its weights.
        to: features and outputs wanted.
        seed: of what is new; weights of a feature depend on it and on the feature's slot alone.
    """
    learned = _grown(own(old), learner, fan_in, to[0], seed)
    if part(learner.begin(learned).memory, _AVERAGE):
        learned |= named(_AVERAGE, _grown(served_weights(old), learner, fan_in, to[0], seed))
    return sized(learned, *to)


def sized(theta: Theta, features: int, outputs: int) -> Theta:
    """θ that records what it is for: D features and C outputs."""
    return theta | {"features": torch.zeros(features), "outputs": torch.zeros(outputs)}


def _grown(old: Theta, learner: Learner, fan_in: Sequence[int], features: int, seed: int) -> Theta:
    """θ for more features and outputs; what was there is unchanged, new features' weights depend on seed and slot."""
    theta = {}
    for name, p in learner.init(torch.Generator().manual_seed(seed)).items():  # for one feature
        grown = _with_rows(p, fan_in, features, seed) if name.endswith(_FIRST_LAYER) else p
        if name in old:
            corner = tuple(slice(n) for n in old[name].shape)
            grown = grown.clone()
            grown[corner] = old[name]
        theta[name] = grown
    return theta


def _with_rows(p: torch.Tensor, fan_in: Sequence[int], features: int, seed: int) -> torch.Tensor:
    """The first layer for ``features`` inputs instead of one, which is its last row."""
    first, model = p[:-1], p[-1]
    rows = [model] * features
    if p.std() > 0:  # weights, not rates, which all begin alike
        for slot in range(len(fan_in)):
            generator = torch.Generator().manual_seed(seed * _SEED_STRIDE + slot + 1)
            rows[slot] = (2 * torch.rand(model.shape, generator=generator) - 1) * fan_in[slot] ** -0.5
    return torch.cat([first, torch.stack(rows)]) if rows else first
