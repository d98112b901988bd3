"""The expert for labels that persist."""

import numpy as np

from streammeta.engine import Engine, EngineSettings, Outcome
from streammeta.engine.experts import Case
from streammeta.engine.experts.persistence import Persistence
from streammeta.event import Event, Origin


def runs(n: int, length: int, seed: int) -> list[Event]:
    """Classes in runs of one length, with features that hint at the class."""
    random = np.random.default_rng(seed)
    events, y = [], 0
    for i in range(n):
        if i % length == 0:
            y = int((y + random.integers(1, 4)) % 4)
        x = {f"f{c}": float((y == c) + 1.5 * random.normal()) for c in range(4)}
        events.append(Event(x, "t", Origin("runs", 0, i), y=y))
    return events


def errors(outcomes: list[Outcome]) -> float:
    return sum(outcome.error or 0.0 for outcome in outcomes) / len(outcomes)


def with_and_without(events: list[Event]) -> list[float]:
    return [
        errors(Engine(EngineSettings.model_validate({"learner": {"experts": experts}})).step(events)[500:])
        for experts in (["persistence"], [])
    ]


def test_it_helps_where_labels_come_in_runs_and_knows_how_long_they_last() -> None:
    """Runs of ten: the expert alone is wrong at every tenth label, the features often, both together seldom."""
    with_it, without = with_and_without(runs(1500, 10, seed=1))

    assert with_it < 0.08
    assert with_it < 0.5 * without


def test_it_does_little_harm_where_labels_are_random() -> None:
    """An option that someone left on must not ruin a stream it is not meant for."""
    with_it, without = with_and_without(runs(1500, 1, seed=2))

    assert with_it < without + 0.05


def test_what_it_expects_follows_the_counts() -> None:
    """By hand: after runs of two that always end, staying is unlikely at run 2 and certain at run 1."""
    expert = Persistence()
    columns = {name: np.full((1, *c.shape), c.blank, c.dtype) for name, c in expert.layout(4, 4).items()}
    case = Case(0, "t", np.zeros(0, np.float32))
    for t in range(200):
        expert.learn(columns, case, t // 2 % 3)
        expert.publish_shared()

    said = expert.predict(columns, case, outputs=3)

    assert said is not None
    assert columns["last.run"][0] == 2
    assert said[columns["last.label"][0]] < 0.1
    assert said[(columns["last.label"][0] + 1) % 3] > 0.8
    np.testing.assert_allclose(said.sum(), 1.0, atol=1e-6)
