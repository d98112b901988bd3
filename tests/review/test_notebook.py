"""The result of a replay in a notebook."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

import streammeta
from streammeta.errors import ConfigError
from streammeta.review.notebook import Review
from streammeta.review.page import page
from streammeta.review.paired import read_report
from streammeta.review.picture import PICTURES, smoothed

OPTIONS = {"tasks": 20, "concept_events": 40}


@pytest.fixture(scope="module")
def review() -> Review:
    return streammeta.replay(
        "shared-representation", limit=1500, seed=1, options=OPTIONS, against=["river:dummy.NoChangeClassifier"]
    )


def test_frames_hold_what_the_report_says(review: Review) -> None:
    """One row a learner, a label, an age, a drift: ready for whatever people do with frames."""
    assert isinstance(review.learners, pd.DataFrame)
    assert list(review.learners["learner"]) == ["streammeta", "river:dummy.NoChangeClassifier"]
    assert review.errors.shape == (1500, 3)
    assert review.errors["streammeta"].mean() == pytest.approx(1 - review.figures["accuracy"])
    assert set(review.by_age["events"]) == {"1", "2", "3-5", "6-10", "11-20", "21-50", "51+"}
    assert (review.drifts["what"] == "true").sum() == review.figures["detection"]["true_drifts"]


def test_it_says_in_five_lines_what_came_of_it(review: Review) -> None:
    """Not the megabyte of figures that it holds."""
    first, scores, beside, counts, frames = repr(review).splitlines()

    assert first == (
        "shared-representation: classification, 1,500 events of "
        f"{review.figures['tasks']} tasks, 1,500 labels; finished"
    )
    assert scores.startswith(f"accuracy {review.figures['accuracy']:.4f}, kappa ")
    assert beside.startswith("beside (accuracy): river:dummy.NoChangeClassifier 0.")
    assert counts.startswith("0 records set aside, ")
    assert "predictions" in frames


def test_predictions_and_tasks_are_frames_too(review: Review) -> None:
    """One row an event, as it was predicted; one row a task, the worst first."""
    predictions, tasks = review.predictions, review.tasks

    assert len(predictions) == 1500
    assert (predictions["prediction"] != predictions["label"]).mean() == pytest.approx(1 - review.figures["accuracy"])
    assert set(predictions["task"]) == set(tasks["task"])
    assert tasks["labels"].sum() == 1500
    assert tasks["drifts"].sum() == review.figures["drifts"]


def test_late_labels_fill_in_the_rows_of_their_events() -> None:
    """Else a replay with a delay would have predictions without an answer."""
    late = streammeta.replay("stagger", limit=300, seed=1, label_delay=20).predictions

    assert len(late) == 300
    assert late["label"].notna().sum() == late["error"].notna().sum() >= 280


def test_frames_without_rows_have_their_columns(review: Review) -> None:
    """What is done with them next names a column."""
    empty = Review({**review.figures, "drift_marks": {"true": [], "signalled": []}, "worst_tasks": []})

    assert list(empty.drifts.columns) == ["label", "what"]
    assert list(empty.tasks.columns) == ["task", "events", "labels", "error", "drifts"]
    assert list(empty.predictions.columns)[:3] == ["task", "id", "time"]
    assert (len(empty.drifts), len(empty.tasks), len(empty.predictions)) == (0, 0, 0)


def test_polars_is_used_where_pandas_is_not(review: Review, monkeypatch: pytest.MonkeyPatch) -> None:
    """River itself does without pandas."""
    monkeypatch.setattr("streammeta.review.notebook.find_spec", lambda name: None if name == "pandas" else name)

    learners = Review(review.figures).learners

    assert type(learners).__module__.startswith("polars")
    monkeypatch.setattr("streammeta.review.notebook.find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"install streammeta\[frames\]"):
        _ = Review(review.figures).errors


@pytest.mark.parametrize("name", [picture.name for picture in PICTURES if picture.name != "delay"])
def test_every_picture_can_be_had_as_a_figure(review: Review, name: str) -> None:
    """With axes that say what they show."""
    figure = review.plot(name)

    (axes,) = figure.axes
    assert axes.get_xlabel()
    assert axes.get_ylabel()
    assert axes.lines or axes.collections or axes.patches


def test_a_picture_that_is_not_there_is_named(review: Review) -> None:
    """With the names that are."""
    with pytest.raises(ConfigError, match="wanted one of error, age"):
        review.plot("eror")
    with pytest.raises(ConfigError, match="nothing to draw for 'drift'"):
        Review({**review.figures, "learners": {}}).plot("drift")


def test_what_is_written_can_be_read_again(review: Review, tmp_path: Path) -> None:
    """HTML for people, JSON for `compare`, PNG for slides."""
    html, report, pictures = (
        review.html(tmp_path / "a.html"),
        review.json(tmp_path / "a.json"),
        review.png(tmp_path / "p"),
    )

    assert html.read_text("utf-8").startswith("<!doctype html>")
    assert read_report(report)["learners"].keys() == review.figures["learners"].keys()
    assert {path.stem for path in pictures} >= {"error", "age", "drift", "calibration", "mixture"}
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.width > 600
    assert "<iframe srcdoc=" in review._repr_html_()


def test_two_replays_are_compared_over_the_same_events(review: Review) -> None:
    """The same stream, another seed of the learner: no difference may be called one."""
    again = streammeta.replay("shared-representation", limit=1500, seed=1, options=OPTIONS, settings=None)

    found = review.compare(again)

    assert (found.events, found.difference) == (1500, 0.0)
    assert found.verdict == "no difference shown"


def test_names_of_a_stream_cannot_write_into_the_page(review: Review) -> None:
    """A file's name, or a learner's, may come from anywhere."""
    evil = "<script>alert(1)</script>$x^$"
    learners = {evil if name != "streammeta" else name: one for name, one in review.figures["learners"].items()}

    text = page({**review.figures, "stream": {**review.figures["stream"], "name": evil}, "learners": learners})

    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_drawings_of_one_page_do_not_share_names(review: Review) -> None:
    """Else the clip of one picture would cut another, in some browsers."""
    names = re.findall(r'\bid="([^"]+)"', page(review.figures))

    assert len(names) == len(set(names))


def test_axes_are_labelled_in_plain_numbers(review: Review) -> None:
    """matplotlib labels a logarithmic axis in TeX, which a page shows as it stands."""
    assert "mathdefault" not in page(review.figures)


def test_errors_are_smoothed_without_losing_any() -> None:
    """The last point tells of the end of the run, silent events count for nothing."""
    at, means = smoothed([1.0] * 500 + [0.0] * 500 + [float("nan")] * 10, points=101, window=1)

    assert at[-1] == 1010
    assert means[:50] == [1.0] * 50
    assert means[60:-2] == [0.0] * len(means[60:-2])
    assert smoothed([]) == ([], [])


def test_importing_streammeta_stays_cheap() -> None:
    """`import streammeta` for its version must not load PyTorch."""
    code = "import streammeta, sys; print(streammeta.__version__, 'torch' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert printed.split()[1] == "False"
    with pytest.raises(AttributeError, match=r"it offers .*\bMetaClassifier\b"):
        _ = streammeta.metaclassifier
    json.dumps(streammeta.__all__)
