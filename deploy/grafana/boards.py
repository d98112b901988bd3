"""What the Grafana dashboards show: one for operators, one for modellers. `generate` makes Grafana's files of it."""

from typing import NamedTuple

__all__ = ["DASHBOARDS", "Dashboard", "Panel", "Section"]


class Panel(NamedTuple):
    """One picture of a dashboard."""

    title: str
    unit: str  # of Grafana's units: "s", "percentunit", "reqps", "short", "bytes"
    lines: tuple[tuple[str, str], ...]  # (query, legend); SEL stands for the chosen services' labels
    text: str  # what it shows and when to look closer
    kind: str = "timeseries"  # or "stat"
    bounds: tuple[float, ...] = ()  # from the first on orange, from the second on red


class Section(NamedTuple):
    """A row of panels under a heading."""

    title: str
    panels: tuple[Panel, ...]


class Dashboard(NamedTuple):
    """A file for Grafana."""

    uid: str  # also the file's name
    title: str
    sections: tuple[Section, ...]


def _rate(metric: str, labels: str = "", by: str = "job") -> str:
    return f"sum by ({by}) (rate({metric}{{SEL{labels}}}[$__rate_interval]))"


def _quantile(q: float, metric: str) -> str:
    return f"histogram_quantile({q}, sum by (le) (rate({metric}_bucket{{SEL}}[$__rate_interval])))"


