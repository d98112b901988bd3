"""`streammeta shadow`: the predictions of two applications on the same input, event by event, and their labels."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from streammeta.app.parts import decoder, label_reader
from streammeta.config import Settings
from streammeta.engine.labels import LabelSpace
from streammeta.errors import ConfigError, EventError, TransportError
from streammeta.event import Event, LabelValue, Record
from streammeta.service.result import PREDICTIONS
from streammeta.transport.kafka.topic_log import TopicLog

__all__ = ["Errors", "shadow"]

Doubles: TypeAlias = npt.NDArray[np.float64]
_MOST = 1_000_000  # labelled events that are compared, the last ones


class Errors(NamedTuple):
    """Errors of two applications on the labels [N] of events that both have predicted: 0 or 1, or absolute."""

    ours: Doubles
    theirs: Doubles


class _Said(msgspec.Struct):
    """What is read of a prediction."""

    source: str
    task: str
    id: str | None = None
    prediction: bool | int | float | str | None = None


_DECODER = msgspec.json.Decoder(_Said)


def shadow(settings: Settings, other: str) -> Errors:
    """The errors of the application with these settings, and of the other one of that name, which reads the same input.

    Raises:
        ConfigError: they are the same application.
        TransportError: a topic cannot be read, or they have no labelled event in common.
    """
    name = settings.app.name
    if other == name:
        raise ConfigError(f"shadow {other}: is the application itself; name the one that runs beside it")
    if settings.output.format != "json":
        raise ConfigError(f"shadow {other}: reads predictions in JSON; [output] format is {settings.output.format!r}")
    ours, theirs = (_predictions(settings, f"{one}-{PREDICTIONS}") for one in (name, other))
    of_id = {(said.task, said.id): source for source, said in ours.items() if said.id is not None}
    error = _error(settings)
    found: list[tuple[float, float]] = []
    for source, y in _labels(settings, of_id):
        one, two = ours.get(source), theirs.get(source)
        if one is not None and two is not None:
            found.append((error(one.prediction, y), error(two.prediction, y)))
    if not found:
        raise TransportError(
            f"shadow {other}: {name} has predicted {len(ours):,} events and {other} {len(theirs):,}, and none of those "
            f"that both have has a label in {settings.input.topic}; do both read that topic?"
        )
    errors = np.array(found[-_MOST:], np.float64)
    return Errors(errors[:, 0], errors[:, 1])


def _predictions(settings: Settings, topic: str) -> dict[str, _Said]:
    """What was predicted, by the origin of the event."""
    found = {}
    with closing(TopicLog(settings.kafka, [topic])) as log:
        for record in log.records():
            try:
                said = _DECODER.decode(record.value or b"")
            except msgspec.DecodeError as err:
                raise TransportError(f"{record.origin}: no prediction of streammeta ({err})") from err
            found[said.source] = said
    return found


def _labels(settings: Settings, of_id: dict[tuple[str, str], str]) -> Iterator[tuple[str, LabelValue]]:
    """Labels in the order in which they came, each with the origin of its event."""
    read = decoder(settings)
    for record in _records(settings, settings.input.topic):
        try:
            event = read.decode(record)
        except EventError:  # it is among the dead letters
            continue
        if isinstance(event, Event):
            if event.y is not None:
                yield event.source or str(event.origin), event.y
        elif (event.task, event.id) in of_id:
            yield of_id[event.task, event.id], event.y
    if settings.labels.topic is None:
        return
    read_label = label_reader(settings)
    for record in _records(settings, settings.labels.topic):
        try:
            label = read_label(record)
        except EventError:
            continue
        source = of_id.get((str(label.task or ""), str(label.id)))
        if source is not None and label.y is not None:
            yield source, label.y


def _records(settings: Settings, topic: str) -> Iterator[Record]:
    with closing(TopicLog(settings.kafka, [topic])) as log:
        yield from log.records()


def _error(settings: Settings) -> Callable[[LabelValue | None, LabelValue], float]:
    """0 or 1, or the absolute error; NaN where nothing was predicted."""
    if settings.app.kind == "classification":
        space = LabelSpace("classification", settings.memory.max_classes)

        def wrong(prediction: LabelValue | None, y: LabelValue) -> float:
            if prediction is None:
                return np.nan
            return float(space.learn(prediction) != space.learn(y))

        return wrong
    return lambda prediction, y: np.nan if prediction is None else abs(float(prediction) - float(y))
