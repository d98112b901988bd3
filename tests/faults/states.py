"""Runs on a log in memory, and what the changelog holds at the end: the reference that disturbed runs are held to."""

import threading
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from streammeta.engine import Engine, EngineSettings
from streammeta.engine.tasks import MemorySettings
from streammeta.event import Decoder
from streammeta.meta.settings import LearnerSettings
from streammeta.service.exactly_once import ExactlyOnce
from streammeta.service.http import Health
from streammeta.service.loop import Options
from streammeta.service.metrics import Metrics
from streammeta.transport.memory_log import MemoryChangelogReader, MemoryLog, MemoryMember, MemoryTransactionalSink

__all__ = ["LEARNED", "SMALL_ENVIRONMENT", "SMALL_LEARNER", "SMALL_MEMORY", "differences", "run_to_the_end", "tasks_of"]


# A small engine, as settings and as variables of a worker
SMALL_LEARNER = LearnerSettings(hidden=8, encoded=4, memories=(20.0,), members=1)
SMALL_MEMORY = MemorySettings(window=64)
SMALL_ENVIRONMENT = {
    "LEARNER__HIDDEN": "8",
    "LEARNER__ENCODED": "4",
    "LEARNER__MEMORIES": "[20.0]",
    "LEARNER__MEMBERS": "1",
    "META__MODE": "off",
    "MEMORY__WINDOW": "64",
}


# What a task has learned from, whatever θ was meanwhile: its counts, and its window of labelled events
LEARNED = ("events", "labelled", "window_count", "window_x", "window_y")


def run_to_the_end(log: MemoryLog, settings: EngineSettings, *, frozen: bool = False) -> Engine:
    """One undisturbed worker takes in all there is; returns its last engine."""
    running = ExactlyOnce(
        lambda: Engine(settings),
        MemoryTransactionalSink(log, "reference"),
        MemoryChangelogReader(log),
        decoder=Decoder(),
        options=Options(poll_seconds=0.0, save_every_seconds=1.0, frozen=frozen),
        metrics=Metrics(CollectorRegistry()),
        health=Health(lambda: 0.0),
    )
    member = MemoryMember(
        log,
        "reference",
        on_revoked=running.revoked,
        on_assigned=running.assigned,
        on_lost=running.lost,
        on_coming=running.coming,
    )
    running.run(member, threading.Event())
    member.close()
    return running._turn.engine


def tasks_of(
    log: MemoryLog, settings: EngineSettings, only: Collection[str] | None = None
) -> dict[tuple[int, str], tuple[Any, ...]]:
    """The task states in the changelog, to the byte, as a fresh engine takes them; ``only`` some columns of them."""
    engine, found = Engine(settings), {}
    handover = engine.handover()
    for number in range(log.partitions):
        latest: dict[bytes, bytes] = {}
        for _, entry in log.read("state", number):
            latest.pop(entry.key or b"", None)
            if entry.value is not None:
                latest[entry.key or b""] = entry.value
        for _ in handover.take(number, latest, "state"):
            pass
    for key, row in engine.memory.tasks.rows():
        columns = {name: column[row].tobytes() for name, column in engine.memory.tasks.columns.items()}
        del columns["rebuild_cooldown"]  # how long until φ may be derived again: no part of what it is
        waiting = sorted(id_ for page in engine.memory.waiting._pages.get(key, {}).values() for id_ in page)
        if only is None:
            found[key] = (columns, engine.memory.detectors.dump(row), waiting)
        else:
            found[key] = ({name: _by_name(engine, name, row) for name in only}, waiting)
    engine.close()
    return found


def differences(found: Mapping[tuple[int, str], Any], wanted: Mapping[tuple[int, str], Any]) -> list[str]:
    """The tasks that are not alike, and which of their columns."""
    said = [f"{key}: only disturbed" for key in sorted(found.keys() - wanted.keys())]
    said += [f"{key}: only undisturbed" for key in sorted(wanted.keys() - found.keys())]
    for key in sorted(found.keys() & wanted.keys()):
        if found[key] != wanted[key]:
            (ours, *rest), (theirs, *others) = found[key], wanted[key]
            names = [name for name in sorted(ours.keys() | theirs.keys()) if ours.get(name) != theirs.get(name)]
            said.append(f"{key}: {', '.join(names)}{'' if rest == others else f' and {rest} for {others}'}"[:1000])
    return said


def _by_name(engine: Engine, column: str, row: int) -> bytes:
    """A column of a row, features and classes in the order of their names: which came first differs by who saw what."""
    value, memory = engine.memory.tasks.columns[column][row], engine.memory
    if column == "window_x":
        slots = memory.features.slots
        value = value[:, sorted(range(len(slots)), key=lambda slot: (slots[slot].name, slots[slot].value or ""))]
    if column == "window_y" and memory.labels.classify:
        classes = memory.labels.classes
        rank = np.argsort(sorted(range(len(classes)), key=lambda index: str(classes[index])))
        labelled = min(int(memory.tasks.columns["window_count"][row]), len(value))
        value = np.append(rank[value[:labelled].astype(int)], value[labelled:])
    return value.tobytes()
