"""RL²: the step it takes is up the true gradient, and what it learns earns more than chance."""

import pytest
import torch

from streammeta.errors import ConfigError
from streammeta.meta.objective import Outer
from streammeta.meta.optimizer import adam, sgd
from streammeta.meta.rl import (
    Rl2Settings,
    TrialSchedule,
    advantages,
    bandits,
    evaluate,
    gru,
    play,
    rl2,
    tabular,
    thompson,
    train,
)


def test_one_step_after_another_is_the_unrolled_network():
    """A policy acts step by step and learns from whole trials: both must be one function."""
    network = gru(3, 5, 2)
    theta = network.init(torch.Generator().manual_seed(0))
    x, h = torch.randn(4, 6, 3), torch.randn(6, 5)

    outputs, last = network.unroll(theta, x, h)

    for t in range(4):
        output, h = network.step(theta, x[t], h)
        torch.testing.assert_close(output, outputs[t])
    torch.testing.assert_close(h, last)


def test_the_networks_gradient_is_that_of_finite_differences():
    """In all its weights, through time."""
    network = gru(2, 3, 2)
    theta = {name: p.double() for name, p in network.init(torch.Generator().manual_seed(1)).items()}
    x, h = torch.randn(3, 2, 2, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    names = list(theta)

    def output(*weights: torch.Tensor) -> torch.Tensor:
        return network.unroll(dict(zip(names, weights, strict=True)), x, h)[0]

    assert torch.autograd.gradcheck(output, [theta[name].requires_grad_() for name in names])


def test_advantages_by_hand():
    """γ = 0.5, λ = 0.5: δ = (1 + 0.5 · 4 − 2, 3 − 4) = (1, −1), A = (1 + 0.25 · −1, −1)."""
    found = advantages(torch.tensor([[1.0], [3.0]]), torch.tensor([[2.0], [4.0]]), 0.5, 0.5)

    assert found.squeeze(1).tolist() == [0.75, -1.0]


def _expected_return(network, theta, p: tuple[float, float], pulls: int) -> torch.Tensor:
    """Of a trial on one bandit of two arms, over every sequence of actions and rewards: exact, differentiable."""

    def on(before: torch.Tensor, h: torch.Tensor, left: int) -> torch.Tensor:
        outputs, h = network.step(theta, before, h)
        chances, total = outputs[0, :2].softmax(-1), torch.zeros(())
        for arm in (0, 1):
            for reward, chance in ((1.0, p[arm]), (0.0, 1 - p[arm])):
                fed = torch.tensor([[1.0 - arm, float(arm), reward, 1.0]])
                later = on(fed, h, left - 1) if left > 1 else 0.0
                total = total + chances[arm] * chance * (reward + later)
        return total

    return on(torch.zeros(1, 4), torch.zeros(1, network.width), pulls)


@pytest.mark.parametrize("learns_from", ["reward", "regret"])
def test_an_improvement_goes_up_the_exact_gradient_of_the_return(learns_from):
    """A wrong sign, shift in time, or credit for what came before would still learn something somewhere."""
    wide = Outer(sgd(1e-3), largest_norm=1e9)
    settings = Rl2Settings(
        4, discount=1.0, trace=1.0, passes=1, batches=1, entropy=0.0, value=0.0, learns_from=learns_from, outer=wide
    )
    environment, learner, network = bandits(2), rl2(bandits(2), settings), gru(4, 4, 3)
    theta = {name: 3 * p for name, p in learner.init(torch.Generator().manual_seed(0)).items()}
    theta["read.weight"] = 10 * theta["read.weight"]
    p, pulls, count = (0.3, 0.8), 3, 150_000
    exact = {name: value.clone().requires_grad_() for name, value in theta.items()}
    worth = _expected_return(network, exact, p, pulls)
    slopes = torch.autograd.grad(worth, list(exact.values()))

    tasks = {"p": torch.tensor([p]).expand(count, 2)}
    trial = play(environment, learner.agent(theta), tasks, pulls, torch.Generator().manual_seed(1))
    after = learner.improve(learner.begin(theta), trial, torch.Generator()).theta

    assert float(trial.reward.sum(0).mean()) == pytest.approx(worth.item(), abs=0.01)
    step = torch.cat(
        [
            (after[name] - theta[name])[:2].flatten() if "read" in name else (after[name] - theta[name]).flatten()
            for name in theta
        ]
    )
    wanted = torch.cat(
        [slope[:2].flatten() if "read" in name else slope.flatten() for name, slope in zip(exact, slopes, strict=True)]
    )
    assert float(torch.cosine_similarity(step, wanted, 0)) > 0.98


def test_a_short_training_earns_more_than_chance_and_goes_on_where_it_stopped():
    """Three arms, ten pulls: chance earns 5.0. The run that was stopped half-way has the same θ."""
    environment = bandits(3)
    settings = Rl2Settings(
        16,
        discount=1.0,
        trace=0.9,
        passes=4,
        batches=1,
        learns_from="regret",
        outer=Outer(adam(1e-2), largest_norm=0.5),
    )
    learner, schedule = rl2(environment, settings), TrialSchedule(updates=120, tasks=200, episodes=10)

    state = train(learner, environment, schedule)
    half = train(learner, environment, schedule, watch=lambda state, _trial: state.updates >= 60)
    again = train(learner, environment, schedule, half)

    assert half.updates == 60
    for name, p in state.theta.items():
        assert torch.equal(p, again.theta[name])
    assert evaluate(environment, learner.agent(state.theta), 10, tasks=2000).mean > 5.5


def test_the_hidden_state_goes_on_over_episodes_and_begins_again_with_a_task():
    """What an episode has shown is what the next one starts from: that is all a task's learning is."""
    environment = tabular(3, 2, 2)
    learner = rl2(environment, Rl2Settings(4))
    agent = learner.agent(learner.init(torch.Generator().manual_seed(0)))
    tasks = environment.draw(torch.Generator().manual_seed(1), 5)

    kept = play(environment, agent, tasks, 2, torch.Generator().manual_seed(2), lambda memory: memory.hidden).kept

    assert kept is not None
    assert not kept[0].any()
    assert all(kept[t].abs().min() > 0 for t in (1, 2, 3))


def test_what_rl2_cannot_do_is_refused():
    """A setting that is out of range; regret where nobody knows it; actions that are not one of several."""
    with pytest.raises(ConfigError, match=r"clip=1\.5"):
        Rl2Settings(clip=1.5)
    with pytest.raises(ConfigError, match="regret"):
        rl2(bandits(2)._replace(regret=None), Rl2Settings(learns_from="regret"))
    with pytest.raises(ConfigError, match="continuous"):
        rl2(bandits(2)._replace(is_continuous=True))
    with pytest.raises(ConfigError, match="episodes=0"):
        TrialSchedule(1, 1, 0)
    with pytest.raises(ConfigError, match=r"learns_from='luck'.*wanted.*'reward', 'regret'"):
        Rl2Settings(learns_from="luck")  # type: ignore[arg-type]  # it was taken for "reward"


@pytest.mark.parametrize(("episodes", "skip"), [(0, 0), (5, 5), (5, -1)])
def test_an_evaluation_in_which_no_episode_counts_is_refused(episodes: int, skip: int):
    """Nothing earned in nothing was 0.00 ± 0.00."""
    with pytest.raises(ConfigError, match=f"episodes={episodes}, skip={skip}.*wanted 0 <= skip < episodes"):
        evaluate(bandits(2), thompson(2), episodes, skip=skip)
