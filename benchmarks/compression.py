"""Smaller state: how right, how fast and how large tasks are with shorter windows, fewer encoders, smaller heads.

    python -m benchmarks.compression [--only tune] [--events 4000] [--variants half,quarter] [--seeds 0] [--json OUT]

The streams of benchmarks/suite, each event alone, one core; variants take turns on each stream. Right: per cent of
classes, over the second half too; of values the mean absolute error as a share of full's. Bytes: of a task in the
state topic at the end of the stream, and in memory; microseconds: of the processor's time, the whole engine with its
meta-updates and experts.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import numpy as np

from benchmarks.suite.catalogue import Stream, chosen
from streammeta.engine import Engine, EngineSettings
from streammeta.event import Event, Label, Origin

_TREE = Mapping[str, Mapping[str, Any]]
VARIANTS: Mapping[str, _TREE] = {
    "full": {},
    "window": {"memory": {"window": 96}},
    "half": {"learner": {"members": 2, "encoded": 12}, "memory": {"window": 96}},
    "third": {"learner": {"members": 3, "encoded": 8}, "memory": {"window": 96}},
    "quarter": {"learner": {"members": 2, "encoded": 6}, "memory": {"window": 64}},
}
_STEP = 256


class Found(NamedTuple):
    """Of one variant on one stream."""

    error: float  # mean: of classes 0 or 1
    later_error: float  # over the second half
    microseconds: float  # an event
    topic: float  # bytes of a task
    memory: float  # bytes of a task


def events(stream: Stream, count: int, seed: int) -> Iterator[Event | Label]:
    """A stream's events, with labels at once or so many events later."""
    table, late = stream.make(min(count, stream.events), seed), list[Label]()
    for i, (x, y) in enumerate(zip(table.xs, table.ys, strict=True)):
        task, label = table.tasks[i] if table.tasks else "", int(y) if stream.kind == "classification" else float(y)
        named = zip(table.columns, x.tolist(), strict=True)
        features = {name: value for name, value in named if value == value}  # noqa: PLR0124 NaN is missing
        at = Origin(stream.name, 0, i)
        if not stream.delay:
            yield Event(features, task, at, y=label)
            continue
        yield Event(features, task, at, id=str(i))
        late.append(Label(str(i), label, task, at))
        if len(late) > stream.delay:
            yield late.pop(0)
    yield from late


def run(stream: Stream, given: Sequence[Event | Label], tree: _TREE, seed: int) -> Found:
    """Take a stream through an engine of these settings."""
    settings = EngineSettings.model_validate({"kind": stream.kind, "seed": seed, **tree})
    with closing(Engine(settings)) as engine:
        errors, begun = list[float](), time.process_time()
        for begin in range(0, len(given), _STEP):
            outcomes = engine.step(given[begin : begin + _STEP])
            errors += [one.error for one in outcomes if one.error is not None]
        took, tasks = time.process_time() - begun, engine.stats().tasks
        written = {c.key: c.value for c in engine.handover().changes() if c.value and c.key[:5] in (b"task:", b"page:")}
        topic = sum(len(key) + len(value) for key, value in written.items())
        memory = sum(column.nbytes / len(column) for column in engine.memory.tasks.columns.values())
    count = sum(isinstance(one, Event) for one in given)
    later = errors[len(errors) // 2 :]
    return Found(mean(errors), mean(later), 1e6 * took / count, topic / tasks, memory)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each stream and variant, and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], help="streams, families or halves; may be repeated")
    parser.add_argument("--events", type=int, default=4_000)
    parser.add_argument("--variants", type=lambda text: text.split(","), default=list(VARIANTS))
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    names = list(dict.fromkeys(["full", *options.variants]))
    found: dict[str, dict[str, Found]] = {}
    for stream in chosen(options.only or ["all"]):
        if not stream.is_here:
            continue
        each = dict[str, list[Found]]()
        for seed in options.seeds:
            given = list(events(stream, options.events, seed))
            for name in names:
                each.setdefault(name, []).append(run(stream, given, VARIANTS[name], seed))
        found[stream.name] = {name: Found(*np.mean(ones, axis=0).tolist()) for name, ones in each.items()}
        shown = ", ".join(f"{name} {one.error:.4f}" for name, one in found[stream.name].items())
        print(f"{stream.name} ({stream.half}, {stream.kind}): error {shown}", flush=True)
    kinds = {stream.name: stream.kind for stream in chosen(["all"])}
    for name in names:
        print(_summary(name, found, kinds))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


def _summary(name: str, found: Mapping[str, Mapping[str, Found]], kinds: Mapping[str, str]) -> str:
    """A variant against full: points of classes, shares of values' errors, of time and of bytes."""
    pairs = [(kinds[stream], ones[name], ones["full"]) for stream, ones in found.items()]
    classes = [(one, full) for kind, one, full in pairs if kind == "classification"]
    values = [(one, full) for kind, one, full in pairs if kind != "classification"]
    parts = [name]
    if classes:
        points = [100 * (full.error - one.error) for one, full in classes]
        later = mean(100 * (full.later_error - one.later_error) for one, full in classes)
        parts.append(f"{mean(points):+.2f} points ({later:+.2f} in the second half; worst {min(points):+.2f})")
    if values:
        parts.append(f"error of values × {mean(one.error / full.error for one, full in values):.3f}")
    for what, share in (("time", "microseconds"), ("topic", "topic"), ("memory", "memory")):
        ratio = mean(getattr(one, share) / getattr(full, share) for _, one, full in pairs)
        parts.append(f"{what} × {ratio:.2f}")
    return ", ".join(parts)


if __name__ == "__main__":
    sys.exit(main())
