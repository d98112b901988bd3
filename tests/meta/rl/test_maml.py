"""MAML by policy gradient: second derivatives of an expected return that are right, where a surrogate's are not."""

import pytest
import torch

from streammeta.errors import ConfigError
from streammeta.meta.objective import Outer
from streammeta.meta.optimizer import adam, sgd
from streammeta.meta.rl import (
    Adaptation,
    Agent,
    MamlSettings,
    TrialSchedule,
    evaluate,
    loaded_dice,
    maml_policy,
    naive_surrogate,
    navigation,
    play,
    tabular,
    train,
)

STEPS = 3
WORLD = tabular(2, 2, STEPS)
TASK = {name: each[:1] for name, each in WORLD.draw(torch.Generator().manual_seed(5), 1).items()}


def _exact_return(table: torch.Tensor, task: dict[str, torch.Tensor] = TASK) -> torch.Tensor:
    """Of an episode, by the softmax policy of logits ``table`` [S, A]: the distribution of states, step by step."""
    state, total = torch.tensor([1.0, 0.0]), torch.zeros(())
    chances = table.softmax(-1)
    for _ in range(STEPS):
        total = total + (state.unsqueeze(-1) * chances * task["mean"][0]).sum()
        state = torch.einsum("s,sa,saz->z", state, chances, task["next"][0])
    return total


def _softmax_agent(table: torch.Tensor) -> Agent[None]:
    def act(memory, observation, generator):
        return torch.multinomial((observation @ table).softmax(-1), 1, generator=generator).squeeze(-1), memory

    return Agent(lambda _: None, act, lambda memory, _: memory)


def _hessian_of(surrogate, table: torch.Tensor, baseline: float, count: int) -> torch.Tensor:
    tasks = {name: each.expand(count, *each.shape[1:]) for name, each in TASK.items()}
    trial = play(WORLD, _softmax_agent(table), tasks, 1, torch.Generator().manual_seed(1))
    returns = trial.reward.flip(0).cumsum(0).flip(0) - baseline

    def value(weights: torch.Tensor) -> torch.Tensor:
        log_chance = (trial.observation @ weights).log_softmax(-1)
        return surrogate(log_chance.gather(-1, trial.action.unsqueeze(-1)).squeeze(-1), returns).mean()

    return torch.autograd.functional.hessian(value, table).reshape(4, 4)


@pytest.mark.parametrize("baseline", [0.0, 2.0])
def test_the_second_derivative_is_that_of_the_expected_return(baseline: float):
    """By an exact model of an MDP of two states: with a baseline or without; a plain surrogate is far off."""
    table = torch.tensor([[0.3, -0.4], [-0.2, 0.8]])
    exact = torch.autograd.functional.hessian(_exact_return, table).reshape(4, 4)

    found = _hessian_of(loaded_dice, table, baseline, 200_000)
    naive = _hessian_of(naive_surrogate, table, baseline, 200_000)

    assert float((found - exact).norm() / exact.norm()) < 0.1
    assert float((naive - exact).norm() / exact.norm()) > 0.5


def test_its_value_is_zero_and_its_gradient_the_score_by_hand():
    """∇ Σ_t log π_t A_t; what is decayed are only the products in second derivatives."""
    log_chance = torch.tensor([[-0.5], [-1.0]], requires_grad=True)
    value = loaded_dice(log_chance, torch.tensor([[2.0], [3.0]]), decay=0.5)

    (slope,) = torch.autograd.grad(value.sum(), log_chance)

    assert value.item() == 0.0
    assert slope.squeeze(1).tolist() == [2.0, 3.0]


def _mean_over_tasks_after_a_step(table: torch.Tensor, rate: float, tasks) -> torch.Tensor:
    """The meta-objective itself: what is earned after a step up the exact gradient, in each task."""
    total = torch.zeros(())
    for k in range(2):
        task = {name: each[k : k + 1] for name, each in tasks.items()}
        (slope,) = torch.autograd.grad(_exact_return(table, task) / STEPS, table, create_graph=True)
        moved = table + rate * (slope + slope.sum(0))  # the network's bias moves too
        total = total + _exact_return(moved, task) / (2 * STEPS)
    return total


