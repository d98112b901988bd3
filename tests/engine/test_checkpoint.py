"""What is damaged is refused by name and changes nothing; what is a fault of ours is not called damage."""

import copy
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from streammeta.engine import Engine, EngineSettings
from streammeta.engine.snapshot import Snapshot
from streammeta.engine.weights import decode_weights, encode_weights
from streammeta.errors import SnapshotError
from streammeta.event import Event, Origin

SETTINGS = EngineSettings.model_validate(
    {"kind": "classification", "meta": {"escalate_events": 20}, "learner": {"experts": ["persistence"]}}
)


# not there where it was off, and the setting may change; not there in what was saved before there were pools
OPTIONAL = {"escalation.ages", "pool.exponents@0", "pool.stream@0", "linear.model@0"}


def engine_after(events: int, seed: int = 0) -> Engine:
    engine, random = Engine(SETTINGS), np.random.default_rng(seed)
    for i in range(events):
        x = {"a": random.standard_normal(), "b": "red" if i % 3 else "blue"}
        y = int(x["a"] > 0) if i % 5 else None
        engine.step([Event(x, f"t{i % 3}", Origin("in", 0, i), y=y, id=str(i))])
    return engine


@pytest.fixture(scope="module")
def saved() -> Snapshot:
    engine = engine_after(80)
    found = engine.snapshot()
    engine.close()
    return Snapshot(msgspec.msgpack.decode(msgspec.msgpack.encode(found.header)), found.arrays)


def _drop(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda header: header.pop(name)


def _set(value: object, *path: Any) -> Callable[[dict[str, Any]], None]:
    def change(header: Any) -> None:
        for step in path[:-1]:
            header = header[step]
        header[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_drop("counts"), "missing required field `counts`"),
        (_set("three", "counts", "seen"), r"Expected `int`, got `str` - at `\$.counts.seen`"),
        (_set(-1, "counts", "events"), r"Expected `int` >= 0 - at `\$.counts.events`"),
        (_set([["a", None]], "features", "slots"), r"at `\$.features.slots\[0\]`"),
        (_set(None, "waiting"), r"Expected `object`, got `null` - at `\$.waiting`"),
        (_set(b"123", "waiting", "events", 0, 4), "a waiting event that does not fit its slots"),
        (_set([99], "waiting", "events", 0, 3), "a waiting event that does not fit its slots"),
        (_set([10**6], "recent", "ring"), "a recent task that is not in memory"),
        (_set(10**6, "spilled"), "more tasks spilled than there are"),
        (_set([0, 0], "classes"), "a class twice"),
        (_set("MT19937", "random", "bit_generator"), r"Invalid enum value 'MT19937' - at `\$.random.bit_generator`"),
        (_set("12x", "random", "state", "inc"), r"at `\$.random.state.inc`"),
        (_set("9" * 39, "random", "state", "inc"), "more than 128 bits"),
        (_set(["a"], "shared", "own"), r"at `\$.shared.own\[0\]`"),
        (_set([60_000], "shared", "own"), "own views of slots"),
    ],
)
def test_a_header_that_no_engine_wrote_is_refused_with_its_place(
    saved: Snapshot, change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    """Wrong types, counts, references: each with the place, so that one sees whether it is the file or the program."""
    header = copy.deepcopy(saved.header)
    change(header)

    with pytest.raises(SnapshotError, match=reason):
        Engine.restore(SETTINGS, Snapshot(header, saved.arrays))


@pytest.mark.parametrize("damage", ["missing", "shape", "dtype", "nan"])
def test_every_array_that_is_missing_of_another_shape_or_type_or_not_finite_is_refused(
    saved: Snapshot, damage: str
) -> None:
    """One array after the other: any that went unchecked would be a KeyError, or silent nonsense, on a bad day."""
    for name, array in saved.arrays.items():
        arrays = dict(saved.arrays)
        if damage == "missing":
            if name in OPTIONAL:
                continue
            del arrays[name]
        elif damage == "shape":
            arrays[name] = np.zeros((7, *array.shape), array.dtype)
        elif damage == "dtype":
            arrays[name] = array.astype("S8")
        elif array.dtype.kind == "f" and array.size:
            arrays[name] = np.full_like(array, np.nan)
        else:
            continue
        with pytest.raises(SnapshotError):
            Engine.restore(SETTINGS, Snapshot(saved.header, arrays))


def test_a_fault_of_the_program_is_not_called_damage(saved: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads "damaged" throws a good snapshot away."""

    def broken(*_: object) -> None:
        raise AttributeError("a fault of ours")

    monkeypatch.setattr("streammeta.engine.rhythm.Rhythm.load", broken)

    with pytest.raises(AttributeError, match="a fault of ours"):
        Engine.restore(SETTINGS, saved)


def test_weights_that_are_refused_change_nothing() -> None:
    """A follower that took half of a θ would predict by what nobody learned, and say nothing."""
    leader, follower = engine_after(120, seed=1), engine_after(60)
    good = encode_weights(leader.shared_weights())
    before, event = follower.snapshot(), Event({"a": 0.3, "b": "red"}, "t1", Origin("in", 0, 999))
    (said,) = follower.predict([event])
    names = sorted(decode_weights(good, "weights/0").arrays)
    for name in names:
        for damage in ("missing", "nan"):
            weights = decode_weights(good, "weights/0")
            if damage == "missing" and name not in OPTIONAL:
                del weights.arrays[name]
            elif weights.arrays[name].dtype.kind == "f" and weights.arrays[name].size:
                weights.arrays[name] = np.full_like(weights.arrays[name], np.nan)
            else:
                continue
            with pytest.raises(SnapshotError):
                follower.adopt(weights, train=True)
    huge = decode_weights(good, "weights/0")
    for name in [name for name in names if name.startswith("theta.")]:
        huge.arrays[name] = np.full_like(huge.arrays[name], 3e38)
    with pytest.raises(SnapshotError, match="too large"):
        follower.adopt(huge, train=True)
    after = follower.snapshot()

    assert msgspec.msgpack.encode(after.header) == msgspec.msgpack.encode(before.header)
    assert after.arrays.keys() == before.arrays.keys()
    for name, array in before.arrays.items():
        np.testing.assert_array_equal(after.arrays[name], array)
    assert follower.predict([event]) == [said]
    follower.adopt(decode_weights(good, "weights/0"), train=True)
    assert follower.stats().theta_version == leader.stats().theta_version
    leader.close()
    follower.close()
