"""Which drift detector? Each of them in the engine with its defaults, on streams whose drifts are known.

    python -m benchmarks.detection [NAME …] [--detectors NAME …] [--seeds 0 1 2] [--events N] [--set NAME=VALUE …]
                                   [--response mix|reset] [--json OUT] [--markdown OUT] [--quick]

A stream is a simulated one of ``benchmarks.peers.files``, or else a scenario by its name. A drift is found by the
first signal of its task in time: within 60 of its events where tasks switch (``switch``), within 100 elsewhere. Every
other signal is false. Found, missed and delays are over all seeds, the rest are means. Runs that OUT already holds are
not repeated.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from statistics import mean, median
from typing import Any, get_args

import torch

from benchmarks.peers.files import FILES
from streammeta.engine import Engine, EngineSettings, Outcome, Signal
from streammeta.engine.drift import DetectorName, DriftResponseName
from streammeta.event import Event, Origin
from streammeta.simulators import SCENARIOS, Alarm, Drift, Sample, detection, simulate

__all__ = ["main", "scored", "table"]

_FILES = {name: file for name, file in FILES.items() if file.scenario}
_STREAMS = ("switch", "sea_recurring", "stagger_recurring", "rbf_recurring")
_WITHIN = {"switch": 60}  # of a task's events
_WITHIN_ELSEWHERE = 100
_EVENTS, _QUICK_EVENTS, _STEP = 20_000, 6_000, 1_000
_RECOVERING = range(10, 20)  # a task's 11th to 20th event after a switch
_HEAD = ("detector", "found", "missed", "median delay", "false in 1,000", "right", "11 to 20 after")


def outcomes(samples: Sequence[Sample], drift: dict[str, str]) -> list[Outcome]:
    """What the engine says of these events, with its defaults but for the detector and what follows a signal."""
    events = [Event(s.x, s.task, Origin("benchmark", 0, i), y=s.y) for i, s in enumerate(samples)]
    with closing(Engine(EngineSettings.model_validate({"drift": drift}))) as engine:
        return [one for at in range(0, len(events), _STEP) for one in engine.step(events[at : at + _STEP])]


def scored(samples: Sequence[Sample], found: Sequence[Outcome], within: int | None) -> dict[str, Any]:
    """Accuracy, all over and soon after a switch, and how the signals fit the drifts."""
    tasks = [sample.task for sample in samples]
    drifts = [Drift(i, s.task, s.concept) for i, s in enumerate(samples) if s.drifted]
    alarms = [Alarm(i, tasks[i]) for i, one in enumerate(found) if one.signal is Signal.DRIFT]
    signalled = detection(drifts, alarms, tasks, within=within)
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
        "found": signalled.found,
        "missed": signalled.missed,
        "delays": list(signalled.delays),
        "false_in_1000": 1000 * signalled.false_alarms / len(samples),
    }


def table(rows: dict[str, Sequence[dict[str, Any]]]) -> Iterator[str]:
    """Markdown: a line a detector, over its runs with several seeds."""
    yield f"| {' | '.join(_HEAD)} |"
    yield f"|---|{'---:|' * (len(_HEAD) - 1)}"
    for detector, runs in rows.items():
        delays = [delay for one in runs for delay in one["delays"]]
        soon = [one["accuracy_soon"] for one in runs if one["accuracy_soon"] is not None]
        cells = (
            detector,
            str(sum(one["found"] for one in runs)),
            str(sum(one["missed"] for one in runs)),
            f"{median(delays):.0f}" if delays else "-",
            f"{mean(one['false_in_1000'] for one in runs):.2f}",
            f"{mean(one['accuracy'] for one in runs):.2%}",
            f"{mean(soon):.1%}" if soon else "-",
        )
        yield f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for, print the tables, write the figures."""
    asked = _options(arguments)
    torch.set_num_threads(1)
    known: dict[str, Any] = json.loads(asked.json.read_text()) if asked.json and asked.json.exists() else {}
    pages = []
    for stream in asked.streams or _STREAMS:
        rows: dict[str, list[dict[str, Any]]] = {detector: [] for detector in asked.detectors}
        for seed in asked.seeds:
            samples: list[Sample] = []
            for detector, runs in rows.items():
                key = " ".join([stream, detector, *_whatever(stream, asked), f"seed={seed}"])
                if key not in known:
                    samples = samples or _samples(stream, asked, seed)
                    found = outcomes(samples, {"detector": detector, "response": asked.response})
                    known[key] = scored(samples, found, _WITHIN.get(stream, _WITHIN_ELSEWHERE))
                    if asked.json:
                        asked.json.write_text(json.dumps(known, indent=1) + "\n")
                runs.append(known[key])
                print(f"{stream}, {detector}, seed {seed}: {known[key]['accuracy']:.2%} right", file=sys.stderr)
        title = f"{stream}: {_events(stream, asked):,} events, seeds {', '.join(map(str, asked.seeds))}"
        pages.append("\n".join([title, "", *table(rows)]))
        print(pages[-1], end="\n\n", flush=True)
    if asked.markdown:
        asked.markdown.write_text("\n\n".join(pages) + "\n", "utf-8")
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.detection",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = get_args(DetectorName)
    parser.add_argument("streams", nargs="*", metavar="NAME", help=f"without one: {', '.join(_STREAMS)}")
    parser.add_argument("--detectors", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED")
    parser.add_argument("--events", type=int, metavar="N", help="of each stream")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the streams")
    parser.add_argument("--response", choices=get_args(DriftResponseName), default="mix", help="what follows a signal")
    parser.add_argument("--json", type=Path, metavar="OUT", help="where the figures go; what it holds is not run again")
    parser.add_argument("--markdown", type=Path, metavar="OUT", help="where the tables go")
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK_EVENTS} events a stream, to see that it runs")
    asked = parser.parse_args(arguments)
    if unknown := set(asked.streams) - set(_FILES) - set(SCENARIOS):
        wanted = ", ".join(sorted({*_FILES, *SCENARIOS}))
        parser.error(f"no known drifts for {', '.join(sorted(unknown))}; wanted any of {wanted}")
    return asked


def _events(stream: str, asked: argparse.Namespace) -> int:
    if asked.quick or asked.events:
        return asked.events or _QUICK_EVENTS
    return (_FILES[stream].rows if stream in _FILES else None) or _EVENTS


def _whatever(stream: str, asked: argparse.Namespace) -> list[str]:
    """What else a run depends on."""
    return [*asked.set, asked.response, str(_events(stream, asked))]


def _samples(stream: str, asked: argparse.Namespace, seed: int) -> list[Sample]:
    chosen: dict[str, Any] = dict(pair.split("=", 1) for pair in asked.set)
    file = _FILES.get(stream)
    scenario, settings = (str(file.scenario), file.settings) if file else (stream, {})
    return list(simulate(scenario, events=_events(stream, asked), seed=seed, **{**settings, **chosen}))


if __name__ == "__main__":
    sys.exit(main())
