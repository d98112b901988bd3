"""Labelled streams as decisions: what streammeta, Vowpal Wabbit and coba earn on the same rows.

    python -m benchmarks.decisions [--files elec2,…] [--learners NAME …] [--rows 4000] [--delays 0,100] [--seed 0]
                                   [--shuffled] [--timeout 300] [--jobs 1] [--setup] [--json OUT] [--resume]

A class is an action, and the reward is 1 where it was the right one; a target becomes four levels. Each learner runs in
a process of its own: it chooses, and learns the reward of what it chose, at once or so many rows later. Vowpal Wabbit
and coba have an environment of their own, which --setup makes. Both get features by running means and spreads, cut at
5; Vowpal Wabbit the tasks, too, crossed with features and actions. Classes are numbered as the file numbers them, and a
learner that prefers the first action while it knows nothing is lucky where that is the commonest: with --shuffled the
order is drawn by the seed.
"""

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.peers.bandit_loop import Bandit
from benchmarks.peers.environments import absence, python_of, set_up
from benchmarks.peers.files import GROUPS, data_folder, described
from benchmarks.peers.process import Result, answer

__all__ = ["main"]

_OURS = ("streammeta", "streammeta greedy")
_PEERS = ("vw squarecb", "vw regcb", "vw cover", "vw first", "vw epsilon", "coba LinUCB", "coba LinTS")
_GRACE_SECONDS = 600  # for reading, writing, and waiting for the processor, beyond the learner's own limit


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; exit status 1 where a learner failed or was absent."""
    options = _options(arguments)
    if options.setup:
        set_up("bandits")
    missing = absence("bandits")
    learners = [one for one in options.learners if one in _OURS or missing is None]
    found: dict[str, Any] = {}
    if options.resume and options.json is not None and options.json.exists():
        found = json.loads(options.json.read_text())
    jobs = [
        (f, d, one) for f in options.files for d in options.delays for one in learners if _key(f, d, one) not in found
    ]
    with ThreadPoolExecutor(options.jobs) as pool:
        for job, result in zip(jobs, pool.map(lambda job: _run(*job, options), jobs), strict=True):
            found[_key(*job)] = result
            print(f"{job[0]}, {job[1]} late, {job[2]}: {_shown(result)}", flush=True)
            if options.json is not None:
                options.json.write_text(json.dumps(found, indent=1))
    for delay in options.delays:
        print("\n".join(_table(options.files, delay, learners, found)))
    if missing is not None:
        print(f"{', '.join(_PEERS)}: absent ({missing})")
    return int(missing is not None or any("problem" in one for one in found.values()))


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)

    def names(text: str) -> list[str]:
        return [part.strip() for part in text.split(",") if part.strip()]

    parser.add_argument("--files", type=names, default=list(GROUPS["recorded"]), help="names of recorded files")
    parser.add_argument("--learners", type=names, default=[*_OURS, *_PEERS])
    parser.add_argument("--rows", type=int, default=4_000, help="the first so many of a file")
    parser.add_argument("--delays", type=lambda text: [int(part) for part in names(text)], default=[0, 100])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shuffled", action="store_true", help="number the actions in an order drawn by the seed")
    parser.add_argument("--timeout", type=float, default=300, help="seconds of the processor that a learner may take")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    parser.add_argument("--setup", action="store_true", help="make the peers' environment")
    parser.add_argument("--json", type=Path, help="write the results there")
    parser.add_argument("--resume", action="store_true", help="keep what that file has already")
    return parser.parse_args(arguments)


def _key(file: str, delay: int, learner: str) -> str:
    return f"{file}/{delay}/{learner}"


def _run(file: str, delay: int, learner: str, options: argparse.Namespace) -> Result:
    """What a learner earned, or the problem it had."""
    path, kind = data_folder() / f"{file}.csv.gz", described(file).kind
    limits = options.seed, kind, options.timeout, options.shuffled
    job = Bandit(str(path), learner, options.rows, delay, *limits)
    own = learner in _OURS
    module = "benchmarks.peers.decider_runner" if own else "benchmarks.peers.bandits_runner"
    python = python_of("streammeta" if own else "bandits")
    return answer([str(python), "-m", module, "--job", json.dumps(asdict(job))], options.timeout + _GRACE_SECONDS)


def _shown(result: dict[str, Any]) -> str:
    if "problem" in result:
        return str(result["problem"])
    return f"{100 * result['reward']:.1f} %, {1e6 * result['seconds'] / result['rows']:,.0f} µs a decision"


def _table(files: Sequence[str], delay: int, learners: Sequence[str], found: dict[str, Any]) -> list[str]:
    """Mean rewards as Markdown, the best of each stream in bold."""
    lines = [f"\nmean reward in %, rewards {delay} rows late\n", "| stream | " + " | ".join(learners) + " |"]
    lines.append("|---" * (len(learners) + 1) + "|")
    for file in files:
        results = [found.get(_key(file, delay, one), {"problem": "not run"}) for one in learners]
        best = max((one["reward"] for one in results if "reward" in one), default=0.0)
        cells = [_cell(one, best) for one in results]
        lines.append(f"| {file} | " + " | ".join(cells) + " |")
    return lines


def _cell(result: dict[str, Any], best: float) -> str:
    if "reward" not in result:
        return "–"
    shown = f"{100 * result['reward']:.1f}"
    return f"**{shown}**" if result["reward"] == best else shown


if __name__ == "__main__":
    raise SystemExit(main())
