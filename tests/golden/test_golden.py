"""Files and records that an earlier version wrote: read as they were meant, or refused; never read as something else."""

import json
import math
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from streammeta.engine import Engine, Signal, snapshot
from streammeta.errors import SnapshotError
from streammeta.event import Event, Label, Origin
from tests.golden.make import FOLDER, FORMATS, ROLLING, plain, served

FILES = sorted(FOLDER.glob("*.bin"))


def named(path: Path) -> tuple[str, int]:
    """Format and version, by its name."""
    name, _, version = path.stem.rpartition("-")
    return name, int(version)


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One of each format as it is written now."""
    return {name: format_.make(tmp_path_factory.mktemp(name)) for name, format_ in FORMATS.items()}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_as_it_is_written_now_has_a_golden_file(name: str, fresh: dict[str, bytes]) -> None:
    """A new version without one would not be held by the tests below. Make it: python -m tests.golden.make."""
    version = FORMATS[name].version(fresh[name])

    assert (name, version) in {named(path) for path in FILES}, (
        "run python -m tests.golden.make, and keep the older files"
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_of_an_earlier_version_is_read_as_it_was_or_refused_with_both_versions(
    path: Path, fresh: dict[str, bytes]
) -> None:
    """A format that changes and keeps its number reads old state as nonsense, after an upgrade and not before."""
    name, version = named(path)
    format_, written_now = FORMATS[name], FORMATS[name].version(fresh[name])

    refusal, found = "", None
    try:
        found = format_.read(path)
    except SnapshotError as err:
        refusal = str(err)

    if refusal:
        assert version != written_now, f"{path.name} has the version that is written now, and is refused: {refusal}"
        assert re.search(rf"\b{version}\b", refusal), refusal
        assert re.search(rf"\b{written_now}\b", refusal), refusal
    else:
        wanted = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        assert without_what_is_new(json.loads(json.dumps(plain(found))), wanted) == wanted


def without_what_is_new(found: Any, wanted: Any) -> Any:
    """What was read, without fields that are None because the earlier version did not have them."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return {
            name: without_what_is_new(part, wanted.get(name))
            for name, part in found.items()
            if name in wanted or part is not None
        }
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        return [without_what_is_new(one, other) for one, other in zip(found, wanted, strict=True)]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_file_has_the_version_of_its_name(path: Path) -> None:
    """It was written once and is never made again."""
    name, version = named(path)

    assert FORMATS[name].version(path.read_bytes()) == version
    assert len(path.read_bytes()) < 200_000


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_was_cut_is_refused(name: str, fresh: dict[str, bytes], tmp_path: Path) -> None:
    """A full disk leaves half a file."""
    (tmp_path / "cut").write_bytes(fresh[name][: len(fresh[name]) // 2])

    with pytest.raises((SnapshotError, ValueError)):
        FORMATS[name].read(tmp_path / "cut")


@pytest.mark.parametrize("version", [3, 4])
def test_tasks_of_the_format_before_are_taken_and_go_on(version: int) -> None:
    """That its records can be decoded is not yet that a service can start with them."""
    records = dict(msgspec.msgpack.decode((FOLDER / f"state-{version}.bin").read_bytes()))
    settings = served()[1].engine.settings
    with closing(Engine(settings)) as engine:
        list(engine.handover().take(0, records, "state/0"))
        known = {task.task: task.events for task in engine.tasks()}
        (outcome,) = engine.step([Event({"size": 1.0, "colour": "red"}, "t1", Origin("events", 0, 90), y=1)])
        changed = {key for _, key, _ in engine.handover().changes()}

    assert known == {"t0": 23, "t1": 23, "t2": 22, "t3": 22}
    assert (outcome.rejected, outcome.signal) == (None, Signal.STEADY)
    assert b"task:t1" in changed


def test_what_tasks_remember_for_rolling_features_is_taken_as_it_was_written() -> None:
    """The golden file has 90 events, a minute apart, of four tasks; every fifth has no label."""
    records = dict(msgspec.msgpack.decode((FOLDER / "state-rolling-4.bin").read_bytes()))
    with closing(Engine(served(ROLLING)[1].engine.settings)) as engine:
        list(engine.handover().take(0, records, "state/0"))
        given = [
            Label("85", 1, "t1", Origin("events", 0, 90)),
            Event({"size": 1.0, "colour": "red"}, "t1", Origin("events", 0, 91), ts=1.7e9 + 60 * 91),
        ]
        _, outcome = engine.step(given)

    draws = np.random.default_rng(5)
    sizes = [round(float(draws.normal()), 3) for _ in range(90)]
    past = [sizes[i] for i in (89, 85, 81, 77)]
    assert outcome.event.x == {  # type: ignore[union-attr]  # it is an event
        "size": 1.0,
        "colour": "red",
        "size.lag_1": past[0],
        "size.mean_4": math.fsum(past) / 4,
        "size.count_4": 4.0,
        "size.since": 120.0,
        "colour.lag_1": "blue",
        "label.lag_1": "1",
        "label.since": 360.0,  # of event 85, whose label came last
    }


@pytest.mark.parametrize("version", [3, 4])
def test_a_snapshot_of_the_format_before_is_restored_and_goes_on(version: int) -> None:
    """Likewise of `replay --state`; there no expert was one of the defaults: they begin."""
    found, settings = snapshot.read_snapshot(FOLDER / f"snapshot-{version}.bin"), served()[1].engine.settings
    assert found is not None
    with closing(Engine.restore(settings, found[0])) as engine:
        (outcome,) = engine.step([Event({"size": 1.0, "colour": "red"}, "t1", Origin("events", 0, 90), y=1)])

        assert {task.task: task.events for task in engine.tasks()} == {"t0": 23, "t1": 24, "t2": 22, "t3": 22}
    assert (outcome.rejected, outcome.signal) == (None, Signal.STEADY)
