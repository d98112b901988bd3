"""A snapshot of other experts goes on: a default that changes, or a setting, must not cost what tasks have learned."""

from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np
import pytest

from streammeta.engine import Engine, EngineSettings, MetaSettings
from streammeta.engine.handover import Handover
from streammeta.engine.tasks import MemorySettings
from streammeta.errors import SnapshotError
from streammeta.event import Event, Label
from streammeta.meta.settings import ExpertSettings, LearnerSettings

Stream = Callable[..., list[Event]]
NAIVE = ExpertSettings(name="river:naive_bayes.GaussianNB")
LISTS: dict[str, Sequence[str | ExpertSettings]] = {
    "default before": ["forest", "persistence"],
    "nearest": ["nearest", "forest", "persistence"],
    "turned": ["persistence", "forest"],
    "neighbours": ["neighbours", "persistence"],
    "River's": ["forest", NAIVE, "persistence"],
    "none": [],
}
ASLEEP = [("forest", 20), ("forest", 0)]  # experts, and ``many_classes``: without Gaussians of two classes


def settings(experts: Sequence[str | ExpertSettings], kind: str = "classification", many: int = 0) -> EngineSettings:
    learner = LearnerSettings(
        hidden=8, encoded=4, memories=(20.0,), members=2, experts=tuple(experts), many_classes=many
    )
    return EngineSettings(
        kind=kind, learner=learner, meta=MetaSettings(mode="off"), memory=MemorySettings(window=40, max_tasks=3)
    )  # tasks go to the spill


def handed(engine: Engine, chosen: EngineSettings) -> Engine:
    """An engine of these settings that takes over from another by the changelog."""
    fresh, records = Engine(chosen), {key: value for _, key, value in Handover(engine.memory).changes() if value}
    fresh.adopt(engine.shared_weights(), train=True)
    heard = {number: fresh.add_sums(number, value, "weights/0") for number, value in engine.changed_sums()}
    for _ in fresh.handover().take(0, records, "state/0"):
        pass
    fresh.own_sums([0], heard)
    return fresh


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("after", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("before", LISTS.values(), ids=LISTS)
def test_a_snapshot_of_other_experts_goes_on_as_the_changelog_does(
    linear_tasks: Stream, before: Sequence[str | ExpertSettings], after: Sequence[str | ExpertSettings], kind: str
) -> None:
    if kind == "regression":
        before, after = ([one for one in names if one is not NAIVE] for names in (before, after))
    events = linear_tasks(500, tasks=5, kind=kind)
    with closing(Engine(settings(before, kind))) as engine:
        engine.step(events[:400])
        snapshot, tasks = engine.snapshot(), {one.task: (one.labelled, one.drifts) for one in engine.tasks()}
        with closing(handed(engine, settings(after, kind))) as other:
            expected = other.step(events[400:])
    with closing(Engine.restore(settings(after, kind), snapshot)) as goes:
        assert {one.task: (one.labelled, one.drifts) for one in goes.tasks()} == tasks
        again = goes.snapshot()
        found = goes.step(events[400:])
    if not any(isinstance(one, ExpertSettings) for one in after):  # who is not saved begins where it is put
        assert [repr(one.prediction) for one in found] == [repr(one.prediction) for one in expected]
    with closing(Engine.restore(settings(after, kind), again)) as repeated:  # and what it writes is read again
        assert [repr(one.prediction) for one in repeated.step(events[400:])] == [repr(one.prediction) for one in found]


@pytest.mark.parametrize("waits", [0, 40])
def test_labels_of_events_predicted_by_other_experts_are_learned(linear_tasks: Stream, waits: int) -> None:
    events = linear_tasks(400, tasks=2)
    with closing(Engine(settings(LISTS["default before"]))) as engine:
        engine.step(events[: 400 - waits])
        engine.step([Event(one.x, one.task, one.origin, id=one.id) for one in events[400 - waits :]])
        snapshot = engine.snapshot()
    with closing(Engine.restore(settings(LISTS["nearest"]), snapshot)) as goes:
        late = [Label(one.id or "", one.y or 0, one.task, one.origin) for one in events[400 - waits :]]
        found = goes.step(late)
        assert [one.rejected for one in found] == [None] * waits
        assert sum(one.labelled for one in goes.tasks()) == 400


@pytest.mark.parametrize("after", [*ASLEEP, ("forest", 1), ("gaussian", 0)], ids=str)
@pytest.mark.parametrize("before", [*ASLEEP, ("forest", 1), ("gaussian", 0)], ids=str)
def test_gaussians_that_sleep_and_those_that_are_named_are_told_apart(
    linear_tasks: Stream, before: tuple[str, int], after: tuple[str, int]
) -> None:
    """``many_classes`` puts an expert behind the others that is not named, and may sleep."""
    events, (had, has) = linear_tasks(300, tasks=2), (settings([name], many=many) for name, many in (before, after))
    with closing(Engine(had)) as engine:
        engine.step(events[:200])
        snapshot = engine.snapshot()
        with closing(handed(engine, has)) as other:
            expected = other.step(events[200:])
    with closing(Engine.restore(has, snapshot)) as goes:
        begins = before in ASLEEP and after not in ASLEEP  # then it waits for what tasks share to change: no two alike
        assert not begins or goes.expert_weights()["gaussian"] > 0
        count = 20 if begins else 100
        found = goes.step(events[200 : 200 + count])
        assert [one.probabilities for one in found] == [one.probabilities for one in expected[:count]]


def test_what_the_pool_has_learned_of_an_expert_stays_its_own(linear_tasks: Stream) -> None:
    with closing(Engine(settings(LISTS["default before"]))) as engine:
        engine.step(linear_tasks(400, tasks=2))
        snapshot = engine.snapshot()
        forest, persistence = engine.memory.partitions.of(0)["pool.exponents"][1:, 0]
    with closing(Engine.restore(settings(["persistence", "nearest", "forest"]), snapshot)) as goes:
        exponents = goes.memory.partitions.of(0)["pool.exponents"][:, 0]
    np.testing.assert_array_equal(exponents[1:], [persistence, 0, forest])


def test_experts_that_are_not_known_here_are_named(linear_tasks: Stream) -> None:
    with closing(Engine(settings(["forest"]))) as engine:
        engine.step(linear_tasks(50))
        snapshot = engine.snapshot()
    snapshot.header["settings"]["learner.experts"] = "forest, oracle"
    with pytest.raises(SnapshotError, match="oracle"):
        Engine.restore(settings(["forest"]), snapshot)
