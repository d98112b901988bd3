"""Seeded streams that ``streammeta simulate`` does not make: trees, boards, moving clusters, waves, walks of labels.

Each takes the number of events and a seed, and spreads its drifts over the stream, so that a short one has as many as
a long one.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.random import Generator, default_rng

from benchmarks.suite.table import Floats, Table

__all__ = [
    "board",
    "categories",
    "clusters",
    "late_columns",
    "missing",
    "oscillating",
    "periodic",
    "piecewise",
    "planes",
    "rare",
    "scaled_tasks",
    "sine",
    "task_clusters",
    "tree",
    "waveform",
    "wide",
]

Drift = Literal["abrupt", "gradual", "recurring", "none"]
_Concept = Callable[[Floats], Floats]  # xs [N, D] -> labels [N]


def _which(events: int, concepts: int, drift: Drift, rng: Generator) -> np.ndarray:
    """The number of the concept in force at each event [N]; a recurring stream passes through its concepts twice."""
    if drift == "none":
        return np.zeros(events, np.int64)
    stretches = 2 * concepts if drift == "recurring" else concepts
    place = np.arange(events) * stretches / events
    if drift == "gradual":  # the change takes half of a stretch
        place = place + (rng.random(events) - 0.5) * 0.5
    return np.clip(np.floor(place), 0, stretches - 1).astype(np.int64) % concepts


def _labelled(xs: Floats, concepts: Sequence[_Concept], which: np.ndarray) -> Floats:
    ys = np.zeros(len(xs))
    for number, concept in enumerate(concepts):
        here = which == number
        ys[here] = concept(xs[here])
    return ys


def _random_tree(rng: Generator, features: int, classes: int, depth: int) -> _Concept:
    """A complete tree with random splits inside its cells; every leaf has a random class."""

    def cell(low: Floats, high: Floats, left: int) -> _Concept:
        if left == 0:
            label = float(rng.integers(classes))
            return lambda xs: np.full(len(xs), label)
        d = int(rng.integers(features))
        cut = low[d] + (high[d] - low[d]) * rng.uniform(0.3, 0.7)
        below, above = high.copy(), low.copy()
        below[d] = above[d] = cut
        one, other = cell(low, below, left - 1), cell(above, high, left - 1)
        return lambda xs: np.where(xs[:, d] <= cut, one(xs), other(xs))

    return cell(np.zeros(features), np.ones(features), depth)


def tree(
    events: int, seed: int, *, features: int, classes: int, depth: int, drift: Drift, tasks: int = 1, noise: float = 0.0
) -> Table:
    """A random tree says the class; tasks see it with their classes moved on by a number of their own."""
    rng = default_rng((seed, 1))
    xs = rng.random((events, features))
    concepts = [_random_tree(rng, features, classes, depth) for _ in range(3)]
    ys = _labelled(xs, concepts, _which(events, 3, drift, rng))
    wrong = rng.random(events) < noise
    ys = np.where(wrong, rng.integers(classes, size=events), ys)
    if tasks == 1:
        return Table(xs, ys)
    task = rng.integers(tasks, size=events)
    return Table(xs, (ys + task % classes) % classes, [f"task-{t}" for t in task])


def board(events: int, seed: int, *, side: int, classes: int, stretches: int, tasks: int = 1) -> Table:
    """Squares of a board have classes; events stay in one square for a hundred, then move to another."""
    rng = default_rng((seed, 2))
    colours = rng.integers(classes, size=(stretches, side, side))
    stays = -(-events // 100)
    corner = rng.integers(side, size=(stays, 2)).repeat(100, axis=0)[:events]
    xs = (corner + rng.random((events, 2))) / side
    stretch = np.minimum(np.arange(events) * stretches // events, stretches - 1)
    ys = colours[stretch, corner[:, 0], corner[:, 1]].astype(float)
    if tasks == 1:
        return Table(xs, ys)
    task = rng.integers(tasks, size=events)
    return Table(xs, (ys + task % classes) % classes, [f"task-{t}" for t in task])


def clusters(events: int, seed: int, *, count: int, classes: int, features: int, moving: float, swaps: int) -> Table:
    """Gaussian clusters with a class each, that move at a steady pace, or whose classes change places."""
    rng = default_rng((seed, 3))
    centres, pace = rng.random((count, features)), rng.normal(size=(count, features))
    pace *= moving / np.linalg.norm(pace, axis=1, keepdims=True)
    labels = np.arange(count) % classes
    order = np.stack([rng.permutation(labels) for _ in range(swaps + 1)])
    here = rng.integers(count, size=events)
    path = centres[here] + pace[here] * (np.arange(events) / events)[:, None]
    path = 1 - np.abs(np.mod(path, 2) - 1)  # they bounce off the walls
    stretch = np.arange(events) * (swaps + 1) // events
    return Table(path + rng.normal(scale=0.05, size=(events, features)), order[stretch, here].astype(float))


def sine(events: int, seed: int) -> Table:
    """Above or below a sine; the side, then the place, changes."""
    rng = default_rng((seed, 4))
    xs = rng.random((events, 4))  # two columns are without meaning
    curves: list[_Concept] = [
        lambda x: (x[:, 1] > np.sin(np.pi * x[:, 0])).astype(float),
        lambda x: (x[:, 1] <= np.sin(np.pi * x[:, 0])).astype(float),
        lambda x: (x[:, 1] > 0.5 + 0.3 * np.sin(3 * np.pi * x[:, 0])).astype(float),
        lambda x: (x[:, 1] <= 0.5 + 0.3 * np.sin(3 * np.pi * x[:, 0])).astype(float),
    ]
    return Table(xs, _labelled(xs, curves, _which(events, 4, "abrupt", rng)))


def waveform(events: int, seed: int) -> Table:
    """Breiman's three waves of 21 points with noise; two waves of three make a class; the noise grows."""
    rng = default_rng((seed, 5))
    at = np.arange(21)
    waves = np.stack([np.maximum(6 - np.abs(at - centre), 0) for centre in (6, 14, 10)])
    pairs = np.array([[0, 1], [0, 2], [1, 2]])
    label, mix = rng.integers(3, size=events), rng.random((events, 1))
    clean = mix * waves[pairs[label, 0]] + (1 - mix) * waves[pairs[label, 1]]
    spread = np.linspace(0.7, 1.6, events)[:, None]
    return Table(clean + spread * rng.normal(size=clean.shape), label.astype(float))


