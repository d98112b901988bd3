"""A run as seen from outside: baselines, true drifts, errors one by one."""

import math
from collections.abc import Callable, Sequence

import pytest
from msgspec.structs import replace

from streammeta.engine import Outcome, Signal
from streammeta.event import Event, Label, Origin
from streammeta.report import Tally
from streammeta.review.comparison import STREAMMETA, Comparison
from streammeta.review.trace import Calibration, decode_errors, encode_errors

LinearTasks = Callable[..., list[Event]]


class Always:
    """A baseline that always says the same class."""

    name, description = "always 1", "says 1"

    def __init__(self, breaks_at: int | None = None) -> None:
        self._breaks_at, self._seen = breaks_at, 0

    def take(self, events: Sequence[Event | Label]) -> list[Outcome]:
        self._seen += len(events)
        if self._breaks_at is not None and self._seen > self._breaks_at:
            raise RuntimeError("cannot go on")
        return [
            Outcome(event, 1, {1: 0.9, 0: 0.1}, error=None if event.y is None else float(event.y != 1), age=0)
            for event in events
        ]

    def memory_bytes(self) -> int | None:
        return 8


def outcomes_of(events: Sequence[Event], *, signals: Sequence[int] = (), said: int = 1) -> list[Outcome]:
    return [
        Outcome(
            event,
            said,
            {said: 1.0},
            signal=Signal.DRIFT if event.origin.offset in signals else Signal.STEADY,
            error=float(event.y != said),
            loss=0.1,
        )
        for event in events
    ]


def stream(n: int, *, task: str = "t") -> list[Event]:
    return [Event({"a": 1.0}, task, Origin("memory", 0, i), y=int(i % 4 == 0), id=str(i)) for i in range(n)]


def watched(comparison: Comparison, tally: Tally, outcomes: Sequence[Outcome], step: int = 7) -> None:
    for i in range(0, len(outcomes), step):
        tally.add(outcomes[i : i + step])
        comparison.observe(outcomes[i : i + step], 0)


def test_every_learner_is_scored_on_the_same_labels() -> None:
    """A comparison on other events is none."""
    tally = Tally("classification")
    comparison = Comparison(tally, [Always()])

    watched(comparison, tally, outcomes_of(stream(100), said=0))

    learners = comparison.figures()["learners"]
    assert learners[STREAMMETA]["error"] == 0.25
    assert learners["always 1"]["error"] == 0.75
    assert learners["always 1"]["memory_bytes"] == 8
    ours, theirs = (decode_errors(learners[name]["errors"]) for name in (STREAMMETA, "always 1"))
    assert (ours + theirs).tolist() == [1.0] * 100
    assert learners["always 1"]["calibration"]["mean_gap"] == pytest.approx(0.65)


def test_a_baseline_that_breaks_is_left_out_and_the_run_goes_on() -> None:
    """Somebody else's exception after an hour must not cost the hour."""
    tally = Tally("classification")
    comparison = Comparison(tally, [Always(breaks_at=50), Always()])

    watched(comparison, tally, outcomes_of(stream(100)))

    broken = comparison.traces[1].figures()
    assert broken["failed"] == "after 49 events: RuntimeError: cannot go on"
    assert len(comparison.traces[0].errors) == len(comparison.traces[2].errors) == 100


def test_signals_are_held_against_the_true_changes() -> None:
    """Found, missed, false: by hand."""
    tally = Tally("classification")
    comparison = Comparison(tally, drifted={100, 300, 450, 495})

    # 100 is found after 11 events; 250 is false; 300 is missed, and 420 comes too late to find it; 450 is missed, for
    # 495 comes first, and that is too near the end to tell
    watched(comparison, tally, outcomes_of(stream(500), signals=[110, 250, 420]))

    found = comparison.figures()["detection"]
    assert found["true_drifts"] == 4
    assert (found["found"], found["missed"], found["false_alarms"]) == (1, 2, 2)
    assert found["found"] + found["missed"] + found["undecided"] == found["true_drifts"]
    assert (found["median_delay"], found["found_share"], found["delays"]) == (11.0, 1 / 3, {"11": 1})
    assert found["false_alarms_per_1000_labels"] == 4.0
    assert comparison.figures()["drift_marks"] == {"true": [100, 300, 450, 495], "signalled": [110, 250, 420]}


