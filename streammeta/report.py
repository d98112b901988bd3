"""What a run was worth: figures added up event by event, and the report made of them at the end.

Prequential: every prediction was made before its label was learned from. An event that was predicted as nothing
(before the first label) counts as an error. Memory is bounded by the number of classes; an event costs O(1).
"""

import resource
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from math import isfinite
from pathlib import Path
from platform import python_version
from typing import Any, TypeAlias

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from river import metrics

from streammeta.engine import EngineStats, Kind, Outcome, Signal, TaskSummary
from streammeta.event import Event, LabelValue

__all__ = [
    "AGES",
    "AgeCurve",
    "Figures",
    "Tally",
    "cell",
    "facts",
    "lines",
    "peak_rss_bytes",
    "printable",
    "resident_bytes",
    "tables",
    "task_figures",
    "task_table",
]

_MOST_REASONS = 5  # shown
_MOST_CLASSES = 100  # listed with their scores
_MOST_CONFUSED = 12  # classes of the table of what was taken for what

Figures: TypeAlias = dict[str, Any]  # a JSON object

AGES = ("1", "2", "3-5", "6-10", "11-20", "21-50", "51+")  # which labelled event of a task, counted from 1
_BUCKET = tuple(0 if n < 1 else 1 if n < 2 else 2 if n < 5 else 3 if n < 10 else 4 if n < 20 else 5 for n in range(50))


class AgeCurve:
    """Mean error by how many labelled events came before: of a task, or since its last drift."""

    def __init__(self) -> None:
        self._sums = [0.0] * len(AGES)
        self._counts = [0] * len(AGES)

    def add(self, before: int, error: float) -> None:
        """Count one error; ``before`` labelled events came earlier."""
        bucket = _BUCKET[before] if before < len(_BUCKET) else -1
        self._sums[bucket] += error
        self._counts[bucket] += 1

    def means(self) -> dict[str, float | None]:
        """The mean error in each bucket; None where there was no label."""
        return {age: s / n if n else None for age, s, n in zip(AGES, self._sums, self._counts, strict=True)}

    def counts(self) -> dict[str, int]:
        """Labels in each bucket."""
        return dict(zip(AGES, self._counts, strict=True))


class Tally:
    """Figures of one run, fed with the outcomes of each step.

    Args:
        kind: "classification" or "regression".
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.events = 0
        self.labelled = 0
        self.rejected = 0
        self.drifts = 0
        self.unpredicted = 0  # labelled events for which nothing had been predicted
        self.by_age = AgeCurve()
        self.after_drift = AgeCurve()
        self._loss = 0.0
        self._losses = 0
        self._classes = metrics.ConfusionMatrix()
        self._mae, self._rmse, self._r2 = metrics.MAE(), metrics.RMSE(), metrics.R2()
        self._inside, self._width, self._intervals = 0, 0.0, 0

    def add(self, outcomes: Sequence[Outcome], rejected: int = 0) -> None:
        """Take in one step's accepted outcomes, and how many records were set aside beside them."""
        self.rejected += rejected
        for outcome in outcomes:
            self.events += isinstance(outcome.event, Event)
            self.drifts += outcome.signal is Signal.DRIFT
            if outcome.event.y is not None:
                self._score(outcome, outcome.event.y)

    @property
    def error(self) -> float | None:
        """Share of wrong classes, or mean absolute error; None before the first label."""
        if not self.labelled:
            return None
        return float(1.0 - _accuracy(self._classes)) if self.kind == "classification" else float(self._mae.get())

    def _score(self, outcome: Outcome, y: LabelValue) -> None:
        self.labelled += 1
        predicted = outcome.prediction
        self.unpredicted += predicted is None
        if outcome.loss is not None:
            self._loss += outcome.loss
            self._losses += 1
        if self.kind == "classification":
            error = float(predicted != y)
            self._classes.update(y, predicted)
        elif predicted is None or isinstance(predicted, str) or isinstance(y, str):
            return
        else:
            error = abs(predicted - y)
            for metric in (self._mae, self._rmse, self._r2):
                metric.update(y, predicted)
            if outcome.interval is not None:
                lower, upper = outcome.interval
                self._intervals += 1
                self._inside += lower <= y <= upper
                self._width += upper - lower
        self.by_age.add(outcome.age, error)
        if outcome.since_drift is not None:
            self.after_drift.add(outcome.since_drift, error)

    def figures(self) -> Figures:
        """Everything counted so far, ready for JSON: what is not defined yet is None."""
        scored = self.labelled > 0
        if self.kind == "classification":
            scores = {
                "accuracy": _accuracy(self._classes) if scored else None,
                "kappa": metrics.CohenKappa(cm=self._classes).get() if scored else None,
                "macro_f1": _macro_f1(self._classes) if scored else None,
                "log_loss": self._loss / self._losses if self._losses else None,
            }
        else:
            scored = self.labelled > self.unpredicted
            scores = {
                "mae": self._mae.get() if scored else None,
                "rmse": self._rmse.get() if scored else None,
                "r2": self._r2.get() if scored else None,
                "negative_log_likelihood": self._loss / self._losses if self._losses else None,
                "interval_coverage": self._inside / self._intervals if self._intervals else None,
                "interval_mean_width": self._width / self._intervals if self._intervals else None,
            }
        return {
            "kind": self.kind,
            "events": self.events,
            "labelled": self.labelled,
            "unpredicted": self.unpredicted,
            "rejected": self.rejected,
            **{name: _finite(value) for name, value in scores.items()},
            "drifts": self.drifts,
            "error_by_age": self.by_age.means(),
            "labels_by_age": self.by_age.counts(),
            "error_after_drift": self.after_drift.means(),
            "labels_after_drift": self.after_drift.counts(),
            **({} if self.kind == "regression" else _by_class(self._classes)),
        }


