"""The trainer as a process of its own: everybody's episodes in, θ out. It serves nobody, and nobody waits for it.

    read NAME-episodes → learn → set a candidate aside → judge it on what comes later → publish, in a transaction

A candidate is θ as it was before the newest episodes came. Those judge it, beside the version before, and it is
published unless it is clearly worse. With it go the optimizer, the random draws and the offsets up to which episodes
were learned: so that a trainer that dies loses nothing but time, and the next one learns nothing twice.

One at a time: a trainer that starts takes over the transactional id, which fences the one before, and says so with a
claim; who reads another's claim after its own ends.
"""

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import structlog

from streammeta.engine import Candidate, Engine, Verdict
from streammeta.engine.weights import About, Weights, encode_weights
from streammeta.errors import SnapshotError, StreammetaError, TransactionError, TransportError
from streammeta.meta.base import MetaState
from streammeta.service.averaging import Averaging
from streammeta.service.episodes import MOST_WAITING, EpisodeReader
from streammeta.service.http import Health
from streammeta.service.limits import LimitWatch
from streammeta.service.metrics import Metrics
from streammeta.service.published import CLAIM, MEMBER, SUMS, THETA, Claim, History, Published
from streammeta.service.result import EPISODES, WEIGHTS
from streammeta.service.team import Alone, Team
from streammeta.transport.base import ChangelogReader, Message, Row, TransactionalSink

__all__ = ["TRAINER", "Trainer", "TrainerOptions", "TrainerSummary"]

TRAINER: Final = "trainer"  # its producer is called NAME/trainer; no member may be called so
_log = structlog.get_logger(__name__)
_LOOK_EVERY_SECONDS = 1.0
_MOST_HELD_BACK = 20  # candidates in a row; then training goes on from what is published
_READ_SECONDS = 2.0  # for what may be held up by a transaction of our own
_LONGEST_PAUSE = 10.0  # between two attempts to begin a transaction


@dataclass(frozen=True, slots=True)
class TrainerOptions:
    """How a trainer runs."""

    name: str = "streammeta"  # the application's
    partitions: int = 1  # of the input, and so of its episodes
    ranks: int = 1  # processes that share them; this one, the first, reads each ranks-th
    publish_every_seconds: float = 1.0
    poll_seconds: float = 0.2
    log_every_seconds: float = 10.0
    stuck_seconds: float = 300.0  # without a transaction that comes through, though one is tried
    keep_versions: int = 12
    round_seconds: float | None = None  # members keep their events, and a round waits so long; None: they send episodes


@dataclass(frozen=True, slots=True)
class TrainerSummary:
    """What one run did."""

    segments: int
    published: int
    seconds: float


