"""How fast a trainer of one rank, two, ... learns: segments, events and meta-updates a second, each rank its share.

    python -m benchmarks.ranks [--ranks 1 2] [--segments 2 128] [--events 8000] [--device cpu] [--json OUT]

Episodes of 64 tasks with a concept each, 16 features, in 16 partitions, are in memory of each process, so that no
broker is measured; all else is as in `streammeta train`: decoding, learning, windows, meta-updates by gloo, candidates,
which are judged and published into memory. ``--segments`` are those of a meta-update for each member of the ensemble
([meta] tasks); one is made every 16 events. Turn about, one thread a rank, medians: on the wall, and a second of rank
0's processor, which others on the machine disturb less. The clock begins with the first segment learned.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from prometheus_client import CollectorRegistry

from streammeta.engine import Engine, EngineSettings
from streammeta.engine.episodes import SEGMENT, Circumstance, encode_segment, segment_key
from streammeta.event import Event, Origin
from streammeta.service.http import Health
from streammeta.service.metrics import Metrics
from streammeta.service.published import SUMS
from streammeta.service.result import EPISODES, WEIGHTS
from streammeta.service.rounds import Follower, Leader
from streammeta.service.trainer import TRAINER, Trainer, TrainerOptions
from streammeta.transport.base import Message
from streammeta.transport.memory_log import MemoryChangelogReader, MemoryLog, MemoryTransactionalSink

if TYPE_CHECKING:
    from streammeta.meta.ranks import Ranks

_PARTITIONS, _FEATURES = 16, 16


def episodes(tasks: int, events: int) -> MemoryLog:
    """A log whose episodes are of this many tasks, each with a concept of its own; the same in every process."""
    random, log = np.random.default_rng(0), MemoryLog("in", _PARTITIONS)
    names = [(f"x{i}", None) for i in range(_FEATURES)]
    concepts = random.normal(size=(tasks, _FEATURES))
    known = [Circumstance(float("nan"), -1, -1, float("nan"), drifted=False)] * SEGMENT
    for number in range(events // SEGMENT):
        task, begin = number % tasks, number // tasks * SEGMENT
        x = random.normal(size=(SEGMENT, _FEATURES))
        y = (x @ concepts[task] > 0).astype(int).tolist()
        value = encode_segment("classification", begin, names, x, y, known)
        partition = task % _PARTITIONS
        log.write(
            EPISODES, partition, Message(EPISODES, value, segment_key(f"t{task}", begin), partition=partition), None
        )
    member = Engine(EngineSettings())  # publishes sums, from which all have the normalization
    for number in range(_PARTITIONS):
        xs = random.normal(size=(64, _FEATURES)).tolist()
        events = [{name: value for (name, _), value in zip(names, x, strict=True)} for x in xs]
        member.step([Event(x, "t", Origin("in", number, i)) for i, x in enumerate(events)])
    for number, value in member.changed_sums():
        log.write(WEIGHTS, 0, Message(WEIGHTS, value, SUMS + str(number).encode(), partition=0), None)
    return log


def learn(options: argparse.Namespace, ranks: "Ranks | None") -> dict[str, float] | None:
    """Learn all as one rank; the figures, at rank 0."""
    mode = "sync" if ranks is None else "background"
    meta = {"mode": mode, "trainer": "separate", "tasks": options.segments[0], "stretch": 1}
    settings = EngineSettings.model_validate({"meta": meta, "learner": {"device": options.device}})
    log, metrics = episodes(options.tasks, options.events), Metrics(CollectorRegistry())
    if ranks is not None and ranks.rank:
        follower = Follower(Engine(settings), ranks, lambda: MemoryChangelogReader(log), name="app", metrics=metrics)
        follower.run()
        return None
    trainer = Trainer(
        lambda: Engine(settings),
        MemoryTransactionalSink(log, TRAINER),
        MemoryChangelogReader(log),
        options=TrainerOptions("app", _PARTITIONS, 1 if ranks is None else ranks.size, poll_seconds=0.0),
        metrics=metrics,
        health=Health(time.monotonic),
    )
    if ranks is not None:
        trainer.team = Leader(trainer.engine, trainer.episodes, ranks, partitions=_PARTITIONS, metrics=metrics)
    trainer.begin()
    stop, wanted = threading.Event(), options.events // SEGMENT
    while not trainer.episodes.segments:
        trainer.turn(stop)
    begun, processor, before = time.perf_counter(), time.process_time(), trainer.episodes.segments
    while trainer.episodes.segments < wanted:
        trainer.turn(stop)
    seconds, updates = time.perf_counter() - begun, trainer.engine.stats().meta_updates
    learned, busy = trainer.episodes.segments - before, time.process_time() - processor
    figures = {"segments": learned, "events": SEGMENT * learned, "meta_updates": updates}
    return {name: count / seconds for name, count in figures.items()} | {"a_processor_second": updates / busy}


def run_in(ranks: int, segments: int, options: argparse.Namespace) -> dict[str, float]:
    """The figures of this many processes."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)] if ranks > 1 else []
    chosen = ["--segments", segments, "--tasks", options.tasks, "--events", options.events, "--device", options.device]
    command = [sys.executable, *torchrun, "-m", "benchmarks.ranks", "--here", *map(str, chosen)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(command, env=os.environ | threads, stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout.decode().splitlines()[-1])
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--segments", type=int, nargs="+", default=[2, 128])
    parser.add_argument("--tasks", type=int, default=64)
    parser.add_argument("--events", type=int, default=8_000)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--turns", type=int, default=3, help="of which the median counts")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # be one rank
    options = parser.parse_args(argv)
    if options.here:
        return _here(options)
    found: dict[str, Any] = {}
    for segments in options.segments:
        turns = [[run_in(ranks, segments, options) for ranks in options.ranks] for _ in range(options.turns)]
        for ranks, each in zip(options.ranks, zip(*turns, strict=True), strict=True):
            figures = {name: statistics.median(one[name] for one in each) for name in each[0]}
            found[f"{segments} segments, {ranks} ranks"] = figures
            print(
                f"[meta] tasks = {segments}, {ranks} rank{'s' * (ranks > 1)}: {figures['events']:,.0f} events/s, "
                f"{figures['meta_updates']:,.1f} meta-updates/s; {figures['a_processor_second']:,.1f} a second of "
                "rank 0's processor",
                flush=True,
            )
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


def _here(options: argparse.Namespace) -> int:
    """Be one rank of those that `run_in` starts."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        print(json.dumps(learn(options, None)))
        return 0
    from streammeta.meta.ranks import Ranks  # noqa: PLC0415  brings torch, which one rank does without

    with Ranks(gpu=options.device == "cuda") as ranks:
        figures = learn(options, ranks)
    if figures is not None:
        print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
