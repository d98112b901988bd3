"""Tasks move between engines as records: what they do afterwards must not tell that they moved."""

from collections.abc import Callable, Sequence
from dataclasses import replace as dataclass_replace

import numpy as np
import pytest
from msgspec.structs import replace

from streammeta.engine import Engine, EngineSettings, MetaSettings, Outcome, Signal
from streammeta.engine.handover import Handover
from streammeta.engine.staleness import can_be_omitted
from streammeta.engine.tasks import MemorySettings
from streammeta.errors import SnapshotError
from streammeta.event import Event, Label, Origin
from streammeta.meta.outer import arranged
from streammeta.meta.settings import LearnerSettings

Stream = Callable[..., list[Event]]
SMALL = EngineSettings(
    learner=LearnerSettings(hidden=8, encoded=4, memories=(20.0,), members=2),
    meta=MetaSettings(mode="off"),
    memory=MemorySettings(window=40),
)
Log = dict[int, dict[bytes, bytes]]


def write(log: Log, handover: Handover) -> int:
    """Append what changed to a compacted log; returns how many records that took."""
    count = 0
    for partition, key, value in handover.changes():
        count += 1
        held = log.setdefault(partition, {})
        held.pop(key, None)  # compaction keeps the last record of a key, at the place where that was written
        if value is not None:
            held[key] = value
    return count


def take(handover: Handover, log: Log, *partitions: int) -> None:
    for partition in partitions:
        for _ in handover.take(partition, log.get(partition, {}), f"state/{partition}"):
            pass


def moved(engine: Engine, log: Log, settings: EngineSettings = SMALL, partitions: Sequence[int] = (0,)) -> Engine:
    """A fresh engine that goes on where this one was."""
    fresh = Engine(settings)
    fresh.adopt(engine.shared_weights(), train=True)
    heard = {number: fresh.add_sums(number, value, "weights/0") for number, value in engine.changed_sums()}
    take(fresh.handover(), log, *partitions)
    fresh.own_sums(partitions, heard)
    return fresh


def same(one: Outcome, other: Outcome) -> bool:
    return repr(one) == repr(other)  # to the bit, NaN included


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("detector", ["adwin", "none"])
@pytest.mark.parametrize("tasks", [5, 60])
def test_moved_tasks_go_on_to_the_bit(linear_tasks: Stream, kind: str, detector: str, tasks: int) -> None:
    """The promise of exactly once: whoever has a partition now predicts what the one before would have."""
    settings = EngineSettings.model_validate(
        SMALL.model_dump(exclude_unset=True)
        | {"kind": kind, "drift": {"detector": detector}, "meta": {"mode": "sync", "every_events": 64}}
    )
    events = linear_tasks(900, tasks=tasks, kind=kind, switch_at=300)
    stays, log = Engine(settings), Log()
    handover = stays.handover()
    for begin in range(0, 600, 50):
        stays.step(events[begin : begin + 50])
        write(log, handover)

    goes = moved(stays, log, settings)

    stays.memory.settings = goes.memory.settings = settings.model_copy(update={"meta": SMALL.meta})
    foreseen = zip(stays.predict(events[600:660]), goes.predict(events[600:660]), strict=True)
    assert all(same(one, other) for one, other in foreseen)
    after = zip(stays.step(events[600:]), goes.step(events[600:]), strict=True)
    assert all(same(one, other) for one, other in after)
    assert goes.stats().tasks == tasks


