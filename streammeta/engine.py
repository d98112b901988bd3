"""The engine: events in, outcomes out. No I/O, no clock, no global randomness; the one owner of memory.

``Engine.step`` tells the cycle in order: cut the batch where something shared may change, read features into slots,
then round after round (the r-th event of each task) predict, judge, detect drift, adapt, remember. A prediction depends
on θ and on earlier events of the same task, never on how events were grouped into batches; nothing uses a label before
its event was predicted; a restored engine goes on as if nothing had happened.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, Field

from streammeta.buffer import RecentRows, SegmentSettings, draw_episodes, push, window
from streammeta.drift import Detectors, DriftSettings
from streammeta.errors import EventError, SnapshotError
from streammeta.event import Event, Label
from streammeta.features import FeatureSpace
from streammeta.labels import LabelSpace, Waiting, WaitingRoom
from streammeta.meta import LearnerSettings, Work, exact_heads, outer_step
from streammeta.meta.base import Floats, Kind, Response
from streammeta.outcome import EngineStats, MetaResult, Outcome, Signal, TaskSummary
from streammeta.shared import Shared, device
from streammeta.snapshot import Snapshot
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

_HOUSEKEEPING_EVENTS = 1024  # how often the spill is looked after where meta-updates do not set the rhythm
_REBUILD_SHARE = 16  # a window of n events is rebuilt at most once in n / 16 events of its task
_LEAST = 1e-6  # no label's probability counts as less
_SUMMARY = ("events", "labelled", "error", "drifts", "drift_at", "seen_at")
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
    filled: list[tuple[int, float]]
    waits: Waiting | None  # the event whose label this is, or this event while it has none
    is_new_task: bool


@dataclass(slots=False)
class _Counts:
    """What has happened since the engine began."""

    seen: int = 0  # events and labels that came, refused ones included: the clock of all that is shared
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
        self._method = exact_heads(settings.learner, settings.kind, settings.seed)
        self._features = FeatureSpace(memory.max_features)
        self._labels = LabelSpace(settings.kind, memory.max_classes)
        self._waiting = WaitingRoom(memory.max_waiting)
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
        outcomes: list[Outcome] = []
        while len(outcomes) < len(events):
            part = events[len(outcomes) : self._cut(events, len(outcomes))]
            outcomes += self._part(part)
            self._counts.seen += len(part)
            self._between()
        return outcomes

    def _cut(self, events: Sequence[Event | Label], begin: int) -> int:
        """Where the part that begins here ends: at the next change of θ, and around a label of a new class."""
        end = min(len(events), begin + self._next_change() - self._counts.seen)
        for i in range(begin, end):
            if self._labels.is_new(events[i].y):
                return max(i, begin + 1)
        return end

    def _next_change(self) -> int:
        """How many events and labels will have been seen when something shared may change next."""
        rhythm = self._rhythm()
        return min(self._shared.next_scaling, (self._counts.seen // rhythm + 1) * rhythm)

    def _part(self, events: Sequence[Event | Label]) -> list[Outcome]:
        """A stretch in which nothing shared changes: its rounds, each with at most one event of a task."""
        outcomes: list[Outcome | None] = [None] * len(events)
        items: list[_Item] = []
        for at, event in enumerate(events):
            try:
                items.append(self._admit(at, event))
            except EventError as err:
                self._counts.refused += 1
                outcomes[at] = Outcome(event, rejected=str(err))
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
        return [outcome for outcome in outcomes if outcome is not None]

    def _admit(self, at: int, event: Event | Label) -> _Item:
        """Find the event's task and slots; raises EventError when it cannot be used."""
        if event.y is not None:
            self._labels.check(event.y, event.origin)
        if isinstance(event, Label):
            waits = self._waiting.leave(event)
            row, _ = self._tasks.touch(waits.key)
            return _Item(at, event, row, waits.filled, waits, is_new_task=False)
        self._features.check_width(event)
        filled = self._features.slots(event.x)
        key: TaskKey = (event.origin.partition, event.task)
        row, is_new = self._tasks.touch(key)
        self._counts.events += 1
        waiting = None
        if event.y is None and event.id is not None:
            slots, values = zip(*filled, strict=True) if filled else ((), ())
            waiting = Waiting(key, np.array(slots, np.uint32), np.array(values, np.float32))
            self._waiting.enter(event.id, waiting)
        return _Item(at, event, row, filled, waiting, is_new)

    def _round(self, items: list[_Item], xs: Floats, outcomes: list[Outcome | None]) -> None:
        """Predict for tasks that are all different, then learn those labels that are there."""
        rows = np.array([item.row for item in items], np.int64)
        self._rebuild_stale(rows.tolist())
        columns, outputs = self._tasks.columns, self._labels.outputs
        work = self._method.predict(self._shared.weights, columns, rows, xs, outputs)
        learned, drifted = [], []
        for i, item in enumerate(items):
            outcome = self._judge(item, work.mean[i], float(work.variance[i]))
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
            rows, xs, work = rows[learned], xs[learned], Work(*(part[learned] for part in work))
        ys = np.array([self._labels.number(items[i].source.y) for i in learned], np.float32)  # type: ignore[arg-type]
        self._method.adapt(self._shared.weights, columns, rows, work, ys)
        push(columns, rows, xs, ys)
        for row in rows.tolist():
            self._recent.add(row)
        self._counts.labelled += len(learned)

    def _judge(self, item: _Item, mean: Floats, variance: float) -> Outcome:
        """The outcome of an item, its task's counters, and whether its law has drifted."""
        event, columns, row = item.source, self._tasks.columns, item.row
        version = self._shared.version
        if isinstance(event, Event):
            columns["events"][row] += 1
            if event.ts is not None:
                columns["seen_at"][row] = event.ts
            if item.waits is not None:
                item.waits.mean, item.waits.variance, item.waits.theta_version = mean.copy(), variance, version
        elif item.waits is not None and item.waits.mean is not None:
            mean, variance, version = item.waits.mean, item.waits.variance, item.waits.theta_version
        if not (np.isfinite(mean).all() and math.isfinite(variance)):
            self._counts.refused += 1
            self._restart([row], wholly=True)
            return Outcome(
                event, rejected=f"{event.origin}: the prediction was not a finite number; its task starts anew"
            )
        age = int(columns["labelled"][row])
        since = int(columns["since"][row]) - 1 if columns["drifts"][row] else None
        signal = Signal.NEW_TASK if item.is_new_task else Signal.STEADY
        prediction, probabilities = self._read(mean)
        spread = None if self._labels.classify else variance
        loss = error = None
        if event.y is not None:
            loss, error = self._score(event, mean, variance, prediction)
            columns["labelled"][row] += 1
            columns["error"][row] += (error - columns["error"][row]) / min(age + 1, _ERROR_EVENTS)
            if self._detectors.update(row, loss, error):
                signal = Signal.DRIFT
                self._counts.drifts += 1
                columns["drifts"][row] += 1
                columns["drift_at"][row] = columns["seen_at"][row]
        return Outcome(event, prediction, probabilities, spread, signal, version, loss, error, age, since)

    def _read(self, mean: Floats) -> tuple[Any, dict[Any, float] | None]:
        """A prediction in the user's words: the likeliest class with all probabilities, or the mean."""
        if not self._labels.classify:
            return float(mean[0]), None
        if not mean.size:
            return None, {}
        return self._labels.classes[int(mean.argmax())], dict(zip(self._labels.classes, mean.tolist(), strict=False))

    def _score(self, event: Event | Label, mean: Floats, variance: float, prediction: Any) -> tuple[float, float]:  # noqa: ANN401
        """Negative log-likelihood of the label, and its error: 0 or 1, or absolute."""
        y: Any = event.y
        if self._labels.classify:
            index = len(mean) if self._labels.is_new(y) else int(self._labels.number(y))
            probability = float(mean[index]) if index < len(mean) else 0.0
            return -math.log(max(probability, _LEAST)), float(prediction is None or prediction != y)
        gap = float(y) - float(mean[0])
        spread = max(variance, 1e-30)
        return 0.5 * (gap * gap / spread + math.log(2 * math.pi * spread)), abs(gap)

    def _restart(self, rows: list[int], *, wholly: bool = False) -> None:
        """The law of these tasks changed: begin again, wholly or as the settings say."""
        response: Response = "reset" if wholly else self.settings.drift.response
        self._method.restart(self._shared.weights, self._tasks.columns, np.array(rows, np.int64), response)
        if response == "reset":
            self._tasks.columns["pushed"][rows] = 0
        for row in rows:
            self._detectors.reset(row)

    def _observe(self, items: Sequence[_Item], xs: Floats) -> None:
        """Feed the running normalization, in the order of arrival."""
        events = [i for i, item in enumerate(items) if isinstance(item.source, Event)]
        targets = None
        if not self._labels.classify:
            targets = np.array([item.source.y for item in items if item.source.y is not None], np.float32)
        self._shared.observe(xs if len(events) == len(items) else xs[events], targets)

    # -- what tasks share ----------------------------------------------------------------------------------------------

    def _grow(self) -> None:
        """Make room for features and classes seen for the first time; nothing that was there changes."""
        if not self._shared.grow(len(self._features), self._labels.outputs):
            return
        for name, column in self._columns().items():
            if column.shape != self._tasks.columns[name].shape[1:]:
                self._tasks.widen(name, column.shape)

    def _columns(self) -> dict[str, Column]:
        """What is kept of a task: the learner's φ, its window, its counters. Widths grow by doubling."""
        features, outputs = _roomy(len(self._features)), self._labels.outputs
        outputs = _roomy(outputs) if self._labels.classify else 1
        size = self.settings.memory.window
        phi = {name: Column(shape, dtype) for name, (shape, dtype) in self._method.phi_layout(outputs).items()}
        return phi | {
            "window_x": Column((size, features), np.float32, math.nan),
            "window_y": Column((size,), np.float32),
            "pushed": Column((), np.int64),
            "version": Column((), np.int64, -1),
            "touched": Column((), np.int64),
            "events": Column((), np.int64),
            "labelled": Column((), np.int64),
            "error": Column((), np.float64),
            "drifts": Column((), np.int64),
            "drift_at": Column((), np.float64, math.nan),
            "seen_at": Column((), np.float64, math.nan),
        }

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
                xs, ys = window(columns, row, len(self._features))
                self._method.rebuild(self._shared.weights, columns, row, xs, ys, self._labels.outputs)
            columns["version"][row], columns["touched"][row] = self._shared.version, 0

    def _rhythm(self) -> int:
        """Events between two looks at what tasks share."""
        meta = self.settings.meta
        return meta.every_events if meta.mode == "sync" else _HOUSEKEEPING_EVENTS

    def _between(self) -> None:
        """Between two parts: normalization, meta-update and spill, each at its own count of events."""
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
        state, loss, rate, where = self._shared.state, self._method.loss, settings.meta.rate, self._device
        return lambda: MetaResult(outer_step(loss, state, episodes, rate=rate, device=where))

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
        here = [(key, {name: columns[name][row] for name in _SUMMARY}) for key, row in self._tasks.rows()]
        return [_summary(key, values) for key, values in [*self._tasks.stored(), *here]]

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
            "random": _random_state(self._random),
            "shared": shared,
            "tasks": tasks,
        }
        return Snapshot(header, arrays)

    @classmethod
    def restore(cls, settings: EngineSettings, snapshot: Snapshot) -> "Engine":
        """The engine that took this snapshot, as it was.

        Raises:
            SnapshotError: the snapshot belongs to other settings, or is damaged.
        """
        header, engine = snapshot.header, cls(settings)
        try:
            _check_fingerprint(header["settings"], _fingerprint(settings))
            engine._counts = _Counts(**header["counts"])
            engine._features.load(header["features"])
            engine._labels.load(header["classes"])
            engine._waiting.load(header["waiting"])
            engine._shared.load(header["shared"], snapshot.arrays)
            for name, column in engine._columns().items():
                engine._tasks.widen(name, column.shape)
            engine._recent.load(header["recent"], engine._tasks.restore(header["tasks"]))
            engine._random.bit_generator.state = _random_from(header["random"])
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


