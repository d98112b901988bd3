"""How often θ is meta-updated."""

import math

import numpy as np
import pytest

from streammeta.engine.rhythm import Rhythm


def rhythm_after(losses: np.ndarray, shortest: int = 4, stretch: int = 8) -> Rhythm:
    rhythm = Rhythm(shortest, stretch)
    for loss in losses.tolist():
        rhythm.observe_meta_loss(loss)
    return rhythm


def noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.5, 0.1, n)


def test_a_steady_loss_is_visited_ever_more_seldom_up_to_the_bound() -> None:
    """Thousands of events without a change must not pay for meta-updates that change nothing."""
    assert rhythm_after(noise(48)).interval == 4  # one mean says nothing
    assert rhythm_after(noise(96)).interval == 8
    assert rhythm_after(noise(48 * 9)).interval == 32


def test_a_loss_that_moves_calls_for_more() -> None:
    """While θ still gains, or after the world has changed, seldom would be dear."""
    assert rhythm_after(noise(600) - np.linspace(0, 2, 600)).interval == 4
    jump = np.concatenate([noise(48 * 6), noise(48 * 2, seed=1) + 0.3])
    assert rhythm_after(jump[: 48 * 6]).interval == 32
    assert rhythm_after(jump[: 48 * 7]).interval == 16


def test_labels_foretold_much_worse_than_usual_call_for_a_hurry_at_once() -> None:
    """With a stretched interval meta-updates alone would notice a new concept thousands of events later."""
    tagged, alone = Rhythm(16, 4), Rhythm(16, 4)
    alone.begin_alone()
    for rhythm in (tagged, alone):
        for loss in noise(48 * 12).tolist():
            rhythm.observe_meta_loss(loss)
        for loss in noise(2000).tolist():
            rhythm.observe_label_loss(loss)
        assert rhythm.interval == 64

        for loss in (noise(32, seed=1) + 0.3).tolist():
            rhythm.observe_label_loss(loss)

    assert (tagged.interval, alone.interval) == (16, 4)  # of many tasks a hurry would learn only those that are there
    for loss in noise(60).tolist():
        alone.observe_meta_loss(loss)
    assert alone.interval == 16  # from where it may stretch again


def test_one_wild_loss_is_no_jump() -> None:
    """A single outlier in a regression can cost thousands of nats and says nothing of the concept."""
    rhythm = rhythm_after(noise(48 * 9), shortest=16, stretch=4)
    for loss in noise(1000).tolist():
        rhythm.observe_label_loss(loss)

    rhythm.observe_label_loss(1e6)

    assert rhythm.interval == 64


@pytest.mark.parametrize("seed", range(5))
def test_a_steady_stream_is_never_in_a_hurry(seed: int) -> None:
    """False alarms would cost many times the meta-updates for nothing."""
    rhythm = Rhythm(16, 4)
    rhythm.begin_alone()
    for loss in noise(100).tolist():
        rhythm.observe_meta_loss(loss)
    calm = rhythm.interval
    right = np.random.default_rng(seed).random(20_000) < 0.9

    for loss in np.where(right, 0.1, 2.3).tolist():
        rhythm.observe_label_loss(loss)
        assert rhythm.interval == calm


def test_a_stream_without_tags_begins_in_a_hurry() -> None:
    """It has one task, which is there: waiting for more would only cost its first thousand events."""
    rhythm = Rhythm(16, 4)
    rhythm.begin_alone()
    assert rhythm.interval == 4

    for loss in noise(100).tolist():
        rhythm.observe_meta_loss(loss)

    assert rhythm.interval in (16, 32)


def test_without_stretch_the_rhythm_is_fixed() -> None:
    """Who wants a repeatable cost sets it."""
    assert rhythm_after(noise(1000), shortest=7, stretch=1).interval == 7
    rhythm = Rhythm(7, 1)
    rhythm.begin_alone()
    for loss in [*[0.1] * 500, *[3.0] * 50]:
        rhythm.observe_label_loss(loss)
    assert rhythm.interval == 7


def test_what_is_no_number_tells_nothing() -> None:
    """A refused meta-update must not spoil the means for good."""
    bad = noise(96)
    bad[::7] = math.nan

    assert (
        rhythm_after(np.concatenate([bad, noise(96)])).interval
        == rhythm_after(np.concatenate([bad[~np.isnan(bad)], noise(96)])).interval
    )


def test_a_restored_rhythm_goes_on() -> None:
    """Otherwise a restart would change what a replay learns."""
    losses = noise(500)
    first, again = Rhythm(4, 8), Rhythm(4, 8)
    first.begin_alone()
    for loss in losses[:130].tolist():
        first.observe_meta_loss(loss)
    for loss in (losses[:300] + np.repeat([0, 1], 150)).tolist():  # it is in a hurry by now
        first.observe_label_loss(loss)

    again.load(first.dump())
    assert again.interval == first.interval == 1
    for loss in losses[130:].tolist():
        for one in (first, again):
            one.observe_meta_loss(loss)
            one.observe_label_loss(loss)

    assert again.interval == first.interval
    for name, array in first.dump().items():
        np.testing.assert_array_equal(again.dump()[name], array)
