"""One turn of the loop, whatever the transport: records in, predictions, signals and dead letters out."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import structlog

from streammeta.engine import Engine, Outcome
from streammeta.engine.outcome import Correction
from streammeta.errors import EventError
from streammeta.event import Decoder, Event, Label, Record, task_to_forget
from streammeta.formats.refusal import Refusals
from streammeta.service.background import MetaUpdates
from streammeta.service.contributions import contributions
from streammeta.service.metrics import Metrics
from streammeta.service.result import dead_letter, messages
from streammeta.transport.base import Message

__all__ = ["Observe", "Turn"]

_log = structlog.get_logger(__name__)
_BATCHES_WITH_BACKLOG = 16  # taken as one by a loop with a backlog


class Observe(Protocol):
    """An observer of a run."""

    def __call__(self, outcomes: Sequence[Outcome], rejected: int) -> None:
        """Look at one step's accepted outcomes, and at how many records were set aside; must be quick."""


class Turn:
    """Takes records through an engine, and counts what became of them.

    Args:
        engine: predicts and learns; nobody else may use it meanwhile.
        decoder: reads records.
        metrics: counts what happens.
        batch_events: the engine gets a poll's events in batches of this size; None: all at once.
        meta: meta-updates beside the loop; None: the engine makes them in its own step.
        observers: are shown every step's outcomes.
        clock: monotonic seconds.
        full: records in a turn from half of which on the loop has a backlog; None: it never has.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        decoder: Decoder,
        metrics: Metrics,
        batch_events: int | None,
        meta: MetaUpdates | None,
        observers: Sequence[Observe],
        clock: Callable[[], float],
        full: int | None = None,
    ) -> None:
        self._full = full
        self.engine, self.meta = engine, meta
        self._decoder, self._metrics, self._batch, self._clock = decoder, metrics, batch_events, clock
        self._observers = observers
        self.theta_changed = False  # θ changed since somebody last set this to False
        self.explain_orders = 0  # by which each prediction says what its features contributed; 0: none does
        self.records = self.rejected = 0
        self.refusals = Refusals()
        self._is_explaining = False
        self._explained: list[dict[str, object]] = []  # of the last turn's events and labels, where that is wanted

    def take(self, records: Sequence[Record], *, answer: bool = True) -> list[Message]:
        """Predict and learn; returns what is to be published, nothing if no ``answer`` is wanted."""
        self._metrics.poll_records.observe(len(records))
        read, dead, forget = self._decode(records)
        self._is_explaining = answer and self.explain_orders > 0
        outcomes = self._in_order([event for _, event in read], forget)
        accepted = [outcome for outcome in outcomes if outcome.rejected is None]
        for outcome in outcomes:
            if outcome.rejected is not None:
                self.refusals.add(outcome.rejected)
        refused = len(dead) + len(outcomes) - len(accepted)
        self._metrics.events.labels("tombstone").inc(len(records) - len(accepted) - refused - len(forget))
        self.rejected += refused
        self._metrics.step(accepted, refused)
        scored = [one for one in accepted if not isinstance(one, Correction)]  # its event was scored by the first
        for observe in self._observers:
            observe(scored, refused)
        if not answer:
            return []
        out = dead
        explained = self._explained or [{}] * len(outcomes)
        for (record, _), outcome, why in zip(read, outcomes, explained, strict=True):
            out += messages(outcome, why) if outcome.rejected is None else [dead_letter(record, outcome.rejected)]
        return out

    def _in_order(self, events: Sequence[Event | Label], forget: Sequence["_Forget"]) -> list[Outcome]:
        """The outcomes of events between which tasks are to be forgotten."""
        outcomes: list[Outcome] = []
        self._explained = []
        for one in forget:
            outcomes += self._step(events[len(outcomes) : one.after])
            known = self.engine.forget(one.partition, one.task)
            _log.info("asked to forget a task", at=one.where, known=known)
        if len(outcomes) < len(events) or not events:
            outcomes += self._step(events[len(outcomes) :])
        return outcomes

    def _step(self, events: Sequence[Event | Label]) -> list[Outcome]:
        """The engine's outcomes, batch by batch; a meta-update made beside the loop comes in between two of them."""
        outcomes: list[Outcome] = []
        has_backlog = self._full is not None and 2 * len(events) > self._full
        size = (self._batch or len(events)) * (_BATCHES_WITH_BACKLOG if has_backlog else 1)
        while len(outcomes) < len(events):
            begun = self._clock()
            batch = events[len(outcomes) : len(outcomes) + size]
            outcomes += self._explain(batch) if self._is_explaining else self.engine.step(batch)
            seconds = self._clock() - begun
            self._metrics.step_seconds.observe(seconds)
            if self.meta is not None:
                more = len(outcomes) < len(events)
                self.theta_changed |= self.meta.between(worked_seconds=seconds, more=more, has_backlog=has_backlog)
        if not events and self.meta is not None:
            self.theta_changed |= self.meta.between()
        return outcomes

    def _explain(self, events: Sequence[Event | Label]) -> list[Outcome]:
        """The engine's outcomes, event by event: each is explained by what was known just before it."""
        outcomes: list[Outcome] = []
        for event in events:
            found = contributions(self.engine, event, orders=self.explain_orders) if isinstance(event, Event) else None
            self._explained.append({"explanation": None if found is None else found.figures()})
            outcomes += self.engine.step([event])
        return outcomes

    def _decode(
        self, records: Sequence[Record]
    ) -> tuple[list[tuple[Record, Event | Label]], list[Message], list["_Forget"]]:
        """The events and labels, each with its record; dead letters for what cannot be read; and whom to forget."""
        read: list[tuple[Record, Event | Label]] = []
        dead: list[Message] = []
        forget: list[_Forget] = []
        for record in records:
            try:
                task = task_to_forget(record) if record.headers else None
                if task is not None:
                    forget.append(_Forget(len(read), record.origin.partition, task, str(record.origin)))
                    continue
                if record.value is None and self._decoder.skips_tombstones:
                    continue
                read.append((record, self._decoder.decode(record)))
            except EventError as err:
                self.refusals.add(str(err))
                dead.append(dead_letter(record, str(err)))
        self.records += len(records)
        return read, dead, forget


class _Forget(NamedTuple):
    """A record that asks to forget a task."""

    after: int  # events and labels of the same poll that come before it
    partition: int
    task: str
    where: str
