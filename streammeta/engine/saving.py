"""An engine's whole state as plain values and arrays, and back."""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from streammeta.engine.checkpoint import OF_EXPERTS, experts_of, named_experts, random_from, random_state
from streammeta.engine.columns import Columns
from streammeta.engine.experts import OF_TASKS, POOLED, RIVER, own_columns
from streammeta.engine.factory import fingerprint
from streammeta.engine.interval import COLUMNS
from streammeta.engine.memory import Counts, Memory
from streammeta.engine.presence import LastSeen
from streammeta.engine.row_codec import Arrays, RowCodec
from streammeta.engine.shared import Names
from streammeta.engine.snapshot import Snapshot
from streammeta.engine.training import Training
from streammeta.errors import ConfigError, SnapshotError

__all__ = ["dump", "load"]

_log = structlog.get_logger(__name__)


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
    return Snapshot(header, arrays | sums | memory.partitions.dump() | training.dump())


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
    tasks, experts = _tasks(memory, header), experts_of(header["settings"])
    memory.partitions.load(arrays, memory.same_numbers(experts), "the snapshot")
    for name, column in memory.layout(len(memory.features), len(memory.shared.own)).items():
        memory.tasks.widen(name, column.shape)
    memory.recent.load(header["recent"], memory.tasks.restore(tasks, header["spilled"]))
    _load_presence(memory, header)
    training.random.bit_generator.state = random_from(header["random"], "the snapshot is")


def _tasks(memory: Memory, header: Mapping[str, Any]) -> Sequence[tuple[int, str, bytes]]:
    """The tasks of a snapshot, for our experts to go on with."""
    before, ours, tasks = header["settings"], fingerprint(memory.settings), header["tasks"]
    if all(before.get(name) == ours[name] for name in OF_EXPERTS):
        return tasks  # type: ignore[no-any-return]  # as ``read_header`` has found
    were, are = experts_of(before), experts_of(ours)
    _log.warning("the snapshot is of other experts: new ones begin, others are left out", was=were, now=are)
    memory.waiting.ask_again()
    return _with_our_experts(memory, tasks, before)


def _with_our_experts(
    memory: Memory, tasks: Sequence[tuple[int, str, bytes]], before: Mapping[str, Any]
) -> list[tuple[int, str, bytes]]:
    """Tasks as they were written under a fingerprint with other experts, for ours to go on with."""
    experts, size = experts_of(before), (len(memory.features), len(memory.shared.own))
    native = [name for name in named_experts(before) if not name.startswith(RIVER)]  # those keep nothing in a row
    try:
        theirs = memory.mixture_of(native, before["learner.many_classes"])
    except (ConfigError, KeyError) as err:
        raise SnapshotError(f"the snapshot was made with experts that cannot be here ({err})") from err
    own = own_columns(len(experts), memory.settings.kind) if experts else {}
    kinds = memory.layout_with(theirs, *size) | own
    codec = RowCodec(kinds, memory.response.derived, COLUMNS | POOLED | OF_TASKS)
    ours = memory.layout(*size)

    def adopted(row: Arrays) -> Arrays:
        found = {name: array[None] for name, array in row.items()}
        if memory.mixture:
            found, new = memory.mixture.adopt(found, experts, memory.labels.outputs)
            found |= Columns.blank({name: kind for name, kind in ours.items() if name in new}, 1)
        return {name: array[0] for name, array in found.items() if name in ours}

    return [(partition, tag, codec.rewrite(data, adopted)) for partition, tag, data in tasks]


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
