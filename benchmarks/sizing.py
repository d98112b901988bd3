"""What a task costs: memory, spill, state topic, and time on its way back. One process, no Kafka, default settings.

    python -m benchmarks.sizing [--json OUT] [--quick]

For tasks of 10 and 50 numbers as features and with 4, 40 and 300 labels each: bytes of a task in memory, in the spill
and in the state topic (what compaction leaves), events predicted and learned and tasks restored a second of the
process's own CPU time (others may be using the machine). `docs/sizing.md` says what follows from it.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from streammeta.engine import Engine, EngineSettings
from streammeta.event import Event, Origin

_STEP = 256
_SIZES = ((4, 2_000), (40, 1_000), (300, 300))  # labels a task, tasks


class Cost(NamedTuple):
    """Of one task, and of its events."""

    features: int
    labels: int
    memory: float  # bytes
    spill: float  # bytes
    topic: float  # bytes
    events_per_cpu_second: float
    restored_per_cpu_second: float  # tasks


def stream(features: int, labels: int, tasks: int) -> Iterator[list[Event]]:
    """Steps of events; each task has another concept and as many labels."""
    random = np.random.default_rng(0)
    names = [f"f{i}" for i in range(features)]
    of = np.concatenate([random.permutation(tasks) for _ in range(labels)])
    for begin in range(0, len(of), _STEP):
        xs = random.normal(size=(_STEP, features))
        yield [
            Event(
                dict(zip(names, x.tolist(), strict=True)),
                f"task-{task}",
                Origin("sizing", 0, begin + i),
                y=int(x[0] + x[task % features] > 0),
            )
            for i, (x, task) in enumerate(zip(xs, of[begin : begin + _STEP].tolist(), strict=False))
        ]


def settings(folder: str, in_memory: int) -> EngineSettings:
    """Defaults, but for how many tasks are in memory, and where the others go."""
    return EngineSettings.model_validate({"memory": {"max_tasks": in_memory, "spill_directory": folder}})


def cost(features: int, labels: int, tasks: int) -> Cost:
    """Let all tasks learn, write them as records, and take them in again."""
    with tempfile.TemporaryDirectory() as folder, closing(Engine(settings(folder, tasks))) as engine:
        handover, seconds, topic = engine.handover(), list[float](), dict[bytes, bytes]()
        for step in stream(features, labels, tasks):
            begun = time.process_time()
            engine.step(step)
            seconds.append((time.process_time() - begun) / len(step))
        for change in handover.changes():
            if change.value is not None:
                topic[change.key] = change.value
        memory = sum(column.nbytes / len(column) for column in engine.memory.tasks.columns.values())
        shared = engine.shared_weights()
    later = seconds[len(seconds) // 2 :]
    with tempfile.TemporaryDirectory() as folder, closing(Engine(settings(folder, tasks))) as engine:
        engine.adopt(shared, train=True)
        begun = time.process_time()
        (*_, restored) = engine.handover().take(0, topic, "state/0")
        taken = time.process_time() - begun
    bytes_in_topic = sum(len(key) + len(value) for key, value in topic.items())
    return Cost(
        features,
        labels,
        memory,
        spilled(features, labels, tasks),
        bytes_in_topic / tasks,
        len(later) / sum(later),
        restored / taken,
    )


def spilled(features: int, labels: int, tasks: int) -> float:
    """Bytes on disk of a task, where a tenth of them fits in memory."""
    with tempfile.TemporaryDirectory() as folder, closing(Engine(settings(folder, tasks // 10))) as engine:
        for step in stream(features, labels, tasks):
            engine.step(step)
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        return size / (tasks - tasks // 10)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="ten features and four labels only")
    options = parser.parse_args(arguments)
    print("features  labels   memory    spill    topic   events/s   restored/s")
    found = []
    for features in (10,) if options.quick else (10, 50):
        for labels, tasks in _SIZES[:1] if options.quick else _SIZES:
            one = cost(features, labels, tasks)
            found.append(one._asdict())
            print(
                f"{one.features:>8} {one.labels:>7} {one.memory / 1e3:>7.1f}k {one.spill / 1e3:>7.1f}k "
                f"{one.topic / 1e3:>7.1f}k {one.events_per_cpu_second:>10,.0f} {one.restored_per_cpu_second:>12,.0f}",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
