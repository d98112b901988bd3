"""Does memory stay flat? A million simulated events of a thousand drifting tasks through the service's own loop.

    python -m benchmarks.memory [--events 1000000] [--tasks 1000] [--json OUT] [--quick]

Prints resident memory at every twentieth of the run, and how much it grew over the last three quarters. Late labels and
drifts are part of the stream, so waiting events, detectors, windows and the spill of rarely seen tasks are all at work.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from prometheus_client import CollectorRegistry

from streammeta.engine import Engine, EngineSettings, Outcome
from streammeta.event import Decoder
from streammeta.service.http import Health
from streammeta.service.loop import Options, Service
from streammeta.service.metrics import Metrics
from streammeta.simulators import simulate
from streammeta.transport.memory import MemorySource

_PAGE = 4096
_LATE_EVERY = 5  # each fifth label comes late
_LATE_BY = 500  # events


def resident_bytes() -> int:
    """Memory of this process that is in RAM now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def records(events: int, tasks: int) -> Iterator[bytes]:
    """The stream as input records, some labels apart and late."""
    late: list[bytes] = []
    for i, sample in enumerate(simulate("shared-representation", events=events, seed=0, tasks=tasks)):
        value = json.loads(sample.to_json())
        if i % _LATE_EVERY == 0:
            late.append(json.dumps({"id": str(i), "task": value["task"], "y": value.pop("y")}).encode())
            value["id"] = str(i)
        yield json.dumps(value).encode()
        if len(late) > _LATE_BY // _LATE_EVERY:
            yield late.pop(0)


class Watch:
    """Looks at memory now and then."""

    def __init__(self, events: int, every: int) -> None:
        self.events, self._every, self._total = 0, every, events
        self.seen: list[tuple[int, int]] = []
        self._begun = time.monotonic()

    def __call__(self, outcomes: Sequence[Outcome], rejected: int) -> None:
        """Called by the service after each step."""
        self.events += len(outcomes)
        if self.events >= len(self.seen) * self._every:
            self.seen.append((self.events, resident_bytes()))
            rate = self.events / max(time.monotonic() - self._begun, 1e-9)
            print(
                f"{self.events:>10,} events  {self.seen[-1][1] / 2**20:8.1f} MiB  {rate:8,.0f} events/s  "
                f"{100 * self.events / self._total:3.0f} %",
                flush=True,
            )


def main(arguments: list[str] | None = None) -> int:
    """Run it; exit status 1 when memory grew by more than a twentieth after warm-up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--tasks", type=int, default=1_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the events")
    options = parser.parse_args(arguments)
    events = options.events // 50 if options.quick else options.events
    watch = Watch(events, events // 20)
    settings = EngineSettings.model_validate({"memory": {"max_tasks": max(options.tasks * 9 // 10, 1)}})
    with closing(Engine(settings)) as engine:
        service = Service(
            engine,
            None,
            decoder=Decoder(),
            options=Options(),
            metrics=Metrics(CollectorRegistry()),
            health=Health(time.monotonic),
            observers=(watch,),
        )
        summary = service.run(MemorySource(records(events, options.tasks), forget_committed=True), threading.Event())
        stats = engine.stats()
    warm = [size for n, size in watch.seen if n >= events // 4]
    grown = warm[-1] / warm[0] - 1
    print(
        f"{summary.records:,} records of {stats.tasks:,} tasks in {summary.seconds:,.0f} s, {stats.meta_updates:,} "
        f"meta-updates, {stats.drifts:,} drifts: {warm[0] / 2**20:.1f} MiB after a quarter, {warm[-1] / 2**20:.1f} MiB "
        f"at the end ({100 * grown:+.1f} %)"
    )
    if options.json:
        figures = {"events": summary.records, "seconds": summary.seconds, "grown": grown, "resident": watch.seen}
        options.json.write_text(json.dumps(figures, indent=2))
    return int(grown > 0.05)


if __name__ == "__main__":
    sys.exit(main())