def _roomy(n: int) -> int:
    """The next power of two: arrays grow seldom."""
    return 1 << max(n - 1, 0).bit_length()


def _summary(key: TaskKey, values: Mapping[str, Any]) -> TaskSummary:
    drift_at, seen_at = float(values["drift_at"]), float(values["seen_at"])
    labelled = int(values["labelled"])
    return TaskSummary(
        task=key[1],
        partition=key[0],
        events=int(values["events"]),
        labelled=labelled,
        error=float(values["error"]) if labelled else math.nan,
        drifts=int(values["drifts"]),
        last_drift_at=None if math.isnan(drift_at) else drift_at,
        last_seen_at=None if math.isnan(seen_at) else seen_at,
    )


def _fingerprint(settings: EngineSettings) -> dict[str, Any]:
    """The settings that saved state depends on."""
    return {
        "app.kind": settings.kind,
        "learner.hidden": settings.learner.hidden,
        "learner.encoded": settings.learner.encoded,
        "learner.memories": len(settings.learner.memories),
        "memory.window": settings.memory.window,
        "drift.detector": settings.drift.detector,
    }


def _check_fingerprint(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name, value in wanted.items():
        if found.get(name) != value:
            raise SnapshotError(
                f"the snapshot was made with {name} = {found.get(name)!r}, the settings say {value!r}; "
                "set it back, or move the snapshot away to begin anew"
            )


def _random_state(random: np.random.Generator) -> dict[str, Any]:
    """The state of a PCG64 as plain values; its 128-bit numbers as text."""
    state: Any = random.bit_generator.state
    return state | {"state": {name: str(number) for name, number in state["state"].items()}}


def _random_from(state: Mapping[str, Any]) -> dict[str, Any]:
    return {**state, "state": {name: int(number) for name, number in state["state"].items()}}
