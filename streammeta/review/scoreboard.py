"""All learners of a replay side by side, as tables for a terminal and as lines for logs and pipes."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

from streammeta.report import AGES, Figures, cell, printable

__all__ = ["lines", "tables"]

_MOST_TASKS = 5  # shown
_MOST_CLASSES = 10
_SCORES = {
    "classification": ("accuracy", "kappa", "log_loss"),
    "regression": ("mae", "rmse", "r2"),
    "decision": ("mean_reward", "mae"),
}
_CURVES = (("error_by_age", "Error at a task's n-th event"), ("error_after_true_drift", "Error after a true drift"))


def tables(figures: Figures) -> RenderableType:
    """The learners, best first, with the paired test; then error by age, and after true drifts."""
    scores = _SCORES[figures["kind"]]
    board = Table(title="Learners", title_justify="left")
    for name in ("learner", *scores, "events/s", "MB", "paired test"):
        board.add_column(name.replace("_", " "), justify="left" if name in ("learner", "paired test") else "right")
    for name, one in _ordered(figures):
        cells = [_number(one.get(score)) for score in scores]
        cells += [_number(one["events_per_second"], 0), _megabytes(one), _verdict(figures, name, one)]
        board.add_row(cell(name), *cells)
    for name, score, value in _guesses(figures):
        board.add_row(cell(name), *(value if one == score else "" for one in scores), "", "", "without learning")
    curves = [curve for which, title in _CURVES if (curve := _curve(figures, which, title)) is not None]
    return Group(board, *_decides(figures), *_worst(figures), *_classes(figures), *curves)


def lines(figures: Figures) -> Iterator[str]:
    """The same, a line a learner."""
    for name, one in _ordered(figures):
        scores = ", ".join(f"{score} {_number(one.get(score))}" for score in _SCORES[figures["kind"]])
        verdict = _verdict(figures, name, one)
        yield f"{name}: {scores}, {_number(one['events_per_second'], 0)} events/s{'; ' if verdict else ''}{verdict}"
    for name, score, value in _guesses(figures):
        yield f"{name}, without learning: {score} {value}"
    decides = figures.get("who_decides", {})
    if decides:
        yield "who decides: " + ", ".join(f"{printable(part)} {one['mean']:.0%}" for part, one in decides.items())
    classes = figures.get("classes_of", [])[:_MOST_CLASSES]
    if classes:
        recalls = ", ".join(
            f"{printable(one['class'])} {_number(one['recall'], 3)} (n {one['labels']:,})" for one in classes
        )
        yield f"recall of the commonest classes: {recalls}"
    detection = figures.get("detection")
    if detection:
        yield (
            f"drift detection: {detection['true_drifts']:,} true drifts, {detection['found']:,} found (median delay "
            f"{_number(detection['median_delay'], 1)}), {detection['missed']:,} missed, {detection['undecided']:,} "
            f"undecided at the end, {detection['false_alarms']:,} false alarms"
        )
    worst = figures["worst_tasks"][:_MOST_TASKS]
    if len(worst) > 1:
        yield "worst tasks: " + ", ".join(
            f"{printable(_tag(one))} {one['error']:.4f} (n {one['labels']:,})" for one in worst
        )


def _ordered(figures: Figures) -> list[tuple[str, Mapping[str, Any]]]:
    """Learners by their error; those that failed, or said nothing, last."""

    def order(entry: tuple[str, Mapping[str, Any]]) -> tuple[bool, float]:
        one = entry[1]
        return "failed" in one or one["error"] is None, one["error"] or 0.0

    return sorted(figures["learners"].items(), key=order)


def _verdict(figures: Figures, name: str, one: Mapping[str, Any]) -> str:
    if "failed" in one:
        return f"failed {one['failed']}"
    for pair in figures.get("paired", []):
        if pair["b"] == name:
            p = "" if pair["p"] is None else f" (p {pair['p']:.2g})"
            return f"{pair['verdict']}{p}"
    return ""


def _guesses(figures: Figures) -> Iterator[tuple[str, str, str]]:
    """What one would say without learning: name, score, and its value."""
    score = "accuracy" if figures["kind"] == "classification" else "mae"
    for name, one in figures["guesses"].items():
        error = one["error"]
        yield name, score, _number(1 - error if score == "accuracy" and error is not None else error)


def _worst(figures: Figures) -> Iterator[Table]:
    worst = figures["worst_tasks"][:_MOST_TASKS]
    if len(worst) < 2:
        return
    table = Table(title=f"{len(worst)} of {figures['tasks']:,} tasks, the worst first", title_justify="left")
    for head in ("task", "error", "labels", "events", "drifts"):
        table.add_column(head, justify="left" if head == "task" else "right", overflow="fold")
    for one in worst:
        counts = (f"{one[name]:,}" for name in ("labels", "events", "drifts"))
        table.add_row(cell(_tag(one)), _number(one["error"]), *counts)
    yield table


def _decides(figures: Figures) -> Iterator[Table]:
    """The weight of each part of streammeta's mixture, the heaviest first."""
    decides = figures.get("who_decides", {})
    if not decides:
        return
    table = Table(title="Who decides", title_justify="left")
    for head in ("part", "weight", "at the end"):
        table.add_column(head, justify="left" if head == "part" else "right")
    for part, one in decides.items():
        table.add_row(cell(part), f"{one['mean']:.1%}", f"{one['last']:.1%}")
    yield table


def _classes(figures: Figures) -> Iterator[Table]:
    """streammeta's scores of each class, the commonest first."""
    rows = figures.get("classes_of", [])
    if not rows:
        return
    shown = rows[:_MOST_CLASSES]
    table = Table(title=f"{len(shown)} of {len(rows):,} classes, the commonest first", title_justify="left")
    for head in ("class", "labels", "predicted", "precision", "recall", "F1"):
        table.add_column(head, justify="left" if head == "class" else "right", overflow="fold")
    for one in shown:
        scores = (_number(one[name], 3) for name in ("precision", "recall", "f1"))
        table.add_row(cell(one["class"]), f"{one['labels']:,}", f"{one['predicted']:,}", *scores)
    yield table


def _tag(task: Mapping[str, Any]) -> str:
    return task["task"] or "(no tag)"


def _curve(figures: Figures, which: str, title: str) -> Table | None:
    shown = [(name, one[which]) for name, one in _ordered(figures) if any(v is not None for v in one[which].values())]
    if not shown or (which == "error_by_age" and figures["tasks"] < 2):
        return None
    table = Table(title=title, title_justify="left")
    for head in ("learner", *AGES):
        table.add_column(head, justify="left" if head == "learner" else "right")
    for name, curve in shown:
        table.add_row(cell(name), *(_number(curve[age], 3) for age in AGES))
    return table


def _megabytes(one: Mapping[str, Any]) -> str:
    size = one.get("memory_bytes")
    return "-" if size is None else f"{size / 1e6:,.2f}"


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
