"""What heads expect without learning: the numbers that decisions are made by."""

import numpy as np

from streammeta.meta.base import Scaling
from streammeta.meta.exact.event_kernel import score_values
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


def test_scores_are_the_predictions_and_doubts_leave_out_the_noise() -> None:
    """To the bit what `run` predicts; a row that is not there is one that learned nothing."""
    method, weights, phi = learned()
    before = {name: part.copy() for name, part in phi.items()}
    xs = np.random.default_rng(1).standard_normal((9, 1, D)).astype(np.float32)
    rows = np.tile(np.arange(ROWS), (9, 1))
    none = np.full(9, np.nan, np.float32)

    mean, doubt = score_values(weights, phi, rows, xs)

    for k in range(ROWS):
        said = method.run(weights, phi, rows[:, k].copy(), xs[:, 0].copy(), none, 1)
        assert (said.mean[:, 0] == mean[:, k]).all()
        assert ((doubt[:, k] > 0) & (doubt[:, k] < said.variance)).all()
    unknown = score_values(weights, phi, np.full((9, 2), -1), xs)
    assert all((found == known[:, -1:]).all() for found, known in zip(unknown, (mean, doubt), strict=True))
    assert all((phi[name] == part).all() for name, part in before.items())


def test_scores_have_the_same_bits_in_any_company() -> None:
    """One event for all actions, or the same one for each; many decisions, or one."""
    _, weights, phi = learned()
    xs = np.random.default_rng(1).standard_normal((150, 1, D)).astype(np.float32)
    rows = np.random.default_rng(2).integers(-1, ROWS, size=(150, 4))

    mean, doubt = score_values(weights, phi, rows, xs)

    each = score_values(weights, phi, rows, np.repeat(xs, 4, axis=1))
    alone = [score_values(weights, phi, rows[i : i + 1], xs[i : i + 1]) for i in range(150)]
    assert (each[0] == mean).all()
    assert (each[1] == doubt).all()
    assert (np.concatenate([one[0] for one in alone]) == mean).all()
    assert (np.concatenate([one[1] for one in alone]) == doubt).all()
