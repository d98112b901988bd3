"""An engine's whole state as plain values and arrays, and back."""

from collections.abc import Mapping
from typing import Any

from streammeta.engine.checkpoint import random_from, random_state
from streammeta.engine.factory import fingerprint
from streammeta.engine.memory import Counts, Memory
from streammeta.engine.presence import LastSeen
from streammeta.engine.shared import Names
from streammeta.engine.snapshot import Snapshot
from streammeta.engine.training import Training

__all__ = ["dump", "load"]


def dump(memory: Memory, training: Training) -> Snapshot:
    """The whole state between two steps."""
    tasks, place = memory.tasks.dump()
    shared, arrays = memory.shared.dump()
    seen, sums = memory.sums.dump()
    level = memory.settings.interval  # for who reads the snapshot alone: state of another level fits, too
    header = {
        "settings": fingerprint(memory.settings) | ({} if level is None else {"output.interval": level}),
        "counts": vars(memory.counts).copy(),
        "features": memory.features.dump(),
        "classes": memory.labels.classes,
        "waiting": memory.waiting.dump(),
        "recent": memory.recent.dump(place),
        "random": random_state(training.random),
        "shared": shared,
        "sums": seen,
        "tasks": tasks,
        "spilled": len(tasks) - len(place),
        "presence": [(*key, *seen) for key, seen in memory.presence.items()],
        "leaving": [key for key in memory.tasks.leaving if key[0] >= 0],
    }
    return Snapshot(header, arrays | sums | memory.dump_partitions() | training.dump() | memory.dump_experts())


def load(memory: Memory, training: Training, snapshot: Snapshot) -> None:
    """Let a memory that has seen nothing become what ``dump`` described.

    Raises:
        SnapshotError: the snapshot belongs to other settings, or is damaged; the memory is of no use then.
    """
    header, arrays = snapshot.header, snapshot.arrays
    memory.counts = Counts(**header["counts"])
    memory.features.load(header["features"])
    memory.labels.load(header["classes"])
    memory.waiting.load(header["waiting"])
    memory.sums.load(header["sums"], arrays)
    memory.shared.load(header["shared"], arrays, Names(memory.features.slots, memory.labels.names))
    training.load(arrays)
    memory.load_experts(arrays)
    memory.load_partitions(arrays)
    for name, column in memory.layout(len(memory.features), len(memory.shared.own)).items():
        memory.tasks.widen(name, column.shape)
    memory.recent.load(header["recent"], memory.tasks.restore(header["tasks"], header["spilled"]))
    _load_presence(memory, header)
    training.random.bit_generator.state = random_from(header["random"], "the snapshot is")


def _load_presence(memory: Memory, header: Mapping[str, Any]) -> None:
    """When the tasks of a snapshot were last seen; one of before that was kept says it by their order alone."""
    seen = {(partition, tag): LastSeen(*last) for partition, tag, *last in header.get("presence", ())}
    leaving = [(partition, tag) for partition, tag in header.get("leaving", ())]
    for key in leaving:
        memory.leave(key)
    gone, partitions = set(leaving), dict[int, list[tuple[str, LastSeen | None]]]()
    for partition, tag, _ in header["tasks"]:
        if (partition, tag) not in gone:
            partitions.setdefault(partition, []).append((tag, seen.get((partition, tag))))
    for partition, tasks in partitions.items():
        for key in memory.presence.load(partition, tasks):
            memory.leave(key)
