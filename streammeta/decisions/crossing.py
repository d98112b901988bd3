"""An event's features crossed with an action: what a feature means for one action, learned for all tasks at once."""

from typing import NamedTuple

from streammeta.engine.features import FeatureSpace, Filled
from streammeta.engine.settings import ACTION_OF
from streammeta.event import Feature, Origin

__all__ = ["Crossed", "crossed"]


class Crossed(NamedTuple):
    """The slots of an event's features, and of the same under one action."""

    slots: tuple[int, ...]  # [n + m] the event's n, then the m ≤ n that there was capacity for
    places: tuple[int, ...]  # [m] which of the event's each of those repeats

    def beside(self, filled: Filled) -> Filled:
        """The event's features, then the same values in the slots of the action."""
        values = filled.values
        return Filled(self.slots, [*values, *(values[i] for i in self.places)])


def crossed(features: FeatureSpace, slots: tuple[int, ...], action: str, at: Origin | str) -> Crossed:
    """The slots that features have under an action; one is made where there was none, while there is capacity.

    They are called NAME→ACTION, and their weights depend on nothing but that name and the seed.
    """
    known = features.slots
    named: list[dict[str, Feature]] = [
        {f"{known[slot].name}{ACTION_OF}{action}": 1.0 if known[slot].value is None else known[slot].value}
        for slot in slots
    ]
    together: dict[str, Feature] = {name: value for one in named for name, value in one.items()}
    own, _ = features.read(together, at)
    places = tuple(range(len(slots)))
    if len(own) < len(slots):  # not all found a place: which did?
        found = [features.read(one, at).slots for one in named]
        places = tuple(i for i, one in enumerate(found) if one)
        own = tuple(one[0] for one in found if one)
    return Crossed((*slots, *own), places)