@pytest.mark.parametrize("made", [lambda bit: bit, bool, lambda bit: 3 * bit - 1], ids=["01", "tf", "-12"])
def test_whole_numbers_and_flags_that_wait_for_a_label_move_as_they_are(made: Callable[[int], int]) -> None:
    """Saved as whole numbers of 64 bits they were read as fractions near 0; flags could not be read at all."""
    bits = np.random.default_rng(0).integers(2, size=(60, 3))
    events = [
        Event({name: made(int(bit)) for name, bit in zip("abc", row, strict=True)}, "t", Origin("in", 0, i), id=str(i))
        for i, row in enumerate(bits)
    ]
    labels = [Label(str(i), int(row[0]), "t", Origin("labels", 0, i)) for i, row in enumerate(bits)]
    stays, log = Engine(SMALL), Log()
    handover = stays.handover()
    stays.step([*(one for pair in zip(events[:40], labels[:40], strict=True) for one in pair), *events[40:]])
    write(log, handover)

    goes, again = moved(stays, log), Engine.restore(SMALL, stays.snapshot())

    after = [*labels[40:], *(replace(one, id=f"again {one.id}") for one in events)]
    for one, other, third in zip(*(engine.step(after) for engine in (stays, goes, again)), strict=True):
        assert same(one, other)
        assert same(one, third)


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("response", ["mix", "reset"])
@pytest.mark.parametrize("mode", ["sync", "off"])
def test_phi_that_stays_behind_is_made_again_to_the_bit(
    linear_tasks: Stream, kind: str, response: str, mode: str
) -> None:
    """Most of a young task's record was φ. Leaving it out must not be seen, not even in the last bit."""
    settings = EngineSettings.model_validate(
        SMALL.model_dump(exclude_unset=True)
        | {"learner": SMALL.learner.model_dump(exclude_unset=True) | {"experts": []}}  # or no drift is left to be found
        | {"kind": kind, "meta": {"mode": mode}, "drift": {"response": response, "keep_events": 5}}
    )
    engine, checked, drifts = Engine(settings), 0, 0
    for i, event in enumerate(linear_tasks(900, tasks=15, kind=kind, switch_at=450)):
        x = {name: value for name, value in event.x.items() if (i + len(name)) % 7} | ({"late": 1.0} if i > 500 else {})
        drifts += engine.step([replace(event, x=x)])[0].signal is Signal.DRIFT
        columns, version = engine.memory.tasks.columns, engine.memory.shared.stamp
        rows = np.array([row for _, row in engine.memory.tasks.rows()])
        rows = rows[can_be_omitted(columns, rows, version) & (columns["version"][rows] == version)]
        was = {name: columns[name].copy() for name in ("A", "B", "logw")}
        engine.memory.response.derive(
            engine.memory.fixed, columns, rows[columns["window_count"][rows] > 0], engine.memory.labels.outputs
        )
        assert [name for name, before in was.items() if before.tobytes() != columns[name].tobytes()] == []
        checked += rows.size
    assert checked > 1_000
    assert drifts > 1


def test_a_young_task_needs_few_bytes(linear_tasks: Stream) -> None:
    """How fast a partition comes back is how many bytes its tasks have."""
    events = linear_tasks(1_000, tasks=250)  # four of each
    engine, log = Engine(EngineSettings()), Log()
    engine.step(events)
    write(log, engine.handover())
    assert engine.memory.tasks.columns["A"][0].nbytes > 9_000
    assert max(len(value) for key, value in log[0].items() if key.startswith(b"task:")) < 560


def test_a_reset_task_is_saved_with_its_new_window(linear_tasks: Stream) -> None:
    """A page of the old concept under a new head would poison every later rebuild of φ."""
    settings = SMALL.model_copy(update={"drift": SMALL.drift.model_copy(update={"response": "reset"})})
    events = linear_tasks(600, tasks=1, switch_at=300)
    stays, log = Engine(settings), Log()
    handover = stays.handover()
    stays.step(events[:300])
    write(log, handover)
    stays.step(events[300:370])  # the reset, and more than a page after it, between two commits
    write(log, handover)
    ((_, row),) = stays.memory.tasks.rows()
    assert 16 <= stays.memory.tasks.columns["window_count"][row] < 70

    goes = moved(stays, log, settings)

    assert all(same(a, b) for a, b in zip(stays.step(events[370:]), goes.step(events[370:]), strict=True))


