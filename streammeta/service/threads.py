"""Threads beside the main one: none ends without a word, and the end of one that is needed is the service's end.

thread        who starts it                 when something unexpected ends it
main          `streammeta run`              the command ends with the reason
repartition   `app.serve`                   `Repartition.failure`, and the service stops
labels        `app.serve`                   the same
ids           `app.serve`                   the same
meta-update   `background.Worker`           nothing does: what a meta-update raises is handed to the loop, and counted
reload        `app.serve`                   `watched` stops the service
http          `http.HttpServer`             `watched` stops the service; a request's own thread only logs
kafka-io-*    kafka-python, one a client    `watched` stops the service; who waits for the client gets the reason
(unnamed)     `confluent.client.bounded`    nothing does: what its call raises is handed to the caller
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from streammeta.errors import ThreadError

__all__ = ["IDS", "LABELS", "MAIN", "REPARTITION", "watched"]

MAIN: Final = "main"  # the loop that predicts and learns
REPARTITION: Final = "repartition"  # the loop that sends records on by task
IDS: Final = "ids"  # the loop that finds the task of labels that name an event's id only
LABELS: Final = "labels"  # the loop that sends labels of a topic of their own after their events

_log = structlog.get_logger(__name__)


@contextmanager
def watched(stop: threading.Event) -> Iterator[None]:
    """Set ``stop`` when any thread of the process ends by an exception; the end of the context says which, and why.

    Raises:
        ThreadError: one did, and nothing else went wrong.
    """
    ended: list[tuple[str, BaseException]] = []
    before = threading.excepthook

    def note(args: threading.ExceptHookArgs) -> None:
        fault = args.exc_value or args.exc_type()
        name = "?" if args.thread is None else args.thread.name
        ended.append((name, fault))
        _log.error("a thread ended unexpectedly; stopping", thread=name, exc_info=fault)
        stop.set()

    threading.excepthook = note
    try:
        yield
    finally:
        threading.excepthook = before
    if ended:
        name, fault = ended[0]
        raise ThreadError(
            f"thread {name!r} ended unexpectedly: {fault!r}; the service ended with it, so that a restart can help"
        ) from fault
