"""An expert for concepts with edges: an online forest over all events of a partition, compiled.

Ten trees count each event so often as a Poisson number says, which is made from (seed, tree, event). A leaf links its
events in the partition's ring, and splits the last 128 of them where the gain in log-likelihood is worth it, at a
random place between two values. A leaf says

    p = (counts + a · what its parent said) / (n + a)

and forgets beyond a few hundred events. A tree whose error rises, by ADWIN's bound on blocks of 32, begins again from
its root. The forest's answer is the trees' mean, each weighted by its loss lately. The task is a feature.

Sources: Domingos & Hulten (2000), VFDT; Gomes et al. (2017), adaptive random forests (bagging, a tree that begins
again); Bifet & Gavaldà (2007), ADWIN; Geurts et al. (2006), extremely randomized trees (cuts at random places);
Mourtada, Gaïffas & Scornet (2021), AMF (shrinking to the parent).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from streammeta.engine.columns import Column, next_power_of_two
from streammeta.engine.experts.base import Case, Columns, Doubles, Renumbering
from streammeta.engine.experts.ring import Ring, Rings
from streammeta.errors import SnapshotError
from streammeta.meta.base import Floats, Kind
from streammeta.native import _kernels as kernels

__all__ = ["Forest", "check_forest", "renumber_forest"]

_TREES, _NODES, _MOST_NODES = 10, 64, 4096
_NODE, _BLOCKS = 5, 128  # numbers of a node, blocks of errors of a tree: as forest.cpp has them
_TREE = 6 + _BLOCKS  # numbers of a tree
_FEWEST = 10  # labels before it says anything
# gain in nats that a split is worth; weight of the parent; mean of the Poisson numbers; ADWIN's delta; events that a
# leaf remembers; how much a tree's loss counts against it
_RULE = [25.0, 6.0, 6.0, 0.01, 1000.0, 6.0]


_NAMES = tuple(
    f"forest.{name}" for name in ("nodes", "cuts", "counts", "priors", "links", "trees", "moments", "x", "y", "count")
)
_DIMENSIONS = [3, 2, 3, 3, 2, 2, 1, 2, 1, 1]
_TYPES = ["<i4", "<f4", "<f4", "<f4", "<i4", "<f8", "<f8", "<f4", "<f4", "<i8"]


@dataclass(slots=True)
class _Trees:
    """One partition's; see forest.cpp."""

    nodes: npt.NDArray[np.int32]  # [T, M, _NODE]
    cuts: Floats  # [T, M]
    counts: Floats  # [T, M, C]
    priors: Floats  # [T, M, C]
    links: npt.NDArray[np.int32]  # [T, N]
    trees: Doubles  # [T, _TREE]
    moments: Doubles  # count, mean and sum of squares of the targets [3]

    @property
    def state(self) -> tuple[npt.NDArray[Any], ...]:
        """As kernels take it."""
        return self.nodes, self.cuts, self.counts, self.priors, self.links, self.trees


