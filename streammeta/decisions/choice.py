"""One decision: what its record says can be done, and what its actions' heads see."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from streammeta.decisions.outcome import joined
from streammeta.engine.features import FeatureSpace, Filled
from streammeta.engine.settings import ACTION_OF, OF_ACTION, DecideSettings
from streammeta.errors import EventError
from streammeta.event import Event, Feature, Origin

__all__ = ["Actions", "Choice", "action_in", "actions_of", "named_action", "own_features", "tags_of"]

Actions: TypeAlias = Mapping[str, Mapping[str, Feature]]  # by name, with features of their own

_MOST, _LONGEST, _SHOWN = 1_000, 1_000, 200


@dataclass(slots=True)
class Choice:
    """A decision to make: the k-th of its K actions is learned by the task ``tags[k]``, in row ``rows[k]``."""

    event: Event
    actions: Actions  # [K]
    tags: Sequence[str]  # [K]
    rows: list[int]  # [K]; −1: nothing was learned of it
    before: int  # decisions of its task before it that are made together with it
    filled: Sequence[Filled] = ()  # what the heads see: [1] the same for all but for the action itself, or [K]
    taken: int = -1  # the action chosen
    propensities: list[float] = field(default_factory=list)  # [K]
    scores: list[float] = field(default_factory=list)  # [K]


def actions_of(event: Event, configured: Actions) -> Actions:
    """What can be done: what the event says (`actions`: names, or names with features), else the configuration.

    Raises:
        EventError: it is neither, or there are less than two.
    """
    given = event.actions
    if given is None:
        if not configured:
            raise EventError(
                f"{event.origin}: no `actions`, and [decide] actions names none; wanted at least two in one of them"
            )
        return configured
    found: dict[str, Mapping[str, Feature]] = {}
    if isinstance(given, Mapping):
        found = {named_action(name, event.origin): _features(own, name, event.origin) for name, own in given.items()}
    elif isinstance(given, Sequence) and not isinstance(given, str):
        found = {named_action(name, event.origin): {} for name in given}
    if not 2 <= len(found) <= _MOST or len(found) < len(given):
        raise EventError(
            f"{event.origin}: `actions` is {str(given)[:_SHOWN]}; wanted a list of 2 to {_MOST:,} different names, or "
            "an object with the features of each"
        )
    return found


def named_action(name: object, at: Origin) -> str:
    """An action's name as text.

    Raises:
        EventError: it is none.
    """
    text = str(name) if isinstance(name, str | int) and not isinstance(name, bool) else ""
    if not text or len(text) > _LONGEST or ACTION_OF in text:
        raise EventError(
            f"{at}: an action is {str(name)[:_SHOWN]!r}; wanted a name of at most {_LONGEST:,} characters without "
            f"{ACTION_OF!r}"
        )
    return text


def _features(own: object, name: object, at: Origin) -> Mapping[str, Feature]:
    if not isinstance(own, Mapping):
        raise EventError(f"{at}: action {str(name)[:_SHOWN]!r} has {str(own)[:_SHOWN]}; wanted an object of features")
    for key, value in own.items():
        if not isinstance(key, str) or len(key) > _LONGEST or not _is_feature(value):
            raise EventError(
                f"{at}: feature {str(key)[:_SHOWN]!r} of action {str(name)[:_SHOWN]!r} is {str(value)[:_SHOWN]!r}; "
                "wanted a number, a flag, a text of at most 1,000 characters or null"
            )
    return own


def _is_feature(value: Any) -> bool:  # noqa: ANN401 whatever a record has there
    return value is None or isinstance(value, int | float) or (isinstance(value, str) and len(value) <= _LONGEST)


def tags_of(task: str, actions: Iterable[str], how: DecideSettings) -> list[str]:
    """By which tasks of the engine these actions of a task are learned [K]."""
    return [task if how.heads == "shared" else joined(task, name) for name in actions]


def action_in(slots: Iterable[int], features: FeatureSpace) -> str | None:
    """The action among features that an event fills; None: there was no slot for it."""
    known = features.slots
    return next((str(known[slot].value) for slot in slots if known[slot].name == ACTION_OF), None)


def own_features(own: Mapping[str, Feature]) -> dict[str, Feature]:
    """The features of an action, named so that they are not taken for those of the event."""
    return {OF_ACTION + key: value for key, value in own.items()}
