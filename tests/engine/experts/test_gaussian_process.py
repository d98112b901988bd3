"""The expert for few events."""

from contextlib import closing
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from streammeta.engine import Engine, EngineSettings
from streammeta.engine.columns import Columns
from streammeta.engine.experts.base import Case, Cases
from streammeta.engine.experts.forest import Forest, as_numbers
from streammeta.engine.experts.gaussian_process import GaussianProcess
from streammeta.engine.partitioned import Arrays, Renumbering
from streammeta.event import Event, Label, Origin
from streammeta.meta.base import Kind
from streammeta.native import _kernels as kernels
from streammeta.testing import check_expert
from tests.engine.experts.stopping import stopped

Doubles = npt.NDArray[np.float64]
CLASSES = 5
BOTH = pytest.mark.parametrize("kind", ["classification", "regression"])


class Pair:
    """The expert and the forest that it reads from, as the mixture asks them."""

    def __init__(self, kind: Kind) -> None:
        self.kind, self.forest = kind, Forest(kind, 0)
        self.process = GaussianProcess(kind, self.forest)

    def run(self, xs: Doubles, ys: Doubles, tasks: list[str], asked: npt.NDArray[np.bool_] | None = None) -> Doubles:
        n, outputs = len(ys), CLASSES if self.kind == "classification" else 1
        rows, ones = np.zeros(n, np.int64), np.ones(n)
        asked = np.ones(n, np.bool_) if asked is None else asked
        of = xs.astype(np.float32), rows, ys, asked, 0 * ones, ones, rows, np.arange(n), np.full((n, 2), -1)
        cases = Cases(tasks, *of, np.zeros((n, 0), np.int64))
        said = self.process.run(Columns(), cases, outputs)
        self.forest.run(Columns(), cases, outputs)
        return said


def stream(n: int, D: int, kind: Kind, seed: int) -> tuple[Doubles, Doubles, list[str]]:
    """Tasks with offsets, features on other scales, of which a tenth is missing, runs of labels."""
    random = np.random.default_rng(seed)
    xs = random.normal(size=(n, D)) * 10.0 ** random.uniform(-3, 3, D) + random.normal(size=D)
    of, tasks = random.normal(size=4), random.integers(0, 4, n)
    score = (xs[:, 0] - xs[:, 0].mean()) / xs[:, 0].std() + of[tasks] + 0.3 * random.normal(size=n)
    xs[random.random((n, D)) < 0.1] = np.nan
    ys = np.digitize(score, [-1, 0, 0.5, 2]).astype(float) if kind == "classification" else 1e3 + 50 * score
    return xs, ys, [f"t{task}" for task in tasks]


def by_definition(xs: Doubles, ys: Doubles, tasks: list[str], kind: Kind) -> Doubles:
    """What the docstring says, in double precision."""
    xs, ys = xs.astype(np.float32).astype(float), ys.astype(np.float32).astype(float)
    ends = [1, 2, 4, 8, 16, 32, 64, *range(128, len(ys) + 128, 128)]
    found = [np.zeros((1, CLASSES if kind == "classification" else 1))]
    for made, end in pairwise(ends):
        at = slice(max(made - 128, 0), min(end, len(ys)))
        if made < len(ys):
            found.append(opinions(xs[at], ys[at], tasks[at], made - at.start, kind))
    return np.concatenate(found)


def opinions(xs: Doubles, ys: Doubles, tasks: list[str], scaled: int, kind: Kind) -> Doubles:
    """Of these events but the first ``scaled``, by which features are chosen and scaled."""
    known = xs[:scaled]
    there = np.flatnonzero((~np.isnan(known)).sum(0) >= 2)
    z = np.nan_to_num((xs[:, there] - np.nanmean(known[:, there], 0)) / np.nanstd(known[:, there], 0)).clip(-6, 6)
    relevance = np.array(
        [relevance_of(column, ys[:scaled], kind) if scaled >= 8 else 1.0 for column in known[:, there].T]
    )
    best = np.sort(np.argsort(-relevance, kind="stable")[:24])
    z, relevance = z[:, best], relevance[best]
    equal = np.full(best.size, 1 / max(best.size, 1))
    r = 0.8 * relevance / relevance.sum() + 0.2 * equal if relevance.sum() > 0 else equal
    same = (np.array(tasks)[:, None] == np.array(tasks)).astype(float)
    order = np.array([tasks[:j].count(task) for j, task in enumerate(tasks)])
    recent = same * np.exp(-np.abs(order[:, None] - order) / 3)
    gap = z[:, None] - z
    laplace, squares = np.exp(-np.abs(gap) @ r / 0.6), np.exp(-(gap**2) @ equal / 0.4)
    covariances = [
        ((laplace + 0.3 + 0.7 * recent) / 2, 0.3),
        ((laplace + 0.3) / 1.3, 0.05),
        (((z * r) @ z.T + 0.3 + 0.7 * recent + 0.5 * same) / 2.5, 0.05),
        ((squares + 0.3) / 1.3, 0.05),
    ]
    by_kernel = of_classes if kind == "classification" else of_targets
    mean, spread = (0.0, 1.0) if kind == "classification" else (ys[:scaled].mean(), ys[:scaled].std() or 1.0)
    labels = ((ys - mean) / spread).clip(-8, 8) if kind == "regression" else ys
    said, right = map(np.array, zip(*(by_kernel(K, noise, labels) for K, noise in covariances), strict=True))
    found, evidence = [], np.zeros(4)
    for j in range(len(ys)):
        w = np.exp(evidence - evidence.max())
        found.append(mean + spread * (w @ said[:, j]) / w.sum())
        if not np.isnan(right[0, j]):
            evidence = 0.97 * evidence + right[:, j]
    return np.array(found[scaled:])


