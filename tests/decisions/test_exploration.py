import numpy as np
import pytest

from streammeta.decisions import (
    best_only,
    epsilon_greedy,
    inverse_gap_weighting,
    probability_of_best,
    upper_confidence,
)
from streammeta.errors import ConfigError

SCORES = np.array([0.2, 0.5, 0.4])


def test_inverse_gaps_are_the_papers_formula() -> None:
    """A propensity that is off by a factor biases every evaluation of the log."""
    found = inverse_gap_weighting(SCORES, 10.0)

    assert found == pytest.approx([1 / (3 + 3.0), 1 - 1 / 6 - 1 / 4, 1 / (3 + 1.0)])


def test_no_evidence_is_uniform_and_endless_evidence_is_greedy() -> None:
    assert inverse_gap_weighting(SCORES, 0.0) == pytest.approx([1 / 3] * 3)
    assert inverse_gap_weighting(SCORES, 1e12) == pytest.approx([0, 1, 0], abs=1e-9)


def test_epsilon_is_shared_by_all_actions_the_best_included() -> None:
    assert epsilon_greedy(SCORES, 0.3) == pytest.approx([0.1, 0.8, 0.1])
    assert best_only(np.array([1.0, 1.0])).tolist() == [1.0, 0.0]


def test_thompsons_propensities_are_the_share_of_draws() -> None:
    """They are computed, not sampled: held against a million draws, within five standard errors."""
    means, deviations = np.array([0.0, 0.3, -0.2, 0.1]), np.array([1.0, 0.1, 2.0, 0.5])
    draws = means + deviations * np.random.default_rng(0).standard_normal((1_000_000, 4))
    shares = np.bincount(draws.argmax(1), minlength=4) / len(draws)

    found = probability_of_best(means, deviations**2)

    assert found.sum() == pytest.approx(1.0)
    assert np.abs(found - shares).max() < 5 * 0.0005


@pytest.mark.parametrize("variances", [np.array([0.0, 0.0]), np.array([1e-30, 1e-30]), np.array([0.0, 1e8])])
def test_certainty_and_doubt_are_numbers(variances: np.ndarray) -> None:
    """A variance of 0 or of any size must not make a propensity NaN."""
    found = probability_of_best(np.array([1.0, 2.0]), variances)

    assert np.isfinite(found).all()
    assert found.sum() == pytest.approx(1.0)
    assert found[1] >= 0.5


def test_two_gaussians_are_the_textbooks_case() -> None:
    """P(X > Y) = Φ((μx − μy) / √(σx² + σy²))."""
    assert probability_of_best(np.array([1.0, 0.0]), np.array([0.5, 0.5]))[0] == pytest.approx(0.8413447, abs=1e-6)


def test_optimism_prefers_the_less_known_of_equals() -> None:
    assert upper_confidence(np.array([0.5, 0.4]), np.array([0.0, 1.0]), 0.5).tolist() == [0.0, 1.0]


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"got epsilon=1\.5; wanted a share from 0 to 1"):
        epsilon_greedy(SCORES, 1.5)
    with pytest.raises(ConfigError, match="got gamma=-1; wanted a number that is not negative"):
        inverse_gap_weighting(SCORES, -1)
