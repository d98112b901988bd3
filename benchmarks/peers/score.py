"""One piece of code for every learner's figures, so that nobody's are counted differently."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

from benchmarks.peers.prequential import Prediction, Rows
from streammeta.engine import Kind, Outcome
from streammeta.event import Event, Origin
from streammeta.report import AgeCurve, Tally

__all__ = ["FIRST", "cost", "figures", "mean_figures"]

FIRST = (5, 20, 50)  # events of each task over which early errors are taken


def figures(kind: Kind, rows: Rows, predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Accuracy and kappa, or MAE, RMSE and R2; and the error by age of a task.

    A row for which nothing (or no finite number) was predicted counts as a wrong class, or as the prediction 0. The age
    of an event is the number of events of its task that came before, whether or not their labels had come.
    """
    tally = Tally(kind)
    seen: dict[str, int] = defaultdict(int)
    early: dict[int, list[float]] = {first: [] for first in FIRST}
    errors: list[float] = []
    unpredicted = 0
    for i, said in enumerate(predictions):
        predicted = said if said is not None and isfinite(said) else None
        unpredicted += predicted is None
        age, y = seen[rows.tasks[i]], float(rows.ys[i])
        seen[rows.tasks[i]] += 1
        if kind == "regression" and predicted is None:
            predicted = 0.0
        event = Event({}, rows.tasks[i], Origin("benchmark", 0, i), y=y)
        tally.add([Outcome(event, prediction=predicted, age=age)])
        errors.append(float(predicted != y) if kind == "classification" else abs(float(predicted or 0.0) - y))
        for first, of_age in early.items():
            if age < first:
                of_age.append(errors[-1])
    whole = tally.figures()
    names = ("accuracy", "kappa") if kind == "classification" else ("mae", "rmse", "r2")
    return {
        **{name: whole[name] for name in names},
        "error_first": {str(first): float(np.mean(of_age)) if of_age else None for first, of_age in early.items()},
        "error_by_age": whole["error_by_age"],
        "unpredicted": unpredicted,
        "tasks": len(seen),
        **_after_switches(rows, errors),
    }


def _after_switches(rows: Rows, errors: Sequence[float]) -> dict[str, Any]:
    """The error by events since a task's concept changed, where known: of the whole stream, and of its second half."""
    if not rows.switches:
        return {}
    since: dict[str, int] = {}
    whole, later = AgeCurve(), AgeCurve()
    for i, error in enumerate(errors):
        task = rows.tasks[i]
        if i in rows.switches:
            since[task] = 0
        if task in since:
            whole.add(since[task], error)
            if 2 * i >= len(rows):
                later.add(since[task], error)
            since[task] += 1
    return {"switches": len(rows.switches), "error_after_switch": whole.means(), "later_after_switch": later.means()}


def cost(result: Mapping[str, Any]) -> dict[str, float]:
    """Time and memory of one run; the second half of it shows what lasts when compilers have warmed up."""
    marks = result["marks"]
    rows, seconds, processor = marks[-1]
    half_rows, half_seconds, _ = next(mark for mark in marks if mark[0] * 2 >= rows)
    later = seconds - half_seconds
    return {
        "rows": rows,
        "seconds": seconds,
        "events_per_second": rows / seconds,
        "events_per_processor_second": rows / max(processor, 1e-9),
        "events_per_second_second_half": (rows - half_rows) / later if later > 0 else rows / seconds,
        "peak_rss_bytes": result["peak_rss_bytes"],
        "rss_before_bytes": result["rss_before_bytes"],
    }


def mean_figures(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean over seeds of everything that is a number."""
    first = runs[0]
    mean: dict[str, Any] = {}
    for name, value in first.items():
        values = [run[name] for run in runs]
        if isinstance(value, Mapping):
            mean[name] = mean_figures(values)
        elif any(one is None for one in values):
            mean[name] = None
        else:
            mean[name] = float(np.mean(values))
    return mean