def test_a_late_label_of_the_old_law_decides_nothing_about_the_new() -> None:
    """With late labels, a signal just after a change may still be about what came before."""
    tally = Tally("classification")
    comparison = Comparison(tally, drifted={10})
    events = stream(30)
    asked = [replace(outcome, event=replace(outcome.event, y=None), error=None) for outcome in outcomes_of(events)]
    labels = [
        replace(outcome, event=Label(str(i), 1, "t", Origin("memory", 0, i)))
        for i, outcome in enumerate(outcomes_of(events, signals=[9, 14]))
    ]

    watched(comparison, tally, asked + labels)

    found = comparison.figures()["detection"]
    assert (found["found"], found["median_delay"], found["false_alarms"]) == (1, 5.0, 1)


def test_the_order_and_value_of_labels_make_the_fingerprint() -> None:
    """`compare` must not pair the events of two different streams."""

    def fingerprint(events: Sequence[Event]) -> str:
        tally = Tally("classification")
        comparison = Comparison(tally)
        watched(comparison, tally, outcomes_of(events))
        return str(comparison.figures()["labels_seen"]["sha256"])

    events = stream(20)
    assert fingerprint(events) == fingerprint(stream(20))
    assert fingerprint(events) != fingerprint(events[::-1])
    assert fingerprint(events) != fingerprint(stream(20, task="u"))


def test_calibration_of_a_gaussian_is_its_coverage() -> None:
    """A prediction that is off by one standard deviation lies inside the intervals above 68 %."""
    calibration = Calibration("regression")
    event = Event({}, "t", Origin("memory", 0, 0), y=2.0)

    for _ in range(10):
        calibration.add(Outcome(event, 0.0, variance=4.0), error=2.0)

    figures = calibration.figures()
    assert figures is not None
    assert figures["said"] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
    assert figures["was"] == [0.0] * 6 + [1.0] * 4
    assert Calibration("classification").figures() is None


def test_errors_survive_the_way_through_json() -> None:
    """Else `compare` would test something else than what was run."""
    errors = [0.5, math.nan, 3.25, 0.0]

    assert decode_errors(encode_errors(errors, "regression"))[[0, 2, 3]].tolist() == [0.5, 3.25, 0.0]
    assert decode_errors(encode_errors([1.0, 0.0] * 9, "classification")).tolist() == [1.0, 0.0] * 9
    for damaged in (
        {},
        {"count": 9, "encoding": "float32", "data": "AAAA"},
        {"count": 1, "encoding": "bits", "data": "?"},
    ):
        with pytest.raises(ValueError, match=r"errors|base64|Only|padding|buffer"):
            decode_errors(damaged)


def test_tasks_are_listed_worst_first_and_those_of_few_labels_last() -> None:
    """The first thing to look at; a task with one wrong label of one is no news."""
    tally = Tally("classification")
    comparison = Comparison(tally)
    events = [*stream(40, task="half"), *stream(40, task="good"), *stream(1, task="new")]
    said = {"half": 1, "good": 0, "new": 0}
    outcomes = [one for event in events for one in outcomes_of([event], said=said[event.task])]

    watched(comparison, tally, outcomes)

    worst = comparison.figures()["worst_tasks"]
    assert [(one["task"], one["labels"], one["error"]) for one in worst] == [
        ("half", 40, 0.75),
        ("good", 40, 0.25),
        ("new", 1, 1.0),
    ]


@pytest.mark.parametrize(
    ("times", "known"),
    [([1.7e9, 1.7e9 + 60], True), ([1.7e9 + 60, 1.7e9], False), ([1.7e9, None], False), ([3.0, 4.0], False)],
)
def test_times_are_kept_where_they_go_forward_and_are_dates(times: list[float | None], known: bool) -> None:
    """An axis that jumps back, or counts from a producer's own zero, says something false."""
    tally = Tally("classification")
    comparison = Comparison(tally)
    events = [replace(event, ts=ts) for event, ts in zip(stream(2), times, strict=True)]

    watched(comparison, tally, outcomes_of(events))

    found = comparison.figures()["label_times"]
    assert found == ({"labels": [1, 2], "seconds": times} if known else None)
