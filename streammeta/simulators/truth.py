"""What only the simulator knows: where concepts changed; and how well alarms found it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from streammeta.errors import TransportError
from streammeta.simulators.sample import Sample

__all__ = ["Alarm", "Detection", "Drift", "detection", "noted", "read_truth"]


class Drift(msgspec.Struct, frozen=True):
    """A task's concept changed, or began to."""

    event: int  # number of the first event of the task under the new concept, or of the transition into it
    task: str
    concept: int  # the concept after the change


@dataclass(frozen=True, slots=True)
class Alarm:
    """Somebody said that a task's concept had changed."""

    event: int  # number of the event after which it was said
    task: str


@dataclass(frozen=True, slots=True)
class Detection:
    """How well alarms found drifts."""

    found: int  # drifts with an alarm in time
    missed: int
    false_alarms: int  # alarms that found nothing new
    delays: tuple[int, ...]  # of each drift found, in order: events of its task from the drift's first to the alarm's

    @property
    def mean_delay(self) -> float | None:
        """None when nothing was found."""
        return sum(self.delays) / len(self.delays) if self.delays else None


def noted(samples: Iterable[Sample], to: Path) -> Iterator[Sample]:
    """The samples; where a concept changes, a line goes into the file ``to``.

    Raises:
        TransportError: the file cannot be written.
    """
    encode = msgspec.json.Encoder().encode
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        with to.open("wb") as lines:
            for number, sample in enumerate(samples):
                if sample.drifted:
                    lines.write(encode(Drift(number, sample.task, sample.concept)) + b"\n")
                    lines.flush()
                yield sample
    except OSError as err:
        raise TransportError(f"--truth {to}: cannot be written ({err}); name another file") from err


def read_truth(path: Path) -> list[Drift]:
    """The drifts that `noted` wrote.

    Raises:
        TransportError: the file cannot be read, or is not such a file.
    """
    decode = msgspec.json.Decoder(Drift).decode
    try:
        return [decode(line) for line in path.read_bytes().splitlines()]
    except (OSError, msgspec.DecodeError) as err:
        raise TransportError(f"{path}: not a list of drifts ({err}); wanted what simulate --truth writes") from err


def detection(
    drifts: Iterable[Drift], alarms: Iterable[Alarm], tasks: Sequence[str], *, within: int | None = None
) -> Detection:
    """Score alarms against the truth, each task by itself.

    A drift is found by the first alarm of its task at or after it, before the task's next drift and less than
    ``within`` of the task's events later. Every other alarm is false.

    >>> tasks = ["a", "b"] * 50
    >>> drifts = [Drift(40, "a", 1), Drift(80, "a", 2)]
    >>> found = detection(drifts, [Alarm(50, "a"), Alarm(60, "a"), Alarm(7, "b")], tasks)
    >>> found.found, found.missed, found.false_alarms, found.delays
    (1, 1, 2, (5,))

    Args:
        drifts: the truth.
        alarms: what was said.
        tasks: the task of each event of the stream.
        within: events of the task; None: until its next drift.
    """
    of_task: dict[str, list[int]] = defaultdict(list)  # the alarms' places, counted in events of the task
    starts: dict[str, list[int]] = defaultdict(list)  # and the drifts'
    ages = _ages(tasks)
    for alarm in alarms:
        of_task[alarm.task].append(ages[alarm.event])
    for drift in drifts:
        starts[drift.task].append(ages[drift.event])
    total = sum(map(len, of_task.values()))
    delays = tuple(delay for task, own in starts.items() for delay in _delays(sorted(own), of_task[task], within))
    missed = sum(map(len, starts.values())) - len(delays)
    return Detection(len(delays), missed, total - len(delays), delays)


def _delays(starts: Sequence[int], alarms: Sequence[int], within: int | None) -> Iterator[int]:
    """Of the drifts that were found, for one task."""
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        ends = [end for end in (following, None if within is None else start + within) if end is not None]
        in_time = [alarm for alarm in alarms if start <= alarm and all(alarm < end for end in ends)]
        if in_time:
            yield min(in_time) - start


def _ages(tasks: Sequence[str]) -> list[int]:
    """How many events of its task came before each event."""
    seen: dict[str, int] = defaultdict(int)
    ages = []
    for task in tasks:
        ages.append(seen[task])
        seen[task] += 1
    return ages
