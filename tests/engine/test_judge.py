"""What compiled loops say of predictions and labels, held against the formulas one event at a time."""

import math

import numpy as np
import pytest

from streammeta.engine.columns import Columns
from streammeta.engine.judge import count_events, judge

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("binary", [False, True])
def test_classes_are_judged_by_what_the_prediction_knew(binary: bool) -> None:
    """A late label is held against a prediction of fewer classes; one beyond them had no probability at all."""
    means = RANDOM.dirichlet(np.ones(4), 60)
    known, labels = RANDOM.integers(0, 5, 60), RANDOM.integers(0, 6, 60).astype(float)
    labels[::7] = math.nan

    found = judge(means, known, np.zeros(60), np.ones(60), labels, classify=True, binary=binary)

    for i, (p, k, y) in enumerate(zip(means.tolist(), known.tolist(), labels.tolist(), strict=True)):
        best = max(range(k), key=p.__getitem__) if k else -1
        assert found.best[i] == best  # type: ignore[index]
        if math.isnan(y):
            assert math.isnan(found.loss[i])
            assert math.isnan(found.error[i])
            assert math.isnan(found.watched[i])
            continue
        loss = -math.log(max(p[int(y)] if y < k else 0.0, 1e-6))
        assert found.loss[i] == pytest.approx(loss, rel=1e-14, abs=1e-15)
        assert found.error[i] == float(best != y)
        assert found.watched[i] == pytest.approx(float(best != y) if binary else 1 - math.exp(-loss), abs=1e-15)


@pytest.mark.parametrize("binary", [False, True])
def test_targets_are_judged_in_their_unit_and_watched_in_none(binary: bool) -> None:
    """A detector that saw a task's unit would fire at whoever counts in cents."""
    mean, variance, unit = RANDOM.normal(size=50), RANDOM.gamma(2, size=50), RANDOM.gamma(2, size=50) * 1e3
    labels = np.where(np.arange(50) % 5, RANDOM.normal(size=50) * 2, math.nan)
    variance[3] = 0.0

    found = judge(mean[:, None], np.ones(50, np.int64), variance, unit, labels, classify=False, binary=binary)

    for i, (m, v, u, y) in enumerate(zip(mean, variance, unit, labels, strict=True)):
        if math.isnan(y):
            assert math.isnan(found.loss[i])
            assert math.isnan(found.own_error[i])
            continue
        loss = 0.5 * ((y - m) ** 2 / max(v, 1e-200) + math.log(2 * math.pi * max(v, 1e-200)))
        assert found.loss[i] == pytest.approx(loss, rel=1e-13)
        assert found.own_loss[i] == pytest.approx(loss - math.log(u), rel=1e-13)
        assert (found.error[i], found.own_error[i]) == (abs(y - m), pytest.approx(abs(y - m) / u))
        if v > 0:
            squared = (y - m) ** 2 / v
            watched = float(squared > 1.6449**2) if binary else 1 - math.exp(-squared / 2)
            assert found.watched[i] == pytest.approx(watched, abs=1e-12)
        else:
            assert math.isnan(found.watched[i])


def test_events_are_counted_one_after_the_other() -> None:
    """Several events of a task in one call count as in several calls."""
    blank = {name: np.zeros(3, np.int64) for name in ("events", "labelled", "labels_since_drift")}
    columns = Columns(blank)
    columns |= {
        "labels_kept_at_drift": np.array([0, 2, 0]),
        "drifts": np.array([0, 1, 0]),
        "error": np.zeros(3),
        "seen_at": np.full(3, math.nan),
    }
    columns["labels_since_drift"][1] = 2
    rows, errors = np.array([0, 1, 0, 0, 1]), np.array([1.0, math.nan, 0.5, math.nan, 1.0])
    is_event, times = np.array([True, True, False, True, True]), np.array([5.0, math.nan, 9.0, 7.0, 8.0])

    age, since = count_events(columns, rows, is_event, times, errors)

    assert (age.tolist(), since.tolist()) == ([0, 0, 1, 2, 0], [-1, 0, -1, -1, 0])
    assert columns["events"].tolist() == [2, 2, 0]
    assert columns["labelled"].tolist() == [2, 1, 0]
    assert columns["labels_since_drift"].tolist() == [2, 3, 0]
    assert columns["error"].tolist() == [0.75, 1.0, 0.0]
    assert columns["seen_at"].tolist()[:2] == [7.0, 8.0]
