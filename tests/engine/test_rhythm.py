"""How often θ is meta-updated."""

import math

import numpy as np

from streammeta.engine.rhythm import Rhythm


def told(losses: np.ndarray, shortest: int = 4, stretch: int = 8) -> Rhythm:
    rhythm = Rhythm(shortest, stretch)
    for loss in losses.tolist():
        rhythm.tell(loss)
    return rhythm


def noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.5, 0.1, n)


def test_a_steady_loss_is_visited_ever_more_seldom_up_to_the_bound() -> None:
    """Thousands of events without a change must not pay for meta-updates that change nothing."""
    assert told(noise(48)).interval == 4  # one mean says nothing
    assert told(noise(96)).interval == 8
    assert told(noise(48 * 9)).interval == 32


def test_a_loss_that_moves_calls_for_more() -> None:
    """While θ still gains, or after the world has changed, seldom would be dear."""
    assert told(noise(600) - np.linspace(0, 2, 600)).interval == 4
    jump = np.concatenate([noise(48 * 6), noise(48 * 2, seed=1) + 0.3])
    assert told(jump[: 48 * 6]).interval == 32
    assert told(jump[: 48 * 7]).interval == 16


def test_without_stretch_the_rhythm_is_fixed() -> None:
    """Who wants a repeatable cost sets it."""
    assert told(noise(1000), shortest=7, stretch=1).interval == 7


def test_what_is_no_number_tells_nothing() -> None:
    """A refused meta-update must not spoil the means for good."""
    bad = noise(96)
    bad[::7] = math.nan

    assert (
        told(np.concatenate([bad, noise(96)])).interval
        == told(np.concatenate([bad[~np.isnan(bad)], noise(96)])).interval
    )


def test_a_restored_rhythm_goes_on() -> None:
    """Otherwise a restart would change what a replay learns."""
    losses = noise(500)
    first, again = told(losses[:130]), Rhythm(4, 8)

    again.load(first.dump())
    for loss in losses[130:].tolist():
        first.tell(loss)
        again.tell(loss)

    assert again.interval == first.interval
    for name, array in first.dump().items():
        np.testing.assert_array_equal(again.dump()[name], array)
