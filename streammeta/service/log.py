"""Structured logs on standard error: for people on a terminal, one JSON object a line elsewhere.

No log line carries a task tag, a key or a feature at level info or above: those belong to the topics and to `inspect`.
"""

import logging
import sys
from typing import Literal, TextIO, TypeAlias

import structlog

__all__ = ["LogFormat", "LogLevel", "configure", "fatal"]

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
LogFormat: TypeAlias = Literal["auto", "console", "json"]


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to whatever standard error is at that moment, as a test runner or a supervisor may replace it."""

    def __init__(self, *, is_json: bool) -> None:
        logging.Handler.__init__(self)
        self.is_json = is_json

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # the base class keeps it in an attribute
        return sys.stderr


def configure(level: LogLevel = "info", format: LogFormat = "auto", **always: str | None) -> None:
    """Send streammeta's logs, and those of the libraries it uses, to standard error.

    Args:
        level: the least severe level that is written.
        format: "console" for people, "json" for machines, "auto" chooses by whether standard error is a terminal.
        **always: fields of every JSON line, whichever thread or library writes it; None: left out.
    """
    terminal = sys.stderr.isatty()
    readable = format == "console" or (format == "auto" and terminal)
    fields = {} if readable else {name: value for name, value in always.items() if value is not None}
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        lambda _logger, _method, event: {**fields, **event},
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=not readable),
    ]
    last: list[structlog.types.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=terminal)]
        if readable
        else [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
    )
    handler = _StandardError(is_json=format == "json")
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    least = logging.NOTSET if level == "debug" else logging.WARNING  # kafka-python logs every heartbeat at info
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


def fatal(message: str, *, name: str) -> None:
    """Say why the process ends: a line of the log where JSON was asked for, else lines that begin with ``name``."""
    if _writes_json():
        structlog.get_logger(__name__).critical("ended by an error", reason=message)
        return
    for line in message.splitlines():
        sys.stderr.write(f"{name}: error: {line}\n")


def _writes_json() -> bool:
    """Whether `configure` was given JSON by name; with "auto" a person may read it, from a pipe or a file."""
    handlers = [one for one in logging.getLogger().handlers if isinstance(one, _StandardError)]
    return any(one.is_json for one in handlers)
