"""Labels corrected later, with `[labels] on_second = "relearn"`: the event's label in its task's window is replaced.

φ is then derived again from the window, by the code that learned it: it becomes what it would be, had the right label
come first, as far as the window reaches. What was made of the wrong label beside φ stays: θ, drifts that it signalled,
the scale of targets until it is looked at next, errors counted, and experts (the forest, persistence), which cannot
unlearn.

The column ``window_id`` [T, W] has a number of each labelled event's id, at its place in the window; 0: it has no id.
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from streammeta.engine.buffer import relabel
from streammeta.engine.columns import Columns
from streammeta.engine.memory import Memory
from streammeta.engine.outcome import Correction
from streammeta.engine.staleness import mark_derived
from streammeta.errors import EventError
from streammeta.event import Label
from streammeta.meta.base import Ints

__all__ = ["correct", "note_ids"]

_SHOWN = 100  # characters of an id or a tag that a message repeats


def note_ids(columns: Columns, rows: Ints, ids: Sequence[str | None]) -> None:
    """Note the ids of events [N] that go into the windows of these rows [N] next, in this order."""
    ring, counts, ahead = columns.window_id, columns.window_count, dict[int, int]()
    for row, id_ in zip(rows.tolist(), ids, strict=True):
        k = ahead.get(row, 0)
        ahead[row] = k + 1
        ring[row, (int(counts[row]) + k) % ring.shape[1]] = _number(id_)


def correct(memory: Memory, label: Label) -> Correction:
    """Put a label in the place of one that was learned before, and derive φ again; the same label changes nothing.

    Raises:
        EventError: no event of that id is in the window of the task that the label names.
    """
    assert label.y is not None  # a label has one
    key = label.origin.partition, label.task or ""
    row, place = _find(memory, label)
    y = memory.labels.admit(label.y, label.origin)
    if memory.labels.is_new(y):
        memory.labels.learn(y)
        memory.grow()
    columns = memory.tasks.columns
    if relabel(columns, row, place, memory.labels.number(y)):
        memory.tasks.mark_changed(key)
        memory.corrected.add(key)
        memory.response.derive(memory.fixed, columns, np.array([row]), memory.labels.outputs)
        mark_derived(columns, row, memory.shared.stamp)
    memory.counts.corrected += 1
    return Correction(label, theta_version=memory.shared.version)


def _find(memory: Memory, label: Label) -> tuple[int, int]:
    """The row of a label's task, and the place in its window of the last event of that id."""
    tag, partition = label.task or "", label.origin.partition
    said = f"{label.origin}: a second label for id {label.id[:_SHOWN]!r}, but"
    if memory.tasks.find(partition, [tag]) == [-1]:
        wanted = f"no task {tag[:_SHOWN]!r} is known" if tag else "it names no task; wanted the event's `task`"
        raise EventError(f"{said} {wanted}, and no event of that id waits for its first label")
    row = memory.tasks.recall((partition, tag))
    columns = memory.tasks.columns
    size, count = columns.window_id.shape[1], int(columns.window_count[row])
    places = np.arange(count - 1, max(count - size, 0) - 1, -1) % size
    found = places[columns.window_id[row, places] == _number(label.id)]
    if not found.size:
        raise EventError(
            f"{said} its event is not among the last {size} labelled ones of its task ([memory] window): it never had "
            "a label, or is too old to be learned again"
        )
    return row, int(found[0])


def _number(id_: str | None) -> int:
    """An id as 64 bits; no other id has the same but by a chance of 1 in 10^19 for each pair."""
    if id_ is None:
        return 0
    return int.from_bytes(blake2b(id_.encode(errors="surrogatepass"), digest_size=8).digest(), signed=True) or 1
