"""Several ranks learn one θ: each reads and learns its share of the partitions, in rounds that rank 0 leads.

    rank 0    Learn ────────► all      each learns some events of its own partitions
              ◄──────── Report         names that are new, events, positions, tasks to draw of
              Update, θ ────► all      each draws its share of the segments; gradients are summed; rank 0 steps θ
              SetAside, Judge ► all    a candidate is judged on the newest labels of all

What goes over the wire are names, counts, θ and gradients, never an event. Rank p % size reads partition p. A round
takes at most as many events as lie between two meta-updates, so θ learns as often as one process's would.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt
import structlog

from streammeta.engine import Candidate, Engine, Verdict
from streammeta.engine.packing import pack, unpack
from streammeta.engine.parallel import Names
from streammeta.engine.trial import Trial, judged
from streammeta.engine.weights import About
from streammeta.errors import TransactionError, TransportError
from streammeta.meta.base import MetaState, Theta
from streammeta.service.episodes import MOST_WAITING, EpisodeReader
from streammeta.service.metrics import Metrics
from streammeta.service.result import EPISODES
from streammeta.transport.base import ChangelogReader, Row

if TYPE_CHECKING:
    from streammeta.meta.ranks import Ranks  # which brings torch

__all__ = ["Follower", "Leader"]

_log = structlog.get_logger(__name__)
_WAIT_SECONDS = 0.1  # for which the others look for records, where nobody has any
_CANDIDATE, _BEFORE = "candidate.", "before."
_Arrays: TypeAlias = dict[str, npt.NDArray[Any]]


class _Begin(msgspec.Struct, tag=True, array_like=True, frozen=True, forbid_unknown_fields=True):
    partitions: int
    about: About | None  # θ that is gone on with


class _Learn(msgspec.Struct, tag=True, array_like=True, frozen=True, forbid_unknown_fields=True):
    wait: float  # seconds, for records
    events: int  # after which no further segment is begun


class _Update(msgspec.Struct, tag=True, array_like=True, frozen=True, forbid_unknown_fields=True):
    seed: int
    places: list[list[int]]


class _SetAside(msgspec.Struct, tag=True, array_like=True, frozen=True, forbid_unknown_fields=True):
    pass


class _Judge(msgspec.Struct, tag=True, array_like=True, frozen=True, forbid_unknown_fields=True):
    pass


class _Report(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What a rank learned in a round."""

    events: int
    reached: list[tuple[int, int]]  # positions in the partitions that it reads
    segments: dict[str, int]  # by their fate
    names: Names | None
    drawable: int  # tasks
    interval: int  # events between two meta-updates
    is_waiting: bool


