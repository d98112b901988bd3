"""An engine that goes on, beside one that stops and is restored."""

from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

from streammeta.engine import Engine, EngineSettings, Outcome
from streammeta.event import Event, Label

__all__ = ["Stopped", "stopped"]


class Stopped(NamedTuple):
    """The outcomes of the same turns."""

    expected: list[Outcome]  # of the engine that goes on
    found: list[Outcome]  # of that which is restored from its snapshot in between


def stopped(settings: EngineSettings, turns: Sequence[Event | Label], after: int) -> Stopped:
    """Outcomes with and without a stop after this many turns."""
    with closing(Engine(settings)) as whole:
        expected = whole.step(turns)
    with closing(Engine(settings)) as before:
        found = before.step(turns[:after])
        snapshot = before.snapshot()
    with closing(Engine.restore(settings, snapshot)) as again:
        found += again.step(turns[after:])
    return Stopped(expected, found)