def facts(stats: EngineStats, *, seconds: float, events: int, too_long: int = 0) -> Figures:
    """What the run cost and with what it was made; ``too_long``: records refused for their length."""
    limits = {**stats.limits, "max_record_bytes": too_long}
    return {
        "tasks": stats.tasks,
        "classes": stats.classes,
        "features": stats.features,
        "meta_updates": stats.meta_updates,
        "events_without_their_label": stats.pending_labels or None,
        "waiting_events_dropped": stats.expired or None,
        "labels_corrected": stats.corrected or None,
        "waiting_events_replaced": stats.replaced or None,
        "tasks_forgotten": sum(stats.tasks_forgotten.values()) or None,
        "waiting_events_forgotten": stats.waiting_forgotten or None,
        "limits_reached": ", ".join(f"{name} {count:,} times" for name, count in limits.items() if count) or None,
        "seconds": seconds,
        "events_per_second": events / seconds if seconds > 0 else None,
        "peak_rss_bytes": peak_rss_bytes(),
        "versions": {"python": python_version(), **dict(_installed("streammeta", "torch", "river", "numpy"))},
    }


def _installed(*names: str) -> Iterator[tuple[str, str]]:
    """Each package with its version, but for those that are not there, as PyTorch need not be."""
    for name in names:
        with suppress(PackageNotFoundError):
            yield name, version(name)


def peak_rss_bytes() -> int:
    """The most resident memory this process ever had."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def resident_bytes() -> int:
    """The resident memory of this process now; where the system does not say, the most it ever had."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return peak_rss_bytes()
    return pages * resource.getpagesize()


def lines(figures: Figures) -> list[str]:
    """The report as plain lines, for logs and pipes."""
    one = [f"{name}: {printable(_shown(figures[name]))}" for name in _order(figures)]
    one += [f"set aside: {reason['count']:,} × {printable(reason['reason'])}" for reason in _reasons(figures)]
    for title, errors, counts in _curves(figures):
        summary = ", ".join(f"{age}: {_shown(errors[age])} (n {counts[age]:,})" for age in AGES if counts[age])
        one += [f"{title}: {summary}"]
    return one


