"""An expert for concepts with edges: an online forest over all events of a partition, compiled.

Ten trees count each event so often as a Poisson number says, which is made from (seed, tree, event). A leaf links its
events in the partition's ring, and splits the last 64 of them where the gain in log-likelihood is worth it, at a
random place between two values of one of half of the features, which are drawn at each look. The gain that it wants is
less where many events found no split: a board is parted by no single one. A leaf says

    p = (counts + a · what its parent said) / (n + a)

and forgets beyond a few hundred events. A tree whose error rises, by ADWIN's bound on blocks of 32, begins again from
its root. The forest's answer is the trees' mean, each weighted by its loss lately. The task is a feature.

What is kept of it is a copy of every 1,024th label, and the events since, from which it is made again by the code that
made it: ten trees change in too many places to write them down with every transaction.

Sources: Domingos & Hulten (2000), VFDT; Gomes et al. (2017), adaptive random forests (bagging, a tree that begins
again); Bifet & Gavaldà (2007), ADWIN; Geurts et al. (2006), extremely randomized trees (cuts at random places);
Mourtada, Gaïffas & Scornet (2021), AMF (shrinking to the parent).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from streammeta.engine.columns import next_power_of_two
from streammeta.engine.experts.base import ByRuns, Cases, Columns, Doubles
from streammeta.engine.experts.ring import LEAST, MOST, Ring
from streammeta.engine.partitioned import Arrays, Renumbering
from streammeta.errors import SnapshotError
from streammeta.meta.base import Floats, Kind
from streammeta.native import _kernels as kernels

__all__ = ["Forest", "as_numbers", "check_forest", "renumber_forest"]

_TREES, _NODES = 10, 64
_MOST_NODES, _MOST_COUNTS = 4096, 32768  # of a tree; its nodes times classes: 4 MB a partition at most; as forest.cpp
_NODE, _BLOCKS = 5, 128  # numbers of a node, blocks of errors of a tree: as forest.cpp has them
_TREE = 6 + _BLOCKS  # numbers of a tree
_MOMENTS = 4  # of a partition
_MOST_EVENTS = 2**30  # counted before they are counted again
_EVERY = LEAST  # labels between two copies; a whole part of the ring
# gain in nats that a split is worth at first; weight of the parent; mean of the Poisson numbers; ADWIN's delta; events
# that a leaf remembers; how much a tree's loss counts against it
_RULE = [35.0, 6.0, 6.0, 0.01, 1000.0, 4.0]


_NAMES = tuple(
    f"forest.{name}" for name in ("nodes", "cuts", "counts", "priors", "links", "trees", "moments", "x", "y", "count")
)
_SINCE_X, _SINCE_Y, _COUNT = "forest.since.x", "forest.since.y", "forest.since.count"
_DIMENSIONS = [3, 2, 3, 3, 2, 2, 1, 2, 1, 1, 2, 1, 1]
_TYPES = ["<i4", "<f4", "<f4", "<f4", "<i4", "<f8", "<f8", "<f4", "<f4", "<i8", "<f4", "<f4", "<i8"]


@dataclass(slots=True)
class _Trees:
    """One partition's; see forest.cpp."""

    nodes: npt.NDArray[np.int32]  # [T, M, _NODE]
    cuts: Floats  # [T, M]
    counts: Floats  # [T, M, C]
    priors: Floats  # [T, M, C]
    links: npt.NDArray[np.int32]  # [T, N]
    trees: Doubles  # [T, _TREE]
    moments: Doubles  # [_MOMENTS]
    ring: Ring
    copied: tuple[npt.NDArray[Any], ...] = ()  # what ``copy`` made last; never changed

    @classmethod
    def roots(cls, outputs: int, features: int, *, classify: bool) -> "_Trees":
        """Trees of one leaf, with counts for so many classes, or of a target."""
        capacity = next_power_of_two(max(outputs, 2)) if classify else 3
        nodes = np.full((_TREES, _NODES, _NODE), -1, np.int32)
        nodes[:, 0, 3:] = 0
        counts = np.zeros((_TREES, _NODES, capacity), np.float32)
        priors = np.zeros_like(counts)
        if classify:
            priors[:, 0] = 1 / capacity
        trees = np.zeros((_TREES, _TREE))
        trees[:, 0] = 1
        links = np.full((_TREES, LEAST), -1, np.int32)
        cuts = np.zeros((_TREES, _NODES), np.float32)
        return cls(nodes, cuts, counts, priors, links, trees, np.zeros(_MOMENTS), Ring.empty(features))

    @property
    def state(self) -> tuple[npt.NDArray[Any], ...]:
        """As the kernel takes it."""
        return self.nodes, self.cuts, self.counts, self.priors, self.links, self.trees, self.moments

    @classmethod
    def of(cls, copied: tuple[npt.NDArray[Any], ...]) -> "_Trees":
        """Trees as they were when they were copied."""
        nodes, cuts, counts, priors, links, trees, moments, x, y, count = (array.copy() for array in copied)
        return cls(nodes, cuts, counts, priors, links, trees, moments, Ring(x, y, int(count[0])), copied)

    def copy(self) -> None:
        """Keep the trees as they are now."""
        ring = self.ring
        self.copied = tuple(array.copy() for array in (*self.state, ring.x, ring.y, np.array([ring.count])))
        for array in self.copied:
            array.flags.writeable = False

    @property
    def since(self) -> tuple[Floats, Floats]:
        """The stretch of the ring in which the events since the last copy lie, x [_EVERY, 1 + D] and y [_EVERY]."""
        begin = int(self.copied[-1][0]) // _EVERY * _EVERY % len(self.ring.y)
        return self.ring.x[begin : begin + _EVERY], self.ring.y[begin : begin + _EVERY]

    @property
    def is_full(self) -> bool:
        """Whether a tree has too few nodes for a split, and may have more."""
        nodes, counts = self.counts.shape[1:]
        may_grow = nodes < _MOST_NODES and nodes * counts < _MOST_COUNTS
        return may_grow and bool(self.trees[:, 0].max() + 2 > nodes)

    def remember_more(self) -> None:
        """Have a ring twice as long, if it is full and may be longer."""
        size = len(self.ring.y)
        if size == self.ring.count < MOST:
            self.ring.lengthen()
            self.links = np.pad(self.links, ((0, 0), (0, size)), constant_values=-1)

    def count_again(self) -> None:
        """Give the ring's events small numbers again, before nodes and links, of 32 bits, cannot hold them."""
        if self.ring.count < _MOST_EVENTS:
            return
        size = len(self.ring.y)
        gone = (self.ring.count // size - 1) * size  # whole rings: each event stays in its place
        for held in (self.nodes[:, :, 2], self.links):
            held[...] = np.where(held >= gone, held - gone, -1)
        self.ring.count -= gone

    def add_nodes(self) -> None:
        """Let each tree have twice as many nodes."""
        more = ((0, 0), (0, self.nodes.shape[1]))
        self.nodes = np.pad(self.nodes, (*more, (0, 0)), constant_values=-1)
        self.cuts = np.pad(self.cuts, more)
        self.counts, self.priors = (np.pad(part, (*more, (0, 0))) for part in (self.counts, self.priors))

    def add_classes(self, outputs: int) -> None:
        """Have counts for so many classes."""
        missing = next_power_of_two(outputs) - self.counts.shape[2]
        self.counts, self.priors = (np.pad(part, ((0, 0), (0, 0), (0, missing))) for part in (self.counts, self.priors))


class Forest(ByRuns):
    """One forest a partition.

    Args:
        kind: of the stream.
        seed: of its random numbers.

    Attributes:
        parts: the trees of each partition, not to be changed, and the ring of its last labelled events.
    """

    name = "forest"
    doubt = 0.05
    is_saved = True

    def __init__(self, kind: Kind, seed: int) -> None:
        self.classify, self._seed = kind == "classification", seed
        self.parts: dict[int, _Trees] = {}

    def run(self, columns: Columns, cases: Cases, outputs: int) -> Doubles:  # noqa: ARG002
        """Predict each event and learn its label; see ``OfRuns``."""
        said = np.full((len(cases.tasks), outputs), 0.0 if self.classify else math.nan)
        labels = cases.labels if self.classify else (cases.labels - cases.shift) / cases.spread
        partition, common, is_known = int(cases.partitions[0]), cases.common, ~np.isnan(labels)
        found = self.parts.get(partition)
        if found is None:
            if not is_known.any():
                return said
            found = _Trees.roots(int(labels[is_known][0]) + 1, common.shape[1], classify=self.classify)
            found.copy()
            self.parts[partition] = found
        if common.shape[1] >= found.ring.x.shape[1] and is_known.any():
            found.ring.widen(common.shape[1])
        common = np.ascontiguousarray(common[:, : found.ring.x.shape[1] - 1])  # no tree knows others
        self._learn(found, (as_numbers(cases.tasks), common, labels, cases.asked, said))
        return said if self.classify else cases.shift[:, None] + cases.spread[:, None] * said

    def _learn(self, found: _Trees, events: tuple[npt.NDArray[Any], ...]) -> None:
        """Events in turn: tasks [N], x [N, D], labels [N], asked [N], said [N, C], which is filled."""
        begin, labels, ring = 0, events[2], found.ring
        while begin < len(labels):
            until = (ring.count // _EVERY + 1) * _EVERY
            rule = (_RULE, self.classify, self._seed, ring.count, until)
            taken, ring.count = kernels.forest_run(
                found.state, ring.x, ring.y, *rule, *(column[begin:] for column in events)
            )
            begin += taken
            if ring.count == until:
                found.remember_more()
                found.count_again()
                found.copy()
            if found.is_full:
                found.add_nodes()
            elif begin < len(labels) and self.classify and labels[begin] >= found.counts.shape[2]:
                found.add_classes(int(labels[begin]) + 1)

    @property
    def partitions(self) -> list[int]:
        """Of which it has a forest."""
        return sorted(self.parts)

    def partition(self, number: int) -> dict[str, npt.NDArray[Any]]:
        """A partition's trees as they were copied last, and the events since."""
        found = self.parts.get(number)
        if found is None:
            return {}
        since = dict(zip((_SINCE_X, _SINCE_Y), found.since, strict=True))
        return dict(zip(_NAMES, found.copied, strict=True)) | since | {_COUNT: np.array([found.ring.count])}

    def take_partition(self, number: int, arrays: Arrays, here: Renumbering, at: str) -> None:
        """Go on with these trees; raises SnapshotError where they are damaged.

        Where features or classes have other numbers here, columns and counts go to their places; where there is no
        capacity for a feature, the forest begins again.
        """
        mine = {name: array for name, array in arrays.items() if name.startswith("forest.")}
        if not mine:
            return
        found = self._again(mine, len(here.classes), at)
        if not here.same:
            found.copy()
            as_copied = dict(zip(_NAMES, found.copied, strict=True))
            renumbered = renumber_forest(as_copied, here, classify=self.classify, at=at)
            if renumbered is None:
                return
            found = _Trees.of(tuple(renumbered[name] for name in _NAMES))
            found.copy()
        self.parts[number] = found

    def forget_task(self, partition: int, task: str) -> None:
        """Grow the partition's forest again without the task's events, if it has any."""
        found = self.parts.get(partition)
        if found is None:
            return
        ring, tag = found.ring, as_numbers([task])[0]
        places = np.arange(max(ring.count - len(ring.y), 0), ring.count) % len(ring.y)
        kept = places[ring.x[places, 0] != tag]
        if kept.size == places.size:
            return
        del self.parts[partition]
        if kept.size:
            x, labels = ring.x[kept], ring.y[kept].astype(np.float64)
            again = _Trees.roots(int(labels[0]) + 1, x.shape[1] - 1, classify=self.classify)
            self._learn(again, _as_events(x, labels))
            again.copy()
            self.parts[partition] = again

    def forget_partition(self, number: int) -> None:
        """Its forest goes with it."""
        self.parts.pop(number, None)

    def _again(self, arrays: Arrays, classes: int, at: str) -> _Trees:
        """The trees of which ``partition`` made these arrays; raises SnapshotError where they are damaged."""
        check_forest(arrays, classes=max(classes, 1) if self.classify else 0, at=at)
        copied = tuple(arrays[name] for name in _NAMES)
        found = _Trees.of(copied)
        begin, count, x, y = found.ring.count, int(arrays[_COUNT][0]), arrays[_SINCE_X], arrays[_SINCE_Y]
        which = np.arange(begin, count) % _EVERY
        found.ring.widen(x.shape[1] - 1)
        self._learn(found, _as_events(x[which], y[which].astype(np.float64)))
        return found


def as_numbers(tasks: Sequence[str]) -> Floats:
    """Tags as numbers [N] in [0, 1), the same in every process: their CRC-32.

    >>> as_numbers(["a", ""])
    array([0.9090537, 0.       ], dtype=float32)
    """
    numbers = np.empty(len(tasks), np.float32)
    kernels.number_tags(list(tasks), numbers)
    return numbers


def _as_events(x: Floats, labels: Doubles) -> tuple[npt.NDArray[Any], ...]:
    """Events [N, 1 + D] of a ring, to be learned and not predicted."""
    return x[:, 0].copy(), x[:, 1:].copy(), labels, np.zeros(len(x), np.bool_), np.empty((len(x), 1))


def check_forest(arrays: Arrays, *, classes: int, at: str) -> None:
    """Refuse trees from elsewhere that compiled code could not walk; raises SnapshotError.

    Args:
        arrays: as of ``Forest.partition``.
        classes: there are no more than this; 0: these are targets.
        at: where they come from.
    """
    problem = _misfit(arrays) or _damage(arrays, classify=classes > 0) or _damage_since(arrays, classes)
    if problem:
        raise SnapshotError(f"{at}: a forest with {problem}: it is damaged")


def _misfit(arrays: Arrays) -> str:
    """What is wrong with types and shapes."""
    if set(arrays) != {*_NAMES, _SINCE_X, _SINCE_Y, _COUNT}:
        return f"arrays {', '.join(sorted(arrays))}"
    found = [arrays[name] for name in (*_NAMES, _SINCE_X, _SINCE_Y, _COUNT)]
    if [array.ndim for array in found] != _DIMENSIONS or [array.dtype.str for array in found] != _TYPES:
        return "arrays of other dimensions or types"
    capacity, outputs, width, since = found[0].shape[1], found[2].shape[2], found[7].shape[1], found[10].shape[1]
    counts, size = (_TREES, capacity, outputs), len(found[8])
    wanted = [(_TREES, capacity, _NODE), (_TREES, capacity), counts, counts, (_TREES, size), (_TREES, _TREE)]
    wanted += [(_MOMENTS,), (size, width), (size,), (1,), (_EVERY, since), (_EVERY,), (1,)]
    fits = [array.shape for array in found] == wanted and 0 < width <= since and capacity > 0 and outputs > 1
    fits &= size in range(LEAST, MOST + 1, _EVERY)
    return "" if fits else "arrays of other shapes"


def _damage(arrays: Arrays, *, classify: bool) -> str:
    """What is wrong with numbers of the trees that were copied."""
    nodes, _, counts, priors, links, trees, moments, x, y, count = (arrays[name] for name in _NAMES)
    capacity, events, used = nodes.shape[1], int(count[0]), trees[:, 0]
    if not all(np.isfinite(part).all() for part in (counts, priors, trees, moments)):
        return "counts that are no numbers"
    sizes = (used >= 1) & (used <= capacity) & (used == np.floor(used)) & (trees[:, 4] >= 0) & (trees[:, 4] <= _BLOCKS)
    if not sizes.all() or not 0 <= events < 2**31 or moments[3] not in range(x.shape[1] + 1):
        return "trees of another size than they say"
    feature, child = nodes[:, :, 0], nodes[:, :, 1]
    leads = (feature < x.shape[1]) & (child > np.arange(capacity)) & (child + 1 < used[:, None])
    inner = (feature >= 0) & (np.arange(capacity) < used[:, None])
    if (feature < -1).any() or (inner & ~leads).any():
        return "a node that leads nowhere"
    ahead = max(int(links.max()), int(nodes[:, :, 2].max())) >= max(events, 1)
    if ahead or min(int(links.min()), int(nodes[:, :, 2:].min())) < -1:
        return "links to events that have not been"
    kept, known = y[: min(events, len(y))], counts.shape[2]
    fits = _are_labels(kept, known if classify else 0) and (classify or known == 3)
    return "" if fits else "a label that it has no count of"


def _damage_since(arrays: Arrays, classes: int) -> str:
    """What is wrong with the events since the copy."""
    begin, end = int(arrays["forest.count"][0]), int(arrays[_COUNT][0])
    if not begin <= end <= (begin // _EVERY + 1) * _EVERY:
        return "more events than it has kept"
    labels = arrays[_SINCE_Y][np.arange(begin, end) % _EVERY]
    return "" if _are_labels(labels, classes) else "a label of a class that is not there"


def _are_labels(found: Floats, classes: int) -> bool:
    """Whether these are indices of so many classes; 0 classes: whether they are numbers."""
    if not classes:
        return bool(np.isfinite(found).all())
    return bool(((found >= 0) & (found < classes) & (found == np.floor(found))).all())


def renumber_forest(
    arrays: Arrays, here: Renumbering, *, classify: bool, at: str
) -> dict[str, npt.NDArray[Any]] | None:
    """Trees that were made where features and classes had other numbers: theirs here; None: one has no number here."""
    found = {name: array.copy() for name, array in arrays.items()}
    x, nodes, moments = found["forest.x"], found["forest.nodes"], found["forest.moments"]
    written = x.shape[1] - 1
    if written > len(here.slots) or (here.slots[:written] < 0).any():
        return None
    places = np.concatenate([[0], 1 + here.slots[:written]])  # the task keeps its column
    wide = np.full((len(x), int(places.max()) + 1), np.nan, np.float32)
    wide[:, places] = x
    found["forest.x"] = wide
    moments[3] = 1 + places[: int(moments[3])].max(initial=-1)
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
