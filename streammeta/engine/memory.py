"""What an engine remembers, as one: tasks, what they share, and the verbs that concern several of its parts.

Only ``Engine`` makes one, and those who work for it change it: the cycle, meta-updates, θ of other processes, tasks on
the move. What each part is for says its class.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streammeta.engine.buffer import RecentRows
from streammeta.engine.columns import Column
from streammeta.engine.common_rewards import CommonRewards
from streammeta.engine.drift import Detectors
from streammeta.engine.elapsed import COLUMN as ELAPSED
from streammeta.engine.elapsed import with_elapsed
from streammeta.engine.exchange import Exchange
from streammeta.engine.experts import OF_TASKS, POOLED, Case, Columns, Mixture, Slots, choose
from streammeta.engine.extraction import Extractor
from streammeta.engine.factory import gaussians_above, make_method
from streammeta.engine.features import FeatureSpace
from streammeta.engine.interval import COLUMNS, Intervals
from streammeta.engine.labels import LabelSpace, PendingEvents
from streammeta.engine.looks import Look
from streammeta.engine.partitioned import Partitions, Renumbering
from streammeta.engine.presence import Presence
from streammeta.engine.responses import make_response
from streammeta.engine.scale import SHIFT, SPREAD, Fixed, FrameScale, Seen, SharedScale
from streammeta.engine.settings import ACTION_OF, OF_ACTION, EngineSettings
from streammeta.engine.shared import Shared
from streammeta.engine.spill import TaskKey
from streammeta.engine.staleness import can_be_omitted, left_out, mark_left_out
from streammeta.engine.sums import PartitionSums
from streammeta.engine.taskrow import task_columns
from streammeta.engine.tasks import TaskTable
from streammeta.event import Event
from streammeta.meta.base import Ints, Method, Scaling
from streammeta.meta.settings import ExpertSettings

__all__ = ["Counts", "Memory"]

_QUICK_EVENTS = 32  # labelled events from which φ is derived sooner than it is read back


@dataclass(slots=False)
class Counts:
    """What has happened since the engine began."""

    seen: int = 0  # events and labels taken in: the clock of all that is shared
    events: int = 0
    labelled: int = 0
    drifts: int = 0
    refused: int = 0
    corrected: int = 0  # labels of an event that had one
    resets: int = 0  # tasks that began again because a prediction was not a finite number
    refused_updates: int = 0  # meta-updates whose numbers were not finite
    next_look: int = 0  # seen, when what tasks share is next looked at
    meta_begun: int = 0  # seen, when the last meta-update began


class Memory:
    """The parts of an engine's memory.

    Args:
        settings: the engine's.
        method: a learner of the caller's own; None: the one that the settings name.
    """

    def __init__(self, settings: EngineSettings, method: Method | None = None) -> None:
        kept = settings.memory
        self.settings = settings
        self.method = method or make_method(settings)
        self.features = FeatureSpace(kept.max_features)
        self.labels = LabelSpace(settings.kind, kept.max_classes)
        self.extractor = Extractor.of(settings.features, classify=self.labels.classify, seed=settings.seed)
        self.waiting = PendingEvents(kept.max_waiting, classify=self.labels.classify)
        self.presence = Presence(kept.known_tasks, kept.forgotten_after)
        self.sums = PartitionSums()
        self.mixture = self.mixture_of(settings.learner.experts, gaussians_above(settings))
        self.intervals = None if settings.interval is None else Intervals(settings.interval)
        self.rewards = self._common_rewards()
        of_experts = self.mixture.partitions.parts if self.mixture else ()
        self.partitions = Partitions([*of_experts, *(one for one in (self.intervals, self.rewards) if one is not None)])
        self.response = make_response(self.method, settings)
        self.detectors = Detectors(settings.drift)
        self.recent = RecentRows(settings.meta.recent_events)
        self.tasks = TaskTable(
            self.layout(0, 0),
            kept,
            dump_extra=self.detectors.dump,
            load_extra=self._load_detector,
            on_release=self._release,
            derived=self.response.derived,
            leave_out_derived=self._leave_out_derived if self.response.derived else None,
            unsure=COLUMNS | POOLED | OF_TASKS,
        )
        self.shared = Shared(self.method, self.sums, classify=self.labels.classify)
        self.exchange = Exchange(settings.kind, kept.window, self.tasks, self.features, self.labels, self.presence)
        self.counts = Counts()
        self.corrected: set[TaskKey] = set()  # with labels replaced in windows, since they were last written
        self.grow()  # a target is an output before the first event

    def mixture_of(self, experts: Sequence[str | ExpertSettings], gaussians: int) -> Mixture | None:
        """These experts, and above so many classes (0: never) the Gaussians; None: there are none.

        Raises:
            ConfigError: see ``choose``.
        """
        settings, above = self.settings, {"gaussian": gaussians} if gaussians else {}
        made = choose(
            (*experts, *above),
            settings.kind,
            settings.seed,
            self.features,
            self.scaling_of,
            self.shared_scale,
            self.sums,
        )
        return Mixture(made, settings.kind, above=above) if made else None

    def _common_rewards(self) -> CommonRewards | None:
        """What actions of the configuration earn in all tasks; None: it is not wanted, or there are none."""
        decide = self.settings.decide
        if decide is None or not decide.common or not decide.actions:
            return None

        def is_own(slot: int) -> bool:
            name = self.features.slots[slot].name
            return ACTION_OF not in name and not name.startswith(OF_ACTION)

        return CommonRewards(decide.actions, is_own)

    # -- tasks ---------------------------------------------------------------------------------------------------------

    def past_of(self, key: TaskKey) -> TaskKey:
        """The task in whose row is what features are made of: of decisions with a head an action, one beside those."""
        decide = self.settings.decide
        if decide is None or decide.heads == "shared":
            return key
        return key[0], key[1].rpartition(ACTION_OF)[0] + ACTION_OF

    def leave(self, key: TaskKey) -> None:
        """Forget a task, but for its row: that is given back where things shared by all tasks may change."""
        self.tasks.leave(key)
        self.waiting.forget_task(key)
        self.exchange.forget_task(key)

    def forget(self, partition: int, task: str) -> bool:
        """See ``Engine.forget``."""
        self.partitions.forget_task(partition, task)
        if not self.presence.drop((partition, task)):
            return False
        self.leave((partition, task))
        self.exchange.unwrite((partition, task))
        self.tasks.release((partition, task))
        return True

    # -- φ -------------------------------------------------------------------------------------------------------------

    @property
    def fixed(self) -> Fixed:
        """θ and the scale of now, which a run of events is worked off under."""
        return Fixed(self.shared.weights, self.shared.version, self.shared.frame)

    def rescale(self, fixed: Fixed, columns: Columns, row: int, found: Look) -> None:
        """φ of a task whose scale a look has changed."""
        rows = np.array([row])
        self.method.respread(columns, rows, 0.0 if found.unit_changed else found.noise)
        self.response.derive(fixed, columns, rows, self.labels.outputs)

    def extracted(self, event: Event, columns: Columns, row: int) -> Event:
        """The event with the features that are made of its task's past and of others of its own; nothing changes.

        Args:
            event: as it came.
            columns: of the task table, or like it.
            row: of the task whose past it is; −1: it has none yet.

        Raises:
            EventError: they cannot be made.
        """
        elapsed = self.settings.elapsed
        if elapsed is not None:
            event = with_elapsed(event, elapsed, columns, row)
        if self.extractor:
            event = self.extractor.extracted(event, self.features.named(event.x, event.origin), columns, row)
        return event

    def shared_scale(self) -> SharedScale:
        """The scale of all tasks in force, for experts."""
        return self.shared.frame.shared

    def scaling_of(self, columns: Columns, row: int) -> Scaling:
        """A task's own view of each feature, or the shared one, for experts."""
        frame = self.shared.frame
        D = frame.shared.shift.size
        own, scale = columns.scale_x[row, SPREAD, :D] > 0, columns.scale_x[row, :, :D]
        shift = np.where(own, scale[SHIFT], frame.shared.shift)
        gain = np.where(own, 1 / np.where(own, scale[SPREAD], 1.0), frame.shared.gain)
        return Scaling(shift.astype(np.float32), gain.astype(np.float32), 0.0, 1.0)

    # -- experts -------------------------------------------------------------------------------------------------------

    @staticmethod
    def case(
        frame: FrameScale,
        columns: Columns,
        seen: Seen,
        task: str,
        partition: int,
        slots: Slots | None = None,
        context: Ints | None = None,
        values: Ints | None = None,
    ) -> Case:
        """One event (``seen`` has no other) as experts see it; ``slots`` where x may have features not known here."""
        common = seen.common(columns, frame)
        unit = float(common.shift[0]), float(common.spread[0])
        return Case(int(seen.rows[0]), task, seen.high[0], partition, slots, common.x[0], *unit, context, values)

    def same_numbers(self, experts: Sequence[str]) -> Renumbering:
        """For what an engine of these experts knew, which numbered features and classes as they are here."""
        return Renumbering(np.arange(len(self.features)), np.arange(self.labels.outputs), same=True, experts=experts)

    # -- columns -------------------------------------------------------------------------------------------------------

    def grow(self) -> None:
        """Widen for features and classes seen for the first time; nothing that was there changes."""
        if self.shared.size != (len(self.features.pattern.slot_of), self.labels.outputs):
            self.shared.grow(self.features.slots, self.labels.names)
            self.widen()

    def fit(self) -> None:
        """As ``grow``, where features or classes came from another process."""
        self.shared.grow(self.features.slots, self.labels.names)
        self.widen()

    def give_own_views(self, slots: list[int]) -> None:
        """Let these slots, which may be new, have views of a task's own, too."""
        self.shared.grow(self.features.slots, self.labels.names)
        self.shared.give_own_views(slots)
        self.widen()

    def widen(self) -> None:
        """Give every row the columns that features, classes and own views of now want."""
        for name, column in self.layout(len(self.features), len(self.shared.own)).items():
            if column.shape != self.tasks.columns[name].shape[1:]:
                self.tasks.widen(name, column.shape)

    def layout(self, features: int, own: int) -> dict[str, Column]:
        """What is kept of each task, for D ``features`` of which K have views of a task's ``own``."""
        return self.layout_with(self.mixture, features, own)

    def layout_with(self, mixture: Mixture | None, features: int, own: int) -> dict[str, Column]:
        """The same, were these the experts."""
        size, classify = self.settings.memory.window, self.labels.classify
        kept = task_columns(self.method, features, self.labels.outputs, size, own=own, classify=classify)
        kept |= self.response.columns(kept)
        if mixture:
            kept |= mixture.layout(kept["window_x"].shape[1], self.labels.outputs)
        if self.intervals:
            kept |= COLUMNS
        if self.settings.elapsed is not None:
            kept |= ELAPSED
        if self.extractor:
            kept |= self.extractor.columns
        if self.settings.on_second == "relearn":
            kept["window_id"] = Column((size,), np.int64)
        return kept

    def _leave_out_derived(self, rows: Ints) -> npt.NDArray[np.bool_]:
        """Which of these rows go to the spill without φ: those of few events, from which it is quickly derived again.

        A stream whose tags never come back has hardly any others, and φ is most of their bytes.
        """
        columns = self.tasks.columns
        light = can_be_omitted(columns, rows, self.shared.stamp) & (columns.window_count[rows] <= _QUICK_EVENTS)
        marked = rows[light & ~left_out(columns.version[rows])]
        mark_left_out(columns, marked)
        return light

    def _load_detector(self, row: int, state: bytes) -> None:
        if state:
            self.detectors.load(row, state)
        else:
            self.detectors.reset(row)

    def _release(self, row: int) -> None:
        self.recent.drop(row)
        self.detectors.reset(row)
