"""Moments as sums: kept for each partition, added up they are those of all events."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streammeta.engine.moments import Sums, added, mean_and_spread, no_sums, renumbered, total, wider
from streammeta.engine.sums import observed


def seen(values: np.ndarray) -> Sums:
    """Sums of a partition that saw these features [N, D], and their first one as the target."""
    nothing = no_sums(values.shape[1])
    return nothing._replace(features=observed(nothing.features, values), target=observed(nothing.target, values[:, :1]))


def test_sums_of_partitions_are_the_moments_of_all_their_events() -> None:
    """Else a member that sees a part of the stream would normalize it otherwise than one that sees all."""
    random = np.random.default_rng(0)
    values = np.stack([random.normal(1.7e9, 60, 900), random.normal(-1e-12, 1e-13, 900)], axis=1)
    parts = np.split(values, [10, 200, 201])

    found = total([seen(part) for part in parts])

    mean, spread = mean_and_spread(found.features)
    np.testing.assert_allclose(mean, values.mean(0), rtol=1e-12)
    np.testing.assert_allclose(spread, values.std(0), rtol=1e-6)
    np.testing.assert_allclose(mean_and_spread(found.target)[1], values[:, 0].std(), rtol=1e-6)


def test_adding_nothing_changes_no_bit() -> None:
    """A partition without events must not make two members differ."""
    one = seen(np.random.default_rng(1).normal(3, 2, (50, 2)))

    for found in (total([one]), total([no_sums(2), one]), total([one, no_sums(0)])):
        for ours, theirs in zip((*one.features, *one.target), (*found.features, *found.target), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_missing_values_and_features_that_one_partition_never_saw_count_for_nothing() -> None:
    """NaN is missing, and a feature of one partition only has that partition's moments."""
    one = seen(np.array([[1.0, np.nan], [3.0, 5.0]]))
    other = seen(np.array([[2.0, np.nan, 7.0]]))

    found = total([one, other]).features

    np.testing.assert_array_equal(found.counts, [3, 1, 1])
    np.testing.assert_array_equal(found.mean, [2, 5, 7])
    np.testing.assert_array_equal(found.squares, [2, 0, 0])


def test_sums_of_another_order_of_slots_are_the_same_in_ours() -> None:
    """Two members see features in different orders, and one may have no room for all."""
    sums = seen(np.array([[1.0, 10.0, 100.0], [3.0, 30.0, 300.0]]))

    found = renumbered(sums, np.array([2, -1, 0]), 4)

    np.testing.assert_array_equal(found.features.mean, [200, 0, 2, 0])
    np.testing.assert_array_equal(found.crowd.tasks, np.zeros(4))
    np.testing.assert_array_equal(wider(sums, 2).features.mean, sums.features.mean)


@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=2), min_size=20, max_size=60), st.integers(1, 19))
def test_running_moments_are_those_of_numpy_in_any_grouping(rows: list[list[float]], cut: int) -> None:
    """Normalization must not depend on polls either, and must be right (but for outliers, cut on purpose)."""
    xs = np.array(rows)
    nothing = no_sums(2).features

    whole, parts = observed(nothing, xs), observed(observed(nothing, xs[:cut]), xs[cut:])

    np.testing.assert_array_equal(np.stack(whole), np.stack(parts))
    if (np.abs(xs[16:] - xs[:16].mean(0)) < 5 * xs[:16].std(0)).all():
        np.testing.assert_allclose(whole.mean, xs.mean(0), rtol=1e-6, atol=1e-3)


def test_one_wild_value_moves_moments_no_further_than_ten_spreads() -> None:
    """One broken sensor value must not flatten a feature for all tasks."""
    calm = np.random.default_rng(2).normal(0, 1, (400, 1))
    before = observed(no_sums(1).features, calm)

    after = observed(before, np.array([[1e30]]))

    assert mean_and_spread(after)[1][0] < 1.3
    assert added(before, after).counts[0] == 801


@pytest.mark.parametrize("value", [0.1, 1.7e9 + 1 / 3, -1e-30])
def test_a_constant_has_no_spread_and_a_tiny_unit_has_one(value: float) -> None:
    """Rounding divided by itself would be noise of full size; a unit of 1e-30 is a unit like another."""
    constant = observed(no_sums(1).features, np.full((100, 1), value))
    halves = added(constant, observed(no_sums(1).features, np.full((7, 1), value)))
    varied = observed(no_sums(1).features, np.array([[value], [2 * value]]))

    assert mean_and_spread(constant)[1][0] == mean_and_spread(halves)[1][0] == 0
    assert mean_and_spread(varied)[1][0] == pytest.approx(abs(value) / 2)


def test_sums_are_the_same_after_they_were_written_down() -> None:
    """They travel with their partition."""
    sums = seen(np.random.default_rng(3).normal(size=(20, 3)))

    again = Sums.load(sums.dump())

    for ours, theirs in zip(sums, again, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
