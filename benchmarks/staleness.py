"""What an old θ costs: accuracy against how many versions a server is later than its trainer.

    python -m benchmarks.staleness [--quick] [--events 40000] [--tasks 300] [--seeds 0,1] [--json OUT]

One engine trains on the stream; servers see the same events, train nothing, and adopt its θ so many versions late. A
version is one meta-update, which comes every 16 to 64 events. Raw events, scale and heads are a server's own, so that
only θ is old. ``never`` keeps θ as it began.
"""

import argparse
import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from streammeta.engine import Engine, EngineSettings
from streammeta.engine.weights import Weights
from streammeta.event import Event, Origin
from streammeta.simulators import simulate

__all__ = ["main"]

LAGS: tuple[int | None, ...] = (0, 1, 10, 100, 1000, None)
_BATCH = 16


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line a lag: error in per cent, of all events and of the last half."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2,000 events of 20 tasks, one seed")
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    events, tasks, seeds = options.events, options.tasks, [int(one) for one in options.seeds.split(",")]
    if options.quick:
        events, tasks, seeds = 2_000, 20, [0]
    found = [curve(events, tasks, seed) for seed in seeds]
    for lag in found[0]:
        whole, late = (np.mean([100 * one[lag][part] for one in found]) for part in (0, 1))
        print(f"lag {lag}: error {whole:.2f} %, last half {late:.2f} %", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"events": events, "tasks": tasks, "curves": found}) + "\n")
    return 0


def curve(events: int, tasks: int, seed: int) -> dict[str, tuple[float, float]]:
    """The error of all events and of the last half, by lag."""
    samples = simulate("shared-representation", events=events, seed=seed, tasks=tasks, concept_events=100)
    stream = [Event(s.x, s.task, Origin("stream", 0, i), y=s.y, ts=s.ts, id=s.id) for i, s in enumerate(samples)]
    versions = trained(stream, seed)
    return {"never" if lag is None else str(lag): served(stream, versions, lag, seed) for lag in LAGS}


def trained(stream: Sequence[Event], seed: int) -> list[Weights]:
    """θ after each batch of the stream, by an engine that trains on it."""
    engine, found = Engine(EngineSettings(seed=seed)), []
    for batch in _batches(stream):
        engine.step(batch)
        found.append(engine.candidate().weights)
    engine.close()
    return found


def served(stream: Sequence[Event], versions: Sequence[Weights], lag: int | None, seed: int) -> tuple[float, float]:
    """The error of a server that adopts θ so many versions late."""
    engine, errors, adopted = Engine(EngineSettings(seed=seed)), [], 0
    engine.adopt(None, train=False)
    for number, batch in enumerate(_batches(stream)):
        errors += [outcome.error or 0.0 for outcome in engine.step(batch)]
        if lag is None:
            continue
        newest = versions[number].version - lag
        there = [one for one in versions[max(adopted, 0) : number + 1] if one.version <= newest]
        if there:
            adopted += len(there)
            engine.adopt(there[-1], train=False, is_trusted=True)
    engine.close()
    return float(np.mean(errors)), float(np.mean(errors[len(errors) // 2 :]))


def _batches(stream: Sequence[Event]) -> list[list[Event]]:
    left = iter(stream)
    return list(iter(lambda: list(islice(left, _BATCH)), []))


if __name__ == "__main__":
    raise SystemExit(main())
