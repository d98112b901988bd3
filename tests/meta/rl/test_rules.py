"""The rules a learned policy is compared with: a weak one would flatter it."""

from functools import cache

import pytest
import torch

from streammeta.errors import ConfigError
from streammeta.meta.rl import (
    Agent,
    Pulls,
    Transition,
    bandits,
    bootstrapped,
    epsilon_greedy,
    evaluate,
    gittins,
    gittins_indices,
    greedy_model,
    posterior_sampling,
    random_actions,
    random_arms,
    tabular,
    thompson,
    ucb1,
)

ANY = torch.Generator().manual_seed(0)


def _arm(rule: Agent[Pulls], wins: list[float], losses: list[float]) -> int:
    action, _ = rule.act(Pulls(torch.tensor([wins]), torch.tensor([losses])), torch.zeros(1, 0), ANY)
    return int(action)


def test_gittins_indices_by_hand():
    """With one pull left it is the mean. With two and no pull made, (1/2 + 1/2 · 2/3) / (1 + 1/2) = 5/9."""
    last, first = gittins_indices(2)[0], gittins_indices(2)[1]

    torch.testing.assert_close(last[:2, 0], torch.tensor([1 / 2, 2 / 3]), atol=1e-4, rtol=0)
    assert float(first[0, 0]) == pytest.approx(5 / 9, abs=1e-4)


def _worth(pulls: int, chooses) -> float:
    """The mean return on two arms, exactly: over every sequence of rewards."""

    @cache
    def of(state: tuple[float, ...], left: int) -> float:
        if not left:
            return 0.0
        values = []
        for arm in (0, 1):
            p = (state[2 * arm] + 1) / (state[2 * arm] + state[2 * arm + 1] + 2)
            won, lost = list(state), list(state)
            won[2 * arm] += 1
            lost[2 * arm + 1] += 1
            values.append(p * (1 + of(tuple(won), left - 1)) + (1 - p) * of(tuple(lost), left - 1))
        return values[chooses(state)] if chooses else max(values)

    return of((0.0, 0.0, 0.0, 0.0), pulls)


def test_gittins_is_within_a_thousandth_of_the_bayes_optimum():
    """Two arms and eight pulls, by dynamic programming over all that can be seen; greedy is clearly worse."""
    rule, greedy = gittins(2, 8), epsilon_greedy(2, 0.0)
    best = _worth(8, None)

    assert _worth(8, lambda s: _arm(rule, [s[0], s[2]], [s[1], s[3]])) >= 0.999 * best
    assert _worth(8, lambda s: _arm(greedy, [s[0], s[2]], [s[1], s[3]])) < 0.999 * best


def test_gittins_refuses_more_pulls_than_its_table_has():
    """A wrong index would go unseen."""
    with pytest.raises(ConfigError, match="2 pulls"):
        _arm(gittins(2, 2), [1.0, 0.0], [1.0, 0.0])


@pytest.mark.parametrize("rule", [gittins(5, 10), thompson(2), bootstrapped(2)])
def test_a_rule_of_other_arms_than_the_bandit_has_is_refused(rule):
    """With fewer it would never pull the last ones, and nobody would see why it earns so little."""
    with pytest.raises(ConfigError, match=r"the agent chooses among [25] actions; wanted 3"):
        evaluate(bandits(3), rule, 10, tasks=4)


def test_a_bound_prefers_what_is_seldom_tried_and_the_mean_what_has_won():
    """By hand: means 0.75 and 0.5; with c = 1 and t = 3 the bounds are 0.75 + 0.96 and 0.5 + 1.67."""
    assert _arm(epsilon_greedy(2, 0.0), [2.0, 0.0], [0.0, 0.0]) == 0
    assert _arm(ucb1(2, 0.0), [2.0, 0.0], [0.0, 0.0]) == 0
    assert _arm(ucb1(2), [2.0, 0.0], [0.0, 0.0]) == 1


