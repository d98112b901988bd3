"""θ of a stream: it grows with the features and classes that turn up, and carries its moving average where one is kept.

Beside a learner's own tensors θ then has two of zeros, ``features`` and ``outputs``, whose lengths say what it
has grown to (and are learned from slopes of zero), and ``average.NAME`` for each NAME where the average is served.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from streammeta.event import LabelValue
from streammeta.meta.base import Axes, Axis
from streammeta.meta.learner import Learner, Theta, named, part
from streammeta.meta.names import Slot, generator_of

__all__ = ["Sizes", "axes_of", "fitted", "own", "served_weights", "sized", "sizes"]

_FIRST_LAYER = "layer0.weight"  # has a row a feature, after those of the network's other inputs
_SIZES = ("features", "outputs")
_OUTPUT = "an output"  # in the seed of what is new of one
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


class Sizes(NamedTuple):
    """A learner of any number of outputs, at least ``least``."""

    make: Callable[[int], Learner]
    least: int

    def of(self, outputs: int) -> Learner:
        """The learner for so many named outputs."""
        return self.make(max(outputs, self.least))

    def axes(self, outputs: int) -> dict[str, Axis]:
        """Where outputs lie in the learner's θ: where one of more outputs is larger; they are the last rows there."""
        count, found = max(outputs, self.least), {}
        more = self.make(count + 1).init(torch.Generator())
        for name, p in self.make(count).init(torch.Generator()).items():
            along = [axis for axis in range(p.dim()) if p.shape[axis] != more[name].shape[axis]]
            if along:
                found[name] = Axis(outputs=along[0], before=p.shape[along[0]] - count)
        return found


def fitted(old: Theta, learners: Sizes, slots: Sequence[Slot], outputs: Sequence[LabelValue], seed: int) -> Theta:
    """θ for these features and outputs; what was there is unchanged.

    Args:
        old: θ so far; empty at the start. It may know more than is named here: what was trained elsewhere has no names.
        learners: of any number of outputs.
        slots: features.
        outputs: named outputs.
        seed: of what is new; weights of a feature, or of an output, depend on it and on the name alone.
    """
    features, known = sizes(old)
    wanted = max(len(slots), features), max(len(outputs), known)
    learner, axes = learners.of(wanted[1]), learners.axes(wanted[1])

    def grown(theta: Theta) -> Theta:
        larger = _with_features(theta, learner, slots, wanted[0], seed)
        return _with_outputs(larger, learners.of(0), axes, known, outputs, seed)

    learned = grown(own(old))
    if part(learner.begin(learned).memory, _AVERAGE):
        learned |= named(_AVERAGE, grown(served_weights(old)))
    return sized(learned, *wanted)


def axes_of(theta: Theta, learners: Sizes) -> Axes:
    """Where features and outputs lie in θ of a stream."""
    features, outputs = sizes(theta)
    found = learners.axes(outputs)
    for name, p in own(theta).items():
        if name.endswith(_FIRST_LAYER):
            found[name] = Axis(features=0, before=p.shape[0] - features)
    averages = {f"{_AVERAGE}.{name}": axis for name, axis in found.items()}
    return found | averages | {"features": Axis(features=0), "outputs": Axis(outputs=0)}


def sized(theta: Theta, features: int, outputs: int) -> Theta:
    """θ that records what it is for: D features and C outputs."""
    return theta | {"features": torch.zeros(features), "outputs": torch.zeros(outputs)}


def _with_features(old: Theta, learner: Learner, slots: Sequence[Slot], features: int, seed: int) -> Theta:
    """θ of this learner for more features; what was there is unchanged."""
    theta = {}
    for name, p in learner.init(torch.Generator().manual_seed(seed)).items():  # for one feature
        grown = _with_rows(p, slots, features, seed) if name.endswith(_FIRST_LAYER) else p
        if name in old:
            corner = tuple(slice(n) for n in old[name].shape)
            grown = grown.clone()
            grown[corner] = old[name]
        theta[name] = grown
    return theta


def _with_rows(p: torch.Tensor, slots: Sequence[Slot], features: int, seed: int) -> torch.Tensor:
    """The first layer for ``features`` inputs instead of one, which is its last row."""
    first, model = p[:-1], p[-1]
    rows = [model] * features
    if p.std() > 0:  # weights, not rates, which all begin alike
        for i, slot in enumerate(slots):
            drawn = generator_of(seed, slot.name, slot.value).uniform(-1, 1, model.shape) * max(slot.fan_in, 1) ** -0.5
            rows[i] = torch.from_numpy(drawn.astype(np.float32))
    return torch.cat([first, torch.stack(rows)]) if rows else first


def _with_outputs(
    theta: Theta, learner: Learner, axes: Axes, known: int, outputs: Sequence[LabelValue], seed: int
) -> Theta:
    """θ in which outputs after the first ``known`` begin as their names say: as the first of a small learner."""
    found = {name: p.clone() if name in axes else p for name, p in theta.items()}
    for i in range(known, len(outputs)):
        random = torch.Generator().manual_seed(int(generator_of(seed, _OUTPUT, outputs[i]).integers(2**62)))
        begun = learner.init(random)
        for name, axis in axes.items():
            along, before = axis.outputs, axis.before
            if along is not None:
                found[name].select(along, before + i).copy_(begun[name].select(along, before))
    return found
