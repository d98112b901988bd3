"""A replay from start to end: what is opened, what runs beside it, and what the report holds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from river import datasets, forest, metrics
from river.evaluate import progressive_val_score

from benchmarks.peers import score
from benchmarks.peers.prequential import Job, prequential, read_rows
from benchmarks.peers.river_runner import make
from streammeta.config import Settings, load
from streammeta.engine import Engine, Signal
from streammeta.errors import ConfigError
from streammeta.event import Decoder, Label, Origin, Record
from streammeta.review import scoreboard
from streammeta.review.page import page
from streammeta.review.study import Plan, opened, run
from streammeta.review.trace import decode_errors
from streammeta.simulators import noted, simulate, with_late_labels

SMALL: dict[str, Any] = {"learner": {"hidden": 12, "encoded": 8}, "meta": {"tasks": 2, "length": 16}}


def studied(plan: Plan, **more: Any) -> dict[str, Any]:
    with opened(plan, Settings(**SMALL), **more) as ready:
        return run(ready)


@pytest.mark.parametrize("delay", [0, 20])
def test_a_river_peer_has_the_accuracy_that_river_gives_it(delay: int, tmp_path: Path) -> None:
    """With and without label delay: else neither their numbers nor ours would mean anything."""
    data = [(x, int(y)) for x, y in datasets.Phishing().take(300)]
    file = tmp_path / "phishing.jsonl"
    file.write_text("".join(json.dumps({"x": x, "y": y}) + "\n" for x, y in data))

    figures = studied(Plan(file, against=["river:forest.ARFClassifier"], label_delay=delay), seed=5)

    at_home = progressive_val_score(data, forest.ARFClassifier(seed=5), metrics.ClassificationReport(), delay=delay)
    errors = decode_errors(figures["learners"]["river:forest.ARFClassifier"]["errors"])
    wrong_at_home = 1 - metrics.Accuracy(cm=at_home.cm).get()
    unpredicted = figures["learners"]["river:forest.ARFClassifier"]["unpredicted"]
    assert errors.sum() - unpredicted == pytest.approx(wrong_at_home * (300 - unpredicted))
    assert unpredicted == max(delay, 1)


def test_a_replay_with_intervals_says_how_many_labels_they_held(tmp_path: Path) -> None:
    """And one that cannot have them says so, instead of a report without."""
    file = tmp_path / "values.csv"
    file.write_text("a,y\n" + "".join(f"{i % 7},{i % 7 + i % 3 / 2 + 0.25}\n" for i in range(400)))

    figures = studied(Plan(file, interval=0.8))

    assert figures["interval_coverage"] == pytest.approx(0.8, abs=0.1)
    assert figures["settings"]["interval"] == 0.8
    assert "Its 80% intervals hold" in page(figures)
    assert sum(one["mean"] for one in figures["who_decides"].values()) == pytest.approx(1.0)
    experts = {"nearest", "gaussian_process", "forest", "linear", "persistence"}
    assert {*figures["who_decides"]} == {"learner", *experts, *(f"learner and {one}" for one in experts)}
    assert "<h2>Who decides</h2>" in page(figures)
    assert any(line.startswith("who decides: ") for line in scoreboard.lines(figures))
    with pytest.raises(ConfigError, match=r"--interval 80: wanted the share of labels inside, 0.5 to 0.99"):
        studied(Plan(file, interval=80))
    with pytest.raises(ConfigError, match=r"--interval 0.9: is of a predicted target, and this is a classification"):
        studied(Plan("sea", interval=0.9, limit=10))


def test_label_delay_makes_late_labels_of_the_service(tmp_path: Path) -> None:
    """What the engine sees is events and labels, as on a topic; doing it by hand gives the same report."""
    samples = list(simulate("sea", events=200, seed=3, concept_events=60))
    engine, outcomes = Engine(Settings(**SMALL).engine().model_copy(update={"seed": 3})), []
    for i, sample in enumerate(samples):
        x = {"x": sample.x, "task": sample.task, "id": sample.id}
        if i >= 10:
            outcomes += engine.step([Label(str(samples[i - 10].id), samples[i - 10].y, sample.task, _origin(i - 10))])
        outcomes += engine.step([_event(x, i)])
    for i in range(190, 200):
        outcomes += engine.step([Label(str(samples[i].id), samples[i].y, samples[i].task, _origin(i))])

    figures = studied(Plan("sea", limit=200, label_delay=10, options={"concept_events": 60}), seed=3)

    errors = [outcome.error for outcome in outcomes if isinstance(outcome.event, Label)]
    assert decode_errors(figures["learners"]["streammeta"]["errors"]).tolist() == errors
    assert len(figures["drift_marks"]["signalled"]) == sum(outcome.signal is Signal.DRIFT for outcome in outcomes)
    assert figures["labelled"] == figures["events"] == 200


def _origin(i: int) -> Any:
    return Decoder().decode(_record({"x": [1]}, i)).origin


def _event(fields: dict[str, Any], i: int) -> Any:
    return Decoder().decode(_record(fields, i))


def _record(fields: dict[str, Any], i: int) -> Any:
    return Record(json.dumps(fields).encode(), Origin("sea", 0, i))


def test_a_scenario_tells_where_its_drifts_are() -> None:
    """Detection can be scored, and error after a true change, of every learner."""
    plan = Plan(
        "stagger",
        limit=500,
        options={"concept_events": "100", "schedule": "fixed"},
        against=["river:dummy.PriorClassifier"],
    )

    figures = studied(plan, seed=1)

    assert figures["detection"]["true_drifts"] == 4
    assert figures["drift_marks"]["true"] == [100, 200, 300, 400]
    assert figures["kind"] == "classification"
    for one in figures["learners"].values():
        assert one["error_after_true_drift"]["51+"] is not None
    json.dumps(figures, allow_nan=False)


def test_a_recorded_simulation_is_scored_by_the_truth_beside_it(tmp_path: Path) -> None:
    """Late labels lie between the events of a file, and must not shift where its drifts are."""
    options = {"concept_events": 60, "label_delay": 7, "labelled": 0.8}
    file, truth = tmp_path / "sea.jsonl", tmp_path / "truth.jsonl"
    samples = with_late_labels(noted(simulate("sea", events=400, seed=3, **options), truth))
    file.write_bytes(b"".join(sample.to_json() + b"\n" for sample in samples))

    recorded = studied(Plan(file, truth=truth), seed=3)
    direct = studied(Plan("sea", limit=400, options=options), seed=3)

    assert recorded["detection"] == direct["detection"]
    assert recorded["drift_marks"] == direct["drift_marks"]
    assert recorded["detection"]["true_drifts"] >= 4
    assert recorded["labelled"] < recorded["events"] == 400


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_a_data_frame_is_a_stream(frame: Any) -> None:
    """What people have in a notebook; missing values stay missing."""
    table = frame(
        {
            "price": [1.5, 2.5, None] * 40,
            "colour": ["red", "blue", "red"] * 40,
            "task": ["a", "b", "a"] * 40,
            "y": ["yes", "no", "yes"] * 40,
        }
    )

    figures = studied(Plan(table))

    assert (figures["events"], figures["rejected"], figures["tasks"], figures["features"]) == (120, 0, 2, 3)
    assert figures["accuracy"] > 0.8


def test_other_settings_run_beside_as_learners_of_their_own(tmp_path: Path) -> None:
    """The question "would more memory help" is answered in one run, on the same events."""
    other = tmp_path / "reset.toml"
    other.write_text("[drift]\nresponse = 'reset'\n[learner]\nmembers = 1\n")

    figures = studied(Plan("sea", limit=300, learners=[str(other), "protonet"]), seed=2)

    names = list(figures["learners"])
    assert names == ["streammeta", f"streammeta:{other}", "streammeta:protonet"]
    assert [pair["b"] for pair in figures["paired"]] == names[1:]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan("nowhere"), "no such file, and no such scenario"),
        (Plan("sea", options={"taskz": 3}), "taskz"),
        (Plan("sea", against=["forest.ARFClassifier"]), "wanted river: and a model"),
        (Plan("sea", against=["river:forest.ARF"]), "wanted a model of River's"),
        (Plan("sea", label_delay="soon"), "wanted events"),
        (Plan("sea", speed=-1), "wanted a number above 0"),
        (Plan(pd.DataFrame({"a": [1]})), "wanted one called `y`"),
        (Plan(object()), "wanted a file, a scenario's name or a data frame"),
        (Plan("sea", learners=["no-such-method"]), "method 'no-such-method': there is none of that name"),
    ],
)
def test_what_cannot_be_is_said_before_anything_runs(plan: Plan, message: str) -> None:
    """An hour of replay must not end in a typing error."""
    with pytest.raises(ConfigError, match=message), opened(plan, load(None)):
        pass


@pytest.mark.data
def test_a_replay_has_the_figures_of_the_benchmark(data_file: Callable[[str], Path]) -> None:
    """Two tables about the same learners on the same rows must not differ."""
    path, names = data_file("streams/elec2.csv.gz"), ("River ARF", "River HAT", "River logistic regression")
    linear = "multiclass.OneVsRestClassifier(linear_model.LogisticRegression(optim.SGD(0.01)))"
    peers = [
        "river:forest.ARFClassifier",
        "river:tree.HoeffdingAdaptiveTreeClassifier",
        f"river:preprocessing.StandardScaler | {linear}",
    ]
    rows = read_rows(path, 600)

    figures = studied(Plan(path, limit=600, against=peers), seed=0)

    for name, peer in zip(names, peers, strict=True):
        job = Job(str(path), name, "global", "classification", 600, 0, 0, float("inf"), {})
        measured = score.figures("classification", rows, prequential(make(job, rows), rows)["predictions"])
        one = figures["learners"][peer]
        assert (one["accuracy"], one["kappa"]) == pytest.approx((measured["accuracy"], measured["kappa"])), name
