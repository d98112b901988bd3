"""streammeta and its peers on the same rows: how right, how soon, how fast, how large.

    python -m benchmarks.streams [--files elec2,generated] [--learners NAME …] [--wirings …] [--limit N] [--quick]
                                 [--seeds 0] [--timeout 600] [--jobs 1] [--setup] [--resume] [--json OUT]
                                 [--markdown OUT]

Each learner runs in a process of its own, on one core, over the same file: it predicts an event, then gets the
label, and so on. Peers have environments of their own, which --setup makes. A learner that cannot run is listed with
the reason. Recorded files come from the folder STREAMMETA_DATA (streams/*.csv.gz in it); the others are simulated, and
files.py says how. With --resume, what the file of --json has already is kept, and the rest is run.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any

from rich.console import Console

from benchmarks.peers.catalogue import CATALOGUE, QUICK, Entry
from benchmarks.peers.environments import absence
from benchmarks.peers.files import FILES, GROUPS, chosen, data_folder, described, laid_out
from benchmarks.peers.prequential import Job
from benchmarks.peers.process import Result, run_apart
from benchmarks.peers.score import cost, figures, mean_figures
from benchmarks.peers.tables import markdown, terminal

__all__ = ["main"]

_QUICK_ROWS = 1_000


def main(arguments: list[str] | None = None) -> int:
    """Run it; exit status 1 when a learner failed or was absent."""
    options = _options(arguments)
    entries = _entries(options)
    absent = _prepare({entry.environment for entry in entries.values()}, make=options.setup)
    report: Result = {"files": {}, "absent": {}, "seeds": options.seeds, "versions": {}, "machine": _machine()}
    for name, entry in entries.items():
        if entry.environment in absent:
            report["absent"][name] = absent[entry.environment]
    runnable = {name: entry for name, entry in entries.items() if name not in report["absent"]}
    console = Console(width=None if sys.stdout.isatty() else 180)
    earlier = _earlier(options, report)
    for name in options.files:
        with tempfile.TemporaryDirectory() as folder:
            race = _Race(name, Path(folder), options)
            report["files"][name] = race.about
            race.run(runnable, earlier.get(name, {}), report["versions"], lambda: _write(report, options))
        console.print(terminal(name, report["files"][name]))
    for name, reason in report["absent"].items():
        print(f"{name}: absent ({reason})")
    failed = any("figures" not in run for part in report["files"].values() for run in part["runs"])
    return int(failed or bool(report["absent"]))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def names(text: str) -> list[str]:
        return [part.strip() for part in text.split(",") if part.strip()]

    parser.add_argument("--files", type=names, default=["all"], help="names, groups, or others there")
    parser.epilog = f"files: {', '.join(FILES)}; groups: {', '.join(GROUPS)}"
    parser.add_argument("--learners", action="append", help="a learner's name or its beginning; may be repeated")
    parser.add_argument("--wirings", type=names, default=["global", "per-task", "tag"], help="for peers, with tasks")
    parser.add_argument("--variant", action="append", default=[], help='more of streammeta: NAME={"learner": {…}}')
    parser.add_argument("--limit", type=int, help="rows a file; 0: all (default: those of the published table)")
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in names(text)], default=[0])
    parser.add_argument("--timeout", type=float, default=600, help="seconds a learner may take for a file")
    parser.add_argument("--jobs", type=int, default=1, help="learners at once; with more than 1, times are less exact")
    parser.add_argument("--setup", action="store_true", help="make the peers' environments first")
    parser.add_argument("--quick", action="store_true", help=f"few learners, {_QUICK_ROWS:,} rows")
    parser.add_argument("--resume", action="store_true", help="keep what --json has already, and run the rest")
    parser.add_argument(
        "--again", type=names, action="extend", default=[], help="learners to run again all the same, with --resume"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args(arguments)
    if options.resume and options.json is None:
        parser.error("--resume: wanted --json OUT as well, the file to go on with")
    if options.quick and options.limit is None:
        options.limit = _QUICK_ROWS
    options.files = chosen(options.files)
    for name in options.files:
        if (name not in FILES or FILES[name].scenario is None) and not (data_folder() / f"{name}.csv.gz").exists():
            parser.error(f"--files: no {name}.csv.gz in {data_folder()}; set STREAMMETA_DATA to the folder above it")
    return options


def _entries(options: argparse.Namespace) -> dict[str, Entry]:
    """The learners asked for, variants included."""
    known = dict(CATALOGUE)
    added = []
    for text in options.variant:
        name, _, overrides = text.partition("=")
        try:
            changed = json.loads(overrides)
        except ValueError as err:
            raise SystemExit(f'--variant {text}: {err}; wanted NAME={{"learner": {{"hidden": 96}}}}') from err
        known[name] = replace(known["streammeta"], settings=f"defaults and {overrides}", overrides=changed)
        added.append(name)
    wanted = options.learners or (list(QUICK) if options.quick else list(known))
    entries: dict[str, Entry] = {}
    for text in [*wanted, *added]:
        found = [text] if text in known else [name for name in known if name.lower().startswith(text.lower())]
        if not found:
            raise SystemExit(f"--learners: no learner called {text!r}; known are {', '.join(known)}")
        entries |= {name: known[name] for name in found}
    return entries


def _prepare(environments: set[str], *, make: bool) -> dict[str, str]:
    """Environments that cannot be used, and why."""
    absent: dict[str, str] = {}
    for name in sorted(environments):
        if make:
            print(f"making the environment of {name} ...", flush=True)
        reason = absence(name, make=make)
        if reason is not None:
            absent[name] = reason
    return absent


def _earlier(options: argparse.Namespace, report: Result) -> dict[str, Result]:
    """By file, what an earlier run found and shall be kept; files that are not asked for now go into the report."""
    if not options.resume or not options.json.exists():
        return {}
    earlier: Result = json.loads(options.json.read_text())
    if earlier["seeds"] != options.seeds:
        raise SystemExit(f"--resume: {options.json} has seeds {earlier['seeds']}, wanted {options.seeds}")
    report["versions"] |= earlier["versions"]
    report["files"] |= earlier["files"]
    again = tuple(options.again)
    for part in earlier["files"].values():
        part["runs"] = [run for run in part["runs"] if "figures" in run and run["learner"] not in again]
    return dict(earlier["files"])


class _Race:
    """Every learner over one file."""

    def __init__(self, name: str, folder: Path, options: argparse.Namespace) -> None:
        self._name, self._options = name, options
        self._file = described(name)
        limit = (options.limit or None) if options.limit is not None else self._file.rows
        self._path, self._rows = laid_out(name, self._file, limit, folder)
        self._limit = limit
        self._cores: SimpleQueue[int] = SimpleQueue()
        for core in sorted(os.sched_getaffinity(0), reverse=True)[: options.jobs]:
            self._cores.put(core)
        self.about: Result = {
            "rows": len(self._rows),
            "features": len(self._rows.names),
            "tasks": len(set(self._rows.tasks)),
            "kind": self._file.kind,
            "delay": self._file.delay,
            "description": self._file.description,
            "runs": [],
        }

    def run(
        self,
        entries: Mapping[str, Entry],
        known: Mapping[str, Any],
        versions: dict[str, str],
        saved: Callable[[], None],
    ) -> None:
        """Add to what is ``known`` a run of each learner in each wiring; ``saved`` is called after each."""
        self.about["runs"] = list(known["runs"]) if known.get("rows") == len(self._rows) else []
        done = {(run["learner"], run["wiring"]) for run in self.about["runs"]}
        plan = [(learner, wiring) for learner, entry in entries.items() for wiring in self._wirings(entry)]
        left = [pair for pair in plan if pair not in done]
        writing = Lock()

        def one(place: int) -> None:
            learner, wiring = left[place]
            run = self._seeds(learner, wiring, entries[learner], versions)
            print(f"{self._name} [{place + 1}/{len(left)}] {learner}, {wiring}: {_described(run)}", flush=True)
            with writing:  # at once, so that an interrupted comparison keeps what it has
                self.about["runs"].append(run)
                saved()

        with ThreadPoolExecutor(self._cores.qsize()) as pool:
            list(pool.map(one, range(len(left))))

    def _wirings(self, entry: Entry) -> Sequence[str]:
        if self._file.kind not in entry.kinds or len(self._rows.names) > entry.most_features:
            return ()
        if entry.wirings == ("native",):
            return entry.wirings
        wanted = self._options.wirings if self.about["tasks"] > 1 else ["global"]
        return [wiring for wiring in wanted if wiring in entry.wirings]

    def _seeds(self, learner: str, wiring: str, entry: Entry, versions: dict[str, str]) -> Result:
        """One learner in one wiring, once a seed."""
        file, seconds = self._file, self._options.timeout
        job = Job(str(self._path), learner, wiring, file.kind, self._limit, file.delay, 0, seconds, {})
        job = replace(job, overrides=dict(entry.overrides))
        about: Result = {"learner": learner, "wiring": wiring, "settings": entry.settings}
        scored, costs = [], []
        for seed in self._options.seeds:
            result = self._on_a_core(replace(job, seed=seed), entry)
            if "problem" in result:
                return about | {"problem": result["problem"]}
            versions |= result["versions"]
            scored.append(figures(file.kind, self._rows, result["predictions"]))
            costs.append(cost(result))
        return about | {"figures": mean_figures(scored), "cost": mean_figures(costs), "by_seed": scored}

    def _on_a_core(self, job: Job, entry: Entry) -> Result:
        core = self._cores.get()
        try:
            return run_apart(job, entry, core)
        finally:
            self._cores.put(core)


def _described(run: Mapping[str, Any]) -> str:
    if "problem" in run:
        return str(run["problem"])
    scores, spent = run["figures"], run["cost"]
    score = f"{scores['accuracy']:.4f} right" if "accuracy" in scores else f"MAE {scores['mae']:.4f}"
    return f"{score}, {spent['events_per_second']:,.0f} events/s, {spent['seconds']:,.0f} s"


def _machine() -> str:
    return f"{platform.machine()}, Python {platform.python_version()}, {time.strftime('%Y-%m-%d', time.gmtime())}"


def _write(report: Result, options: argparse.Namespace) -> None:
    if options.json:
        options.json.write_text(json.dumps(report, indent=2))
    if options.markdown:
        options.markdown.write_text(markdown(report))


if __name__ == "__main__":
    sys.exit(main())
