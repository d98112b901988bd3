"""One member of a service, moved round by round: as Kafka Streams' TopologyTestDriver, for our loop."""

import json
import threading
from typing import Any

from prometheus_client import CollectorRegistry

from streammeta.decisions.factory import engine_class
from streammeta.engine import Engine, EngineSettings, MetaSettings
from streammeta.event import Decoder
from streammeta.service.exactly_once import ExactlyOnce
from streammeta.service.http import Health
from streammeta.service.loop import Options
from streammeta.service.metrics import Metrics
from streammeta.transport.memory_log import MemoryChangelogReader, MemoryLog, MemoryMember, MemoryTransactionalSink

__all__ = ["Driver"]


class _Clock:
    """Each look at it takes a millisecond, so that what is due by time comes due without waiting."""

    def __init__(self) -> None:
        self._now = 0.0

    def __call__(self) -> float:
        self._now += 0.001
        return self._now


class Driver:
    """A member of a group on a `MemoryLog`. Several on one log share its partitions.

    Args:
        log: what it reads, and where its results and states go.
        name: the member's.
        settings: of its engine; by default those of a classification without meta-updates.
        decoder: makes events of records; by default of JSON in the README's shape.
        app: the application's name, which its topics begin with.
        poll_records: records it takes in a round.
        commit_every_seconds: by its own clock, which goes a millisecond with each look at it.
    """

    def __init__(
        self,
        log: MemoryLog,
        name: str = "a",
        settings: EngineSettings | None = None,
        *,
        decoder: Decoder | None = None,
        app: str = "app",
        poll_records: int = 10,
        commit_every_seconds: float = 0.02,
    ) -> None:
        chosen = settings or EngineSettings(kind="classification", meta=MetaSettings(mode="off"))
        clock = _Clock()
        self.log = log
        self.metrics = Metrics(CollectorRegistry())
        self._service = ExactlyOnce(
            lambda: engine_class(chosen)(chosen),
            MemoryTransactionalSink(log, name),
            MemoryChangelogReader(log),
            decoder=decoder or Decoder(),
            options=Options(
                poll_records=poll_records, poll_seconds=0.0, save_every_seconds=commit_every_seconds, name=app
            ),
            metrics=self.metrics,
            health=Health(clock),
            clock=clock,
        )
        self._member = MemoryMember(
            log,
            name,
            on_revoked=self._service.revoked,
            on_assigned=self._service.assigned,
            on_lost=self._service.lost,
            on_coming=self._service.coming,
        )
        self._began = False

    @property
    def engine(self) -> Engine:
        """The engine that runs now; another one after a failed transaction."""
        return self._service.engine

    def rounds(self, count: int = 1) -> None:
        """Go round ``count`` times: poll, predict and learn, commit when it is due. What `Crashes` plans is raised."""
        if not self._began:
            self._service.begin(self._member)
            self._began = True
        for _ in range(count):
            self._service.turn(threading.Event())

    def finish(self, most_rounds: int = 10_000) -> None:
        """Read what is there to its end, commit, and leave the group, as SIGTERM does.

        Raises:
            AssertionError: there is no end after ``most_rounds``: a member that is never moved has partitions.
        """
        for _ in range(most_rounds):
            if self._member.exhausted:
                break
            self.rounds()
        else:
            raise AssertionError(
                f"the input was not read to its end in {most_rounds} rounds; does a member that is gone still have "
                "partitions? Say to the log that it is gone: log.leave(NAME)"
            )
        stop = threading.Event()
        stop.set()
        self._service.run(self._member, stop)
        self._member.close()

    def leave(self) -> None:
        """Leave the group without a last commit, as a process does that is killed."""
        self._member.close()

    def predictions(self) -> list[dict[str, Any]]:
        """What a reader of committed records sees, from all members of the log; one for each event."""
        return [json.loads(value) for value in self.log.values("predictions")]

    def signals(self) -> list[dict[str, Any]]:
        """Drifts and new tasks, likewise."""
        return [json.loads(value) for value in self.log.values("signals")]

    def dead_letters(self) -> list[bytes]:
        """Records that could not be used, likewise, as they came."""
        return self.log.values("dead-letters")
