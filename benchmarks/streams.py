"""streammeta and its peers on the same rows: how right, how soon, how fast, how large.

    python -m benchmarks.streams [--files elec2,school] [--learners NAME,…] [--wirings …] [--limit N] [--quick]
                                 [--seeds 0] [--timeout 600] [--jobs 1] [--setup] [--json OUT] [--markdown OUT]

Each learner runs in a process of its own, on one core, over the same file: it predicts an event, is then told the
label, and so on. Peers have environments of their own, which --setup makes. A learner that cannot run is listed with
the reason. Data come from the folder STREAMMETA_DATA (streams/*.csv.gz in it).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from rich.console import Console

from benchmarks.peers.catalogue import CATALOGUE, QUICK, Entry
from benchmarks.peers.environments import ROOT, absence, child_environment, last_line, python_of, set_up
from benchmarks.peers.files import FILES, File, data_folder, describe
from benchmarks.peers.prequential import Job, Rows, read_rows
from benchmarks.peers.score import cost, figures, mean_figures
from benchmarks.peers.tables import markdown, terminal

__all__ = ["main"]

_QUICK_ROWS = 1_000
_WARM_ROWS = 300
_WARM_SECONDS = 300
_GRACE_SECONDS = 60  # for starting and writing, beyond the learner's own limit
Result = dict[str, Any]


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
    for name in options.files:
        report["files"][name] = _compare(name, runnable, options, report["versions"])
        console.print(terminal(name, report["files"][name]))
        _write(report, entries, options)  # after each file, so that an interrupted run keeps what it has
    for name, reason in report["absent"].items():
        print(f"{name}: absent ({reason})")
    failed = any("figures" not in run for part in report["files"].values() for run in part["runs"])
    return int(failed or bool(report["absent"]))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def names(text: str) -> list[str]:
        return [part.strip() for part in text.split(",") if part.strip()]

    parser.add_argument("--files", type=names, default=list(FILES), help=f"among {', '.join(FILES)}, or others there")
    parser.add_argument("--learners", action="append", help="a learner's name or its beginning; may be repeated")
    parser.add_argument("--wirings", type=names, default=["global", "per-task", "tag"], help="for peers, with tasks")
    parser.add_argument("--variant", action="append", default=[], help='more of streammeta: NAME={"learner": {…}}')
    parser.add_argument("--limit", type=int, help="rows a file; 0: all (default: those of the published table)")
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in names(text)], default=[0])
    parser.add_argument("--timeout", type=float, default=600, help="seconds a learner may take for a file")
    parser.add_argument("--jobs", type=int, default=1, help="learners at once; with more than 1, times are less exact")
    parser.add_argument("--setup", action="store_true", help="make the peers' environments first")
    parser.add_argument("--quick", action="store_true", help=f"few learners, {_QUICK_ROWS:,} rows")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args(arguments)
    if options.quick and options.limit is None:
        options.limit = _QUICK_ROWS
    for name in options.files:
        if not (data_folder() / f"{name}.csv.gz").exists():
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
    chosen: dict[str, Entry] = {}
    for text in [*wanted, *added]:
        found = [text] if text in known else [name for name in known if name.lower().startswith(text.lower())]
        if not found:
            raise SystemExit(f"--learners: no learner called {text!r}; known are {', '.join(known)}")
        chosen |= {name: known[name] for name in found}
    return chosen


def _prepare(environments: set[str], *, make: bool) -> dict[str, str]:
    """Environments that cannot be used, and why."""
    absent: dict[str, str] = {}
    for name in sorted(environments):
        if make:
            print(f"making the environment of {name} ...", flush=True)
        reason = (set_up(name) if make else None) or absence(name)
        if reason is not None:
            absent[name] = reason
    return absent


def _compare(name: str, entries: Mapping[str, Entry], options: argparse.Namespace, versions: dict[str, str]) -> Result:
    """Every learner over one file."""
    path = data_folder() / f"{name}.csv.gz"
    file = describe(name, path)
    limit = (options.limit or None) if options.limit is not None else file.rows
    rows = read_rows(path, limit)
    tagged = len(set(rows.tasks)) > 1
    plan = [
        (learner, entry, wiring)
        for learner, entry in entries.items()
        if file.kind in entry.kinds
        for wiring in (entry.wirings if entry.wirings == ("native",) else options.wirings if tagged else ["global"])
        if wiring in entry.wirings
    ]
    cores: SimpleQueue[int] = SimpleQueue()
    for core in sorted(os.sched_getaffinity(0), reverse=True)[: options.jobs]:
        cores.put(core)

    _compile(path, file, entries, cores)

    def one(place: int) -> Result:
        learner, entry, wiring = plan[place]
        job = Job(str(path), learner, wiring, file.kind, limit, file.delay, 0, options.timeout, dict(entry.overrides))
        run = _seeds(job, entry, rows, options.seeds, cores, versions)
        print(f"{name} [{place + 1}/{len(plan)}] {learner}, {wiring}: {_told(run)}", flush=True)
        return run

    with ThreadPoolExecutor(cores.qsize()) as pool:
        runs = list(pool.map(one, range(len(plan))))
    about = {"rows": len(rows), "features": len(rows.names), "tasks": len(set(rows.tasks)), **_shown(file)}
    return {**about, "runs": runs}


def _compile(path: Path, file: File, entries: Mapping[str, Entry], cores: "SimpleQueue[int]") -> None:
    """Let streammeta's kernels be compiled for this kind of file, once a machine: numba keeps them on disk."""
    for name, entry in entries.items():
        if entry.wirings == ("native",):
            job = Job(str(path), name, "native", file.kind, _WARM_ROWS, 0, 0, _WARM_SECONDS, dict(entry.overrides))
            _on_a_core(cores, partial(_run, job, entry))