def test_only_what_changed_is_written(linear_tasks: Stream) -> None:
    """The cost of a commit must follow its events, not the number of tasks or the length of windows."""
    engine, log = Engine(SMALL), Log()
    handover = engine.handover()
    engine.step(linear_tasks(200, tasks=20))
    write(log, handover)
    assert write(log, handover) == 0

    engine.step([Event({"a": 1.0, "b": 2.0, "c": 0.5}, "task-3", Origin("test", 0, 999), y=1)])

    # the task, perhaps a page that became full, the forest's newest event and count, features' relevance, what label
    # follows what, the linear model, and who was right
    assert write(log, handover) <= 9


def test_spilled_tasks_are_written_and_taken_too(linear_tasks: Stream) -> None:
    """A task may leave memory between its event and the commit."""
    settings = SMALL.model_copy(update={"memory": MemorySettings(window=40, max_tasks=4)})
    events = linear_tasks(3_000, tasks=30)
    stays, log = Engine(settings), Log()
    handover = stays.handover()
    stays.step(events[:2_500])
    write(log, handover)

    goes = moved(stays, log, settings)

    assert goes.stats().tasks == 30
    assert goes.stats().tasks_in_memory <= 4
    assert all(same(a, b) for a, b in zip(stays.step(events[2_500:]), goes.step(events[2_500:]), strict=True))


def test_events_that_wait_move_with_their_task(linear_tasks: Stream) -> None:
    """A label that comes after a restart must find its event, with the prediction that was published for it."""
    events = linear_tasks(300, tasks=3)
    stays, log = Engine(SMALL), Log()
    handover = stays.handover()
    stays.step(events[:200])
    stays.step([replace(event, y=None) for event in events[200:300]])
    write(log, handover)
    labels = [
        Label(str(e.id), e.y, e.task, Origin("test", 0, 1000 + i))
        for i, e in enumerate(events[200:300])
        if e.y is not None
    ]
    stays.step(labels[:70])
    write(log, handover)

    goes = moved(stays, log)

    assert goes.stats().pending_labels == 30
    assert all(same(a, b) for a, b in zip(stays.step(labels[60:]), goes.step(labels[60:]), strict=True))
    write(log, handover)
    assert not any(key.startswith(b"wait:") for key in log[0])


def otherwise(events: list[Event]) -> list[Event]:
    """Events whose first one lacks all but the last feature, which so gets the first slot."""
    last = list(events[0].x.items())[-1:]  # type: ignore[union-attr]
    return [replace(events[0], x=dict(last)), *events[1:]]


def test_features_and_classes_numbered_otherwise_are_translated(linear_tasks: Stream) -> None:
    """Two processes see names in different orders; a task must not take one feature for another when it moves."""
    events = [replace(e, y="yes" if e.y else "no") for e in linear_tasks(600, tasks=2)]
    turned = [
        replace(e, y={"yes": "no", "no": "yes"}[str(e.y)], task="own", origin=Origin("test", 1, i))
        for i, e in enumerate(otherwise(events[:40]))
    ]
    gives, log = Engine(SMALL), Log()
    gives.step(events[:500])
    write(log, gives.handover())

    takes = Engine(SMALL)
    takes.step(turned)
    takes.adopt(None, train=False)
    takes.memory.shared.stamp = gives.memory.shared.stamp  # by chance: then φ does not look out of date
    take(takes.handover(), log, 0)
    for key, row in gives.memory.tasks.in_rows.items():
        theirs = takes.memory.tasks.columns["linear.intercepts"][takes.memory.tasks.in_rows[key]]
        np.testing.assert_array_equal(theirs[:, ::-1], gives.memory.tasks.columns["linear.intercepts"][row])
        assert theirs.any()

    outcomes = takes.step(events[500:])
    expected = gives.step(events[500:])
    assert [o.age for o in outcomes] == [o.age for o in expected]
    assert sum(o.error or 0.0 for o in outcomes[:30]) < 9  # half of them where one class is taken for the other


