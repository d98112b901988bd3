"""What the heads of actions see of an event: its features, these again crossed with the action, and the action."""

from itertools import chain

import numpy as np
import numpy.typing as npt

from streammeta.decisions.choice import Actions, own_features
from streammeta.decisions.crossing import Crossed, crossed
from streammeta.decisions.scoring import ActionSlots
from streammeta.engine.features import FeatureSpace, Filled
from streammeta.engine.settings import ACTION_OF
from streammeta.event import Event, Origin

__all__ = ["ActionInputs"]

_MOST = 1024  # patterns of slots that are remembered
_NO_INTS = np.zeros(0, np.int64)


class ActionInputs:
    """The slots of features, of actions, and of features crossed with actions.

    Args:
        features: where slots are given out.
        configured: the actions of the configuration.
        most: features crossed with actions of one event, at most; else it has none.
    """

    def __init__(self, features: FeatureSpace, configured: Actions, most: int) -> None:
        self._features, self._configured, self._most = features, configured, most
        self._named: dict[str, tuple[int, ...]] = {}  # of the feature that is an action's name
        self._crossed: dict[tuple[int, ...], list[Crossed]] = {}  # by an event's slots: of each configured action
        self._slots = ActionSlots(_NO_INTS, np.zeros((len(configured), 0), np.int64))
        self.is_complete = np.zeros(0, np.bool_)

    def fill(self, event: Event, actions: Actions) -> list[Filled]:
        """What heads see of an event [1], or of each action where they differ [K], but for the actions themselves.

        Names that were never seen get slots: first of actions, then of the event, then of both together.
        """
        features = self._features
        for name in actions:
            if name not in self._named:
                self._named[name], _ = features.read({ACTION_OF: name}, event.origin)
        base = features.read(event.x, event.origin)
        if not any(actions.values()):
            return self._fill_crossed(base, actions, event.origin)
        own = [features.read(own_features(one), event.origin) for one in actions.values()]
        return [Filled((*base.slots, *one.slots), [*base.values, *one.values]) for one in own]

    def with_action(self, filled: Filled, name: str) -> Filled:
        """The same, and the feature that is the action; by ascending slots."""
        named = self._named[name]
        numbers = dict(zip((*filled.slots, *named), (*filled.values, *(1.0 for _ in named)), strict=True))
        return Filled(tuple(sorted(numbers)), [float(numbers[slot]) for slot in sorted(numbers)])

    def seen_by(self, features: FeatureSpace, event: Event, actions: Actions) -> list[Filled]:
        """What heads would see of an event [K]; only ``features`` gives out slots."""
        filled = []
        for name, own in actions.items():
            parts = [features.read(x, event.origin) for x in ({ACTION_OF: name}, event.x, own_features(own))]
            if not any(actions.values()) and self._is_crossed(parts[1], actions):
                parts[1] = crossed(features, parts[1].slots, name, event.origin).beside(parts[1])
            slots, values = (chain.from_iterable(one) for one in zip(*parts, strict=True))
            filled.append(Filled(tuple(slots), list(values)))
        return filled

    # -- as arrays -----------------------------------------------------------------------------------------------------

    def slots(self) -> ActionSlots | None:
        """The slots of the configured actions, over all D that there are now; None: some have none yet.

        ``is_complete`` [D] says which features have all the slots under actions that they will ever have.
        """
        if len(self.is_complete) == len(self._features):
            return self._slots
        if not self._configured or not self._named.keys() >= self._configured.keys():
            return None
        named = np.array([(*self._named[name], -1)[0] for name in self._configured], np.int64)
        known, slot_of, D = self._features.slots, self._features.pattern.slot_of, len(self._features)
        found = np.full((len(named), D), -1)
        found[:, : len(self.is_complete)] = self._slots.crossed
        complete = np.zeros(D, np.bool_)
        complete[: len(self.is_complete)] = self.is_complete
        taken = {*found[found >= 0].tolist(), *named.tolist()}
        for d in np.flatnonzero(~complete).tolist():
            if d in taken:  # made for an action
                continue
            slot = known[d]
            found[:, d] = [slot_of.get((f"{slot.name}{ACTION_OF}{name}", slot.value), -1) for name in self._configured]
            complete[d] = self._features.max_features <= D or found[:, d].min() >= 0
            taken.update(found[:, d].tolist())
        self._slots, self.is_complete = ActionSlots(named, found), complete
        return self._slots

    def are_crossed(self, there: npt.NDArray[np.bool_]) -> bool:
        """Whether features of an event of which these [D] are there are crossed with the configured actions."""
        return 0 < int(np.count_nonzero(there)) * len(self._configured) <= self._most

    # -- one by one ----------------------------------------------------------------------------------------------------

    def _fill_crossed(self, base: Filled, actions: Actions, at: Origin) -> list[Filled]:
        """An event's features, and beside them each again as a feature of its own for the action [K]; else as they are.

        Without these a unit of the encoder must find for each action what a feature means with it.
        """
        if not self._is_crossed(base, actions):
            return [base]
        found = self._crossed.get(base.slots)
        if found is None:
            if len(self._crossed) >= _MOST:
                self._crossed.clear()
            found = [crossed(self._features, base.slots, name, at) for name in self._configured]
            self._crossed[base.slots] = found
        if len(actions) < len(found):  # one that was made elsewhere
            found = [one for one, name in zip(found, self._configured, strict=True) if name in actions]
        return [one.beside(base) for one in found]

    def _is_crossed(self, filled: Filled, actions: Actions) -> bool:
        known = len(self._configured)
        return 0 < known * len(filled.slots) <= self._most and actions.keys() <= self._configured.keys()