def of_classes(K: Doubles, noise: float, ys: Doubles) -> tuple[Doubles, Doubles]:
    """What one kernel says of each event after those before it, and the log likelihood of its label."""
    said, right = np.zeros((len(ys), CLASSES)), np.full(len(ys), np.nan)
    inverse = np.linalg.inv(np.linalg.cholesky(K + noise * np.eye(len(ys))))  # its corner is that of the corner
    for j in range(1, len(ys)):
        seen = np.unique(ys[:j]).astype(int)
        weights = inverse[:j, :j].T @ (inverse[:j, :j] @ K[:j, j])
        q = np.maximum(1 / seen.size + weights @ ((ys[:j, None] == seen) - 1 / seen.size), 0.01)
        said[j, seen] = q / q.sum()
        if ys[j] in seen:
            right[j] = np.log(max(said[j, int(ys[j])], 1e-3))
    return said, right


def of_targets(K: Doubles, noise: float, ys: Doubles) -> tuple[Doubles, Doubles]:
    """The same of targets in their spreads."""
    said, right = np.zeros((len(ys), 1)), np.zeros(len(ys))
    inverse = np.linalg.inv(np.linalg.cholesky(K + noise * np.eye(len(ys))))
    for j in range(len(ys)):
        weights = inverse[:j, :j].T @ (inverse[:j, :j] @ K[:j, j])
        said[j], v = weights @ ys[:j], K[j, j] + noise - weights @ K[:j, j]
        right[j] = -(min((ys[j] - said[j, 0]) ** 2 / v, 36) + np.log(v)) / 2
    return said, right


def relevance_of(x: Doubles, y: Doubles, kind: Kind) -> float:
    known = ~np.isnan(x)
    x, y_known = x[known] - x[known].mean(), y[known]
    if kind == "classification":
        explained = sum(x[y_known == c].sum() ** 2 / (y_known == c).sum() for c in np.unique(y_known))
    else:
        away = y_known - y.mean()
        explained = (x @ away) ** 2 / (away @ away) if away.any() else 0.0
    total = (x**2).sum()
    explained = min(float(explained), float(total))
    return float(explained / (total - explained + 0.1 * total))


@BOTH
def test_it_says_what_its_equations_say(kind: Kind) -> None:
    xs, ys, tasks = stream(300, 4, kind, 3)

    said, wanted = Pair(kind).run(xs, ys, tasks), by_definition(xs, ys, tasks, kind)

    np.testing.assert_allclose(said[1:], wanted[1:], rtol=1e-3, atol=2e-3 if kind == "classification" else 0.2)


@BOTH
def test_of_many_features_it_compares_the_most_relevant(kind: Kind) -> None:
    xs, ys, tasks = stream(150, 60, kind, 4)

    said, wanted = Pair(kind).run(xs, ys, tasks), by_definition(xs, ys, tasks, kind)

    np.testing.assert_allclose(said[1:], wanted[1:], rtol=1e-3, atol=2e-3 if kind == "classification" else 0.2)


@BOTH
def test_it_is_made_again_from_the_forests_events_to_the_bit(kind: Kind) -> None:
    xs, ys, tasks = stream(5000, 6, kind, 5)
    whole = Pair(kind)
    for begin, end in zip(
        [0, 1, 2, 3, 7, 127, 128, 129, 255, 256, 1030], [1, 2, 3, 7, 127, 128, 129, 255, 256, 1030, 5000], strict=True
    ):
        whole.process.forget_partition(0)
        again = whole.run(xs[begin:end], ys[begin:end], tasks[begin:end])
        straight = Pair(kind).run(xs[:end], ys[:end], tasks[:end])[begin:]
        np.testing.assert_array_equal(again, straight)


