import pytest

from streammeta.commands.demo import Baseline, Comparison, baselines, stream
from streammeta.engine import Outcome
from streammeta.event import Event
from streammeta.report import AGES
from streammeta.simulators import Sample


def sample(task: str, y: int, *, drifted: bool = False) -> Sample:
    return Sample({"a": 1.0}, y=y, task=task, ts=0.0, drifted=drifted)


def outcomes(comparison: Comparison, predicted: list[int]) -> list[Outcome]:
    return [
        Outcome(Event([1.0], "", record.origin), prediction=p)
        for record, p in zip(comparison.records(), predicted, strict=True)
    ]


def test_all_learners_are_scored_on_the_same_events_by_the_simulators_truth() -> None:
    """A comparison in which one side sees other events, or picks its own drifts, proves nothing."""
    samples = [sample("a", 1), sample("b", 1), sample("a", 1), sample("a", 0, drifted=True), sample("a", 0)]
    comparison = Comparison(samples, [Baseline("always 1", "says 1", lambda _: 1)])

    comparison.observe(outcomes(comparison, [0, 1, 1, 1, 0]), 0)

    ours, other = comparison.figures()["streammeta"], comparison.figures()["always 1"]
    assert (ours["error"], other["error"]) == (2 / 5, 2 / 5)
    assert ours["error_by_age"] == {**dict.fromkeys(AGES), "1": 0.5, "2": 0.0, "3-5": 0.5}
    assert other["error_by_age"] == {**dict.fromkeys(AGES), "1": 0.0, "2": 0.0, "3-5": 1.0}
    assert ours["error_after_true_drift"] == {**dict.fromkeys(AGES), "1": 1.0, "2": 0.0}
    assert other["error_after_true_drift"] == {**dict.fromkeys(AGES), "1": 1.0, "2": 1.0}
    assert comparison.drifts == 1


def test_the_warm_up_counts_for_ages_but_not_in_the_curves() -> None:
    """A task that began in the warm-up does not begin again after it."""
    comparison = Comparison([sample("a", 1), sample("a", 1), sample("b", 1)], [], warm_up=1)

    comparison.observe(outcomes(comparison, [0, 1, 1]), 0)

    ours = comparison.figures()["streammeta"]
    assert ours["error"] == 1 / 3
    assert ours["error_by_age"] == {**dict.fromkeys(AGES), "1": 0.0, "2": 0.0}


def test_the_stream_ends_when_time_is_up() -> None:
    """The demonstration ends by itself, on a slow machine too."""
    seconds = iter(range(100))
    comparison = Comparison(stream(1_000, seed=0), [], seconds=10, clock=lambda: float(next(seconds)))

    assert len(list(comparison.records())) == 10


def test_baselines_predict_before_they_learn_and_the_one_a_task_learns_its_task() -> None:
    """A baseline that peeks, or one that cannot learn, would both make the comparison worthless."""
    for baseline in baselines():
        assert baseline.predict_then_learn(sample("new", 1)) != 1
    samples = list(stream(6_000, seed=3))
    errors = {
        baseline.name: sum(baseline.predict_then_learn(one) != one.y for one in samples) / len(samples)
        for baseline in baselines()
    }

    assert errors["one model a task"] < errors["one model for all"] - 0.05
    assert errors["one model for all"] == pytest.approx(0.5, abs=0.1)
