"""`streammeta inspect`: the tasks in a snapshot, or in a service's changelog."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from math import inf, isnan
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from streammeta.app.parts import new_engine
from streammeta.config import Settings
from streammeta.decisions.factory import engine_class
from streammeta.engine import Engine, EngineSettings, TaskSummary
from streammeta.engine.snapshot import Snapshot, read_snapshot
from streammeta.errors import ConfigError, SnapshotError, TransportError
from streammeta.service.restoration import Restoration
from streammeta.service.result import STATE
from streammeta.transport.choice import adapters
from streammeta.transport.kafka.topic_log import TopicLog

try:
    import fcntl
except ImportError:  # no such locks on this system: nobody is kept away
    _LOCKS = False
else:
    _LOCKS = True

__all__ = [
    "ORDERS",
    "engine_of_snapshot",
    "engines_of_service",
    "inspect",
    "inspect_service",
    "settings_of",
    "snapshot_path",
    "state_held",
]

ORDERS: dict[str, Callable[[TaskSummary], float]] = {
    "error": lambda task: -1.0 if isnan(task.error) else task.error,
    "age": lambda task: task.labelled,
    "drift": lambda task: -inf if task.last_drift_at is None else task.last_drift_at,
}
_INSPECT_POLL_SECONDS, _INSPECT_SECONDS = 0.2, 300.0


def snapshot_path(directory: Path) -> Path:
    """The snapshot's file in a state directory."""
    return directory / "streammeta.engine.snapshot"


@contextmanager
def state_held(directory: Path) -> Iterator[None]:
    """Meanwhile no other process may change the state in this directory, which is made where it is not there.

    Raises:
        ConfigError: another process has it, or the directory cannot be used.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / "streammeta.engine.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as err:
        raise ConfigError(f"--state {directory}: cannot be used ({err}); name another directory") from err
    try:
        _lock(lock, directory)
        yield
    finally:
        os.close(lock)


def _lock(file: int, directory: Path) -> None:
    if not _LOCKS:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as err:
        raise ConfigError(
            f"--state {directory}: a replay that runs now keeps its state there, and would write over it; wait for its "
            "end, or name another directory"
        ) from err


def inspect(path: Path) -> list[TaskSummary]:
    """Every task in a snapshot, given its file or the state directory it lies in: `streammeta inspect`.

    Raises:
        SnapshotError: there is none, or it cannot be read.
    """
    with closing(engine_of_snapshot(path)) as engine:
        return engine.tasks()


def engine_of_snapshot(path: Path) -> Engine:
    """The engine as a snapshot left it, given its file or the state directory it lies in; the caller closes it.

    Raises:
        SnapshotError: there is none, or it cannot be read.
    """
    file = snapshot_path(path) if path.is_dir() else path
    found = read_snapshot(file)
    if found is None:
        raise SnapshotError(f"{file}: no snapshot there; wanted a snapshot's file, or the directory it lies in")
    snapshot, _ = found
    settings = settings_of(snapshot)
    return engine_class(settings).restore(settings, snapshot)


def inspect_service(settings: Settings) -> list[TaskSummary]:
    """Every task of the service with these settings, as its changelog has them now: `streammeta inspect`.

    Raises:
        MissingTopicError: there is no changelog: no such service was ever started.
        TransportError: the broker or the changelog cannot be read.
        SnapshotError: a task cannot be read, or was written under other settings.
    """
    return [task for engine in engines_of_service(settings) for task in engine.tasks()]


def engines_of_service(settings: Settings) -> Iterator[Engine]:
    """An engine for each partition of the service, as its changelog has it now; each is closed before the next comes.

    Raises:
        MissingTopicError, TransportError, SnapshotError: as `inspect_service`.
    """
    name, kafka = settings.app.name, settings.kafka
    topic = f"{name}-{STATE}"
    with closing(TopicLog(kafka, [topic])) as log:
        partitions = len(log.ends)
    with closing(adapters(kafka).tables(kafka, {STATE: topic})) as tables:
        for partition in range(partitions):
            with closing(new_engine(settings)) as engine:
                handover = engine.handover()
                restoration = Restoration(tables, name, partition, handover.collect())
                deadline = time.monotonic() + _INSPECT_SECONDS
                while not restoration.take(handover, inf, time.monotonic):
                    for row in tables.poll(_INSPECT_POLL_SECONDS):
                        restoration.read(row)
                    if time.monotonic() > deadline:
                        raise TransportError(f"{topic}/{partition}: not read to its end within {_INSPECT_SECONDS:g} s")
                yield engine


def settings_of(snapshot: Snapshot) -> EngineSettings:
    """Settings under which a snapshot can be read: those it depends on are saved in it."""
    tree: dict[str, Any] = {}
    for name, value in snapshot.header.get("settings", {}).items():
        section, _, key = name.partition(".")
        if name == "app.kind":
            tree["kind"] = "regression" if value == "decision" else value
        elif name == "output.interval":
            tree["interval"] = value
        elif name == "learner.memories":  # saved is how many
            tree.setdefault(section, {})[key] = (1.0,) * value
        elif name == "learner.experts":  # saved are their names
            tree.setdefault(section, {})[key] = tuple(filter(None, value.split(", ")))
        else:
            tree.setdefault(section, {})[key] = value
    try:
        return EngineSettings(**tree)
    except (TypeError, ValidationError) as err:
        raise SnapshotError(f"the snapshot's settings are {tree}, which this version does not know ({err})") from err
