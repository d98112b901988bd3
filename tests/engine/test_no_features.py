"""Streams in which there is nothing to look at, or nothing yet."""

import random
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from streammeta.app.replay import replay
from streammeta.config import AppSettings, Settings
from streammeta.engine import Engine, EngineSettings, MetaSettings
from streammeta.estimator import MetaClassifier, MetaRegressor
from streammeta.event import Decoder, Event, Feature, Label, Origin, Record
from streammeta.meta.settings import LearnerSettings
from streammeta.report import Tally
from streammeta.transport.file import FileSource

SHARES = {"a": 0.9, "b": 0.2}  # of class 1, by task
MEANS = {"a": 5.0, "b": 15.0}


def classes(n: int, seed: int = 0) -> list[tuple[str, int]]:
    drawn = random.Random(seed)
    return [(tag, int(drawn.random() < SHARES[tag])) for tag in ("ab"[i % 2] for i in range(n))]


def targets(n: int, seed: int = 0) -> list[tuple[str, float]]:
    drawn = random.Random(seed)
    return [(tag, MEANS[tag] + drawn.gauss(0, 1)) for tag in ("ab"[i % 2] for i in range(n))]


def event(x: dict[str, Feature] | list[float | None], tag: str, at: int, y: float | None = None) -> Event:
    return Event(x, tag, Origin("events", 0, at), y=y)


@pytest.mark.parametrize("x", [{}, [], {"weight": None}])
def test_without_features_each_task_learns_its_own_class_frequencies(
    x: dict[str, Feature] | list[float | None],
) -> None:
    """A reshape of nothing ended the process inside the first meta-update."""
    engine = Engine(EngineSettings())
    engine.step([event(x, tag, i, y) for i, (tag, y) in enumerate(classes(1000))])

    said = {tag: outcome.probabilities for tag in "ab" for outcome in engine.predict([event(x, tag, 1000)])}

    assert engine.stats().meta_updates > 10
    assert engine.stats().refused == 0
    assert {tag: found[1] for tag, found in said.items() if found} == pytest.approx(SHARES, abs=0.15)


@pytest.mark.parametrize("x", [{}, [], {"weight": None}])
def test_without_features_each_task_learns_its_own_mean(x: dict[str, Feature] | list[float | None]) -> None:
    """The same for regression: the mean of a task is the best that there is."""
    engine = Engine(EngineSettings(kind="regression"))
    engine.step([event(x, tag, i, y) for i, (tag, y) in enumerate(targets(1000))])

    said = {tag: outcome.prediction for tag in "ab" for outcome in engine.predict([event(x, tag, 1000)])}

    assert engine.stats().meta_updates > 10
    assert said == pytest.approx(MEANS, abs=0.5)


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("method", ["reptile", "maml", "anil", "cavia"])
def test_the_methods_of_the_literature_take_events_without_features_too(kind: str, method: str) -> None:
    """Each has networks of its own, whose first layer then has no rows."""
    learner = LearnerSettings.model_validate({"method": method})
    engine = Engine(EngineSettings.model_validate({"kind": kind, "learner": learner}))

    outcomes = engine.step([event({}, tag, i, y) for i, (tag, y) in enumerate(classes(80))])

    assert [outcome.rejected for outcome in outcomes if outcome.rejected] == []
    assert engine.stats().meta_updates > 0


def test_features_that_come_later_are_taken_up() -> None:
    """A stream often begins before its features are joined to it."""
    engine, drawn = Engine(EngineSettings()), random.Random(1)
    engine.step([event({}, tag, i, y) for i, (tag, y) in enumerate(classes(200))])
    xs = [drawn.gauss(0, 1) for _ in range(600)]

    outcomes = engine.step([event({"a": x}, "ab"[i % 2], 200 + i, int(x > 0)) for i, x in enumerate(xs)])

    assert np.mean([outcome.error for outcome in outcomes[300:]]) < 0.1


