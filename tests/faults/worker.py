"""A `streammeta run` that dies, by SIGKILL, when it passes a named point for the n-th time.

The point comes by the environment: CHAOS_POINT=before commit, CHAOS_PASSES=7. Without it the service just runs.
"""

import faulthandler
import os
import random
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from streammeta.app import serve
from streammeta.cli import main
from streammeta.event import Record
from streammeta.transport import choice
from streammeta.transport.base import Message, Positions, Row
from streammeta.transport.choice import Adapters
from streammeta.transport.kafka.settings import KafkaSettings
from streammeta.transport.kafka.transactional_sink import KafkaTransactionalSink

_log = structlog.get_logger(__name__)
_POINT = os.environ.get("CHAOS_POINT")
_PASSES = int(os.environ.get("CHAOS_PASSES", "1"))
_passed: Counter[str] = Counter()


def passing(point: str) -> None:
    _passed[point] += 1
    if point == _POINT and _passed[point] >= _PASSES:
        os.kill(os.getpid(), signal.SIGKILL)


def watched(settings: KafkaSettings) -> Adapters:
    """The adapters of the chosen client, with the points in them."""
    made = choice.adapters(settings)
    return made._replace(
        source=source_of(made.source),
        ledger=(python_ledger if made.ledger is KafkaTransactionalSink else confluent_ledger)(ledger_of(made.ledger)),
        tables=tables_of(made.tables),
    )


def source_of(base: Any) -> Any:
    class Source(base):
        def poll(self, max_records: int, timeout_seconds: float) -> Sequence[Record]:
            following = dict(self.assigned())
            records = super().poll(max_records, timeout_seconds)
            for record in records:
                at = record.origin.topic, record.origin.partition
                wanted = following.get(at, record.origin.offset)
                if record.origin.offset != wanted:  # the topic has no gaps
                    _log.error("records left out", partition=at[1], wanted=wanted, came=record.origin.offset)
                following[at] = record.origin.offset + 1
            if records:
                passing("after poll")
            return records

    return Source


def ledger_of(base: Any) -> Any:
    class TransactionalSink(base):
        def send(self, messages: Sequence[Message]) -> None:
            if messages and messages[0].channel == "predictions":
                passing("before send")
            if messages and messages[0].channel == "state":
                passing("before state")
            super().send(messages)

        def commit(self, positions: Positions, member: object) -> None:
            passing("before commit")
            super().commit(positions, member)
            passing("after commit")

    return TransactionalSink


def python_ledger(base: Any) -> Any:
    class TransactionalSink(base):
        def _complete(self, what: str, request: Callable[[], Any]) -> None:
            if what != "commit":
                super()._complete(what, request)
                return

            def asked() -> Any:
                result = request()
                self._producer._sender.wakeup()
                result.wait(2)  # the end is asked for, and perhaps answered
                passing("during commit")
                return result

            super()._complete(what, asked)

    return TransactionalSink


def confluent_ledger(base: Any) -> Any:
    class TransactionalSink(base):
        def _complete(self, what: str, request: Callable[[], Any]) -> None:
            if what == "commit":  # dies while the client asks for the end, or waits for the answer
                threading.Timer(random.uniform(0.0, 0.02), passing, ["during commit"]).start()
            super()._complete(what, request)

    return TransactionalSink


def tables_of(base: Any) -> Any:
    class ChangelogReader(base):
        def poll(self, timeout_seconds: float) -> Sequence[Row]:
            rows = super().poll(timeout_seconds)
            if any(row.channel == "state" for row in rows):
                passing("during restore")
            return rows

    return ChangelogReader


if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR1)  # kill -USR1: where it stands, into its log
    serve.adapters = watched
    sys.argv = ["streammeta", "run"]
    sys.exit(main())
