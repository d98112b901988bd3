"""`streammeta explain`: what each feature of an event contributed to its prediction, and how its task stands."""

from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from streammeta.engine import Engine, TaskSummary
from streammeta.engine.interval import Bounds
from streammeta.errors import ConfigError, EventError
from streammeta.event import Decoder, Event, LabelValue, Origin, Record
from streammeta.service.contributions import Contribution, attributed, contributions

if TYPE_CHECKING:
    from streammeta.decisions.engine import DecisionEngine

__all__ = ["ActionExplained", "DecisionExplanation", "Explanation", "explain", "explain_decision", "read_event"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a prediction is what it is."""

    task: str
    prediction: LabelValue
    of: str  # what contributions add up to: "probability" of that class, or "mean"
    predicted: float  # that
    without_features: float  # the same with no feature known
    contributions: list[Contribution]  # the largest first
    is_new: bool  # the task has no state yet: the prediction is of what all tasks share
    labelled: int  # labelled events of the task
    drifts: int  # of the task
    recent_error: float | None  # of the task; None: it had no label yet
    median_error: float | None  # of all tasks
    interval: Bounds | None = None  # of the prediction, where the settings say so

    def figures(self) -> dict[str, object]:
        """Ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ActionExplained:
    """How one action of a decision stands."""

    action: str
    expected: float  # reward
    propensity: float  # the probability that it is chosen
    labelled: int  # rewards that the task has had for it; of one head for all actions: for all of them


@dataclass(frozen=True, slots=True)
class DecisionExplanation:
    """Why an action would be chosen."""

    task: str
    best: str  # the action with the highest expected reward, which contributions are of
    predicted: float  # its expected reward
    without_features: float  # the same with no feature of the event known
    contributions: list[Contribution]  # the largest first
    actions: list[ActionExplained]  # the highest expected reward first
    is_new: bool  # the task has no state yet: the scores are of what all tasks share

    def figures(self) -> dict[str, object]:
        """Ready for JSON."""
        return asdict(self)


def read_event(text: str, decoder: Decoder) -> Event:
    """An event as a service would read it.

    Raises:
        ConfigError: it is none.
    """
    try:
        found = decoder.decode(Record(text.encode(), Origin("explain", 0, 0)))
    except EventError as err:
        raise ConfigError(f"{err}; wanted a record as the service reads them") from err
    if not isinstance(found, Event):
        raise ConfigError("explain: the record is a label, wanted an event: it has features")
    return found


def explain(engine: Engine, event: Event, *, seed: int = 0) -> Explanation:
    """Explain what an engine would predict for an event; the engine stays as it is.

    Args:
        engine: as it would predict it.
        event: its label is not looked at.
        seed: of the orders, where there are too many to go through all.

    Raises:
        ConfigError: the event cannot be predicted: the engine refuses it, or has learned nothing yet.
    """
    tasks = engine.tasks()
    own = next((task for task in tasks if task.task == event.task), None)
    partition = 0 if own is None else own.partition
    event = msgspec.structs.replace(event, y=None, origin=Origin("explain", partition, 0))
    (whole,) = engine.predict([event])
    if whole.rejected is not None:
        raise ConfigError(f"explain: the event cannot be predicted: {whole.rejected}")
    found = contributions(engine, event, seed=seed)
    if whole.prediction is None or found is None:
        raise ConfigError("explain: no label was learned yet, so there is no prediction; try again after some events")
    return Explanation(
        event.task,
        whole.prediction,
        found.of,
        found.predicted,
        found.without_features,
        found.features,
        own is None,
        0 if own is None else own.labelled,
        0 if own is None else own.drifts,
        _error(own),
        median(known) if (known := [error for task in tasks if (error := _error(task)) is not None]) else None,
        whole.interval,
    )


def explain_decision(engine: "DecisionEngine", event: Event, *, seed: int = 0) -> DecisionExplanation:
    """Explain what an engine would choose for an event, and why that is expected to earn most; nothing changes.

    Args:
        engine: as it would choose.
        event: its reward is not looked at.
        seed: of the orders of features, where there are too many to go through all.

    Raises:
        ConfigError: nothing can be chosen for the event.
    """
    from streammeta.decisions.outcome import joined, parted  # noqa: PLC0415  only a decision service needs them

    decide = engine.settings.decide
    has_one_head = decide is not None and decide.heads == "shared"
    known = {task.task: task for task in engine.tasks()}
    own = [one for tag, one in known.items() if (tag if has_one_head else parted(tag)[0]) == event.task]
    origin = Origin("explain", own[0].partition if own else 0, 0)
    event = msgspec.structs.replace(event, y=None, origin=origin)
    try:
        event = engine.extracted(event)
        propensities, scores = engine.propensities(event, extracted=True)
    except EventError as err:
        raise ConfigError(f"explain: nothing can be chosen for the event: {err}") from err
    best = max(scores, key=lambda action: scores[action])
    found = attributed(event, lambda part: engine.propensities(part, extracted=True)[1][best], seed=seed)

    def labelled(action: str) -> int:
        one = known.get(event.task if has_one_head else joined(event.task, action))
        return 0 if one is None else one.labelled

    actions = [ActionExplained(name, scores[name], propensities[name], labelled(name)) for name in scores]
    return DecisionExplanation(
        event.task,
        best,
        scores[best],
        found.without_features,
        found.features,
        sorted(actions, key=lambda one: -one.expected),
        not own,
    )


def _error(task: TaskSummary | None) -> float | None:
    return None if task is None or np.isnan(task.error) else task.error
