"""streammeta.engine.drift.changepoint: a belief about when a level last changed, and whether it rose."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
from river import drift, dummy

from streammeta.engine.drift.changepoint import ChangePoint


def signals(detector, values):
    """After which of the values the detector signals."""
    found = []
    for at, value in enumerate(values):
        detector.update(value)
        if detector.drift_detected:
            found.append(at)
    return found


def flips(*phases, seed=0):
    """Errors of 0 and 1: phases of (how many, how often 1)."""
    random = np.random.default_rng(seed)
    return np.concatenate([random.random(count) < rate for count, rate in phases]).astype(float).tolist()


def partitions(values, hazard):
    """Every way to cut the values into runs: its probability together with them, and where its last run begins."""
    for cuts in range(2 ** len(values)):
        starts = [0, *[i for i in range(len(values)) if cuts >> i & 1]]
        weight = hazard ** (len(starts) - 1) * (1 - hazard) ** (len(values) - len(starts) + 1)
        for begin, end in pairwise([*starts, len(values)]):
            for at in range(begin, end):
                weight *= level(values[begin:at]) if values[at] else 1 - level(values[begin:at])
        yield weight, starts[-1], len(starts) > 1


def level(run):
    """What is expected after a run of coin flips, from a uniform prior."""
    return (1 + sum(run)) / (2 + len(run))


def risen(values, hazard):
    """The belief that the level rose, by enumeration."""
    total = rose = 0.0
    for weight, last, changed in partitions(values, hazard):
        parts = [(part, level(values[begin:last])) for part, begin, _ in partitions(values[:last], hazard)]
        before = sum(part * mean for part, mean in parts) / sum(part for part, _ in parts)
        total += weight
        rose += weight * (changed and level(values[last:]) > before)
    return rose / total


@pytest.mark.parametrize(
    "values", [[1], [0, 1], [0, 0, 1, 1], [1, 0, 0, 1, 1, 1], [1, 1, 1, 0, 0, 0], [0, 1, 0, 0, 1, 1, 1]]
)
def test_the_belief_is_that_of_all_partitions_of_the_stream(values):
    """The recursion is exact; a slip in it (a hazard applied twice, a level taken too late) still detects, but worse."""
    detector = ChangePoint(hazard=0.1, threshold=1)
    detector._dispersion[:] = 1e12  # coin flips: φ = 1, whatever comes

    for value in values:
        detector.update(value)

    assert detector.belief == pytest.approx(risen(values, 0.1), rel=1e-9)


def test_a_rise_is_found_soon_a_fall_never():
    """A learner that becomes better must not be told to begin again."""
    assert signals(ChangePoint(), flips((200, 0.1), (60, 0.6)))[-1] in range(200, 215)
    assert not signals(ChangePoint(), flips((200, 0.9), (200, 0.2)))


def test_a_rise_is_signalled_once_and_the_next_one_again():
    """After a signal the new level is the one to compare with; without that every event would signal."""
    found = signals(ChangePoint(), flips((150, 0.05), (150, 0.4), (100, 0.95), seed=1))

    assert len(found) == 2
    assert 150 <= found[0] < 160
    assert 300 <= found[1] < 320


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.2, 0.5, 1.0])
def test_a_steady_stream_is_left_in_peace(rate):
    """At most three false signals in a thousand, whatever the rate of errors."""
    assert sum(len(signals(ChangePoint(), flips((2000, rate), seed=seed))) for seed in range(3)) <= 18


def test_values_that_scatter_little_tell_sooner():
    """The dispersion is measured: a rise from 0.30 to 0.45 drowns in coin flips, and stands out of steady losses."""
    random = np.random.default_rng(0)
    steady = np.concatenate([0.30 + 0.03 * random.random(100), 0.45 + 0.03 * random.random(100)]).tolist()

    found = signals(ChangePoint(), steady)

    assert found
    assert 100 <= found[0] < 120
    assert [at for at in signals(ChangePoint(), flips((100, 0.3), (100, 0.45))) if 100 <= at < 120] == []


def test_the_belief_is_a_probability_and_of_the_likeliest_runs_only():
    """Pruning drops weight; what is left must add up again, on streams of any length."""
    detector = ChangePoint(runs=4, hazard=0.05, threshold=1)

    for value in np.random.default_rng(1).random(5000).tolist():
        detector.update(value)
        assert 0 <= detector.belief <= 1

    assert detector._runs[:, 0].sum() == pytest.approx(1)


@pytest.mark.parametrize("values", [[0.0] * 20_000 + [1.0] * 9, [1.0] * 20_000 + [0.0] * 50, [0.0, 1.0] * 10_000])
def test_certainty_does_not_end_in_numbers_that_are_none(values):
    """After long certainty the likelihood of a surprise underflows in a careless form, and NaN stays for good."""
    detector = ChangePoint(hazard=1e-9, threshold=1)

    signals(detector, values)

    assert np.isfinite(detector._runs).all()
    assert detector._runs[:, 0].sum() == pytest.approx(1)


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan"), float("inf")])
def test_a_value_outside_of_the_unit_interval_is_refused_and_changes_nothing(value):
    """A loss that was not scaled would make nonsense that looks like a belief."""
    detector = ChangePoint()
    detector.update(0.5)
    before = detector._runs.copy()

    with pytest.raises(ValueError, match="wanted a number from 0 to 1"):
        detector.update(value)

    assert (detector._runs == before).all()


@pytest.mark.parametrize("wrong", [{"hazard": 0}, {"hazard": 0.6}, {"threshold": 0}, {"threshold": 1.1}, {"runs": 1}])
def test_settings_out_of_range_are_refused(wrong):
    """A hazard of 0 never finds anything, and divides by zero."""
    with pytest.raises(ValueError, match="wanted hazard in"):
        ChangePoint(**wrong)


def test_it_is_what_river_wants_of_a_detector():
    """Clones start again with the same settings, pickles go on, and River's own wrappers take it."""
    detector = ChangePoint(hazard=0.01, runs=8)
    found = signals(detector, flips((100, 0.1), (4, 1.0)))
    again = pickle.loads(pickle.dumps(detector))  # noqa: S301  our own bytes; River's users pickle
    fresh = detector.clone()

    assert fresh._get_params() == {"hazard": 0.01, "threshold": 0.9, "runs": 8}
    assert fresh.belief == 0
    assert signals(fresh, flips((100, 0.1), (4, 1.0))) == found
    assert signals(again, [1.0, 0.0]) == signals(detector, [1.0, 0.0])
    assert again.belief == detector.belief
    assert detector._memory_usage
    model = drift.DriftRetrainingClassifier(dummy.PriorClassifier(), ChangePoint(), train_in_background=False)
    for label in [True] * 50 + [False] * 50:
        model.learn_one({"a": 1.0}, label)
    assert model.predict_one({"a": 1.0}) is False