@pytest.mark.parametrize(("inner", "least", "most"), [("dice", 0.0, 0.05), ("naive", 0.3, 0.6)])
def test_the_meta_gradient_is_that_of_finite_differences(inner, least: float, most: float):
    """Of what is earned after adapting, in two tasks with many episodes each; a plain surrogate's is far off."""
    tasks = WORLD.draw(torch.Generator().manual_seed(9), 2)
    settings = MamlSettings((), 60_000, 1.0, 1.0, scales=False, inner=inner, outer=Outer(sgd(1.0), largest_norm=1e9))
    learner = maml_policy(WORLD, settings)
    theta = learner.init(torch.Generator().manual_seed(0))
    (weight,) = [name for name, p in theta.items() if p.shape == (2, 2)]
    theta[weight] = torch.tensor([[0.6, -0.3], [-0.5, 0.4]])
    data = learner.gather(learner.begin(theta), tasks, 120_000, torch.Generator().manual_seed(3))

    after = learner.improve(learner.begin(theta), data, torch.Generator()).theta

    wanted, nudge = torch.zeros(4), 1e-2
    for k in range(4):
        ends = []
        for sign in (1, -1):
            table = theta[weight].clone()
            table.view(-1)[k] += sign * nudge
            ends.append(_mean_over_tasks_after_a_step(table.requires_grad_(), 1.0, tasks).item())
        wanted[k] = (ends[0] - ends[1]) / (2 * nudge)
    found = (after[weight] - theta[weight]).flatten()
    assert least <= float((found - wanted).norm() / wanted.norm()) < most, (found, wanted)


@pytest.mark.parametrize("inner", ["dice", "first_order"])
def test_a_short_training_makes_a_step_worth_taking(inner):
    """Six episodes of twenty steps, a goal that is not seen: after the step more is earned than before it."""
    environment = navigation(20)
    settings = MamlSettings((32,), 6, inner=inner, outer=Outer(adam(1e-2), largest_norm=1.0))
    learner = maml_policy(environment, settings)

    state = train(learner, environment, TrialSchedule(40, 20, 12))

    agent = learner.agent(state.theta)
    before = evaluate(environment, agent, 1, tasks=300)
    after = evaluate(environment, agent, 7, skip=6, tasks=300)
    assert after.mean > before.mean + 2 * (before.half_width + after.half_width)


def test_an_agent_adapts_as_the_training_does():
    """In sequence, as a user plays it, and side by side, as training does: the same episodes, the same step."""
    environment = navigation(3)
    learner = maml_policy(environment, MamlSettings((4,), 1))
    state = learner.begin(learner.init(torch.Generator().manual_seed(0)))
    tasks = environment.draw(torch.Generator().manual_seed(1), 5)

    data = learner.gather(state, tasks, 2, torch.Generator().manual_seed(2))
    trial = play(environment, learner.agent(state.theta), tasks, 2, torch.Generator().manual_seed(2))

    assert isinstance(data, Adaptation)
    torch.testing.assert_close(trial.action[:3], data.before.action)
    torch.testing.assert_close(trial.action[3:], data.after.action)


def test_what_cannot_adapt_is_refused():
    """At the cause."""
    with pytest.raises(ConfigError, match="shots=0"):
        MamlSettings(shots=0)
    with pytest.raises(ConfigError, match=r"inner='outer'.*wanted.*'dice', 'naive', 'first_order'"):
        MamlSettings(inner="outer")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="horizon=0"):
        navigation(0)
    learner = maml_policy(navigation(2), MamlSettings((4,), 5))
    state = learner.begin(learner.init(torch.Generator().manual_seed(0)))
    with pytest.raises(ConfigError, match="more than shots, 5"):
        learner.gather(state, navigation(2).draw(torch.Generator(), 2), 5, torch.Generator())
