"""One event or label on its way through a step."""

from dataclasses import dataclass

from streammeta.engine.features import Filled
from streammeta.engine.labels import Waiting
from streammeta.event import Event, Label

__all__ = ["Item"]


@dataclass(slots=True)
class Item:
    """One event or label on its way through a step."""

    at: int  # its place in the batch
    source: Event | Label
    row: int
    task: str
    filled: Filled
    waits: Waiting | None  # the event whose label this is, or this event while it has none
    is_new_task: bool
    judged: tuple[int, float, float] | None = None  # its task's labels before, loss and error in spreads of its target
