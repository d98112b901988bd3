import math
import re
from collections.abc import Iterable
from typing import get_args

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from streammeta.engine import EngineStats, Outcome, Signal
from streammeta.engine.outcome import Limit
from streammeta.event import Event, Label, Origin
from streammeta.service.metrics import Metrics

AT = Origin("events", 0, 0)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def families(metrics: Metrics) -> list[Metric]:
    return list(text_string_to_metric_families(generate_latest(metrics.registry).decode()))


def ours(metrics: Metrics) -> Iterable[Metric]:
    return (family for family in families(metrics) if family.name.startswith("streammeta_"))


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def stats(**counts: int) -> EngineStats:
    return EngineStats(**{name: counts.get(name, 0) for name in EngineStats.__dataclass_fields__})


def test_every_name_has_the_prefix_and_a_base_unit(metrics: Metrics) -> None:
    """Dashboards and rules are written against these conventions; a name cannot be changed later."""
    others = {family.name for family in families(metrics)} - {family.name for family in ours(metrics)}

    assert all(name.startswith("process_") for name in others)
    for family in ours(metrics):
        assert re.fullmatch(r"streammeta_[a-z]+(_[a-z]+)*", family.name)
        assert not re.search(r"_(ms|millis|milliseconds|minutes|kb|mb|percent|count)$", family.name), family.name
        assert family.documentation.endswith("."), family.name
        if family.type == "counter":
            assert {sample.name for sample in family.samples} <= {f"{family.name}_total", f"{family.name}_created"}
        if family.type == "histogram":
            assert family.name.endswith(("_seconds", "_records"))


def test_no_label_can_grow_without_bound(metrics: Metrics) -> None:
    """One series a task would bring Prometheus down with the first million tasks."""
    for task in range(100):
        metrics.step([Outcome(Event([1.0], f"task-{task}", AT, y=1), error=1.0)], 0)
    closed = {
        "fate": {
            "predicted",
            "learned",
            "late_label",
            "corrected",
            "rejected",
            "tombstone",
            "written",
            "remembered",
            "skipped",
            "sent",
            "withheld",
            "averaged",
        },
        "verdict": {"published", "held_back"},
        "result": {"accepted", "refused", "failed", "committed", "joined"},
        "kind": {"assigned", "revoked", "lost"},
        "reason": {"dropped", "replaced", "forgotten", "worse", "damaged", "age", "limit", "asked"}
        | {"episodes", "settings", "version", "shape", "numbers"},
        "limit": set(get_args(Limit)),
        "part": {"learner"},  # and as many more as [learner] experts has, twice
    }

    for family in ours(metrics):
        for sample in family.samples:
            for name, given in sample.labels.items():
                assert name in {"le", "version", "torch", "river"} or given in closed[name]


def test_a_step_is_counted_by_fate(metrics: Metrics) -> None:
    """What comes in and what becomes of it must add up, or losses go unseen."""
    outcomes = [
        Outcome(Event([1.0], "a", AT, y=1), prediction=1, signal=Signal.NEW_TASK, error=0.0),
        Outcome(Event([1.0], "a", AT, y=1), prediction=0, signal=Signal.DRIFT, error=1.0),
        Outcome(Event([1.0], "a", AT), prediction=0),
        Outcome(Label("7", 1, "a", AT), prediction=1, error=0.0),
    ]

    metrics.step(outcomes, rejected=2)

    fates = {fate: value(metrics, "streammeta_events_total", fate=fate) for fate in ("predicted", "learned")}
    assert fates == {"predicted": 3, "learned": 3}
    assert value(metrics, "streammeta_events_total", fate="late_label") == 1
    assert value(metrics, "streammeta_events_total", fate="rejected") == 2
    assert value(metrics, "streammeta_drifts_total") == 1
    assert value(metrics, "streammeta_new_tasks_total") == 1


