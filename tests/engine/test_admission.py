"""streammeta.engine.admission: what is known is admitted together, and is the same as admitted one by one."""

import math
from collections.abc import Sequence
from itertools import cycle, product
from typing import Any

import numpy as np
import pytest

from streammeta.engine import Engine, EngineSettings, Outcome
from streammeta.engine.admission import Admission
from streammeta.event import Event, Label, Origin

ODD: list[Any] = [
    *({"a": 1.0, "b": 2.0}, {"b": 2.0, "a": 1.0, "c": 3.0}, {"a": 1.0, "b": None, "c": 3.0}, {}, []),
    *({"a": 1.0, "b": "x", "c": 3.0}, {"a": 1.0, "b": "new", "c": 3.0}, {"a": 1.0, "b": math.inf, "c": 2.0}),
    *({"a": 1.0, "b": 10**400, "c": 2}, {"a": 1.0, "d": 2.0}, {"a": True, "b": 2, "c": -0.0}),
    *([1.0, 2.0, 3.0], [1.0, 2.0], [1.0, math.nan, 3.0], {"a": "\0shared:1"}),
]
EVENTS = 60


def known(engine: Engine, count: int = 40) -> None:
    """Two tasks, three features, one of them with a text once, and two classes."""
    events = [event(i, {"a": float(i % 5), "b": "x" if i == 3 else i % 3, "c": 0.5}) for i in range(count)]
    engine.step(events)


def event(i: int, x: Any, **fields: Any) -> Event:
    y = fields.pop("y", i % 2 if fields.get("kind") != "regression" else float(i))
    fields.pop("kind", None)
    return Event(x, fields.pop("task", f"t{i % 2}"), Origin("s", fields.pop("partition", 0), i), y=y, **fields)


def stepped(engine: Engine, events: Sequence[Event | Label], poll: int) -> list[Outcome]:
    return [outcome for i in range(0, len(events), poll) for outcome in engine.step(events[i : i + poll])]


def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Admission, "_admit_known", lambda *_: 0)


def streams() -> dict[str, list[Event | Label]]:
    """Events of what is known, with one that is odd here and there."""
    draw = np.random.default_rng(7)

    def usual(i: int, **fields: Any) -> Event:
        return event(i, {"a": draw.normal(), "b": draw.normal(), "c": 1.0}, **fields)

    found: dict[str, list[Event | Label]] = {}
    for number, x in enumerate(ODD):
        found[f"features {number}"] = [event(i, x) if i % 9 == 4 else usual(i) for i in range(EVENTS)]
    found["lists"] = [event(i, [draw.normal(), draw.normal()]) for i in range(EVENTS)]
    found["labels"] = [usual(i, y=[0, 1, True, "1", 1.0, None, 7, "cat", 0.5, math.nan][i % 10]) for i in range(EVENTS)]
    late: list[Event | Label] = []
    for i in range(EVENTS):
        late.append(usual(i, y=None, id=f"e{i}") if i % 3 else usual(i, id=f"e{i}"))
        if i > 10 and (i - 10) % 3:
            late.append(Label(f"e{i - 10}", i % 2, "", Origin("labels", 0, i)))
    found["late labels"] = late
    found["times"] = [usual(i, ts=[1e9 + i, None, 1e9 + 3 * i, 5.0][i % 4]) for i in range(EVENTS)]
    found["tasks"] = [usual(i, task=f"t{i * i % 11}") for i in range(EVENTS)]
    found["partitions"] = [usual(i, partition=i // 7 % 3) for i in range(EVENTS)]
    found["no task"] = [usual(i, task="") for i in range(EVENTS)]
    return found


MEMORY: list[dict[str, Any]] = [
    {},
    {"max_tasks": 2},
    {"max_known_tasks": 3},
    {"forget_after": 6},
    {"forget_after": "20s"},
]
CASES = [*zip(streams(), cycle(MEMORY), strict=False), *product(("times", "tasks", "late labels"), MEMORY)]


@pytest.mark.parametrize(("name", "memory"), CASES)
def test_what_is_admitted_together_is_what_is_admitted_one_by_one(
    name: str, memory: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiled loop takes only what it is sure of; it leaves the rest, and what comes after it."""
    settings = EngineSettings.model_validate({"memory": memory, "meta": {"mode": "sync"}})
    events, engines = streams()[name], [Engine(settings) for _ in range(3)]
    for engine in engines:
        known(engine)
    together, in_ones = stepped(engines[0], events, 16), stepped(engines[1], events, 1)
    one_by_one(monkeypatch)
    slowly = stepped(engines[2], events, 16)

    assert together == slowly == in_ones
    states = [engine.snapshot() for engine in engines]
    headers = [repr(state.header) for state in states]  # NaN is itself there
    assert headers[0] == headers[1] == headers[2]
    for name_, array in states[0].arrays.items():
        for other in states[1:]:
            np.testing.assert_array_equal(array, other.arrays[name_], err_msg=name_)


def test_targets_are_admitted_together_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole numbers, numbers beyond what a float holds, texts and truth values among them."""
    settings = EngineSettings(kind="regression")
    values: list[Any] = [1.5, 2, None, -3.0, 10**400, "4", True, math.inf, 1e30, 0]
    events = [event(i, {"a": float(i % 7), "b": 1.0}, y=values[i % 10]) for i in range(EVENTS)]
    engines = [Engine(settings), Engine(settings)]

    together = stepped(engines[0], events, 16)
    one_by_one(monkeypatch)
    slowly = stepped(engines[1], events, 16)

    assert together == slowly
    assert sum(outcome.rejected is not None for outcome in together) == EVENTS // 10 * 3
