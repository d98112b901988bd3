"""Recall: a concept that returns is known again, and concepts go wherever their task goes."""

from collections.abc import Sequence

import numpy as np
import pytest
from msgspec.structs import replace

from streammeta.engine import Engine, EngineSettings, Outcome, Signal
from streammeta.engine.columns import Column
from streammeta.engine.concepts import LOOKED_AT, PRESENT, check_concepts, concept_columns
from streammeta.engine.handover import Handover
from streammeta.engine.tasks import MemorySettings
from streammeta.errors import ConfigError, SnapshotError
from streammeta.event import Event, Origin

FEATURES = [f"f{i}" for i in range(6)]
REIGN = 60  # events of a task under one concept


def seasons(
    events: int, *, tasks: int = 2, laws: int = 3, seed: int = 0, kind: str = "classification"
) -> tuple[list[Event], list[int]]:
    """Tasks that pass through the same few concepts again and again; and each event's number since its task's switch."""
    random = np.random.default_rng(seed)
    readouts = random.normal(size=(tasks, laws, len(FEATURES), 3))
    seen, stream, since = [0] * tasks, [], []
    for i in range(events):
        task = int(random.integers(tasks))
        x = random.normal(size=len(FEATURES))
        scores = x @ readouts[task, seen[task] // REIGN % laws]
        y = int(scores.argmax()) if kind == "classification" else float(scores[0])
        stream.append(Event(dict(zip(FEATURES, x.tolist(), strict=True)), f"t{task}", Origin("s", 0, i), y=y))
        since.append(seen[task] % REIGN)
        seen[task] += 1
    return stream, since


def settings(response: str = "recall", **changes: object) -> EngineSettings:
    base: dict[str, object] = {
        "learner": {"hidden": 12, "encoded": 8},
        "meta": {"every_events": 20, "length": 48},
        "drift": {"response": response, "concepts": 4, "concept_events": 24},
    }
    return EngineSettings.model_validate(base | changes)


def run(engine: Engine, events: Sequence[Event], poll: int) -> list[Outcome]:
    return [one for at in range(0, len(events), poll) for one in engine.step(events[at : at + poll])]


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_a_law_that_returns_is_known_again_sooner_than_with_reset_and_mix(kind: str) -> None:
    """That is what concepts are kept for. Of one stream some 300 events count: one of them moves the ratio by 0.01."""
    found: dict[str, list[float]] = {"recall": [], "mix": [], "reset": []}
    for seed in range(4):
        events, since = seasons(2_400, kind=kind, seed=seed)
        for response, soon in found.items():
            outcomes = run(Engine(settings(response, kind=kind)), events, 200)
            judged = [o.error for o, n in zip(outcomes[1_200:], since[1_200:], strict=True) if 5 <= n < 20]
            soon += [error for error in judged if error is not None]
    errors = {response: np.mean(soon) for response, soon in found.items()}

    assert errors["recall"] < 0.92 * errors["mix"]
    assert errors["recall"] < 0.92 * errors["reset"]


def test_what_is_recalled_does_not_depend_on_poll_size_or_on_memory() -> None:
    """Replays, slow consumers and fast ones must be one model, spilled tasks included. To the bit."""
    events, _ = seasons(900, tasks=3)

    bounded = settings(memory={"max_tasks": 2})

    one_by_one = run(Engine(bounded), events, 1)

    for poll in (7, 1000):
        assert run(Engine(bounded), events, poll) == one_by_one
    assert any(outcome.signal is Signal.DRIFT for outcome in one_by_one)


def test_concepts_survive_a_snapshot_in_the_middle_of_being_weighed() -> None:
    """A restart must not cost the concepts that were learned."""
    events, _ = seasons(900)
    undisturbed = run(Engine(settings()), events, 10)

    engine, outcomes = Engine(settings()), []
    for at in range(0, len(events), 110):
        outcomes += run(engine, events[at : at + 110], 10)
        engine = Engine.restore(settings(), engine.snapshot())

    assert outcomes == undisturbed
    assert engine.memory.tasks.columns["past.count"][:2].astype(bool).sum() >= 4


@pytest.mark.parametrize("renumbered", [False, True])
def test_concepts_go_with_their_task_to_another_process(renumbered: bool) -> None:
    """A rebalance must not cost the concepts that were learned, also where features and classes have other numbers."""
    chosen = settings(meta={"mode": "off"}, memory=MemorySettings(window=48))
    events, _ = seasons(900)
    stays = Engine(chosen)
    stays.step(events[:700])
    log: dict[bytes, bytes] = {key: value for _, key, value in stays.handover().changes() if value is not None}
    goes = Engine(chosen)
    if renumbered:
        other = Event({"other": 1.0} | dict.fromkeys(reversed(FEATURES), 0.5), "elsewhere", Origin("s", 1, 0), y=2)
        goes.step([other])
    else:
        goes.adopt(stays.shared_weights(), train=True)
        goes.own_sums([0], {n: goes.add_sums(n, value, "weights/0") for n, value in stays.changed_sums()})

    taken: Handover = goes.handover()
    list(taken.take(0, log, "state/0"))

    if not renumbered:
        assert [repr(one) for one in goes.step(events[700:])] == [repr(one) for one in stays.step(events[700:])]
        return
    for key, row in stays.memory.tasks.rows():
        there, mine, theirs = goes.memory.tasks.recall(key), stays.memory.tasks.columns, goes.memory.tasks.columns
        slots = [[name for name, *_ in goes.memory.features.slots].index(f) for f in FEATURES]
        for place, n in enumerate(mine["past.count"][row].tolist()):
            own, found = mine["past.x"][row, place, :n, :6], theirs["past.x"][there, place, :n]
            np.testing.assert_array_equal(found[:, slots], own)
            labels = [goes.memory.labels.classes[int(y)] for y in theirs["past.y"][there, place, :n]]
            assert labels == [stays.memory.labels.classes[int(y)] for y in mine["past.y"][row, place, :n]]


WINDOW = {
    "window_x": Column((16, 2), np.float32),
    "window_low": Column((16, 0), np.float32),
    "window_y": Column((16,), np.float32),
}


def test_damaged_concepts_are_refused() -> None:
    """What comes from a topic is checked before it is computed with."""
    found = {n: np.zeros((2, *c.shape), c.dtype) for n, c in concept_columns(4, 8, WINDOW).items()}
    found["labelled"] = np.full(2, 9)
    check_concepts(found, "state/0")

    for name, value in [("past.count", 9), ("past.used", 10), ("past.share", 0.5), ("past.concept", 4)]:
        broken = found | {name: np.full_like(found[name], value)}
        with pytest.raises(SnapshotError, match=f"state/0: a row with {name}"):
            check_concepts(broken, "state/0")


def test_other_learners_refuse_recall() -> None:
    """Their fast state has no sums that could be mixed; better told at the start than wrong all day."""
    with pytest.raises(ConfigError, match=r"\[drift\] response: \"recall\" mixes the sums of exact heads"):
        Engine(settings(learner={"method": "maml"}))


def test_a_law_is_filed_once_however_long_it_lasts() -> None:
    """A store full of copies of one concept would have no room for others."""
    events, _ = seasons(REIGN - 2, tasks=1)
    engine = Engine(settings())

    run(engine, events, 10)

    columns = engine.memory.tasks.columns
    assert columns["past.count"][0].tolist() == [24, 0, 0, 0]
    assert columns["past.concept"][0, PRESENT] == 0
    assert columns["past.given"].shape[1] == LOOKED_AT


def test_an_absurd_label_is_no_part_of_a_concept_that_is_kept() -> None:
    """Cut off at twenty spreads it was learned again with every return of the concept."""
    events, _ = seasons(2_400, kind="regression")
    bad = set(range(100, 2_400, 200))
    disturbed = [replace(event, y=1e9) if i in bad else event for i, event in enumerate(events)]

    errors = []
    for stream in (events, disturbed):
        outcomes = run(Engine(settings(kind="regression")), stream, 200)
        errors.append(np.mean([o.error for i, o in enumerate(outcomes) if i not in bad and o.error is not None]))

    assert errors[1] < 1.03 * errors[0]
