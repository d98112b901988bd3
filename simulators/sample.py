"""One event of a simulated stream, with the truth that a report needs to score drift detection."""

from dataclasses import dataclass

import msgspec

__all__ = ["Sample"]

_JSON = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Sample:
    """An event as a producer would send it, and what only the simulator knows about it."""

    x: dict[str, float]
    y: int | float  # a class from 0, or a regression target
    task: str
    ts: float  # seconds since 1970
    id: str | None = None
    concept: int = 0  # the law this very label follows; comes back where concepts recur
    drifted: bool = False  # the first event of its task under a new law, or of the transition into one

    def to_json(self) -> bytes:
        """The event as an input record; the truth about concepts stays here, a learner must not see it.

        >>> Sample({"x0": 0.5}, y=1, task="task-3", ts=1.5, id="7").to_json()
        b'{"id":"7","task":"task-3","ts":1.5,"x":{"x0":0.5},"y":1}'
        """
        record: dict[str, object] = {"task": self.task, "ts": self.ts, "x": self.x, "y": self.y}
        return _JSON.encode(record if self.id is None else {"id": self.id, **record})
