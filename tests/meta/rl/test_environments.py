"""Environments of meta-reinforcement: many tasks at once, the same from the same seed, with the regret they say."""

import pytest
import torch

from streammeta.errors import ConfigError
from streammeta.meta.rl import Agent, Environment, bandits, cues, navigation, optimal_values, play, tabular

ENVIRONMENTS = {"bandits": bandits(3), "tabular": tabular(4, 3, 5), "cues": cues(9, 1, 3), "navigation": navigation(6)}


def _random(environment: Environment) -> Agent[int]:
    """Anything at all: what a contract has to hold for."""

    def act(memory, observation, generator):
        count = len(observation)
        if environment.is_continuous:
            return torch.randn(count, environment.actions, generator=generator), memory
        return torch.randint(environment.actions, (count,), generator=generator), memory

    return Agent(lambda _: 0, act, lambda memory, _: memory)


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_trial_has_the_shapes_it_says_and_repeats_by_its_seed(name: str):
    """A policy is compared on the same tasks as the rules are; a run that goes on is the run that never stopped."""
    environment = ENVIRONMENTS[name]
    tasks = environment.draw(torch.Generator().manual_seed(0), 6)
    before = {key: value.clone() for key, value in tasks.items()}

    one, two = (play(environment, _random(environment), tasks, 2, torch.Generator().manual_seed(1)) for _ in range(2))

    steps = 2 * environment.horizon
    assert one.observation.shape == (steps, 6, environment.observations)
    assert one.reward.shape == (steps, 6)
    assert one.done.tolist() == 2 * ([0.0] * (environment.horizon - 1) + [1.0])
    for first, second in zip(one, two, strict=True):
        assert (first is None and second is None) or torch.equal(first, second)
    for key, value in tasks.items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize("name", ["bandits", "tabular"])
def test_regret_and_return_differ_by_what_no_policy_changes(name: str):
    """E[Σ reward] = V* − E[Σ regret]: a policy that is taught by regret is taught the same thing."""
    environment = ENVIRONMENTS[name]
    one = environment.draw(torch.Generator().manual_seed(3), 1)
    tasks = {key: value.expand(20_000, *value.shape[1:]) for key, value in one.items()}
    best = one["p"].max() if name == "bandits" else one["best"][0, 0, 0].max()

    trial = play(environment, _random(environment), tasks, 2, torch.Generator().manual_seed(4))

    assert trial.regret is not None
    assert trial.regret.min() >= 0
    left = trial.reward.sum(0) + trial.regret.sum(0) - 2 * best
    assert abs(float(left.mean())) < 4 * float(left.std()) / 20_000**0.5


def test_arms_pay_as_often_as_their_p_says():
    """The family is the paper's: p uniform in [0, 1], rewards 0 and 1."""
    environment = bandits(2)
    tasks = environment.draw(torch.Generator().manual_seed(0), 50_000)
    assert float(tasks["p"].mean()) == pytest.approx(0.5, abs=0.005)
    assert float(tasks["p"].var()) == pytest.approx(1 / 12, abs=0.002)
    fixed = {"p": torch.tensor([[0.2, 0.9]]).expand(50_000, 2)}
    second = Agent(lambda _: 0, lambda m, o, _g: (torch.ones(len(o), dtype=torch.int64), m), lambda m, _: m)

    reward = play(environment, second, fixed, 1, torch.Generator().manual_seed(1)).reward

    assert set(reward.unique().tolist()) == {0.0, 1.0}
    assert float(reward.mean()) == pytest.approx(0.9, abs=0.006)


def test_optimal_values_by_hand():
    """Two states, two steps: staying in 0 pays 1, moving pays 0, and 1 pays 3 whatever is done there."""
    mean = torch.tensor([[[1.0, 0.0], [3.0, 3.0]]])
    stay, move = [1.0, 0.0], [0.0, 1.0]
    chances = torch.tensor([[[stay, move], [move, move]]])

    value = optimal_values(mean, chances, 2)

    assert value[0, 0].tolist() == [[2.0, 3.0], [6.0, 6.0]]
    assert value[0, 1].tolist() == [[1.0, 0.0], [3.0, 3.0]]


def test_transitions_of_a_drawn_mdp_are_distributions_that_are_flat_on_average():
    """Dirichlet(1, …, 1): mean 1/S, variance (S − 1) / (S² (S + 1))."""
    chances = tabular(10, 5).draw(torch.Generator().manual_seed(0), 400)["next"]

    torch.testing.assert_close(chances.sum(-1), torch.ones(400, 10, 5))
    assert float(chances.mean()) == pytest.approx(0.1, abs=1e-4)
    assert float(chances.var()) == pytest.approx(9 / 1100, rel=0.02)


def test_sizes_that_make_no_environment_are_refused():
    """At the cause, not as a shape that does not fit a thousand steps later."""
    with pytest.raises(ConfigError, match="arms=1"):
        bandits(1)
    with pytest.raises(ConfigError, match="horizon=0"):
        tabular(horizon=0)
