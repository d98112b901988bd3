"""Test, then train, one event at a time: the loop that every runner shares. Needs numpy only, in any environment.

A runner is started once for each (learner, wiring, file, seed), so that memory and time are that learner's own. It
gets its job as JSON on the command line and writes one JSON file: the prediction made for each row before the row's
label was learned from, the time it took, and the most memory it held. Nothing is scored here.
"""

import argparse
import csv
import gzip
import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

__all__ = ["CATEGORY", "Job", "Learner", "Prediction", "Row", "Rows", "each_task", "prequential", "read_rows", "runner"]

CATEGORY = ":category"  # a column's name that ends so has numbers which are names
Prediction: TypeAlias = float | None  # number of the class, or the value; None: nothing could be said yet


class Row(NamedTuple):
    """One event."""

    number: int
    x: np.ndarray  # features [D]
    task: str  # "" where the file has no tasks
    y: float


@dataclass(frozen=True)
class Rows:
    """A file in memory."""

    names: list[str]  # of the features
    xs: np.ndarray  # [N, D]
    tasks: list[str]
    ys: np.ndarray  # [N]
    categories: tuple[int, ...] = ()  # columns whose numbers are names
    switches: frozenset[int] = (
        frozenset()
    )  # rows with which their task has a new concept; known of simulated streams only
    due: np.ndarray | None = None  # [N] the row before which each label is known; None: a constant delay

    def __len__(self) -> int:
        return len(self.tasks)


@dataclass(frozen=True)
class Job:
    """What a runner is to do."""

    path: str
    learner: str
    wiring: str  # "global", "per-task", "tag", or "native" (the learner knows tasks)
    kind: str  # "classification" or "regression"
    limit: int | None  # rows
    delay: int  # rows after which a label comes
    seed: int
    seconds: float  # the loop stops after so long
    overrides: dict[str, Any]  # settings that differ from the defaults


class Learner(Protocol):
    """What a runner must bring."""

    def event(self, row: Row, *, labelled: bool) -> Prediction:
        """Predict; then, when the label came with the event, learn it."""

    def label(self, row: Row) -> None:
        """Learn the late label of an earlier event."""


class Model(Protocol):
    """One model over one stream of events."""

    def predict(self, row: Row) -> Prediction:
        """The label expected."""

    def learn(self, row: Row) -> None:
        """Learn from the label."""


class _EachTask:
    """A learner made of models, one for all or one a task; a missing value is the last one seen, at first 0."""

    def __init__(self, make: Callable[[], Model], *, apart: bool) -> None:
        self._make, self._apart = make, apart
        self._models: dict[str, Model] = {}
        self._last: np.ndarray | None = None

    def _model(self, row: Row) -> Model:
        key = row.task if self._apart else ""
        if key not in self._models:
            self._models[key] = self._make()
        return self._models[key]

    def _filled(self, row: Row, *, note: bool) -> Row:
        known = np.isfinite(row.x)
        if known.all() and self._last is None:
            return row
        last = np.zeros(row.x.size) if self._last is None else self._last
        x = np.where(known, row.x, last)
        if note:
            self._last = x
        return row._replace(x=x)

    def event(self, row: Row, *, labelled: bool) -> Prediction:
        model, row = self._model(row), self._filled(row, note=True)
        predicted = model.predict(row)
        if labelled:
            model.learn(row)
        return predicted

    def label(self, row: Row) -> None:
        self._model(row).learn(self._filled(row, note=False))


def each_task(job: Job, make: Callable[[], Model]) -> Learner:
    """One model a task in the wiring "per-task", else one model for all."""
    return _EachTask(make, apart=job.wiring == "per-task")


