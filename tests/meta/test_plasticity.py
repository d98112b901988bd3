"""What keeps units able to learn, and what tells how they are."""

import numpy as np
import pytest

from streammeta.meta.base import MetaState, Theta
from streammeta.meta.exact.heads import exact_heads
from streammeta.meta.names import Slot
from streammeta.meta.outer import join, start_outer
from streammeta.meta.plasticity import norm, pulled, saturated_counts, saturated_share, towards_start
from streammeta.meta.settings import LearnerSettings


def theta(hidden: int = 4) -> Theta:
    """Exact heads that have learned something: every weight differs from its start."""
    method = exact_heads(LearnerSettings(hidden=hidden, encoded=3, members=2), "classification")
    start = method.grow(method.init(), [Slot("a", None, 2), Slot("b", None, 2)], ["no", "yes"])
    return {name: p + 0.5 for name, p in start.items()}


def state(now: Theta, updates: int = 7) -> MetaState:
    return start_outer(now)._replace(first=np.ones_like(join(now)), second=np.ones_like(join(now)), updates=updates)


def test_the_pull_moves_what_is_saturated_and_nothing_else() -> None:
    """Pulling all weights would unlearn what tasks have in common: it cost tasks that switch their concepts points."""
    now = {name: np.zeros_like(p) for name, p in theta().items()}
    now["w1"][:] = 0.1
    now["w1"][1, 0, 2] = 100.0  # a hidden unit that three of the four events below saturate
    now["b2"][0, 1] = -10.0  # an encoded unit at its bound is a feature that was learned
    start = {name: np.zeros_like(p) for name, p in now.items()}
    four = np.array([[1.0, 0.0], [-1.0, 0.0], [0.5, 0.0], [0.0, 1.0]], np.float32)
    x = np.broadcast_to(four, (2, 1, 4, 2))

    after = towards_start(state(now), start, x, 0.4).theta

    assert after["w1"][1, :, 2].tolist() == pytest.approx([70.0, 0.07])
    after["w1"][1, :, 2] = now["w1"][1, :, 2]
    assert all(np.array_equal(p, now[name]) for name, p in after.items())


def test_the_pull_is_by_the_events_of_all_processes() -> None:
    """A unit that only another process's tasks saturate would run away, and one without events pull by 0 / 0."""
    now = {name: p + 2.0 for name, p in theta().items()}
    x = np.random.default_rng(1).standard_normal((2, 5, 6, 2), np.float32) * 3
    parts = [saturated_counts(now, x[:, part]) for part in (slice(0, 1), slice(1, 5), slice(5, 5))]

    counts = np.sum(parts, 0)
    found = pulled(state(now), theta(), counts[:-1] / counts[-1], 0.4).theta

    wanted = towards_start(state(now), theta(), x, 0.4).theta
    assert counts[-1] == 30
    assert 0 < counts[:-1].max() <= 30
    assert all(np.array_equal(found[name], p) for name, p in wanted.items())


def test_saturation_and_norm_are_what_they_say() -> None:
    """By hand: two members of four hidden units, one of which is at its bound for every event."""
    now = {name: np.zeros_like(p) for name, p in theta().items()}
    now["b1"][0, 1] = 3

    assert saturated_share(now, np.zeros((6, 2), np.float32)) == 1 / 8
    assert saturated_share(now, np.zeros((0, 2), np.float32)) == 0
    assert saturated_share({"w": np.ones(2)}, np.zeros((6, 2), np.float32)) == 0
    assert norm({"a": np.array([3.0]), "b": np.array([[4.0]])}) == 5
