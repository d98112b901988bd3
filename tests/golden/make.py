"""Write a golden file for each format that has none of its current version: `python -m tests.golden.make`.

A golden file is what this version wrote, kept for ever: who changes a format sees here that files of before are not read
as something else. Its `.json` is what reading it gave. Files of older versions stay: they are read by the reader of the
version before, or refused with a message.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch

from streammeta.engine import Engine, EngineSettings, MetaSettings, snapshot
from streammeta.engine.episodes import decode_segment
from streammeta.engine.extraction import FeatureSettings, RollingSettings
from streammeta.engine.handover import record
from streammeta.engine.sums import Part, decode_sums
from streammeta.engine.tasks import MemorySettings
from streammeta.engine.weights import decode_progress, decode_weights
from streammeta.episode.sinusoid import sinusoids
from streammeta.event import Event, Origin
from streammeta.meta.catalogue import Problem, build
from streammeta.meta.settings import LearnerSettings
from streammeta.offline import store
from streammeta.testing import Driver, MemoryLog

FOLDER = Path(__file__).parent
KINDS = {
    "schema": record.Schema,
    "task": record.Head,
    "page": record.Page,
    "wait": record.WaitPage,
    "part": record.Part,
}


class Format(NamedTuple):
    """One format: how a file of it is made, read, and which version is written now."""

    version: Callable[[bytes], int]  # of a file
    make: Callable[[Path], bytes]  # a fresh one; given a folder for its own use
    read: Callable[[Path], Any]  # raises SnapshotError


ROLLING = FeatureSettings(
    rolling=(
        RollingSettings(of="size", make=("lag", "mean", "count", "since"), events=4),
        RollingSettings(of="colour", make=("lag",)),
        RollingSettings(of="label", make=("lag", "since")),
    )
)


def served(features: FeatureSettings | None = None) -> tuple[MemoryLog, Driver]:
    """A small service after 90 events of four tasks, of which some wait for their labels."""
    experts: dict[str, Any] = {} if features is None else {"experts": ()}  # whose records are large
    settings = EngineSettings(
        kind="classification",
        learner=LearnerSettings(hidden=4, encoded=2, memories=(8.0, 40.0), members=1, **experts),
        meta=MetaSettings(mode="off"),
        memory=MemorySettings(window=32, max_features=8, max_classes=4, max_waiting=16),
        features=features or FeatureSettings(),
    )
    log = MemoryLog("events")
    random = np.random.default_rng(5)
    for i in range(90):
        x = {"size": round(float(random.normal()), 3), "colour": ("red", "blue")[i % 2]}
        event = {"id": str(i), "task": f"t{i % 4}", "x": x} | ({"y": int(x["size"] > 0)} if i % 5 else {})
        if features is not None:
            event["ts"] = 1.7e9 + 60 * i
        log.append(json.dumps(event).encode(), 0, event["task"].encode())
    member = Driver(log, settings=settings)
    member.rounds(60)
    return log, member


def _state(_folder: Path) -> bytes:
    return _packed(served()[0])


def _rolling_state(_folder: Path) -> bytes:
    return _packed(served(ROLLING)[0])


def _packed(log: MemoryLog) -> bytes:
    newest = {entry.key: entry.value for _, entry in log.read("state", 0) if entry.key is not None}
    return msgspec.msgpack.encode(sorted((key, value) for key, value in newest.items() if value is not None))


def _read_state(path: Path) -> Any:
    found = {}
    for key, value in msgspec.msgpack.decode(path.read_bytes()):
        parsed = record.parse_key(key, str(path))
        found[key.decode()] = record.decode(KINDS[parsed.kind], value, str(path))
    return found


def _state_version(data: bytes) -> int:
    return msgspec.msgpack.decode(msgspec.msgpack.decode(data)[0][1])[0]


def _newest(log: MemoryLog, channel: str, key: bytes) -> bytes:
    return next(e.value or b"" for _, e in reversed(log.read(channel, 0)) if e.key == key)


def _weights(_folder: Path) -> bytes:
    log, _ = served()
    return _newest(log, "weights", b"theta")


def _progress(_folder: Path) -> bytes:
    log, _ = served()
    return _newest(log, "weights", b"progress")


def _sums(_folder: Path) -> bytes:
    log, _ = served()
    return _newest(log, "weights", b"sums:0")


def _segment(_folder: Path) -> bytes:
    engine = Engine(EngineSettings(kind="classification", meta=MetaSettings(mode="off")))
    engine.write_episodes()
    random = np.random.default_rng(6)
    for i in range(20):
        size = round(float(random.normal()), 3)
        x = {"size": size, "colour": ("red", "blue")[i % 2]}
        engine.step([Event(x, "t", Origin("events", 0, i), y=int(size > 0), ts=1.7e9 + 60 * i)])
    ((_, key, value), *_) = engine.changed_episodes()
    return msgspec.msgpack.encode((key, value))


def _read_segment(path: Path) -> Any:
    key, value = msgspec.msgpack.decode(path.read_bytes())
    return decode_segment(key, value, str(path))


def _snapshot(folder: Path) -> bytes:
    _, member = served()
    snapshot.write_snapshot(folder / "snapshot", member.engine.snapshot(), {("events", 0): 90})
    return (folder / "snapshot").read_bytes()


def _header(data: bytes) -> Any:
    from safetensors.numpy import load  # noqa: PLC0415

    return msgspec.msgpack.decode(load(data)["__header__"].tobytes())


def _theta(folder: Path) -> bytes:
    learner = build("alpaca", Problem("regression", inputs=1, outputs=1, hidden=(4, 4)))
    state = learner.begin(learner.init(torch.Generator().manual_seed(1)))
    state = learner.update(state, sinusoids().train(torch.Generator().manual_seed(2), 3, 4, 4))
    store.store(folder / "theta", store.Trained(state, {"method": "alpaca", "family": "sinusoids"}))
    return (folder / "theta").read_bytes()


def _theta_version(data: bytes) -> int:
    size = int.from_bytes(data[:8], "little")
    return json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["streammeta"])["format"]


FORMATS = {
    "state": Format(_state_version, _state, _read_state),
    "state-rolling": Format(_state_version, _rolling_state, _read_state),
    "weights": Format(
        lambda data: _header(data)[0], _weights, lambda path: decode_weights(path.read_bytes(), str(path))
    ),
    "sums": Format(
        lambda data: msgspec.msgpack.decode(data)[0], _sums, lambda path: decode_sums(path.read_bytes(), str(path))
    ),
    "segment": Format(lambda data: msgspec.msgpack.decode(msgspec.msgpack.decode(data)[1])[0], _segment, _read_segment),
    "progress": Format(
        lambda data: _header(data)[0], _progress, lambda path: decode_progress(path.read_bytes(), str(path))
    ),
    "snapshot": Format(lambda data: _header(data)["format"], _snapshot, snapshot.read_snapshot),
    "theta": Format(_theta_version, _theta, store.load),
}


def plain(value: Any) -> Any:  # noqa: PLR0911 a line a kind of value
    """What was read as JSON can hold it; arrays and bytes by their sizes and a hash."""
    if isinstance(value, torch.Tensor):
        return plain(value.numpy())
    if isinstance(value, np.ndarray):
        return [value.dtype.str, list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()[:16]]
    if isinstance(value, bytes | memoryview):
        return [len(value), hashlib.sha256(bytes(value)).hexdigest()[:16]]
    if isinstance(value, msgspec.Struct):
        return plain(msgspec.structs.asdict(value))
    if is_dataclass(value) and not isinstance(value, type):
        return plain({name: getattr(value, name) for name in value.__dataclass_fields__})
    if isinstance(value, Part):
        return plain(vars(value))
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return value


def main() -> None:
    """Write what is missing."""
    for name, format_ in FORMATS.items():
        scratch = FOLDER / "scratch"
        scratch.mkdir(exist_ok=True)
        data = format_.make(scratch)
        path = FOLDER / f"{name}-{format_.version(data)}.bin"
        if not path.exists():
            path.write_bytes(data)
            text = json.dumps(plain(format_.read(path)), indent=1, ensure_ascii=False, allow_nan=True)
            path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
        for left in scratch.iterdir():
            left.unlink()
        scratch.rmdir()


if __name__ == "__main__":
    main()
