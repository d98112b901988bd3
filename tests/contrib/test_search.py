"""A search that finds."""

from streammeta.contrib.search import Space, search
from streammeta.episode.sinusoid import sinusoids
from streammeta.offline.training import Schedule

FAMILY = sinusoids()


def test_search_finds_a_better_inner_rate_than_the_worst() -> None:
    """With rates from useless to good the best of a few trials must be on the good side, and be repeatable."""
    losses: list[float] = []
    schedule, space = Schedule(updates=150, tasks=10), Space(inner_rate=(1e-5, 0.05), inner_steps=(1, 1))

    found = search("meta-sgd", FAMILY, schedule, trials=4, space=space, watch=lambda _, loss: losses.append(loss))

    assert found.loss == min(losses)
    assert found.tuning.inner_rate == found.settings["inner_rate"]
    assert max(losses) > 1.02 * found.loss
    again = search("meta-sgd", FAMILY, schedule, trials=1, space=space)
    assert again.loss == losses[0]
