"""What comes once and never again: a million tags, and a million values of one text feature; memory and disk stay flat.

    python -m benchmarks.once [--events 1000000] [--json OUT] [--quick]

Each event of the first stream has a tag of its own. The state topic is what compaction would leave of the records that
are written every 2,000 events. In the second stream, twenty tasks have a number that says the label, and beside it a
text that is another one each time. Exit status 1 where anything grew by more than a twentieth after the middle.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.memory import resident_bytes
from streammeta.engine import Engine, EngineSettings
from streammeta.event import Event, Origin

_COMMIT_EVENTS = 2_000
_MEBIBYTE = 2**20


class Look(NamedTuple):
    """How things stand after some events."""

    events: int
    resident: int  # bytes
    spill: int  # bytes on disk
    topic: int  # bytes of the state topic's last values
    tasks: int
    features: int
    error: float  # since the look before


def once_tag(i: int, random: np.random.Generator) -> Event:
    """An event of a task that has no other."""
    a, b = random.normal(size=2).tolist()
    return Event({"a": a, "b": b, "c": float(i % 5)}, f"visitor-{i}", Origin("once", 0, i), y=int(a > b))


def once_text(i: int, random: np.random.Generator) -> Event:
    """An event with a text that no other has."""
    a = float(random.normal())
    task = i % 20
    return Event({"a": a, "note": f"order {i}"}, f"shop-{task}", Origin("texts", 0, i), y=int((a > 0) ^ (task % 2 > 0)))


def watched(make: Callable[[int, np.random.Generator], Event], events: int, looks: int = 20) -> list[Look]:
    """Run so many events through an engine with the default settings, and look now and then."""
    random, found, topic, begun = np.random.default_rng(0), list[Look](), dict[bytes, int](), time.monotonic()
    errors = list[float]()
    with tempfile.TemporaryDirectory() as folder:
        settings = EngineSettings.model_validate({"memory": {"spill_directory": folder}})
        with closing(Engine(settings)) as engine:
            handover = engine.handover()
            for begin in range(0, events, _COMMIT_EVENTS):
                batch = [make(i, random) for i in range(begin, min(begin + _COMMIT_EVENTS, events))]
                errors += [outcome.error for outcome in engine.step(batch) if outcome.error is not None]
                for change in handover.changes():
                    topic.pop(change.key, None)
                    if change.value is not None:
                        topic[change.key] = len(change.key) + len(change.value)
                if begin + len(batch) >= (len(found) + 1) * events // looks:
                    stats, done = engine.stats(), begin + len(batch)
                    spill = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
                    kept = sum(topic.values())
                    error = float(np.mean(errors))
                    found.append(Look(done, resident_bytes(), spill, kept, stats.tasks, stats.features, error))
                    _show(found[-1], done / (time.monotonic() - begun))
                    errors.clear()
    return found


def _show(look: Look, rate: float) -> None:
    sizes = (look.resident / _MEBIBYTE, look.spill / _MEBIBYTE, look.topic / _MEBIBYTE)
    print(
        f"{look.events:>10,} events  resident {sizes[0]:7.1f} MiB  spill {sizes[1]:7.1f} MiB  "
        f"topic {sizes[2]:6.1f} MiB  {look.tasks:>8,} tasks  {look.features:>4} features  "
        f"error {look.error:.4f}  {rate:8,.0f} events/s",
        flush=True,
    )


def grown(looks: Sequence[Look]) -> dict[str, float]:
    """By what share each size grew over the second half."""
    middle, end = looks[len(looks) // 2 - 1], looks[-1]
    return {
        name: getattr(end, name) / max(getattr(middle, name), 1) - 1 for name in ("resident", "spill", "topic", "tasks")
    }


def main(arguments: list[str] | None = None) -> int:
    """Run both; exit status 1 where anything grew by more than a twentieth after the middle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the events, too few to forget any")
    options = parser.parse_args(arguments)
    events = options.events // 50 if options.quick else options.events
    figures, most = {}, 0.0
    for name, make in (("tags", once_tag), ("texts", once_text)):
        print(f"{events:,} {name} that come once")
        looks = watched(make, events)
        shares = grown(looks)
        figures[name] = {"looks": [look._asdict() for look in looks], "grown": shares}
        print(", ".join(f"{part} {100 * share:+.1f} %" for part, share in shares.items()) + " over the second half")
        most = max(most, *shares.values())
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))
    return int(most > 0.05 and not options.quick)


if __name__ == "__main__":
    sys.exit(main())
