"""What private steps cost, beside closed forms and published values."""

import math
import sys

import numpy as np
import pytest

from streammeta.errors import ConfigError, SnapshotError
from streammeta.meta import privacy
from streammeta.meta.privacy import Budget, Spent, added, epsilon

pytest.importorskip("dp_accounting")


def test_steps_of_all_tasks_cost_what_the_closed_form_says() -> None:
    """Without sampling, T steps of noise z have Rényi divergence T α / (2 z²): min over α, by Canonne et al. (2020)."""
    z, steps, delta = 4.0, 50, 1e-5
    alpha = np.arange(2, 512)
    closed = steps * alpha / (2 * z**2) + np.log1p(-1 / alpha) - (math.log(delta) + np.log(alpha)) / (alpha - 1)

    assert epsilon((Spent(z, 1.0, steps),), delta) == pytest.approx(closed.min(), rel=0.02)
    assert epsilon((Spent(z, 1.0, steps),), delta) <= closed.min() + 1e-9


@pytest.mark.parametrize(
    ("z", "q", "steps", "published"),
    [
        (4.0, 0.01, 10_000, 1.26),  # Abadi et al. (2016), section 3.2: moments accountant, δ = 1e-5
        (1.1, 256 / 60_000, 60 * 60_000 // 256, 3.01),  # TensorFlow Privacy's MNIST tutorial, 60 epochs
    ],
)
def test_sampled_steps_cost_no_more_than_was_published(z: float, q: float, steps: int, published: float) -> None:
    """Those values are of a looser last step (Mironov 2017); ours must be below them, and of their size."""
    found = epsilon((Spent(z, q, steps),), 1e-5)

    assert 0.75 * published < found < published


def test_steps_add_up_whatever_their_kind() -> None:
    """Settings change between two starts; what was spent before is spent."""
    both = added((Spent(1.0, 0.1, 10),), Spent(2.0, 0.1, 5))

    assert both == (Spent(1.0, 0.1, 10), Spent(2.0, 0.1, 5))
    assert epsilon(both, 1e-5) > max(epsilon((one,), 1e-5) for one in both)
    assert epsilon((), 1e-5) == 0.0


def test_a_budget_refuses_the_steps_that_would_exceed_it_also_after_a_restart() -> None:
    """A restart that begins with a whole budget gives every task's privacy away once more."""
    budget, steps, rounds = Budget(2.0, 1e-5), Spent(5.0, 0.5, 4), 0
    while (after := budget.after(steps)) is not None:
        budget, rounds = Budget.decode(after.encode(), "here"), rounds + 1

    assert budget.spent == (Spent(5.0, 0.5, 4 * rounds),)
    assert 0 < budget.cost <= 2.0 < epsilon(added(budget.spent, steps), 1e-5)
    assert Budget.decode(budget.encode(), "here").after(steps) is None


@pytest.mark.parametrize("cut", [0, 1, -1])
def test_a_damaged_budget_is_an_error_and_never_an_unspent_one(cut: int) -> None:
    """Begun again, it would be spent twice."""
    with pytest.raises(SnapshotError, match=r"^here: .* no budget"):
        Budget.decode(Budget(2.0, 1e-5, (Spent(5.0, 0.5, 4),)).encode()[:cut], "here")


@pytest.mark.parametrize("steps", [(math.nan, 0.1, 1), (0.0, 0.1, 1), (1.0, 2.0, 1), (1.0, 0.0, 1), (1.0, 0.1, 0)])
def test_steps_that_cannot_be_are_refused_and_never_free(steps: tuple[float, float, int]) -> None:
    """Noise that is no number has the cost 0 by the accountant."""
    with pytest.raises(ConfigError, match=r"got Spent\(.* wanted 0 < multiplier"):
        Spent(*steps)


@pytest.mark.parametrize("bound", [(math.nan, 1e-5), (math.inf, 1e-5), (0.0, 1e-5), (8.0, 0.0), (8.0, 1.0), (8.0, 2.0)])
def test_a_budget_that_bounds_nothing_is_refused(bound: tuple[float, float]) -> None:
    """With δ of 1 every step is within every ε."""
    with pytest.raises(ConfigError, match=r"got Budget\(.* wanted 0 < epsilon"):
        Budget(*bound)


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks for `dp_accounting` by its name."""
    monkeypatch.setitem(sys.modules, "dp_accounting", None)

    with pytest.raises(ConfigError, match=r"pip install 'streammeta\[private\]'"):
        privacy.require()