def test_thompson_draws_from_the_posterior():
    """Beta(2, 1) against Beta(1, 1): the first is larger with probability 2/3; optimistic, neither is below its mean."""
    pulls = Pulls(torch.tensor([[1.0, 0.0]]).expand(40_000, 2), torch.zeros(40_000, 2))
    action, _ = thompson(2).act(pulls, torch.zeros(40_000, 0), torch.Generator().manual_seed(0))
    assert float((action == 0).float().mean()) == pytest.approx(2 / 3, abs=0.01)

    action, _ = thompson(2, optimistic=True).act(pulls, torch.zeros(40_000, 0), torch.Generator().manual_seed(0))
    # max(X, 2/3) loses where Y > it: P(Y > X, Y > 2/3) with X ~ Beta(2, 1) is the integral of y² from 2/3 to 1
    assert float((action == 1).float().mean()) == pytest.approx((1 - 8 / 27) / 3, abs=0.01)


def test_a_bootstrapped_head_is_distributed_as_the_posterior():
    """After two wins and a loss a head's value is Beta(3, 2): mean 3/5, variance 1/25; the heads of a task differ."""
    rule, generator = bootstrapped(2, 4), torch.Generator().manual_seed(0)
    heads, nothing = rule.start(20_000), torch.zeros(20_000, 0)
    first = torch.zeros(20_000, dtype=torch.int64)
    for reward in (1.0, 0.0, 1.0):
        _, heads = rule.act(heads, nothing, generator)
        heads = rule.learn(heads, Transition(nothing, first, torch.full((20_000,), reward), True, nothing))

    value = heads.wins / (heads.wins + heads.losses)
    assert value[..., 0].mean().item() == pytest.approx(3 / 5, abs=0.005)
    assert value[..., 0].var().item() == pytest.approx(1 / 25, rel=0.05)
    assert value[..., 1].var().item() == pytest.approx(1 / 12, rel=0.05)
    assert abs(float(torch.corrcoef(value[:, :2, 0].T)[0, 1])) < 0.03


def test_a_mixture_of_heads_earns_more_than_thompson_sampling():
    """It explores less with each pull that heads agree on; five arms, fifty pulls."""
    mixed, drawn = (evaluate(bandits(5), rule, 50, tasks=2000) for rule in (bootstrapped(5), thompson(5)))

    assert mixed.mean > drawn.mean + 0.5 * (mixed.half_width + drawn.half_width)


def test_what_the_rules_earn_on_bandits_is_what_the_paper_says():
    """Duan et al. (2016), table 1, 10 pulls of 5 arms: random 5.0, Gittins 6.6, Thompson 5.7, greedy 6.6."""
    for rule, published in [
        (random_arms(5), 5.0),
        (gittins(5, 10), 6.6),
        (thompson(5), 5.7),
        (epsilon_greedy(5, 0.0), 6.6),
    ]:
        found = evaluate(bandits(5), rule, 10, tasks=4000)
        assert found.mean == pytest.approx(published, abs=0.2), found


def test_what_the_rules_earn_in_tabular_mdps_is_what_the_paper_says():
    """Duan et al. (2016), table 2, 10 episodes: random 100.1, PSRL 138.1; a bonus earns more than drawing does."""
    found = {
        name: evaluate(tabular(), rule, 10, tasks=500)
        for name, rule in [
            ("random", random_actions(tabular())),
            ("psrl", posterior_sampling(tabular())),
            ("several", posterior_sampling(tabular(), draws=3)),
            ("bonus", greedy_model(tabular(), bonus=1.0)),
        ]
    }

    assert found["random"].mean == pytest.approx(100.1, abs=3 * found["random"].half_width)
    assert found["psrl"].mean == pytest.approx(138.1, abs=6)
    assert found["several"].mean > 125
    assert found["bonus"].mean > found["psrl"].mean + 5


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (lambda: epsilon_greedy(2, 1.5), "epsilon=1.5"),
        (lambda: bootstrapped(2, 1), "heads=1"),
        (lambda: ucb1(2, -1.0), "width=-1.0"),
        (lambda: gittins_indices(0), "pulls=0"),
        (lambda: greedy_model(tabular(), bonus=-1.0), "bonus=-1.0"),
        (lambda: posterior_sampling(tabular(), draws=0), "draws=0"),
    ],
)
def test_settings_out_of_range_are_refused(make, wrong: str):
    """At the cause."""
    with pytest.raises(ConfigError, match=wrong):
        make()