def tables(figures: Figures) -> RenderableType:
    """The report as tables, for a terminal."""
    main = Table(title="Report", title_justify="left", show_header=False)
    main.add_column(justify="left")
    main.add_column(justify="right")
    for name in _order(figures):
        main.add_row(name.replace("_", " "), cell(_shown(figures[name])))
    for reason in _reasons(figures):
        main.add_row(cell(f"set aside: {reason['reason']}"), _shown(reason["count"]))
    parts: list[RenderableType] = [main]
    for title, errors, counts in _curves(figures):
        curve = Table(title=title.capitalize(), title_justify="left")
        curve.add_column("")
        for age in AGES:
            curve.add_column(age, justify="right")
        curve.add_row("mean error", *(_shown(errors[age]) for age in AGES))
        curve.add_row("labels", *(f"{counts[age]:,}" for age in AGES))
        parts.append(curve)
    return Group(*parts)


def task_figures(task: TaskSummary) -> Figures:
    """A task as JSON has it; what is not known yet is None."""
    return asdict(task) | {"error": _finite(task.error)}


def task_table(tasks: Sequence[TaskSummary], *, total: int) -> Table:
    """Tasks, one a line."""
    table = Table(title=f"{len(tasks):,} of {total:,} tasks", title_justify="left")
    for name in ("task", "partition", "events", "labelled", "error", "drifts", "last drift (UTC)", "last seen (UTC)"):
        table.add_column(name, justify="left" if name == "task" else "right", overflow="fold")
    for task in tasks:
        counts = (task.partition, task.events, task.labelled, _finite(task.error), task.drifts)
        table.add_row(cell(task.task), *map(_shown, counts), _moment(task.last_drift_at), _moment(task.last_seen_at))
    return table


def printable(text: str) -> str:
    r"""Text of a stream as a terminal may show it: what is no printable character is escaped.

    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def cell(text: str) -> Text:
    """Text of a stream as a table's cell: printable, and its brackets are no markup."""
    return Text(printable(text))


def _moment(ts: float | None) -> str:
    try:
        return "-" if ts is None else f"{datetime.fromtimestamp(ts, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):  # a producer's ts need not be seconds since 1970
        return str(ts)


def _order(figures: Figures) -> list[str]:
    return [name for name, value in figures.items() if not isinstance(value, Mapping | list) and value is not None]


def _reasons(figures: Figures) -> list[dict[str, Any]]:
    """Why records were set aside, the commonest first."""
    found: list[dict[str, Any]] = figures.get("rejected_reasons", [])
    return found[:_MOST_REASONS]


def _curves(figures: Figures) -> list[tuple[str, dict[str, float | None], dict[str, int]]]:
    found = [
        ("error at a task's n-th label", figures["error_by_age"], figures["labels_by_age"]),
        ("error at the n-th label after a detected drift", figures["error_after_drift"], figures["labels_after_drift"]),
    ]
    return [curve for curve in found if any(curve[2].values())]


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.4f}" if abs(float(str(value))) < 1_000 else f"{value:,.0f}"


def _accuracy(classes: metrics.ConfusionMatrix) -> float:
    return float(metrics.Accuracy(cm=classes).get())


def _macro_f1(classes: metrics.ConfusionMatrix) -> float:
    """Mean F1 of the classes seen. River's own would take "no prediction" for a class."""
    scores = []
    for one in classes.classes:
        if one is not None:
            both = classes.sum_row[one] + classes.sum_col[one]
            scores.append(2 * classes[one][one] / both if both else 0.0)
    return float(sum(scores) / len(scores))


def _by_class(classes: metrics.ConfusionMatrix) -> Figures:
    """Each class's labels and scores, the commonest first; and what was taken for what, among the commonest."""
    names = sorted((one for one in classes.classes if one is not None), key=lambda one: -classes.sum_row[one])
    rows = []
    for one in names[:_MOST_CLASSES]:
        labels, said, right = int(classes.sum_row[one]), int(classes.sum_col[one]), int(classes[one][one])
        rows.append(
            {
                "class": str(one),
                "labels": labels,
                "predicted": said,
                "precision": right / said if said else None,
                "recall": right / labels if labels else None,
                "f1": 2 * right / (labels + said) if labels + said else None,
            }
        )
    shown = names[:_MOST_CONFUSED]
    counts = [[int(classes[true][said]) for said in shown] for true in shown]
    others = [int(classes.sum_row[true]) - sum(row) for true, row in zip(shown, counts, strict=True)]
    return {
        "classes_of": rows,
        "confusion": {"classes": [str(one) for one in shown], "counts": counts, "other_or_none": others},
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not isfinite(value) else float(value)
