"""What goes out: predictions, signals and dead letters, as messages for a sink."""

from collections.abc import Iterator, Mapping

import msgspec

from streammeta.decisions.outcome import DecisionOutcome
from streammeta.engine import Outcome, Signal
from streammeta.event import Event, Record, first_origin, time_made
from streammeta.transport.base import Message

__all__ = [
    "CHANNELS",
    "DEAD_LETTERS",
    "EPISODES",
    "PREDICTIONS",
    "SIGNALS",
    "STATE",
    "TABLES",
    "TIMESTAMP_HEADER",
    "WEIGHTS",
    "dead_letter",
    "messages",
    "theta_refused",
]

PREDICTIONS = "predictions"
SIGNALS = "signals"
DEAD_LETTERS = "dead-letters"
STATE = "state"
WEIGHTS = "weights"
EPISODES = "episodes"
TIMESTAMP_HEADER = "streammeta-timestamp"  # of a dead letter: when its record was made, seconds since 1970
CHANNELS = (PREDICTIONS, SIGNALS, DEAD_LETTERS)
TABLES = (STATE, WEIGHTS, EPISODES)

_NOTHING: Mapping[str, object] = {}
_JSON = msgspec.json.Encoder()


def messages(outcome: Outcome, more: Mapping[str, object] = _NOTHING) -> Iterator[Message]:
    """A prediction for an event, and a signal where something changed; a late label can only bring a signal.

    Args:
        outcome: of the event or label.
        more: further fields of the prediction.
    """
    key, partition = outcome.event.task.encode() or None, outcome.event.origin.partition
    if isinstance(outcome.event, Event):
        yield Message(PREDICTIONS, _JSON.encode(_prediction(outcome, outcome.event, more)), key, partition=partition)
    if outcome.signal is not Signal.STEADY:
        yield Message(SIGNALS, _JSON.encode(_signal(outcome)), key, partition=partition)


def dead_letter(record: Record, reason: str) -> Message:
    """The record as it came, with the reason, its origin and its time stamp (if it has one) as headers before its own.

    `app.dead_letters` reads them back, to send such records again.
    """
    origin = first_origin(record) or str(record.origin)
    why: tuple[tuple[str, bytes], ...] = (("reason", reason.encode()), ("origin", origin.encode()))
    made = time_made(record)
    if made is not None:
        why = (*why, (TIMESTAMP_HEADER, repr(made).encode()))
    partition = record.origin.partition
    return Message(DEAD_LETTERS, record.value or b"", record.key, (*why, *record.headers), partition)


def theta_refused(version: int | None, reason: str, partition: int) -> Message:
    """A signal of the service itself: a version of θ that it did not adopt. Its task is null, as it concerns all."""
    signal = {
        "id": None,
        "task": None,
        "ts": None,
        "signal": "theta_refused",
        "reason": reason,
        "theta_version": version,
    }
    return Message(SIGNALS, _JSON.encode(signal), None, partition=partition)


def _prediction(outcome: Outcome, event: Event, more: Mapping[str, object]) -> dict[str, object]:
    if isinstance(outcome, DecisionOutcome):
        return _decision(outcome, event)
    said: dict[str, object] = {
        "id": event.id,
        "task": event.task,
        "ts": event.ts,
        "prediction": outcome.prediction,
    }
    if outcome.probabilities is None:
        said["mean"], said["variance"] = outcome.prediction, outcome.variance
    else:
        said["probabilities"] = outcome.probabilities
    if outcome.interval is not None:
        said["lower"], said["upper"] = outcome.interval
    said["signal"], said["theta_version"] = outcome.signal, outcome.theta_version
    said["source"] = event.source or str(event.origin)
    if more:
        said.update(more)
    return said


def _decision(outcome: DecisionOutcome, event: Event) -> dict[str, object]:
    """What was chosen; of a decision made elsewhere only what its action is expected to earn."""
    return {
        "id": event.id,
        "task": event.task,
        "ts": event.ts,
        "action": outcome.action,
        "propensity": outcome.propensity,
        "prediction": outcome.prediction,
        "variance": outcome.variance,
        "propensities": outcome.propensities,
        "scores": outcome.scores,
        "signal": outcome.signal.value,
        "theta_version": outcome.theta_version,
        "source": event.source or str(event.origin),
    }


def _signal(outcome: Outcome) -> dict[str, object]:
    event = outcome.event
    action = {"action": outcome.action} if isinstance(outcome, DecisionOutcome) else {}
    return {
        "id": event.id,
        "task": event.task,
        "ts": event.ts if isinstance(event, Event) else None,
        **action,
        "signal": outcome.signal.value,
        "age": outcome.age,
        "error": outcome.error,
        "theta_version": outcome.theta_version,
        "source": event.source or str(event.origin),
    }