def test_prequential_error_is_unknown_then_follows_the_recent_past(metrics: Metrics) -> None:
    """A zero before the first label would read as perfection, an all-time mean would hide a fall."""
    before = value(metrics, "streammeta_prequential_error")
    assert before is not None
    assert math.isnan(before)

    metrics.step([Outcome(Event([1.0], "a", AT, y=1), error=0.0)] * 5_000, 0)
    metrics.step([Outcome(Event([1.0], "a", AT, y=1), error=1.0)] * 1_000, 0)

    assert value(metrics, "streammeta_prequential_error") == pytest.approx(1 - 0.999**1_000, abs=0.01)


def test_coverage_of_intervals_is_unknown_then_follows_the_recent_past(metrics: Metrics) -> None:
    """Who promised 90 % to somebody wants to see it, of now and not of all time."""
    assert math.isnan(value(metrics, "streammeta_interval_coverage_ratio") or 0.0)

    for y, times in ((0.5, 5_000), (2.0, 1_000)):
        metrics.step([Outcome(Event([1.0], "a", AT, y=y), 0.5, error=0.0, interval=(0.0, 1.0))] * times, 0)

    assert value(metrics, "streammeta_interval_coverage_ratio") == pytest.approx(0.999**1_000, abs=0.01)


def test_the_weights_of_experts_are_shown(metrics: Metrics) -> None:
    """Who wants to leave out an expert has to see what it decides."""
    metrics.engine(stats(), {"learner": 0.7, "forest": 0.1, "learner and forest": 0.2})

    assert value(metrics, "streammeta_expert_weight_ratio", part="learner and forest") == 0.2


def test_engine_counts_are_shown_and_meta_updates_counted_from_this_start(metrics: Metrics) -> None:
    """After a restart counters begin at zero, as Prometheus expects of a new process."""
    metrics.engine(stats(tasks=3, meta_updates=100, theta_version=100))
    metrics.engine(stats(tasks=5, meta_updates=104, theta_version=103, pending_labels=2))
    metrics.meta_update("accepted", 0.1, 0.5)
    metrics.meta_update("failed", 0.1)

    assert value(metrics, "streammeta_tasks") == 5
    assert value(metrics, "streammeta_theta_version") == 103
    assert value(metrics, "streammeta_pending_labels") == 2
    assert value(metrics, "streammeta_meta_updates_total", result="accepted") == 4
    assert value(metrics, "streammeta_meta_updates_total", result="failed") == 1
    assert value(metrics, "streammeta_meta_update_seconds_count") == 2


def test_every_fate_is_there_before_it_happened(metrics: Metrics) -> None:
    """A rate over a series that does not exist yet is no alert."""
    for fate in ("predicted", "learned", "late_label", "corrected", "rejected", "tombstone"):
        assert value(metrics, "streammeta_events_total", fate=fate) == 0


def test_events_that_lost_their_label_are_counted_also_by_the_engine_after_it(metrics: Metrics) -> None:
    """A restored engine counts from what it restored; a counter of Prometheus must neither fall nor fail."""
    for expired, replaced in ((5, 0), (7, 1), (2, 1)):
        metrics.engine(stats(expired=expired, replaced=replaced))

    lost = {
        s.labels["reason"]: s.value for f in ours(metrics) for s in f.samples if s.name.endswith("events_lost_total")
    }
    assert lost == {"dropped": 2 + 2, "replaced": 1, "forgotten": 0}


def test_forgotten_tasks_are_counted_by_reason_also_by_the_engine_after_it(metrics: Metrics) -> None:
    """Tasks that leave because a limit is too low are another matter than tasks whose customers left."""
    for age, limit in ((5, 0), (7, 1), (2, 1)):
        metrics.engine(stats(forgotten_by_age=age, forgotten_by_limit=limit))

    counts = {reason: value(metrics, "streammeta_tasks_forgotten_total", reason=reason) for reason in ("age", "limit")}
    assert counts == {"age": 7 + 2, "limit": 1}


def test_states_that_were_reset_are_counted_over_engines(metrics: Metrics) -> None:
    """A task that loses its state again and again looks like one that learns slowly."""
    for resets in (0, 2, 2, 1):  # the last is of a fresh engine, after a failed transaction
        metrics.engine(stats(resets=resets))

    assert value(metrics, "streammeta_task_state_resets_total") == 3.0
