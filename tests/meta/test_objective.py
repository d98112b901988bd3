"""The outer loop: penalties, schedules, averages, optimizers, by hand."""

import pytest
import torch

from streammeta.errors import ConfigError
from streammeta.meta.learner import OuterState, TaskBatch, cross_entropy, examples, served, squared_error
from streammeta.meta.methods import averaged, maml, maml_plus_plus, mixture, prototypes, ridge
from streammeta.meta.objective import Outer, begin, descend
from streammeta.meta.optimizer import adam, cosine, linear, momentum, rmsprop, sgd
from streammeta.model import Model, mlp

NOTHING = examples(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1))
TASKS = TaskBatch(NOTHING, NOTHING)
LINE = Model(lambda _: {"w": torch.zeros(1, 1)}, lambda w, x: x @ w["w"], 1, ("w",))


def _descended(outer: Outer, updates: int, theta: float = 2.0) -> OuterState:
    """Down the slope of a loss that is 0 everywhere: only the penalty speaks."""
    state = begin(outer)({"w": torch.tensor([theta])})
    step = descend(lambda theta, _: 0.0 * theta["w"].sum(), outer)
    for _ in range(updates):
        state = step(state, TASKS)
    return state


@pytest.mark.parametrize(("penalty", "expected"), [("none", 2.0), ("l1", 1.95), ("l2", 1.8), ("distance", 2.0)])
def test_penalties_pull_as_their_formulas_say(penalty: str, expected: float):
    """One step of 0.1 against λ = 0.5: the slope of λ|θ| is 0.5, of λθ² it is 2, of the distance to itself 0."""
    after = _descended(Outer(sgd(0.1), penalty=penalty, weight=0.5), 1)

    assert after.theta["w"].item() == pytest.approx(expected)


def test_distance_pulls_back_to_the_anchor_and_the_anchor_moves():
    """Without an anchor that moves, θ could never leave where it began."""
    outer = Outer(sgd(0.1), penalty="distance", weight=0.5, anchor_every=2)
    state = begin(outer)({"w": torch.tensor([2.0])})
    step = descend(lambda theta, _: theta["w"].sum(), outer)  # a slope of 1 all the time

    state = step(state, TASKS)
    assert (state.theta["w"].item(), state.anchor["w"].item()) == pytest.approx((1.9, 2.0))
    state = step(state, TASKS)
    assert (state.theta["w"].item(), state.anchor["w"].item()) == pytest.approx((1.81, 1.81))  # 1.9 - 0.1 (1 - 0.1)


def test_optimizers_make_the_steps_of_their_papers():
    """Two steps with slope 1 and rate 0.1, by hand; torch's own agree."""
    first = {"sgd": 0.1, "momentum": 0.1, "rmsprop": 1.0, "adam": 0.1}
    both = {"sgd": 0.2, "momentum": 0.29, "rmsprop": 1.0 + 0.1 / (1 - 0.99**2) ** 0.5, "adam": 0.2}
    for name, make in {"sgd": sgd, "momentum": momentum, "rmsprop": rmsprop, "adam": adam}.items():
        optimizer = make(0.1)
        w, slope = {"w": torch.zeros(1)}, {"w": torch.ones(1)}
        after, memory = optimizer.step(w, slope, optimizer.start(w), 0)
        last, _ = optimizer.step(after, slope, memory, 1)

        assert -after["w"].item() == pytest.approx(first[name], rel=1e-4)
        assert -last["w"].item() == pytest.approx(both[name], rel=1e-4)
        assert w["w"].item() == 0


def test_schedules_begin_and_end_where_they_say():
    """And stay there, for those who train on."""
    assert [cosine(1.0, 0.2, 10)(n) for n in (0, 5, 10, 50)] == pytest.approx([1.0, 0.6, 0.2, 0.2])
    assert [linear(1.0, 0.0, 10)(n) for n in (0, 5, 10, 50)] == pytest.approx([1.0, 0.5, 0.0, 0.0])


