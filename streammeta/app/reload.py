"""Settings read again while a service runs: what can change does, and all else is refused by name."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import structlog
from pydantic import SecretStr

from streammeta.config import Settings
from streammeta.errors import StreammetaError

__all__ = ["Reload", "changed_settings", "reloading", "sort_changes"]

_log = structlog.get_logger(__name__)
_LOOK_SECONDS: Final = 0.5
_LIVE: Final = frozenset({"log.level", "log.format", "state.every_seconds"})
_COMMIT: Final = "state.every_seconds"
_SLACK_SECONDS: Final = 10.0  # a transaction may take 30 s more than two intervals: see `serve`
_RESTART: Final = "takes effect at the next start"


class Reload(NamedTuple):
    """How a service gets its settings again."""

    asked: threading.Event  # set: somebody wants it to
    read: Callable[[], Settings]  # reads and checks them; raises ConfigError


def changed_settings(before: Settings, after: Settings) -> list[str]:
    """Names of the settings that differ, as "state.every_seconds"; never what they say, which may be secret."""
    one, other = (dict(_flat("", settings.model_dump())) for settings in (before, after))
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def sort_changes(before: Settings, after: Settings) -> tuple[list[str], dict[str, str]]:
    """Which changed settings hold at once, and which do not, each with the reason."""
    live: list[str] = []
    refused: dict[str, str] = {}
    for name in changed_settings(before, after):
        if name not in _LIVE:
            refused[name] = _RESTART
        elif name == _COMMIT and before.input.repartition:
            refused[name] = f"with [input] repartition it {_RESTART}"
        elif name == _COMMIT and after.state.every_seconds > before.state.every_seconds + _SLACK_SECONDS:
            refused[name] = (
                f"was {before.state.every_seconds:g} at the start, which the broker was given how long a transaction "
                f"may take; up to {before.state.every_seconds + _SLACK_SECONDS:g} holds at once, more {_RESTART}"
            )
        else:
            live.append(name)
    return live, refused


@contextmanager
def reloading(started: Settings, how: Reload | None, apply: Callable[[Settings], None]) -> Iterator[None]:
    """Read settings again whenever it is asked for, in a thread, until the end of the context.

    Args:
        started: the settings that the service began with; what needs a restart is judged by these.
        how: None: never.
        apply: makes those of another settings that can change hold; only they may be looked at.
    """
    if how is None:
        yield
        return
    ended = threading.Event()

    def watch() -> None:
        in_force = started
        while not ended.is_set():
            if how.asked.wait(_LOOK_SECONDS):
                how.asked.clear()
                in_force = _reload(started, in_force, how.read, apply)

    thread = threading.Thread(target=watch, name="reload", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(2 * _LOOK_SECONDS)


def _reload(
    started: Settings, in_force: Settings, read: Callable[[], Settings], apply: Callable[[Settings], None]
) -> Settings:
    """Read and apply; what is in force then."""
    try:
        settings = read()
    except StreammetaError as err:
        _log.error("the settings cannot be used; going on with those before", reason=str(err))
        return in_force
    live, refused = sort_changes(started, settings)
    for name, reason in refused.items():
        _log.error("a changed setting does not hold yet", setting=name, reason=reason)
    state = started.state.model_copy(update={"every_seconds": settings.state.every_seconds} if _COMMIT in live else {})
    now = started.model_copy(update={"log": settings.log, "state": state})
    apply(now)
    _log.warning("settings read again", hold=changed_settings(in_force, now), wait=sorted(refused))
    return now


def _flat(place: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, Mapping):
        found: Mapping[Any, object] = value
        for name, one in found.items():
            yield from _flat(f"{place}.{name}" if place else str(name), one)
    else:
        yield place, value.get_secret_value() if isinstance(value, SecretStr) else value