class Forest:
    """One forest a partition.

    Args:
        kind: of the stream.
        seed: of its random numbers.
    """

    name = "forest"
    doubt = 0.05
    is_saved = True

    def __init__(self, kind: Kind, seed: int) -> None:
        self._classify, self._seed, self._rings = kind == "classification", seed, Rings()
        self._parts: dict[int, _Trees] = {}

    def layout(self, width: int, outputs: int) -> Mapping[str, Column]:  # noqa: ARG002
        """Nothing of a task: it is of all."""
        return {}

    def predict(self, columns: Columns, case: Case, outputs: int) -> Doubles | None:  # noqa: ARG002
        """Class probabilities [C] or the mean [1]; None before the first labels."""
        found, ring = self._parts.get(case.partition), self._rings.parts.get(case.partition)
        if found is None or ring is None or ring.count < _FEWEST:
            return None
        said = np.empty(found.counts.shape[2] if self._classify else 2)
        row = self._rings.row(case, ring)
        kernels.forest_ask(found.state, ring.x, ring.y, _RULE, self._classify, self._seed, row, said)
        if not self._classify:
            return said[:1]
        return said[:outputs] if said.size >= outputs else np.pad(said, (0, outputs - said.size))

    def learn(self, columns: Columns, case: Case, y: float) -> None:  # noqa: ARG002
        """Learn a class index or a target."""
        self._rings.push(case, y)
        ring = self._rings.of(case)
        found = self._of(case.partition, int(y) + 1 if self._classify else 3)
        spread = 1.0
        if not self._classify:
            found.moments[0] += 1
            step = y - found.moments[1]
            found.moments[1] += step / found.moments[0]
            found.moments[2] += step * (y - found.moments[1])
            variance = found.moments[2] / found.moments[0]
            found.priors[:, 0, 0], found.priors[:, 0, 1] = found.moments[1], variance
            spread = float(np.sqrt(variance))
        used = kernels.forest_learn(
            found.state, ring.x, ring.y, _RULE, self._classify, self._seed, ring.count - 1, spread
        )
        if used + 2 > found.nodes.shape[1] < _MOST_NODES:
            self._grow(found, found.nodes.shape[1])

    def _of(self, partition: int, outputs: int) -> _Trees:
        """The partition's trees, wide enough for these outputs."""
        found = self._parts.get(partition)
        if found is None:
            capacity = next_power_of_two(max(outputs, 2)) if self._classify else 3
            found = self._parts[partition] = _Trees(
                np.full((_TREES, 0, _NODE), -1, np.int32),
                np.zeros((_TREES, 0), np.float32),
                np.zeros((_TREES, 0, capacity), np.float32),
                np.zeros((_TREES, 0, capacity), np.float32),
                np.full((_TREES, self._rings.size), -1, np.int32),
                np.zeros((_TREES, _TREE)),
                np.zeros(3),
            )
            found.trees[:, 0] = 1
            self._grow(found, _NODES)
            found.nodes[:, 0, 3:] = 0
            if self._classify:
                found.priors[:, 0] = 1 / capacity
        missing = outputs - found.counts.shape[2]
        if missing > 0:
            pad = ((0, 0), (0, 0), (0, next_power_of_two(outputs) - found.counts.shape[2]))
            found.counts, found.priors = np.pad(found.counts, pad), np.pad(found.priors, pad)
        return found

    @staticmethod
    def _grow(found: _Trees, nodes: int) -> None:
        pad = ((0, 0), (0, nodes))
        found.nodes = np.pad(found.nodes, (*pad, (0, 0)), constant_values=-1)
        found.cuts = np.pad(found.cuts, pad)
        found.counts, found.priors = (np.pad(part, (*pad, (0, 0))) for part in (found.counts, found.priors))

    def publish_shared(self) -> None:
        """It learned at once: a partition's events have one order."""

    def dump(self) -> dict[str, npt.NDArray[Any]]:
        """Arrays from which ``load`` makes the same."""
        parts = {number: self.partition(number) for number in self.partitions}
        return {f"{name}@{number}": array for number, part in parts.items() for name, array in part.items()}

    def load(self, arrays: Columns) -> None:
        """Become what ``dump`` described."""
        found: dict[int, dict[str, npt.NDArray[Any]]] = {}
        for name, array in arrays.items():
            if name.startswith("forest."):
                own, _, partition = name.rpartition("@")
                found.setdefault(int(partition), {})[own] = array
        self._parts, self._rings = {}, Rings()
        for number, part in found.items():
            self._place(number, part)

    @property
    def partitions(self) -> list[int]:
        """Of which it has a forest."""
        return sorted(self._parts)

    def partition(self, number: int) -> dict[str, npt.NDArray[Any]]:
        """A partition's trees, and the events that they were made of."""
        if number not in self._parts:
            return {}
        found, ring = self._parts[number], self._rings.parts[number]
        arrays = (*found.state, found.moments, ring.x, ring.y, np.array([ring.count]))
        return dict(zip(_NAMES, arrays, strict=True))

    def take_partition(self, number: int, arrays: Columns, here: Renumbering, at: str) -> None:
        """Go on with these trees; raises SnapshotError where they are damaged.

        Where features or classes have other numbers here, columns and counts go to their places; where there is no
        capacity for a feature, the forest begins again.
        """
        mine = {name: array for name, array in arrays.items() if name.startswith("forest.")}
        if not mine:
            return
        check_forest(mine, classify=self._classify, size=self._rings.size, at=at)
        if not here.same:
            renumbered = renumber_forest(mine, here, classify=self._classify, at=at)
            if renumbered is None:
                return
            mine = renumbered
        self._place(number, mine)

    def forget_partition(self, number: int) -> None:
        """Its forest goes with it."""
        self._parts.pop(number, None)
        self._rings.parts.pop(number, None)

    def _place(self, number: int, arrays: Columns) -> None:
        nodes, cuts, counts, priors, links, trees, moments, x, y, count = (arrays[name].copy() for name in _NAMES)
        self._parts[number] = _Trees(nodes, cuts, counts, priors, links, trees, moments)
        self._rings.parts[number] = Ring(x, y, int(count[0]))


