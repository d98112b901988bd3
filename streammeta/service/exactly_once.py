"""The loop on Kafka, exactly once: results, task states, θ and offsets go together, in one transaction an interval.

    poll → step → produce predictions, signals, dead letters → produce changed task states → add offsets → commit

The member that gets a partition brings its tasks back from the changelog first, paused but polling; a member that
has to give one away commits what is done, then lets go. When a transaction fails, or nobody knows how it ended,
nothing of it counts: the engine is dropped, a new one is restored from what is committed, and the work goes on.

What all tasks share has two parts. One member at a time changes θ: the owner of partition 0 publishes it with its own
transactions, and the others adopt it between two polls. The normalization is made of sums that each member publishes of
its partitions, in its transactions, and that everybody adds up.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import structlog

from streammeta.engine import Engine
from streammeta.engine.handover import Handover
from streammeta.engine.sums import SumsRecord
from streammeta.engine.weights import Weights
from streammeta.errors import SnapshotError, StreammetaError, TransactionError
from streammeta.event import Decoder, Record
from streammeta.service.background import MetaUpdates
from streammeta.service.busy import Busy
from streammeta.service.episodes import EpisodeReader
from streammeta.service.http import Health
from streammeta.service.limits import LimitWatch
from streammeta.service.loop import Options, Summary
from streammeta.service.metrics import Metrics
from streammeta.service.own_theta import OwnTheta
from streammeta.service.published import SUMS, Published
from streammeta.service.restoration import OWN, Restoration
from streammeta.service.result import EPISODES, STATE, WEIGHTS, theta_refused
from streammeta.service.turn import Turn
from streammeta.service.updates import BUDGET, MemberUpdates
from streammeta.service.watchdog import Streak, Watchdog
from streammeta.transport.base import ChangelogReader, GroupSource, Message, Partition, TransactionalSink

__all__ = ["ExactlyOnce"]

_log = structlog.get_logger(__name__)
_LOOK_EVERY_SECONDS = 1.0
_RESTORE_SECONDS = 0.2  # of work on restoring, then a poll
_RESTORE_POLL_SECONDS = 0.02
_EVICT_EVERY_SECONDS = 5.0  # while a restore is reading: a broker that is coming back may refuse the first time
_SUMS = OWN + b"sums"  # where members keep their events: those of the partition
_LEADING = 0  # the member that owns this partition learns θ
_LONGEST_PAUSE = 10.0  # between two attempts to start again


class ExactlyOnce:
    """Runs engines between a group's source and a ledger.

    Args:
        make_engine: a fresh engine; called again after a failed transaction.
        ledger: where everything goes.
        tables: where task states and weights are read back.
        decoder: reads records.
        options: how the loop runs.
        metrics: counts what happens.
        health: is updated at every turn.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        make_engine: Callable[[], Engine],
        ledger: TransactionalSink,
        tables: ChangelogReader,
        *,
        decoder: Decoder,
        options: Options,
        metrics: Metrics,
        health: Health,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make_engine, self._ledger, self._tables = make_engine, ledger, tables
        self._decoder, self._options, self._metrics, self._health = decoder, options, metrics, health
        self._name, self._clock = options.name, clock
        self._source: GroupSource  # while running
        self._positions: dict[Partition, int] = {}  # ours, and what the engine's state includes: next offsets
        self._arriving: dict[Partition, Restoration | None] = {}  # ours, not restored yet; None: not begun
        self._published = Published(f"{options.name}-{WEIGHTS}/0")
        self._own_theta = OwnTheta(options.keep_versions)
        self._known_sums: dict[int, SumsRecord] = {}  # as the engine knows them
        self._leads = False  # we change θ
        self._episodes = EpisodeReader(
            tables,
            options.name,
            range(options.partitions),
            share=options.background_share,
            metrics=metrics,
            clock=clock,
        )
        self._changed = False  # since the last commit
        self._evicted, self._evict_at = False, 0.0  # lost members, since partitions came; and when again
        self._done = Summary(0, 0, 0.0)  # by engines before this one
        self._save_at = self._look_at = self._log_at = clock()
        self._logged = 0
        self._busy, self._limits = Busy(metrics), LimitWatch(metrics)
        self._watchdog, self._has_backlog = Watchdog(), False
        self._failed = Streak("transactions", options.stuck_seconds)
        self._begin()

    # -- the loop ------------------------------------------------------------------------------------------------------

    def run(self, source: GroupSource, stop: threading.Event) -> Summary:
        """Go on from what is committed until ``stop`` is set or nothing will ever come again; then commit, and return.

        Raises:
            TransportError: the broker refuses us for good.
            SnapshotError: saved state cannot be read; it is not guessed at.
        """
        begun = self._clock()
        self.begin(source)
        try:
            while not (stop.is_set() or source.exhausted):
                self.turn(stop)
            self._health.stopping()
            self._finish()
        except StreammetaError as err:  # who asks meanwhile why no records are read sees it
            self._health.failing(str(err))
            self._health.stopping()
            raise
        finally:
            self._close()
        records, rejected = self._counts()
        return Summary(records, rejected, self._clock() - begun)

    def begin(self, source: GroupSource) -> None:
        """Take a source, before the first `turn`; `run` does both."""
        self._source = source
        self._tables.begin(WEIGHTS, 0)

    def turn(self, stop: threading.Event) -> None:
        """Go round once: poll, step, commit when it is time; after a failed transaction, recover until ``stop``."""
        try:
            self._go_round()
        except TransactionError as err:
            self._recover(stop, err)

    def commit_every(self, seconds: float) -> None:
        """Commit so often, from the next commit on. May be called by any thread: it is one assignment."""
        self._options = replace(self._options, save_every_seconds=seconds)

    @property
    def engine(self) -> Engine:
        """The engine that runs now; another one after a failed transaction."""
        return self._turn.engine

    def revoked(self, partitions: Iterable[Partition]) -> None:
        """Commit what is done before others go on with these partitions, then let go. Called while polling."""
        partitions = tuple(partitions)
        try:
            if any(partition in self._positions for partition in partitions):
                self._commit()
        finally:
            for partition in partitions:
                self._let_go(partition)
            self._metrics.rebalances.labels("revoked").inc()
            _log.info("partitions revoked", partitions=sorted(number for _, number in partitions))

    def lost(self, partitions: Iterable[Partition]) -> None:
        """Others had these partitions before we knew: nothing since the last commit may count. Called while polling."""
        partitions = tuple(partitions)
        for partition in partitions:
            self._let_go(partition)
        self._metrics.rebalances.labels("lost").inc()
        numbers = sorted(number for _, number in partitions)
        raise TransactionError(f"partitions {numbers} were taken from us while we were silent; others go on with them")

    def coming(self, partitions: Iterable[Partition]) -> None:  # noqa: ARG002 the same whichever they are
        """End what lost members left open: while it is, nobody can read their offsets. Called while polling."""
        self._ledger.evict()
        self._evicted = True

    def assigned(self, partitions: Iterable[Partition]) -> None:
        """Partitions are ours from now on; nothing of them may come before they are restored. Called while polling."""
        partitions = tuple(partitions)
        self._arriving |= dict.fromkeys(partitions)
        self._source.pause(partitions)
        self._metrics.rebalances.labels("assigned").inc()
        _log.info("partitions assigned", partitions=sorted(number for _, number in partitions))

    def _go_round(self) -> None:
        """One turn of the loop."""
        self._follow()
        self._restore()
        wait = 0.0 if self._arriving else self._options.poll_seconds
        wait = min(wait, max(0.0, self._save_at - self._clock())) if self._changed else wait
        records = self._busy.poll(self._source, self._options.poll_records, wait)
        self._take(records)
        self._has_backlog = 2 * len(records) > self._options.poll_records
        self._learn_of_others(has_backlog=self._has_backlog)
        self._health.turned()
        if self._clock() >= self._save_at and self._source.is_stable:
            self._commit()
        self._look()

    def _take(self, records: Sequence[Record]) -> None:
        """Predict, learn, and hand the results to the ledger. They count with the next commit."""
        out = self._turn.take(records)
        if out:
            self._ledger.send(out)
        for record in records:
            self._positions[record.origin.topic, record.origin.partition] = record.origin.offset + 1
        self._changed |= bool(records) or (self._leads and self._turn.theta_changed)
        self._turn.theta_changed = False

    def _learn_of_others(self, *, has_backlog: bool) -> None:
        """Who trains learns what other members' tasks have learned, too."""
        engine = self._turn.engine
        trains = self._leads and engine.settings.meta.mode != "off"
        self._episodes.follow(engine, {number for _, number in (*self._positions, *self._arriving)}, trains=trains)
        self._changed |= self._episodes.learn(engine, has_backlog=has_backlog)
        if self._updates is not None and not self._arriving:
            theta = None if self._published.is_pinned or self._options.frozen else self._published.theta
            self._changed |= self._updates.go(theta, {number for _, number in self._positions})

    def _commit(self) -> None:
        """Everything since the last commit counts from now on, or nothing of it."""
        begun = self._clock()
        self._save_at = begun + self._options.save_every_seconds
        if not self._changed:
            return
        changes = self._handover.changes()
        self._ledger.send([Message(STATE, value, key, partition=number) for number, key, value in changes])
        episodes = [
            Message(EPISODES, value, key, partition=n) for n, key, value in self._turn.engine.changed_episodes()
        ]
        self._ledger.send(episodes)
        self._metrics.episodes.labels("written").inc(len(episodes))
        sums, shared = list(self._turn.engine.changed_sums()), list[tuple[bytes, bytes]]()
        if self._updates is None:
            shared = [(SUMS + str(number).encode(), value) for number, value in sums]
        else:
            self._ledger.send([Message(STATE, value, _SUMS, partition=number) for number, value in sums])
            self._ledger.send(list(self._updates.messages()))
        if self._leads:
            weights = self._turn.engine.shared_weights()
            shared += self._own_theta.records(weights, self._episodes.segments, self._episodes.positions())
        self._ledger.send([Message(WEIGHTS, value, key, partition=0) for key, value in shared])
        self._ledger.commit(self._positions, self._source.member())
        self._changed = False
        if self._updates is not None:
            self._updates.committed()
        self._failed.end()
        self._health.working()
        seconds = self._clock() - begun
        self._metrics.transactions.labels("committed").inc()
        self._metrics.commit_seconds.observe(seconds)
        self._metrics.last_commit.set_to_current_time()

    def _finish(self) -> None:
        if self._turn.meta is not None and self._turn.meta.end():
            self._changed = self._changed or bool(self._positions)
        try:
            self._commit()
        except TransactionError as err:
            _log.error("the last results were not committed; the member that goes on makes them again", reason=str(err))
        self._look(force=True)

    # -- what is shared ------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Read what was published, and adopt it between two polls; a leader goes on with its own."""
        for row in self._tables.poll(_RESTORE_POLL_SECONDS if self._arriving else 0.0):
            if row.channel == WEIGHTS:
                self._published.note(row.key, row.value)
            elif row.channel == EPISODES:
                self._episodes.add(row)
            elif row.channel == STATE:
                for arriving in self._arriving.values():
                    if arriving is not None and arriving.partition == row.partition:
                        arriving.read(row)
        if self._tables.missing(WEIGHTS, 0):
            return
        self._refuse_damaged()
        if self._published.is_new and (self._published.is_pinned or not self._leads):
            self._adopt(lead=False)
        if self._may_lead((number for _, number in self._positions)) and not self._leads:  # a pin was released
            self._adopt(lead=True)
        self._add_up()

    def _may_lead(self, numbers: Iterable[int]) -> bool:
        """Whether the member with these partitions changes θ."""
        published, options = self._published, self._options
        stays = published.is_pinned or (options.frozen and published.theta is not None)
        return options.trainer == "member" and not stays and _LEADING in numbers

    def _add_up(self) -> None:
        """Give the engine the sums of other members' partitions, where members share them."""
        if self._updates is not None:
            return
        ours, published = {number for _, number in self._positions}, self._published
        for number in sorted(published.new_sums - ours):
            at = f"{self._name}-{WEIGHTS}/0, the sums of partition {number}"
            self._known_sums[number] = self._turn.engine.add_sums(number, published.sums[number], at)
        published.new_sums &= ours

    def _adopt(self, *, lead: bool) -> None:
        """Go on with the published θ, and change it from now on (lead) or not."""
        weights = self._published.theta
        self._published.is_new, self._leads = False, lead
        self._own_theta.begin()
        engine, fixed = self._turn.engine, self._options.frozen and weights is not None
        self._episodes.begin(None if weights is None else weights.about)
        try:
            is_trusted = weights is not None and weights.about.provenance == "rollback"
            if not engine.adopt(weights, train=lead, fixed=fixed, is_trusted=is_trusted):
                self._refuse("worse", "it is clearly worse on the windows of our tasks", weights)
        except SnapshotError as err:
            if not engine.stats().labelled:  # nothing to go on with
                raise
            self._refuse("damaged", str(err), weights)
        if lead:
            engine.count_versions_from(self._published.newest)

    def _refuse_damaged(self) -> None:
        """Say that what was published as θ cannot be read, where the one before stays in force."""
        why, self._published.damaged = self._published.damaged, None
        if why is not None:
            self._refuse("damaged", why, None)

    def _refuse(self, reason: str, why: str, weights: Weights | None) -> None:
        """A published θ (None: it cannot be read) was not adopted: the present one stays, and a warning says so."""
        version = None if weights is None else weights.version
        self._metrics.theta_refused.labels(reason).inc()
        _log.error("a published theta was refused; serving goes on with the one before", version=version, reason=why)
        if self._positions:
            number = min(number for _, number in self._positions)
            self._ledger.send([theta_refused(version, reason, number)])
            self._changed = True

    # -- coming and going ----------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """A fresh engine, which follows until partition 0 is restored."""
        engine, options = self._make_engine(), self._options
        self._metrics.engines_made.inc()
        meta = None
        if options.background_patience is not None:
            meta = MetaUpdates(
                engine,
                self._metrics,
                patience=options.background_patience,
                share=options.background_share,
                clock=self._clock,
            )
        self._handover: Handover = engine.handover()
        if hasattr(self, "_turn"):
            self._drop_engine()
        self._turn = Turn(
            engine,
            decoder=self._decoder,
            metrics=self._metrics,
            batch_events=options.batch_events,
            meta=meta,
            observers=(),
            clock=self._clock,
            full=options.poll_records,
        )
        self._turn.explain_orders = options.explain_orders
        self._updates: MemberUpdates | None = None
        if options.updates_every_seconds is not None:
            every = options.updates_every_seconds
            self._updates = MemberUpdates(engine, self._metrics, every_seconds=every, clock=self._clock)
        elif options.partitions > 1 or options.trainer == "separate":
            engine.write_episodes()
        self._episodes.end()
        self._known_sums, self._published.new_sums = {}, set(self._published.sums)
        self._adopt(lead=False)

    def _drop_engine(self) -> None:
        turn = self._turn
        self._done = Summary(self._done.records + turn.records, self._done.rejected + turn.rejected, 0.0)
        self._close()

    def _close(self) -> None:
        """End the threads that work for the engine, and the engine."""
        if self._turn.meta is not None:
            self._turn.meta.close()
        if self._updates is not None:
            self._updates.close()
        self._turn.engine.close()

    def _restore(self) -> None:
        """Bring arriving partitions back, for a moment; when all are there, read on in all of them together."""
        if not self._arriving:
            return
        if None in self._arriving.values():
            self._begin_restoring()
        self._evict_again()
        if self._tables.missing(WEIGHTS, 0):
            return
        until = self._clock() + _RESTORE_SECONDS
        for restoration in self._arriving.values():
            if restoration is not None and not restoration.take(self._handover, until, self._clock):
                return
        self._arrive()

    def _begin_restoring(self) -> None:
        if not self._evicted:
            self._ledger.evict()
        self._evicted, self._evict_at = False, self._clock() + _EVICT_EVERY_SECONDS
        self._tables.begin(WEIGHTS, 0)
        for partition, restoration in self._arriving.items():
            if restoration is None:
                self._arriving[partition] = Restoration(
                    self._tables, self._name, partition[1], self._handover.collect()
                )
        self._restoring_since = self._clock()

    def _evict_again(self) -> None:
        """Where records cannot be read for long, a transaction may be open before them that could not be ended yet."""
        if self._clock() < self._evict_at:
            return
        missing = [one.missing for one in self._arriving.values() if one is not None]
        if any(missing) or self._tables.missing(WEIGHTS, 0):
            self._ledger.evict()
            self._evict_at = self._clock() + _EVICT_EVERY_SECONDS

    def _arrive(self) -> None:
        """All that was assigned is restored: read on in it."""
        if self._may_lead(number for _, number in self._arriving):
            self._adopt(lead=True)
        self._add_up()
        numbers = {number for _, number in self._arriving}
        restorations = [one for one in self._arriving.values() if one is not None]
        if self._updates is not None:
            self._take_own(self._updates, restorations)
        self._turn.engine.own_sums(numbers, self._known_sums)
        arrived, self._arriving = tuple(self._arriving), {}
        at = self._source.assigned()
        self._positions |= {partition: at[partition] for partition in arrived if partition in at}
        self._changed |= bool(self._positions) and self._failed.count > 0  # the next one shows whether it works again
        seconds, tasks = self._clock() - self._restoring_since, sum(one.tasks for one in restorations)
        self._metrics.restored(sum(one.rows for one in restorations), seconds)
        self._health.restored()
        self._health.reading(len(self._positions))  # a probe must not see what was true a second ago
        self._source.resume(arrived)
        offsets = {number: self._positions.get((topic, number)) for topic, number in sorted(arrived)}
        _log.info("partitions restored", offsets=offsets, tasks=tasks, seconds=round(seconds, 2), leads=self._leads)
        unsaved = self._turn.engine.unsaved_experts
        if tasks and unsaved:
            _log.warning("models of River are in no changelog: these experts begin again", experts=", ".join(unsaved))

    def _take_own(self, updates: MemberUpdates, restorations: Sequence[Restoration]) -> None:
        """What is of a partition and of no task, where members keep their events."""
        for one in restorations:
            at, sums = f"{self._name}-{STATE}/{one.partition}", one.own.get(_SUMS)
            self._known_sums.pop(one.partition, None)
            if sums is not None:
                self._known_sums[one.partition] = self._turn.engine.add_sums(one.partition, sums, f"{at}, its sums")
            updates.own(one.partition, one.own.get(BUDGET), f"{at}, its budget")

    def _let_go(self, partition: Partition) -> None:
        self._positions.pop(partition, None)
        self._health.reading(len(self._positions))
        restoration = self._arriving.pop(partition, None)
        if restoration is not None:
            restoration.close()
        self._handover.forget(partition[1])
        self._turn.engine.forget_sums(partition[1])
        self._turn.engine.forget_episodes(partition[1])
        if self._updates is not None:
            self._updates.forget(partition[1])
        if partition[1] == _LEADING:
            self._leads = False
            self._turn.engine.adopt(None, train=False)

    def _restart_partitions(self) -> None:
        """All that is ours has to be restored again."""
        for restoration in self._arriving.values():
            if restoration is not None:
                restoration.close()
        ours = (*self._positions, *self._arriving)
        self._positions, self._arriving, self._leads = {}, dict.fromkeys(ours), False
        self._source.pause(ours)

    def _recover(self, stop: threading.Event, err: TransactionError) -> None:
        """Nothing since the last commit counts: drop the engine, and go on from what is committed."""
        self._changed = False
        self._metrics.transactions.labels("failed").inc()
        self._note_failure(err)
        _log.error("transaction failed; going on from the last one", reason=str(err), failures=self._failed.count)
        self._restart_partitions()
        while not stop.is_set():
            try:
                self._ledger.reset()
                self._source.rewind()
                self._tables.end(WEIGHTS, 0)  # what was read when it failed may be lost: from the start
                self._published.begin_again()
                self._tables.begin(WEIGHTS, 0)
                break
            except TransactionError as again:
                pause = min(0.1 * 2 ** min(self._failed.count, 10), _LONGEST_PAUSE)
                _log.error("no transaction can begin; trying again", reason=str(again), seconds=pause)
                self._health.turned()
                stop.wait(pause)
                self._keep_membership()
                self._note_failure(again)
        self._begin()

    def _note_failure(self, err: TransactionError) -> None:
        """Until a transaction comes through we are not ready, for this reason; raises TransportError after too long."""
        self._health.failing(f"the last transaction failed: {err}")
        self._failed.add(err, self._clock())

    def _keep_membership(self) -> None:
        """Poll, with everything paused, so that the group does not take us for dead."""
        try:
            self._source.poll(1, 0.0)
        except TransactionError as err:
            _log.error("partitions went while no transaction could begin", reason=str(err))

    def _watch(self, now: float) -> None:
        """Records that wait and do not come: say so, and in the end give up, so that a restart can help."""
        most, is_full = self._options.stuck_seconds, self._has_backlog
        self._watchdog.look(self._source, self._positions, now, most=most, show=self._metrics.stuck, is_full=is_full)

    # -- looking -------------------------------------------------------------------------------------------------------

    def _counts(self) -> tuple[int, int]:
        return self._done.records + self._turn.records, self._done.rejected + self._turn.rejected

    def _look(self, *, force: bool = False) -> None:
        """Show how things stand: in the metrics each second, in the log now and then."""
        now = self._clock()
        if now < self._look_at and not force:
            return
        self._look_at = now + _LOOK_EVERY_SECONDS
        stats, lag = self._turn.engine.stats(), sum(self._source.lag().values())
        self._health.reading(len(self._positions))
        self._busy.show()
        self._metrics.source(len(self._positions), lag)
        self._metrics.engine(stats, self.engine.expert_weights())
        theta = self._published.theta
        if theta is not None and theta.about.made:
            self._metrics.theta_age.set(max(time.time() - theta.about.made, 0.0))
        if not self._options.frozen and self._turn.engine.settings.meta.mode != "off":
            owned = {number for _, number in self._positions}
            self._metrics.trains.set(self._options.trainer == "member" and _LEADING in owned)
        self._limits.look(stats, self._decoder.too_long)
        missing = sum(one.missing for one in self._arriving.values() if one is not None)
        self._metrics.restore_missing.set(missing)
        self._watch(now)
        if now < self._log_at + self._options.log_every_seconds and not force:
            return
        records, rejected = self._counts()
        fresh, seconds = records - self._logged, now - self._log_at
        self._log_at, self._logged = now, records
        _log.info(
            "progress",
            records=records,
            records_per_second=round(fresh / seconds) if seconds > 0 else None,
            rejected=rejected,
            lag=lag,
            error=self._metrics.error,
            tasks=stats.tasks,
            drifts=stats.drifts,
            theta_version=stats.theta_version,
            restoring=len(self._arriving),
            restore_missing=missing,
        )
