import io
import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
from rich.console import Console
from river import metrics as river
from sklearn import metrics as sklearn

from streammeta.engine import EngineStats, Outcome, Signal, TaskSummary
from streammeta.event import Event, Label, LabelValue, Origin
from streammeta.report import AGES, AgeCurve, Tally, facts, lines, peak_rss_bytes, tables, task_table

AT = Origin("file.csv", 0, 0)


def scored(y: LabelValue, predicted: LabelValue | None, *, loss: float | None = None, age: int = 0) -> Outcome:
    return Outcome(Event([1.0], "a", AT, y=y), prediction=predicted, loss=loss, age=age)


def tally_of(outcomes: Sequence[Outcome], kind: str = "classification") -> Tally:
    tally = Tally("classification" if kind == "classification" else "regression")
    tally.add(outcomes)
    return tally


def test_classification_figures_are_scikit_learns_and_rivers() -> None:
    """Numbers that go into comparisons must be the numbers everybody else means by these names."""
    rng = np.random.default_rng(3)
    y = rng.integers(0, 5, 2_000)
    predicted = np.where(rng.random(2_000) < 0.6, y, rng.integers(0, 7, 2_000))

    figures = tally_of([scored(a, b, loss=0.5) for a, b in zip(y.tolist(), predicted.tolist(), strict=True)]).figures()

    kappa, f1 = river.CohenKappa(), river.MacroF1()
    for a, b in zip(y.tolist(), predicted.tolist(), strict=True):
        kappa.update(a, b)
        f1.update(a, b)
    assert figures["accuracy"] == pytest.approx(sklearn.accuracy_score(y, predicted))
    assert figures["kappa"] == pytest.approx(sklearn.cohen_kappa_score(y, predicted)) == pytest.approx(kappa.get())
    assert figures["macro_f1"] == pytest.approx(sklearn.f1_score(y, predicted, average="macro"))
    assert figures["macro_f1"] == pytest.approx(f1.get())
    assert figures["log_loss"] == 0.5


def test_regression_figures_are_scikit_learns() -> None:
    """The same for numbers."""
    rng = np.random.default_rng(4)
    y = rng.normal(40, 12, 1_000)
    predicted = y + rng.normal(0, 5, 1_000)
    outcomes = [scored(a, b) for a, b in zip(y.tolist(), predicted.tolist(), strict=True)]

    figures = tally_of(outcomes, "regression").figures()

    assert figures["mae"] == pytest.approx(sklearn.mean_absolute_error(y, predicted))
    assert figures["rmse"] == pytest.approx(sklearn.root_mean_squared_error(y, predicted))
    assert figures["r2"] == pytest.approx(sklearn.r2_score(y, predicted))


def test_intervals_are_counted_by_the_labels_that_lie_inside() -> None:
    """By hand: two of four labels lie inside, the bound included; the widths are 1, 1, 2 and 4."""
    said = [(0.5, (0.0, 1.0)), (1.0, (0.0, 1.0)), (2.5, (0.0, 2.0)), (-1.0, (0.0, 4.0))]

    tally = tally_of(
        [Outcome(Event([1.0], "a", AT, y=y), 0.5, interval=interval) for y, interval in said], "regression"
    )

    assert tally.figures()["interval_coverage"] == 0.5
    assert tally.figures()["interval_mean_width"] == 2.0
    assert tally_of([scored(1.0, 1.0)], "regression").figures()["interval_coverage"] is None


def test_no_prediction_is_an_error_but_not_a_class() -> None:
    """Leaving such events out would flatter; taking "nothing" for a class would halve macro F1."""
    figures = tally_of([scored(1, None), scored(0, 0), scored(1, 1), scored("cat", "cat")]).figures()

    assert (figures["accuracy"], figures["unpredicted"]) == (0.75, 1)
    assert figures["macro_f1"] == pytest.approx((1 + 2 / 3 + 1) / 3)


def test_late_labels_score_the_prediction_made_when_the_event_came() -> None:
    """A label is an observation about the past, not an event of its own."""
    late = Outcome(Label("7", 1, "a", AT), prediction=0)

    figures = tally_of([Outcome(Event([1.0], "a", AT, id="7"), prediction=0), late]).figures()

    assert (figures["events"], figures["labelled"], figures["accuracy"]) == (1, 1, 0.0)


def test_errors_fall_into_the_buckets_by_labels_seen_before() -> None:
    """The curve is the point of meta-learning: off by one here, and the first event is flattered."""
    firsts = {"1": 0, "2": 1, "3-5": 2, "6-10": 5, "11-20": 10, "21-50": 20, "51+": 50}
    lasts = {"1": 0, "2": 1, "3-5": 4, "6-10": 9, "11-20": 19, "21-50": 49, "51+": 10_000}
    curve = AgeCurve()
    for before in firsts.values():
        curve.add(before, 1.0)
    for before in lasts.values():
        curve.add(before, 0.0)

    assert curve.means() == dict.fromkeys(AGES, 0.5)
    assert curve.counts() == dict.fromkeys(AGES, 2)