def read_rows(path: Path | str, limit: int | None = None) -> Rows:
    """Read a CSV file, packed or not: features, `task` where there are tasks, `due` where labels have times, `y`."""
    opened = gzip.open if str(path).endswith(".gz") else open
    with opened(path, "rt", newline="") as lines:
        table = csv.reader(lines)
        header = next(table)
        cells = [row for row, _ in zip(table, range(limit or sys.maxsize), strict=False)]
    tagged = "task" in header
    columns = [name for name in header if name not in ("task", "due", "y")]
    places = [header.index(name) for name in columns]
    categories = tuple(d for d, name in enumerate(columns) if name.endswith(CATEGORY))
    names = [name.removesuffix(CATEGORY) for name in columns]
    xs = np.array([[float(row[i] or "nan") for i in places] for row in cells], np.float64).reshape(
        len(cells), len(names)
    )
    tasks = [row[header.index("task")] for row in cells] if tagged else [""] * len(cells)
    ys = np.array([float(row[header.index("y")]) for row in cells], np.float64)
    due = np.array([int(row[header.index("due")]) for row in cells]) if "due" in header else None
    return Rows(names, xs, tasks, ys, categories, due=due)


def prequential(learner: Learner, rows: Rows, *, delay: int = 0, seconds: float = float("inf")) -> dict[str, Any]:
    """Run the learner over the rows; predictions, how sure it was where it says so, and when each tenth was done."""
    predictions: list[Prediction] = []
    sureness: list[Prediction] = []
    marks: list[tuple[int, float, float]] = [(0, 0.0, 0.0)]  # rows, wall seconds, processor seconds
    tenth = max(len(rows) // 10, 1)
    begun, begun_cpu = time.perf_counter(), time.process_time()

    def row_at(i: int) -> Row:
        return Row(i, rows.xs[i], rows.tasks[i], float(rows.ys[i]))

    at_once, late = delay == 0 and rows.due is None, _late(rows, delay)
    for i in range(len(rows)):
        predictions.append(learner.event(row_at(i), labelled=at_once))
        sureness.append(getattr(learner, "sureness", None))
        for j in late.get(i + 1, ()):
            learner.label(row_at(j))
        elapsed = time.perf_counter() - begun
        if (i + 1) % tenth == 0 or i + 1 == len(rows) or elapsed > seconds:
            marks.append((i + 1, elapsed, time.process_time() - begun_cpu))
        if elapsed > seconds:
            break
    return {"predictions": predictions, "sureness": sureness, "marks": marks}


def _late(rows: Rows, delay: int) -> dict[int, list[int]]:
    """The rows whose late labels come before a row, in their order; none comes before its own event."""
    found: dict[int, list[int]] = {}
    due = np.arange(len(rows)) + delay + 1 if rows.due is None else np.maximum(rows.due, np.arange(len(rows)) + 1)
    for j, before in enumerate(due.tolist() if delay or rows.due is not None else []):
        found.setdefault(before, []).append(j)
    return found


def runner(make: Callable[[Job, Rows], Learner], versions: Callable[[], dict[str, str]]) -> None:
    """The main function of a runner."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--job")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--jobs", action="store_true", help="one job after the other: [job, out] as a line of stdin")
    options = parser.parse_args()
    if not options.jobs:
        _run_one(Job(**json.loads(options.job)), options.out, make, versions)
        return
    for line in sys.stdin:
        job, out = json.loads(line)
        try:
            _run_one(Job(**job), Path(out), make, versions)
            print(json.dumps({}), flush=True)
        except Exception as err:
            print(json.dumps({"problem": f"failed: {type(err).__name__}: {err}"[:300]}), flush=True)


def _run_one(job: Job, out: Path, make: Callable[[Job, Rows], Learner], versions: Callable[[], dict[str, str]]) -> None:
    rows = read_rows(job.path, job.limit)
    before = _peak_rss_bytes()
    learner = make(job, rows)
    result = prequential(learner, rows, delay=job.delay, seconds=job.seconds)
    result |= {"rss_before_bytes": before, "peak_rss_bytes": _peak_rss_bytes(), "versions": versions()}
    out.write_text(json.dumps(result))


def _peak_rss_bytes() -> int:
    """The most resident memory since this program began; getrusage would count what the parent held when it forked."""
    try:
        status = Path("/proc/self/status").read_text()
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