_OPERATORS = Dashboard(
    "streammeta-operators",
    "streammeta: operators",
    (
        Section(
            "Is it well?",
            (
                Panel(
                    "Members that answer",
                    "short",
                    (("sum(up{SEL})", "up"),),
                    "Members that Prometheus reaches.",
                    "stat",
                ),
                Panel(
                    "Backlog in time",
                    "s",
                    (
                        (
                            "sum(streammeta_lag_records{SEL}) / "
                            'clamp_min(sum(rate(streammeta_events_total{SEL, fate="predicted"}[5m])), 0.001)',
                            "backlog",
                        ),
                    ),
                    "Seconds of work in the backlog, at the pace of five minutes.",
                    "stat",
                    (10, 60),
                ),
                Panel(
                    "Since the last commit",
                    "s",
                    (("max(time() - streammeta_last_commit_timestamp_seconds{SEL})", "oldest"),),
                    "Of the member that is worst off. Without events there is nothing to commit.",
                    "stat",
                    (60, 120),
                ),
                Panel(
                    "Stuck partitions",
                    "short",
                    (("sum(streammeta_stuck_partitions{SEL})", "stuck"),),
                    "Partitions whose records wait and do not come.",
                    "stat",
                    (1, 1),
                ),
                Panel(
                    "Busy",
                    "percentunit",
                    (("avg(rate(streammeta_busy_seconds_total{SEL}[5m]))", "mean"),),
                    "Share of time at work. Above 0.9 add members, up to the number of partitions.",
                    "stat",
                    (0.75, 0.9),
                ),
                Panel(
                    "Records still to restore",
                    "short",
                    (("sum(streammeta_restore_missing_records{SEL})", "missing"),),
                    "Falls to 0 after a rebalance.",
                    "stat",
                ),
            ),
        ),
        Section(
            "Traffic",
            (
                Panel(
                    "Records by what became of them",
                    "reqps",
                    ((_rate("streammeta_events_total", by="fate"), "{{fate}}"),),
                    "An event that came with its label counts as predicted and as learned.",
                ),
                Panel(
                    "Backlog",
                    "short",
                    (
                        ("sum by (instance) (streammeta_lag_records{SEL})", "{{instance}}"),
                        ("sum by (instance) (streammeta_repartition_lag_records{SEL})", "{{instance}} to be sent on"),
                    ),
                    "Records that wait in the input. Commit markers keep it at one a partition for ever.",
                ),
                Panel(
                    "Share at work",
                    "percentunit",
                    (("streammeta_busy_ratio{SEL}", "{{instance}}"),),
                    "Of about the last half minute, by member.",
                ),
                Panel(
                    "Records sent on by task",
                    "short",
                    (("sum by (instance) (rate(streammeta_repartitioned_records_total{SEL}[5m]))", "{{instance}}"),),
                    "Only with `[input] repartition`: a second, from the real input to NAME-repartition.",
                ),
                Panel(
                    "Labels joined by their event's id",
                    "short",
                    (
                        ("sum by (result) (rate(streammeta_joined_labels_total{SEL}[5m]))", "{{result}}"),
                        ("sum(streammeta_labels_without_event{SEL})", "waiting"),
                    ),
                    'Only with `[labels] join = "id"`: a second; refused ones are dead letters. Waiting: no event yet.',
                ),
                Panel(
                    "Records a turn",
                    "short",
                    (
                        (_quantile(0.5, "streammeta_poll_records"), "p50"),
                        (_quantile(0.95, "streammeta_poll_records"), "p95"),
                    ),
                    "Near `[input] max_poll_records` there is a backlog.",
                ),
                Panel(
                    "Partitions by member",
                    "short",
                    (("streammeta_assigned_partitions{SEL}", "{{instance}}"),),
                    "Even, or nearly. A member with none is one too many.",
                ),
                Panel(
                    "Rebalances",
                    "reqps",
                    ((_rate("streammeta_rebalances_total", by="kind"), "{{kind}}"),),
                    "Lost partitions mean that a member was silent for longer than the session timeout.",
                ),
            ),
        ),
        Section(
            "Time and safety",
            (
                Panel(
                    "One engine step",
                    "s",
                    (
                        (_quantile(0.5, "streammeta_step_seconds"), "p50"),
                        (_quantile(0.99, "streammeta_step_seconds"), "p99"),
                    ),
                    "Wall time; a step takes all events of a turn, or a batch of them.",
                ),
                Panel(
                    "One commit",
                    "s",
                    (
                        (_quantile(0.5, "streammeta_commit_seconds"), "p50"),
                        (_quantile(0.99, "streammeta_commit_seconds"), "p99"),
                    ),
                    "Flush, task states and offsets, in one transaction.",
                ),
                Panel(
                    "Transactions",
                    "reqps",
                    ((_rate("streammeta_transactions_total", by="result"), "{{result}}"),),
                    "After a failed one its events are read again.",
                ),
                Panel(
                    "Members that learn from each other",
                    "short",
                    (
                        (_rate("streammeta_episode_segments_total", by="fate"), "segments {{fate}} /s"),
                        (_rate("streammeta_engines_made_total"), "engines made /s"),
                        (_rate("streammeta_theta_refused_total", by="reason"), "theta refused: {{reason}} /s"),
                    ),
                    "Labelled events for the member that trains; an engine is made again after a failure only.",
                ),
                Panel(
                    "Age of the shared weights",
                    "s",
                    (("streammeta_theta_age_seconds{SEL}", "{{instance}}"),),
                    "Since θ in force was made: it grows while no trainer runs, θ is pinned, or nothing is labelled.",
                ),
                Panel(
                    "Who trains",
                    "short",
                    (("streammeta_trains{SEL}", "{{instance}}"),),
                    "1 in the process that learns θ for all, 0 in those that follow it.",
                ),
                Panel(
                    "Candidates of a trainer",
                    "short",
                    (
                        (_rate("streammeta_theta_judged_total", by="verdict"), "{{verdict}} /s"),
                        ("streammeta_theta_held_out_loss{SEL}", "loss on newest events: {{instance}}"),
                    ),
                    "What `streammeta train` judged; one is held back that is worse than what is published.",
                ),
                Panel(
                    "Members that keep their events",
                    "short",
                    (
                        (_rate("streammeta_updates_total", by="fate"), "changes of theta {{fate}} /s"),
                        (_rate("streammeta_updates_refused_total", by="reason"), "refused: {{reason}} /s"),
                        ("streammeta_privacy_epsilon{SEL}", "epsilon spent: {{instance}}"),
                    ),
                    'With `[meta] share = "updates"`; a member whose budget is used up withholds what it would send.',
                ),
                Panel(
                    "Restoring",
                    "s",
                    (
                        (_quantile(0.5, "streammeta_restore_seconds"), "p50"),
                        (_quantile(0.95, "streammeta_restore_seconds"), "p95"),
                    ),
                    "From the assignment of partitions until their tasks are there.",
                ),
                Panel(
                    "Records restored",
                    "short",
                    ((_rate("streammeta_restored_records_total", by="instance"), "{{instance}}"),),
                    "Records of the changelog that were read, a second.",
                ),
                Panel(
                    "Offsets that could not be committed",
                    "reqps",
                    ((_rate("streammeta_commit_failures_total"), "failures"),),
                    "Of replays with a snapshot; a service commits in its transactions.",
                ),
                Panel(
                    "Engines made",
                    "short",
                    (("sum by (instance) (increase(streammeta_engines_made_total{SEL}[1h]))", "{{instance}}"),),
                    "In an hour: one at the start of a member, and one after each failed transaction.",
                ),
            ),
        ),
        Section(
            "Process",
            (
                Panel(
                    "Memory",
                    "bytes",
                    (("process_resident_memory_bytes{SEL}", "{{instance}}"),),
                    "Bounded by `[memory] max_tasks`; the other tasks are in the spill.",
                ),
                Panel(
                    "Processor",
                    "percentunit",
                    (("rate(process_cpu_seconds_total{SEL}[$__rate_interval])", "{{instance}}"),),
                    "1 is a whole core.",
                ),
                Panel(
                    "Tasks",
                    "short",
                    (
                        ("sum(streammeta_tasks{SEL})", "known"),
                        ("sum(streammeta_tasks_in_memory{SEL})", "in memory"),
                    ),
                    "Many tasks outside memory that come back often: raise `[memory] max_tasks`.",
                ),
                Panel(
                    "Last snapshot",
                    "bytes",
                    (("streammeta_snapshot_size_bytes{SEL}", "{{instance}}"),),
                    "Of replays with a snapshot.",
                ),
                Panel(
                    "One snapshot",
                    "s",
                    ((_quantile(0.95, "streammeta_snapshot_seconds"), "p95"),),
                    "Of replays with a snapshot.",
                ),
                Panel(
                    "What runs",
                    "short",
                    (("count by (version) (streammeta_build_info{SEL})", "{{version}}"),),
                    "Members by version: two during an upgrade.",
                ),
            ),
        ),
    ),
)

