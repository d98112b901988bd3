"""How fast is an event, and what does a meta-update cost? One process, one core.

    python -m benchmarks.throughput [--json OUT] [--quick]

For 1, 10, 1,000 and 100,000 tasks of 10 features: events/s of predict + adapt with meta-updates off and with the
default schedule, median and 99th percentile of a step of 256 events, and bytes a task. Then a meta-update by part:
drawing episodes, gradient, optimizer, compiling. Rates are the best quarter of a run, by the clock and by the
process's own CPU time: others may be using the machine.
"""

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from streammeta.engine import Engine, EngineSettings
from streammeta.event import Event, Origin
from streammeta.meta.outer import outer_step

_FEATURES = [f"f{i}" for i in range(10)]
_STEP = 256


def stream(events: int, tasks: int, seed: int = 0) -> list[Event]:
    """Each task once, then ``events`` of tasks in random order; a concept weighs one other feature beside the first."""
    random = np.random.default_rng(seed)
    xs = random.normal(size=(tasks + events, len(_FEATURES)))
    of = np.concatenate([random.permutation(tasks), random.integers(0, tasks, events)])
    return [
        Event(
            dict(zip(_FEATURES, x.tolist(), strict=True)),
            f"task-{task}",
            Origin("benchmark", 0, i),
            y=int(x[0] + x[task % len(_FEATURES)] > 0),
        )
        for i, (x, task) in enumerate(zip(xs, of.tolist(), strict=True))
    ]


def engine(mode: str, tasks: int) -> Engine:
    """Defaults, but for the mode and with all tasks in memory."""
    return Engine(EngineSettings.model_validate({"meta": {"mode": mode}, "memory": {"max_tasks": max(tasks, 10_000)}}))


def measure(tasks: int, events: Sequence[Event], mode: str, warm: int) -> dict[str, float]:
    """Rate, step times and memory after ``warm`` events, in steps of 256."""
    with closing(engine(mode, tasks)) as one:
        for i in range(0, warm, _STEP):
            one.step(events[i : i + _STEP])
        seconds, busy = [], []
        for i in range(warm, len(events) - _STEP + 1, _STEP):
            begun, begun_cpu = time.perf_counter(), time.process_time()
            one.step(events[i : i + _STEP])
            seconds.append(time.perf_counter() - begun)
            busy.append(time.process_time() - begun_cpu)
        columns = one.memory.tasks.columns.values()
        return {
            "events_per_second": _best_rate(seconds),
            "events_per_cpu_second": _best_rate(busy),
            "step_p50_ms": 1e3 * float(np.quantile(seconds, 0.5)),
            "step_p99_ms": 1e3 * float(np.quantile(seconds, 0.99)),
            "bytes_per_task": sum(column.nbytes // len(column) for column in columns),
        }


def _best_rate(seconds: Sequence[float]) -> float:
    """Events a second in the best quarter of these steps, in their order."""
    quarter = max(len(seconds) // 4, 1)
    return max(_STEP * quarter / sum(seconds[i : i + quarter]) for i in range(0, len(seconds) - quarter + 1, quarter))


def best(work: Callable[[], object], repeats: int) -> float:
    """The shortest of several times, in milliseconds."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return 1e3 * min(times)


def meta_update(repeats: int) -> dict[str, float]:
    """Milliseconds of a meta-update's parts, for 1,000 tasks."""
    with closing(engine("off", 1000)) as one:
        for _ in range(2):
            one.step(stream(40_000, 1000))
        shared, draw = one.memory.shared, one._training.draw
        episodes = draw()
        gradient = one.memory.method.gradient(shared.state.theta, episodes, "cpu")
        return {
            "draw_ms": best(draw, repeats),
            "gradient_ms": best(lambda: one.memory.method.gradient(shared.state.theta, episodes, "cpu"), repeats),
            "optimizer_ms": best(lambda: outer_step(lambda *_: gradient, shared.state, episodes, rate=1e-3), repeats),
            "compile_ms": best(shared._compile, repeats),
        }


def main(arguments: list[str] | None = None) -> int:
    """Print a table, and write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="a tenth of the events, and at most 1,000 tasks")
    options = parser.parse_args(arguments)
    figures: dict[str, Mapping[str, float]] = {}
    size = 8_000 if options.quick else 80_000
    for tasks in (1, 10, 1_000) if options.quick else (1, 10, 1_000, 100_000):
        events = stream(size, tasks)
        gc.freeze()  # the events are the benchmark's own: the collector need not walk over them again and again
        for mode in ("off", "sync"):
            share = events if mode == "off" else events[: tasks + size // 2]
            found = measure(tasks, share, mode, warm=(tasks + size // 8) // _STEP * _STEP)
            figures[f"{tasks} tasks, meta {mode}"] = found
            print(
                f"{tasks:>7,} tasks, meta-updates {mode:<4}: {found['events_per_second']:>8,.0f} events/s "
                f"({found['events_per_cpu_second']:>7,.0f} a second of CPU), "
                f"step of {_STEP} p50 {found['step_p50_ms']:.1f} ms, p99 {found['step_p99_ms']:.1f} ms, "
                f"{found['bytes_per_task']:,.0f} bytes a task",
                flush=True,
            )
    figures["meta-update"] = meta_update(20 if options.quick else 100)
    print(
        "a meta-update: " + ", ".join(f"{name[:-3]} {value:.2f} ms" for name, value in figures["meta-update"].items())
    )
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
