"""Episodes: what leaves one process is what another one learns, and nothing of it is taken for its own."""

import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from msgspec.structs import replace

from streammeta.engine import Engine, EngineSettings
from streammeta.engine.episodes import SEGMENT, Circumstance, EpisodeLog, decode_segment
from streammeta.errors import SnapshotError
from streammeta.event import Event, Label, Origin
from tests.faults.mutations import mutated

Stream = Callable[..., list[Event]]
SETTINGS = EngineSettings.model_validate(
    {"learner": {"hidden": 8, "encoded": 4, "members": 1}, "meta": {"every_events": 16, "length": 32}}
)


def writer(settings: EngineSettings = SETTINGS) -> Engine:
    engine = Engine(settings)
    engine.write_episodes()
    return engine


def published(engine: Engine, events: list[Event], every: int = 50) -> Iterator[tuple[int, bytes, bytes]]:
    for begin in range(0, len(events), every):
        engine.step(events[begin : begin + every])
        yield from engine.changed_episodes()


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_a_trainer_fed_with_episodes_learns_the_theta_of_one_that_saw_the_events(
    linear_tasks: Stream, kind: str
) -> None:
    """θ from everybody's episodes must be θ of a process that sees all, to the bit where the order is the same."""
    settings = SETTINGS.model_copy(update={"kind": kind})
    events = linear_tasks(400, tasks=1, kind=kind)
    sees, serves, trains = Engine(settings), writer(settings), Engine(settings)
    sees.step([replace(e, origin=Origin("in", -1, i)) for i, e in enumerate(events)])

    learned = [o for n, key, value in published(serves, events) for o in trains.observe_episode(n, key, value, "here")]

    assert len(learned) == 400
    assert trains.stats().meta_updates == sees.stats().meta_updates > 10
    found, wanted = trains.memory.shared.state, sees.memory.shared.state
    assert all(bool((found.theta[name] == p).all()) for name, p in wanted.theta.items())


def test_tasks_of_others_are_in_no_list_count_sum_or_changelog(linear_tasks: Stream) -> None:
    """A partition that two processes wrote to would be torn."""
    serves, trains = writer(), writer()
    trains.step([replace(e, origin=Origin("in", 5, i)) for i, e in enumerate(linear_tasks(100, tasks=2))])
    handover = trains.handover()
    for written in (handover.changes(), trains.changed_sums(), trains.changed_episodes()):
        list(written)
    before = trains.stats()

    for number, key, value in published(serves, linear_tasks(600, tasks=3)):
        trains.observe_episode(number, key, value, "here")

    after = trains.stats()
    assert (after.tasks, after.events, after.labelled, after.drifts) == (2, 100, before.labelled, before.drifts)
    assert {task.partition for task in trains.tasks()} == {5}
    assert list(handover.changes()) == list(trains.changed_sums()) == list(trains.changed_episodes()) == []
    assert after.meta_updates > before.meta_updates
    trains.forget_episodes(0)
    assert len(trains.memory.tasks) == 2


def test_segments_hold_each_label_once_with_what_was_known_of_it(linear_tasks: Stream) -> None:
    """Late labels, words as features and young tasks included; compaction by key keeps each task's last events."""
    events = [
        replace(e, x=dict(e.x) | {"colour": "red" if i % 3 else "blue"}, y="ny"[int(e.y or 0)])
        for i, e in enumerate(linear_tasks(300, tasks=2))
    ]
    late = [replace(e, y=None) if i % 5 == 0 else e for i, e in enumerate(events)]
    labels = [Label(str(e.id), e.y or "", e.task, Origin("test", 0, 1000 + i)) for i, e in enumerate(events[::5])]
    engine = writer()
    engine.step(late[:20])
    young = list(engine.changed_episodes())
    records = young + list(published(engine, late[20:]))
    engine.step(labels)
    records += list(engine.changed_episodes())

    found: dict[tuple[str, int], tuple[object, ...]] = {}
    for _, key, value in records:
        tag, segment = decode_segment(key, value, "here")
        offsets, versions = np.frombuffer(segment.offsets, np.int64), np.frombuffer(segment.versions, np.int64)
        for i, (x, y) in enumerate(zip(segment.xs(), segment.y, strict=True)):
            loss = float(np.frombuffer(segment.losses, np.float32)[i])
            found[tag, segment.begin + i] = int(offsets[i]), x["colour"], x["a"], y, int(versions[i]), loss
    came = {i: e for i, e in enumerate(events) if i % 5} | {1000 + i: e for i, e in enumerate(events[::5])}

    assert young
    assert len({row[0] for row in found.values()}) == len(found) > 300 - 2 * SEGMENT
    for (tag, _), (offset, colour, a, y, version, loss) in found.items():
        event = came[int(str(offset))]
        x = dict(event.x)
        assert (tag, colour, y) == (event.task, x["colour"], event.y)
        assert a == np.float32(x["a"])
        assert int(str(version)) >= 0
        assert np.isfinite(float(str(loss)))
    assert len({key for _, key, _ in records}) <= 2 * 16


def test_what_is_kept_for_segments_is_bounded_and_begins_again_with_the_window() -> None:
    """A thousand tags a second for a year must cost no memory; a reset must lose no later label."""
    log, about = EpisodeLog(window=64), Circumstance(0.0, 0, 0, 0.0, drifted=False)
    for i in range(10_500):
        log.note((0, f"t{i}"), 0, about)
    assert len(log._open) <= 10_000
    key = (1, "t")
    for number in range(20):
        log.note(key, number, about)
    assert [numbers for numbers, _ in log.due(key, 20)] == [range(16)]
    for number in range(9):  # the window began again
        log.note(key, number, about)
    assert [numbers for numbers, _ in log.due(key, 9)] == [range(9)]
    for number in range(9, 17):
        log.note(key, number, about)
    assert [numbers for numbers, _ in log.due(key, 17)] == [range(16)]


def test_mutated_segments_are_refused_with_a_reason_or_harmless(linear_tasks: Stream) -> None:
    """Who trains reads what every member wrote."""
    source, reasons = random.Random(15), []
    _, key, value = next(published(writer(), linear_tasks(40, tasks=1)))
    for _ in range(600):
        trains = Engine(SETTINGS)
        try:
            trains.observe_episode(0, key, mutated(value, source), "episodes/0")
        except SnapshotError as err:
            reasons.append(str(err))
        finally:
            trains.close()
    assert len(reasons) > 60
    assert [reason for reason in reasons if not reason.startswith("episodes/0")] == []
