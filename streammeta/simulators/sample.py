"""One event of a simulated stream, with the truth that a report needs to score drift detection; and late labels."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

__all__ = ["LateLabel", "Sample", "with_late_labels"]

_JSON = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Sample:
    """An event as a producer would send it, and what only the simulator knows about it."""

    x: dict[str, float]  # a missing feature is not there
    y: int | float  # a class from 0, or a regression target
    task: str
    ts: float  # seconds since 1970
    id: str | None = None
    concept: int = 0  # the concept this very label follows; comes back where concepts recur
    drifted: bool = False  # the first event of its task under a new concept, or of the transition into one
    label_after: int | None = 0  # the label comes after this number of further events of the stream; None: never

    def to_json(self) -> bytes:
        """The event as an input record; without the label if that comes late.

        The truth about concepts stays here: a learner must not see it.

        >>> Sample({"x0": 0.5}, y=1, task="task-3", ts=1.5, id="7").to_json()
        b'{"id":"7","task":"task-3","ts":1.5,"x":{"x0":0.5},"y":1}'
        """
        record: dict[str, object] = {"task": self.task, "ts": self.ts, "x": self.x}
        if self.id is not None:
            record = {"id": self.id, **record}
        return _JSON.encode(record if self.label_after != 0 else {**record, "y": self.y})


@dataclass(frozen=True, slots=True)
class LateLabel:
    """The label of an earlier event, when it comes."""

    id: str  # of the event
    y: int | float
    task: str

    def to_json(self) -> bytes:
        """The label as an input record.

        >>> LateLabel("7", y=1, task="task-3").to_json()
        b'{"id":"7","task":"task-3","y":1}'
        """
        return _JSON.encode({"id": self.id, "task": self.task, "y": self.y})


def with_late_labels(samples: Iterable[Sample]) -> Iterator[Sample | LateLabel]:
    """The samples, and between them the labels that come late; those still due at the end come there.

    >>> late = Sample({"x0": 0.5}, y=1, task="a", ts=1.0, id="0", label_after=1)
    >>> print(*(type(one).__name__ for one in with_late_labels([late, late, late])))
    Sample Sample LateLabel Sample LateLabel LateLabel

    Raises:
        ValueError: a label comes late whose event has no `id` to refer to.
    """
    due: list[tuple[int, int, LateLabel]] = []  # a heap by (when, number of the event)
    for number, sample in enumerate(samples):
        yield sample
        if sample.label_after:
            if sample.id is None:
                raise ValueError(f"event {number} of {sample.task}: its label comes late, so it wants an `id`")
            label = LateLabel(sample.id, sample.y, sample.task)
            heapq.heappush(due, (number + sample.label_after, number, label))
        while due and due[0][0] <= number:
            yield heapq.heappop(due)[2]
    while due:
        yield heapq.heappop(due)[2]
