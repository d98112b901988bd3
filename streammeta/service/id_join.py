"""Labels that name an event's id and no task, joined to the event's task: a foreign-key join over the topic NAME-ids.

Both sides write to that topic, keyed by id: events their task, in the transaction that sends the event on, labels
themselves. So all of an id is in one partition, and a label that is sent on from there comes after its event.

What is remembered is a function of the last ``window`` offsets of a partition, and of nothing else: who takes it over
reads the last 2·``window`` of them again, and a few more for the ends of transactions, which have offsets, too: then it
knows what the owner before knew (a label of the window has its event at most another window before it).
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from streammeta.event import KEY_HEADER, LABEL_HEADER, ORIGIN_HEADER, RawEvent, Record
from streammeta.service.threads import IDS, REPARTITION
from streammeta.transport.base import Message

__all__ = ["IdJoin", "event_of", "label_of"]

_JOIN_HEADER = "streammeta-join"  # of a label in NAME-ids: what it says, in the README's shape; events have none
_BETWEEN = 1_000  # offsets between two records that may be ends of transactions
_SHOWN = 100  # characters of an id or a tag that a message repeats
_NO_EVENT = "and no event of that id came, before it or after ([memory] max_waiting)"
_NO_EVENT_LEFT = (
    "and no event of that id is known: its event may have been before offset {begin} of NAME-ids, where the topic's "
    "retention cut it, and the label may have been learned then; raise the topic's retention.ms"
)
_LISTED = 3  # tasks that a message names
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(RawEvent).decode


def event_of(id_: str, task: str) -> Message:
    """The note that an event of this id is of this task."""
    return Message(IDS, task.encode(), id_.encode())


def label_of(record: Record, raw: RawEvent) -> Message:
    """A label that waits for its task, as it came, and what it says."""
    origin = (ORIGIN_HEADER, str(record.origin).encode())
    said = (_JOIN_HEADER, _encode({"id": raw.id, "y": raw.y}))
    key = () if record.key is None else ((KEY_HEADER, record.key),)
    return Message(IDS, record.value, str(raw.id).encode(), (*record.headers, origin, *key, said))


class _Label(NamedTuple):
    """A label, come before its event."""

    offset: int
    record: Record
    id: bytes


class _Window:
    """What the last offsets of one partition say."""

    def __init__(self, begin: int) -> None:
        self.begin = begin  # what was before it is not known; 0: all is
        self.tasks: dict[
            bytes, dict[bytes, int]
        ] = {}  # id -> the tasks that have an event of it, and where the last is
        self.events: deque[tuple[int, bytes, bytes]] = deque()
        self.waiting: dict[bytes, list[_Label]] = {}
        self.labels: deque[_Label] = deque()  # all that waited, in their order; some have gone on since


class IdJoin:
    """Remembers which task has an event of which id, and which labels wait for one.

    Args:
        window: offsets of a partition for which an event and a label wait for each other, ≥ 1.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._partitions: dict[int, _Window] = {}

    @property
    def replayed(self) -> int:
        """Offsets before a partition's next one that have to be taken again when it comes."""
        return 2 * self._window + _BETWEEN

    @property
    def waiting(self) -> int:
        """Labels whose event has not come yet."""
        return sum(len(labels) for one in self._partitions.values() for labels in one.waiting.values())

    def forget(self, partition: int) -> None:
        """Know nothing of a partition: it went."""
        self._partitions.pop(partition, None)

    def begin(self, partition: int, *, position: int, log_begin: int) -> int:
        """Know nothing of a partition, as it is read again; returns from where on.

        Args:
            partition: that came.
            position: its next offset.
            log_begin: the first offset that its log still holds. Where that is inside the window, a label may have had
                its event before it: this is said where it is refused.
        """
        first = max(0, position - self.replayed)
        is_cut = first < log_begin
        self._partitions[partition] = _Window(log_begin if is_cut else 0)
        return min(max(first, log_begin), position)

    def take(self, record: Record) -> Sequence[Message]:
        """What goes on because of a record of NAME-ids: labels under their task, or to be set aside, with the reason.

        A label goes on when one task has an event of its id. It is refused where several have, and where no event came
        within the window.
        """
        known = self._partitions.setdefault(record.origin.partition, _Window(0))
        id_, offset = record.key or b"", record.origin.offset
        out = self._expire(known, offset - self._window)
        said = next((value for name, value in record.headers if name == _JOIN_HEADER), None)
        if said is None:
            task = record.value or b""
            known.tasks.setdefault(id_, {})[task] = offset
            known.events.append((offset, id_, task))
            out += [_joined(label.record, task) for label in known.waiting.pop(id_, ())]
            return out
        tasks = known.tasks.get(id_)
        if tasks is None:
            label = _Label(offset, record, id_)
            known.waiting.setdefault(id_, []).append(label)
            known.labels.append(label)
        elif len(tasks) == 1:
            out.append(_joined(record, *tasks))
        else:
            out.append(_refused(record, f"without a task, but events of that id are in {_listed(list(tasks))}"))
        return out

    def _expire(self, known: _Window, before: int) -> list[Message]:
        """Forget what is older than the window; labels of it are refused."""
        while known.events and known.events[0][0] < before:
            offset, id_, task = known.events.popleft()
            tasks = known.tasks[id_]
            if tasks.get(task) == offset:
                del tasks[task]
                if not tasks:
                    del known.tasks[id_]
        out = []
        while known.labels and known.labels[0].offset < before:
            label = known.labels.popleft()
            waiting = known.waiting.get(label.id, [])
            if label in waiting:
                waiting.remove(label)
                if not waiting:
                    del known.waiting[label.id]
                is_sure = known.begin == 0 or label.offset - self._window >= known.begin
                out.append(_refused(label.record, _NO_EVENT if is_sure else _NO_EVENT_LEFT.format(begin=known.begin)))
        return out


def _joined(record: Record, task: bytes) -> Message:
    raw = _decode(dict(record.headers)[_JOIN_HEADER])
    content = _encode({"id": raw.id, "task": task.decode(), "y": raw.y})
    origin = next(one for one in reversed(record.headers) if one[0] == ORIGIN_HEADER)
    return Message(REPARTITION, content, task, (origin, (LABEL_HEADER, b"")))


def _refused(record: Record, why: str) -> Message:
    """The label as its producer sent it, with the reason, to be set aside where all are."""
    reason = f"a label for id {(record.key or b'').decode()[:_SHOWN]!r} {why}"
    key = next((value for name, value in reversed(record.headers) if name == KEY_HEADER), None)
    headers = [one for one in record.headers if one[0] not in (KEY_HEADER, _JOIN_HEADER)]
    return Message(REPARTITION, record.value, key, (*headers, (LABEL_HEADER, reason.encode())))


def _listed(tasks: Sequence[bytes]) -> str:
    shown = ", ".join(f"task {task.decode()[:_SHOWN]!r}" if task else "no task" for task in tasks[:_LISTED])
    more = f" and {len(tasks) - _LISTED} more" if len(tasks) > _LISTED else ""
    return f"{len(tasks)} tasks ({shown}{more}); name the `task` with the label, or give every event an id of its own"