def check_forest(arrays: Columns, *, classify: bool, size: int, at: str) -> None:
    """Refuse trees from elsewhere that compiled code could not walk; raises SnapshotError."""
    problem = _misfit(arrays, size) or _damage(arrays, classify=classify)
    if problem:
        raise SnapshotError(f"{at}: a forest with {problem}: it is damaged")


def _misfit(arrays: Columns, size: int) -> str:
    """What is wrong with types and shapes."""
    if set(arrays) != set(_NAMES):
        return f"arrays {', '.join(sorted(arrays))}"
    found = [arrays[name] for name in _NAMES]
    if [array.ndim for array in found] != _DIMENSIONS or [array.dtype.str for array in found] != _TYPES:
        return "arrays of other dimensions or types"
    capacity, outputs, width = found[0].shape[1], found[2].shape[2], found[7].shape[1]
    counts = (_TREES, capacity, outputs)
    wanted = [(_TREES, capacity, _NODE), (_TREES, capacity), counts, counts, (_TREES, size), (_TREES, _TREE), (3,)]
    wanted += [(size, width), (size,), (1,)]
    fits = [array.shape for array in found] == wanted and min(capacity, width) > 0 and outputs > 1
    return "" if fits else "arrays of other shapes"


def _damage(arrays: Columns, *, classify: bool) -> str:
    """What is wrong with numbers."""
    nodes, _, counts, priors, links, trees, moments, x, y, count = (arrays[name] for name in _NAMES)
    capacity, events, used = nodes.shape[1], int(count[0]), trees[:, 0]
    if not all(np.isfinite(part).all() for part in (counts, priors, trees, moments)):
        return "counts that are no numbers"
    sizes = (used >= 1) & (used <= capacity) & (used == np.floor(used)) & (trees[:, 4] >= 0) & (trees[:, 4] <= _BLOCKS)
    if not sizes.all() or not 0 <= events < 2**31:
        return "trees of another size than they say"
    feature, child = nodes[:, :, 0], nodes[:, :, 1]
    leads = (feature < x.shape[1]) & (child > np.arange(capacity)) & (child + 1 < used[:, None])
    inner = (feature >= 0) & (np.arange(capacity) < used[:, None])
    if (feature < -1).any() or (inner & ~leads).any():
        return "a node that leads nowhere"
    ahead = max(int(links.max()), int(nodes[:, :, 2].max())) >= max(events, 1)
    if ahead or min(int(links.min()), int(nodes[:, :, 2:].min())) < -1:
        return "links to events that have not been"
    kept = y[: min(events, len(y))]
    known = (kept >= 0) & (kept < counts.shape[2]) & (kept == np.floor(kept)) if classify else np.isfinite(kept)
    return "" if known.all() and (classify or counts.shape[2] == 3) else "a label that it has no count of"


def renumber_forest(
    arrays: Columns, here: Renumbering, *, classify: bool, at: str
) -> dict[str, npt.NDArray[Any]] | None:
    """Trees that were made where features and classes had other numbers: theirs here; None: one has no number here."""
    found = {name: array.copy() for name, array in arrays.items()}
    x, nodes = found["forest.x"], found["forest.nodes"]
    written = x.shape[1] - 1
    if written > len(here.slots) or (here.slots[:written] < 0).any():
        return None
    places = np.concatenate([[0], 1 + here.slots[:written]])  # the task keeps its column
    wide = np.full((len(x), int(places.max()) + 1), np.nan, np.float32)
    wide[:, places] = x
    found["forest.x"] = wide
    inner = nodes[:, :, 0] >= 0
    nodes[:, :, 0][inner] = places[nodes[:, :, 0][inner]]
    if not classify:
        return found
    classes, kept = here.classes, min(int(found["forest.count"][0]), len(x))
    labels = found["forest.y"][:kept].astype(np.int64)
    if labels.size and labels.max() >= len(classes):
        raise SnapshotError(f"{at}: a forest of class {labels.max()}, which its schema does not have: it is damaged")
    found["forest.y"][:kept] = classes[labels]
    for name in ("forest.counts", "forest.priors"):
        old = found[name]
        known = min(old.shape[2], len(classes))
        new = np.zeros((*old.shape[:2], next_power_of_two(int(classes.max(initial=1)) + 1)), np.float32)
        new[:, :, classes[:known]] = old[:, :, :known]
        found[name] = new
    return found
