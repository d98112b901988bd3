"""Every learner on many kinds of streams, from one command that can be stopped and taken up again.

    python -m benchmarks.suite [--quick] [--only NAME …] [--learners NAME …] [--seeds 0,1,2] [--out FILE.jsonl]
                               [--page FILE.md] [--picture FILE.png] [--timeout 300] [--setup] [--report]

Each (stream, learner, wiring, seed) is a line of --out, written when it is done; what is there is not run again.
--only takes streams, families and halves (tune, judge). Settings are tuned on the half "tune" and nowhere else:
catalogue.py says which stream is in which. --report runs nothing, and makes page and picture of what there is.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.peers.catalogue import CATALOGUE, Entry
from benchmarks.peers.environments import absence
from benchmarks.peers.prequential import Job, read_rows
from benchmarks.suite.catalogue import Stream, chosen
from benchmarks.suite.page import draw, page, rankings
from benchmarks.suite.results import Line, read, scores
from benchmarks.suite.table import write
from benchmarks.suite.workers import Worker, last_core

__all__ = ["main"]

_QUICK_EVENTS = 2_000
QUICK = (
    "streammeta",
    "last label",
    "River logistic regression",
    "River HAT",
    "River linear, Adam",
    "River HAT regressor",
    "CapyMOA ARF-30",
    "CapyMOA SAM-kNN",
    "CapyMOA SOKNL",
    "LightGBM",
    "Vowpal Wabbit",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is not there yet; exit status 1 when a learner failed or was absent."""
    options = _options(arguments)
    entries = _entries(options)
    failed = False
    if not options.report:
        reasons = {name: absence(name, make=options.setup) for name in {e.environment for e in entries.values()}}
        for name, entry in entries.items():
            if reasons[entry.environment] is not None:
                print(f"{name}: absent ({reasons[entry.environment]})", flush=True)
                failed = True
        here = {name: entry for name, entry in entries.items() if reasons[entry.environment] is None}
        failed |= _run(options, here)
    lines = [line for line in read(options.out) if line.learner in entries or not options.learners]
    kept = {stream.name for stream in options.streams}
    lines = [line for line in lines if line.stream in kept]
    shown = "python -m benchmarks.suite " + " ".join(arguments if arguments is not None else sys.argv[1:])
    if options.page:
        options.page.write_text(page(lines, shown))
    found = rankings(lines, ("tune", "judge"))
    for kind, ranked in found.items():
        for learner in ranked.learners:
            worst = max(ranked.regrets[learner].items(), key=lambda pair: pair[1])
            print(
                f"{kind}: {learner}: mean rank {ranked.mean_ranks[learner]:.2f}, {ranked.wins[learner]} wins of "
                f"{len(ranked.streams)}, worst regret {worst[1]:.1f} on {worst[0]}"
            )
    if options.picture and "classification" in found:
        draw(found["classification"], options.picture)
    return int(failed)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"few learners, {_QUICK_EVENTS:,} events a stream")
    parser.add_argument("--only", action="append", default=[], help="streams, families or halves; may be repeated")
    parser.add_argument("--learners", action="append", default=[], help="a learner, or how its name begins")
    parser.add_argument("--variant", action="append", default=[], help='more of streammeta: NAME={"learner": {…}}')
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0])
    parser.add_argument("--out", type=Path, default=Path("out/suite.jsonl"))
    parser.add_argument("--page", type=Path, help="the table, as Markdown")
    parser.add_argument("--picture", type=Path, help="mean ranks, as PNG")
    parser.add_argument("--timeout", type=float, default=300, help="seconds a learner may take for a stream")
    parser.add_argument("--setup", action="store_true", help="make the peers' environments first")
    parser.add_argument("--report", action="store_true", help="run nothing")
    options = parser.parse_args(arguments)
    options.streams = chosen(options.only or ["all"])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    return options


def _entries(options: argparse.Namespace) -> Mapping[str, Entry]:
    known = dict(CATALOGUE)
    for text in options.variant:
        name, _, overrides = text.partition("=")
        try:
            changed = json.loads(overrides)
        except ValueError as err:
            raise SystemExit(f'--variant {text}: {err}; wanted NAME={{"learner": {{"hidden": 96}}}}') from err
        known[name] = replace(known["streammeta"], settings=f"defaults and {overrides}", overrides=changed)
    variants = [text.partition("=")[0] for text in options.variant]
    found: dict[str, Entry] = {}
    for text in [*(options.learners or (QUICK if options.quick else known)), *variants]:
        alike = [text] if text in known else [name for name in known if name.lower().startswith(text.lower())]
        if not alike:
            raise SystemExit(f"--learners: no learner called {text!r}; known are {', '.join(known)}")
        found |= {name: known[name] for name in alike}
    return found


def _run(options: argparse.Namespace, entries: Mapping[str, Entry]) -> bool:
    """Whether anything failed."""
    done = {line.key for line in read(options.out) if not line.problem}
    streams = [stream for stream in options.streams if stream.is_here]
    for stream in options.streams:
        if not stream.is_here:
            print(f"{stream.name}: left out, its file is not in the folder of recorded streams", flush=True)
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for name, entry in entries.items():
            with Worker(entry, last_core()) as worker:
                for seed in options.seeds:
                    for place, stream in enumerate(streams):
                        for line in _lines(options, worker, name, entry, stream, seed, Path(folder), done):
                            line.append(options.out)
                            failed |= bool(line.problem)
                            said = line.problem or f"error {line.error:.3f}, {line.seconds:.1f} s"
                            at = f"{name} [{place + 1}/{len(streams)}]"
                            print(f"{time.strftime('%H:%M:%S')} {at} {stream.name}, {line.wiring}: {said}", flush=True)
    return failed


def _lines(
    options: argparse.Namespace,
    worker: Worker,
    name: str,
    entry: Entry,
    stream: Stream,
    seed: int,
    folder: Path,
    done: set[tuple[str, str, str, int, int]],
) -> Iterator[Line]:
    """The runs of one learner on one stream that are not there yet."""
    if stream.kind not in entry.kinds:
        return
    wanted = min(_QUICK_EVENTS, stream.events) if options.quick else stream.events
    path = folder / f"{stream.name}-{seed}.csv"
    if not path.exists():
        write(stream.make(wanted, seed), path)
    rows = read_rows(path)
    if len(rows.names) > entry.most_features:
        return
    for wiring in _wirings(entry, tasks=len(set(rows.tasks)), quick=options.quick):
        line = Line(stream.name, name, wiring, seed, len(rows))
        if line.key in done:
            continue
        job = Job(
            str(path), name, wiring, stream.kind, None, stream.delay, seed, options.timeout, dict(entry.overrides)
        )
        result = worker.run(job)
        if "problem" in result:
            yield replace(line, problem=result["problem"])
            continue
        found = scores(stream.kind, rows.ys, result["predictions"], result["sureness"])
        yield replace(line, scores=found, seconds=result["marks"][-1][1])


def _wirings(entry: Entry, *, tasks: int, quick: bool) -> Sequence[str]:
    if entry.wirings == ("native",):
        return entry.wirings
    if tasks == 1:
        return ["global"]
    return entry.wirings[-1:] if quick else entry.wirings


if __name__ == "__main__":
    sys.exit(main())
