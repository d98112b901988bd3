"""Structured logs on standard error: for people on a terminal, one JSON object a line elsewhere.

No log line carries a task tag, a key or a feature at level info or above: those belong to the topics and to `inspect`.
"""

import logging
import sys
from typing import Literal, TextIO, TypeAlias

import structlog

__all__ = ["LogFormat", "LogLevel", "configure"]

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
LogFormat: TypeAlias = Literal["auto", "console", "json"]


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to whatever standard error is at that moment, as a test runner or a supervisor may replace it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # the base class keeps it in an attribute
        return sys.stderr


def configure(level: LogLevel = "info", format: LogFormat = "auto") -> None:
    """Send streammeta's logs, and those of the libraries it uses, to standard error.

    Args:
        level: the least severe level that is written.
        format: "console" for people, "json" for machines, "auto" chooses by whether standard error is a terminal.
    """
    terminal = sys.stderr.isatty()
    readable = format == "console" or (format == "auto" and terminal)
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=not readable),
    ]
    last: list[structlog.types.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=terminal)]
        if readable
        else [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
    )
    handler = _StandardError()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    least = logging.NOTSET if level == "debug" else logging.WARNING  # kafka-python tells every heartbeat at info
    logging.getLogger("kafka").setLevel(max(least, logging.getLevelNamesMapping()[level.upper()]))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