def _shown(file: File) -> Result:
    return {"kind": file.kind, "delay": file.delay}


def _seeds(
    job: Job, entry: Entry, rows: Rows, seeds: Sequence[int], cores: "SimpleQueue[int]", versions: dict[str, str]
) -> Result:
    """One learner in one wiring, once a seed."""
    about: Result = {"learner": job.learner, "wiring": job.wiring, "settings": entry.settings}
    scored, costs = [], []
    for seed in seeds:
        result = _on_a_core(cores, partial(_run, replace(job, seed=seed), entry))
        if "problem" in result:
            return about | {"problem": result["problem"]}
        versions |= result["versions"]
        scored.append(
            figures("classification" if job.kind == "classification" else "regression", rows, result["predictions"])
        )
        costs.append(cost(result))
    return about | {"figures": mean_figures(scored), "cost": mean_figures(costs), "by_seed": scored}


def _on_a_core(cores: "SimpleQueue[int]", run: Callable[[int], Result]) -> Result:
    core = cores.get()
    try:
        return run(core)
    finally:
        cores.put(core)


def _run(job: Job, entry: Entry, core: int) -> Result:
    """One process; its result, or the problem it had."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        pin = f"import os, runpy; os.sched_setaffinity(0, {{{core}}})"
        start = f"{pin}; runpy.run_module({entry.program!r}, run_name='__main__')"
        command = [str(python_of(entry.environment)), "-c", start, "--job", json.dumps(asdict(job)), "--out", str(out)]
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=child_environment(),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=job.seconds + _GRACE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"problem": f"did not end within {job.seconds + _GRACE_SECONDS:.0f} s"}
        if done.returncode != 0 or not out.exists():
            return {"problem": f"failed: {last_line(done.stderr) or f'exit status {done.returncode}'}"}
        result: Result = json.loads(out.read_text())
        return result


def _told(run: Mapping[str, Any]) -> str:
    if "problem" in run:
        return str(run["problem"])
    scores, spent = run["figures"], run["cost"]
    score = f"{scores['accuracy']:.4f} right" if "accuracy" in scores else f"MAE {scores['mae']:.4f}"
    return f"{score}, {spent['events_per_second']:,.0f} events/s, {spent['seconds']:,.0f} s"


def _machine() -> str:
    return f"{platform.machine()}, Python {platform.python_version()}, {time.strftime('%Y-%m-%d', time.gmtime())}"


def _write(report: Result, entries: Mapping[str, Entry], options: argparse.Namespace) -> None:
    if options.json:
        options.json.write_text(json.dumps(report, indent=2))
    if options.markdown:
        options.markdown.write_text(markdown(report, entries))


if __name__ == "__main__":
    sys.exit(main())
