from collections.abc import Callable

import numpy as np
import pytest

from streammeta.decisions import (
    best_only,
    epsilon_greedy,
    inverse_gap_weighting,
    plausible_gap_weighting,
    probability_of_best,
    upper_confidence,
)
from streammeta.decisions.exploration import explore
from streammeta.decisions.scoring import Scores
from streammeta.engine.settings import DecideSettings
from streammeta.errors import ConfigError

SCORES = np.array([0.2, 0.5, 0.4])


def test_inverse_gaps_are_the_papers_formula() -> None:
    """A propensity that is off by a factor biases every evaluation of the log."""
    found = inverse_gap_weighting(SCORES, 10.0)

    assert found == pytest.approx([1 / (3 + 3.0), 1 - 1 / 6 - 1 / 4, 1 / (3 + 1.0)])


def test_no_evidence_is_uniform_and_endless_evidence_is_greedy() -> None:
    assert inverse_gap_weighting(SCORES, 0.0) == pytest.approx([1 / 3] * 3)
    assert inverse_gap_weighting(SCORES, 1e12) == pytest.approx([0, 1, 0], abs=1e-9)


def test_only_actions_that_may_be_the_best_are_tried() -> None:
    """By hand: 0.4 lies within √(0.01 + 0.01) of 0.5, 0.2 does not; γ = 2 √(2 / 0.01) = 28.28."""
    found = plausible_gap_weighting(SCORES, np.full(3, 0.01), 1.0)

    p = 1 / (2 + 0.1 * 2 * np.sqrt(2 / 0.01))
    assert found == pytest.approx([0.0, 1 - p, p])


def scores_of(
    means: list[float], deviations: list[float], floor: float = -np.inf, ceiling: float = np.inf, spread: float = 0.45
) -> Scores:
    """Of one decision."""
    numbers = np.array([means]), np.array([deviations]) ** 2, np.array([spread])
    return Scores(*numbers, np.array([floor]), np.array([ceiling]))


def test_an_action_that_was_given_up_is_tried_again_where_the_others_earn_nothing() -> None:
    """A head that extrapolates to −3 where rewards are 0 or 1 would never be asked again: 6 points on a recorded stream."""
    means, deviations = [-3.0, 0.02], [1.69, 0.14]
    how = DecideSettings(actions=("red", "blue"))

    found = explore(scores_of(means, deviations, floor=0.0), how)

    assert explore(scores_of(means, deviations), how)[0, 0] == 0
    gamma = max(2 * np.sqrt(2 / ((1.69**2 + 0.14**2) / 2)), 1 / (0.003 * 0.45))
    assert found[0] == pytest.approx([1 / (2 + gamma * 0.02), 1 - 1 / (2 + gamma * 0.02)])
    greedy = DecideSettings(exploration="greedy")
    assert explore(scores_of(means, deviations, floor=0.1), greedy).tolist() == [[0, 1]]


def test_who_earns_nearly_all_there_is_hardly_tries_others() -> None:
    """By hand: 0.05 are left to gain, of which a decision may give 0.3 % away; without a ceiling, of a deviation."""
    means, deviations, how = [0.8, 0.95], [0.3, 0.1], DecideSettings(actions=("red", "blue"))

    near = explore(scores_of(means, deviations, ceiling=1.0), how)
    far = explore(scores_of(means, deviations, ceiling=9.0), how)
    full = explore(scores_of(means, deviations, ceiling=0.9), how)

    assert near[0, 0] == pytest.approx(1 / (2 + 0.15 / (0.003 * 0.05)))
    assert far[0, 0] == pytest.approx(1 / (2 + 0.15 / (0.003 * 0.45)))
    assert 0 < full[0, 0] < near[0, 0]


def test_what_is_given_away_is_bounded() -> None:
    """However little is known, a decision's expected loss by its own scores stays below what the settings allow."""
    means, doubts = np.random.default_rng(0).random((200, 5)), np.full((200, 5), 4.0)
    found = plausible_gap_weighting(means, doubts, 3.0, np.full(200, 0.01))

    assert (found * (means.max(1, keepdims=True) - means)).sum(1).max() <= 0.01
    assert (plausible_gap_weighting(np.ones(4), np.ones(4), 1.0, 1e-6) == 0.25).all()


@pytest.mark.parametrize(
    "explored",
    [
        lambda m, v: plausible_gap_weighting(m, v, 1.0, np.full(m.shape[:-1], 0.01)),
        lambda m, v: upper_confidence(m, v, 1.0),
        lambda m, _: epsilon_greedy(m, 0.1),
        lambda m, _: inverse_gap_weighting(m, 3.0),
    ],
)
def test_propensities_have_the_same_bits_alone_and_among_others(explored: Callable[..., np.ndarray]) -> None:
    """Polls after a crash are others than before it."""
    random = np.random.default_rng(1)
    means, doubts = random.standard_normal((50, 11)), random.random((50, 11))

    together = explored(means, doubts)

    assert all((explored(means[i : i + 1], doubts[i : i + 1])[0] == together[i]).all() for i in range(50))
    assert together.sum(1) == pytest.approx(np.ones(50))


def test_epsilon_is_shared_by_all_actions_the_best_included() -> None:
    assert epsilon_greedy(SCORES, 0.3) == pytest.approx([0.1, 0.8, 0.1])


def test_the_best_of_equal_scores_share_it() -> None:
    """Else the order in which actions are named decides, for as long as nothing is known of any of them."""
    assert best_only(np.array([1.0, 3.0, 3.0, 2.0])).tolist() == [0.0, 0.5, 0.5, 0.0]
    assert upper_confidence(np.array([1.0, 0.0, 0.5]), np.array([0.0, 1.0, 0.25]), 1.0) == pytest.approx([1 / 3] * 3)
    assert epsilon_greedy(np.array([0.0, 1.0, 1.0, 0.0]), 0.2) == pytest.approx([0.05, 0.45, 0.45, 0.05])


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
