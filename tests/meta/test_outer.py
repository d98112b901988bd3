"""The outer optimizer."""

import numpy as np
import pytest
import torch

from streammeta.meta.autograd import by_autograd
from streammeta.meta.base import Episodes, MetaState, Theta
from streammeta.meta.outer import grow_outer, outer_step, start_outer

NOTHING = Episodes(*(np.zeros((1, 1), np.float32) for _ in range(4)))


def bowl(theta: dict[str, torch.Tensor], episodes: object) -> torch.Tensor:
    """A loss with gradients well below the clipping norm."""
    del episodes
    return 0.05 * ((theta["a"] - 1.0) ** 2).sum() + 0.01 * theta["b"].sum()


def start() -> MetaState:
    return start_outer({"a": np.array([0.0, 2.0], np.float32), "b": np.array(1.0, np.float32)})


def test_it_is_adam() -> None:
    """Held against torch's own, with the same betas: a wrong bias correction would pass a 'loss goes down' test."""
    state = start()
    theta = {name: torch.from_numpy(p.copy()).requires_grad_() for name, p in state.theta.items()}
    reference = torch.optim.Adam(theta.values(), lr=0.1, betas=(0.9, 0.99))

    for _ in range(5):
        state = outer_step(by_autograd(bowl), state, NOTHING, rate=0.1).state
        reference.zero_grad()
        bowl(theta, NOTHING).backward()
        reference.step()

    for name, p in theta.items():
        np.testing.assert_allclose(state.theta[name], p.detach(), rtol=1e-6)
    assert state.updates == 5


def test_a_pace_makes_the_steps_of_one_part_shorter() -> None:
    """By the gradient it could not: Adam takes the size of that out."""
    steps = [outer_step(by_autograd(bowl), start(), NOTHING, rate=0.1, pace=p) for p in (None, {"a": 0.5})]

    moved = [{name: p - start().theta[name] for name, p in step.state.theta.items()} for step in steps]
    np.testing.assert_allclose(moved[1]["a"], moved[0]["a"] / 2, rtol=1e-5)
    np.testing.assert_array_equal(moved[1]["b"], moved[0]["b"])


def test_nothing_given_is_changed() -> None:
    """A background step works on the state that the engine still serves from."""
    state = start()

    outer_step(by_autograd(bowl), state, NOTHING, rate=0.1)

    assert state.theta["a"].tolist() == [0.0, 2.0]
    assert state.first.tolist() == [0.0, 0.0, 0.0]


def test_a_large_gradient_is_cut_to_norm_one() -> None:
    """One wild segment must not throw θ away."""
    step = outer_step(by_autograd(lambda theta, _: 1e6 * theta["a"].sum() + 0 * theta["b"]), start(), NOTHING, rate=0.1)

    norm = np.linalg.norm(step.state.first / 0.1)
    assert step.gradient_norm == pytest.approx(1e6 * 2**0.5, rel=1e-4)
    assert float(norm) == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_bad_numbers_leave_the_state_as_it_was(poison: float) -> None:
    """θ is months of learning; one non-finite loss must not reach it."""
    state = start()

    step = outer_step(by_autograd(lambda theta, _: poison * theta["a"].sum() + theta["b"]), state, NOTHING, rate=0.1)

    assert not step.accepted
    assert step.state is state


def test_a_grown_theta_keeps_its_moments() -> None:
    """Features that appear late must not restart the optimizer of those that were there."""
    state = outer_step(by_autograd(bowl), start(), NOTHING, rate=0.1).state

    grown = grow_outer(state, state.theta | {"a": np.append(state.theta["a"], np.float32(0))})

    assert grown.first.tolist() == [*state.first[:2].tolist(), 0.0, state.first[2].item()]
    assert grown.updates == 1


def test_the_order_in_which_a_gradient_comes_does_not_matter() -> None:
    """Parts are told apart by name; taken by place, each part of θ would follow another one's gradient."""

    def backwards(theta: Theta, episodes: Episodes, device: str) -> tuple[float, Theta]:
        value, slopes = by_autograd(bowl)(theta, episodes, device)
        return value, dict(reversed(slopes.items()))

    straight, turned = (outer_step(g, start(), NOTHING, rate=0.1).state for g in (by_autograd(bowl), backwards))

    assert all(np.array_equal(straight.theta[name], turned.theta[name]) for name in straight.theta)
