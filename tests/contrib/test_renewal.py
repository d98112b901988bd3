"""Units that are made again."""

import numpy as np

from streammeta.contrib.renewal import Renewal, renew_least
from streammeta.meta.outer import split
from tests.meta.test_plasticity import state, theta


def test_the_unit_that_adds_least_is_made_anew_and_no_prediction_jumps() -> None:
    """A fresh unit must not be heard before it has learned, and the optimizer must not push it where the old one went."""
    now = theta()
    now["w2"][0, 2], now["u"][0, 2] = 1e-4, 0
    now["w1"][1, :, 3], now["b1"][1, 3] = 0, 5  # always the same: adds nothing, whatever its weights
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 2), np.float32)

    after = renew_least(state(now), theta(), x)

    first = split(after.first, after.theta)
    for member, unit in [(0, 2), (1, 3)]:
        assert not np.array_equal(after.theta["w1"][member, :, unit], now["w1"][member, :, unit])
        assert not after.theta["w2"][member, unit].any()
        assert not after.theta["u"][member, unit].any()
        assert not first["w1"][member, :, unit].any()
        assert not first["w2"][member, unit].any()
        others = [other for other in range(4) if other != unit]
        np.testing.assert_array_equal(after.theta["w1"][member][:, others], now["w1"][member][:, others])
        assert first["w1"][member][:, others].min() == 1
    assert now["w2"][0, 2, 0] == 1e-4  # nothing given is changed
    assert np.array_equal(renew_least(state(now), theta(), x).theta["w1"], after.theta["w1"])  # and a seed repeats


def test_units_are_renewed_after_as_many_updates_as_set() -> None:
    """More often, and none would ever grow up."""
    now, x = theta(), np.random.default_rng(0).standard_normal((2, 3, 5, 2), np.float32)

    changed = [n for n in range(1, 9) if Renewal(4)(state(now, n), theta(), x).theta is not now]

    assert changed == [4, 8]