def test_after_a_drift_the_curve_begins_anew() -> None:
    """Recovery after a drift is shown on the same scale as learning a new task."""
    drift = Outcome(Event([1.0], "a", AT, y=1), prediction=0, signal=Signal.DRIFT, age=30)
    after = Outcome(Event([1.0], "a", AT, y=1), prediction=1, age=31, since_drift=0)

    figures = tally_of([drift, after]).figures()

    assert figures["drifts"] == 1
    assert figures["error_after_drift"] == {**dict.fromkeys(AGES), "1": 0.0}
    assert figures["error_by_age"]["21-50"] == 0.5


def test_what_is_not_defined_is_none_and_never_nan() -> None:
    """NaN is no JSON; a reader would refuse the whole report."""
    for kind in ("classification", "regression"):
        for outcomes in ([], [scored(1, None)], [scored(1, 1)]):
            figures = tally_of(outcomes, kind).figures()
            json.dumps(figures, allow_nan=False)
            assert not any(isinstance(value, float) and math.isnan(value) for value in figures.values())


def test_memory_does_not_grow_with_events() -> None:
    """A tally runs for months: it may know classes, but not events or tasks."""
    tally = Tally("classification")
    tally.add([scored(i % 3, i % 2, age=i) for i in range(1_000)], rejected=5)
    held = {name: len(value) for name, value in vars(tally).items() if hasattr(value, "__len__")}
    tally.add([scored(i % 3, i % 2, age=i) for i in range(1_000)], rejected=5)

    assert {name: len(value) for name, value in vars(tally).items() if hasattr(value, "__len__")} == held
    assert (tally.events, tally.rejected) == (2_000, 10)


def report() -> dict[str, object]:
    stats = EngineStats(**dict.fromkeys(EngineStats.__dataclass_fields__, 2))
    outcomes = [scored(1, 1, loss=0.2), scored(0, 1, loss=0.9, age=1)]
    return {**tally_of(outcomes).figures(), **facts(stats, seconds=2.0, events=100), "seed": 1}


def test_facts_say_what_it_cost_and_with_what() -> None:
    """A figure without versions and time cannot be repeated."""
    told = report()

    assert (told["events_per_second"], told["tasks"], told["meta_updates"]) == (50.0, 2, 2)
    assert told["peak_rss_bytes"] == pytest.approx(peak_rss_bytes(), rel=0.2)
    assert 10e6 < peak_rss_bytes() < 1e12


def test_report_is_shown_as_lines_and_as_tables() -> None:
    """Logs and pipes get lines, people get tables; both have the curve."""
    told = "\n".join(lines(report()))
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(tables(report()))
    drawn = console.export_text()

    assert "accuracy: 0.5000" in told
    assert "error at a task's n-th label: 1: 0.0000 (n 1), 2: 1.0000 (n 1)" in told
    assert "accuracy" in drawn
    assert "11-20" in drawn


def test_no_tag_and_no_reason_is_a_command_to_the_terminal() -> None:
    """A tag of "[/x]" ended `inspect` with a traceback; escape sequences of a record moved the operator's cursor."""
    tag = "[/x]\x1b[2J"
    task = TaskSummary(tag, 0, 1, 1, 0.0, 0, None, None)
    figures = report() | {"rejected_reasons": [{"reason": f"feature '{tag}'", "count": 1}]}
    console = Console(width=120, file=io.StringIO())

    console.print(task_table([task], total=1))
    console.print(tables(figures))

    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    assert drawn.count(r"[/x]\x1b[2J") == 2
    assert "\x1b" not in drawn + "\n".join(lines(figures))


def test_scores_of_each_class_are_scikit_learns() -> None:
    """A rare class that is never found hides in every mean."""
    y = [0] * 6 + [1] * 3 + [2]
    predicted: list[int | None] = [0, 0, 0, 1, 1, None, 1, 1, 0, 0]

    figures = tally_of([scored(a, b) for a, b in zip(y, predicted, strict=True)]).figures()

    answered = [-1 if one is None else one for one in predicted]
    precision, recall, f1, labels = sklearn.precision_recall_fscore_support(
        y, answered, labels=[0, 1, 2], zero_division=0
    )
    rows = figures["classes_of"]
    assert [row["class"] for row in rows] == ["0", "1", "2"]
    assert [row["labels"] for row in rows] == labels.tolist()
    assert [row["precision"] or 0.0 for row in rows] == pytest.approx(precision.tolist())
    assert [row["recall"] for row in rows] == pytest.approx(recall.tolist())
    assert [row["f1"] for row in rows] == pytest.approx(f1.tolist())
    assert figures["confusion"]["counts"] == [[3, 2, 0], [1, 2, 0], [1, 0, 0]]
    assert figures["confusion"]["other_or_none"] == [1, 0, 0]
