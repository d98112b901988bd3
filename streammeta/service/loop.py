"""The loop of `replay` and `demo`: source → decode → engine → sink → commit; `run` has that of `exactly_once`.

Both take records through the same `Turn`, so a replay predicts what the service would.

What is promised in this form: at least once. Results are flushed, then the engine's state is written together with the
offsets it goes on from, then those offsets are committed. After a kill, the engine restarts from the last snapshot and
reads on from exactly there: nothing is lost, and what came after that snapshot is predicted and published again.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import structlog

from streammeta.decisions.factory import engine_class
from streammeta.engine import Engine, EngineSettings
from streammeta.engine.snapshot import read_snapshot, write_snapshot
from streammeta.errors import TransportError
from streammeta.event import Decoder, Record
from streammeta.formats.refusal import Refusals
from streammeta.meta.base import Method
from streammeta.service.background import MetaUpdates
from streammeta.service.busy import Busy
from streammeta.service.http import Health
from streammeta.service.limits import LimitWatch
from streammeta.service.metrics import Metrics
from streammeta.service.turn import Observe, Turn
from streammeta.transport.base import Partition, Positions, Sink, Source

__all__ = ["Observe", "Options", "Service", "Summary", "restore"]

_log = structlog.get_logger(__name__)
_LOOK_EVERY_SECONDS = 1.0  # the engine's and the source's own counts are read this often
_MOST_COMMIT_FAILURES = 10  # in a row


@dataclass(frozen=True, slots=True)
class Options:
    """How the loop runs."""

    poll_records: int = 1_000
    poll_seconds: float = 0.5  # the longest wait for records, and so for a stop
    save_every_seconds: float = 10.0
    flush_seconds: float = 30.0  # the longest wait for results to be safe
    log_every_seconds: float = 10.0
    snapshot: Path | None = None  # the snapshot's file; None: no state is kept
    batch_events: int | None = None  # the engine gets a poll's events in batches of this size; None: all at once
    name: str = "streammeta"  # the application's, for messages
    stuck_seconds: float = 300.0  # records that wait for so long, and do not come, end the service
    frozen: bool = False  # θ and the normalization stay as they were published, where they were
    background_patience: float | None = None  # see MetaUpdates; None: the engine makes them in its own step
    partitions: int = 1  # of the input; where there are more, members publish episodes for the one that trains
    background_share: float = 1.0  # likewise, of a service; a replay has no backlog
    trainer: Literal["member", "separate"] = "member"  # who changes θ: one of the members, or `streammeta train`
    updates_every_seconds: float | None = None  # members send changes of θ so often; None: they send episodes
    keep_versions: int = 0  # of θ
    explain_orders: int = 0  # see Turn


@dataclass(frozen=True, slots=True)
class Summary:
    """What one run of the loop did."""

    records: int
    rejected: int
    seconds: float
    refusals: Refusals = field(default_factory=Refusals)  # why records were set aside


def restore(settings: EngineSettings, snapshot: Path | None, method: Method | None = None) -> tuple[Engine, Positions]:
    """The engine as its snapshot left it, and the offsets to go on from; a fresh engine when there is no snapshot.

    Args:
        settings: of the engine; those that the state depends on must be the snapshot's.
        snapshot: the file; None: there is none.
        method: a learner of the caller's own; None: the one that the settings name.

    Raises:
        SnapshotError: the snapshot cannot be read, or belongs to other settings.
    """
    found = None if snapshot is None else read_snapshot(snapshot)
    if found is None:
        return engine_class(settings)(settings, method), {}
    saved, positions = found
    engine = engine_class(settings).restore(settings, saved, method)
    _log.info("state restored", snapshot=str(snapshot), tasks=engine.stats().tasks, partitions=len(positions))
    if engine.unsaved_experts:
        names = ", ".join(engine.unsaved_experts)
        _log.warning("models of River are in no snapshot: these experts begin again", experts=names)
    return engine, positions


class Service:
    """Runs an engine between a source and a sink.

    Args:
        engine: predicts and learns; nobody else may use it meanwhile.
        sink: gets predictions, signals and dead letters; None: only ``observers`` see results.
        decoder: reads records.
        options: how the loop runs.
        metrics: counts what happens.
        health: is updated at every turn.
        observers: are shown every step's outcomes.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        engine: Engine,
        sink: Sink | None,
        *,
        decoder: Decoder,
        options: Options,
        metrics: Metrics,
        health: Health,
        observers: Sequence[Observe] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine, self._sink, self._options = engine, sink, options
        self._metrics, self._health, self._clock = metrics, health, clock
        self._meta: MetaUpdates | None = None
        if options.background_patience is not None:
            self._meta = MetaUpdates(engine, metrics, patience=options.background_patience, clock=clock)
        self._turn = Turn(
            engine,
            decoder=decoder,
            metrics=metrics,
            batch_events=options.batch_events,
            meta=self._meta,
            observers=observers,
            clock=clock,
        )
        self._turn.explain_orders = options.explain_orders
        self._busy, self._limits, self._decoder = Busy(metrics), LimitWatch(metrics), decoder
        self._source: Source | None = None  # while running
        self._positions: dict[Partition, int] = {}  # what the engine's state includes: next offsets
        self._taken: set[Partition] = set()  # of these, the ones read in this run: only they are ours to commit
        self._changed = False  # since the last save
        self._commit_failures = 0
        self._save_at = self._look_at = self._log_at = clock()
        self._logged = 0  # records at the last line in the log

    def run(self, source: Source, stop: threading.Event, positions: Positions | None = None) -> Summary:
        """Go on from ``positions`` until ``stop`` is set or nothing will ever come again; then save, and return.

        Raises:
            TransportError: source or sink cannot go on.
        """
        begun = self._clock()
        self._source = source
        self._positions = dict(positions or {})
        source.seek(self._positions)
        self._health.restored()
        self._metrics.engine(self._engine.stats(), self._engine.expert_weights())
        self._save_at = self._clock() + self._options.save_every_seconds
        try:
            while not (stop.is_set() or source.exhausted):
                self._take(self._busy.poll(source, self._options.poll_records, self._options.poll_seconds))
                self._health.turned()
                if self._clock() >= self._save_at:
                    self._save(source)
                self._look(source)
            self._health.stopping()
            if self._meta is not None:
                self._changed |= self._meta.end()
            self._save(source)
            self._look(source, force=True)
        finally:
            self._source = None
            if self._meta is not None:
                self._meta.close()
        return Summary(self._turn.records, self._turn.rejected, self._clock() - begun, self._turn.refusals)

    def revoked(self, partitions: Iterable[Partition]) -> None:
        """Save what is done before others go on with these partitions, then forget them. Called while polling."""
        partitions = tuple(partitions)
        if self._source is not None:
            self._save(self._source)
        for partition in partitions:
            self._positions.pop(partition, None)
            self._taken.discard(partition)
        _log.info("partitions revoked", partitions=len(partitions))

    def assigned(self, partitions: Iterable[Partition]) -> None:
        """Partitions are ours from now on."""
        _log.info("partitions assigned", partitions=len(tuple(partitions)))

    def _take(self, records: Sequence[Record]) -> None:
        """Predict, learn, and hand the results to the sink. They are not yet safe: that is `_save`."""
        out = self._turn.take(records, answer=self._sink is not None)
        if self._sink is not None:
            self._sink.send(out)
        for record in records:
            self._positions[record.origin.topic, record.origin.partition] = record.origin.offset + 1
        self._taken |= {(record.origin.topic, record.origin.partition) for record in records}
        self._changed |= bool(records) or self._turn.theta_changed
        self._turn.theta_changed = False

    def _save(self, source: Source) -> None:
        """Make it safe, in this order: results, state with the offsets that it includes, offsets."""
        begun = self._clock()
        self._save_at = begun + self._options.save_every_seconds
        if not self._changed:
            return
        if self._sink is not None:
            self._sink.flush(self._options.flush_seconds)
        if self._options.snapshot is not None:
            size = write_snapshot(self._options.snapshot, self._engine.snapshot(), self._positions)
            self._metrics.snapshot(size, self._clock() - begun)
        self._changed = not self._commit(source)
        self._metrics.commit_seconds.observe(self._clock() - begun)

    def _commit(self, source: Source) -> bool:
        """Failing now and then is the life of a consumer group: results and state are safe, a later commit will do."""
        try:
            source.commit({partition: self._positions[partition] for partition in self._taken})
        except TransportError as err:
            self._commit_failures += 1
            self._metrics.commit_failures.inc()
            _log.error("offsets not committed; the next commit tries again", reason=str(err))
            if self._commit_failures >= _MOST_COMMIT_FAILURES:
                raise
            return False
        self._commit_failures = 0
        self._metrics.last_commit.set_to_current_time()
        return True

    def _look(self, source: Source, *, force: bool = False) -> None:
        """Show how things stand: in the metrics each second, in the log now and then."""
        now = self._clock()
        if now < self._look_at and not force:
            return
        self._look_at = now + _LOOK_EVERY_SECONDS
        partitions, lag, stats = len(source.assigned()), sum(source.lag().values()), self._engine.stats()
        self._health.reading(partitions)
        self._busy.show()
        self._metrics.source(partitions, lag)
        self._metrics.engine(stats, self._engine.expert_weights())
        self._limits.look(stats, self._decoder.too_long)
        if now < self._log_at + self._options.log_every_seconds and not force:
            return
        fresh, seconds = self._turn.records - self._logged, now - self._log_at
        self._log_at, self._logged = now, self._turn.records
        _log.info(
            "progress",
            records=self._turn.records,
            records_per_second=round(fresh / seconds) if seconds > 0 else None,
            rejected=self._turn.rejected,
            lag=lag,
            error=self._metrics.error,
            tasks=stats.tasks,
            drifts=stats.drifts,
            theta_version=stats.theta_version,
        )
        if lag and not fresh and partitions and not force:
            _log.warning("records are waiting, but none came", lag=lag, seconds=round(seconds), partitions=partitions)