def test_tasks_that_were_written_before_any_label_came_are_taken(linear_tasks: Stream) -> None:
    """No class was known, so experts that have a place for each had none."""
    events = linear_tasks(60, tasks=2)
    gives, log = Engine(SMALL), Log()
    gives.step([replace(e, y=None, id=f"e{i}") for i, e in enumerate(events[:20])])
    write(log, gives.handover())

    for takes in (moved(gives, log), Engine(SMALL)):
        if not takes.memory.tasks.in_rows:
            takes.step(
                [replace(e, y=1 - int(e.y or 0), origin=Origin("test", 1, i)) for i, e in enumerate(events[:30])]
            )
            take(takes.handover(), log, 0)
        found = takes.step([replace(e, origin=Origin("test", 0, i)) for i, e in enumerate(events[20:])])
        assert not any(one.rejected for one in found)


def test_a_forgotten_partition_is_gone_and_the_others_stay(linear_tasks: Stream) -> None:
    """State that stays behind would be written again by two processes."""
    events = [replace(e, origin=Origin("test", i % 2, i)) for i, e in enumerate(linear_tasks(200, tasks=4))]
    engine, log = Engine(SMALL), Log()
    handover = engine.handover()
    engine.step(events[:100])
    engine.step([replace(events[100], y=None)])

    handover.forget(0)

    assert write(log, handover) > 0
    assert set(log) == {1}
    assert {task.partition for task in engine.tasks()} == {1}
    assert engine.stats().pending_labels == 0


def test_state_of_other_settings_is_refused(linear_tasks: Stream) -> None:
    """A changed setting must not silently make other rows of the same bytes."""
    engine, log = Engine(SMALL), Log()
    engine.step(linear_tasks(50))
    write(log, engine.handover())
    other = Engine(SMALL.model_copy(update={"memory": MemorySettings(window=64)}))

    with pytest.raises(SnapshotError, match=r"memory.window = 40.*64"):
        take(other.handover(), log, 0)


@pytest.mark.parametrize("method", ["exact-heads", "maml-ema", "cavia", "lstm", "mixture"])
def test_theta_of_a_process_that_numbers_otherwise_is_taken_by_names(method: str, linear_tasks: Stream) -> None:
    """Taken by numbers, it would multiply one feature with the weights of another; and nobody shall begin again."""
    settings = EngineSettings.model_validate(
        {"learner": {"method": method, "members": 1, "support": 8}, "meta": {"every_events": 16, "length": 16}}
    )
    events = [replace(e, y="yes" if e.y else "no") for e in linear_tasks(120, tasks=2)]
    extra = replace(events[0], x={"z": 1.0, **events[0].x}, y="maybe")  # type: ignore[dict-item]
    leads, follows, fresh = Engine(settings), Engine(settings), Engine(settings)
    leads.step(events)
    turned = [replace(e, y={"yes": "no", "no": "yes"}[str(e.y)]) for e in otherwise(events[:8])]
    follows.step([*turned, extra])
    fresh.adopt(leads.shared_weights(), train=False)
    follows.adopt(leads.shared_weights(), train=False)

    theirs, ours = leads.memory.shared, follows.memory.shared
    names = [slot[:2] for slot in ours._slots]
    here = [names.index(slot[:2]) for slot in theirs._slots]
    there = [ours._outputs.index(y) for y in theirs._outputs]
    features, outputs = np.full(len(ours._slots), -1), np.full(len(ours._outputs), -1)
    features[here], outputs[there] = np.arange(len(here)), np.arange(len(there))
    back = arranged(ours.state, theirs.start(), leads.memory.method.axes(theirs.state.theta), features, outputs)
    assert here != sorted(here)
    assert there != sorted(there)
    assert all(np.array_equal(back.theta[name], p) for name, p in theirs.state.theta.items())
    assert np.array_equal(back.first, theirs.state.first)
    assert np.array_equal(back.second, theirs.state.second)
    assert follows.stats().theta_version == fresh.stats().theta_version == leads.stats().theta_version > 0


