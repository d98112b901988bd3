"""Bytes changed the way that disks, networks and enemies change them; and `python -m tests.faults.mutations`, which
tries a million of them on every decoder of what comes from a topic."""

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable

from streammeta.engine import Engine, EngineSettings, MetaSettings
from streammeta.engine.tasks import MemorySettings
from streammeta.engine.weights import decode_weights, encode_weights
from streammeta.errors import StreammetaError
from streammeta.event import Decoder, Event, Origin, Record
from streammeta.meta.settings import LearnerSettings

__all__ = ["SETTINGS", "eventful", "mutated"]

SETTINGS = EngineSettings(
    learner=LearnerSettings(hidden=4, encoded=3, memories=(20.0,), members=1),
    meta=MetaSettings(mode="off"),
    memory=MemorySettings(window=32),
)
_EVENT = b'{"id": "7", "task": "store-17", "ts": 1732147200.1, "x": {"price": 1.2, "colour": "red", "n": null}, "y": 1}'


def mutated(data: bytes, source: random.Random) -> bytes:
    """One to four changes: bits, bytes, pieces cut, doubled, moved, or filled with one byte."""
    changed = bytearray(data)
    for _ in range(source.randint(1, 4)):
        if not changed:
            return bytes(source.randbytes(source.randint(0, 40)))
        at = source.randrange(len(changed))
        length = min(source.choice((1, 1, 2, 4, 8, 64)), len(changed) - at)
        match source.randrange(7):
            case 0:
                changed[at] ^= 1 << source.randrange(8)
            case 1:
                changed[at] = source.randrange(256)
            case 2:
                del changed[at:]
            case 3:
                del changed[at : at + length]
            case 4:
                changed[at:at] = changed[at : at + length] * source.randint(1, 3)
            case 5:
                changed[at : at + length] = bytes([source.choice((0, 0x7F, 0x80, 0xFF))]) * length
            case _:
                changed[at:at] = source.randbytes(length)
    return bytes(changed)


def eventful() -> Engine:
    """An engine that has a little of everything a record can hold: labels that came, and some that did not yet."""
    engine = Engine(SETTINGS)
    for i in range(80):
        x = {"a": i % 5 - 2.0, "b": i % 7 - 3.0}
        y = None if i % 9 == 0 else int(i % 5 > 2)
        engine.step([Event(x, f"t{i % 2}", Origin("in", 0, i), y=y, id=str(i), ts=float(i))])
    return engine


def _tries(source: random.Random) -> dict[str, Callable[[], None]]:
    """One try of each decoder."""
    engine, decoder = eventful(), Decoder()
    records = {key: value for _, key, value in engine.handover().changes() if value is not None}
    keys, weights = list(records), encode_weights(engine.shared_weights())
    events = [Event({"a": 1.0, "b": 0.0}, f"t{i}", Origin("in", 0, i), y=i) for i in range(2)]

    def tasks() -> None:
        key = source.choice(keys)
        fresh = Engine(SETTINGS)
        try:
            for _ in fresh.handover().take(0, records | {key: mutated(records[key], source)}, "state/0"):
                pass
            fresh.step(events)
        finally:
            fresh.close()

    def theta() -> None:
        fresh = Engine(SETTINGS)
        try:
            fresh.adopt(decode_weights(mutated(weights, source), "weights/0"), train=True)
            fresh.step(events)
        finally:
            fresh.close()

    def event() -> None:
        decoder.decode(Record(mutated(_EVENT, source), Origin("in", 0, 0)))

    return {"task": tasks, "weights": theta, "event": event}


def main() -> int:
    """Try so many; any other exception than a refusal ends it, with the seed to find it again."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mutations", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    source, counts, begun = random.Random(options.seed), Counter[str](), time.monotonic()
    tries = _tries(source)
    kinds = ["task"] * 2 + ["weights"] + ["event"] * 7
    for i in range(options.records):
        kind = kinds[i % len(kinds)]
        source.seed(options.seed * 10_000_000_000 + i)
        try:
            tries[kind]()
            counts[f"{kind} harmless"] += 1
        except StreammetaError as err:
            if not str(err):
                raise
            counts[f"{kind} refused"] += 1
        except Exception:
            sys.stderr.write(f"record {i} of seed {options.seed}, a {kind}\n")
            raise
    sys.stdout.write(f"seed {options.seed}: {options.records:,} mutated records, {time.monotonic() - begun:.0f} s\n")
    sys.stdout.write("".join(f"  {kind}: {count:,}\n" for kind, count in sorted(counts.items())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