def test_averages_over_meta_updates():
    """θ goes 0, −1, −2, −3 here: SWA is the mean of the three, the moving average by halves as computed."""
    base = maml(LINE, squared_error, outer=Outer(sgd(1.0)))._replace(
        update=descend(lambda theta, _: theta["w"].sum(), Outer(sgd(1.0)))
    )
    for decay, expected in ((None, -2.0), (0.5, -2.125)):
        learner = averaged(base, decay=decay)
        state = learner.begin({"w": torch.zeros(1)})
        for _ in range(3):
            state = learner.update(state, TASKS)

        assert state.theta["w"].item() == -3
        assert served(state)["w"].item() == pytest.approx(expected)


def test_bayesian_weights_find_the_member_that_knows():
    """One encoder sees the feature that matters, the other does not; after a few events it hardly counts."""
    encoders = [Model(lambda _: {"u": torch.zeros(1)}, lambda _, x, d=d: 4 * x[..., d : d + 1], 1, ()) for d in (0, 1)]
    members = [ridge(each, cross_entropy, outputs=2, strength=0.1, scale=5.0) for each in encoders]
    learner = mixture(members, kind="classification", weights="bayesian")
    theta = learner.init(torch.Generator())
    x = torch.randn(1, 30, 2, generator=torch.Generator().manual_seed(0))
    y = (x[..., 1] > 0).long()

    phi = learner.start(theta, 1)
    for i in range(30):
        phi = learner.adapt(theta, phi, examples(x[:, i : i + 1], y[:, i : i + 1]))

    weights = phi["evidence"].softmax(-1)[0]
    assert weights[1] > 0.99


def test_a_mixture_of_classifiers_is_the_mean_of_their_probabilities():
    """A mean of logits would be another model, and overconfident."""
    members = [prototypes(mlp(2, (3,), 2), classes=2) for _ in range(3)]
    learner = mixture(members, kind="classification")
    theta = learner.init(torch.Generator().manual_seed(0))
    x = torch.randn(1, 4, 2, generator=torch.Generator().manual_seed(1))
    phi = learner.adapt(theta, learner.start(theta, 1), examples(x, torch.tensor([[0, 1, 1, 0]])))

    found = learner.predict(theta, phi, x).output.softmax(-1)

    each = []
    for m, member in enumerate(members):
        own = [{n[2:]: p for n, p in of.items() if n.startswith(f"{m}.")} for of in (theta, phi)]
        each.append(member.predict(*own, x).output.softmax(-1))
    torch.testing.assert_close(found, torch.stack(each).mean(0))


def test_maml_plus_plus_begins_with_every_step_and_ends_with_the_last():
    """The weights of the multi-step loss: uniform at first, (0, …, 0, 1) when annealed."""
    learner = maml_plus_plus(LINE, squared_error, inner_rate=0.25, inner_steps=2, multi_step_updates=10)
    one = examples(torch.ones(1, 1, 1), torch.ones(1, 1, 1))
    theta = learner.init(torch.Generator())
    state = learner.begin(theta)

    early = learner.update(state, TaskBatch(one, one)).loss
    late = learner.update(state._replace(updates=10), TaskBatch(one, one)).loss

    # w goes 0, ½, ¾ towards 1, so the query's losses after the steps are 1/4 and 1/16
    assert early.item() == pytest.approx((1 / 4 + 1 / 16) / 2)
    assert late.item() == pytest.approx(1 / 16)
    assert learner.loss(theta, TaskBatch(one, one)).item() == pytest.approx(1 / 16)


def test_settings_out_of_range_are_refused():
    """A negative λ would reward what it should punish."""
    with pytest.raises(ConfigError, match="wanted weight >= 0"):
        Outer(weight=-1.0)
    with pytest.raises(ConfigError, match="wanted a number above 0"):
        adam(0.0)
    with pytest.raises(ConfigError, match="wanted 0 <= decay < 1"):
        momentum(0.1, decay=1.0)
