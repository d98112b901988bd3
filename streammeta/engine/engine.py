"""The engine: events in, outcomes out. No I/O, no clock, no global randomness; the one owner of memory.

``Engine.step`` is the cycle in order: cut the batch where something shared may change, read features into slots,
then predict, learn, judge, detect drift, remember (``runs``). A prediction depends on θ and on earlier events of the
same task, never on how events were grouped into batches; nothing uses a label before its event was predicted; a
restored engine goes on as if nothing had happened.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from streammeta.engine.buffer import RecentRows, as_encoded, window
from streammeta.engine.checkpoint import check_fingerprint, random_from, random_state, read_header
from streammeta.engine.columns import Column
from streammeta.engine.concepts import concept_columns
from streammeta.engine.curriculum import Curriculum
from streammeta.engine.drift import Detectors
from streammeta.engine.episodes import elsewhere
from streammeta.engine.exchange import Exchange
from streammeta.engine.experts import Case, Mixture, choose
from streammeta.engine.factory import fingerprint, gaussians_above, make_method, make_recall
from streammeta.engine.features import FeatureSpace, Filled
from streammeta.engine.handover import Handover, TaskParts
from streammeta.engine.judge import read
from streammeta.engine.labels import LabelSpace, PendingEvents, Waiting
from streammeta.engine.looks import Look, due_for_look, find_strays, is_outdated, look, until_look
from streammeta.engine.outcome import EngineStats, MetaResult, Outcome, Signal, TaskSummary
from streammeta.engine.presence import LastSeen, Presence
from streammeta.engine.runs import Counts, Item, Runs, Seen
from streammeta.engine.scale import SHIFT, SPREAD, Doubles, Fixed, seen_window, units
from streammeta.engine.settings import EngineSettings, MetaSettings
from streammeta.engine.shared import Names, Shared
from streammeta.engine.snapshot import Snapshot
from streammeta.engine.spill import TaskKey
from streammeta.engine.staleness import can_be_omitted, is_stale, leave_out, left_out, refresh
from streammeta.engine.sums import PartitionSums, SumsRecord, decode_sums, encode_sums
from streammeta.engine.taskrow import SUMMARY_COLUMNS, summarize, task_columns
from streammeta.engine.tasks import TaskTable
from streammeta.engine.trial import Verdict, compare, newest_episodes
from streammeta.engine.weights import Weights
from streammeta.errors import EventError, SnapshotError
from streammeta.event import Event, Label
from streammeta.meta.base import Episodes, Floats, Ints, Kind, MetaState, Method, Phi, Scaling
from streammeta.meta.names import Slot
from streammeta.meta.plasticity import has_encoder, norm, saturated_share

__all__ = [
    "Candidate",
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

_LOOK_TASKS = 256  # how many tasks speak for all
_LOOK_AT_TASKS, _LOOK_AT_EVENTS = 8, 32  # of each, to see how units answer
_QUICK_EVENTS = 32  # labelled events from which φ is derived sooner than it is read back
_HOUSEKEEPING_EVENTS = 1024  # how often the spill is looked after where meta-updates do not set the rhythm
_LONGEST_STEP = 3.0  # times the rate, of a meta-update
_TRIALS = 8  # drawings of episodes on which a doubtful θ is compared with ours
_CLEARLY, _LEAST_GAP = 3.0, 0.15  # standard errors, and nats: an hour back costs less, a flipped sign twice as much
_JUDGES, _LEAST_JUDGED = 16, 64  # tasks on whose labels a candidate is judged, at most; labels, at least
_META_COUNTS = ("seen", "next_look", "meta_begun")  # by which θ's next change is due


class Candidate(NamedTuple):
    """θ that is to be judged on what comes later."""

    weights: Weights
    state: MetaState
    known: dict[TaskKey, int]  # labelled events of each task elsewhere, of which some may have been learned from


class Engine:
    """Predicts, adapts and meta-learns over task-tagged events.

    Args:
        settings: all of the engine's settings.
        method: a learner of the caller's own; None: the one that the settings name.

    >>> from streammeta.event import Origin
    >>> engine = Engine(EngineSettings())
    >>> events = [Event({"a": float(i % 2)}, "t", Origin("doc", 0, i), y=i % 2) for i in range(40)]
    >>> outcomes = engine.step(events)
    >>> sum(outcome.error for outcome in outcomes[-20:])
    0.0
    """

    def __init__(self, settings: EngineSettings, method: Method | None = None) -> None:
        self.settings = settings
        memory = settings.memory
        self._given = method
        self._method = method or make_method(settings)
        self._features = FeatureSpace(memory.max_features)
        self._labels = LabelSpace(settings.kind, memory.max_classes)
        self._waiting = PendingEvents(memory.max_waiting)
        self._presence = Presence(memory.known_tasks, memory.forgotten_after)
        self._sums = PartitionSums()
        self._mixture = self._make_mixture()
        self._recall = make_recall(self._method, settings)
        self._detectors = Detectors(settings.drift)
        self._recent = RecentRows(settings.meta.recent_events)
        self._tasks = TaskTable(
            self._columns(0, 0),
            memory,
            dump_extra=self._detectors.dump,
            load_extra=self._load_detector,
            on_release=self._release,
            derived=self._derived,
            leave_out_derived=self._leave_out_derived if self._derived else None,
        )
        self._shared = Shared(self._method, self._sums, classify=self._labels.classify)
        self._curriculum = Curriculum(settings, self._method)
        self._trains = True  # this engine changes θ
        self._exchange = Exchange(
            settings.kind,
            memory.window,
            self._tasks,
            self._features,
            self._labels,
            lambda: self._shared.own,
            self._presence,
        )
        self.has_backlog = False  # more events wait than can be taken; a run with this set cannot be repeated exactly
        self._begin(Counts(next_look=self._look_every))

    def _make_mixture(self) -> Mixture | None:
        settings = self.settings
        chosen = settings.learner.experts
        above = {}
        if gaussians_above(settings):
            chosen, above = (*chosen, "gaussian"), {"gaussian": settings.learner.many_classes}
        experts = choose(chosen, settings.kind, settings.seed, self._features, self._scaling_of, self._sums)
        return Mixture(experts, settings.kind, above=above) if experts else None

    def _begin(self, counts: Counts) -> None:
        self._counts = counts
        self._runs = Runs(
            self._method,
            self._tasks,
            self._labels,
            self._detectors,
            self._mixture,
            self.settings.drift,
            counts,
            self._recall,
        )

    # -- the cycle ---------------------------------------------------------------------------------------------------

    def step(self, events: Sequence[Event | Label]) -> list[Outcome]:
        """Predict, then learn; one outcome for each event or label, in the same order.

        In meta mode "sync", θ is meta-updated in between, at counts of them that ``Rhythm`` sets. What cannot be used
        comes back with ``rejected`` set to the reason, and changes nothing.
        """
        outcomes: list[Outcome | None] = [None] * len(events)
        begin = 0
        while begin < len(events):
            items, begin = self._take(events, begin, outcomes)
            self._part(items, outcomes)
            self._counts.seen += len(items)
            self._between()
        return [outcome for outcome in outcomes if outcome is not None]

    def check(self, events: Sequence[Event]) -> None:
        """See whether ``step`` would accept all of these events, in this order; nothing is learned or remembered.

        Raises:
            EventError: it would refuse one of them, for this reason.
        """
        features, labels = self._features.fork(), self._labels.fork()
        for event in events:
            features.read(event.x, event.origin)
            if event.y is not None:
                labels.check(event.y, event.origin)
                if labels.is_new(event.y):
                    labels.learn(event.y)

    def predict(self, events: Sequence[Event]) -> list[Outcome]:
        """What ``step`` would predict for each of these events, were it the next one; nothing is learned or remembered.

        Tasks' rows are copied, so that nothing here can change; labels of the events are not looked at.
        """
        outcomes = []
        for event in events:
            features = self._features.fork()
            try:
                filled = features.read(event.x, event.origin)
            except EventError as err:
                outcomes.append(Outcome(event, rejected=str(err)))
                continue
            outcomes.append(self._predict_event(event, features, features.table([filled])))
        return outcomes

    def _predict_event(self, event: Event, features: FeatureSpace, exact: Doubles) -> Outcome:
        """The outcome of one event, from a copy of its task's row."""
        outputs, shared, row = self._labels.outputs, self._shared.copy(), np.zeros(1, np.int64)
        key, unlabelled = (event.origin.partition, event.task), np.full(1, np.nan)
        grown = shared.grow(features.slots, self._labels.names)
        wider = self._columns(len(features), len(shared.own)) if grown else None
        columns, (known,) = self._tasks.copy([key], wider)
        derive = is_stale(columns, 0, shared.stamp) and columns["window_count"][0] > 0
        if is_outdated(columns, row, shared.frame.epoch)[0]:
            frame = shared.frame
            found = look(columns, 0, frame)
            if shared.give_own_views(found.births):
                columns, _ = self._tasks.copy([key], self._columns(len(features), len(shared.own)))
                look(columns, 0, frame)
            if found.has_changed or found.births:
                derive = False
                self._rescale(Fixed(shared.weights, shared.version, shared.frame), columns, 0, found)
        weights, frame = shared.weights, shared.frame
        if derive:
            self._derive(Fixed(weights, shared.version, frame), columns, row, outputs)
        seen = Seen.of(columns, row, exact, unlabelled, frame)
        said = self._method.run(weights, columns, row, seen.x, seen.y, outputs)
        mean, variance = said.mean[0].tolist(), float(said.variance[0])
        if not self._labels.classify:
            shift, spread = (float(part[0]) for part in units(frame, columns["scale.y"]))
            mean, variance = [shift + spread * mean[0]], spread * spread * variance
        if not np.isfinite([*mean, variance]).all():
            return Outcome(event, rejected=f"{event.origin}: the prediction is not a finite number")
        if self._mixture and self._mixture.is_awake(outputs):
            case = Case(0, event.task, seen.high[0], event.origin.partition, features.slots)
            mean, variance, _ = self._mixture.blend(columns, case, mean, variance)
        prediction, probabilities = read(mean, self._labels)
        return Outcome(
            event,
            prediction,
            probabilities,
            variance=None if self._labels.classify else variance,
            signal=Signal.STEADY if known else Signal.NEW_TASK,
            theta_version=shared.version,
            age=int(columns["labelled"][0]),
            since_drift=int(columns["labels_since_drift"][0] - columns["labels_kept_at_drift"][0])
            if columns["drifts"][0]
            else None,
        )

    def _take(
        self, events: Sequence[Event | Label], begin: int, outcomes: list[Outcome | None]
    ) -> tuple[list[Item], int]:
        """Read events on from ``begin`` as far as nothing shared changes, and say where that ends.

        It ends where θ may change next, and before and after a label of a class not seen before. What is refused gets
        its outcome here, and counts for nothing else.
        """
        capacity = self._until_change()
        items: list[Item] = []
        ahead = iter(self._features.read_ahead(events, begin, min(begin + capacity, len(events))))
        for at in range(begin, len(events)):
            event = events[at]
            brings_class = self._labels.is_new(event.y)
            if items and (len(items) >= capacity or brings_class or self._begins_again(event)):
                return items, at
            try:
                items.append(self._admit(at, event, next(ahead, None)))
            except EventError as err:
                self._counts.refused += 1
                outcomes[at] = Outcome(event, rejected=str(err))
            if brings_class and items:
                return items, at + 1
        return items, len(events)

    def _begins_again(self, event: Event | Label) -> bool:
        """Whether this is of a task that is forgotten and still has its row, which earlier events may be using."""
        leaving = self._tasks.leaving
        return bool(leaving) and isinstance(event, Event) and (event.origin.partition, event.task) in leaving

    def _until_change(self) -> int:
        """Events and labels until something shared may change."""
        return min(self._shared.until_scaling, self._counts.next_look - self._counts.seen)

    def _part(self, items: list[Item], outcomes: list[Outcome | None]) -> None:
        """A stretch in which nothing shared changes; it is cut where a task's φ has to be derived again in between."""
        if not items:
            return
        self._grow()
        exact = self._features.table([item.filled for item in items])
        labels, rows = self._runs.labels(items), np.array([item.row for item in items], np.int64)
        brings_class = self._labels.is_new(items[0].source.y)  # then it came alone
        begin = 0
        while begin < len(items):
            outdated = is_outdated(self._tasks.columns, rows[begin:], self._shared.frame.epoch)
            if outdated[0]:
                first = items[begin]
                found = look(self._tasks.columns, first.row, self._shared.frame)
                self._follow_look(first.source.origin.partition, first.row, found)
                continue
            seen = Seen.of(self._tasks.columns, rows[begin:], exact[begin:], labels[begin:], self._shared.frame)
            strays = find_strays(self._shared.frame, seen.x, seen.y)
            until = begin + until_look(self._tasks.columns, seen.rows, seen.labels, strays, outdated)
            end, stale = refresh(
                self._tasks.columns, rows[:until], begin, self._shared.stamp, has_backlog=self.has_backlog
            )
            done = seen.cut(0, end - begin)
            self._go(items[begin:end], done, stale, outcomes)
            self._look_at(items[begin:end], done, strays)
            begin = end
        if brings_class:  # and learning it is what makes it known
            self._labels.learn(items[0].source.y)  # type: ignore[arg-type]  # is_new says that it is there
            self._grow()
            labels = self._runs.labels(items)
            seen = Seen.of(self._tasks.columns, rows, exact, labels, self._shared.frame)
            self._runs.learn(self._fixed, items[0], seen)
            self._look_at(items, seen, find_strays(self._shared.frame, seen.x, seen.y))
        self._observe(items, exact)
        self._exchange.note(items, outcomes)
        if self.settings.meta.mode != "off":
            self._curriculum.observe_outcomes([item.judged for item in items if item.judged is not None])

    def _look_at(self, items: Sequence[Item], seen: Seen, strays: Ints) -> None:
        """Look at the tasks whose labels in these events say so, in order; φ follows a scale that changed."""
        for last in due_for_look(self._tasks.columns, seen.rows, seen.labels, strays):
            row = items[last].row
            found = look(self._tasks.columns, row, self._shared.frame, seen.exact[last])
            self._follow_look(items[last].source.origin.partition, row, found)

    def _follow_look(self, partition: int, row: int, found: Look) -> None:
        """Do what a look at a task asks for."""
        births = self._shared.give_own_views(found.births)
        if births:
            self._widen()
        if births or found.has_changed:
            columns = self._tasks.columns
            if found.unit_changed and self._recall:
                self._recall.forget(columns, row)
            self._rescale(self._fixed, columns, row, found)
            columns["version"][row] = self._shared.stamp
        if partition >= 0:  # else the member that has it counts it
            self._sums.observe_look(partition, found.crowd, found.target_crowd)

    def _rescale(self, fixed: Fixed, columns: Phi, row: int, found: Look) -> None:
        """φ of a task whose scale a look has changed."""
        rows = np.array([row])
        self._method.respread(columns, rows, 0.0 if found.unit_changed else found.noise)
        self._derive(fixed, columns, rows, self._labels.outputs)

    def _scaling_of(self, columns: Mapping[str, npt.NDArray[Any]], row: int) -> Scaling:
        """A task's own view of each feature, or the shared one, for experts."""
        frame = self._shared.frame
        D = frame.shared.shift.size
        own, scale = columns["scale.x"][row, SPREAD, :D] > 0, columns["scale.x"][row, :, :D]
        shift = np.where(own, scale[SHIFT], frame.shared.shift)
        gain = np.where(own, 1 / np.where(own, scale[SPREAD], 1.0), frame.shared.gain)
        return Scaling(shift.astype(np.float32), gain.astype(np.float32), 0.0, 1.0)

    @property
    def _fixed(self) -> Fixed:
        return Fixed(self._shared.weights, self._shared.version, self._shared.frame)

    def _go(self, items: list[Item], seen: Seen, stale: Ints, outcomes: list[Outcome | None]) -> None:
        """Derive φ of the stale rows again, then take the items through the cycle."""
        columns = self._tasks.columns
        rows = stale[columns["window_count"][stale] > 0]
        if rows.size:
            self._derive(self._fixed, columns, rows, self._labels.outputs)
        self._runs.go(self._fixed, items, seen, outcomes)

    def _derive(self, fixed: Fixed, columns: Phi, rows: Ints, outputs: int) -> None:
        """φ of these rows from what is remembered of them."""
        if self._recall:
            self._recall.derive(fixed, columns, rows, outputs)
        else:
            self._method.rebuild(fixed.weights, columns, rows, seen_window(columns, rows, fixed.frame), outputs)

    def _admit(self, at: int, event: Event | Label, filled: Filled | None) -> Item:
        """Find the event's task and, where they were not read ahead, its slots; EventError when it cannot be used."""
        if event.y is not None:
            y = self._labels.admit(event.y, event.origin)
            if type(y) is not type(event.y):  # so that predictions and labels compare
                event = msgspec.structs.replace(event, y=y)
        if isinstance(event, Label):
            waits = self._waiting.leave(event)
            row, _ = self._tasks.touch(waits.key)
            self._see(waits.key, None)
            return Item(at, event, row, waits.key[1], waits.filled, waits, is_new_task=False)
        if filled is None:
            filled = self._features.read(event.x, event.origin)
        key: TaskKey = (event.origin.partition, event.task)
        self._tasks.release(key)
        row, is_new = self._tasks.touch(key)
        self._see(key, event.ts)
        if not self._counts.events and not event.task and key[0] >= 0:
            self._curriculum.begin_alone()
        self._counts.events += 1
        waiting = None
        if event.y is None and event.id is not None:
            waiting = Waiting(key, filled.slots, np.array(filled.values))
            self._waiting.enter(event.id, waiting)
        return Item(at, event, row, event.task, filled, waiting, is_new)

    def _see(self, key: TaskKey, ts: float | None) -> None:
        """A task has an event or a label; others of its partition may be forgotten by that."""
        for gone in self._presence.see(key, ts):
            self._leave(gone)

    def _leave(self, key: TaskKey) -> None:
        """Forget a task, but for its row: that is given back where things shared by all tasks may change."""
        self._tasks.leave(key)
        self._waiting.forget_task(key)
        self._exchange.forget_task(key)

    def forget(self, partition: int, task: str) -> bool:
        """Forget all of a task of ours, between two steps; if its tag comes again, it begins as any new task does.

        What all tasks share keeps what it learned from this one: θ, the normalization, and what experts count.

        Returns:
            Whether there was such a task.
        """
        if not self._presence.drop((partition, task)):
            return False
        self._leave((partition, task))
        self._exchange.unwrite((partition, task))
        self._tasks.release((partition, task))
        return True

    def _observe(self, items: Sequence[Item], xs: Doubles) -> None:
        """Feed what tasks share with a part's events, in the order of arrival."""
        for item in items:
            if item.source.y is not None:
                self._recent.add(item.row)
        arrived: dict[int, list[int]] = {}
        for i, item in enumerate(items):
            arrived.setdefault(item.source.origin.partition, []).append(i)
        for partition, places in arrived.items():
            if partition < 0:  # the member that has it counts it
                continue
            events = [i for i in places if isinstance(items[i].source, Event)]
            targets = None
            if not self._labels.classify:
                targets = np.array([items[i].source.y for i in places if items[i].source.y is not None], np.float64)
            self._sums.observe(partition, len(places), xs if len(events) == len(items) else xs[events], targets)

    # -- what tasks share ----------------------------------------------------------------------------------------------

    def _grow(self) -> None:
        """Widen for features and classes seen for the first time; nothing that was there changes."""
        if self._shared.grow(self._features.slots, self._labels.names):
            self._widen()

    def _fit(self) -> None:
        """As ``_grow``, where features or classes came from another process."""
        self._shared.grow(self._features.slots, self._labels.names)
        self._widen()

    def _give_own_views(self, slots: list[int]) -> None:
        """Let these slots, which may be new, have views of a task's own, too."""
        self._shared.grow(self._features.slots, self._labels.names)
        self._shared.give_own_views(slots)
        self._widen()

    def _widen(self) -> None:
        for name, column in self._columns(len(self._features), len(self._shared.own)).items():
            if column.shape != self._tasks.columns[name].shape[1:]:
                self._tasks.widen(name, column.shape)

    def _columns(self, features: int, own: int) -> dict[str, Column]:
        memory, classify = self.settings.memory, self._labels.classify
        kept = task_columns(self._method, features, self._labels.outputs, memory.window, own=own, classify=classify)
        if self._recall:
            drift = self.settings.drift
            kept |= concept_columns(drift.concepts, drift.concept_events, kept)
        if self._mixture:
            kept |= self._mixture.layout(kept["window_x"].shape[1], self._labels.outputs)
        return kept

    def _between(self) -> None:
        """Between two parts: normalization, meta-update and spill, each at its own count of events."""
        counts = self._counts
        if self._until_change() > 0:
            return
        if self._mixture:
            self._mixture.publish_shared()
        self._sums.publish_shared()
        self._shared.rescale(self._features.categories)
        if counts.seen < counts.next_look:
            return
        if self.settings.meta.mode == "sync" and self._trains:
            job = self.begin_meta_update()
            if job is not None:
                self.finish_meta_update(job())
        counts.next_look = counts.seen + self._look_every
        self._tasks.sweep()
        self._tasks.shrink()

    @property
    def _look_every(self) -> int:
        """Events between two looks at what tasks share."""
        return self._curriculum.interval if self.settings.meta.mode == "sync" else _HOUSEKEEPING_EVENTS

    # -- meta-updates --------------------------------------------------------------------------------------------------

    @property
    def meta_due(self) -> bool:
        """Whether it is time to begin a meta-update in the background."""
        waited = self._counts.seen - self._counts.meta_begun
        return self._trains and self.settings.meta.mode == "background" and waited >= self._curriculum.interval

    def begin_meta_update(self) -> Callable[[], MetaResult] | None:
        """Draw episodes, and return the work to be done, which may run in another thread; None when there is nothing.

        The work reads nothing that the engine changes. Hand its result to ``finish_meta_update`` between two steps.
        """
        self._counts.meta_begun = self._counts.seen
        episodes = self._draw()
        if episodes is None:
            return None
        state, meta = self._shared.state, self.settings.meta
        start = self._shared.start() if (meta.pull or meta.renew_every) and has_encoder(state.theta) else None
        return partial(self._curriculum.run, self._curriculum.meta_job(state, start, episodes))

    def _draw(self) -> Episodes | None:
        return self._curriculum.draw(self._tasks.columns, self._recent, self._shared.frame)

    def finish_meta_update(self, result: MetaResult) -> None:
        """Adopt the new θ, unless its numbers were not finite; φ of each task follows when it is next touched."""
        if not self._trains:  # since this update began, another process has become the one that changes θ
            return
        self._curriculum.observe_meta_update(result)
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
            tasks=len(self._tasks) - self._exchange.tasks_elsewhere,
            tasks_in_memory=self._tasks.in_memory,
            drifts=counts.drifts,
            meta_updates=self._shared.state.updates,
            theta_version=self._shared.version,
            pending_labels=len(self._waiting),
            expired=self._waiting.expired,
            replaced=self._waiting.replaced,
            refused=counts.refused,
            resets=counts.resets,
            classes=len(self._labels.classes),
            features=len(self._features),
            features_ignored=self._features.ignored,
            values_shared=self._features.shared,
            classes_refused=self._labels.refused,
            tasks_spilled=self._tasks.spilled,
            forgotten_by_age=self._presence.forgotten["age"],
            forgotten_by_limit=self._presence.forgotten["limit"],
            forgotten_as_asked=self._presence.forgotten["asked"],
            waiting_forgotten=self._waiting.forgotten,
            theta_norm=norm(self._shared.state.theta),
            saturated=saturated_share(self._shared.state.theta, self._some_events()),
        )

    def _some_events(self) -> Floats:
        """Some of the last labelled events [N, D], normalized."""
        frame, rows = self._shared.frame, self._recent.rows()[-_LOOK_AT_TASKS:]
        seen = [window(self._tasks.columns, row, frame, _LOOK_AT_EVENTS)[0] for row in rows]
        return as_encoded(np.concatenate([np.zeros((0, frame.inputs), np.float32), *seen]))

    def look(self) -> Mapping[str, list[float]]:
        """What the learner reports of itself, over the tasks that learned a label lately: for reports, by name."""
        rows = np.array(self._recent.rows()[-_LOOK_TASKS:], np.int64)
        return self._method.describe(self._shared.weights, self._tasks.columns, rows)

    @property
    def unsaved_experts(self) -> tuple[str, ...]:
        """The experts that no snapshot holds: they start again after a restore."""
        experts = self._mixture.experts if self._mixture else ()
        return tuple(expert.name for expert in experts if not expert.is_saved)

    def tasks(self) -> list[TaskSummary]:
        """Every task, those in the spill included."""
        columns = self._tasks.columns
        here = [(key, {name: columns[name][row] for name in SUMMARY_COLUMNS}) for key, row in self._tasks.rows()]
        known = [*self._tasks.stored(), *here]
        return [summarize(key, values) for key, values in known if key[0] >= 0 and key not in self._tasks.leaving]

    def snapshot(self) -> Snapshot:
        """The whole state as plain values; take it between two steps."""
        tasks, place = self._tasks.dump()
        shared, arrays = self._shared.dump()
        seen, sums = self._sums.dump()
        header = {
            "settings": fingerprint(self.settings),
            "counts": vars(self._counts).copy(),
            "features": self._features.dump(),
            "classes": self._labels.classes,
            "waiting": self._waiting.dump(),
            "recent": self._recent.dump(place),
            "random": random_state(self._curriculum.random),
            "shared": shared,
            "sums": seen,
            "tasks": tasks,
            "spilled": len(tasks) - len(place),
            "presence": [(*key, *seen) for key, seen in self._presence.items()],
            "leaving": [key for key in self._tasks.leaving if key[0] >= 0],
        }
        partitions = self._mixture.dump_partitions() if self._mixture else {}
        return Snapshot(header, arrays | sums | partitions | self._common())

    @classmethod
    def restore(cls, settings: EngineSettings, snapshot: Snapshot, method: Method | None = None) -> "Engine":
        """The engine that took this snapshot, as it was.

        Raises:
            SnapshotError: the snapshot belongs to other settings, or is damaged.
        """
        header = snapshot.header
        read_header(header, fingerprint(settings))
        engine = cls(settings, method)
        try:
            engine._begin(Counts(**header["counts"]))
            engine._features.load(header["features"])
            engine._labels.load(header["classes"])
            engine._waiting.load(header["waiting"])
            engine._sums.load(header["sums"], snapshot.arrays)
            names = Names(engine._features.slots, engine._labels.names)
            engine._shared.load(header["shared"], snapshot.arrays, names)
            engine._load_common(snapshot.arrays)
            if engine._mixture:
                engine._mixture.load_partitions(snapshot.arrays)
            for name, column in engine._columns(len(engine._features), len(engine._shared.own)).items():
                engine._tasks.widen(name, column.shape)
            engine._recent.load(header["recent"], engine._tasks.restore(header["tasks"], header["spilled"]))
            engine._load_presence(header)
            engine._curriculum.random.bit_generator.state = random_from(header["random"], "the snapshot is")
        except SnapshotError:
            engine.close()
            raise
        return engine

    def _load_presence(self, header: Mapping[str, Any]) -> None:
        """When the tasks of a snapshot were last seen; one of before that was kept says it by their order alone."""
        seen = {(partition, tag): LastSeen(*last) for partition, tag, *last in header.get("presence", ())}
        leaving = [(partition, tag) for partition, tag in header.get("leaving", ())]
        for key in leaving:
            self._leave(key)
        gone, partitions = set(leaving), dict[int, list[tuple[str, LastSeen | None]]]()
        for partition, tag, _ in header["tasks"]:
            if (partition, tag) not in gone:
                partitions.setdefault(partition, []).append((tag, seen.get((partition, tag))))
        for partition, tasks in partitions.items():
            for key in self._presence.load(partition, tasks):
                self._leave(key)

    def handover(self) -> Handover:
        """What moves between processes: the tasks of each partition, and what all tasks share."""
        parts = TaskParts(
            fingerprint=fingerprint(self.settings),
            window=self.settings.memory.window,
            tasks=self._tasks,
            features=self._features,
            labels=self._labels,
            waiting=self._waiting,
            detectors=self._detectors,
            recent=self._recent,
            derived=self._derived,
            stamp=lambda: self._shared.stamp,
            spill_directory=self.settings.memory.spill_directory,
            own=lambda: self._shared.own,
            give_own=self._give_own_views,
            widen=self._fit,
            presence=self._presence,
            leave=self._leave,
            mixture=self._mixture,
        )
        return Handover(parts)

    def shared_weights(self) -> Weights:
        """θ and all else that tasks share, for another process to go on with."""
        header, arrays = self._shared.dump()
        del header["next_scaling"]  # each process has its own
        return Weights(
            fingerprint(self.settings),
            self._features.slots,
            self._features.width,
            self._labels.classes,
            {name: getattr(self._counts, name) for name in _META_COUNTS},
            random_state(self._curriculum.random),
            header,
            arrays | self._common(),
        )

    def candidate(self) -> "Candidate":
        """θ as it is now, to be judged by ``judge`` on labelled events that come later, from other processes."""
        now = self.shared_weights()
        arrays = {name: array.copy() for name, array in now.arrays.items()}
        slots, classes = list(now.slots), list(now.classes)
        weights = replace(now, slots=slots, classes=classes, arrays=arrays)
        return Candidate(weights, self._shared.state, self._exchange.known)

    def judge(self, candidate: "Candidate", before: MetaState | None) -> Verdict | None:
        """How θ set aside does beside the version before, on labels that came since; nothing changes.

        Args:
            candidate: what ``candidate`` gave.
            before: the version before; None: θ as it began.

        Returns:
            None where too few labels have come yet.
        """
        fresh = {key: count - candidate.known.get(key, 0) for key, count in self._exchange.known.items()}
        chosen = [(key, count) for key, count in fresh.items() if count > 0][-_JUDGES:]
        if sum(count for _, count in chosen) < _LEAST_JUDGED:
            return None
        rows = np.array([self._tasks.recall(key) for key, _ in chosen], np.int64)
        episodes = newest_episodes(
            self._tasks.columns,
            rows,
            [count for _, count in chosen],
            self._shared.frame,
            length=self.settings.meta.length,
            kind=self.settings.kind,
        )
        self._tasks.shrink()
        if episodes.scored.sum() < _LEAST_JUDGED / 2:
            return None
        ours = self._shared.grown(candidate.state)
        theirs = self._shared.start() if before is None else self._shared.grown(before)
        return compare(self._method.gradient, ours, theirs, episodes, self._method.members)

    @property
    def meta_state(self) -> MetaState:
        """θ and what the optimizer remembers, as they are now: a value."""
        return self._shared.state

    def count_versions_from(self, version: int) -> None:
        """What this engine publishes next comes after this version of θ, and after what it has already."""
        self._shared.version = max(self._shared.version, version)

    def adopt(self, weights: Weights | None, *, train: bool, fixed: bool = False, is_trusted: bool = False) -> bool:
        """Go on with the θ that another process published, and from now on change and publish it (train) or not.

        Features and classes are known by their names: it does not matter in which order they came, here or there.

        Args:
            weights: what was published last; None: nothing yet.
            train: whether this engine is the one that changes θ from now on.
            fixed: whether the normalization is theirs, too, and stays.
            is_trusted: whether it is taken however it does on our own tasks, as where somebody went back to it.

        Returns:
            False where θ was refused: it is clearly worse on the windows of our own tasks. The present one stays.

        Raises:
            SnapshotError: the weights are of other settings, or damaged; θ stays as it was.
        """
        self._trains = train
        return weights is None or self._take_weights(weights, train=train, fixed=fixed, is_trusted=is_trusted)

    def _take_weights(self, weights: Weights, *, train: bool, fixed: bool, is_trusted: bool) -> bool:
        """Check all of it first, so that what is damaged changes nothing."""
        check_fingerprint(weights.settings, fingerprint(self.settings))
        slots = [Slot(*slot) for slot in weights.slots]
        classes = weights.classes if self._labels.classify else self._labels.names
        self._shared.check(weights.shared, weights.arrays, Names(slots, classes))
        random = random_from(weights.random, "the published weights are")
        missing = [name for name in _META_COUNTS if name not in weights.counts]
        if missing:
            raise SnapshotError(
                f"the published weights are damaged (no count {missing[0]}); delete them to start again"
            )
        if train:
            self._load_or_keep(weights.arrays)
        features = self._features.merge(weights.slots, weights.width)
        outputs = self._labels.merge(weights.classes) if self._labels.classify else [0]
        self._fit()
        shared = self._shared.copy()
        shared.take(weights.shared, weights.arrays, Names(slots, classes, features, outputs), fixed=fixed)
        if not (fixed or is_trusted) and self._is_worse(shared):
            self._shared.version = max(self._shared.version, shared.version)  # what we publish next comes after it
            return False
        self._shared, self._sums.is_fixed = shared, fixed
        if train:
            for name in _META_COUNTS:
                setattr(self._counts, name, weights.counts[name])
            self._curriculum.random.bit_generator.state = random
        self._fit()
        return True

    def _load_or_keep(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """As ``_load_common``; where that is refused, all of it stays as it was."""
        before = {name: array.copy() for name, array in self._common().items()}
        try:
            self._load_common(arrays)
        except SnapshotError:
            self._load_common(before)
            raise

    def _is_worse(self, other: Shared) -> bool:
        """Whether θ of another process is clearly worse than ours on what our tasks remember.

        Only a θ that lies farther away than its meta-updates can have brought it is compared: a step of Adam is at most
        about its rate.
        """
        ours, theirs, rate = self._shared.state.theta, other.state.theta, self.settings.meta.rate
        updates = max(other.version - self._shared.version, 0)
        if any(theirs[name].shape != p.shape for name, p in ours.items()):
            return False  # it has views of features that ours has not
        moved = max(float(np.abs(theirs[name] - p).max()) if p.size else 0.0 for name, p in ours.items())
        if moved <= _LONGEST_STEP * rate * updates:
            return False
        random, gaps = self._curriculum.random.bit_generator.state, []
        for _ in range(_TRIALS):
            episodes = self._draw()
            if episodes is not None:
                theirs_lost, ours_lost = (self._method.gradient(one, episodes, "cpu")[0] for one in (theirs, ours))
                gaps.append(theirs_lost - ours_lost)
        self._curriculum.random.bit_generator.state = random
        if len(gaps) < _TRIALS:
            return False
        mean, error = float(np.mean(gaps)), float(np.std(gaps, ddof=1)) / math.sqrt(len(gaps))
        return not mean <= _CLEARLY * error + _LEAST_GAP  # NaN is worse

    # -- what tasks share by counting ----------------------------------------------------------------------------------

    def changed_sums(self) -> Iterator[tuple[int, bytes]]:
        """The sums of our partitions that changed since this was last asked, each as a record."""
        for partition, part in self._sums.take_changed():
            shared = self._shared
            scales = shared.frame.shared, shared.reference
            in_force = shared.scaling_id, shared.frame.epoch, shared.next_scaling
            yield partition, encode_sums(part, self._features.slots, *scales, *in_force)

    def add_sums(self, partition: int, value: bytes, at: str) -> SumsRecord:
        """Add up what was published of a partition; returns it, for ``own_sums`` where the partition becomes ours.

        Raises:
            SnapshotError: it is damaged.
        """
        record = decode_sums(value, at)
        record = record.renumbered(self._features.merge(record.slots, None))
        self._fit()
        self._sums.add_published(partition, record.part)
        return record

    def own_sums(self, partitions: Collection[int], records: Mapping[int, SumsRecord]) -> None:
        """These partitions are ours from now on; their sums go on from what was published last, if anything was."""
        for partition in partitions:
            self._sums.own(partition)
        found = [records[partition] for partition in sorted(partitions) if partition in records]
        self._shared.go_on_with(found)

    def forget_sums(self, partition: int) -> None:
        """The partition is another process's from now on."""
        self._sums.forget(partition)

    # -- episodes ------------------------------------------------------------------------------------------------------

    def write_episodes(self) -> None:
        """From now on keep what is to be published for a trainer elsewhere."""
        self._exchange.is_writing = True

    def changed_episodes(self) -> Iterator[tuple[int, bytes, bytes | None]]:
        """Segments of labelled events that are complete since this was last asked: partition, key and record.

        No record: the task was forgotten because somebody asked for it, and so is the segment.
        """
        return self._exchange.changed()

    def remember_episode(self, partition: int, key: bytes, value: bytes, at: str) -> None:
        """Take in labelled events of which θ has been learned already, as a new trainer does: it does not change.

        Raises:
            SnapshotError: as ``observe_episode``.
        """
        trains, counts, rhythm = self._trains, vars(self._counts).copy(), self._curriculum.dump()
        self._trains = False
        try:
            self.observe_episode(partition, key, value, at)
        finally:
            self._trains = trains
            for name, count in counts.items():
                setattr(self._counts, name, count)
            self._curriculum.load(rhythm)

    def observe_episode(self, partition: int, key: bytes, value: bytes, at: str) -> list[Outcome]:
        """Learn labelled events of another process's partition, so that θ learns from them too.

        They are predicted and learned as our own are, in the order in which they were, but their tasks are not ours:
        they are in no count, no sum, no changelog and no list of tasks.

        Returns:
            Of the events that we did not know yet, in order.

        Raises:
            SnapshotError: the segment is damaged, or of another kind of prediction.
        """
        events, counts = self._exchange.read(partition, key, value, at), vars(self._counts).copy()
        outcomes = self.step(events)
        for name in ("events", "labelled", "drifts", "refused"):
            setattr(self._counts, name, counts[name])
        return outcomes

    def forget_episode(self, partition: int, key: bytes) -> None:
        """A segment of another process's partition was forgotten: its task is, of which there may be others."""
        self.forget(elsewhere(partition), key.decode(errors="replace").rpartition("#")[0])

    def forget_episodes(self, partition: int) -> None:
        """Drop what came as episodes of a partition: it is ours now, or somebody else trains."""
        self._exchange.forget(partition)

    def close(self) -> None:
        """Let go of the spill."""
        self._tasks.close()

    def _common(self) -> dict[str, npt.NDArray[Any]]:
        """What tasks share beside θ and the normalization."""
        return self._curriculum.dump() | (self._mixture.dump() if self._mixture else {})

    def _load_common(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self._curriculum.load(arrays)
        if self._mixture:
            self._mixture.load(arrays)

    @property
    def _derived(self) -> tuple[str, ...]:
        """The columns that windows make again, to the bit."""
        return () if self._recall else self._method.derived

    def _leave_out_derived(self, rows: Ints) -> npt.NDArray[np.bool_]:
        """Which of these rows go to the spill without φ: those of few events, from which it is quickly derived again.

        A stream whose tags never come back has hardly any others, and φ is most of their bytes.
        """
        columns = self._tasks.columns
        light = can_be_omitted(columns, rows, self._shared.stamp) & (columns["window_count"][rows] <= _QUICK_EVENTS)
        marked = rows[light & ~left_out(columns["version"][rows])]
        columns["version"][marked] = leave_out(columns["version"][marked])
        return light

    def _load_detector(self, row: int, state: bytes) -> None:
        if state:
            self._detectors.load(row, state)
        else:
            self._detectors.reset(row)

    def _release(self, row: int) -> None:
        self._recent.drop(row)
        self._detectors.reset(row)
