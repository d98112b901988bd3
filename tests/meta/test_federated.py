"""θ from members that keep their events: what is clipped, what noise is added, and what is made of all of it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from streammeta.meta.base import Episodes, MetaState, Theta
from streammeta.meta.federated import (
    SystemNoise,
    averaged,
    clipped,
    local_update,
    nesterov_step,
    private_gradient,
)
from streammeta.meta.outer import start_outer


class NoNoise:
    """For what is to be exact."""

    def normal(self, count: int) -> np.ndarray:
        return np.zeros(count)

    def sampled(self, count: int, _rate: float) -> np.ndarray:
        return np.ones(count, np.bool_)


class Ones(NoNoise):
    """Noise that shows where it went."""

    def normal(self, count: int) -> np.ndarray:
        return np.ones(count)


def segments(*slopes: tuple[float, float]) -> Episodes:
    """Of each task one event, whose features are the gradient of its loss."""
    x = np.array(slopes, np.float32).reshape(1, len(slopes), 1, 2)
    one = np.ones(x.shape[:3], np.float32)
    return Episodes(x, one, one, one)


def by_features(theta: Theta, episodes: Episodes, device: str) -> tuple[float, Theta]:
    """The gradient of x · w, averaged over tasks."""
    return 1.0, {"w": episodes.x.mean((0, 1, 2))}


def state(*w: float) -> MetaState:
    return start_outer({"w": np.array(w, np.float32)})


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=8), st.floats(1e-3, 1e3))
def test_what_is_clipped_is_finite_and_no_longer_than_the_bound(numbers: list[float], bound: float) -> None:
    """One NaN, infinity or 1e308 in an update would else be in θ of everybody."""
    found = clipped(np.array(numbers), bound)

    assert np.isfinite(found).all()
    assert math.hypot(*found) <= bound * (1 + 1e-12)
    if np.isfinite(numbers).all() and math.hypot(*numbers) <= bound * (1 - 1e-12):
        np.testing.assert_allclose(found, numbers, rtol=1e-12)


def test_each_task_counts_by_its_own_clipped_gradient() -> None:
    """Clipped after the sum, one task could say anything. By hand: (3, 4) → (0.6, 0.8), (0, 0.5) stays."""
    gradient = private_gradient(by_features, bound=1.0, multiplier=0.0, expected=2.0, noise=NoNoise())

    _, found = gradient(state(0.0, 0.0).theta, segments((3.0, 4.0), (0.0, 0.5)), "cpu")

    np.testing.assert_allclose(found["w"], [0.3, 0.65], rtol=1e-6)


@pytest.mark.parametrize("task", [(1e30, -1e30), (float("nan"), 0.0), (float("inf"), 0.0), (0.2, 0.1)])
def test_a_task_more_moves_the_sum_by_at_most_the_bound(task: tuple[float, float]) -> None:
    """The sensitivity, on which all of the accounting rests."""
    gradient = private_gradient(by_features, bound=0.5, multiplier=0.0, expected=1.0, noise=NoNoise())
    theta, others = state(0.0, 0.0).theta, ((1.0, 2.0), (-0.1, 0.1))

    without, with_it = (gradient(theta, segments(*tasks), "cpu")[1]["w"] for tasks in (others, (*others, task)))

    assert np.linalg.norm(with_it - without) <= 0.5 * (1 + 1e-6)


def test_noise_has_the_multiplier_times_the_bound_also_without_any_task() -> None:
    """A member without tasks that sent zeros would say so to everybody."""
    gradient = private_gradient(by_features, bound=0.5, multiplier=3.0, expected=2.0, noise=Ones())
    nobody = Episodes(*(part[:, :0] for part in segments((1.0, 1.0))))

    assert gradient(state(0.0, 0.0).theta, nobody, "cpu")[1]["w"].tolist() == [0.75, 0.75]


def test_the_systems_noise_is_normal_and_never_the_same() -> None:
    """By its moments and by Kolmogorov and Smirnov; and no seed makes it again."""
    noise = SystemNoise()
    one, other = noise.normal(20_000), noise.normal(20_000)

    assert kstest(one, "norm").pvalue > 1e-6
    assert np.isfinite(one).all()
    assert not (one == other).any()
    assert noise.sampled(20_000, 0.3).mean() == pytest.approx(0.3, abs=0.025)
    assert noise.sampled(1_000, 1.0).all()


def test_local_steps_change_nothing_of_what_they_began_with_and_are_clipped() -> None:
    """θ as published must stay as it is: it is what the next round is compared with."""
    before = state(1.0, -1.0)

    found = local_update(before, [segments((1.0, 0.0))] * 3, by_features, rate=0.5, bound=0.25)

    assert before.theta["w"].tolist() == [1.0, -1.0]
    np.testing.assert_allclose(found.delta, [-0.25, 0.0], atol=1e-7)  # three steps of Adam along one axis: −1.5
    assert found.norm == pytest.approx(1.5, rel=1e-4)
    assert found.state.updates == 3


def test_a_local_step_that_is_not_finite_is_left_out() -> None:
    """One bad window must not end a member's part in θ."""
    found = local_update(state(0.0, 0.0), [segments((float("nan"), 0.0))], by_features, rate=0.5, bound=1.0)

    assert found.delta.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("poison", [np.array([1e300, 0.0]), np.array([np.nan, 1.0]), np.array([-np.inf, 0.0])])
def test_a_poisoned_update_moves_the_mean_by_no_more_than_the_bound(poison: np.ndarray) -> None:
    """A member may lie: the trainer clips what was sent, whatever the member says that it did."""
    honest = [np.array([0.1, 0.2]), np.array([0.0, 0.1])]

    without = averaged([*honest, np.zeros(2)], [1.0, 1.0, 1.0], bound=0.5)
    found = averaged([*honest, poison], [1.0, 1.0, 1.0], bound=0.5)

    assert np.linalg.norm(found - without) <= 0.5 / 3 + 1e-12


def test_with_full_rate_and_no_momentum_the_outer_step_is_fedavg() -> None:
    """By hand: θ + the weighted mean of changes."""
    before = state(1.0, 1.0)

    after = nesterov_step(
        before, averaged([np.array([1.0, 0.0]), np.array([0.0, 3.0])], [1.0, 2.0], 10.0), rate=1.0, momentum=0.0
    )

    np.testing.assert_allclose(after.theta["w"], [4 / 3, 3.0], rtol=1e-6)
    assert after.updates == 1
    assert before.theta["w"].tolist() == [1.0, 1.0]


def test_the_outer_step_is_that_of_torch_with_nesterov() -> None:
    """DiLoCo's outer optimizer, as everybody has it: SGD(lr=0.7, momentum=0.9, nesterov=True) on −Δ."""
    torch = pytest.importorskip("torch")
    ours, theirs = state(1.0, -2.0), torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = torch.optim.SGD([theirs], lr=0.7, momentum=0.9, nesterov=True)

    for delta in ([0.5, 0.1], [-0.2, 0.3], [0.05, -1.0]):
        ours = nesterov_step(ours, np.array(delta), rate=0.7, momentum=0.9)
        theirs.grad = -torch.tensor(delta)
        optimizer.step()

    np.testing.assert_allclose(ours.theta["w"], theirs.detach().numpy(), rtol=1e-5)
