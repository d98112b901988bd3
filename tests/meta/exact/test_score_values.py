"""What heads expect without learning: the numbers that decisions are made by."""

import numpy as np
import pytest

from streammeta.meta.base import Scaling
from streammeta.meta.exact.event_kernel import Few, score_values
from streammeta.meta.exact.heads import exact_heads
from streammeta.meta.names import Slot
from streammeta.meta.settings import LearnerSettings

ROWS, D = 6, 3


def learned():
    method = exact_heads(LearnerSettings(), "regression")
    theta = method.grow(method.init(), [Slot(name, None, D) for name in "abc"], [""])
    weights = method.compile(theta, Scaling(np.zeros(D, np.float32), np.ones(D, np.float32), 0.0, 1.0))
    phi = {name: np.zeros((ROWS, *shape), kind) for name, (shape, kind) in method.phi_layout(D, 1).items()}
    random = np.random.default_rng(0)
    rows = random.integers(ROWS - 1, size=80)  # the last one learns nothing
    xs, ys = random.standard_normal((80, D)).astype(np.float32), random.standard_normal(80).astype(np.float32)
    method.run(weights, phi, rows, xs, ys, 1)
    return method, weights, phi


def few(xs: np.ndarray) -> Few:
    """Events [M, D] by what is not missing in them."""
    there = ~np.isnan(xs)
    starts = np.concatenate([[0], there.sum(1).cumsum()])
    return Few(starts, np.ascontiguousarray(np.nonzero(there)[1]), xs[there])


def events(count: int) -> np.ndarray:
    """Events [count, D], a third of whose numbers are missing."""
    random = np.random.default_rng(1)
    xs = random.standard_normal((count, D)).astype(np.float32)
    xs[random.random(xs.shape) < 1 / 3] = np.nan
    return xs


def test_scores_are_the_predictions_and_doubts_leave_out_the_noise() -> None:
    """To the bit what `run` predicts; a row that is not there is one that learned nothing."""
    method, weights, phi = learned()
    before = {name: part.copy() for name, part in phi.items()}
    xs, rows = events(9 * ROWS), np.tile(np.arange(ROWS), 9)

    mean, doubt = score_values(weights, phi, rows, few(xs))

    said = method.run(weights, phi, rows, xs, np.full(9 * ROWS, np.nan, np.float32), 1)
    assert (said.mean[:, 0] == mean).all()
    assert ((doubt > 0) & (doubt < said.variance)).all()
    unknown = score_values(weights, phi, np.where(rows == ROWS - 1, -1, rows), few(xs))
    assert all((found == known).all() for found, known in zip(unknown, (mean, doubt), strict=True))
    assert all((phi[name] == part).all() for name, part in before.items())


def test_scores_have_the_same_bits_in_any_company() -> None:
    """Many decisions, or one; rows that are beside their like, or not."""
    _, weights, phi = learned()
    xs, rows = events(600), np.random.default_rng(2).integers(-1, ROWS, size=600)

    mean, doubt = score_values(weights, phi, rows, few(xs))

    alone = [score_values(weights, phi, rows[i : i + 1], few(xs[i : i + 1])) for i in range(600)]
    order = np.argsort(rows, kind="stable")
    sorted_ = score_values(weights, phi, rows[order], few(xs[order]))
    assert (np.concatenate([one[0] for one in alone]) == mean).all()
    assert (np.concatenate([one[1] for one in alone]) == doubt).all()
    assert (sorted_[0] == mean[order]).all()
    assert (sorted_[1] == doubt[order]).all()


def test_numbers_that_are_no_events_are_refused() -> None:
    """Columns that are not there would be read beyond the weights."""
    _, weights, phi = learned()
    for starts, columns in (([0, 1], [D]), ([0, 1], [-1]), ([0, 2], [1, 1]), ([0, 2], [1]), ([1, 1], [0])):
        wrong = Few(np.array(starts), np.array(columns), np.zeros(len(columns), np.float32))
        with pytest.raises(ValueError, match="do not fit"):
            score_values(weights, phi, np.zeros(1, np.int64), wrong)
