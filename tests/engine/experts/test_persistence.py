"""The expert for labels that persist."""

from contextlib import closing

import numpy as np
import pytest
from msgspec.structs import replace

from streammeta.engine import Engine, EngineSettings, Outcome
from streammeta.engine.columns import Columns
from streammeta.engine.experts import Case, Mixture
from streammeta.engine.experts.persistence import Persistence
from streammeta.engine.partitioned import Renumbering
from streammeta.errors import SnapshotError
from streammeta.event import Event, Label, Origin

NO_FEATURES = np.zeros(0, np.float32)


def columns_of(expert: Persistence, rows: int = 1) -> Columns:
    """Of tasks of which nothing is known."""
    return Columns.blank(expert.layout(4, 4), rows)


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
    columns, case = columns_of(expert), Case(0, "t", NO_FEATURES)
    for t in range(200):
        expert.learn(columns, case, t // 2 % 3)

    said = expert.predict(columns, case, outputs=3)

    assert said is not None
    assert columns["last.run"][0] == 2
    assert said[columns["last.label"][0]] < 0.1
    assert said[(columns["last.label"][0] + 1) % 3] > 0.8
    np.testing.assert_allclose(said.sum(), 1.0, atol=1e-6)


def stream(count: int, *, late: int = 0, tasks: int = 3) -> list[Event | Label]:
    """Classes in runs of ten a task, in two partitions; every second label comes so many events of its task late."""
    events, queues, random = list[Event | Label](), dict[str, list[Event]](), np.random.default_rng(9)
    for i in range(count):
        task = f"t{random.integers(tasks)}"
        queue = queues.setdefault(task, [])
        seen = sum(isinstance(one, Event) and one.task == task for one in events)
        y = f"c{seen // 10 % 4}" if seen else "first"
        x = {f"f{c}": float((y == f"c{c}") + 1.5 * random.normal()) for c in range(4)}
        event = Event(x, task, Origin("runs", int(task[1]) % 2, i), y=y, id=str(i))
        events.append(replace(event, y=None) if late and i % 2 else event)
        if late and i % 2:
            queue.append(event)
        if len(queue) > late:
            due = queue.pop(0)
            events.append(Label(due.id or "", due.y or 0, due.task, due.origin))
    return events


def in_polls(engine: Engine, events: list[Event | Label], poll: int) -> list[str]:
    return [repr(one) for i in range(0, len(events), poll) for one in engine.step(events[i : i + poll])]


@pytest.mark.parametrize("late", [0, 3, 40])
@pytest.mark.parametrize("named", [("forest", "persistence"), ("persistence", "gaussian")], ids=str)
def test_polls_and_snapshots_change_nothing(late: int, named: tuple[str, ...]) -> None:
    """Also where an event and its late label come in one poll, and what it is counted after is of the same poll."""
    settings, events = EngineSettings.model_validate({"learner": {"experts": named}}), stream(600, late=late)

    one_by_one, cut, engine = in_polls(Engine(settings), events, 1), list[str](), Engine(settings)
    for at in range(0, len(events), 150):
        cut += in_polls(engine, events[at : at + 150], 16)
        engine = Engine.restore(settings, engine.snapshot())

    assert in_polls(Engine(settings), events, 1000) == one_by_one
    assert cut == one_by_one


def test_a_run_at_once_is_its_events_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast way and the slow way are one expert."""
    settings, events = EngineSettings.model_validate({"learner": {"experts": ["persistence"]}}), stream(500, late=5)

    at_once = in_polls(Engine(settings), events, 100)
    monkeypatch.setattr(Mixture, "ask", lambda *_: None)

    assert in_polls(Engine(settings), events, 100) == at_once


@pytest.mark.parametrize("late", [0, 3])
def test_it_goes_where_its_partition_goes_to_the_bit(late: int) -> None:
    """Exactly once: whoever has a partition next counts on, and knows after what the labels that wait are counted."""
    settings = EngineSettings.model_validate({"meta": {"mode": "off"}})
    events = [replace(one, origin=replace(one.origin, partition=0)) for one in stream(500, late=late)]
    stays = Engine(settings)
    stays.step(events[:350])
    log = {key: value for _, key, value in stays.handover().changes() if value is not None}
    goes = Engine(settings)
    goes.adopt(stays.shared_weights(), train=True)
    heard = {number: goes.add_sums(number, value, "weights/0") for number, value in stays.changed_sums()}
    list(goes.handover().take(0, log, "state/0"))
    goes.own_sums([0], heard)

    one, other = (in_polls(engine, events[350:], 7) for engine in (stays, goes))

    assert one == other


def test_a_member_counts_its_own_partitions_alone() -> None:
    """What a task is told must not depend on which other partitions its member has."""
    events = stream(400)
    alone = [one for one in events if one.origin.partition == 1]
    both, own = (Persistence(), Persistence())
    for expert, some in ((both, events), (own, alone)):
        columns = columns_of(expert, rows=3)
        for one in some:
            case = Case(int((one.task or "")[1]), one.task or "", NO_FEATURES, one.origin.partition)
            expert.learn(columns, case, float(["first", "c0", "c1", "c2", "c3"].index(str(one.y))))

    assert both.partitions == [0, 1]
    for name, array in own.partition(1).items():
        np.testing.assert_array_equal(array, both.partition(1)[name])


def test_a_late_label_is_counted_after_the_one_that_was_known_when_its_event_was_predicted() -> None:
    """By hand: labels alternate and come one event late, so each is the same as the last that was known: 0, then 1, …

    Counted after the one before it, it would look as if no label ever stayed, and each next prediction be wrong.
    """
    expert = Persistence()
    columns, waiting = columns_of(expert), list[tuple[Case, float]]()
    for t in range(200):
        case = Case(0, "t", NO_FEATURES, context=np.full(2, -1))
        said = expert.predict(columns, case, outputs=2)
        waiting.append((case, float(t % 2)))
        if len(waiting) > 1:
            late, y = waiting.pop(0)
            expert.learn(columns, late, y)

    assert said is not None
    assert said[199 % 2] > 0.95


def test_a_new_task_is_told_how_labels_follow_in_the_others() -> None:
    """Where they come in any order, the last label says nothing from a new task's second event on."""
    expert, random = Persistence(), np.random.default_rng(4)
    columns = columns_of(expert, rows=51)
    for _ in range(400):
        expert.learn(columns, Case(int(random.integers(50)), "t", NO_FEATURES), float(random.integers(4)))
    new = Case(50, "new", NO_FEATURES)
    expert.learn(columns, new, 2.0)

    said = expert.predict(columns, new, outputs=4)

    np.testing.assert_allclose(said, 0.25, atol=0.1)  # type: ignore[arg-type]  # it has an opinion


def test_classes_of_another_process_become_those_of_this_one() -> None:
    """Classes that came in another order there: the same predictions here, to the bit."""
    there, here = Persistence(), Persistence()
    columns = columns_of(there)
    for t in range(100):
        there.learn(columns, Case(0, "t", NO_FEATURES), float(t // 3 % 2))
    renumbering = Renumbering(np.arange(1), np.array([1, 0]), same=False)
    here.take_partition(0, there.partition(0), renumbering, "state/0")
    other = {"last.label": 1 - columns["last.label"], "last.run": columns["last.run"]}

    one = there.predict(columns, Case(0, "t", NO_FEATURES), 2)

    np.testing.assert_array_equal(one, here.predict(other, Case(0, "t", NO_FEATURES), 2)[::-1])  # type: ignore[index]


def test_more_classes_than_have_places_are_learned_on() -> None:
    """Identifiers used as labels: those beyond count as classes that seldom come."""
    expert = Persistence()
    columns = columns_of(expert)
    for t in range(400):
        expert.learn(columns, Case(0, "t", NO_FEATURES), float(t // 2 % 100))

    said = expert.predict(columns, Case(0, "t", NO_FEATURES), outputs=100)

    assert expert.partition(0)["persistence.classes"].tolist() == list(range(64))
    np.testing.assert_allclose(said.sum(), 1.0)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [
        ("counts", -1, -1.0),
        ("counts", -1, 0.5),
        ("counts", 7, 1e9),
        ("counts", 1, np.nan),
        ("counts", 3, np.inf),
        ("classes", 0, 77),
        ("classes", 0, -2),
        ("classes", 0, 1),
    ],
)
def test_damaged_counts_are_refused(name: str, place: int, value: float) -> None:
    """What is read from a topic must not lead compiled code out of its arrays."""
    expert = Persistence()
    columns = columns_of(expert)
    for t in range(50):
        expert.learn(columns, Case(0, "t", NO_FEATURES), float(t // 3 % 2))
    arrays = expert.partition(0)
    arrays[f"persistence.{name}"][place] = value

    with pytest.raises(SnapshotError, match=r"state/0: counts of "):
        expert.take_partition(0, arrays, Renumbering(np.arange(1), np.arange(2), same=True), "state/0")


def test_after_a_task_was_forgotten_the_others_go_on_and_what_is_saved_can_be_read() -> None:
    """They remember their last labels, and the partition's counts begin again: the first change was divided by nothing."""

    def event(i: int) -> Event:
        return Event({"a": float(i % 7)}, f"t{i % 4}", Origin("in", 0, i), y=int(i % 7 > 3))

    with closing(Engine(EngineSettings(learner={"experts": ["persistence"]}, meta={"mode": "off"}))) as engine:
        engine.step([event(i) for i in range(80)])
        assert engine.forget(0, "t1")
        outcomes = engine.step([event(i) for i in range(80, 120)])
        snapshot = engine.snapshot()

    assert all(np.isfinite(list(one.probabilities.values())).all() for one in outcomes if one.probabilities)
    Engine.restore(engine.settings, snapshot).close()
