"""R2D2: parts of trials that begin with the right state, targets by hand, and the order of its paper."""

import pytest
import torch

from streammeta.errors import ConfigError
from streammeta.meta.objective import Outer
from streammeta.meta.optimizer import adam, sgd
from streammeta.meta.rl import (
    R2d2Settings,
    Trial,
    TrialSchedule,
    bandits,
    cues,
    evaluate,
    gru,
    r2d2,
    rescaled,
    restored,
    sequences,
    train,
)


def test_rescaling_by_hand_and_back():
    """g(3) = √4 − 1 + 3/1000; g(−x) = −g(x)."""
    x = torch.tensor([3.0, -3.0, 0.0, 200.0], dtype=torch.float64)

    torch.testing.assert_close(rescaled(x)[:3], torch.tensor([1.003, -1.003, 0.0], dtype=torch.float64))
    torch.testing.assert_close(restored(rescaled(x)), x)


def test_parts_have_the_states_that_were_stored_at_their_start():
    """Seven steps, burn-in 2, two to learn from, one beyond; the first part's burn-in is before the trial."""
    step = torch.arange(7.0).unsqueeze(1)
    trial = Trial(step.unsqueeze(-1), step.long(), 10 + step, torch.zeros(7), kept=100 + step.unsqueeze(-1))

    parts = sequences(trial, trial.observation, (2, 2, 1), 2)

    assert parts.action.T.tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 3, 4], [2, 3, 4, 5, 6]]
    assert parts.is_there.T.tolist() == [[False, False, True, True, True], [True] * 5, [True] * 5]
    assert parts.reward[-1].tolist() == [12.0, 14.0, 16.0]
    assert parts.hidden.squeeze(1).tolist() == [100.0, 100.0, 102.0]
    with pytest.raises(ConfigError, match="wanted 8 or more"):
        sequences(trial, trial.observation, (0, 7, 1), 1)


@pytest.mark.parametrize("burn_in", [0, 3])
def test_with_the_state_that_was_stored_a_part_is_as_it_was_played(burn_in: int):
    """The gradient of the whole trial's loss is that of its parts, but for what lies before each part.

    θ has not moved since: the values of a part, and so its errors and their priorities, do not depend on where the
    trial was cut, nor on burn-in. From zero they do.
    """
    environment, priorities = cues(12, 2, 3), {}
    for sequence, starts_from in [(9, "stored"), (3, "stored"), (3, "zero")]:
        settings = R2d2Settings(
            4, sequence, burn_in, starts_from, ahead=1, priority=0.0, steps=1, batch=400, outer=Outer(sgd(1e-12))
        )
        learner = r2d2(environment, settings)
        state = learner.begin(learner.init(torch.Generator().manual_seed(0)))
        tasks = environment.draw(torch.Generator().manual_seed(1), 1)
        trial = learner.gather(state, tasks, 1, torch.Generator().manual_seed(2))
        after = learner.improve(state, trial, torch.Generator().manual_seed(3))
        priorities[sequence, starts_from] = after.replay.priority
    whole, cut, zero = priorities.values()

    assert len(cut) == 3
    # 0.9 max + 0.1 mean over nine steps, from three parts of three: the maximum is some part's, the mean all parts'
    assert float(whole) <= float(cut.max()) + 1e-5
    assert not torch.allclose(cut, zero, atol=1e-6)
    torch.testing.assert_close(cut[0], zero[0])  # a trial begins with zero


def test_a_target_by_hand():
    """One step, n = 1, γ = 0.5: the priority is the error |Q(a) − g(r + γ g⁻¹(max Q'))| + 1e-6, for each part."""
    environment = cues(2, 1, 1)
    settings = R2d2Settings(4, 1, 0, ahead=1, discount=0.5, priority=0.0, steps=1, batch=50, outer=Outer(sgd(1e-12)))
    learner, network = r2d2(environment, settings), gru(7, 4, 2)
    state = learner.begin({name: 2 * p for name, p in learner.init(torch.Generator().manual_seed(0)).items()})
    trial = learner.gather(state, environment.draw(torch.Generator().manual_seed(1), 1), 1, torch.Generator())

    found = learner.improve(state, trial, torch.Generator().manual_seed(3)).replay.priority

    before = torch.zeros(1, 4)
    first, h = network.step(state.theta, torch.cat([trial.observation[0], before], -1), torch.zeros(1, 4))
    action, reward = int(trial.action[0]), float(trial.reward[0])
    before[0, action], before[0, 2] = 1.0, reward
    second, _ = network.step(state.theta, torch.cat([trial.observation[1], before], -1), h)
    error = first[0, action] - rescaled(reward + 0.5 * restored(second.max()))
    assert float(found) == pytest.approx(abs(error.item()) + 1e-6, abs=1e-6)


def test_with_stored_states_a_cue_is_remembered_longer_than_a_replayed_part():
    """Chance earns 0. From cue to junction there are three to nine steps, in a part there are four."""
    environment = cues(40, 3, 9)
    settings = R2d2Settings(12, 4, 4, ahead=1, steps=4, epsilon=0.2, outer=Outer(adam(1e-2)))
    learner = r2d2(environment, settings)

    state = train(learner, environment, TrialSchedule(240, 8, 1))

    assert evaluate(environment, learner.agent(state.theta), 1, tasks=300).mean > 2


def test_what_is_kept_is_bounded_and_a_run_goes_on_where_it_stopped():
    """A replay that grows without end would be found in weeks only."""
    environment = cues(20, 2, 3)
    settings = R2d2Settings(4, 4, 2, capacity=30, steps=2, batch=8, target_every=3)
    learner, schedule = r2d2(environment, settings), TrialSchedule(16, 5, 1)

    state = train(learner, environment, schedule)
    half = train(learner, environment, schedule, watch=lambda state, _trial: state.updates >= 8)
    again = train(learner, environment, schedule, half)

    assert state.replay.action.shape == (9, 30)
    assert all(torch.equal(p, again.theta[name]) for name, p in state.theta.items())
    assert all(torch.equal(a, b) for a, b in zip(state.replay, again.replay, strict=True))
    assert any(not torch.equal(p, state.target[name]) for name, p in state.theta.items())


def test_what_r2d2_cannot_do_is_refused():
    """At the cause."""
    with pytest.raises(ConfigError, match="burn_in=-1"):
        R2d2Settings(burn_in=-1)
    with pytest.raises(ConfigError, match=r"starts_from='nowhere'.*wanted.*'stored', 'zero'"):
        R2d2Settings(starts_from="nowhere")  # type: ignore[arg-type]  # it was taken for "zero"
    with pytest.raises(ConfigError, match="continuous"):
        r2d2(bandits(2)._replace(is_continuous=True))
    with pytest.raises(ConfigError, match="longest=9"):
        cues(5, 1, 9)


def test_only_the_junction_pays_and_only_by_the_cue():
    """The environment's own rule, followed by hand: go where the last cue was."""
    environment = cues(40, 2, 4)
    tasks = environment.draw(torch.Generator().manual_seed(0), 50)
    state, generator = environment.begin(tasks, torch.Generator().manual_seed(1)), torch.Generator().manual_seed(2)
    last, total = torch.zeros(50, dtype=torch.int64), torch.zeros(50)
    for _ in range(40):
        seen = environment.observe(tasks, state)
        last = torch.where(seen[:, :2].any(-1), seen[:, 1].long(), last)
        state, reward = environment.step(tasks, state, last, generator)
        assert torch.equal(reward > 0, seen[:, 2] > 0)
        assert reward.min() >= 0
        total += reward

    assert 7 <= float(total.mean()) <= 13
