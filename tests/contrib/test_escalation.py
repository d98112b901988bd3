"""Tasks that stay bad get more of the meta-updates."""

import numpy as np

from streammeta.contrib.escalation import Escalation
from streammeta.engine import Engine, EngineSettings
from streammeta.engine.sampling import Uniform
from streammeta.event import Event, Origin


def escalation_after(ages: int = 200, error: float = 0.2) -> Escalation:
    """All tasks erred as often at every age."""
    random = np.random.default_rng(0)
    escalation = Escalation(32, Uniform())
    for age in np.repeat(np.arange(ages), 20).tolist():
        escalation.observe_error(age, float(random.random() < error))
    return escalation


def columns(*tasks: tuple[int, float]) -> tuple[np.ndarray, np.ndarray]:
    """Tasks with so many labels and this running error."""
    return np.array([n for n, _ in tasks]), np.array([error for _, error in tasks])


def test_a_task_is_left_behind_when_it_errs_more_than_chance_explains() -> None:
    """Three standard errors of a mean of 50 errors at 0.2 are 0.17; a young task may still learn by itself."""
    table = columns((100, 0.2), (100, 0.35), (100, 0.4), (20, 0.9), (40, 0.35), (40, 0.45))

    assert escalation_after().underperforming(*table, np.arange(6)).tolist() == [2, 5]


def test_nothing_is_known_of_an_age_that_nobody_has_reached() -> None:
    """The only old task of a young service is not bad for being alone."""
    assert escalation_after(ages=60).underperforming(*columns((5_000, 0.9)), np.arange(1)).size == 0


def test_half_of_the_segments_are_theirs() -> None:
    """More would forget what all others need."""
    drawn = escalation_after().prefer(np.zeros(2_000, np.int64), np.array([7, 9]), np.random.default_rng(1))

    assert 0.45 < (drawn > 0).mean() < 0.55
    assert set(drawn.tolist()) == {0, 7, 9}


def crowd(n: int) -> list[Event]:
    """Nine tasks share one concept; one has a concept of its own that is hard to see."""
    random = np.random.default_rng(2)
    events = []
    for i in range(n):
        task, x = int(random.integers(10)), random.normal(size=4)
        y = int(x[0] * x[1] * x[2] > 0) if task == 9 else int(x[3] > 0)
        events.append(Event(dict(zip("abcd", x.tolist(), strict=True)), f"t{task}", Origin("s", 0, i), y=y))
    return events


def test_meta_updates_come_more_often_while_a_task_is_left_behind() -> None:
    """Polls and restarts must not matter: how tasks err is counted event by event, and is in the snapshot."""
    chosen = {"learner": {"hidden": 12, "encoded": 6, "members": 2}, "meta": {"every_events": 20, "stretch": 1}}
    settings = EngineSettings.model_validate(chosen | {"meta": chosen["meta"] | {"escalate_events": 32}})
    events, plain = crowd(1_500), Engine(EngineSettings.model_validate(chosen))
    whole, engine, cut = Engine(settings), Engine(settings), []

    plain.step(events)
    for at in range(0, 1_500, 250):
        cut += [one for i in range(at, at + 250, 10) for one in engine.step(events[i : i + 10])]
        engine = Engine.restore(settings, engine.snapshot())

    assert cut == whole.step(events)
    assert whole.stats().meta_updates > 1.2 * plain.stats().meta_updates
