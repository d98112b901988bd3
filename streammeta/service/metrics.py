"""Every Prometheus metric, in one class. Names follow the conventions: prefix, base units, `_total` for counters.

No label can grow without bound: never a task tag, a key or an offset. Numbers of one task are in `streammeta inspect`.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, TypeAlias, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

from streammeta.engine import EngineStats, Outcome, Signal
from streammeta.engine.outcome import Correction, Limit
from streammeta.engine.presence import Reason
from streammeta.event import Event, LabelValue
from streammeta.service.threads import IDS, LABELS, MAIN, REPARTITION

__all__ = ["Fate", "MetaFate", "Metrics"]

Fate: TypeAlias = Literal["predicted", "learned", "late_label", "corrected", "rejected"]
MetaFate: TypeAlias = Literal["accepted", "refused", "failed"]

_FORGETTING = 0.999  # weight of the past at each label: the mean of about the last thousand
_STEP_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_IO_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_RECORDS = (0, 1, 10, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 100_000)


_PACKAGES = {"version": "streammeta", "torch": "torch", "river": "river"}


def _version(package: str) -> str:
    """Of an installed package, or "none"; PyTorch need not be there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


class Metrics:
    """The metrics of one process.

    Args:
        registry: where they are registered; a fresh one a process, or a test.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._lag = {MAIN: 0, REPARTITION: 0, LABELS: 0, IDS: 0}  # by the loop that reads
        self._stuck = {MAIN: 0, REPARTITION: 0, LABELS: 0, IDS: 0}
        self._events(registry)
        self._work(registry)
        self._group(registry)
        self._state(registry)
        Info("streammeta_build", "What runs here.", registry=registry).info(
            {name: _version(package) for name, package in _PACKAGES.items()}
        )
        ProcessCollector(registry=registry)
        self._weighted_error = 0.0
        self._weight = 0.0
        self._weighted_inside = self._intervals = 0.0
        self._meta_updates: int | None = None  # the engine's count when last seen
        self._lost: dict[str, int] = {}  # likewise, of events that waited for a label
        self._resets = 0  # likewise; a new engine begins at 0
        self._forgotten: dict[Reason, int] = {}  # likewise
        for unknown in (
            self.prequential_error,
            self.interval_coverage,
            self.meta_loss,
            self.trains,
            self.theta_age,
            self.theta_held_out_loss,
        ):
            unknown.set(float("nan"))

    def _events(self, registry: CollectorRegistry) -> None:
        self.events = Counter(
            "streammeta_events_total",
            "Records by what became of them; one that came with its label counts as predicted and as learned.",
            ["fate"],
            registry=registry,
        )
        fates = ("predicted", "learned", "late_label", "corrected", "rejected", "tombstone")
        for fate in fates:  # present, at zero, from the first scrape on
            self.events.labels(fate)
        self.drifts = Counter("streammeta_drifts_total", "Drift signals.", registry=registry)
        self.new_tasks = Counter("streammeta_new_tasks_total", "Tasks seen for the first time.", registry=registry)
        self.prequential_error = Gauge(
            "streammeta_prequential_error",
            "Mean error of predictions made before learning, over about the last thousand labels "
            "(share of wrong classes, or absolute error).",
            registry=registry,
        )
        self.interval_coverage = Gauge(
            "streammeta_interval_coverage_ratio",
            "With [output] interval, the share of about the last thousand labels that lay in their interval.",
            registry=registry,
        )

    def _work(self, registry: CollectorRegistry) -> None:
        self.poll_records = Histogram(
            "streammeta_poll_records", "Records taken in one turn of the loop.", buckets=_RECORDS, registry=registry
        )
        self.busy_ratio = Gauge(
            "streammeta_busy_ratio",
            "Share of about the last half minute at work, not waiting for records; near 1 a process is at its limit.",
            registry=registry,
        )
        self.busy_seconds = Counter(
            "streammeta_busy_seconds_total", "Time at work, not waiting for records.", registry=registry
        )
        self.step_seconds = Histogram(
            "streammeta_step_seconds", "Wall time of one engine step.", buckets=_STEP_SECONDS, registry=registry
        )
        self.meta_updates = Counter(
            "streammeta_meta_updates_total", "Meta-updates by what became of them.", ["result"], registry=registry
        )
        for result in ("accepted", "refused", "failed"):
            self.meta_updates.labels(result)
        self.meta_update_seconds = Histogram(
            "streammeta_meta_update_seconds",
            "Wall time of one meta-update in the background.",
            buckets=_IO_SECONDS,
            registry=registry,
        )
        self.meta_loss = Gauge(
            "streammeta_meta_loss", "Loss of the last meta-update in the background.", registry=registry
        )
        self.snapshot_seconds = Histogram(
            "streammeta_snapshot_seconds", "Wall time of one snapshot.", buckets=_IO_SECONDS, registry=registry
        )
        self.snapshot_bytes = Gauge("streammeta_snapshot_size_bytes", "Size of the last snapshot.", registry=registry)
        self.commit_seconds = Histogram(
            "streammeta_commit_seconds",
            "Wall time of one commit: flush, snapshot and offsets.",
            buckets=_IO_SECONDS,
            registry=registry,
        )
        self.commit_failures = Counter(
            "streammeta_commit_failures_total", "Offsets that could not be committed.", registry=registry
        )
        self.transactions = Counter(
            "streammeta_transactions_total",
            "Transactions by how they ended; after a failed one its events are read again.",
            ["result"],
            registry=registry,
        )
        for result in ("committed", "failed"):
            self.transactions.labels(result)
        self.episodes = Counter(
            "streammeta_episode_segments_total",
            "Segments of labelled events (or changes of θ) for who trains: written here, learned from other members, "
            "remembered without learning θ from them again, or skipped.",
            ["fate"],
            registry=registry,
        )
        for fate in ("written", "learned", "remembered", "skipped"):
            self.episodes.labels(fate)
        self.updates = Counter(
            "streammeta_updates_total",
            "Changes of θ by members that keep their events: sent, withheld as the privacy budget is used up, or "
            "averaged into θ.",
            ["fate"],
            registry=registry,
        )
        for fate in ("sent", "withheld", "averaged"):
            self.updates.labels(fate)
        self.updates_refused = Counter(
            "streammeta_updates_refused_total",
            "Records of members that a trainer of changes of θ could not use.",
            ["reason"],
            registry=registry,
        )
        for reason in ("episodes", "damaged", "settings", "version", "shape", "numbers"):
            self.updates_refused.labels(reason)
        self.epsilon = Gauge(
            "streammeta_privacy_epsilon",
            "ε that members' changes have cost, of the partition of ours that has spent most.",
            registry=registry,
        )
        self.theta_refused = Counter(
            "streammeta_theta_refused_total",
            "Published versions of θ that were not adopted: worse on our own tasks, or damaged.",
            ["reason"],
            registry=registry,
        )
        for reason in ("worse", "damaged"):
            self.theta_refused.labels(reason)
        self.theta_judged = Counter(
            "streammeta_theta_judged_total",
            "Candidates of θ that a trainer judged on newest events: published, or held back because they were worse.",
            ["verdict"],
            registry=registry,
        )
        for verdict in ("published", "held_back"):
            self.theta_judged.labels(verdict)
        self.engines_made = Counter(
            "streammeta_engines_made_total",
            "Engines: one at the start, and one after each failed transaction.",
            registry=registry,
        )
        self.last_commit = Gauge(
            "streammeta_last_commit_timestamp_seconds", "When the last commit ended, since 1970.", registry=registry
        )

    def _group(self, registry: CollectorRegistry) -> None:
        self.rebalances = Counter(
            "streammeta_rebalances_total", "Times that partitions came or went.", ["kind"], registry=registry
        )
        for kind in ("assigned", "revoked", "lost"):
            self.rebalances.labels(kind)
        self.stuck_partitions = Gauge(
            "streammeta_stuck_partitions",
            "Partitions of ours with records waiting that do not come.",
            registry=registry,
        )
        self.restore_seconds = Histogram(
            "streammeta_restore_seconds",
            "Time from the assignment of partitions until their tasks were restored.",
            buckets=_IO_SECONDS,
            registry=registry,
        )
        self.restored_records = Counter(
            "streammeta_restored_records_total", "Records of the changelog read to restore tasks.", registry=registry
        )
        self.restore_missing = Gauge(
            "streammeta_restore_missing_records", "Records of the changelog still to be read.", registry=registry
        )

    def _state(self, registry: CollectorRegistry) -> None:
        self.lag = Gauge(
            "streammeta_lag_records",
            "Records known to be waiting in the input; with repartition, in the real input and in NAME-repartition.",
            registry=registry,
        )
        self.repartition_lag = Gauge(
            "streammeta_repartition_lag_records",
            "Of these, records of the real input that wait to be sent on by task.",
            registry=registry,
        )
        self.repartitioned = Counter(
            "streammeta_repartitioned_records_total", "Records sent on by task, and committed.", registry=registry
        )
        self.joined_labels = Counter(
            "streammeta_joined_labels_total",
            'With [labels] join = "id", labels whose task was found by their event\'s id (joined), or was not, or not '
            "for sure (refused: dead letters), and committed.",
            ["result"],
            registry=registry,
        )
        self.labels_without_event = Gauge(
            "streammeta_labels_without_event",
            'With [labels] join = "id", labels that wait here for an event of their id.',
            registry=registry,
        )
        for result in ("joined", "refused"):
            self.joined_labels.labels(result)
        self.partitions = Gauge("streammeta_assigned_partitions", "Input partitions read here.", registry=registry)
        self.tasks = Gauge("streammeta_tasks", "Tasks known.", registry=registry)
        self.tasks_in_memory = Gauge("streammeta_tasks_in_memory", "Tasks whose state is in memory.", registry=registry)
        self.tasks_forgotten = Counter(
            "streammeta_tasks_forgotten_total",
            "Tasks forgotten: not seen for [memory] forget_after (age), more than max_known_tasks (limit), or by a "
            "record that asks for it (asked).",
            ["reason"],
            registry=registry,
        )
        for cause in get_args(Reason):
            self.tasks_forgotten.labels(cause)
        self.state_resets = Counter(
            "streammeta_task_state_resets_total",
            "Tasks whose state was reset, because a prediction was not a finite number.",
            registry=registry,
        )
        self.classes = Gauge("streammeta_classes", "Classes seen so far.", registry=registry)
        self.features = Gauge("streammeta_features", "Features seen so far.", registry=registry)
        self.pending_labels = Gauge(
            "streammeta_pending_labels", "Events that wait for a late label.", registry=registry
        )
        self.waiting_lost = Counter(
            "streammeta_waiting_events_lost_total",
            "Events whose label can be joined no more: too many waited (dropped), or another one of the same task and "
            "id came (replaced), or their task was forgotten (forgotten).",
            ["reason"],
            registry=registry,
        )
        for reason in ("dropped", "replaced", "forgotten"):
            self.waiting_lost.labels(reason)
        self.limits = Counter(
            "streammeta_limit_reached_total",
            "Times that a limit was reached: a feature without a slot (max_features), a category's value that shares "
            "one (feature_values), a label refused (max_classes), an event that waited too long (max_waiting), a task "
            "sent to disk (max_tasks), a task forgotten (max_known_tasks), a record too long (max_record_bytes).",
            ["limit"],
            registry=registry,
        )
        self._reached: set[Limit] = set()
        for limit in get_args(Limit):
            self.limits.labels(limit)
        self.theta_version = Gauge("streammeta_theta_version", "Version of the shared weights.", registry=registry)
        self.trains = Gauge(
            "streammeta_trains",
            "1 in the process that learns θ for all (the member with partition 0, or `streammeta train`), also while a "
            "version is pinned; 0 in one that follows; NaN where nobody is to learn θ.",
            registry=registry,
        )
        self.theta_age = Gauge(
            "streammeta_theta_age_seconds",
            "Time since the published θ in force was made; it grows where nobody trains, or nothing is labelled.",
            registry=registry,
        )
        self.theta_held_out_loss = Gauge(
            "streammeta_theta_held_out_loss",
            "Loss of the last candidate on newest events, which it was not learned from.",
            registry=registry,
        )
        self.theta_norm = Gauge("streammeta_theta_norm", "Euclidean norm of the shared weights.", registry=registry)
        self.expert_weight = Gauge(
            "streammeta_expert_weight_ratio",
            "Who decides: the share of each part of the mixture, over tasks that learned lately: the learner, an "
            "expert of [learner] experts, or both together.",
            ["part"],
            registry=registry,
        )
        self.expert_weight.labels("learner").set(float("nan"))  # the others are there as soon as they are known
        self.saturated = Gauge(
            "streammeta_saturated_units_ratio",
            "Share of the encoders' hidden outputs, at recent events, so near their bounds that they hardly learn.",
            registry=registry,
        )

    def step(self, outcomes: Sequence[Outcome], rejected: int) -> None:
        """Count one step: its accepted outcomes, and how many records were set aside."""
        corrected = predicted = learned = late = drifts = new_tasks = 0
        for outcome in outcomes:
            if isinstance(outcome, Correction):
                corrected += 1
                continue
            is_event = isinstance(outcome.event, Event)
            labelled = outcome.event.y is not None
            predicted += is_event
            late += not is_event
            learned += labelled
            drifts += outcome.signal is Signal.DRIFT
            new_tasks += outcome.signal is Signal.NEW_TASK
            if labelled and outcome.error is not None:
                self._weighted_error = _FORGETTING * self._weighted_error + outcome.error
                self._weight = _FORGETTING * self._weight + 1.0
                if outcome.interval is not None:
                    self._inside(outcome.event.y, *outcome.interval)
        self.events.labels("predicted").inc(predicted)
        self.events.labels("learned").inc(learned)
        self.events.labels("late_label").inc(late)
        self.events.labels("corrected").inc(corrected)
        self.events.labels("rejected").inc(rejected)
        self.drifts.inc(drifts)
        self.new_tasks.inc(new_tasks)
        error = self.error
        if error is not None:
            self.prequential_error.set(error)
        if self._intervals:
            self.interval_coverage.set(self._weighted_inside / self._intervals)

    def _inside(self, y: LabelValue | None, lower: float, upper: float) -> None:
        """Count whether a label lay in its interval."""
        is_inside = isinstance(y, int | float) and lower <= y <= upper
        self._weighted_inside = _FORGETTING * self._weighted_inside + is_inside
        self._intervals = _FORGETTING * self._intervals + 1.0

    @property
    def error(self) -> float | None:
        """The prequential error; None before the first label."""
        return self._weighted_error / self._weight if self._weight else None

    def meta_update(self, fate: MetaFate, seconds: float, loss: float = float("nan")) -> None:
        """Count one meta-update made in the background; accepted ones are counted by the engine."""
        if fate != "accepted":
            self.meta_updates.labels(fate).inc()
        self.meta_update_seconds.observe(seconds)
        self.meta_loss.set(loss)

    def limit(self, limit: Limit, times: int) -> None:
        """Count how often a limit was reached."""
        if times:
            self._reached.add(limit)
            self.limits.labels(limit).inc(times)

    def was_reached(self, limit: Limit) -> bool:
        """Whether a limit was reached since the process began."""
        return limit in self._reached

    def snapshot(self, size_bytes: int, seconds: float) -> None:
        """Count one snapshot."""
        self.snapshot_bytes.set(size_bytes)
        self.snapshot_seconds.observe(seconds)

    def restored(self, records: int, seconds: float) -> None:
        """Count one restoration of partitions."""
        self.restored_records.inc(records)
        self.restore_seconds.observe(seconds)

    def worked(self, seconds: float, share: float) -> None:
        """Show how much of its time the loop works: seconds since the last call, and the recent share of time."""
        self.busy_seconds.inc(seconds)
        self.busy_ratio.set(share)

    def source(self, partitions: int, lag: int) -> int:
        """Show what the input is like; returns the lag in all, with what waits to be sent on by task."""
        self.partitions.set(partitions)
        self._lag[MAIN] = lag
        return self._show_lag()

    def stuck(self, partitions: int, loop: str = MAIN) -> None:
        """Show how many partitions a loop reads that do not advance."""
        self._stuck[loop] = partitions
        self.stuck_partitions.set(sum(self._stuck.values()))

    def repartition(self, lag: int, loop: str = REPARTITION) -> None:
        """Show how many records of the real input, or labels, wait to be sent on; called from another thread."""
        self._lag[loop] = lag
        self._show_lag()
        self.repartition_lag.set(sum(lag for name, lag in self._lag.items() if name != MAIN))

    def _show_lag(self) -> int:
        lag = sum(self._lag.values())
        self.lag.set(lag)
        return lag

    def engine(self, stats: EngineStats, weights: Mapping[str, float] | None = None) -> None:
        """Show the engine's own counts, the first call says where counting begins; and the weights of its experts."""
        for part, weight in (weights or {}).items():
            self.expert_weight.labels(part).set(weight)
        if self._meta_updates is not None:
            more = stats.meta_updates - self._meta_updates  # fewer, where somebody went back to an earlier θ
            self.meta_updates.labels("accepted").inc(max(more, 0))
        self._meta_updates = stats.meta_updates
        self.state_resets.inc(stats.resets - self._resets if stats.resets >= self._resets else stats.resets)
        self._resets = stats.resets
        self.tasks.set(stats.tasks)
        self.tasks_in_memory.set(stats.tasks_in_memory)
        self.classes.set(stats.classes)
        self.features.set(stats.features)
        self.pending_labels.set(stats.pending_labels)
        for cause, times in stats.tasks_forgotten.items():
            before = self._forgotten.get(cause, 0)
            self.tasks_forgotten.labels(cause).inc(times - before if times >= before else times)  # or a new engine
            self._forgotten[cause] = times
        lost = (("dropped", stats.expired), ("replaced", stats.replaced), ("forgotten", stats.waiting_forgotten))
        for reason, count in lost:
            before = self._lost.get(reason, count)  # counting begins at the first call
            self.waiting_lost.labels(reason).inc(count - before if count >= before else count)  # or with a new engine
            self._lost[reason] = count
        self.theta_version.set(stats.theta_version)
        self.theta_norm.set(stats.theta_norm)
        self.saturated.set(stats.saturated)
