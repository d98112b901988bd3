"""Late labels join the event they are for, and no other."""

import numpy as np
import pytest

from streammeta.engine import Engine, EngineSettings
from streammeta.engine.labels import LabelSpace, PendingEvents, Waiting
from streammeta.errors import EventError
from streammeta.event import Decoder, Event, Label, Origin, Record


def waiting(task: str, partition: int = 0) -> Waiting:
    return Waiting((partition, task), (0,), np.ones(1))


def label(id_: str, task: str = "", partition: int = 0) -> Label:
    return Label(id_, 1, task, Origin("labels", partition, 7))


def test_the_same_id_in_two_tasks_is_two_events() -> None:
    """Else the second takes the first one's place, and learns its label."""
    pending = PendingEvents(10)
    pending.enter("1", waiting("a"))
    pending.enter("1", waiting("b"))

    assert pending.leave(label("1", "a")).key == (0, "a")
    assert pending.leave(label("1", "b")).key == (0, "b")
    assert (len(pending), pending.replaced) == (0, 0)


def test_a_label_of_another_task_is_refused_and_the_event_waits_on() -> None:
    """A label that names a task must not be learned by another: better set aside and said."""
    pending = PendingEvents(10)
    pending.enter("1", waiting("b"))

    with pytest.raises(EventError, match=r"labels/0/7: a label for id '1' of task 'a', but .* is of task 'b'; wanted"):
        pending.leave(label("1", "a"))
    assert pending.leave(label("1", "b")).key == (0, "b")


def test_a_label_without_a_task_joins_where_there_is_one_event_and_is_refused_where_there_are_two() -> None:
    pending = PendingEvents(10)
    pending.enter("1", waiting("a"))
    pending.enter("2", waiting("a"))
    pending.enter("2", waiting(""))

    assert pending.leave(label("1")).key == (0, "a")
    with pytest.raises(EventError, match=r"id '2' without a task, but events .* wait in 2 tasks \(task 'a', no task\)"):
        pending.leave(label("2"))
    assert len(pending) == 2


def test_partitions_do_not_share_ids() -> None:
    """They move between members each by itself, so nothing may be joined across them."""
    pending = PendingEvents(10)
    pending.enter("1", waiting("a", partition=1))

    with pytest.raises(EventError, match="no event of that id waits in its partition"):
        pending.leave(label("1", "a"))


def test_an_event_that_another_replaces_and_one_that_waited_too_long_are_counted() -> None:
    """Their labels will be refused later; without a count nobody knows why."""
    pending = PendingEvents(2)
    for id_ in ("1", "1", "2", "3"):
        pending.enter(id_, waiting("a"))

    assert (pending.replaced, pending.expired, len(pending)) == (1, 1, 2)


def test_what_waits_is_restored_with_its_counts_and_joined_as_before() -> None:
    pending, other = PendingEvents(10), PendingEvents(10)
    for task in ("a", "b", "a"):
        pending.enter("1", waiting(task))
    other.load(pending.dump())

    assert (len(other), other.replaced) == (2, 1)
    assert other.leave(label("1", "b")).key == (0, "b")
    with pytest.raises(EventError, match=r"of task 'b', but .* is of task 'a'"):
        other.leave(label("1", "b"))


@pytest.mark.parametrize("restored", [False, True])
def test_two_tasks_with_the_same_ids_learn_their_own_labels(restored: bool) -> None:
    """Opposite concepts and one id for both: joined by id alone, one of them learned the other's labels all along."""
    settings = EngineSettings.model_validate({"kind": "classification", "meta": {"mode": "off"}})
    random, offset, right = np.random.default_rng(0), 0, []
    engine = Engine(settings)
    for i in range(200):
        x = float(random.integers(2))
        truth = {"a": int(x), "b": 1 - int(x)}
        events = [Event({"x": x}, task, Origin("in", 0, offset + k), id=str(i)) for k, task in enumerate("ab")]
        outcomes = engine.step(events)
        right += [one.prediction == truth[one.event.task] for one in outcomes]
        if restored and i == 100:
            saved = engine.snapshot()
            engine.close()
            engine = Engine.restore(settings, saved)
        labels = [Label(str(i), truth[task], task, Origin("in", 0, offset + 2 + k)) for k, task in enumerate("ba")]
        assert [one.rejected for one in engine.step(labels)] == [None, None]
        offset += 4
    stats = engine.stats()
    engine.close()

    assert np.mean(right[-200:]) > 0.98
    assert (stats.labelled, stats.replaced, stats.pending_labels) == (400, 0, 0)


@pytest.mark.parametrize(
    ("ys", "classes"),
    [
        ([1, "1", 1.0, True], [1]),
        (["1", 1, "0", False], ["1", "0"]),
        (["01", "1", "1.0", "+1", " 1", "1e0"], ["01", "1", "1.0", "+1", " 1", "1e0"]),
        (["-3", -3, "-0", 0], ["-3", "-0", 0]),
        (["\u0661", 1], ["\u0661", 1]),
        (["true", True, "True"], ["true", 1, "True"]),
        (["9" * 30, "yes", ""], ["9" * 30, "yes", ""]),
    ],
)
def test_a_class_is_one_key_of_json_in_the_form_in_which_it_came_first(ys: list, classes: list) -> None:
    """Two forms of one key would stand twice in an object, and half of the probability would be lost to readers."""
    space = LabelSpace("classification", max_classes=100)
    for y in ys:
        space.learn(y)
    again = LabelSpace("classification", max_classes=100)
    again.load(space.classes)

    assert space.classes == classes
    assert [type(y) for y in space.classes] == [type(y) for y in classes]
    assert len({str(y) for y in space.classes}) == len(space.classes)
    assert [again.learn(y) for y in ys] == [space.learn(y) for y in ys]
    assert again.classes == classes


def test_numbers_and_their_texts_are_learned_as_one_class_and_predictions_come_back_as_first_seen() -> None:
    """One producer writes 1 and another "1": each class has one probability, and no prediction is wrong by its type."""
    settings = EngineSettings.model_validate({"kind": "classification", "meta": {"mode": "off"}})
    random, errors, forms = np.random.default_rng(0), [], set()
    engine = Engine(settings)
    for i in range(150):
        x = int(random.integers(2))
        y = x if i % 2 else str(x)
        (outcome,) = engine.step([Event({"x": float(x)}, "a", Origin("in", 0, i), y=y)])
        assert len(outcome.probabilities or {}) <= 2
        errors.append(outcome.error)
        forms.add(outcome.prediction)
    classes = engine.stats().classes
    engine.close()

    assert classes == 2
    assert len({str(one) for one in forms - {None}}) == len(forms - {None}) == 2
    assert np.mean(errors[-100:]) < 0.03


@pytest.mark.parametrize("y", [2**53 + 1, 2**60 + 3, -(2**53) - 3])
def test_numbers_too_large_to_be_told_apart_are_no_classes(y: int) -> None:
    """Customer ids of 64 bits as classes: two of them became one, and nothing said so."""
    decoder, engine = Decoder(), Engine(EngineSettings())
    near = decoder.decode(Record(b'{"x": {"a": 1}, "y": %d}' % y, Origin("in", 0, 0)))
    text = decoder.decode(Record(b'{"x": {"a": 1}, "y": "%d"}' % y, Origin("in", 0, 1)))

    refused, learned = engine.step([near, text])

    assert "beyond 2^53 are not kept apart; send it as text" in str(refused.rejected)
    assert learned.rejected is None
    assert engine.predict([Event({"a": 1.0}, "", Origin("in", 0, 2))])[0].prediction == str(y)