def periodic(events: int, seed: int, *, classes: int, period: int) -> Table:
    """Labels walk round their classes, some events each; features say little of them."""
    rng = default_rng((seed, 6))
    walk = rng.permutation(classes)
    ys = walk[(np.arange(events) // period) % classes]
    xs = rng.normal(size=(events, 4))
    xs[:, 0] += 0.5 * (ys % 2)
    return Table(xs, ys.astype(float))


def planes(events: int, seed: int) -> Table:
    """A plane of ten features that turns all the time, with noise."""
    rng = default_rng((seed, 7))
    ends = rng.normal(size=(4, 10))
    place = np.linspace(0, 2.999, events)
    step, rest = place.astype(int), (place % 1)[:, None]
    weights = ends[step] * (1 - rest) + ends[step + 1] * rest
    xs = rng.normal(size=(events, 10))
    return Table(xs, (xs * weights).sum(axis=1) + 0.3 * rng.normal(size=events))


def piecewise(events: int, seed: int) -> Table:
    """A random tree says the target; it changes abruptly."""
    rng = default_rng((seed, 8))
    xs = rng.random((events, 5))
    concepts = [_random_tree(rng, 5, 50, 5) for _ in range(3)]
    ys = _labelled(xs, concepts, _which(events, 3, "abrupt", rng))
    return Table(xs, ys + 0.5 * rng.normal(size=events))


def oscillating(events: int, seed: int) -> Table:
    """A target that swings with time on top of what two features say."""
    rng = default_rng((seed, 9))
    xs, time = rng.normal(size=(events, 4)), np.arange(events)
    swing = 3 * np.sin(2 * np.pi * time / 100)
    return Table(xs, swing + xs[:, 0] * xs[:, 1] + xs[:, 2] + 0.2 * rng.normal(size=events))


def task_clusters(events: int, seed: int) -> Table:
    """Forty tasks of four kinds; each kind has a curved border of its own, which changes once."""
    rng = default_rng((seed, 10))
    task = rng.integers(40, size=events)
    xs = rng.normal(size=(events, 6))
    borders = rng.normal(size=(2, 4, 6, 6))
    late = (np.arange(events) >= events // 2).astype(int)
    form = np.einsum("nd,nde,ne->n", xs, borders[late, task % 4], xs)
    return Table(xs, (form > 0).astype(float), [f"task-{t}" for t in task])


def scaled_tasks(events: int, seed: int, *, says: Literal["classes", "values"]) -> Table:
    """Thirty tasks with one concept, each of which measures its features in units and from a zero of its own."""
    rng = default_rng((seed, 11))
    task, z = rng.integers(30, size=events), rng.normal(size=(events, 5))
    unit, zero = np.exp(rng.normal(scale=1.5, size=(30, 5))), 10 * rng.normal(size=(30, 5))
    score = z[:, 0] * z[:, 1] + np.sin(2 * z[:, 2]) + 0.5 * z[:, 3]
    if says == "classes":
        ys = (score > 0).astype(float)
    else:
        own = np.exp(rng.normal(size=30))
        ys = own[task] * (score + 0.2 * rng.normal(size=events))
    return Table(z * unit[task] + zero[task], ys, [f"task-{t}" for t in task])


def rare(events: int, seed: int) -> Table:
    """One event in a hundred is of the class that matters: a small ball, which moves once."""
    rng = default_rng((seed, 12))
    ys = (rng.random(events) < 0.01).astype(float)
    xs = rng.normal(size=(events, 6))
    centre = np.where(np.arange(events)[:, None] < events // 2, 1.5, -1.5)
    return Table(np.where(ys[:, None] > 0, centre + 0.4 * xs, xs), ys)


def missing(table: Table, seed: int, share: float) -> Table:
    """The same events, each value missing by chance."""
    rng = default_rng((seed, 13))
    xs = np.where(rng.random(table.xs.shape) < share, np.nan, table.xs)
    return Table(xs, table.ys, table.tasks, table.names, table.categories)


def late_columns(table: Table, events: int) -> Table:
    """The same events; the second half of the features, and the last class, come after a third of the stream."""
    early = np.arange(len(table.ys)) < events // 3
    xs = table.xs.copy()
    xs[np.ix_(early, np.arange(table.xs.shape[1]) >= table.xs.shape[1] // 2)] = np.nan
    last = table.ys.max()
    kept = ~(early & (table.ys == last))
    return Table(xs[kept], table.ys[kept], None, table.names, table.categories)


def wide(events: int, seed: int) -> Table:
    """Three hundred features, of which five decide the class."""
    rng = default_rng((seed, 14))
    xs = rng.normal(size=(events, 300))
    chosen = rng.permutation(300)[:5]
    score = xs[:, chosen] @ rng.normal(size=5) + xs[:, chosen[0]] * xs[:, chosen[1]]
    return Table(xs, (score > 0).astype(float))


def categories(events: int, seed: int) -> Table:
    """Two categories, of two hundred and of thirty values, and two numbers; some weights change halfway."""
    rng = default_rng((seed, 15))
    first = np.minimum(rng.zipf(1.3, size=events) - 1, 199)
    second, xs = rng.integers(30, size=events), rng.normal(size=(events, 2))
    weights = rng.normal(scale=1.5, size=(2, 200))
    weights[1, 40:] = weights[0, 40:]
    late = (np.arange(events) >= events // 2).astype(int)
    score = weights[late, first] + np.sin(second) + xs[:, 0] * np.where(second % 2, 1, -1)
    table = np.column_stack([first, second, xs])
    return Table(table, (score > 0).astype(float), None, ["shop", "kind", "x0", "x1"], (0, 1))
