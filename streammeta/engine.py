"""The engine: events in, outcomes out. No I/O, no clock, no global randomness; the one owner of memory.

``Engine.step`` tells the cycle in order: cut the batch where something shared may change, read features into slots,
then round after round (the r-th event of each task) predict, judge, detect drift, adapt, remember. A prediction depends
on θ and on earlier events of the same task, never on how events were grouped into batches; nothing uses a label before
its event was predicted; a restored engine goes on as if nothing had happened.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from streammeta.buffer import RecentRows, SegmentSettings, draw_episodes, push, window
from streammeta.checkpoint import check_fingerprint, random_from, random_state
from streammeta.drift import Detectors, DriftSettings
from streammeta.errors import EventError, SnapshotError
from streammeta.event import Event, Label
from streammeta.features import FeatureSpace, Filled
from streammeta.judge import read, score
from streammeta.labels import LabelSpace, Waiting, WaitingRoom
from streammeta.meta import LearnerSettings, ensemble, exact_heads, outer_step
from streammeta.meta.base import Floats, Kind, Response, Segment
from streammeta.outcome import EngineStats, MetaResult, Outcome, Signal, TaskSummary
from streammeta.persistence import PERSISTENCE_COLUMNS, Persistence
from streammeta.shared import Shared, device
from streammeta.snapshot import Snapshot
from streammeta.taskrow import SUMMARY_COLUMNS, summarize, task_columns
from streammeta.tasks import Column, MemorySettings, TaskKey, TaskTable

__all__ = [
    "Engine",
    "EngineSettings",
    "EngineStats",
    "Kind",
    "MetaResult",
    "MetaSettings",
    "Outcome",
    "Signal",
    "TaskSummary",
]

_SEED_STRIDE = 7919  # between the seeds of an ensemble's members
_HOUSEKEEPING_EVENTS = 1024  # how often the spill is looked after where meta-updates do not set the rhythm
_REBUILD_SHARE = 16  # a window of n events is rebuilt at most once in n / 16 events of its task
_ERROR_EVENTS = 50  # what a task's running error looks back on


class MetaSettings(SegmentSettings, frozen=True, extra="forbid"):
    """When θ learns, and from what."""

    mode: Literal["sync", "background", "off"] = Field(
        "sync", description="In the step (repeatable), in a thread beside it (never stops polling), or not at all."
    )
    every_events: int = Field(16, ge=1, description="Events and labels between two meta-updates.")
    rate: float = Field(3e-3, gt=0, le=1, description="Step size of the outer Adam.")


class EngineSettings(BaseModel, frozen=True, extra="forbid"):
    """Everything the engine can be told."""

    kind: Kind = "classification"
    seed: int = Field(0, ge=0, lt=2**31)
    learner: LearnerSettings = LearnerSettings()
    meta: MetaSettings = MetaSettings()
    drift: DriftSettings = DriftSettings()
    memory: MemorySettings = MemorySettings()


@dataclass(slots=True)
class _Item:
    """One event or label on its way through a step."""

    at: int  # its place in the batch
    source: Event | Label
    row: int
    filled: Filled
    waits: Waiting | None  # the event whose label this is, or this event while it has none
    is_new_task: bool
    persisted: tuple[int, int, int] | None = None  # what Persistence is to keep of it


@dataclass(slots=False)
class _Counts:
    """What has happened since the engine began."""

    seen: int = 0  # events and labels taken in: the clock of all that is shared
    events: int = 0
    labelled: int = 0
    drifts: int = 0
    refused: int = 0
    refused_updates: int = 0  # meta-updates whose numbers were not finite
    meta_begun: int = 0  # seen, when the last meta-update began


class Engine:
    """Predicts, adapts and meta-learns over task-tagged events.

    >>> from streammeta.event import Origin
    >>> engine = Engine(EngineSettings())
    >>> events = [Event({"a": float(i % 2)}, "t", Origin("doc", 0, i), y=i % 2) for i in range(40)]
    >>> outcomes = engine.step(events)
    >>> sum(outcome.error for outcome in outcomes[-20:])
    0.0
    """

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        memory = settings.memory
        self._method = ensemble(
            [
                exact_heads(settings.learner, settings.kind, settings.seed + _SEED_STRIDE * member)
                for member in range(settings.learner.members)
            ]
        )
        self._features = FeatureSpace(memory.max_features)
        self._labels = LabelSpace(settings.kind, memory.max_classes)
        self._waiting = WaitingRoom(memory.max_waiting)
        persists = settings.learner.persistence and settings.kind == "classification"
        self._persistence = Persistence() if persists else None
        self._detectors = Detectors(settings.drift)
        self._recent = RecentRows(settings.meta.recent_events)
        self._tasks = TaskTable(
            self._columns(),
            memory,
            dump_extra=self._detectors.dump,
            load_extra=self._load_detector,
            on_release=self._release,
        )
        self._shared = Shared(self._method)
        self._random = np.random.default_rng(settings.seed)
        self._device = device(settings.learner.device)
        self._counts = _Counts()

    # -- the cycle ---------------------------------------------------------------------------------------------------

    def step(self, events: Sequence[Event | Label]) -> list[Outcome]:
        """Predict, then learn; one outcome for each event or label, in the same order.

        In meta mode "sync", θ is meta-updated after every ``every_events`` of them. What cannot be used comes back with
        ``rejected`` set to the reason, and changes nothing.
        """
        outcomes: list[Outcome | None] = [None] * len(events)
        begin = 0
        while begin < len(events):
            items, begin = self._take(events, begin, outcomes)
            self._part(items, outcomes)
            self._counts.seen += len(items)
            self._between()
        return [outcome for outcome in outcomes if outcome is not None]

    def _take(
        self, events: Sequence[Event | Label], begin: int, outcomes: list[Outcome | None]
    ) -> tuple[list[_Item], int]:
        """Read events on from ``begin`` as far as nothing shared changes, and say where that ends.

        It ends where θ may change next, and before and after a label of a class not seen before. What is refused gets
        its outcome here, and counts for nothing else.
        """
        room = self._next_change() - self._counts.seen
        items: list[_Item] = []
        for at in range(begin, len(events)):
            event = events[at]
            brings_class = self._labels.is_new(event.y)
            if len(items) == room or (brings_class and items):
                return items, at
            try:
                items.append(self._admit(at, event))
            except EventError as err:
                self._counts.refused += 1
                outcomes[at] = Outcome(event, rejected=str(err))
            if brings_class and items:
                return items, at + 1
        return items, len(events)

    def _next_change(self) -> int:
        """How many events and labels will have been seen when something shared may change next."""
        rhythm = self._rhythm()
        return min(self._shared.next_scaling, (self._counts.seen // rhythm + 1) * rhythm)

    def _part(self, items: list[_Item], outcomes: list[Outcome | None]) -> None:
        """A stretch in which nothing shared changes: its rounds, each with at most one event of a task."""
        if not items:
            return
        self._grow()
        xs = self._features.table([item.filled for item in items])
        rounds: list[list[int]] = []
        depth: dict[int, int] = {}
        for i, item in enumerate(items):
            r = depth[item.row] = depth.get(item.row, -1) + 1
            if r == len(rounds):
                rounds.append([])
            rounds[r].append(i)
        for members in rounds:
            self._round([items[i] for i in members], xs[members], outcomes)
        self._observe(items, xs)

    def _admit(self, at: int, event: Event | Label) -> _Item:
        """Find the event's task and slots; raises EventError when it cannot be used."""
        if event.y is not None:
            self._labels.check(event.y, event.origin)
        if isinstance(event, Label):
            waits = self._waiting.leave(event)
            row, _ = self._tasks.touch(waits.key)
            return _Item(at, event, row, waits.filled, waits, is_new_task=False)
        filled = self._features.read(event.x, event.origin)
        key: TaskKey = (event.origin.partition, event.task)
        row, is_new = self._tasks.touch(key)
        self._counts.events += 1
        waiting = None
        if event.y is None and event.id is not None:
            waiting = Waiting(key, filled.slots, np.array(filled.values, np.float32))
            self._waiting.enter(event.id, waiting)
        return _Item(at, event, row, filled, waiting, is_new)

    def _round(self, items: list[_Item], xs: Floats, outcomes: list[Outcome | None]) -> None:
        """Predict for tasks that are all different, then learn those labels that are there."""
        rows = np.array([item.row for item in items], np.int64)
        self._rebuild_stale(rows.tolist())
        columns, outputs = self._tasks.columns, self._labels.outputs
        work = self._method.predict(self._shared.weights, columns, rows, xs, outputs)
        blend = self._persistence.blend(columns, rows, work.mean) if self._persistence else None
        mixed = work.mean if blend is None else blend.mean
        learned, drifted = [], []
        finite = np.isfinite(mixed).all(axis=1) & np.isfinite(work.variance)
        means, variances = mixed.tolist(), work.variance.tolist()
        for i, item in enumerate(items):
            outcome = self._judge(item, means[i], variances[i]) if finite[i] else self._refuse(item)
            outcomes[item.at] = outcome
            if outcome.error is not None:
                learned.append(i)
                if outcome.signal is Signal.DRIFT:
                    drifted.append(item.row)
        if drifted:
            self._restart(drifted)
        if not learned:
            return
        brings_class = self._labels.is_new(items[0].source.y)
        if brings_class:
            self._labels.learn(items[0].source.y)  # type: ignore[arg-type]  # is_new says that it is there
            self._grow()
            columns, outputs = self._tasks.columns, self._labels.outputs
            work = self._method.predict(self._shared.weights, columns, rows, xs, outputs)
        if len(learned) < len(items):
            rows, xs, work = rows[learned], xs[learned], work.of(learned)
        ys = np.array([self._labels.number(items[i].source.y) for i in learned], np.float32)  # type: ignore[arg-type]
        self._method.adapt(self._shared.weights, columns, rows, work, ys)
        if self._persistence and blend is not None:
            counts = self._persistence.learn(columns, rows, blend.parts[learned], ys.astype(np.int64))
            for i, count in zip(learned, counts, strict=True):
                items[i].persisted = count
        push(columns, rows, xs, ys)
        columns["since"][rows] += 1
        self._counts.labelled += len(learned)

    def _refuse(self, item: _Item) -> Outcome:
        """A prediction that is not a number: its task begins anew, so that one bad state does not last."""
        self._counts.refused += 1
        self._restart([item.row], wholly=True)
        at = item.source.origin
        return Outcome(item.source, rejected=f"{at}: the prediction is not a finite number; its task starts anew")

    def _judge(self, item: _Item, mean: list[float], variance: float) -> Outcome:
        """The outcome of an item, its task's counters, and whether its law has drifted."""
        event, columns, row = item.source, self._tasks.columns, item.row
        version = self._shared.version
        if isinstance(event, Event):
            columns["events"][row] += 1
            if event.ts is not None:
                columns["seen_at"][row] = event.ts
            if item.waits is not None:
                item.waits.mean, item.waits.variance, item.waits.theta_version = (
                    np.array(mean, np.float32),
                    variance,
                    version,
                )
        elif item.waits is not None and item.waits.mean is not None:
            mean, variance, version = item.waits.mean.tolist(), item.waits.variance, item.waits.theta_version
        age = int(columns["labelled"][row])
        since = int(columns["since"][row]) - 1 if columns["drifts"][row] else None
        signal = Signal.NEW_TASK if item.is_new_task else Signal.STEADY
        prediction, probabilities = read(mean, self._labels)
        spread = None if self._labels.classify else variance
        loss = error = None
        if event.y is not None:
            loss, error = score(event.y, prediction, mean, variance, self._labels)
            columns["labelled"][row] += 1
            columns["error"][row] += (error - columns["error"][row]) / min(age + 1, _ERROR_EVENTS)
            if self._detectors.update(row, loss, error, spread):
                signal = Signal.DRIFT
                self._counts.drifts += 1
                columns["drifts"][row] += 1
                columns["drift_at"][row] = columns["seen_at"][row]
        return Outcome(event, prediction, probabilities, spread, signal, version, loss, error, age, since)

    def _restart(self, rows: list[int], *, wholly: bool = False) -> None:
        """The law of these tasks changed: begin again, wholly or as the settings say."""
        response: Response = "reset" if wholly else self.settings.drift.response
        self._method.restart(self._shared.weights, self._tasks.columns, np.array(rows, np.int64), response)
        self._tasks.columns["since"][rows] = 0
        if response == "reset":
            self._tasks.columns["pushed"][rows] = 0
        for row in rows:
            self._detectors.reset(row)

    def _observe(self, items: Sequence[_Item], xs: Floats) -> None:
        """Feed what tasks share with a part's events, in the order of arrival."""
        for item in items:
            if item.source.y is not None:
                self._recent.add(item.row)
        if self._persistence:
            self._persistence.keep([item.persisted for item in items if item.persisted is not None])
        events = [i for i, item in enumerate(items) if isinstance(item.source, Event)]
        targets = None
        if not self._labels.classify:
            targets = np.array([item.source.y for item in items if item.source.y is not None], np.float32)
        self._shared.observe(xs if len(events) == len(items) else xs[events], targets)

    # -- what tasks share ----------------------------------------------------------------------------------------------

    def _grow(self) -> None:
        """Make room for features and classes seen for the first time; nothing that was there changes."""
        if not self._shared.grow(self._features.fan_in, self._labels.outputs):
            return
        for name, column in self._columns().items():
            if column.shape != self._tasks.columns[name].shape[1:]:
                self._tasks.widen(name, column.shape)

    def _columns(self) -> dict[str, Column]:
        memory = self.settings.memory
        kept = task_columns(self._method, len(self._features), self._labels.outputs, memory.window)
        return kept | PERSISTENCE_COLUMNS if self._persistence else kept

    def _rebuild_stale(self, rows: list[int]) -> None:
        """Derive φ again from the window where θ has changed: at once in young tasks, in others less often."""
        columns = self._tasks.columns
        for row in rows:
            columns["touched"][row] += 1
            if columns["version"][row] == self._shared.version:
                continue
            pushed = int(columns["pushed"][row])
            if columns["touched"][row] * _REBUILD_SHARE < min(pushed, self.settings.memory.window):
                continue
            if pushed:
                segment = Segment(*window(columns, row, len(self._features)), int(columns["since"][row]))
                self._method.rebuild(self._shared.weights, columns, row, segment, self._labels.outputs)
            columns["version"][row], columns["touched"][row] = self._shared.version, 0

    def _rhythm(self) -> int:
        """Events between two looks at what tasks share."""
        meta = self.settings.meta
        return meta.every_events if meta.mode == "sync" else _HOUSEKEEPING_EVENTS

    def _between(self) -> None:
        """Between two parts: normalization, meta-update and spill, each at its own count of events."""
        if self._counts.seen < self._shared.next_scaling and self._counts.seen % self._rhythm():
            return
        if self._persistence:
            self._persistence.settle()
        self._shared.rescale(self._counts.seen, self._features.categories)
        if self._counts.seen % self._rhythm():
            return
        if self.settings.meta.mode == "sync":
            job = self.begin_meta_update()
            if job is not None:
                self.finish_meta_update(job())
        self._tasks.shrink()

    # -- meta-updates --------------------------------------------------------------------------------------------------

    @property
    def meta_due(self) -> bool:
        """Whether it is time to begin a meta-update in the background."""
        counts, meta = self._counts, self.settings.meta
        return meta.mode == "background" and counts.seen - counts.meta_begun >= meta.every_events

    def begin_meta_update(self) -> Callable[[], MetaResult] | None:
        """Draw episodes, and return the work to be done, which may run in another thread; None when there is nothing.

        The work reads nothing that the engine changes. Hand its result to ``finish_meta_update`` between two steps.
        """
        self._counts.meta_begun = self._counts.seen
        scaling, settings = self._shared.scaling, self.settings
        episodes = draw_episodes(self._tasks.columns, self._recent, scaling, settings.meta, settings.kind, self._random)
        if episodes is None:
            return None
        state, gradient, rate, where = self._shared.state, self._method.gradient, settings.meta.rate, self._device
        threads = settings.learner.threads
        return lambda: MetaResult(outer_step(gradient, state, episodes, rate=rate, device=where, threads=threads))

    def finish_meta_update(self, result: MetaResult) -> None:
        """Adopt the new θ, unless its numbers were not finite; φ of each task follows when it is next touched."""
        if result.accepted:
            self._shared.adopt(result.step.state)
        else:
            self._counts.refused_updates += 1

    # -- looking inside, and saving ------------------------------------------------------------------------------------

    def stats(self) -> EngineStats:
        """Counts since the engine began."""
        counts = self._counts
        return EngineStats(
            events=counts.events,
            labelled=counts.labelled,
            tasks=len(self._tasks),
            tasks_in_memory=self._tasks.in_memory,
            drifts=counts.drifts,
            meta_updates=self._shared.state.updates,
            theta_version=self._shared.version,
            pending_labels=len(self._waiting),
            refused=counts.refused,
            classes=len(self._labels.classes),
            features=len(self._features),
        )

    def tasks(self) -> list[TaskSummary]:
        """Every task, those in the spill included."""
        columns = self._tasks.columns
        here = [(key, {name: columns[name][row] for name in SUMMARY_COLUMNS}) for key, row in self._tasks.rows()]
        return [summarize(key, values) for key, values in [*self._tasks.stored(), *here]]

    def snapshot(self) -> Snapshot:
        """The whole state as plain values; take it between two steps."""
        tasks, place = self._tasks.dump()
        shared, arrays = self._shared.dump()
        header = {
            "settings": _fingerprint(self.settings),
            "counts": vars(self._counts).copy(),
            "features": self._features.dump(),
            "classes": self._labels.classes,
            "waiting": self._waiting.dump(),
            "recent": self._recent.dump(place),
            "random": random_state(self._random),
            "shared": shared,
            "tasks": tasks,
            "spilled": len(tasks) - len(place),
        }
        return Snapshot(header, arrays | (self._persistence.dump() if self._persistence else {}))

    @classmethod
    def restore(cls, settings: EngineSettings, snapshot: Snapshot) -> "Engine":
        """The engine that took this snapshot, as it was.

        Raises:
            SnapshotError: the snapshot belongs to other settings, or is damaged.
        """
        header, engine = snapshot.header, cls(settings)
        try:
            check_fingerprint(header["settings"], _fingerprint(settings))
            engine._counts = _Counts(**header["counts"])
            engine._features.load(header["features"])
            engine._labels.load(header["classes"])
            engine._waiting.load(header["waiting"])
            engine._shared.load(header["shared"], snapshot.arrays)
            if engine._persistence:
                engine._persistence.load(snapshot.arrays)
            for name, column in engine._columns().items():
                engine._tasks.widen(name, column.shape)
            engine._recent.load(header["recent"], engine._tasks.restore(header["tasks"], header["spilled"]))
            engine._random.bit_generator.state = random_from(header["random"])
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as err:
            raise SnapshotError(f"the snapshot is damaged ({err!r}); restore it from a copy") from err
        return engine

    def close(self) -> None:
        """Let go of the spill."""
        self._tasks.close()

    def _load_detector(self, row: int, state: bytes) -> None:
        if state:
            self._detectors.load(row, state)
        else:
            self._detectors.reset(row)

    def _release(self, row: int) -> None:
        self._recent.drop(row)
        self._detectors.reset(row)


def _fingerprint(settings: EngineSettings) -> dict[str, Any]:
    """The settings that saved state depends on."""
    return {
        "app.kind": settings.kind,
        "learner.persistence": settings.learner.persistence,
        "learner.members": settings.learner.members,
        "learner.hidden": settings.learner.hidden,
        "learner.encoded": settings.learner.encoded,
        "learner.memories": len(settings.learner.memories),
        "memory.window": settings.memory.window,
        "drift.detector": settings.drift.detector,
    }