class _Tried(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    labels: int
    scored: int
    lost: bytes  # float64 [P, 2]


_Order: TypeAlias = _Begin | _Learn | _Update | _SetAside | _Judge
_ORDER = msgspec.msgpack.Decoder(_Order)
_REPORT, _TRIED = msgspec.msgpack.Decoder(_Report), msgspec.msgpack.Decoder(_Tried)


class Leader:
    """Rank 0: its trainer is as one of a single process, but that it learns with the others.

    Args:
        engine: whose θ learns, in meta mode "background".
        episodes: reads our share of the partitions.
        ranks: all of them.
        partitions: of NAME-episodes.
        metrics: counts all ranks' segments.
    """

    def __init__(
        self,
        engine: Engine,
        episodes: EpisodeReader,
        ranks: "Ranks",
        *,
        partitions: int,
        metrics: Metrics,
    ) -> None:
        self._engine, self._episodes, self._ranks, self._metrics = engine, episodes, ranks, metrics
        self._partitions = partitions
        self._parallel = engine.parallel()
        self._about: About | None = None
        self._has_begun = self._others_wait = False
        self._interval = self._parallel.interval

    @property
    def is_waiting(self) -> bool:
        """Whether segments were read that are not learned yet, by any rank."""
        return self._episodes.is_waiting or self._others_wait

    def begin(self, about: About) -> None:
        """A θ is gone on with that includes episodes up to some offsets."""
        self._about = about
        self._episodes.begin(about)

    def beat(self) -> None:
        """We are there."""
        self._ranks.beat()

    def learn(self) -> None:
        """Go one round, and make the meta-updates that are due by it."""
        if not self._has_begun:
            self._has_begun = True
            self._order(_Begin(self._partitions, self._about))
            _log.info("leading", ranks=self._ranks.size, partitions=list(range(0, self._partitions, self._ranks.size)))
        parallel, before = self._parallel, self._parallel.seen
        most = max(self._interval // self._ranks.size, 1)
        self._order(_Learn(0.0 if self.is_waiting else _WAIT_SECONDS, most))
        self._episodes.learn(self._engine, has_backlog=False, most_events=most)
        ours, reports = parallel.seen - before, [_REPORT.decode(one) for one in self._answers()]
        for one in reports:
            self._note(one)
        self._others_wait = any(one.is_waiting for one in reports)
        self._interval = min([parallel.interval, *(one.interval for one in reports)])
        theirs = sum(one.events for one in reports)
        drawable = [parallel.drawable, *(one.drawable for one in reports)]
        for _ in range(parallel.count(ours + theirs, theirs, self._interval)):
            if any(drawable):
                deal = parallel.deal(drawable)
                self._order(_Update(deal.seed, deal.places))
                parallel.learn(parallel.draw(deal.seed, 0, deal.places[0]), self._ranks)

    def candidate(self) -> Candidate:
        """θ as it is now, to be judged on labelled events that come later, in any rank."""
        self._order(_SetAside())
        return self._parallel.set_aside()

    def judge(self, candidate: Candidate, before: MetaState | None) -> Verdict | None:
        """How it does beside the version before, on the newest labels of all ranks; None where these are too few."""
        both = self._parallel.compared(candidate, before)
        self._order(_Judge(), _named(_CANDIDATE, both[0]) | _named(_BEFORE, both[1]))
        labels, trial = self._parallel.trial(*both)
        found = [_TRIED.decode(one) for one in self._answers()]
        trials = [Trial(one.scored, np.frombuffer(one.lost).reshape(-1, 2)) for one in found]
        return judged([trial, *trials], labels + sum(one.labels for one in found))

    def _order(self, order: _Order, arrays: Mapping[str, npt.NDArray[Any]] | None = None) -> None:
        """Say to the others what to do, with θ and the normalization where these have changed."""
        theta = self._parallel.new_theta()
        changed = {} if theta is None else {"theta": np.frombuffer(theta, np.uint8)}
        self._ranks.give(pack(order, {**(arrays or {}), **changed}))

    def _answers(self) -> list[bytes]:
        return self._ranks.gathered(b"")[1:]

    def _note(self, report: _Report) -> None:
        if report.names is not None:
            self._parallel.know(report.names)
        self._episodes.add_elsewhere(dict(report.reached), report.segments.get("learned", 0))
        for fate, count in report.segments.items():
            self._metrics.episodes.labels(fate).inc(count)


class Follower:
    """Any other rank: does what rank 0 says, until that ends.

    Args:
        engine: learns our share, and follows rank 0's θ.
        ranks: all of them.
        make_tables: reads NAME-episodes; rank 0 has made that when we are to read it.
        name: the application's.
        metrics: counts segments.
        stuck_seconds: for which the broker may not answer.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        engine: Engine,
        ranks: "Ranks",
        make_tables: Callable[[], ChangelogReader],
        *,
        name: str,
        metrics: Metrics,
        stuck_seconds: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine, self._ranks, self._make_tables, self._metrics = engine, ranks, make_tables, metrics
        self._name, self._stuck_seconds, self._clock = name, stuck_seconds, clock
        self._parallel = engine.parallel()
        self._reported: dict[str, int] = {}
        self._failing_since: float | None = None  # records cannot be read

    def run(self) -> int:
        """Learn until rank 0 ends; returns how many segments we learned.

        Raises:
            TransportError: rank 0 is gone, or the broker refuses us for good.
            SnapshotError: a segment cannot be read.
        """
        begin = self._next()
        if begin is None:
            return 0
        order, _ = begin
        if not isinstance(order, _Begin):
            raise TransportError("rank 0 does not begin as this rank knows it: they are of different versions")
        with closing(self._make_tables()) as tables:
            episodes = self._reader(tables, order)
            while (found := self._next()) is not None:
                self._do(*found, tables, episodes)
        learned = self._counts().get("learned", 0)
        _log.info("learned", rank=self._ranks.rank, segments=learned, reached=dict(episodes.reached()))
        return learned

    def _next(self) -> tuple[_Order, _Arrays] | None:
        data = self._ranks.given()
        if data is None:
            return None
        order, arrays = unpack(data, _ORDER)
        theta = arrays.pop("theta", None)
        if theta is not None:
            self._parallel.follow(theta.tobytes())
        return order, arrays

    def _reader(self, tables: ChangelogReader, begin: _Begin) -> EpisodeReader:
        rank, size = self._ranks.rank, self._ranks.size
        ours = range(rank, begin.partitions, size)
        if not ours:
            _log.warning(
                "this rank has nothing to do: there are fewer partitions than ranks",
                rank=rank,
                ranks=size,
                partitions=begin.partitions,
                remedy="start fewer processes",
            )
        episodes = EpisodeReader(
            tables,
            self._name,
            ours,
            share=1.0,
            metrics=self._metrics,
            clock=self._clock,
            most_waiting=MOST_WAITING,
        )
        episodes.begin(begin.about)
        episodes.follow(self._engine, (), trains=True)
        _log.info("following", rank=rank, ranks=size, partitions=list(ours))
        return episodes

    def _do(self, order: _Order, arrays: _Arrays, tables: ChangelogReader, episodes: EpisodeReader) -> None:
        parallel, rank = self._parallel, self._ranks.rank
        if isinstance(order, _Learn):
            before = parallel.seen
            for row in self._poll(tables, 0.0 if episodes.is_waiting else order.wait):
                if row.channel == EPISODES:
                    episodes.add(row)
            episodes.learn(self._engine, has_backlog=False, most_events=order.events)
            self._answer(self._report(parallel.seen - before, episodes))
        elif isinstance(order, _Update):
            parallel.learn(parallel.draw(order.seed, rank, order.places[rank]), self._ranks)
        elif isinstance(order, _SetAside):
            parallel.set_aside()
        elif isinstance(order, _Judge):
            labels, trial = parallel.trial(_part(_CANDIDATE, arrays), _part(_BEFORE, arrays))
            self._answer(_Tried(labels, trial.scored, trial.lost.tobytes()))

    def _poll(self, tables: ChangelogReader, seconds: float) -> Sequence[Row]:
        """The next records; none while the broker cannot be read, for a while."""
        try:
            rows = tables.poll(seconds)
        except TransactionError as err:
            now = self._clock()
            if self._failing_since is None:
                self._failing_since = now
                _log.error("episodes cannot be read; trying again", rank=self._ranks.rank, reason=str(err))
            if now - self._failing_since > self._stuck_seconds:
                raise TransportError(f"{self._name}: no episode could be read for {self._stuck_seconds:g} s") from err
            return []
        self._failing_since = None
        return rows

    def _answer(self, message: _Report | _Tried) -> None:
        self._ranks.gathered(msgspec.msgpack.encode(message))

    def _report(self, events: int, episodes: EpisodeReader) -> _Report:
        parallel, counts = self._parallel, self._counts()
        fresh = {fate: count - self._reported.get(fate, 0) for fate, count in counts.items()}
        self._reported = counts
        return _Report(
            events,
            episodes.reached(),
            fresh,
            parallel.new_names(),
            parallel.drawable,
            parallel.interval,
            episodes.is_waiting,
        )

    def _counts(self) -> dict[str, int]:
        """Segments by their fate."""
        samples = [sample for metric in self._metrics.episodes.collect() for sample in metric.samples]
        return {sample.labels["fate"]: int(sample.value) for sample in samples if sample.name.endswith("_total")}


def _named(prefix: str, theta: Theta) -> dict[str, npt.NDArray[Any]]:
    return {prefix + name: p for name, p in theta.items()}


def _part(prefix: str, arrays: Mapping[str, npt.NDArray[Any]]) -> Theta:
    return {name.removeprefix(prefix): p for name, p in arrays.items() if name.startswith(prefix)}