def test_a_follower_learns_of_its_own_what_the_leader_has_not_seen(linear_tasks: Stream) -> None:
    """A feature that only the other partition has must be normalized, and weighted, where it is."""
    events = linear_tasks(200)
    alone = [
        replace(e, x={"own": 1e6 + 1e4 * e.x["a"], **e.x}, origin=Origin("test", 1, i)) for i, e in enumerate(events)
    ]  # type: ignore[index,dict-item,call-overload]
    leads, follows = Engine(SMALL), Engine(SMALL)
    leads.step(events)
    follows.step(alone)
    follows.adopt(leads.shared_weights(), train=False)

    slot = [slot.name for slot in follows.memory.features.slots].index("own")
    assert follows.memory.shared.frame.shared.shift[slot] == pytest.approx(1e6, rel=0.01)
    assert follows.memory.shared.state.theta["w1"].shape[1] == leads.memory.shared.state.theta["w1"].shape[1] + 1


def test_a_follower_changes_nothing_that_tasks_share(linear_tasks: Stream) -> None:
    """Two processes that both moved θ would predict differently for the same task."""
    settings = SMALL.model_copy(update={"meta": MetaSettings(every_events=16)})
    events = linear_tasks(600)
    leads, follows = Engine(settings), Engine(settings)
    leads.step(events[:200])
    follows.adopt(leads.shared_weights(), train=False)
    version = follows.stats().theta_version

    follows.step(events[200:400])
    assert follows.stats().theta_version == version
    follows.adopt(follows.shared_weights(), train=True)
    follows.step(events[400:])
    assert follows.stats().theta_version > version


@pytest.mark.parametrize("poison", ["sign flipped", "random", "not a number"])
def test_a_poisoned_theta_is_refused_and_the_present_one_stays(linear_tasks: Stream, poison: str) -> None:
    """One bad publisher must not take every server's predictions with it."""
    settings = SMALL.model_copy(update={"meta": MetaSettings(every_events=16, length=32)})
    events = linear_tasks(1_200, tasks=6)
    leads, follows = Engine(settings), Engine(settings)
    leads.step(events[:800])
    assert follows.adopt(leads.shared_weights(), train=False)
    follows.step(events[800:])
    before, good = follows.memory.shared.state.theta["w2"].copy(), leads.shared_weights()
    random, arrays = np.random.default_rng(0), dict(good.arrays)
    for name in [name for name in arrays if name.startswith("theta.")]:
        if poison == "sign flipped":
            arrays[name] = -arrays[name]
        elif poison == "random":
            arrays[name] = random.normal(size=arrays[name].shape).astype(np.float32)
        else:
            arrays[name] = np.full_like(arrays[name], np.nan)
    bad = dataclass_replace(good, shared=good.shared | {"version": good.version + 1}, arrays=arrays)

    if poison == "not a number":
        with pytest.raises(SnapshotError, match="wanted finite"):
            follows.adopt(bad, train=False)
    else:
        assert not follows.adopt(bad, train=False)

    assert np.array_equal(follows.memory.shared.state.theta["w2"], before)
    leads.step(events[800:])
    assert follows.adopt(leads.shared_weights(), train=False)
    assert not np.array_equal(follows.memory.shared.state.theta["w2"], before)


def test_twenty_versions_are_adopted_one_after_the_other_and_one_that_goes_back(linear_tasks: Stream) -> None:
    """A server that never took a second version has been shipped elsewhere; a rollback must not look like poison."""
    settings = SMALL.model_copy(update={"meta": MetaSettings(every_events=16, length=32)})
    events = linear_tasks(3_000, tasks=6)
    leads, follows, versions = Engine(settings), Engine(settings), []
    for i in range(20):
        leads.step(events[100 * i : 100 * (i + 1)])
        follows.step(events[100 * i : 100 * (i + 1)])
        versions.append(leads.shared_weights())
        assert follows.adopt(versions[-1], train=False)
        assert follows.stats().theta_version == leads.stats().theta_version

    assert follows.adopt(versions[10], train=False)
    assert follows.stats().theta_version == versions[10].version