_MODELLERS = Dashboard(
    "streammeta-modellers",
    "streammeta: modellers",
    (
        Section(
            "Is it right?",
            (
                Panel(
                    "Error before learning",
                    "short",
                    (("streammeta_prequential_error{SEL}", "{{instance}}"),),
                    "Over about the last thousand labels: share of wrong classes, or mean absolute error.",
                ),
                Panel(
                    "Error against a day before",
                    "short",
                    (
                        ("avg(streammeta_prequential_error{SEL} >= 0)", "now"),
                        ("avg(streammeta_prequential_error{SEL} offset 1d >= 0)", "a day before"),
                    ),
                    "The mean of the members.",
                ),
                Panel(
                    "Who decides",
                    "percentunit",
                    (("avg by (part) (streammeta_expert_weight_ratio{SEL} >= 0)", "{{part}}"),),
                    "The weight of the learner, of each expert, and of both together, in tasks that learned lately.",
                ),
                Panel(
                    "Labels inside their interval",
                    "percentunit",
                    (("streammeta_interval_coverage_ratio{SEL} >= 0", "{{instance}}"),),
                    "Over about the last thousand labels, with [output] interval; wanted is what that says.",
                ),
                Panel(
                    "Labels",
                    "reqps",
                    (
                        (_rate("streammeta_events_total", ', fate="learned"'), "learned"),
                        (_rate("streammeta_events_total", ', fate="late_label"'), "of them late"),
                    ),
                    "Without labels nothing is learned and no error is known.",
                ),
                Panel(
                    "Dead letters",
                    "percentunit",
                    (
                        (
                            'sum(rate(streammeta_events_total{SEL, fate="rejected"}[$__rate_interval])) / '
                            'clamp_min(sum(rate(streammeta_events_total{SEL, fate=~"predicted|late_label|rejected"}'
                            "[$__rate_interval])), 0.000001)",
                            "share",
                        ),
                    ),
                    "Share of records that cannot be used. The topic of dead letters has the reason of each.",
                ),
                Panel(
                    "Events that wait for a label",
                    "short",
                    (("sum by (instance) (streammeta_pending_labels{SEL})", "{{instance}}"),),
                    "Near `[memory] max_waiting` the oldest go, and their labels become dead letters.",
                ),
                Panel(
                    "Events that lost their label",
                    "ops",
                    (
                        (
                            "sum by (reason) (rate(streammeta_waiting_events_lost_total{SEL}[$__rate_interval]))",
                            "{{reason}}",
                        ),
                    ),
                    "dropped: raise `[memory] max_waiting`. replaced: ids are not unique within a task.",
                ),
                Panel(
                    "Limits reached",
                    "ops",
                    (("sum by (limit) (rate(streammeta_limit_reached_total{SEL}[$__rate_interval]))", "{{limit}}"),),
                    "The log says once for each what follows and which setting to raise.",
                ),
                Panel(
                    "Share of labels",
                    "percentunit",
                    (
                        (
                            'sum(rate(streammeta_events_total{SEL, fate="learned"}[$__rate_interval])) / '
                            'clamp_min(sum(rate(streammeta_events_total{SEL, fate="predicted"}[$__rate_interval])), '
                            "0.000001)",
                            "learned / predicted",
                        ),
                    ),
                    "1 where each event gets its label.",
                ),
            ),
        ),
        Section(
            "What changes?",
            (
                Panel(
                    "Drifts",
                    "reqps",
                    ((_rate("streammeta_drifts_total"), "drifts"),),
                    "Signals a second. The topic of signals names the tasks.",
                ),
                Panel(
                    "Drifts a task and hour",
                    "short",
                    (
                        (
                            "3600 * sum(rate(streammeta_drifts_total{SEL}[1h])) "
                            "/ clamp_min(sum(streammeta_tasks{SEL}), 1)",
                            "drifts",
                        ),
                    ),
                    "Far more than usual: something changed for all tasks, the producer perhaps.",
                ),
                Panel(
                    "New tasks",
                    "reqps",
                    ((_rate("streammeta_new_tasks_total"), "new"),),
                    "After a jump ask whether the task's field is still the one meant.",
                ),
                Panel(
                    "Classes",
                    "short",
                    (("max(streammeta_classes{SEL})", "classes"),),
                    "Seen so far; at most `[memory] max_classes`.",
                ),
                Panel(
                    "Features",
                    "short",
                    (("max(streammeta_features{SEL})", "features"),),
                    "Seen so far; at most `[memory] max_features`.",
                ),
                Panel(
                    "Tasks",
                    "short",
                    (("sum(streammeta_tasks{SEL})", "tasks"),),
                    "Known to all members together.",
                ),
            ),
        ),
        Section(
            "Does it learn to learn?",
            (
                Panel(
                    "Meta-updates",
                    "reqps",
                    ((_rate("streammeta_meta_updates_total", by="result"), "{{result}}"),),
                    "Refused ones had numbers that were not finite.",
                ),
                Panel(
                    "Loss of meta-updates",
                    "short",
                    (("streammeta_meta_loss{SEL}", "{{instance}}"),),
                    "Of those made in the background.",
                ),
                Panel(
                    "One meta-update",
                    "s",
                    (
                        (_quantile(0.5, "streammeta_meta_update_seconds"), "p50"),
                        (_quantile(0.95, "streammeta_meta_update_seconds"), "p95"),
                    ),
                    "Wall time of those made in the background.",
                ),
                Panel(
                    "Version of the shared weights",
                    "short",
                    (("streammeta_theta_version{SEL}", "{{instance}}"),),
                    "All members should have nearly the same.",
                ),
                Panel(
                    "Norm of the shared weights",
                    "short",
                    (("streammeta_theta_norm{SEL}", "{{instance}}"),),
                    "Growth without end: raise `[meta] pull`.",
                ),
                Panel(
                    "Tasks forgotten",
                    "short",
                    (
                        (
                            "sum by (reason) (increase(streammeta_tasks_forgotten_total{SEL}[1h]))",
                            "{{reason}}",
                        ),
                    ),
                    "Tasks that left in the last hour: not seen for `[memory] forget_after` (age), more than "
                    "`max_known_tasks` (limit), or on request (asked). Those of a limit should be tags that do not "
                    "come again.",
                ),
                Panel(
                    "Task states reset",
                    "short",
                    (("sum by (instance) (increase(streammeta_task_state_resets_total{SEL}[1h]))", "{{instance}}"),),
                    "Tasks that began again in the last hour, because a prediction was not a finite number.",
                ),
                Panel(
                    "Saturated units",
                    "percentunit",
                    (("streammeta_saturated_units_ratio{SEL}", "{{instance}}"),),
                    "Share of the encoders' hidden outputs that hardly learn any more.",
                ),
            ),
        ),
    ),
)

DASHBOARDS = (_OPERATORS, _MODELLERS)
