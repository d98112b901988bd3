"""What features made of others cost: microseconds an event, bytes a task.

    python -m benchmarks.extraction [--events 20000] [--rounds 5] [--json OUT] [--quick]

Events of 200 tasks, five numbers and a title of six words each, steps of 256, meta-updates off, one core. Time is the
processor's, the least of some rounds that take turns, so that what else runs does not count. "Beside" is what an event
costs more than with the same numbers alone: making features, admitting events one by one, learning from more features.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from streammeta.engine import Engine, EngineSettings
from streammeta.event import Event, Origin

_WORDS = [
    "red",
    "green",
    "old",
    "new",
    "small",
    "large",
    "lamp",
    "table",
    "mirror",
    "chair",
    "kettle",
    "clock",
    "shoes",
    "coat",
    "book",
    "radio",
]
_TASKS, _STEP = 200, 256
_ALL = ["lag", "mean", "min", "max", "std", "count"]
MADE: Mapping[str, Mapping[str, Any]] = {
    "nothing": {},
    "one lag": {"rolling": [{"of": "a", "make": ["lag"]}]},
    "lag, mean of 10": {"rolling": [{"of": "a", "make": ["lag", "mean"]}]},
    "six of 10, of each of two": {"rolling": [{"of": of, "make": _ALL} for of in ("a", "label")]},
    "six of 100": {"rolling": [{"of": "a", "make": _ALL, "events": 100}]},
    "text, 64 numbers": {"text": ["title"]},
}


def events(count: int) -> list[Event]:
    """Numbers, a title and a class."""
    random, found = np.random.default_rng(0), list[Event]()
    for i in range(count):
        x = dict(zip("abcde", random.normal(size=5).tolist(), strict=True))
        title = " ".join(_WORDS[k] for k in random.integers(len(_WORDS), size=6))
        y = int(x["a"] > x["b"])
        found.append(Event(x | {"title": title}, f"t{i % _TASKS}", Origin("e", 0, i), y=y, ts=float(i)))
    return found


def seconds(given: list[Event], features: Mapping[str, Any]) -> tuple[float, int]:
    """The processor's time for these events, and the bytes of a task's row that are for features made of its past."""
    settings = EngineSettings.model_validate({"features": features, "meta": {"mode": "off"}})
    engine, begun = Engine(settings), time.process_time()
    for begin in range(0, len(given), _STEP):
        engine.step(given[begin : begin + _STEP])
    took, extractor = time.process_time() - begun, engine.memory.extractor
    columns = extractor.columns if extractor else {}
    return took, sum(8 * int(np.prod(column.shape)) for column in columns.values())


def main(arguments: list[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="A second or two, to see that it runs.")
    options = parser.parse_args(arguments)
    count, rounds = (1_000, 1) if options.quick else (options.events, options.rounds)
    with_title = events(count)
    without = [
        Event({k: v for k, v in e.x.items() if k != "title"}, e.task, e.origin, e.y, ts=e.ts) for e in with_title
    ]  # type: ignore[union-attr]
    least, size = dict[str, float](), dict[str, int]()
    for _ in range(rounds):
        for name, features in MADE.items():
            took, size[name] = seconds(with_title if "text" in features else without, features)
            least[name] = min(least.get(name, took), took)
    found = {
        name: {
            "us_an_event": 1e6 * took / count,
            "us_beside": 1e6 * (took - least["nothing"]) / count,
            "bytes_a_task": size[name],
        }
        for name, took in least.items()
    }
    for name, one in found.items():
        print(
            f"{name:<26} {one['us_an_event']:7.1f} µs an event, {one['us_beside']:+6.1f} beside, "
            f"{one['bytes_a_task']:,} bytes a task"
        )
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