@BOTH
def test_how_events_are_put_together_changes_nothing(kind: Kind) -> None:
    xs, ys, tasks = stream(300, 3, kind, 6)
    ys[::7] = np.nan
    whole, parts = Pair(kind), Pair(kind)
    expected = whole.run(xs, ys, tasks)

    found = [parts.run(xs[i : i + 11], ys[i : i + 11], tasks[i : i + 11]) for i in range(0, 300, 11)]

    np.testing.assert_array_equal(np.concatenate(found), expected)


class WithForest(GaussianProcess):
    """With the forest that the mixture would ask after it."""

    def learn(self, columns: Columns, case: Case, y: float) -> None:
        super().learn(columns, case, y)
        self._forest.learn(columns, case, y)

    def partition(self, number: int) -> dict[str, npt.NDArray[Any]]:
        return self._forest.partition(number)

    def take_partition(self, number: int, arrays: Arrays, here: Renumbering, at: str) -> None:
        super().take_partition(number, arrays, here, at)
        self._forest.take_partition(number, arrays, here, at)


@BOTH
def test_an_expert_as_all_are(kind: Kind) -> None:
    check_expert(lambda: WithForest(kind, Forest(kind, 0)), kind)


@BOTH
@pytest.mark.parametrize("odd", ["all missing", "constant", "huge", "tiny", "labels alike", "an outlier"])
def test_what_it_says_stays_a_number(kind: Kind, odd: str) -> None:
    xs, ys, tasks = stream(400, 3, kind, 7)
    if odd == "all missing":
        xs[:] = np.nan
    elif odd == "constant":
        xs[:] = 7.0
    elif odd in ("huge", "tiny"):
        xs *= 1e30 if odd == "huge" else 1e-30
    elif odd == "labels alike":
        ys[:] = 3.0
    else:
        ys[50] = 4.0 if kind == "classification" else 1e16

    said = Pair(kind).run(xs, ys, tasks)[1:]

    assert np.isfinite(said).all()
    if kind == "classification":
        np.testing.assert_allclose(said.sum(1), 1, rtol=1e-4)


def test_of_more_classes_than_it_distinguishes_it_says_the_first() -> None:
    random = np.random.default_rng(8)
    labels = random.integers(0, 60, 600).astype(float)
    process, said = kernels.GaussianProcess(True), np.zeros((600, 60))
    xs = np.ascontiguousarray(labels[:, None] + 0.1 * random.normal(size=(600, 1)), np.float32)

    process.run(as_numbers(["t"] * 600), xs, labels, np.ones(600, np.bool_), said)

    assert not said[:, 32:].any()
    assert np.isfinite(said).all()


def test_a_forgotten_task_is_not_remembered() -> None:
    pair = Pair("classification")
    xs, ys, _ = stream(60, 2, "classification", 4)
    pair.run(xs, ys, ["t"] * 60)
    for one in (pair.process, pair.forest):
        one.forget_task(0, "t")

    assert (pair.run(xs[:1], np.full(1, np.nan), ["u"]) == 0).all()


def test_a_bad_label_is_an_error() -> None:
    with pytest.raises(ValueError, match="a label that is no class"):
        Pair("classification").run(np.zeros((1, 1)), -np.ones(1), ["t"])


def test_a_few_relevant_features_of_many_are_found_early_and_a_restore_goes_on() -> None:
    """Five of two hundred features matter: after a hundred labels, with members that stop and begin again."""
    random = np.random.default_rng(9)
    xs = random.normal(size=(600, 200))
    ys = (xs[:, :5].sum(1) > 0).astype(int)
    events = [
        Event(
            {f"f{d}": v for d, v in enumerate(x.tolist())},
            "",
            Origin("in", i % 2, i),
            y=int(y) if i % 3 else None,
            id=str(i),
        )
        for i, (x, y) in enumerate(zip(xs, ys, strict=True))
    ]
    turns = [
        one
        for i, event in enumerate(events)
        for one in ([event] if i % 3 else [event, Label(str(i), int(ys[i]), "", Origin("labels", i % 2, i))])
    ]
    experts, off = ["gaussian_process", "forest", "persistence"], {"meta": {"mode": "off"}}
    settings = EngineSettings.model_validate(off | {"learner": {"experts": experts}})
    without = EngineSettings.model_validate(off | {"learner": {"experts": experts[1:]}})
    with closing(Engine(without)) as other:
        rest = other.step(turns)
    expected, found = stopped(settings, turns, after=555)

    assert [one.probabilities for one in found] == [one.probabilities for one in expected]
    errors = [np.mean([one.error for one in every if one.error is not None][100:]) for every in (expected, rest)]
    assert errors[0] < 0.8 * errors[1]
