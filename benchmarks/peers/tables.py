"""The results as Markdown and for a terminal: one table a file, best first, nothing left out."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from benchmarks.peers.score import FIRST

__all__ = ["markdown", "terminal"]

_ERRORS = tuple(f"first {n}" for n in FIRST)
_AFTER = "11-20"  # events after a switch
_FEWEST_SWITCHES = 50  # for which ten events after each say something
_SWITCHED = (f"{_AFTER} after", "in 2nd half")
_COSTS = ("events/s", "events/s, 2nd half", "events/CPU s", "peak MB")


def markdown(report: Mapping[str, Any]) -> str:
    """All files, then the settings of every learner, then what did not run."""
    parts = [_file_table(name, part) for name, part in report["files"].items()]
    used = {run["learner"]: run["settings"] for part in report["files"].values() for run in part["runs"]}
    settings = [f"- {name}: {value}" for name, value in used.items()]
    absent = [f"- {name}: absent ({reason})" for name, reason in report["absent"].items()]
    about = "\n".join([*settings, *absent])
    return "\n\n".join([*parts, f"Settings\n\n{about}", f"{_conditions(report)}\n"])


def terminal(name: str, part: Mapping[str, Any]) -> Table:
    """One file's table."""
    table = Table(title=_title(name, part), title_justify="left")
    head, *lines = _cells(part)
    for i, column in enumerate(head):
        table.add_column(column, justify="left" if i < 2 else "right")
    for line in lines:
        table.add_row(*line)
    return table


def _file_table(name: str, part: Mapping[str, Any]) -> str:
    head, *lines = _cells(part)
    rule = ["---", "---", *["---:"] * (len(head) - 2)]
    return f"### {_title(name, part)}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *lines])


def _title(name: str, part: Mapping[str, Any]) -> str:
    late = f", labels {part['delay']} rows late" if part["delay"] else ""
    tasks = f", {part['tasks']:,} tasks" if part["tasks"] > 1 else ""
    made = f"; {part['description']}" if part.get("description") else ""
    return f"{name}: {part['rows']:,} rows, {part['features']} features{tasks}{late}{made}"


def _cells(part: Mapping[str, Any]) -> list[list[str]]:
    classify, tagged = part["kind"] == "classification", part["tasks"] > 1
    scores = ("accuracy", "kappa") if classify else ("mae", "rmse", "r2")
    heads = ("accuracy %", "kappa") if classify else ("MAE", "RMSE", "R2")
    switched = any(_switches(run) for run in part["runs"])
    early = (*(_ERRORS if tagged else ()), *(_SWITCHED if switched else ()))
    table = [["learner", "wiring", *heads, *early, *_COSTS]]

    def order(run: Mapping[str, Any]) -> tuple[bool, float]:
        if "figures" not in run:
            return True, 0.0
        best = run["figures"][scores[0]]
        return run["cost"]["rows"] < part["rows"], -best if classify else best

    for run in sorted(part["runs"], key=order):
        if "figures" not in run:
            table.append([run["learner"], run["wiring"], run["problem"], *[""] * (len(table[0]) - 3)])
            continue
        table.append(_line(run, part, scores, tagged=tagged))
    return table


def _line(run: Mapping[str, Any], part: Mapping[str, Any], scores: Sequence[str], *, tagged: bool) -> list[str]:
    figures, cost = run["figures"], run["cost"]
    name = run["learner"]
    if cost["rows"] < part["rows"]:
        name += f" (out of time after {cost['rows']:,.0f} rows)"
    first = f"{100 * figures['accuracy']:.2f}" if scores[0] == "accuracy" else f"{figures['mae']:.3f}"
    rest = [_number(figures[score], 3) for score in scores[1:]]
    early = [_number(figures["error_first"][str(n)], 3) for n in FIRST] if tagged else []
    if _switches(run):
        curves = (figures["error_after_switch"], figures["later_after_switch"])
        early += [_number(curve[_AFTER], 3) for curve in curves]
    speeds = ("events_per_second", "events_per_second_second_half", "events_per_processor_second")
    costs = [*(f"{cost[speed]:,.0f}" for speed in speeds), f"{cost['peak_rss_bytes'] / 1e6:,.0f}"]
    return [name, run["wiring"], first, *rest, *early, *costs]


def _switches(run: Mapping[str, Any]) -> bool:
    return run.get("figures", {}).get("switches", 0) >= _FEWEST_SWITCHES


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _conditions(report: Mapping[str, Any]) -> str:
    seeds = ", ".join(str(seed) for seed in report["seeds"])
    versions = ", ".join(f"{name} {number}" for name, number in sorted(report["versions"].items()))
    return (
        "Prequential: each event was predicted before its label was learned from, one event at a time, each learner in "
        f"a process of its own on one core; seeds {seeds}. Figures of several seeds are means. events/s are of the "
        "wall clock, compilers' warm-up included; peak MB is the whole process, libraries and the file included. "
        f"{_AFTER} after: the error at the {_AFTER.replace('-', 'th to ')}th event of a task after a new concept, "
        "where that is known, in the whole stream and in its second half. "
        f"{report['machine']}. {versions}."
    )
