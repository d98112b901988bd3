"""A member that keeps its events: it sends changes of θ that it found on them, at most one for each published θ.

    θ is published → pay → commit → local steps, in a thread → the change → commit, with predictions and offsets

What is private is paid for before it is made: the budget of each partition stands in NAME-state, and what a transaction
has that fails, or a crash leaves undone, is paid for and never sent. It is read back with the partition's tasks.
"""

from collections.abc import Callable, Collection, Generator, Iterator

import structlog

from streammeta.engine import Engine
from streammeta.engine.episodes import UPDATE
from streammeta.engine.federation import Work
from streammeta.engine.update import Update, encode_update
from streammeta.engine.weights import Weights
from streammeta.errors import SnapshotError
from streammeta.meta.federated import LocalUpdate
from streammeta.meta.privacy import Budget, Spent
from streammeta.service.background import Worker
from streammeta.service.metrics import Metrics
from streammeta.service.restoration import OWN
from streammeta.service.result import EPISODES, STATE
from streammeta.transport.base import Message

__all__ = ["BUDGET", "MemberUpdates"]

BUDGET = OWN + b"budget"
_log = structlog.get_logger(__name__)
_AGAIN_SECONDS = 1.0  # until it is tried again where no task had enough events
_DRAW_SECONDS = 0.02  # of drawing what local steps learn from, then a poll
_LAST_SECONDS = 5.0  # how long an end waits for the local steps under way


class MemberUpdates:
    """Finds changes of θ, pays for them, and gives them to who commits.

    Args:
        engine: has the tasks.
        metrics: counts changes.
        every_seconds: between two changes, at least.
        clock: monotonic seconds.
    """

    def __init__(self, engine: Engine, metrics: Metrics, *, every_seconds: float, clock: Callable[[], float]) -> None:
        self._engine, self._metrics, self._every_seconds, self._clock = engine, metrics, every_seconds, clock
        self._federation = engine.federation()
        self._worker: Worker[tuple[Update, LocalUpdate]] = Worker(clock, "update")
        self._at = clock()  # when the next may begin
        self._from: tuple[int, str] | None = None  # θ from which the last one began
        self._labelled = -1  # labels then
        self._update: Update | None = None  # found, and not committed
        self._budgets: dict[int, Budget] = {}  # of our partitions
        self._unsaved: set[int] = set()  # those whose budget is not committed
        self._paid: frozenset[int] = frozenset()  # those that have paid for the next local steps
        self._drawing: Generator[None, None, Work | None] | None = None  # what local steps learn from, for a while
        self._has_said = False  # that the budget is used up

    def own(self, partition: int, budget: bytes | None, at: str) -> None:
        """A partition is ours from now on, with the budget as it was kept last; raises SnapshotError: it is damaged."""
        privacy = self._engine.settings.meta.privacy
        spent = () if budget is None else Budget.decode(budget, at).spent
        self._budgets[partition] = Budget(privacy.epsilon, privacy.delta, spent)
        self._show_cost()

    def forget(self, partition: int) -> None:
        """The partition is another member's from now on."""
        self._budgets.pop(partition, None)
        self._unsaved.discard(partition)

    def go(self, theta: Weights | None, partitions: Collection[int]) -> bool:
        """Take in the change that was found, and begin the next one that is due. Called between two polls.

        Args:
            theta: as it was published; None: nobody trains now.
            partitions: ours, and in the engine.

        Returns:
            Whether there is something to commit.
        """
        self._collect()
        self._draw()
        if self._update is None and not self._unsaved and theta is not None and self._is_due(theta, partitions):
            cost = self._federation.cost(theta)
            if cost is None or self._paid >= set(partitions):
                self._begin(theta, partitions)
            else:
                self._pay(cost, partitions)
        return self._update is not None or bool(self._unsaved)

    def messages(self) -> Iterator[Message]:
        """What is to be in the next transaction."""
        for number in sorted(self._unsaved):
            yield Message(STATE, self._budgets[number].encode(), BUDGET, partition=number)
        if self._update is not None:
            yield Message(EPISODES, encode_update(self._update), UPDATE, partition=min(self._update.partitions))

    def committed(self) -> None:
        """That transaction came through."""
        if self._unsaved:
            self._paid, self._unsaved = frozenset(self._unsaved), set()
        if self._update is not None:
            self._update = None
            self._metrics.updates.labels("sent").inc()

    def close(self) -> None:
        """End the thread; may be called twice."""
        self._worker.close(_LAST_SECONDS)

    def _is_due(self, theta: Weights, partitions: Collection[int]) -> bool:
        if (
            self._worker.busy
            or self._drawing
            or not partitions
            or self._clock() < self._at
            or self._from == _name(theta)
        ):
            return False
        # whether events have come would say something of them
        return self._federation.is_private or self._engine.stats().labelled != self._labelled

    def _pay(self, cost: Spent, partitions: Collection[int]) -> None:
        after = {number: self._budgets[number].after(cost) for number in partitions}
        if None in after.values():
            self._at = self._clock() + max(self._every_seconds, _AGAIN_SECONDS)
            self._metrics.updates.labels("withheld").inc()
            if not self._has_said:
                self._has_said = True
                used_up = sorted(number for number, one in after.items() if one is None)
                _log.warning("the privacy budget is used up: nothing more is sent", partitions=used_up)
            return
        self._budgets |= {number: one for number, one in after.items() if one is not None}
        self._unsaved = set(after)
        self._show_cost()

    def _begin(self, theta: Weights, partitions: Collection[int]) -> None:
        self._paid, self._from = frozenset(), _name(theta)
        self._at, self._labelled = self._clock() + self._every_seconds, self._engine.stats().labelled
        self._drawing = self._federation.begin_in_parts(theta, sorted(partitions))
        self._draw()

    def _draw(self) -> None:
        """Go on with it for a moment, and begin local steps when all is there."""
        if self._drawing is None:
            return
        until = self._clock() + _DRAW_SECONDS
        try:
            while self._clock() < until:
                next(self._drawing)
        except StopIteration as end:
            work: Work | None = end.value
        except SnapshotError as err:  # it was refused when it came, and counted
            _log.error("no change was made of a theta that is not ours", reason=str(err))
            self._drawing = None
            return
        else:
            return
        self._drawing = None
        if work is None:
            self._from, self._at = None, self._clock() + _AGAIN_SECONDS
        else:
            self._worker.start(work.__call__)

    def _collect(self) -> None:
        done = self._worker.collect()
        if done is None:
            return
        if done.result is None:
            _log.error("no change of theta was found; serving goes on", exc_info=done.fault)
            return
        self._update, found = done.result
        self._federation.finish(found)

    def _show_cost(self) -> None:
        if self._federation.is_private and self._budgets:
            self._metrics.epsilon.set(max(one.cost for one in self._budgets.values()))


def _name(theta: Weights) -> tuple[int, str]:
    return theta.version, theta.about.by
