import numpy as np
import pytest

from streammeta.decisions import LoggedDecisions, doubly_robust, inverse_propensity, self_normalized
from streammeta.errors import ConfigError


def log(events: int, random: np.random.Generator) -> tuple[LoggedDecisions, np.ndarray, float]:
    """Decisions of a soft policy on three actions, another policy, a model that is a bit wrong, and the true value."""
    x = random.standard_normal((events, 2))
    reward_of = 1 / (1 + np.exp(-x @ np.array([[1.0, -1.0, 0.2], [0.3, 0.8, -0.5]])))
    logits = x @ np.array([[0.5, 0.0, -0.5], [0.0, 0.5, 0.2]])
    logging = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    actions = (logging.cumsum(1) < random.random((events, 1))).sum(1)
    rewards = (random.random(events) < reward_of[np.arange(events), actions]).astype(np.float64)
    policy = np.full_like(logging, 0.1)
    policy[np.arange(events), reward_of.argmax(1)] = 0.8
    made = LoggedDecisions(actions, rewards, logging[np.arange(events), actions], policy)
    return made, reward_of + 0.1, float((policy * reward_of).sum(1).mean())


def test_estimates_are_the_formulas() -> None:
    """By hand, on two decisions."""
    made = LoggedDecisions(
        np.array([0, 1]), np.array([1.0, 2.0]), np.array([0.5, 0.25]), np.array([[0.25, 0.75], [0.5, 0.5]])
    )
    expected = np.array([[1.0, 0.0], [0.0, 1.0]])

    assert made.weights == pytest.approx([0.5, 2.0])
    assert inverse_propensity(made).value == pytest.approx((0.5 * 1 + 2 * 2) / 2)
    assert self_normalized(made).value == pytest.approx((0.5 * 1 + 2 * 2) / 2.5)
    assert doubly_robust(made, expected).value == pytest.approx(((0.25 + 0) + (0.5 + 2 * (2 - 1))) / 2)
    assert inverse_propensity(made).effective_events == pytest.approx(2.5**2 / 4.25)


def test_intervals_of_the_doubly_robust_estimate_hold_the_truth_as_often_as_they_say() -> None:
    """An interval that is too narrow makes a bad policy look proven: 95 % within 93 to 97 of 1,000 logs.

    The truth is the policy's value over all contexts, which one large log tells to three digits.
    """
    _, _, truth = log(2_000_000, np.random.default_rng(1))
    held = 0
    for seed in range(1000):
        made, expected, _ = log(500, np.random.default_rng((2, seed)))
        found = doubly_robust(made, expected)
        held += found.low <= truth <= found.high
    assert 930 <= held <= 970


def test_all_three_agree_with_the_truth_on_a_large_log() -> None:
    made, expected, truth = log(200_000, np.random.default_rng(3))

    for found in (inverse_propensity(made), self_normalized(made), doubly_robust(made, expected)):
        assert found.value == pytest.approx(truth, abs=0.01)
        assert found.conclusive


def test_the_better_the_model_the_narrower_the_interval() -> None:
    made, expected, _ = log(5_000, np.random.default_rng(4))
    by_model, plain = doubly_robust(made, expected), inverse_propensity(made)

    assert by_model.high - by_model.low < plain.high - plain.low


def test_a_log_that_hardly_says_anything_is_called_inconclusive() -> None:
    """A thousand decisions of which two carry all the weight are two decisions."""
    propensities = np.full(1000, 0.999)
    propensities[:2] = 1e-6
    policy = np.tile([0.5, 0.5], (1000, 1))
    found = inverse_propensity(LoggedDecisions(np.zeros(1000, np.int64), np.ones(1000), propensities, policy))

    assert not found.conclusive
    assert str(found).startswith("inconclusive: only 2 effective decisions of 1,000, wanted at least 100")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"propensities": np.array([0.0, 0.5])}, r"decision 0 has propensity 0\.0; wanted more than 0"),
        ({"propensities": np.array([0.5, np.nan])}, "decision 1 has propensity nan"),
        ({"rewards": np.array([1.0, np.inf])}, "a reward is not a finite number"),
        ({"actions": np.array([0, 2])}, "an action is not one of 0 to 1"),
        ({"policy": np.array([[0.5, 0.4], [0.5, 0.5]])}, "does not add up to 1"),
        ({"rewards": np.array([1.0])}, "got 2 actions, 1 rewards"),
    ],
)
def test_a_log_that_cannot_be_is_refused_with_its_place(change: dict[str, np.ndarray], reason: str) -> None:
    """A propensity of 0 for what was done, say, is a bug of the logger that would decide everything."""
    made = {
        "actions": np.array([0, 1]),
        "rewards": np.array([1.0, 0.0]),
        "propensities": np.array([0.5, 0.5]),
        "policy": np.full((2, 2), 0.5),
    }
    with pytest.raises(ConfigError, match=reason):
        LoggedDecisions(**made | change)
