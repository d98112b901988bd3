"""The engine: events in, outcomes out. No I/O, no clock, no global randomness; the one owner of memory.

``Engine`` is the front of a few collaborators over one ``Memory``:

    cycle        a batch through predict, learn, judge, detect drift, remember
    training     meta-updates of θ: when, from what
    adoption     θ of other processes, and ours for them
    prediction   what a step would say, from copies
    views        counts and tasks, for readers
    saving       the whole state as one value, and back

A prediction depends on θ and on earlier events of the same task, never on how events were grouped into batches; nothing
uses a label before its event was predicted; a restored engine goes on as if nothing had happened.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from streammeta.engine import prediction, saving, views
from streammeta.engine.adoption import Adoption, Candidate
from streammeta.engine.checkpoint import read_header
from streammeta.engine.cycle import Cycle
from streammeta.engine.episodes import elsewhere
from streammeta.engine.factory import fingerprint
from streammeta.engine.federation import Federation
from streammeta.engine.handover import Handover
from streammeta.engine.memory import Memory
from streammeta.engine.outcome import EngineStats, MetaResult, Outcome, Signal, TaskSummary
from streammeta.engine.parallel import Parallel
from streammeta.engine.settings import EngineSettings, MetaSettings
from streammeta.engine.snapshot import Snapshot
from streammeta.engine.sums import SumsRecord, decode_sums, encode_sums
from streammeta.engine.training import Training
from streammeta.engine.trial import Verdict
from streammeta.engine.weights import Weights
from streammeta.errors import SnapshotError
from streammeta.event import Event, Label
from streammeta.meta.base import Kind, MetaState, Method
from streammeta.meta.federated import Noise

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


class Engine:
    """Predicts, adapts and meta-learns over task-tagged events.

    Args:
        settings: all of the engine's settings.
        method: a learner of the caller's own; None: the one that the settings name.

    Attributes:
        memory: what is remembered, to look at; its parts are those of this version, and another may have others.

    >>> from streammeta.event import Origin
    >>> engine = Engine(EngineSettings())
    >>> events = [Event({"a": float(i % 2)}, "t", Origin("doc", 0, i), y=i % 2) for i in range(40)]
    >>> outcomes = engine.step(events)
    >>> sum(outcome.error for outcome in outcomes[-20:])
    0.0
    """

    def __init__(self, settings: EngineSettings, method: Method | None = None) -> None:
        self._given = method  # for who copies the engine
        self.memory = Memory(settings, method)
        self._training = Training(self.memory)
        self._cycle = Cycle(self.memory, self._training)
        self._adoption = Adoption(self.memory, self._training)

    # -- the cycle -----------------------------------------------------------------------------------------------------

    def step(self, events: Sequence[Event | Label]) -> list[Outcome]:
        """Predict, then learn; one outcome for each event or label, in the same order.

        In meta mode "sync", θ is meta-updated in between, at counts of them that ``Rhythm`` sets. What cannot be used
        comes back with ``rejected`` set to the reason, and changes nothing.
        """
        return self._cycle.step(events)

    def check(self, events: Sequence[Event]) -> None:
        """See whether ``step`` would accept all of these events, in this order; nothing is learned or remembered.

        Raises:
            EventError: it would refuse one of them, for this reason.
        """
        prediction.check(self.memory, events)

    def predict(self, events: Sequence[Event], *, extracted: bool = False) -> list[Outcome]:
        """What ``step`` would predict for each of these events, were it the next one; nothing is learned or remembered.

        Labels of the events are not looked at, so nothing is learned; a row that would change first does so in a copy.

        Args:
            events: each as it came.
            extracted: they have the features already that are made of others, as the ``event`` of an outcome has them.
        """
        return prediction.predict(self.memory, events, extracted=extracted)

    def forget(self, partition: int, task: str) -> bool:
        """Forget all of a task of ours, between two steps; if its tag comes again, it begins as any new task does.

        What all tasks share keeps what it learned from this one: θ, the normalization, and what experts count over all
        of them. A forest, which remembers events, is grown again without its.

        Returns:
            Whether there was such a task.
        """
        return self.memory.forget(partition, task)

    @property
    def settings(self) -> EngineSettings:
        """The settings that it was made with."""
        return self.memory.settings

    @property
    def has_backlog(self) -> bool:
        """Whether more events wait than can be taken; a run in which that was so cannot be repeated exactly."""
        return self._cycle.has_backlog

    @has_backlog.setter
    def has_backlog(self, value: bool) -> None:
        self._cycle.has_backlog = value

    def close(self) -> None:
        """Let go of the spill."""
        self.memory.tasks.close()

    # -- meta-updates --------------------------------------------------------------------------------------------------

    @property
    def meta_due(self) -> bool:
        """Whether it is time to begin a meta-update in the background."""
        return self._training.is_due

    def begin_meta_update(self) -> Callable[[], MetaResult] | None:
        """Draw episodes, and return the work to be done, which may run in another thread; None when there is nothing.

        The work reads nothing that the engine changes. Hand its result to ``finish_meta_update`` between two steps.
        """
        return self._training.begin()

    def finish_meta_update(self, result: MetaResult) -> None:
        """Adopt the new θ, unless its numbers were not finite; φ of each task follows when it is next touched."""
        self._training.finish(result)

    # -- looking inside, and saving ------------------------------------------------------------------------------------

    def stats(self) -> EngineStats:
        """Counts since the engine began."""
        return views.stats(self.memory)

    def look(self) -> Mapping[str, list[float]]:
        """What the learner reports of itself, over the tasks that learned a label lately: for reports, by name."""
        return views.describe(self.memory)

    def expert_weights(self) -> Mapping[str, float]:
        """Who decides: the weight of the learner, of each expert, and of both together; 1 in all, nothing without any.

        The mean over the tasks that learned a label lately.
        """
        return views.expert_weights(self.memory)

    def tasks(self) -> list[TaskSummary]:
        """Every task, those in the spill included."""
        return views.tasks(self.memory)

    @property
    def unsaved_experts(self) -> tuple[str, ...]:
        """The experts that no snapshot holds: they start again after a restore."""
        experts = self.memory.mixture.experts if self.memory.mixture else ()
        return tuple(expert.name for expert in experts if not expert.is_saved)

    def snapshot(self) -> Snapshot:
        """The whole state as plain values; take it between two steps."""
        return saving.dump(self.memory, self._training)

    @classmethod
    def restore(cls, settings: EngineSettings, snapshot: Snapshot, method: Method | None = None) -> "Engine":
        """The engine that took this snapshot, as it was.

        Raises:
            SnapshotError: the snapshot belongs to other settings, or is damaged.
        """
        read_header(snapshot.header, fingerprint(settings))
        engine = cls(settings, method)
        try:
            saving.load(engine.memory, engine._training, snapshot)
        except SnapshotError:
            engine.close()
            raise
        return engine

    def handover(self) -> Handover:
        """What moves between processes: the tasks of each partition, and what all tasks share."""
        return Handover(self.memory)

    # -- θ of several processes ----------------------------------------------------------------------------------------

    def parallel(self) -> Parallel:
        """This engine's part in learning one θ with others, a process each; in meta mode "background"."""
        return Parallel(self.memory, self._training, self._adoption)

    def federation(self, noise: Noise | None = None) -> Federation:
        """This engine's part where members send changes of θ and keep their events; ``noise``: as `Federation`."""
        return Federation(self.memory, self._training, noise)

    @property
    def meta_state(self) -> MetaState:
        """θ and what the optimizer remembers, as they are now: a value."""
        return self.memory.shared.state

    def shared_weights(self) -> Weights:
        """θ and all else that tasks share, for another process to go on with."""
        return self._adoption.weights()

    def candidate(self) -> Candidate:
        """θ as it is now, to be judged by ``judge`` on labelled events that come later, from other processes."""
        return self._adoption.candidate()

    def judge(self, candidate: Candidate, before: MetaState | None) -> Verdict | None:
        """How θ set aside does beside the version before, on labels that came since; nothing changes.

        Args:
            candidate: what ``candidate`` gave.
            before: the version before; None: θ as it began.

        Returns:
            None where too few labels have come yet.
        """
        return self._adoption.judge(candidate, before)

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
        return self._adoption.adopt(weights, train=train, fixed=fixed, is_trusted=is_trusted)

    def is_worse_than(self, weights: Weights) -> bool | None:
        """Whether the present θ is clearly worse than this one on the windows of our tasks; θ stays as it is.

        Returns:
            None where the windows hold too little to say.

        Raises:
            SnapshotError: the weights are of other settings, or damaged.
        """
        return self._adoption.is_worse_than(weights)

    def count_versions_from(self, version: int) -> None:
        """What this engine publishes next comes after this version of θ, and after what it has already."""
        self.memory.shared.version = max(self.memory.shared.version, version)

    # -- what tasks share by counting ----------------------------------------------------------------------------------

    def changed_sums(self) -> Iterator[tuple[int, bytes]]:
        """The sums of our partitions that changed since this was last asked, each as a record."""
        memory = self.memory
        for partition, part in memory.sums.take_changed():
            shared = memory.shared
            scales = shared.frame.shared, shared.reference
            in_force = shared.scaling_id, shared.frame.epoch, shared.next_scaling
            yield partition, encode_sums(part, memory.features.slots, *scales, *in_force)

    def add_sums(self, partition: int, value: bytes, at: str) -> SumsRecord:
        """Add up what was published of a partition; returns it, for ``own_sums`` where the partition becomes ours.

        Raises:
            SnapshotError: it is damaged.
        """
        memory = self.memory
        record = decode_sums(value, at)
        record = record.renumbered(memory.features.merge(record.slots, None))
        memory.fit()
        memory.sums.add_published(partition, record.part)
        return record

    def own_sums(self, partitions: Collection[int], records: Mapping[int, SumsRecord]) -> None:
        """These partitions are ours from now on; their sums go on from what was published last, if anything was."""
        for partition in partitions:
            self.memory.sums.own(partition)
        found = [records[partition] for partition in sorted(partitions) if partition in records]
        self.memory.shared.go_on_with(found)

    def forget_sums(self, partition: int) -> None:
        """The partition is another process's from now on."""
        self.memory.sums.forget(partition)

    # -- episodes ------------------------------------------------------------------------------------------------------

    def write_episodes(self) -> None:
        """From now on keep what is to be published for a trainer elsewhere."""
        self.memory.exchange.is_writing = True

    def changed_episodes(self) -> Iterator[tuple[int, bytes, bytes | None]]:
        """Segments of labelled events that are complete since this was last asked: partition, key and record.

        No record: the task was forgotten because somebody asked for it, and so is the segment.
        """
        return self.memory.exchange.changed(self.memory.shared.own)

    def remember_episode(self, partition: int, key: bytes, value: bytes, at: str) -> None:
        """Take in labelled events of which θ has been learned already, as a new trainer does: it does not change.

        Raises:
            SnapshotError: as ``observe_episode``.
        """
        memory, training = self.memory, self._training
        trains, counts, rhythm = training.is_ours, replace(memory.counts), training.dump()
        training.is_ours = False
        try:
            self.observe_episode(partition, key, value, at)
        finally:
            training.is_ours, memory.counts = trains, counts
            training.load(rhythm)

    def observe_episode(self, partition: int, key: bytes, value: bytes, at: str) -> list[Outcome]:
        """Learn labelled events of another process's partition, so that θ learns from them too.

        They are predicted and learned as our own are, in the order in which they were, but their tasks are not ours:
        they are in no count, no sum, no changelog and no list of tasks.

        Returns:
            Of the events that we did not know yet, in order.

        Raises:
            SnapshotError: the segment is damaged, or of another kind of prediction.
        """
        events, counts = self.memory.exchange.read(partition, key, value, at), vars(self.memory.counts).copy()
        outcomes = self.step(events)
        for name in ("events", "labelled", "drifts", "refused"):
            setattr(self.memory.counts, name, counts[name])
        return outcomes

    def forget_episode(self, partition: int, key: bytes) -> None:
        """A segment of another process's partition was forgotten: its task is, of which there may be others."""
        self.memory.forget(elsewhere(partition), key.decode(errors="replace").rpartition("#")[0])

    def forget_episodes(self, partition: int) -> None:
        """Drop what came as episodes of a partition: it is ours now, or somebody else trains."""
        self.memory.exchange.forget(partition)
