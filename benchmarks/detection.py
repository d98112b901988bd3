"""Which drift detector? Each of them in the engine with its defaults, on streams whose drifts are known.

    python -m benchmarks.detection [NAME …] [--detectors NAME …] [--json OUT] [--quick]

Streams are those of ``benchmarks.peers.files``. A drift is found by the first signal of its task in time: within 60 of
its events where tasks switch (``switch``), before the next drift elsewhere. Every other signal is false. Runs that OUT
already holds are not repeated.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any, get_args

import torch

from benchmarks.peers.files import FILES
from simulators import Alarm, Drift, Sample, detection, simulate
from streammeta.engine import Engine, EngineSettings, Outcome, Signal
from streammeta.engine.drift import DetectorName
from streammeta.event import Event, Origin

_STREAMS = ("switch", "sea", "stagger", "rbf")
_WITHIN = {"switch": 60}  # of a task's events; elsewhere until its next drift
_QUICK_EVENTS, _STEP = 6_000, 1_000
_RECOVERING = range(10, 20)  # a task's 11th to 20th event after a switch


def outcomes(samples: Sequence[Sample], detector: str) -> list[Outcome]:
    """What the engine says of these events, with its defaults but for the detector."""
    events = [Event(s.x, s.task, Origin("benchmark", 0, i), y=s.y) for i, s in enumerate(samples)]
    with closing(Engine(EngineSettings.model_validate({"drift": {"detector": detector}}))) as engine:
        return [one for at in range(0, len(events), _STEP) for one in engine.step(events[at : at + _STEP])]


def scored(samples: Sequence[Sample], found: Sequence[Outcome], within: int | None) -> dict[str, Any]:
    """Accuracy, all over and soon after a switch, and how the signals fit the drifts."""
    tasks = [sample.task for sample in samples]
    drifts = [Drift(i, s.task, s.concept) for i, s in enumerate(samples) if s.drifted]
    alarms = [Alarm(i, tasks[i]) for i, one in enumerate(found) if one.signal is Signal.DRIFT]
    told = detection(drifts, alarms, tasks, within=within)
    since: dict[str, int] = {}
    right, soon = [], []
    for sample, one in zip(samples, found, strict=True):
        right.append(1.0 - (one.error or 0.0))
        if sample.drifted:
            since[sample.task] = 0
        if sample.task in since:
            if since[sample.task] in _RECOVERING:
                soon.append(right[-1])
            since[sample.task] += 1
    return {
        "events": len(samples),
        "accuracy": sum(right) / len(right),
        "accuracy_soon": sum(soon) / len(soon) if soon else None,
        "found": told.found,
        "missed": told.missed,
        "median_delay": median(told.delays) if told.delays else None,
        "false_in_1000": 1000 * told.false_alarms / len(samples),
    }


def line(stream: str, detector: str, row: dict[str, Any]) -> str:
    """One row of the table."""
    soon, delay = row["accuracy_soon"], row["median_delay"]
    return (
        f"{stream:8s} {detector:13s} {row['found']:4d}/{row['found'] + row['missed']:<4d}"
        f" {'-' if delay is None else f'{delay:.0f}':>5s} {row['false_in_1000']:6.2f}"
        f" {100 * row['accuracy']:7.2f} {'-' if soon is None else f'{100 * soon:.1f}':>6s}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for, print the table, write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detection", description=__doc__.splitlines()[0])
    names = get_args(DetectorName)
    parser.add_argument("streams", nargs="*", metavar="NAME", help=f"of {', '.join(_STREAMS)}; all without one")
    parser.add_argument("--detectors", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--json", type=Path, metavar="OUT", help="where the figures go; what it holds is not run again")
    parser.add_argument(
        "--quick", action="store_true", help=f"{_QUICK_EVENTS} events of each stream, to see that it runs"
    )
    asked = parser.parse_args(arguments)
    if unknown := set(asked.streams) - set(_STREAMS):
        parser.error(f"no known drifts for {', '.join(sorted(unknown))}; wanted any of {', '.join(_STREAMS)}")
    torch.set_num_threads(1)
    rows: dict[str, Any] = json.loads(asked.json.read_text()) if asked.json and asked.json.exists() else {}
    print("stream   detector      found/all delay  false     acc  11-20")
    for stream in asked.streams or _STREAMS:
        file = FILES[stream]
        events = _QUICK_EVENTS if asked.quick else file.rows
        samples = list(simulate(str(file.scenario), events=events, seed=0, **file.settings))
        for detector in asked.detectors:
            key = f"{stream} {detector} {events}"
            if key not in rows:
                rows[key] = scored(samples, outcomes(samples, detector), _WITHIN.get(stream))
                if asked.json:
                    asked.json.write_text(json.dumps(rows, indent=1) + "\n")
            print(line(stream, detector, rows[key]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