def test_a_list_may_be_empty_before_and_after_its_width_is_known() -> None:
    """Nothing has no width: an empty list must not forbid the full ones, nor they it."""
    engine = Engine(EngineSettings())
    rows: list[list[float | None]] = [[], [1.0, 2.0], [], [3.0, 4.0], [1.0]]

    outcomes = engine.step([event(x, "a", i, i % 2) for i, x in enumerate(rows)])

    assert [outcome.rejected is None for outcome in outcomes] == [True, True, True, True, False]


@pytest.mark.parametrize("mode", ["sync", "off"])
def test_polls_do_not_matter_without_features(mode: str) -> None:
    """The promise of every other stream: what is predicted depends on the events, not on how they were grouped."""
    settings = EngineSettings(meta=MetaSettings.model_validate({"mode": mode}))
    events = [event({} if i < 150 else {"a": i / 300}, tag, i, y) for i, (tag, y) in enumerate(classes(300))]
    one, other = Engine(settings), Engine(settings)

    apart = [outcome for at in range(0, 300, 7) for outcome in one.step(events[at : at + 7])]

    assert apart == other.step(events)


def test_a_restored_engine_goes_on_without_features() -> None:
    """Arrays of no columns are written and read like all others."""
    engine = Engine(EngineSettings())
    events = [event({}, tag, i, y) for i, (tag, y) in enumerate(classes(400))]
    engine.step(events[:200])

    again = Engine.restore(EngineSettings(), engine.snapshot())

    assert again.step(events[200:]) == engine.step(events[200:])


def test_a_river_classifier_learns_from_the_tag_alone() -> None:
    """The tag is no feature: what is left is nothing."""
    model = MetaClassifier(task="s")
    for tag, y in classes(600):
        model.learn_one({"s": tag}, "yes" if y else "no")

    assert {tag: model.predict_one({"s": tag}) for tag in "ab"} == {"a": "yes", "b": "no"}
    assert MetaClassifier().predict_one({}) is None


def test_a_river_regressor_learns_from_the_tag_alone() -> None:
    """Likewise, and with no tag and no feature at all, the mean of the stream."""
    model, bare = MetaRegressor(task="s"), MetaRegressor()
    for tag, y in targets(600):
        model.learn_one({"s": tag}, y)  # type: ignore[arg-type]  # a float is a Real
        bare.learn_one({}, y)  # type: ignore[arg-type]

    assert {tag: model.predict_one({"s": tag}) for tag in "ab"} == pytest.approx(MEANS, abs=0.5)
    assert bare.predict_one({}) == pytest.approx(10, abs=2)


@pytest.mark.parametrize("name", ["events.csv", "events.jsonl"])
def test_a_file_of_labels_and_tasks_alone_is_replayed(tmp_path: Path, name: str) -> None:
    """Such a file was set aside whole: `x` is empty."""
    rows = classes(400)
    csv = "task,y\n" + "".join(f"{tag},{y}\n" for tag, y in rows)
    jsonl = "".join(f'{{"task": "{tag}", "y": {y}}}\n' for tag, y in rows)
    (tmp_path / name).write_text(csv if name.endswith("csv") else jsonl)

    with closing(FileSource(tmp_path / name)) as source:
        figures = replay(Settings(app=AppSettings()), source, None, Tally("classification"))

    assert (figures["events"], figures["labelled"], figures["rejected"], figures["tasks"]) == (400, 400, 0, 2)
    assert figures["accuracy"] > 0.78  # the best that can be is 0.85


def test_a_record_with_a_label_and_no_id_is_an_event_and_with_one_a_late_label() -> None:
    """The two forms differ by the id alone; what says nothing at all is still refused (see test_event)."""
    at, decoder = Origin("events", 0, 7), Decoder()

    assert decoder.decode(Record(b'{"task": "a", "y": 1}', at)) == Event({}, "a", at, y=1)
    assert decoder.decode(Record(b'{"task": "a", "y": 1, "id": 5}', at)) == Label("5", 1, "a", at)
    assert decoder.decode(Record(b'{"task": "a", "x": {}, "id": 5}', at)) == Event({}, "a", at, id="5")