@pytest.mark.parametrize("after", [["forest"], ["persistence", "forest"], ["neighbours"], []], ids=str)
@pytest.mark.parametrize("before", [["forest"], ["persistence", "forest"], ["neighbours", "persistence"], []], ids=str)
def test_tasks_go_on_where_other_experts_are_named(linear_tasks: Stream, before: list[str], after: list[str]) -> None:
    """A default that changes, or a setting, must not cost what tasks have learned."""
    had, has = (
        SMALL.model_copy(update={"learner": SMALL.learner.model_copy(update={"experts": tuple(names)})})
        for names in (before, after)
    )
    events = linear_tasks(400, tasks=3)
    waiting = [replace(event, y=None, id=str(i)) for i, event in enumerate(events[360:])]
    stays, log = Engine(had), Log()
    handover = stays.handover()
    stays.step([*events[:360], *waiting])
    write(log, handover)

    goes = moved(stays, log, has)

    labelled = [sorted((one.task, one.labelled) for one in each.tasks()) for each in (stays, goes)]
    assert labelled[0] == labelled[1]
    late = [Label(str(i), event.y or 0, event.task, event.origin) for i, event in enumerate(events[360:])]
    learned = goes.step(late)
    assert [one.rejected for one in learned] == [None] * 40
    if before == after:
        assert [one.prediction for one in learned] == [one.prediction for one in stays.step(late)]
    log = Log()  # and what it writes is read again
    write(log, goes.handover())
    again = moved(goes, log, has)
    assert {one.task: one.labelled for one in again.tasks()} == {one.task: one.labelled for one in goes.tasks()}


@pytest.mark.parametrize("new", ["feature", "class"])
def test_pages_of_an_older_schema_never_overwrite_newer_events_of_the_same_places(new: str) -> None:
    """A window is a ring: its oldest page reaches into the places of the open one, and they were put by schema."""
    stays, log = Engine(SMALL), Log()
    handover, random, offset = stays.handover(), np.random.default_rng(3), 0

    def learn(task: str, count: int, *, later: bool) -> None:
        nonlocal offset
        for _ in range(count):
            a, b = random.normal(size=2).tolist()
            x = {"a": a} | ({"b": b} if later and new == "feature" else {})
            y = "maybe" if later and new == "class" and offset % 3 else "yes" if a > 0 else "no"
            stays.step([Event(x, task, Origin("s", 0, offset), y=y)])
            offset += 1
        write(log, handover)

    learn("b", 36, later=False)  # two full pages and some, of the first schema
    learn("a", 7, later=True)  # is written, and taken, before the other: the second schema is met first
    learn("b", 9, later=True)  # its window of 40 has wrapped around

    goes = moved(stays, log)

    for key, row in stays.memory.tasks.rows():
        there, ours, theirs = goes.memory.tasks.recall(key), stays.memory.tasks.columns, goes.memory.tasks.columns
        held = slice(min(int(ours.window_count[row]), 40))
        for name in ("window_x", "window_y"):
            np.testing.assert_array_equal(theirs[name][there, held], ours[name][row, held], err_msg=f"{key} {name}")


def test_records_of_the_partition_and_of_no_task_are_left_to_the_service() -> None:
    """A savepoint of members that keep their events has them: it could not be read otherwise."""
    engine = Engine(EngineSettings())

    taken = list(engine.handover().take(0, {b"own:sums": b"whatever", b"own:budget": b"else"}, "here"))

    assert taken[-1] == 0
    assert engine.stats().tasks == 0