class Trainer:
    """Learns θ from the episodes of all members, and publishes it.

    Args:
        make_engine: the engine whose θ learns.
        sink: for θ; its transactions are in no group.
        tables: reads NAME-weights and NAME-episodes.
        options: how it runs.
        metrics: counts what happens.
        health: is updated at every turn.
        clock: monotonic seconds.
        wall: seconds since 1970.

    Attributes:
        episodes: what reads NAME-episodes.
        team: who learns; we alone, unless it is set before the first turn.
    """

    def __init__(
        self,
        make_engine: Callable[[], Engine],
        sink: TransactionalSink,
        tables: ChangelogReader,
        *,
        options: TrainerOptions,
        metrics: Metrics,
        health: Health,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._sink, self._tables, self._options = sink, tables, options
        self._metrics, self._health, self._clock, self._wall = metrics, health, clock, wall
        self._id = uuid.uuid4().hex
        self._engine = make_engine()
        self._metrics.engines_made.inc()
        self._published = Published(f"{options.name}-{WEIGHTS}/0")
        self._history = History(options.keep_versions)
        self.episodes = EpisodeReader(
            tables,
            options.name,
            range(0, options.partitions, options.ranks),
            share=1.0,
            metrics=metrics,
            clock=clock,
            most_waiting=MOST_WAITING,
        )
        self.team: Team = Alone(self._engine, self.episodes)
        if options.round_seconds is not None:
            self.team = Averaging(
                self._engine,
                self.episodes,
                partitions=options.partitions,
                round_seconds=options.round_seconds,
                metrics=metrics,
                clock=clock,
            )
        self._limits = LimitWatch(metrics)
        self._candidate: tuple[Candidate, About] | None = None
        self._before: MetaState | None = None  # as published last; None: θ as it began
        self._version = 0  # likewise
        self._held_back = 0  # candidates in a row
        self._count = 0  # versions published
        self._trains = False
        self._kept_before: Weights | None = None  # to hold θ that we began with against; None: done
        self._has_claimed = self._is_ready = False
        self._publish_at = self._look_at = self._log_at = clock()
        self._failing_since: float | None = None

    @property
    def engine(self) -> Engine:
        """Whose θ learns."""
        return self._engine

    def run(self, stop: threading.Event) -> TrainerSummary:
        """Go on from what is published until ``stop`` is set.

        Raises:
            TransportError: the broker refuses us for good, or another trainer has taken over.
            SnapshotError: what is published cannot be read.
        """
        begun = self._clock()
        self.begin()
        try:
            while not stop.is_set():
                self.turn(stop)
            self._health.stopping()
        except StreammetaError as err:
            self._health.failing(str(err))
            self._health.stopping()
            raise
        finally:
            self._engine.close()
        return TrainerSummary(self.episodes.segments, self._count, self._clock() - begun)

    def begin(self) -> None:
        """Read what is published, before the first `turn`; `run` does both."""
        self._tables.begin(WEIGHTS, 0)

    def turn(self, stop: threading.Event) -> None:
        """Go round once; after a failed transaction, recover until ``stop``."""
        try:
            self._go_round()
        except TransactionError as err:
            self._recover(stop, err)

    def _go_round(self) -> None:
        for row in self._tables.poll(0.0 if self.team.is_waiting else self._options.poll_seconds):
            self._note(row)
        self._check_claim()
        self._turned()
        if self._tables.missing(WEIGHTS, 0):
            return
        if not self._has_claimed:
            self._claim()
        self._follow()
        self.team.learn()
        if self._clock() >= self._publish_at:
            self._publish_at = self._clock() + self._options.publish_every_seconds
            self._judge()
        self._look()

    def _turned(self) -> None:
        """We are there, and so must the other ranks be."""
        self._health.turned()
        self.team.beat()

    def _note(self, row: Row) -> None:
        if row.channel == WEIGHTS:
            self._published.note(row.key, row.value)
        elif row.channel == EPISODES:
            self.episodes.add(row)

    def _follow(self) -> None:
        """Go on from what others published: at the start, where θ is pinned or released, and their sums."""
        published, engine = self._published, self._engine
        theta = published.theta
        theirs = theta is not None and theta.about.by != self._id
        if self._is_ready and published.is_new and theta is not None and theta.about.by == MEMBER:
            raise TransportError(
                f"{self._options.name}: a member changes θ, too (version {theta.version}); set [meta] trainer = "
                '"separate" for all members, and start the trainer again'
            )
        if published.damaged is not None:
            self._refuse("damaged", published.damaged, None)
            published.damaged = None
        if not self._is_ready or (published.is_new and theirs) or self._trains is published.is_pinned:
            self._adopt()
        published.is_new = False
        if not self._is_ready:
            self._is_ready = True
            self.episodes.follow(engine, (), trains=True)
            self._health.restored()
            self._health.reading(self._options.partitions)
            _log.info("training", theta_version=self._version, pinned=published.is_pinned)
        if self._options.round_seconds is not None:
            published.new_sums.clear()  # of a time when members sent episodes: θ is to know no mean
        for number in sorted(published.new_sums):
            where = f"{self._options.name}-{WEIGHTS}/0, {SUMS.decode()}{number}"
            engine.add_sums(number, published.sums[number], where)
        published.new_sums.clear()

    def _adopt(self) -> None:
        """Go on from θ in force, unless it is pinned; from the present one where that is refused."""
        self._trains, self._held_back = not self._published.is_pinned, 0
        self._kept_before = None
        self._went_on_from(self._take(self._published.theta))

    def _went_on_from(self, theta: Weights | None) -> None:
        """The engine has this θ now (None: its own); what is published next has a new number."""
        self._candidate = None
        if theta is not None:
            self.team.begin(theta.about)
            self._before, self._version = self._engine.meta_state, theta.version
        self._engine.count_versions_from(self._published.newest)

    def _take(self, theta: Weights | None) -> Weights | None:
        """Let the engine go on with this θ, or at the start with the newest one kept that can be; None: with its own.

        Raises:
            SnapshotError: at the start, where none can be gone on with.
        """
        if self._is_ready:
            ours = theta is None or theta.about.by == self._id or theta.about.provenance != "learned"
            try:
                if self._engine.adopt(theta, train=self._trains, is_trusted=ours or self._published.is_pinned):
                    return theta
                self._refuse("worse", "it is clearly worse on the windows of all tasks", theta)
            except SnapshotError as err:
                self._refuse("damaged", str(err), theta)
            return None
        choices = [] if theta is None else [theta, *self._published.kept()]
        if theta is not None and theta.about.provenance == "learned" and not self._published.is_pinned:
            self._kept_before = next((one for one in choices if one.digest() != theta.digest()), None)
        for number, choice in enumerate(choices, 1):
            try:
                self._engine.adopt(choice, train=self._trains, is_trusted=True)
            except SnapshotError as err:
                self._refuse("damaged", str(err), choice)
                if number == len(choices):
                    raise
            else:
                return choice
        self._engine.adopt(None, train=self._trains)
        return None

    def _refuse(self, reason: str, why: str, theta: Weights | None) -> None:
        """A θ that somebody else published is not gone on with, and an alarm can see it."""
        self._metrics.theta_refused.labels(reason).inc()
        version = None if theta is None else theta.version
        _log.error("a published theta was refused; training does not go on from it", version=version, reason=why)

    # -- candidates ----------------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        """Judge the candidate that was set aside, publish it unless it is worse, and set the next one aside."""
        if not self._trains:
            return
        self._hold_against_kept()
        if self._candidate is not None:
            candidate, about = self._candidate
            verdict = self.team.judge(candidate, self._before)
            if verdict is None:
                return
            if verdict.events:
                self._metrics.theta_held_out_loss.set(verdict.loss)
            if verdict.is_worse:
                self._hold_back(verdict)
            else:
                self._publish(candidate, about, verdict)
            self._candidate = None
        if self._engine.stats().theta_version > self._version:
            about = About(by=self._id, segments=self.episodes.segments, positions=self.episodes.positions())
            self._candidate = self.team.candidate(), about

    def _hold_against_kept(self) -> None:
        """Go on from the version kept before the one that we began with, where that is clearly worse on all windows.

        It may have been written by hand while no trainer was there to refuse it; members have. Windows come from
        episodes: until there are enough of them, it is not known.
        """
        before = self._kept_before
        worse = None if before is None else self._engine.is_worse_than(before)
        if before is None or worse is None:
            return
        self._kept_before = None
        if worse:
            self._refuse("worse", f"it is clearly worse than version {before.version}, which was kept", None)
            self._engine.adopt(before, train=True, is_trusted=True)
            self._went_on_from(before)

    def _publish(self, candidate: Candidate, about: About, verdict: Verdict) -> None:
        about = msgspec.structs.replace(about, made=self._wall())
        if verdict.events:
            loss, before = verdict.loss, verdict.loss_before
            about = msgspec.structs.replace(about, loss=loss, loss_before=before, judged=verdict.events)
        value = encode_weights(replace(candidate.weights, about=about))
        kept = self._history.key(about.made)
        self._send({THETA: value} | ({} if kept is None else {kept: value}))
        self._before, self._version, self._held_back = candidate.state, candidate.weights.version, 0
        self._count += 1
        self._metrics.theta_judged.labels("published").inc()

    def _hold_back(self, verdict: Verdict) -> None:
        self._held_back += 1
        self._metrics.theta_judged.labels("held_back").inc()
        _log.warning(
            "a candidate of theta is worse on newest events than what is published, and is held back",
            loss=round(verdict.loss, 4),
            loss_before=round(verdict.loss_before, 4),
            events=verdict.events,
            in_a_row=self._held_back,
        )
        if self._held_back >= _MOST_HELD_BACK and self._published.theta is not None:
            _log.error("training goes on from what is published: no candidate was as good", candidates=self._held_back)
            self._adopt()

    def _send(self, records: dict[bytes, bytes]) -> None:
        self._sink.send([Message(WEIGHTS, value, key, partition=0) for key, value in records.items()])
        begun = self._clock()
        self._sink.commit({}, None)
        self._failing_since = None
        self._health.working()
        self._metrics.transactions.labels("committed").inc()
        self._metrics.commit_seconds.observe(self._clock() - begun)
        self._metrics.last_commit.set_to_current_time()

    # -- one at a time -------------------------------------------------------------------------------------------------

    def _claim(self) -> None:
        """Say that we train now."""
        self._send({CLAIM: msgspec.msgpack.encode(Claim(self._id, self._wall()))})
        self._has_claimed = True

    def _check_claim(self) -> None:
        claim = self._published.claim
        if self._has_claimed and claim is not None and claim.by != self._id:
            raise TransportError(
                f"{self._options.name}: another trainer has taken over, {self._wall() - claim.since:.0f} s ago; this "
                "one ends. Wanted one trainer an application"
            )

    def _recover(self, stop: threading.Event, err: TransactionError) -> None:
        """Find out what became of a transaction, and who trains; then go on with a new producer."""
        self._metrics.transactions.labels("failed").inc()
        _log.error("a transaction failed", reason=str(err))
        self._health.failing(f"the last transaction failed: {err}")
        pause = 0.1
        while not stop.is_set():
            self._give_up_after_too_long(err)
            try:
                self._read_again(stop, most_seconds=_READ_SECONDS)  # had another one fenced us, its claim is there
                self._sink.reset()
                self._read_again(stop, most_seconds=self._options.stuck_seconds)
            except TransactionError as again:
                _log.error("no transaction can begin; trying again", reason=str(again), seconds=pause)
                err = again
                self._turned()
                stop.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                break
        theta = self._published.theta
        if theta is not None and theta.about.by == self._id and self._candidate is not None:
            candidate, _ = self._candidate
            if candidate.weights.version == theta.version:  # it came through after all
                self._before, self._version, self._candidate = candidate.state, theta.version, None

    def _read_again(self, stop: threading.Event, *, most_seconds: float) -> None:
        """Read NAME-weights to its end as of now; raises TransportError where another trainer has claimed it."""
        self._tables.begin(WEIGHTS, 0)
        until = self._clock() + most_seconds
        while self._tables.missing(WEIGHTS, 0) and self._clock() < until and not stop.is_set():
            for row in self._tables.poll(self._options.poll_seconds):
                self._note(row)
            self._turned()
        self._check_claim()

    def _give_up_after_too_long(self, err: TransactionError | None) -> None:
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since > self._options.stuck_seconds:
            raise TransportError(
                f"{self._options.name}: no transaction of the trainer came through for "
                f"{self._options.stuck_seconds:g} s; the process ends, so that a restart can help"
            ) from err

    # -- looking -------------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Show how things stand: in the metrics each second, in the log now and then."""
        now = self._clock()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_EVERY_SECONDS
        stats, theta = self._engine.stats(), self._published.theta
        self._metrics.engine(stats)
        self._limits.look(stats, 0)
        self._metrics.trains.set(1)
        if theta is not None and theta.about.made:
            self._metrics.theta_age.set(max(self._wall() - theta.about.made, 0.0))
        if now < self._log_at + self._options.log_every_seconds:
            return
        self._log_at = now
        _log.info(
            "progress",
            segments=self.episodes.segments,
            meta_updates=stats.meta_updates,
            theta_version=stats.theta_version,
            published=self._version,
            pinned=self._published.is_pinned,
        )
